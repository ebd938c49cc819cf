"""Advantages with gaps are ms-swift's own on the measured samples alone: worked by hand, and for any batch that hypothesis finds."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from overtake.trainers.abstaining import advantages, complete_requests, group_deviations, once, reward_metrics, total_rewards
from swift.rl_core.advantage import compute_advantages, compute_advantages_dynamic, compute_reward_metrics

NAN = float("nan")
ESTIMATORS = ["grpo", "rloo", "reinforce_plus_plus"]
SCALES = ["group", "batch", "none", "gdpo"]
EVERY_MODE = [(estimator, scale) for estimator in ESTIMATORS for scale in SCALES]


@pytest.fixture(scope="module", autouse=True)
def in_double_precision():
    """What is found must not hang on the rounding that ms-swift's small epsilons magnify where all rewards are equal."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def column(*values):
    return torch.tensor([[value] for value in values])


def of(rewards, weights, groups, estimator="grpo", scale="group", **options):
    found, _ = advantages(rewards, torch.tensor(weights), groups, advantage_estimator=estimator, scale_rewards=scale, **options)
    return found.tolist()


# ---------------------------------------------------------------- by hand


def test_ms_swift_alone_makes_the_unmeasured_sample_the_worst_or_the_best():
    """If this fails, ms-swift treats None as neutral by now and our trainer can go."""
    assert compute_advantages(column(0.9, 0.8, NAN, 0.7), torch.ones(1), 4)[0].argmin() == 2
    assert compute_advantages(column(-0.9, -0.8, NAN, -0.7), torch.ones(1), 4)[0].argmax() == 2


@pytest.mark.parametrize(
    ("estimator", "scale", "expected"),
    [
        # .9 .8 .7: mean .8, deviation sqrt(.02 / 2) = .1.
        ("grpo", "group", [1, 0, 0, -1]),
        ("grpo", "none", [0.1, 0, 0, -0.1]),
        # Leave one out: .9 - (.8 + .7) / 2 = .15, not .9 - 2.4 / 3 as with four.
        ("rloo", "none", [0.15, 0, 0, -0.15]),
        ("rloo", "group", [1.5, 0, 0, -1.5]),
        ("reinforce_plus_plus", "batch", [1, 0, 0, -1]),
        # One reward, normalised to 1 0 -1, and whitened over the batch to the same.
        ("grpo", "gdpo", [1, 0, 0, -1]),
    ],
)
def test_the_siblings_get_what_the_three_of_them_would_get(estimator, scale, expected):
    assert of(column(0.9, 0.8, NAN, 0.7), [1.0], [0] * 4, estimator, scale) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("estimator", "scale", "expected"),
    [
        # Measured: 1 0 and 4 2 0. Their deviation in one: mean 1.4, sqrt((.16 + 1.96 + 6.76 + .36 + 1.96) / 4) = 1.6733.
        ("grpo", "batch", [0.5 / 1.6733, -0.5 / 1.6733, 0, 2 / 1.6733, 0, -2 / 1.6733, 0, 0, 0]),
        ("rloo", "batch", [1 / 1.6733, -1 / 1.6733, 0, 3 / 1.6733, 0, -3 / 1.6733, 0, 0, 0]),
        # Of the advantages .5 -.5 2 0 -2: sqrt((.25 + .25 + 4 + 0 + 4) / 4) = 1.4577.
        ("reinforce_plus_plus", "batch", [0.5 / 1.4577, -0.5 / 1.4577, 0, 2 / 1.4577, 0, -2 / 1.4577, 0, 0, 0]),
        # Normalised .7071 -.7071 and 1 0 -1, together with deviation sqrt((.5 + .5 + 1 + 0 + 1) / 4) = .8660.
        ("grpo", "gdpo", [0.8165, -0.8165, 0, 1.1547, 0, -1.1547, 0, 0, 0]),
        ("reinforce_plus_plus", "gdpo", [0.5, -0.5, 0, 2, 0, -2, 0, 0, 0]),
    ],
)
def test_batch_statistics_are_over_the_measured_of_groups_of_any_size(estimator, scale, expected):
    rewards = column(1.0, 0.0, NAN, 4.0, 2.0, 0.0, NAN, NAN, NAN)
    assert of(rewards, [1.0], [0] * 3 + [1] * 3 + [2] * 3, estimator, scale) == pytest.approx(expected, abs=2e-3)


