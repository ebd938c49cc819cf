"""Under trainers that score None as 0, a reward of ours raises. Megatron's and Ray's modules are stubbed: neither is installed here."""

import sys
from types import ModuleType

import pytest
from overtake.rewards.measuring import Outage
from overtake.rewards.reward import Reward, Run, Scored

MODULES = ["swift.megatron.trainers.grpo_trainer", "swift.ray.megatron.grpo_trainer"]


class Length(Reward[None]):
    """The completion's length; None for an empty one, as if nobody had answered."""

    def finish(self, batch, pending):
        return [Scored(float(len(text)) or None) for text in batch.completions]


@pytest.fixture(params=MODULES)
def their_trainer(request, monkeypatch):
    """A process that has loaded Megatron's or Ray's trainer."""
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, request.param, ModuleType(request.param))
    return "Megatron" if "ray" not in request.param else "Ray"


def test_what_was_not_measured_is_raised_in_place_of_a_score_of_0(their_trainer):
    words = f"Length: 2 of 3 completions were not measured, and {their_trainer}'s trainer would score them 0: see to the service"
    with pytest.raises(Outage, match=words):
        Length()(["", "答案", ""])


def test_what_was_measured_is_returned_there_as_elsewhere(their_trainer):
    assert Length()(["一", "答案"]) == [1.0, 2.0]


def test_a_reward_of_a_trainer_of_ours_abstains_as_before(their_trainer):
    reward = Run(stops=True).adopt(Length(), "length")
    assert reward(["", "答案"]) == [None, 2.0]


def test_without_such_a_trainer_none_is_returned(monkeypatch):
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert Length()(["", "答案"]) == [None, 2.0]


def test_the_stubbed_names_are_ms_swifts_own():
    from importlib.metadata import files

    own = {str(path) for path in files("ms-swift") or []}
    assert {f"{module.replace('.', '/')}.py" for module in MODULES} <= own
