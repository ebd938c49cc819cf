"""The doctor's plan: steps, calls, price and time by hand, its memory held against DeepSpeed's own estimate, and bad input in one line."""

import json
import re
from pathlib import Path

import pytest
from overtake import tasks
from overtake.data.tables import BadInput
from overtake.doctor import forecast, memory, plan
from overtake.doctor.command import parse

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 100}
SPEEDS = {"profile": "1x80g", "parts": [{"part": "sft", "tokens_per_second": 5000.0}, {"part": "grpo", "tokens_per_second": 400.0}]}


@pytest.mark.parametrize("processes", [1, 4, 8])
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_states_of_all_weights_are_deepspeeds_but_for_a_float32_copy_of_the_gradients(stage, processes, capsys):
    from deepspeed.runtime.zero import stage3, stage_1_and_2

    policy = memory.SHAPES["Qwen/Qwen2.5-7B-Instruct"]
    command = parse(f"NPROC_PER_NODE={processes} swift sft --model x --tuner_type full --deepspeed {stage}")
    ours = memory.need(command, policy, None, 85.0).training["weights"]
    # Of its table the row that sets nothing aside, in GB of 2^30.
    if stage == "zero3":
        stage3.estimate_zero3_model_states_mem_needs_all_cold(policy.weights, layer := policy.vocab * policy.hidden, processes)
        row, copied = r"\| +([\d.]+)GB \| offload_param=none, offload_optimizer=none, zero_init=1", 2
    else:
        stage_1_and_2.estimate_zero2_model_states_mem_needs_all_cold(policy.weights, processes)
        layer, row, copied = 0, r"\| +([\d.]+)GB \| offload_optimizer=none", 4
    theirs = float(re.search(row, capsys.readouterr().out)[1]) * 2**30 / 1e9
    # It counts 18 bytes a weight: 2 and 2 in bf16, 4 and 8 of Adam, and 4 for gradients in float32, of which ZeRO-3 makes those of one
    # part of the weights at a time (and has the 2 in bf16 among the 18); and the largest layer whole, which here is "gathered layers".
    assert ours + (policy.weights * copied / processes + 4 * layer) / 1e9 == pytest.approx(theirs, abs=0.02)


def test_lora_is_what_deepspeed_counts_for_so_many_weights(capsys):
    from deepspeed.runtime.zero import stage3

    policy = memory.SHAPES["Qwen/Qwen2.5-32B-Instruct"]
    command = parse("NPROC_PER_NODE=4 swift sft --model x --tuner_type lora --lora_rank 16 --deepspeed zero3")
    stage3.estimate_zero3_model_states_mem_needs_all_cold(policy.lora(16), 0, 4)
    theirs = float(re.search(r"\| +([\d.]+)GB \| offload_param=none, offload_optimizer=none, zero_init=1", capsys.readouterr().out)[1])
    assert memory.need(command, policy, None, 85.0).training["LoRA"] == pytest.approx(theirs * 2**30 / 1e9 * 16 / 18, abs=0.01)


def test_steps_are_counted_as_each_trainer_does():
    sft = parse("NPROC_PER_NODE=4 swift sft --num_train_epochs 3 --per_device_train_batch_size 2 --gradient_accumulation_steps 8")
    assert forecast.updates(sft, 1000, 0)[0] == 3 * 16  # 64 rows a step, the last of a pass with fewer
    rl = "NPROC_PER_NODE=4 swift rlhf --rlhf_type {} --num_generations {} --num_train_epochs 10 --per_device_train_batch_size 4 "
    rl += "--gradient_accumulation_steps 4 --num_mini_batches 4 --num_ppo_epochs 4"
    assert forecast.updates(parse(rl.format("grpo", 8)), 1000, 80_000)[0] == 1250
    steps, words = forecast.updates(parse(rl.format("ppo", 1)), 1000, 10_000)
    assert steps == 40 * 16 and "40 rounds of 256, gone through 4 times" in words


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Stages of one task on 4 x 80 GB of a bare config.json, a measured speed and a price beside."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    (folder / "gpu_check.json").write_text(json.dumps(SPEEDS))
    return folder


