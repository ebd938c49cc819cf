"""The promotion gate: what is shown worse by its own measure of better, and what a summary must say to be held against a checkpoint."""

import json

import pytest
from overtake import tasks
from overtake.evaluation import gate
from overtake.evaluation.summaries import better

TASKS = list(tasks.shipped().values())
ROSE, FELL = {"mean": 0.1, "low": 0.05, "high": 0.15}, {"mean": -0.1, "low": -0.15, "high": -0.05}


def worse(differences, metric="", **more):
    told = {"against": "GRPO", "differences": {"SFT": differences}, **more}
    return gate.worse(told, better(told, TASKS), "SFT", metric)


@pytest.mark.parametrize("name", ["refused", "unreadable", "x_talks_to_grader", "x_invented_dose"])
def test_more_of_what_should_be_little_is_worse_and_less_of_it_is_not(name):
    assert worse({"rules": ROSE, "safe": ROSE, name: ROSE}) == f"GRPO is worse than SFT: {name} +0.100 [+0.050,+0.150]"
    assert worse({"rules": ROSE, "safe": ROSE, name: FELL}) == ""


def test_a_judge_that_lets_more_wrong_answers_pass_is_worse():
    assert worse({"main": ROSE, "secondary": ROSE, "passed": ROSE}).endswith("SFT: passed +0.100 [+0.050,+0.150]")


@pytest.mark.parametrize("name", ["length", "copy", "characters"])
def test_longer_or_shorter_is_neither_better_nor_worse(name):
    task = next(one for one in TASKS if one.knows(name))
    told = {task.main: ROSE, task.metrics[1].name: ROSE}
    assert worse({**told, name: ROSE}) == worse({**told, name: FELL}) == ""


def test_the_summary_itself_says_which_way_its_metrics_are_better():
    told = {"mine": {"en": "mine", "zh": "mine", "better": "down"}}
    assert worse({"mine": ROSE}, metrics=told).endswith("mine +0.100 [+0.050,+0.150]")
    assert worse({"mine": FELL}, metrics=told) == ""


def test_one_of_many_that_chance_explains_is_not_shown_unless_it_is_named():
    of_chance = {"p_holm": {"SFT": {"refused": 0.2, "rules": 0.2}}}
    assert worse({"rules": FELL, "refused": ROSE}, **of_chance) == ""
    assert "refused" in worse({"rules": FELL, "refused": ROSE}, "refused", **of_chance)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("{", "is no summary.json"),
        ("[]", "is no summary.json"),
        ('{"against": "GRPO"}', "is no summary.json"),
        ('{"against": null, "differences": {}}', "compares with nothing"),
    ],
)
def test_what_is_no_summary_is_named_with_the_remedy(tmp_path, told, words):
    (tmp_path / "summary.json").write_text(told)
    with pytest.raises(gate.Unreadable, match=words) as refusal:
        gate.read(tmp_path / "summary.json")
    assert str(tmp_path / "summary.json") in str(refusal.value)


def test_a_comparison_of_another_checkpoint_says_nothing_of_this_one(tmp_path):
    ours, other = tmp_path / "grpo/checkpoint-5", tmp_path / "grpo/checkpoint-9"
    ours.mkdir(parents=True)
    other.mkdir()
    told = {"against": "GRPO", "differences": {"SFT": {"accuracy": ROSE}}, "systems": {"GRPO": str(other)}}
    with pytest.raises(gate.Unreadable, match="not this checkpoint"):
        gate.check(tmp_path / "s", told, ours, "SFT")
    gate.check(tmp_path / "s", told, other, "SFT")
    merged = tmp_path / "merged"  # as an export of ours leaves it
    merged.mkdir()
    (merged / "args.json").write_text(json.dumps({"adapters": [str(ours)]}))
    gate.check(tmp_path / "s", told | {"systems": {"GRPO": str(merged)}}, ours, "SFT")
    with pytest.raises(gate.Unreadable, match=r"not with PPO: set START="):
        gate.check(tmp_path / "s", told, other, "PPO")
    with pytest.raises(gate.Unreadable, match=r"it has no judge; there are accuracy: set METRIC="):
        gate.check(tmp_path / "s", told, other, "SFT", "judge")
