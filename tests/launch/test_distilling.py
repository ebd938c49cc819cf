"""DISTILL_FROM= and REWARD= become the flags of a teacher: a model, an adapter on its base, an address, or the student itself."""

import json
from pathlib import Path

import pytest
from overtake.launch import distilling
from overtake.launch.command import Refused
from overtake.launch.run import Run

RECIPE = ["--reward_funcs", "a", "b", "--reward_weights", "1", "0.2", "--num_generations", "8", "--temperature", "0.7", "--beta", "0.04"]


def told(kind: str = "grpo", student: str = "Qwen/Qwen3-0.6B", **settings: str) -> Run:
    run = Run({}, {"DRY_RUN": "1", **settings})
    run.put("--rlhf_type", kind, "--model", student, *RECIPE)
    distilling.put_teacher(run, kind)
    return run


def model(folder: Path, template: str = "<|im_start|>enable_thinking") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    return folder


def test_without_a_teacher_a_recipe_stays_as_it_is() -> None:
    plain = Run({}, {})
    plain.put("--rlhf_type", "grpo", "--model", "Qwen/Qwen3-0.6B", *RECIPE)
    assert told().flags == plain.flags


def test_a_teacher_joins_the_reward_in_the_references_place() -> None:
    run = told(DISTILL_FROM="Qwen/Qwen3-8B")
    assert run.flags["--teacher_model"] == ["Qwen/Qwen3-8B"] and run.flags["--reward_funcs"] == ["a", "b"]
    assert (run.value("--num_generations"), run.value("--beta"), run.value("--log_entropy")) == ("8", "0", "true")
    assert "--metric_for_best_model" not in run.flags, "the held-out reward stays what is best"
    assert "OVERTAKE_SELF_TEACHER=1" not in run.assigned


def test_without_a_reward_one_completion_is_drawn_and_the_nearest_checkpoint_is_the_best() -> None:
    run = told(DISTILL_FROM="Qwen/Qwen3-8B", REWARD="none")
    assert not {"--reward_funcs", "--reward_weights"} & run.flags.keys()
    assert (run.value("--num_generations"), run.value("--scale_rewards")) == ("1", "none")
    assert (run.value("--metric_for_best_model"), run.value("--greater_is_better")) == ("teacher_kl", "false")


def test_an_address_is_sampled_for_at_the_temperature_of_its_log_probabilities() -> None:
    run = told(DISTILL_FROM="http://10.0.0.5:8000/v1")
    assert run.value("--teacher_model_server") == "http://10.0.0.5:8000/v1" and "--teacher_model" not in run.flags
    assert (run.value("--temperature"), run.value("--top_p")) == ("1.0", "1.0")


def test_the_student_as_its_own_teacher_is_told_by_a_setting() -> None:
    run = told(DISTILL_FROM="self")
    assert run.assigned == ["OVERTAKE_SELF_TEACHER=1"] and not [name for name in run.flags if "teacher" in name]


def test_a_teachers_folder_is_named_with_its_family(tmp_path: Path) -> None:
    teacher = model(tmp_path / "老师 v1")
    run = told(DISTILL_FROM=str(teacher))
    assert (run.value("--teacher_model"), run.value("--teacher_model_type")) == (str(teacher), "qwen3")


def test_a_teacher_without_a_chat_template_is_of_the_students_family_or_refused(tmp_path: Path) -> None:
    bare, student = model(tmp_path / "bare", ""), model(tmp_path / "student")
    assert told(student=str(student), DISTILL_FROM=str(bare)).value("--teacher_model_type") == "qwen3"
    with pytest.raises(Refused, match=r"DISTILL_FROM: .* has no chat template"):
        told(DISTILL_FROM=str(bare))


def test_an_adapter_teaches_on_its_base(tmp_path: Path) -> None:
    base, adapter = model(tmp_path / "base"), tmp_path / "grpo/checkpoint-50"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    (adapter / "args.json").write_text(json.dumps({"model": str(base), "model_type": "qwen3"}), encoding="utf-8")
    run = told(DISTILL_FROM=str(adapter))
    assert run.flags["--teacher_model"] == [str(base)] and run.flags["--teacher_adapters"] == [str(adapter)]
    assert run.value("--teacher_model_type") == "qwen3"


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("grpo", {"REWARD": "none"}, "REWARD=none leaves nothing to learn from"),
        ("grpo", {"REWARD": "0", "DISTILL_FROM": "self"}, "REWARD=0: none"),
        ("ppo", {"DISTILL_FROM": "self"}, "DISTILL_FROM=self: .* grpo_"),
        ("sft", {"REWARD": "none"}, "REWARD=none: .* grpo_"),
        ("grpo", {"DISTILL_FROM": "{empty}"}, "is no model"),
        ("grpo", {"DISTILL_FROM": "/nowhere/teacher", "DRY_RUN": "0"}, "there is no such folder"),
    ],
)
def test_what_is_no_teacher_is_refused(kind: str, settings: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=words):
        told(kind, **{name: value.format(empty=tmp_path) for name, value in settings.items()})


def test_gkd_takes_the_flags_that_it_knows_and_a_loaded_teacher() -> None:
    run = told(DISTILL_FROM="Qwen/Qwen3-8B", REWARD="none")
    run.put("--rlhf_type", "gkd", "--lmbda", "1")
    distilling.fit_gkd(run)
    assert not {"--num_generations", "--scale_rewards", "--metric_for_best_model", "--log_entropy"} & run.flags.keys()
    assert run.value("--teacher_model") == "Qwen/Qwen3-8B"
    served = told(DISTILL_FROM="http://10.0.0.5:8000")
    served.put("--rlhf_type", "gkd")
    with pytest.raises(Refused, match="--rlhf_type gkd needs the whole distribution"):
        distilling.fit_gkd(served)
