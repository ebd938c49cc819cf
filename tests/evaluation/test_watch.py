"""The watch: every sign told of a run that shows it, none of a healthy one, and how often chance alone is called a fall."""

import random

import pytest
from overtake import tasks
from overtake.evaluation import watch as watching
from overtake.evaluation.statistics import Interval
from overtake.evaluation.watch import SIGNS, scatter


def watch(rows, against=None):
    """What the watch says of a run that may be of any of our tasks."""
    return watching.watch(rows, list(tasks.shipped().values()), against)


def noisy(values, spread=0.02, seed=0):
    draw = random.Random(seed)
    return [value + draw.gauss(0, spread) for value in values]


def line(first, last, count):
    return [first + (last - first) * at / (count - 1) for at in range(count)]


def log(**curves):
    """Rows of a log; in a name __ stands for /."""
    return [
        {name.replace("__", "/"): value, "global_step/max_steps": f"{at}/60"}
        for name, curve in curves.items()
        for at, value in enumerate(curve)
    ]


RISING = noisy(line(0.1, 0.6, 60))
ROSE_AND_FELL = [0.30, 0.38, 0.45, 0.41, 0.33, 0.24, 0.18]


def test_a_held_out_reward_that_falls_while_the_reward_rises_is_told_with_both_numbers_and_the_best_step():
    said = watch(log(reward=RISING, eval_reward=ROSE_AND_FELL))["held_out"]
    assert "training reward rose from 0.1" in said.english and "fell from its best, 0.430 (near step 3), to 0.210" in said.english
    assert "第 3 步" in said.chinese and "留出集奖励" in said.chinese


def test_a_held_out_reward_that_falls_with_the_reward_is_told_as_what_it_is():
    said = watch(log(reward=noisy(line(0.6, 0.1, 60)), eval_reward=ROSE_AND_FELL))["held_out"]
    assert said.english.endswith("and the training reward did not rise")


@pytest.mark.parametrize(
    "held_out",
    [
        line(0.3, 0.6, 7),
        [0.4] * 7,
        [0.40, 0.43, 0.38, 0.41, 0.39, 0.42, 0.40],
        [0.3, 0.5, 0.6, 0.62, 0.6, 0.59, 0.59],  # levels off
    ],
)
def test_a_held_out_reward_that_rises_or_stays_is_in_order(held_out):
    assert watch(log(reward=RISING, eval_reward=held_out))["held_out"] is None


def test_a_held_out_loss_that_rises_is_told_of_sft_and_not_of_rl():
    losses = [2.0, 1.2, 0.9, 1.0, 1.2, 1.5, 1.9]
    assert "by heart" in watch(log(loss=line(2, 0.1, 60), eval_loss=losses))["held_out"].english
    assert "held_out" not in watch(log(reward=RISING, eval_loss=losses))


@pytest.mark.parametrize(
    ("curves", "sign", "words"),
    [
        ({"rewrite__copy": noisy(line(0, 0.6, 60))}, "cheats", "copies of the question rose"),
        ({"medical__broken__talks_to_grader": noisy(line(0, 0.4, 60))}, "cheats", "talk to the grader"),
        ({"completions__mean_length": noisy(line(12, 48, 60), 1)}, "lengths", "tokens"),
        ({"completions__mean_length": noisy(line(48, 12, 60), 1)}, "lengths", "tokens"),
        ({"completions__mean_length": [20.0] * 60, "completions__clipped_ratio": noisy(line(0, 0.4, 60))}, "lengths", "length limit"),
        ({"rag__judge": noisy(line(0, 0.5, 60)), "rag__retrieval": noisy(line(0.2, -0.2, 60))}, "opinions", "while retrieval fell"),
        (
            {"rewards__AnswerFormat__mean": noisy(line(0.4, 1, 60)), "rewards__FinanceAccuracy__mean": noisy(line(0.5, 0.2, 60))},
            "opinions",
            "while accuracy fell",
        ),
    ],
)
def test_each_trick_is_told_by_its_sign(curves, sign, words):
    assert words in watch(log(**curves))[sign].english


@pytest.mark.parametrize(
    "curves",
    [
        {"rewrite__copy": noisy([0.3] * 60, 0.1), "completions__mean_length": noisy(line(40, 60, 60), 3)},
        {"rag__judge": noisy(line(0, 0.5, 60)), "rag__retrieval": noisy(line(0, 0.3, 60))},
        {"rag__judge": noisy([0.0] * 60, 0.3), "rag__retrieval": noisy([0.0] * 60, 0.3, seed=1)},
    ],
)
def test_scatter_longer_answers_and_parts_that_rise_together_are_in_order(curves):
    assert not any(watch(log(**curves)).values())


def test_worse_than_before_on_the_held_out_rows_is_told_only_when_the_interval_says_so():
    worse, same = Interval(-0.1, -0.15, -0.05), Interval(-0.02, -0.06, 0.02)
    assert "SFT: -0.100 [-0.150, -0.050]), though the training reward rose" in watch(log(reward=RISING), {"SFT": worse})["table"].english
    assert watch(log(reward=RISING), {"SFT": same})["table"] is None


def test_what_was_not_logged_often_enough_is_left_out_rather_than_called_in_order():
    assert watch(log(reward=RISING[:9], eval_reward=ROSE_AND_FELL[:4], rewrite__copy=[0.0] * 9)) == {}
    assert set(watch(log(reward=RISING, eval_reward=ROSE_AND_FELL))) == {"held_out"} < set(SIGNS)


def test_a_trend_is_no_scatter_and_noise_is():
    assert scatter(line(0, 5, 50)) == pytest.approx(0, abs=1e-6)
    assert scatter(noisy([0.0] * 2000, 0.3)) == pytest.approx(0.3, rel=0.1)


def test_chance_is_rarely_called_a_fall_and_a_clear_fall_often():
    draw = random.Random(0)
    print(f"\n{'evaluations':>11} {'scatter':>8} {'flat called a fall':>19} {'fall by 0.15 told':>18}")
    for count in (5, 7, 10, 20):
        peak = count // 2
        fell = [0.3 + 0.3 * at / (count - 1) for at in range(peak + 1)]
        fell += line(fell[-1], fell[-1] - 0.15, count - peak)[1:]
        for spread, most in ((0.02, 0.02), (0.05, 0.06)):

            def share(curve, spread=spread):
                told = [watch(log(eval_reward=[draw.gauss(value, spread) for value in curve]))["held_out"] for _ in range(400)]
                return sum(one is not None for one in told) / len(told)

            wrong, right = share([0.4] * count), share(fell)
            print(f"{count:>11} {spread:>8} {wrong:>19.3f} {right:>18.3f}")
            assert wrong <= most
            assert right > wrong