def test_a_member_without_a_reward_that_a_sibling_has_abstains():
    rewards = torch.tensor([[0.5, -1.0], [NAN, 0.0], [0.25, 0.0], [0.0, NAN]])
    assert total_rewards(rewards, torch.tensor([1.0, 0.2]), [0] * 4).tolist() == pytest.approx([0.3, NAN, 0.25, NAN], nan_ok=True)
    assert of(rewards, [1.0, 0.2], [0] * 4, scale="none") == pytest.approx([0.025, 0, -0.025, 0])


def test_a_reward_that_the_whole_group_lacks_leaves_its_weight_to_the_others():
    rewards = torch.tensor([[NAN, -1.0], [NAN, 0.0], [0.5, -1.0], [0.0, 0.0]])
    # 1.2 * -1, and 1 * .5 + .2 * -1.
    totals = total_rewards(rewards, torch.tensor([1.0, 0.2]), [0, 0, 1, 1])
    assert totals.tolist() == pytest.approx([-1.2, 0, 0.3, 0])
    # A penalty counts by its size: (.5 + .25 + .25) / .5 = 2.
    rewards = torch.tensor([[0.5, 1.0, NAN], [0.0, 1.0, NAN]])
    assert total_rewards(rewards, torch.tensor([0.5, -0.25, -0.25]), [0, 0]).tolist() == pytest.approx([0.0, -1 / 3])


def test_gdpo_takes_the_weights_of_each_group():
    rewards = torch.tensor([[NAN, 0.0], [NAN, 1.0], [0.0, 0.0], [1.0, 1.0]])
    # Normalised, each is -.7071 or .7071. The first group: 1.5 * -.5 / .5 of it; the second: 1 - .5 of it.
    expected = [1.5 * 0.5**0.5, -1.5 * 0.5**0.5, -0.5 * 0.5**0.5, 0.5 * 0.5**0.5]
    # Whitened by sqrt((1.125 + 1.125 + .125 + .125) / 3).
    assert of(rewards, [1.0, -0.5], [0, 0, 1, 1], scale="gdpo") == pytest.approx([value / math.sqrt(2.5 / 3) for value in expected])


def test_a_reward_of_weight_nought_makes_nobody_abstain():
    rewards = torch.tensor([[0.5, NAN], [0.0, 7.0]])
    assert of(rewards, [1.0, 0.0], [0, 0], scale="none") == pytest.approx([0.25, -0.25])
    assert of(rewards, [1.0, 0.0], [0, 0], scale="gdpo") == pytest.approx([0.5**0.5, -(0.5**0.5)])
    only_nought = torch.tensor([[NAN, 3.0], [NAN, 7.0]])
    assert total_rewards(only_nought, torch.tensor([1.0, 0.0]), [0, 0]).isnan().all(), "what weighs nothing measures nothing"


@pytest.mark.parametrize(("estimator", "scale"), EVERY_MODE)
def test_a_batch_without_a_measurement_moves_nothing(estimator, scale):
    found, totals = advantages(column(NAN, NAN), torch.ones(1), [0, 0], advantage_estimator=estimator, scale_rewards=scale)
    assert found.tolist() == [0, 0] and totals.isnan().all()
    assert all(math.isnan(value) for value in reward_metrics(totals, [0, 0], scale).values())


@pytest.mark.parametrize(("estimator", "scale"), EVERY_MODE)
def test_one_measured_sample_has_nobody_to_be_compared_with(estimator, scale):
    """ms-swift's gdpo makes NaN of a batch of one, which no batch of its own is."""
    assert of(column(NAN, 0.9, NAN), [1.0], [0] * 3, estimator, scale) == [0, 0, 0]


