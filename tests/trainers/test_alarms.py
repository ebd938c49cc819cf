"""Each alarm at and under its bound, once an episode; how often and how late the falling reward is told, on made-up curves."""

import random
from statistics import median

import pytest
from overtake.trainers.alarms import _reward, alarms, news

FINE = {"reward": 0.4, "clip_ratio/region_mean": 0.2, "abstain/timeout": 0.05, "rewrite/copy": 0.1, "frac_reward_zero_std": 0.2}
FINE |= {"completions/clipped_ratio": 0.0, "loss/value_avg": 0.12}

CASES = [
    # (alarm, logged values by name, logged steps, what the sentence says)
    ("reward", {"reward": [0.6] * 10 + [0.5] * 10}, "0.500 over the last 10 logged steps, 0.600 in its best 10"),
    ("reward", {"objective/scores": [0.6] * 10 + [0.5] * 10}, "lower --learning_rate and go on from a checkpoint before the fall"),
    ("clipping", {"clip_ratio/region_mean": [0.51] * 5}, "51 % of the updates are clipped"),
    ("clipping", {"clip_ratio": [0.9] * 5}, "90 % of the updates"),
    ("clipping", {"policy/clipfrac_avg": [0.0, 1, 1, 1, 1, 1]}, "100 % of the updates"),
    ("value", {"loss/value_avg": [0.5] * 15}, "0.500 in the first 5 logged steps, 0.500 in the last"),
    (
        "value",
        {"loss/value_avg": [0.03] * 15, "val/explained_variance": [0.09] * 15},
        "0.030 in the first 5 logged steps, 0.030 in the last",
    ),
    ("abstaining", {"abstain/timeout": [0.2] * 5, "abstain/http_5xx": [0.1] * 5}, "30 % of the samples had no score"),
    ("abstaining", {"abstain/timeout": [0.2] * 5, "abstain/http_5xx": [0.1] * 5}, "most often because of: timeout"),
    ("copying", {"rewrite/copy": [0.1] * 10 + [0.31] * 10}, "31 % of the rewrites copy the question, 10 % did in the first 10"),
    ("idle", {"frac_reward_zero_std": [0.6] * 20}, "in 60 % of the groups all rewards are equal"),
    ("cut_off", {"completions/clipped_ratio": [0.3] * 10}, "30 % of the completions are cut off"),
    ("teacher", {"teacher_kl": [0.4] * 20 + [0.39] * 20}, "0.400 nats in the first 20 logged steps, 0.390 in the last 20"),
    ("teacher", {"teacher_kl": [0.4] * 20 + [0.39] * 40 + [0.5] * 20}, "comes no nearer to its teacher"),
    ("drift", {"teacher_kl": [0.4] * 20 + [0.1] * 40 + [0.2] * 20}, "0.200 nats in the last 20 logged steps, 0.100 in its best 20"),
    ("drift", {"teacher_kl": [0.4] * 20 + [0.61] * 20}, "moves away from its teacher"),
    ("entropy", {"entropy/mean": [1.0] * 10 + [0.09] * 10}, "0.0900 nats a token over the last 10 logged steps, 1.0000 in the first 10"),
    ("entropy", {"policy/entropy_avg": [0.5] * 10 + [0.01] * 10}, "the entropy collapses"),
    ("off_policy", {"rollout_correction/k3_kl": [0.005] * 10 + [0.021] * 10}, "0.021 over the last 10 logged steps, 0.005 in the first 10"),
    ("off_policy", {"rollout_correction/k3_kl": [0.05] * 10 + [0.11] * 10}, "vLLM does not write what is trained"),
    ("off_policy", {"rollout_correction/k3_kl": [0.11] * 10}, "0.110 over the last 10 logged steps"),
]

