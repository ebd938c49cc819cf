"""What would stop or spoil a run is found before it starts, each with a remedy; a run in order has no error."""

import json
import socket

import pytest
from overtake import settings, tasks
from overtake.doctor import live, preflight
from overtake.doctor.command import Command, parse
from overtake.doctor.findings import exit_code

TASKS = list(tasks.shipped().values())
TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "皮肤没弹性吃啥{}"}]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(**changes) -> findings of the fast part on a GRPO command that is in order but for the changes; a flag of None is left out."""
    monkeypatch.setattr(preflight.shutil, "which", lambda _: None)
    (tmp_path / "plugin").mkdir()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "plugin/register.py").write_text("import os\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    config = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 100}
    (tmp_path / "model/config.json").write_text(json.dumps(config), encoding="utf-8")
    write(tmp_path / "rl_train.jsonl", rows(64))
    write(tmp_path / "rl_val.jsonl", rows(8, start=1000))

    def run(environment=None, variables=None, kind="rlhf", **changes):
        settings.load.cache_clear()
        flags = {
            "rlhf_type": ["grpo"],
            "model": [str(tmp_path / "model")],
            "dataset": [str(tmp_path / "rl_train.jsonl")],
            "val_dataset": [str(tmp_path / "rl_val.jsonl")],
            "output_dir": [str(tmp_path / "out")],
            "external_plugins": [str(tmp_path / "plugin/register.py")],
            "reward_funcs": ["rewrite_rules"],
            "num_generations": ["8"],
            "per_device_train_batch_size": ["8"],
            "per_device_eval_batch_size": ["8"],
            "eval_strategy": ["steps"],
            "max_length": ["512"],
            "max_completion_length": ["64"],
        }
        flags |= {name: None if value is None else str(value).split() for name, value in changes.items()}
        command = Command({"CUDA_VISIBLE_DEVICES": "", **(environment or {})}, kind, {k: v for k, v in flags.items() if v is not None})
        found = preflight.fast(command, variables or {}, TASKS)
        settings.load.cache_clear()
        return found

    return run


def rows(count, start=0, **more):
    turns = [[{**turn, "content": turn["content"].format(at)} for turn in TURNS] for at in range(start, start + count)]
    return [{"messages": one, "rag_query": one[1]["content"], **more} for one in turns]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def only(found, what, level="error"):
    """The one finding of a kind; it must carry a remedy."""
    [one] = [one for one in found if (one.what, one.level) == (what, level)]
    assert one.remedy
    return one


def test_a_run_in_order_has_no_error_and_says_what_was_looked_at(run):
    found = run()
    assert exit_code(found) == 0
    assert {"settings", "keys", "plugin", "batch", "host memory", "disk", "columns", "lengths", "leak"} <= {one.what for one in found}


@pytest.mark.parametrize(
    ("changes", "what", "words"),
    [
        ({"num_generations": 6, "per_device_eval_batch_size": 6}, "batch", "8 completions are no whole groups of 6"),
        ({"per_device_eval_batch_size": 4}, "batch", "4 completions an evaluation"),
        ({"num_generations": 1}, "batch", "--num_generations 1"),
        ({"gradient_accumulation_steps": 128}, "batch", "64 rows x 8 completions do not fill one batch of 1024"),
        (
            {"rlhf_type": "ppo", "num_generations": 1, "gradient_accumulation_steps": 16},
            "batch",
            "64 rows fill no mini-batch of 128",
        ),
        ({"external_plugins": "/nowhere/register.py"}, "plugin", "/nowhere/register.py is no file"),
        ({"adapters": "/nowhere/checkpoint-9"}, "adapter", "/nowhere/checkpoint-9 holds no adapter_config.json"),
        ({"model": "/nowhere/model"}, "model", "holds no config.json"),
        ({"reward_funcs": "medical_rules"}, "columns", "medical_rules reads med_id"),
        ({"max_length": 512, "vllm_max_model_len": 16, "use_vllm": "true"}, "lengths", "vLLM's window of 16"),
    ],
)
def test_each_fault_is_named(run, changes, what, words):
    assert words in only(run(**changes), what).value


def test_a_missing_gpu_is_named_where_the_run_wants_one(run):
    assert only(run(environment={"CUDA_VISIBLE_DEVICES": "0"}), "GPU").value == "none is visible"


@pytest.mark.parametrize(("free", "level"), [(24000, "ok"), (9000, "error")])
def test_what_is_needed_of_a_card_is_held_against_what_is_free(run, free, level, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '24564, {free}'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(preflight.shutil, "which", lambda _: str(program))
    found = run(environment={"CUDA_VISIBLE_DEVICES": "0"}, model="Qwen/Qwen2.5-3B-Instruct", tuner_type="lora", lora_rank=16)
    [one] = [one for one in found if one.what == "GPU memory"]
    assert one.level == level
    assert "end what else uses the card" in one.remedy if level == "error" else not one.remedy


def test_a_service_that_the_rewards_ask_must_be_set(run):
    found = run(reward_funcs="rag_competition rewrite_rules")
    assert "rag_competition asks it" in only(found, "RAG service").value
    assert "OVERTAKE_JUDGE_SHARE=0" in only(found, "judge").remedy


def test_rows_that_the_teacher_has_no_verdict_on_are_not_judged_and_need_no_judge(run, tmp_path):
    asks = {"reward_funcs": "rag_competition teacher_judge", "dataset": str(tmp_path / "judged.jsonl")}
    for verdict, missed, verdicts in (("", 0, "0 verdicts"), ("4.5", 1, "77 verdicts"), (0, 1, "77 verdicts")):
        # 64 rows x 8, 0.3 of them; half of the rows have a verdict.
        write(tmp_path / "judged.jsonl", rows(32, rag_teacher_judge="") + rows(32, start=100, rag_teacher_judge=verdict))
        found = run(**asks, num_train_epochs=1)
        assert len([one for one in found if one.what == "judge"]) == missed
        assert f"512 retrievals, {verdicts}" in forecast(found).value


@pytest.mark.parametrize(
    ("reward", "setting"),
    [
        ("finance_accuracy", "FINANCE_JUDGE_SHARE"),
        ("medical_answer", "MEDICAL_JUDGE_SHARE"),
        ("medical_answer", "MEDICAL_WEIGHT_TEACHER"),
        ("rag_competition", "WEIGHT_JUDGE"),
    ],
)
def test_a_judge_is_missed_only_where_the_settings_let_the_reward_ask_it(run, monkeypatch, reward, setting):
    for value, missed in (("0", 0), ("0.5", 1)):
        monkeypatch.setenv(f"OVERTAKE_{setting}", value)
        found = [one for one in run(reward_funcs=reward) if one.what == "judge"]
        assert len(found) == missed
    own = {"finance_accuracy": "FINANCE_", "medical_answer": "MEDICAL_"}.get(reward, "")
    assert f"{reward} asks it" in found[0].value and f"OVERTAKE_{own}JUDGE_SHARE=0" in found[0].remedy


def test_rows_that_are_trained_on_and_tested_with_are_a_leak(run, tmp_path):
    write(tmp_path / "test.jsonl", rows(3, start=62))
    found = only(run(), "leak")
    assert found.value.startswith(f"2 of 3 questions of {tmp_path / 'test.jsonl'} are trained on")


def test_a_validation_question_that_is_trained_on_is_a_warning(run, tmp_path):
    write(tmp_path / "rl_val.jsonl", rows(4, start=62))
    assert "2 of 4" in only(run(), "leak", "warning").value


def test_rows_longer_than_the_window_are_counted(run, tmp_path):
    long = rows(1)
    long[0]["messages"][1]["content"] = "长" * 900
    write(tmp_path / "rl_train.jsonl", rows(63, start=1) + long)
    found = only(run(), "lengths", "warning")
    assert "1 rows are longer" in found.value and "raise --max_length to" in found.remedy


def test_sft_rows_must_end_in_an_answer_and_should_not_copy_the_question(run, tmp_path):
    assert "64 of 64 rows end in no answer" in only(run(kind="sft", reward_funcs=None), "columns").value
    learnt = rows(64)
    for at, row in enumerate(learnt):
        question = row["messages"][1]["content"]
        row["messages"].append({"role": "assistant", "content": question if at < 5 else "胶原蛋白肽"})
    write(tmp_path / "rl_train.jsonl", learnt)
    found = run(kind="sft", reward_funcs=None)
    assert exit_code(found) == 0
    assert only(found, "copies", "warning").value == "5 of 64 answers are the question again"


def test_a_file_that_is_no_jsonl_is_one_error(run, tmp_path):
    (tmp_path / "rl_train.jsonl").write_text("{not json\n", encoding="utf-8")
    [found] = run()
    assert (found.level, found.what) == ("error", "rows")


def test_a_setting_without_a_value_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text("rag_top_k:\nrag_rpm: 3\n", encoding="utf-8")
    found = only(run(variables={"OVERTAKE_CONFIG": str(tmp_path / "run.yaml")}), "settings")
    assert found.value.endswith("run.yaml: rag_top_k without a value")


def test_a_key_in_a_file_is_found_and_not_repeated(run, tmp_path):
    (tmp_path / "recipes/mine.sh").write_text("export OPENAI_API_KEY=sk-" + "a1B2" * 8 + "\n", encoding="utf-8")
    found = only(run(), "keys")
    assert str(tmp_path / "recipes/mine.sh") in found.value and "a1B2" not in str(found)


def test_a_busy_port_is_named_where_processes_meet(run):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = run(environment={"NPROC_PER_NODE": "2", "MASTER_PORT": str(port)})
        assert only(found, "port").value.startswith(f"{port} is busy")


def test_a_command_is_read_as_a_recipe_prints_it():
    command = parse("note\nNPROC_PER_NODE=4 NNODES=2 swift rlhf \\\n    --rlhf_type ppo \\\n    --dataset 'a b.jsonl' c.csv\n")
    assert (command.kind, command.rl, command.processes) == ("rlhf", "ppo", 8)
    assert command.flags["dataset"] == ["a b.jsonl", "c.csv"]


def test_processes_set_outside_of_the_command_are_inherited_by_it(monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert parse("swift rlhf --rlhf_type grpo").processes == 2
    assert parse("NPROC_PER_NODE=4 swift rlhf --rlhf_type grpo").processes == 4


# ---------------------------------------------------------------- live


@pytest.fixture
def services(serve, monkeypatch, tmp_path):
    """services(scores, status) -> addresses set: a retriever whose score of a document may depend on the rewrite, and a judge."""

    def services(score=lambda body: 0.5, status=200):
        def answer(body):
            if "rewritten_query" in body:
                return status, {"data": {"recall": [{"doc_id": "d", "reranker_score": score(body)}]}}
            verdict = json.dumps({"综合得分": 4, "评分理由": "好"}, ensure_ascii=False)
            return 200, {"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": verdict}}]}

        server = serve(answer)
        for name, value in {"RAG_URL": server.url, "TEACHER_BASE_URL": f"{server.url}/v1", "TEACHER_MODEL": "gpt-5-mini"}.items():
            monkeypatch.setenv(f"OVERTAKE_{name}", value)
        monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", "0")
        settings.load.cache_clear()
        return server

    from overtake.remote import gateway, process

    monkeypatch.setattr(gateway, "ATTEMPTS", 1)
    yield services
    process.forget()
    settings.load.cache_clear()


@pytest.fixture
def asking(tmp_path):
    """A command whose rewards ask both services."""
    write(tmp_path / "rl.jsonl", rows(2, rag_tenant="t", rag_kb="default", rag_teacher_rewrite="胶原蛋白肽", rag_gold=""))
    return Command({}, "rlhf", {"reward_funcs": ["rag_competition"], "dataset": [str(tmp_path / "rl.jsonl")]})


def test_both_services_are_really_called_with_the_models_own_parameters(services, asking):
    server = services()
    found = live.services(asking, TASKS)
    assert [(one.level, one.what) for one in found] == [("ok", "RAG service"), ("ok", "judge")]
    assert "gpt-5-mini answers with a verdict; asked with max_completion_tokens" in found[1].value
    before = len(server.requests)
    live.services(asking, TASKS)
    assert len(server.requests) > before, "an answer of the cache says nothing of the service"


def test_a_reranker_that_reads_the_rewrite_is_found(services, asking):
    services(lambda body: 0.9 if body["rewritten_query"] != body["query"] else 0.1)
    found = only(live.services(asking, TASKS, no_judge=True), "RAG service")
    assert "depends on the rewrite" in found.value


def test_a_service_that_is_down_is_found(services, asking):
    services(status=500)
    assert "500" in only(live.services(asking, TASKS, no_judge=True), "RAG service").value


def answers(*texts):
    return [{"messages": [*TURNS, {"role": "assistant", "content": text}]} for text in texts]


@pytest.mark.parametrize(
    ("told", "level", "words"),
    [
        ("false", "error", "2 of 3 rows teach a reasoning, which nothing will ask for: the task does not think (--enable_thinking false)"),
        ("true", "warning", "1 of 3 rows hold no reasoning, though the task thinks (--enable_thinking true)"),
    ],
)
def test_rows_that_think_otherwise_than_the_task_are_counted(run, tmp_path, told, level, words):
    write(tmp_path / "train.jsonl", answers("<think>\n想\n</think>\n\n答", "<think>\n\n</think>\n\n答", "<think>想</think>答"))
    sft = {"kind": "sft", "dataset": tmp_path / "train.jsonl", "reward_funcs": None, "enable_thinking": told}
    assert only(run(**sft), "thinking", level).value == words
    write(tmp_path / "train.jsonl", answers(*["<think>想</think>答" if told == "true" else "答"] * 3))
    assert not [one for one in run(**sft) if one.what == "thinking"]


def test_a_table_whose_cells_think_is_seen_too(run, tmp_path):
    write(tmp_path / "sft.jsonl", [{"question": "2+2?", "teacher_output": "<think>\n4\n</think>\n<answer>4</answer>"}])
    found = run(kind="sft", dataset=f"overtake/finance:{tmp_path / 'sft.jsonl'}", reward_funcs=None, enable_thinking="false")
    assert only(found, "thinking").value.startswith("1 of 1 rows teach a reasoning")


def test_rl_thinks_as_the_sft_before_it(run, tmp_path):
    adapter = tmp_path / "checkpoint-9"
    adapter.mkdir()
    (adapter / "args.json").write_text('{"enable_thinking": true}', encoding="utf-8")
    found = only(run(adapters=adapter, enable_thinking="false"), "thinking")
    assert found.value == f"{adapter} was trained with --enable_thinking true, this run says false"
    assert not [one for one in run(adapters=adapter, enable_thinking="true") if one.what == "thinking"]


@pytest.mark.parametrize(
    ("dataset", "changes", "level", "said"),
    [
        ("#40", {}, "error", "40 rows fill no mini-batch of 64"),
        ("#64", {}, "warning", "64 rows do not fill a round of 256: it will be 64"),
        ("", {}, "warning", "200 rows do not fill a round of 256: it will be 192"),
        ("", {"NPROC_PER_NODE": "8", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}, "warning", "it will be 192"),
        ("", {"split_dataset_ratio": 0.9, "val_dataset": None}, "error", "20 rows fill no mini-batch of 64"),
        ("#1000", {}, "ok", "64 samples an update, 1000 rows"),
    ],
)
def test_the_round_of_ppo_is_held_against_the_rows_that_are_asked_for(run, tmp_path, dataset, changes, level, said):
    write(tmp_path / "many.jsonl", rows(200))
    environment = {name: changes.pop(name) for name in ("NPROC_PER_NODE",) if name in changes}
    numbers = {"rlhf_type": "ppo", "num_generations": 1, "num_mini_batches": 4, "gradient_accumulation_steps": 8} | changes
    found = [one for one in run(environment=environment, dataset=f"{tmp_path / 'many.jsonl'}{dataset}", **numbers) if one.what == "batch"]
    assert [one.value for one in found if one.level == level and said in one.value], found
    assert all(one.level in (level, "ok") for one in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # 64 rows x 3 epochs / (2 x 8) = 12 updates; GRPO makes 8 completions of each: 96.
        ({"kind": "sft", "rlhf_type": None, "eval_steps": 100}, "every 100 updates, and the run has 12: only its end is kept"),
        ({"kind": "sft", "rlhf_type": None, "eval_steps": 100, "max_steps": 27}, "every 100 updates, and the run has 27"),
        ({"kind": "sft", "rlhf_type": None, "eval_steps": 12}, ""),
        ({"kind": "sft", "rlhf_type": None, "eval_steps": 0.1}, ""),
        ({"kind": "sft", "rlhf_type": None, "eval_steps": 100, "eval_strategy": "no"}, ""),
        ({"eval_steps": 100}, "and the run has 96"),
        ({"eval_steps": 50}, ""),
        ({"eval_steps": 100, "rlhf_type": "ppo"}, ""),
        ({"eval_steps": 100, "gradient_accumulation_steps": 0}, ""),
    ],
)
def test_a_run_too_short_for_its_evaluations_is_named(run, changes, said):
    found = run(**{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8} | changes)
    assert [said in one.value and "--eval_steps 0.1" in one.remedy for one in found if one.what == "evaluation"] == [True] * bool(said)


def forecast(found):
    [one] = [one for one in found if one.what == "forecast"]
    return one


def test_what_a_run_will_ask_and_cost_is_said_before_it_starts(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OVERTAKE_TEACHER_MODEL", "gpt-5-mini")
    asks = {"reward_funcs": "rag_competition", "num_train_epochs": 10}
    assert not [one for one in run() if one.what == "forecast"], "the rules ask nobody"
    # 64 rows x 10 epochs x 8; 0.3 of them judged; 400 tokens of 0.25 and 100 of 2 USD a million.
    said = (
        "5,120 completions, 5,120 retrievals, 1,536 verdicts = about 0.46 USD at 0.00030 USD (gpt-5-mini, 500 tokens each), less what the"
    )
    assert forecast(run(**asks)).value.startswith(said) and forecast(run(**asks)).level == "ok"
    assert forecast(run(**asks | {"max_steps": 2})).value.startswith("16 completions, 16 retrievals, 5 verdicts")
    assert forecast(run(**asks | {"rlhf_type": "ppo"})).value.startswith("640 completions")
    monkeypatch.setenv("OVERTAKE_JUDGE_GROUP", "1")
    # One call for each 8, with the teacher's: 400 + 8 x 50 tokens of 0.25 and 100 + 8 x 50 of 2 USD a million.
    grouped = forecast(run(**asks)).value
    assert "5,120 retrievals, 192 verdicts on a group each = about 0.23 USD at 0.00120 USD (gpt-5-mini, 1300 tokens each)" in grouped
    assert "640 retrievals, 192 verdicts =" in forecast(run(**asks | {"rlhf_type": "ppo"})).value, "PPO judges one by one"
    monkeypatch.delenv("OVERTAKE_JUDGE_GROUP")
    (tmp_path / "cache").mkdir()
    paid = {"service": "judge", "status": "ok", "model": "gpt-5", "seconds": 1.0, "usd": 0.01}
    rows = [paid, paid, paid, {"service": "judge", "status": "cached"}]
    (tmp_path / "cache/ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("OVERTAKE_BUDGET_HARD", "5")
    over = forecast(run(**asks))
    # 1,536 x 0.01 USD, of which the cache answers a quarter.
    assert "about 11.52 USD at 0.01000 USD (as the ones in the ledger) and a cache hit rate of 25%" in over.value
    assert over.level == "warning" and over.value.endswith("OVERTAKE_BUDGET_HARD is 5 USD") and "OVERTAKE_JUDGE_SHARE" in over.remedy
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "0")
    assert (
        forecast(run(**asks)).value
        == "5,120 completions, 5,120 retrievals, 0 verdicts, less what the cache holds; OVERTAKE_BUDGET_HARD is 5 USD"
    )