def test_metrics_are_over_the_measured():
    totals = torch.tensor([1.0, 0.0, NAN, 0.5, 0.5, 0.5, NAN, NAN, NAN, NAN, 2.0, NAN])
    groups = [row // 3 for row in range(12)]
    found = reward_metrics(totals, groups, "group")
    # 1 0, .5 .5 .5 and 2; deviations .7071, 0 and, of one alone, 0; the third group counts nowhere.
    assert found == pytest.approx({"reward": 4.5 / 6, "reward_std": 0.7071 / 3, "frac_reward_zero_std": 2 / 3}, abs=1e-4)
    assert reward_metrics(totals, groups, "batch")["reward_std"] == pytest.approx(torch.tensor([1.0, 0.0, 0.5, 0.5, 0.5, 2.0]).std().item())


def test_the_rows_of_a_request_share_what_one_of_them_measured():
    requests = ["a", "b", "a", "c"]
    filled = complete_requests(torch.tensor([[NAN, 1.0], [0.5, NAN], [0.25, 1.0], [NAN, NAN]]), requests)
    assert filled.tolist() == [[0.25, 1.0], [0.5, pytest.approx(NAN, nan_ok=True)], [0.25, 1.0], [pytest.approx(NAN, nan_ok=True)] * 2]
    assert once(filled[:, 0], requests).tolist() == pytest.approx([NAN, 0.5, 0.25, NAN], nan_ok=True)


# ---------------------------------------------------------------- any batch

numbers = st.integers(-8, 8).map(lambda eighths: eighths / 8)
weightings = st.lists(st.sampled_from([1.0, 0.2, 0.5, -0.3, 0.0]), min_size=1, max_size=3).filter(any)


@st.composite
def any_batches(draw):
    """(rewards, weights, size of a group): every value may be missing."""
    weights, size = draw(weightings), draw(st.integers(1, 5))
    row = st.lists(numbers | st.just(NAN), min_size=len(weights), max_size=len(weights))
    return (
        torch.tensor(draw(st.lists(row, min_size=size, max_size=4 * size).map(lambda rows: rows[: len(rows) // size * size]))),
        weights,
        size,
    )


@st.composite
def even_batches(draw):
    """(rewards, weights, measured, size): `measured` complete members in each group or none, among any number of incomplete ones."""
    weights, size = draw(weightings), draw(st.integers(1, 5))
    measured = draw(st.integers(1, size))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        complete = st.lists(numbers, min_size=len(weights), max_size=len(weights))
        whole = draw(st.booleans()) or not rows
        group = [draw(complete) for _ in range(measured if whole else 0)]
        while len(group) < size:
            gappy = draw(complete)
            # In a measured group any gap is enough; in an unmeasured one nothing that weighs anything is there.
            gaps = [draw(st.sampled_from([at for at, weight in enumerate(weights) if weight]))]
            for at in gaps if whole else [at for at, weight in enumerate(weights) if weight]:
                gappy[at] = NAN
            group.append(gappy)
        rows += draw(st.permutations(group))
    return torch.tensor(rows), weights, measured, size


def members_and_weights(group, weights):
    """In plain words of the docstring: who is measured in this group, and by which weights."""
    there = [any(not math.isnan(row[at]) for row in group) and weight != 0 for at, weight in enumerate(weights)]
    if not any(there):
        return [], []
    growth = sum(map(abs, weights)) / sum(abs(weight) for weight, counted in zip(weights, there, strict=True) if counted)
    members = [place for place, row in enumerate(group) if not any(counted and math.isnan(row[at]) for at, counted in enumerate(there))]
    return members, [weight * growth if counted else 0.0 for weight, counted in zip(weights, there, strict=True)]


@settings(max_examples=300)
@given(any_batches(), st.sampled_from(ESTIMATORS), st.sampled_from(["group", "none"]))
def test_each_group_is_what_ms_swift_makes_of_its_measured_members(batch, estimator, scale):
    rewards, weights, size = batch
    groups = [row // size for row in range(len(rewards))]
    found = of(rewards, weights, groups, estimator, scale)
    for start in range(0, len(rewards), size):
        members, own = members_and_weights(rewards[start : start + size].tolist(), weights)
        expected = [0.0] * size
        if members:
            alone, _ = compute_advantages(
                rewards[start : start + size][members], torch.tensor(own), len(members), advantage_estimator=estimator, scale_rewards=scale
            )
            for place, value in zip(members, alone.tolist(), strict=True):
                expected[place] = value
        assert found[start : start + size] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=400)
@given(even_batches(), st.sampled_from(EVERY_MODE), st.booleans(), st.data())
def test_the_whole_batch_is_what_ms_swift_makes_of_the_measured_alone(batch, mode, kl_in_reward, data):
    rewards, weights, measured, size = batch
    groups = [row // size for row in range(len(rewards))]
    kl = torch.tensor(data.draw(st.lists(numbers, min_size=len(rewards), max_size=len(rewards))))
    options = {
        "advantage_estimator": mode[0],
        "scale_rewards": mode[1],
        "kl_in_reward": kl_in_reward and mode[1] != "gdpo",  # as ms-swift's trainer has it
        "beta": 0.5,
    }
    kept = [
        row for row, values in enumerate(rewards.tolist()) if not any(math.isnan(x) and w for x, w in zip(values, weights, strict=True))
    ]
    assume(len(kept) > 1 or mode[1] != "gdpo")  # of one alone it makes NaN
    alone, alone_totals = compute_advantages(rewards[kept], torch.tensor(weights), measured, kl_values=kl[kept], **options)
    found, totals = advantages(rewards, torch.tensor(weights), groups, kl_values=kl, **options)
    assert found[kept].tolist() == pytest.approx(alone.tolist(), abs=1e-6)
    assert totals[kept].tolist() == pytest.approx(alone_totals.tolist(), abs=1e-9)
    rest = [row for row in range(len(rewards)) if row not in kept]
    assert found[rest].tolist() == [0.0] * len(rest) and totals[rest].isnan().all()

    own = compute_reward_metrics(alone_totals, rewards[kept], [str(at) for at in range(len(weights))], measured, mode[1])
    expected = {"reward": own.reward_mean, "reward_std": own.reward_std, "frac_reward_zero_std": own.frac_reward_zero_std}
    assert reward_metrics(totals, groups, mode[1]) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=300)
@given(any_batches(), st.sampled_from(EVERY_MODE), st.data())
def test_taking_the_unmeasured_away_changes_nobody(batch, mode, data):
    """Groups of any size, which ms-swift's own function cannot take; whole groups may still lack a reward."""
    rewards, weights, size = batch
    groups = [row // size for row in range(len(rewards))]
    totals = total_rewards(rewards, torch.tensor(weights), groups)
    kept = (~totals.isnan()).nonzero().flatten().tolist()
    found = of(rewards, weights, groups, *mode)
    assert [value for row, value in enumerate(found) if row not in kept] == [0.0] * (len(rewards) - len(kept))
    # Only what the siblings were measured by decides: a group in which nobody is complete is gone as a whole.
    if kept:
        order = data.draw(st.permutations(kept))
        alone = of(rewards[order], weights, [groups[row] for row in order], *mode)
        assert alone == pytest.approx([found[row] for row in order], abs=1e-6)
    deviations = group_deviations(totals, groups)
    for row, group in enumerate(groups):
        members = [totals[other].item() for other in kept if groups[other] == group]
        assert deviations[row].item() == pytest.approx(torch.tensor(members).std().item() if len(members) > 1 else 0.0)


@settings(max_examples=200)
@given(any_batches(), st.sampled_from(ESTIMATORS), st.sampled_from(["group", "batch", "none"]), st.data())
def test_a_request_of_several_rows_counts_once(batch, estimator, scale, data):
    """The request-aware mode: the rows of a request, scattered over the batch, get what ms-swift gives the measured requests."""
    rewards, weights, size = batch
    rows = data.draw(st.lists(st.integers(0, len(rewards) - 1), max_size=6)) + list(range(len(rewards)))
    rows = data.draw(st.permutations(rows))
    groups = [row // size for row in range(len(rewards))]
    many = advantages(
        rewards[rows],
        torch.tensor(weights),
        [groups[row] for row in rows],
        rows,
        advantage_estimator=estimator,
        scale_rewards=scale,
    )[0]
    single = of(rewards, weights, groups, estimator, scale)
    assert many.tolist() == pytest.approx([single[row] for row in rows], abs=1e-6)
    if not rewards.isnan().any():
        own, _ = compute_advantages_dynamic(
            rewards[rows], torch.tensor(weights), [groups[row] for row in rows], rows, advantage_estimator=estimator, scale_rewards=scale
        )
        assert many.tolist() == pytest.approx(own.tolist(), abs=1e-6)