NO_ALARM = [
    # (logged values by name, why nobody is alarmed)
    ({name: [value] * 100 for name, value in FINE.items()}, "nothing is wrong"),
    ({}, "nothing was logged"),
    ({"reward": [0.6] * 10 + [0.56] * 10}, "a fall of less than 0.05"),
    ({"reward": [0.6] * 10 + [0.5] * 9}, "too few steps to compare"),
    ({"reward": [0.0, 1.0] * 5 + [0.0, 0.6] * 5}, "a fall within the scatter"),
    ({"reward": [0.1 * step for step in range(100)]}, "it rises"),
    ({"clip_ratio/region_mean": [0.5] * 5}, "the bound itself"),
    ({"clip_ratio/region_mean": [0.9] * 4}, "one odd step, and too few"),
    ({"clip_ratio/region_mean": [0.1] * 4 + [1.0]}, "one odd step"),
    ({"loss/value_avg": [0.5] * 14}, "too early to tell"),
    ({"loss/value_avg": [0.5] * 10 + [0.44] * 5}, "it falls"),
    ({"loss/value_avg": [0.14] * 20}, "low from the start"),
    ({"loss/value_avg": [0.5] * 20, "val/explained_variance": [0.1] * 20}, "the critic explains what there is to explain"),
    ({"loss/value_avg": [0.5] * 10 + [0.44] * 10, "val/explained_variance": [0.0] * 20}, "it falls"),
    ({"abstain/timeout": [0.1] * 5, "abstain/budget": [0.1] * 5}, "the bound itself"),
    ({"rewrite/copy": [0.5] * 20}, "many copies, no more than at the start"),
    ({"frac_reward_zero_std": [1.0] * 19}, "too few steps: with one group a step the share is 0 or 1"),
    ({"completions/clipped_ratio": [0.2] * 10}, "the bound itself"),
    ({"teacher_kl": [0.4] * 20 + [0.37] * 20}, "it falls"),
    ({"teacher_kl": [0.4] * 39}, "too early to tell"),
    ({"teacher_kl": [0.04] * 60}, "as near as it need be"),
    ({"teacher_kl": [0.4] * 20 + [0.02] * 20 + [0.05] * 20}, "further than before, and near all the same"),
    ({"teacher_kl": [0.4] * 20 + [0.2] * 20 + [0.3] * 30}, "within half as much again of its best"),
    ({"entropy/mean": [1.0] * 10 + [0.1] * 10}, "the bound itself"),
    ({"entropy/mean": [1.0] * 10 + [0.0] * 9}, "too few steps to compare"),
    ({"rollout_correction/k3_kl": [0.0] * 10 + [0.02] * 10}, "the bound itself"),
    ({"rollout_correction/k3_kl": [0.02] * 10 + [0.08] * 10}, "four times as much as at first, the bound itself"),
    ({"rollout_correction/k3_kl": [0.057] * 30}, "top-p of 0.7 from the start, and no more"),
    ({"rollout_correction/k3_kl": [0.2] * 9}, "too few steps"),
]


def history(values):
    steps = max(map(len, values.values()), default=0)
    return [{name: numbers[step] for name, numbers in values.items() if step < len(numbers)} for step in range(steps)]


@pytest.mark.parametrize(("alarm", "values", "words"), CASES)
def test_an_alarm_says_what_is_wrong(alarm, values, words):
    found = alarms(history(values))
    assert list(found) == [alarm]
    assert words in found[alarm]


@pytest.mark.parametrize(("values", "why"), NO_ALARM)
def test_no_alarm(values, why):
    assert alarms(history(values)) == {}, why


def rounds(count, of_rollout, *of_steps):
    """`count` rounds of PPO, one step for each of `of_steps`; the first step of a round logs its rollout too."""
    return [{**step, **(of_rollout if at == 0 else {})} for _ in range(count) for at, step in enumerate(of_steps)]