def test_a_plan_counts_every_recipe_of_a_task_beside_what_was_expected(run, fresh, written, monkeypatch):
    monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "gpt-5-mini")
    monkeypatch.setenv("OVERTAKE_GPU_HOUR_USD", "2")
    words = ["--plan", written / "sizes.json", "--gpus", "5x80", "--rows", "1000", "--task", "query_rewrite"]
    told = run("doctor", *words, "--measured", written / "gpu_check.json", "--json")
    assert told.code == 0, told.err
    whole = json.loads(told.out)
    sft, grpo, ppo = whole["stages"]
    assert (whole["profile"], [stage["recipe"] for stage in whole["stages"]]) == ("4x80g", ["sft_qwen32b", "grpo_rag", "ppo_rag"])
    assert [stage["steps"] for stage in whole["stages"]] == [48, 1250, 640]
    assert (sft["teacher_calls"], grpo["completions"], grpo["retrievals"], grpo["verdicts"]) == (1000, 80_000, 80_000, 24_000)
    assert ppo["completions"] == 10_000 and all(stage["fits"] for stage in whole["stages"])
    # 400 tokens/s of 7.6B on one card; of so small a model on four as many times more.
    small = plan.memory.Shape(64, 2, 128, 2, 2, 32, 100, False)
    rate = 400 * memory.SHAPES["Qwen/Qwen2.5-7B-Instruct"].weights / small.weights * 4
    assert grpo["hours"] == pytest.approx(80_000 * 150 / rate / 3600)
    assert grpo["usd"] == pytest.approx(24_000 * (400 * 0.25 + 100 * 2.0) / 1e6 + 4 * 2 * grpo["hours"]) and sft["usd"] is None
    assert ppo["hours"] is None and "holds no tokens/s of ppo" in ppo["time"]
    assert sft["gb"]["weights"] == pytest.approx(small.weights * 2 / 4 / 1e9)
    assert "2 to 4 days" in sft["expected"] and "3 to 5 days" in grpo["expected"] and "30 USD" in ppo["expected"]


def test_what_does_not_fit_names_the_profile_in_which_it_would(run, fresh):
    told = run("doctor", "--plan", "qwen2.5-7b-instruct", "--gpus", "2x24gb", "--rows", "300", "--task", "finance")
    assert told.code == 0, told.err
    assert "PROFILE=1x24g;" in told.out and "1 of the 2 cards are used" in told.out
    assert "DOES NOT FIT; PROFILE=1x24g-4bit would" in told.out
    assert told.out.count("time      not known: no tokens/s of these cards has been measured") == 2
    assert "expected  16 to 24 GB" in told.out


def test_every_task_has_its_sft_and_its_rl(fresh):
    """Without the recipes' own dry runs, which the tests above make."""
    runs = [plan._RUNS.search(file.read_text(encoding="utf-8")) for file in (ROOT / "recipes").glob("*_*.sh")]
    trained = {(run[2], run[1]) for run in runs if run}
    assert {name for name, _ in trained} == set(tasks.shipped())
    assert all({"sft", "grpo"} <= {kind for of, kind in trained if of == name} for name in tasks.shipped())
    for name in memory.SHAPES:
        with plan.located(name.rpartition("/")[2].upper()) as known:
            assert known == name


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--gpus", "4x", "--rows", "9"], "--gpus 4x: give COUNTxGB, e.g. 4x80"),
        (["--gpus", "0x80", "--rows", "9"], "--gpus 0x80: give COUNTxGB"),
        (["--gpus", "4x80", "--rows", "0"], "--rows 0: give the number of rows"),
        (["--gpus", "4x80", "--rows", "1.5"], "--rows 1.5: give the number of rows"),
        (["--gpus", "4x80"], "--rows is missing: give the number of rows"),
        (["--rows", "9"], "--plan wants --gpus"),
        (["--gpus", "1x8", "--rows", "9"], "no profile is for cards of 8 GB, only of 16, 24, 80 and more"),
        (["--gpus", "4x80", "--rows", "9", "--measured", "nowhere.json"], "--measured nowhere.json: not what"),
    ],
)
def test_bad_input_is_one_line(run, fresh, words, remedy):
    told = run("doctor", "--plan", "Qwen/Qwen3-8B", *words)
    assert told.code == 2 and remedy in told.err and len(told.err.splitlines()) == 1, told.err


def test_an_unknown_model_or_a_config_without_sizes_is_one_line(tmp_path, run, fresh):
    told = run("doctor", "--plan", "somebody/else", "--gpus", "4x80", "--rows", "9")
    assert told.code == 2 and "somebody/else" in told.err and "Qwen/Qwen3-8B" in told.err and len(told.err.splitlines()) == 1
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BadInput, match="gives no decoder's sizes"), plan.located(str(tmp_path)):
        pass
