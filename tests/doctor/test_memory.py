"""The doctor counts a run's memory as the profiles' own comments do."""

import re
from pathlib import Path

import pytest
from overtake.doctor import memory
from overtake.doctor.command import of_recipe

ROOT = Path(__file__).resolve().parents[2]


def counted(recipe, profile, card, **settings):
    command = of_recipe(ROOT / f"recipes/{recipe}.sh", (), {"PROFILE": profile, **settings})
    policy = memory.shape(command.get("model"))
    critic = memory.shape(command.environment["OVERTAKE_CRITIC"]) if "OVERTAKE_CRITIC" in command.environment else policy
    return memory.need(command, policy, critic, card)


@pytest.mark.parametrize("profile", ["1x16g", "1x24g", "1x80g", "4x80g"])
def test_totals_are_the_profiles_own(profile):
    said = (ROOT / f"recipes/profiles/{profile}.sh").read_text(encoding="utf-8")
    training, card = map(float, re.search(r"^#   training: ([\d.]+) of ([\d.]+)", said, re.MULTILINE).groups())
    [with_critic] = re.search(r"^#   training with the critic: ([\d.]+)", said, re.MULTILINE).groups()
    sampling = re.search(r"^#   sampling: .* ([\d.]+) of", said, re.MULTILINE)[1]
    grpo, ppo = counted("grpo_rag", profile, card), counted("ppo_rag", profile, card)
    assert sum(grpo.training.values()) == pytest.approx(training, abs=0.15)
    assert sum(ppo.training.values()) == pytest.approx(float(with_critic), abs=0.15)
    assert grpo.sampling == pytest.approx(float(sampling), abs=0.15)
    assert max(grpo.card, ppo.card) < memory.SHARE * card


def test_a_base_in_4_bits_and_rollouts_by_transformers_are_counted_as_their_profile_does():
    found = counted("grpo_finance", "1x24g-4bit", 24.1, MODEL="Qwen/Qwen2.5-7B-Instruct")
    assert found.training["weights"] == pytest.approx(3.4 + 2.2, abs=0.1)
    assert found.training["cache of rollouts"] == pytest.approx(1.9, abs=0.05)
    assert sum(found.training.values()) == pytest.approx(14.2, abs=0.2)


def test_host_memory_is_counted_where_models_are_set_aside_in_it():
    assert counted("grpo_rag", "4x80g", 85).host == pytest.approx(151, abs=0.5)
    assert counted("ppo_rag", "4x80g", 85).host == pytest.approx(165, abs=0.5)
    assert counted("grpo_rag", "1x24g", 24.1).host == 0


def test_all_weights_take_sixteen_bytes_each():
    lora = counted("sft_qwen32b", "1x24g", 24.1)
    full = counted("sft_qwen32b", "1x24g", 24.1, TUNER="full")
    assert full.training["weights"] == pytest.approx(8 * lora.training["weights"])
    assert full.card > 24.1 > lora.card


def test_a_folders_sizes_are_read_and_an_unknown_model_has_none(tmp_path):
    config = '{"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 100}'
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    shape = memory.shape(str(tmp_path))
    assert shape == memory.Shape(64, 2, 128, 2, 2, 32, 100, False)
    assert shape.weights == 2 * 100 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert memory.shape("somebody/else") is None
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert memory.shape(str(tmp_path)) is None
