"""The doctor counts a run's memory to the totals that were counted by hand, part by part, when the profiles were written."""

from pathlib import Path

import pytest
from overtake.data.tables import BadInput
from overtake.doctor import examination, memory
from overtake.doctor.command import of_recipe, parse

ROOT = Path(__file__).resolve().parents[2]
# GB of GRPO's and PPO's training, of their sampling, and rows in vLLM's cache.
BY_HAND = {
    "1x16g": ((7.6, 9.3), (11.3, 12.4), 28),
    "1x24g": ((11.3, 13.0), (19.0, 20.1), 38),
    "1x80g": ((26.4, 45.5), (52.6, 68.4), 49),
    "4x80g": ((34.8, 41.0), (39.7, 39.7), 140),
}


def counted(recipe, profile, card, **settings):
    command = of_recipe(ROOT / f"recipes/{recipe}.sh", (), {"PROFILE": profile, **settings})
    policy = memory.shape(command.get("model"))
    return memory.need(command, policy, memory.critic_of(command, policy), card), memory.cache(command, policy, card)


@pytest.mark.parametrize("profile", BY_HAND)
def test_totals_are_those_that_were_counted_by_hand(profile):
    card = memory.card_of(ROOT / f"recipes/profiles/{profile}.sh")
    training, sampling, rows = BY_HAND[profile]
    (grpo, cache), (ppo, _) = counted("grpo_rag", profile, card), counted("ppo_rag", profile, card)
    assert (sum(grpo.training.values()), sum(ppo.training.values())) == pytest.approx(training, abs=0.15)
    assert (grpo.sampling, ppo.sampling) == pytest.approx(sampling, abs=0.15)
    assert max(grpo.card, ppo.card) < memory.SHARE * card
    assert int(cache.rows) in (rows - 1, rows, rows + 1)
    if profile == "4x80g":
        assert (grpo.moving, ppo.moving) == pytest.approx((60.7, 64.4), abs=0.15)
        assert (grpo.host, ppo.host) == pytest.approx((151, 165), abs=0.5)
        assert cache.tokens == pytest.approx(310_000, rel=0.01)
    else:
        assert (grpo.moving, grpo.host) == (0, 0)


def test_what_is_printed_is_what_is_counted(capsys):
    command = parse(
        "swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-1.5B-Instruct --max_length 2048 --max_completion_length 150 "
        "--per_device_train_batch_size 2 --lora_rank 16 --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.4"
    )
    lines = memory.report(command, 16.1)
    assert lines[0] == "Qwen/Qwen2.5-1.5B-Instruct, 2 rows of 2048 + 150 tokens"
    assert [line.split()[-3:] for line in lines if line.startswith(("  training", "  sampling"))] == [
        ["7.6", "of", "16.1"],
        ["11.3", "of", "16.1"],
    ]
    assert "62" in lines[-1] and "tokens, 29 rows at once" in lines[-1]
    assert memory.report(command._replace(flags={"model": ["x/y"]}), 16.1)[0].startswith("the sizes of x/y are not known")
    with pytest.raises(BadInput, match="--memory 2x3g: there are 1x16g, "):
        examination.memory_of("2x3g", ROOT)


@pytest.mark.parametrize(("profile", "card"), [("1x24g-4bit", 24.1), ("multinode", 85.0), ("8x80g", 85.0), ("cpu-zero2", 0.0)])
def test_a_profiles_card_is_told_by_its_name_or_by_the_one_that_it_builds_on(profile, card):
    assert memory.card_of(ROOT / f"recipes/profiles/{profile}.sh") == card


def test_a_base_in_4_bits_and_rollouts_by_transformers_are_counted_as_their_profile_does():
    found, _ = counted("grpo_finance", "1x24g-4bit", 24.1, MODEL="Qwen/Qwen2.5-7B-Instruct")
    assert found.training["weights"] == pytest.approx(3.4 + 2.2, abs=0.1)
    assert found.training["cache of rollouts"] == pytest.approx(1.9, abs=0.05)
    assert sum(found.training.values()) == pytest.approx(14.2, abs=0.2)


def test_all_weights_take_sixteen_bytes_each():
    lora, _ = counted("sft_qwen32b", "1x24g", 24.1)
    full, _ = counted("sft_qwen32b", "1x24g", 24.1, TUNER="full")
    assert full.training["weights"] == pytest.approx(8 * lora.training["weights"])
    assert full.card > 24.1 > lora.card
    whole, _ = counted("sft_qwen32b", "8x80g", 85, TUNER="full")
    assert whole.training["weights"] == pytest.approx(65.5, abs=0.1)
    assert whole.card < 85


def test_a_folders_sizes_are_read_and_an_unknown_model_has_none(tmp_path):
    config = '{"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 100}'
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    shape = memory.shape(str(tmp_path))
    assert shape == memory.Shape(64, 2, 128, 2, 2, 32, 100, False)
    assert shape.weights == 2 * 100 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert memory.shape("somebody/else") is None
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert memory.shape(str(tmp_path)) is None


def test_on_a_cpu_a_groups_prompt_counts_once_and_vllm_holds_a_model_of_its_own(monkeypatch):
    """The run that this is a bound of held 10.9 GB at its peak: Qwen2.5-Coder-0.5B in bf16, prompts of some 120 tokens."""
    monkeypatch.delenv("OVERTAKE_PROMPT_ONCE", raising=False)
    run = (
        "CUDA_VISIBLE_DEVICES='' {} swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-0.5B-Instruct --torch_dtype {} --tuner_type lora "
        "--lora_rank 16 --gradient_checkpointing false --num_generations 8 --per_device_train_batch_size 32 --max_length 512 "
        "--max_completion_length 56 --use_vllm true --vllm_mode colocate"
    )

    def host(precision="bfloat16", settings="VLLM_CPU_KVCACHE_SPACE=1"):
        command = parse(run.format(settings, precision))
        return memory.need(command, memory.shape(command.get("model")), None, 0.0).host

    # Activations of 4 prompts and 32 completions 9.15, a layer's once more 0.4, logits 3.3, twice the weights 2.0,
    # vLLM's cache 1.1, LoRA 0.1, the process 1.
    assert host() == pytest.approx(17.0, abs=0.1)
    assert host("float32") == pytest.approx(2 * (9.15 + 0.4 + 3.3 + 2.0 + 0.1) + 1.1 + 1, abs=0.2)
    assert host(settings="VLLM_CPU_KVCACHE_SPACE=5") - host() == pytest.approx(4 * 1.074, abs=0.01)
    # 28 prompts of 512 more.
    assert host(settings="OVERTAKE_PROMPT_ONCE=0") - host() == pytest.approx(28 * 512 * 25 * (8 * 4864 + 12 * 896) * 2 / 1e9)