OF_ROUNDS = [
    # (alarm, what a rollout logs, what its updates log, rounds until it is said, what the sentence says)
    (
        "clipping",
        {},
        [{"policy/clipfrac_avg": share} for share in (0, 0.3, 0.7, 0.8, 0.7, 0.7)],
        1,
        "53 % of the updates are clipped (mean of 6 ",
    ),
    (
        "value",
        {"val/explained_variance": 0.0},
        [{"loss/value_avg": loss} for loss in (0.3, 0.2, 0.1, 0.1, 0.1, 0.1)],
        5,
        "0.150 in the first 6",
    ),
    ("abstaining", {"abstain/timeout": 0.3}, [{}] * 16, 5, "30 % of the samples had no score"),
    ("cut_off", {"completions/clipped_ratio": 0.3}, [{}] * 16, 10, "30 % of the completions are cut off"),
    ("idle", {"frac_reward_zero_std": 0.6}, [{}] * 4, 20, "in 60 % of the groups"),
]


@pytest.mark.parametrize(("alarm", "of_rollout", "of_steps", "count", "words"), OF_ROUNDS, ids=[case[0] for case in OF_ROUNDS])
def test_in_ppo_an_alarm_counts_rounds(alarm, of_rollout, of_steps, count, words):
    rows = rounds(count, {"reward": 0.4, **of_rollout}, *of_steps)
    assert list(alarms(rows)) == [alarm]
    assert words in alarms(rows)[alarm]
    assert alarms(rows[: -len(of_steps)]) == {}


def test_the_last_epoch_of_a_round_may_be_clipped_where_the_round_is_not():
    steps = [{"policy/clipfrac_avg": share} for share in (0, 0, 0, 0, 0, 0.6, 0.6, 0.6, 0.6, 0.6)]
    assert alarms(rounds(4, {"reward": 0.4}, *steps)) == {}


def test_more_copies_are_told_of_rounds():
    few, many = (rounds(10, {"reward": 0.4, "rewrite/copy": share}, *[{}] * 16) for share in (0.1, 0.31))
    assert list(alarms(few + many)) == ["copying"]


def test_evaluations_and_the_summary_are_no_training_steps():
    rows = history({"clip_ratio": [0.9] * 5})
    others = [{"eval_runtime": 1.0, "eval_clip_ratio": 0.0}, {"train_runtime": 9.0}]
    assert list(alarms([*rows[:3], *others, *rows[3:], *others])) == ["clipping"]


def told(values):
    rows = history({"clip_ratio": values})
    return [end for end in range(1, len(rows) + 1) if news(rows[:end])]


def test_an_alarm_is_said_once_and_again_after_twenty_quiet_steps():
    assert told([0.9] * 50) == [5]
    # The mean of five leaves the bound two steps after the values do, and comes back after three high ones.
    assert told([0.9] * 10 + [0.1] * 15 + [0.9] * 10) == [5], "fifteen quiet steps: the same trouble"
    assert told([0.9] * 10 + [0.1] * 30 + [0.9] * 10) == [5, 43]


def test_a_resumed_run_does_not_say_again_what_was_said():
    """transformers restores log_history from the checkpoint."""
    rows = history({"clip_ratio": [0.9] * 30})
    assert news(rows[:20]) == {}


def first_alarm(rng, curve, start):
    """Steps after `start` to the first alarm of a falling reward, looked for at every tenth step; 999 for none."""
    rows = [{"reward": value + rng.gauss(0, 0.2)} for value in curve]
    found = (end for end in range(start + 10, len(rows) + 1, 10) if _reward(rows[:end]))  # alone: the other alarms have nothing to see here
    return next(found, 999 + start) - start


def test_how_often_and_how_late_a_falling_reward_is_told():
    rng = random.Random(0)
    flat = [first_alarm(rng, [0.4] * 1250, 0) for _ in range(20)]
    fast = [first_alarm(rng, [0.5] * 300 + [0.5 - 0.3 * step / 60 for step in range(60)] + [0.2] * 100, 300) for _ in range(30)]
    slow = [first_alarm(rng, [0.5] * 200 + [0.5 - 0.2 * step / 500 for step in range(500)], 200) for _ in range(30)]
    print(f"flat: {sum(steps < 999 for steps in flat)} of 20; fast: {median(fast)}, at most {max(fast)}; slow: {median(slow)}")
    assert sum(steps < 999 for steps in flat) <= 1
    assert median(fast) <= 60 and max(fast) <= 120
    assert median(slow) <= 450
