"""Abstaining: an unmeasured reward moves nobody, shown with ms-swift's own advantages and its own call of the rewards."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from overtake.rewards.rewrite_rules import RewriteRules
from overtake.trainers.grpo import GRPOTrainer, fill_unmeasured
from swift.rl_core import grpo_algorithm
from swift.rl_core.advantage import compute_advantages
from swift.rl_core.data import GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer

NAN = float("nan")


@pytest.fixture
def trainer(monkeypatch):
    """Our trainer without a model: `parent` is what ms-swift's would return."""

    def build(parent, **attributes):
        made = object.__new__(GRPOTrainer)
        plain = {"reward_func_names": ["A"], "scale_rewards": "group", "num_generations": 4, "num_generations_eval": 2}
        made.__dict__.update(plain, dynamic_num_samples=False, model=SimpleNamespace(training=True), **attributes)
        made._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        monkeypatch.setattr(SwiftGRPOTrainer, "_compute_rewards_per_func", lambda self, samples: torch.tensor(parent))
        return made

    return build


def advantages(rewards, **options):
    return compute_advantages(rewards, torch.ones(rewards.shape[1]), num_generations=4, **options)[0]


def test_ms_swift_alone_makes_the_unmeasured_sample_the_worst():
    """If this fails, ms-swift treats None as neutral by now and our trainer can go."""
    assert advantages(torch.tensor([[0.9], [0.8], [NAN], [0.7]])).argmin() == 2
    assert advantages(torch.tensor([[-0.9], [-0.8], [NAN], [-0.7]])).argmax() == 2


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus"])
@pytest.mark.parametrize("scale", ["group", "none"])
def test_an_abstaining_sample_gets_advantage_zero(trainer, estimator, scale):
    rewards = trainer([[0.9], [0.8], [NAN], [0.7]])._compute_rewards_per_func([])
    # The mean of .9 .8 .7 is .8.
    assert rewards.flatten().tolist() == pytest.approx([0.9, 0.8, 0.8, 0.7])
    found = advantages(rewards, advantage_estimator=estimator, scale_rewards=scale)
    assert found[2].item() == pytest.approx(0, abs=1e-4)
    assert found[0] > 0 > found[3]


def test_a_mean_narrows_the_siblings_as_the_docstring_says():
    filled = fill_unmeasured(torch.tensor([[0.9], [0.8], [NAN], [0.7]]), [0] * 4)
    # Deviations .1 0 0 -.1: std = sqrt(.02 / 3) = .0816, .1 / .0816 = 1.22; over three samples it would be .1 / .1 = 1.00.
    assert advantages(filled)[0].item() == pytest.approx(1.22, abs=0.01)


def test_a_group_without_any_value_contributes_nothing(trainer):
    rewards = trainer([[NAN]] * 4 + [[0.9], [0.8], [0.8], [0.7]])._compute_rewards_per_func([])
    assert rewards[:4].flatten().tolist() == [0.0] * 4
    assert advantages(rewards)[:4].tolist() == [0.0] * 4


def test_each_reward_is_filled_by_itself_and_counted(trainer):
    parent = [[0.9, 1.0], [0.8, NAN], [NAN, 0.0], [0.7, NAN]]
    made = trainer(parent)
    made.reward_func_names = ["A", "B"]
    rewards = made._compute_rewards_per_func([])
    assert rewards[:, 0].tolist() == pytest.approx([0.9, 0.8, 0.8, 0.7])
    assert rewards[:, 1].tolist() == pytest.approx([1.0, 0.5, 0.0, 0.5])
    assert dict(made._metrics["train"]) == {"reward_abstain/A": [0.25], "reward_abstain/B": [0.5]}


def test_evaluation_has_its_own_group_size(trainer):
    made = trainer([[0.9], [NAN], [NAN], [0.1]])
    made.model.training = False
    assert made._compute_rewards_per_func([]).flatten().tolist() == pytest.approx([0.9, 0.9, 0.1, 0.1])
    assert dict(made._metrics["eval"]) == {"reward_abstain/A": [0.5]}


def test_several_turns_are_grouped_by_prompt(trainer):
    samples = [SimpleNamespace(prompt_id=name) for name in ("p", "q", "p")]
    made = trainer([[0.9], [0.1], [NAN]], **{})
    made.dynamic_num_samples = True
    assert made._compute_rewards_per_func(samples).flatten().tolist() == pytest.approx([0.9, 0.1, 0.9])


def test_gdpo_leaves_none_out_by_itself(trainer):
    made = trainer([[0.9], [0.8], [NAN], [0.7]])
    made.scale_rewards = "gdpo"
    rewards = made._compute_rewards_per_func([])
    assert torch.isnan(rewards).sum() == 1
    assert advantages(rewards, scale_rewards="gdpo")[2].item() == pytest.approx(0, abs=1e-6)


def test_rewards_take_the_call_that_ms_swift_makes():
    class Broken:
        def __call__(self, completions, **columns):
            assert columns["trainer_state"].global_step == 3
            return [None, 0.5]

    def sample(text, prompt):
        turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": text}]
        return GRPOSample.from_row({"messages": turns, "prompt_id": prompt, "rag_query": "睡不着咋办", "dataset": "train.jsonl"})

    found = grpo_algorithm.compute_rewards_per_func(
        [sample("失眠 褪黑素 作用", "p0"), sample("睡不着，咋办", "p0")],
        [RewriteRules(args=None), Broken()],
        None,
        torch.device("cpu"),
        SimpleNamespace(global_step=3),
    )
    assert found[:, 0].tolist() == [0.0, -1.0]
    assert torch.isnan(found[0, 1]) and found[1, 1] == 0.5
