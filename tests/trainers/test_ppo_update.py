"""PPO's arithmetic: against trajectories worked by hand, against sums written another way, and against TRL's formulas."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from overtake.trainers.ppo_update import KLControl, gae, losses, moments, token_rewards, whitened
from trl.experimental.ppo.ppo_trainer import masked_whiten


def alone(tensor):
    """What a single rank adds up."""
    return tensor


def own(*lines):
    """A mask: x where a token is the completion's own."""
    return torch.tensor([[letter == "x" for letter in line] for line in lines])


# ---------------------------------------------------------------- rewards by token


def test_the_score_falls_on_the_last_own_token_wherever_a_row_begins_and_ends():
    mask = own("xxx.", "..xx", ".x..", "xxxx")
    given = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 4]]).float()
    assert token_rewards(given, torch.randn(4, 4), None, mask, 0.5).equal(expected)


def test_each_own_token_pays_for_its_distance_from_the_reference():
    logps, reference = torch.tensor([[-1.0, -2.0, -3.0, 7.0]]), torch.tensor([[-1.5, -1.0, -3.0, 9.0]])
    found = token_rewards(torch.tensor([1.0]), logps, reference, own("xxx."), 0.2)
    assert found[0].tolist() == pytest.approx([-0.1, 0.2, 1.0, 0.0])


def test_a_row_without_own_tokens_is_rewarded_nowhere():
    assert not token_rewards(torch.tensor([5.0]), torch.ones(1, 3), torch.zeros(1, 3), own("..."), 0.1).any()


# ---------------------------------------------------------------- advantages


def test_gae_of_a_trajectory_worked_by_hand():
    """gamma .9, lambda .5; deltas from the end: 1 - .4 = .6; 0 + .9 * .4 - .2 = .16; .1 + .9 * .2 - .5 = -.22."""
    rewards, values = torch.tensor([[0.1, 0.0, 1.0]]), torch.tensor([[0.5, 0.2, 0.4]])
    advantages, returns = gae(rewards, values, own("xxx"), gamma=0.9, lam=0.5)
    last, middle = 0.6, 0.16 + 0.45 * 0.6
    assert advantages[0].tolist() == pytest.approx([-0.22 + 0.45 * middle, middle, last])
    assert returns[0].tolist() == pytest.approx([-0.22 + 0.45 * middle + 0.5, middle + 0.2, 1.0])


def test_with_lambda_1_a_return_is_the_discounted_reward_to_come_and_with_0_one_step_of_it():
    rewards, values = torch.tensor([[0.1, 0.0, 1.0]]), torch.tensor([[0.5, 0.2, 0.4]])
    assert gae(rewards, values, own("xxx"), 0.9, 1.0)[1][0].tolist() == pytest.approx([0.1 + 0.81, 0.9, 1.0])
    assert gae(rewards, values, own("xxx"), 0.9, 0.0)[1][0].tolist() == pytest.approx([0.1 + 0.9 * 0.2, 0.9 * 0.4, 1.0])


def test_a_completion_of_one_token_is_worth_its_reward():
    advantages, returns = gae(torch.tensor([[9.0, 2.0, 9.0]]), torch.tensor([[9.0, 0.5, 9.0]]), own(".x."), 0.9, 0.5)
    assert (advantages.tolist(), returns.tolist()) == ([[0, 1.5, 0]], [[0, 2.0, 0]])


numbers = st.floats(-3, 3, width=32)


@st.composite
def trajectories(draw):
    """(rewards, values, mask, gamma, lambda) of rows whose own tokens begin and end anywhere; what lies outside is noise."""
    count, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    mask = torch.zeros(count, width, dtype=torch.bool)
    for row in range(count):
        start = draw(st.integers(0, width))
        mask[row, start : draw(st.integers(start, width))] = True
    line = st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=count, max_size=count)
    return torch.tensor(draw(line)), torch.tensor(draw(line)), mask, draw(st.floats(0, 1)), draw(st.floats(0, 1))


@given(trajectories())
def test_gae_is_the_sum_over_all_later_errors_and_knows_nothing_of_other_tokens(drawn):
    """A_t = sum over l of (gamma lambda)^l delta_{t+l} (eq. 16), in double precision."""
    rewards, values, mask, gamma, lam = drawn
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row in range(len(mask)):
        at = mask[row].nonzero().flatten().tolist()
        r, v = rewards[row].double(), values[row].double()
        delta = {t: r[t] + gamma * (v[t + 1] if t + 1 in at else 0.0) - v[t] for t in at}
        for t in range(mask.shape[1]):
            wanted = sum(((gamma * lam) ** (later - t) * delta[later] for later in at if later >= t), torch.tensor(0.0)) if t in at else 0.0
            assert advantages[row, t].item() == pytest.approx(float(wanted), abs=1e-4)
            assert returns[row, t].item() == pytest.approx(float(wanted + v[t]) if t in at else 0.0, abs=1e-4)


@given(trajectories())
def test_where_rows_are_padded_on_the_right_gae_is_trls(drawn):
    """TRL runs through the padding, whose rewards and values are 0."""
    rewards, values, mask, gamma, lam = drawn
    mask = mask.sort(dim=1, descending=True).values
    rewards, values = rewards * mask, values * mask
    last, wanted = torch.zeros(len(mask)), torch.zeros_like(rewards)
    for t in reversed(range(mask.shape[1])):
        beyond = values[:, t + 1] if t + 1 < mask.shape[1] else 0.0
        last = rewards[:, t] + gamma * beyond - values[:, t] + gamma * lam * last
        wanted[:, t] = last
    assert gae(rewards, values, mask, gamma, lam)[0].equal(wanted * mask)


# ---------------------------------------------------------------- whitening


@given(st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
def test_whitening_batches_apart_is_trls_whitening_of_all_their_tokens(batches, seed, keep_mean):
    flip = random.Random(seed)
    values = [torch.tensor([batch]) for batch in batches]
    masks = [torch.tensor([[flip.random() < 0.7 for _ in batch]]) for batch in batches]
    found = whitened(values, masks, alone, keep_mean=keep_mean)
    kept = torch.cat([one[mask] for one, mask in zip(values, masks, strict=True)])
    assert all(not one[~mask].any() for one, mask in zip(found, masks, strict=True))
    if len(kept) > 1 and kept.std() > 1e-2:
        wanted = masked_whiten(kept.double(), torch.ones_like(kept), shift_mean=not keep_mean)
        assert torch.cat([one[mask] for one, mask in zip(found, masks, strict=True)]).tolist() == pytest.approx(wanted.tolist(), abs=1e-3)


def test_two_ranks_whiten_with_the_sums_of_both():
    """Each rank asks in the same order, for tokens, total and squares; here the other one's part is worked out by hand."""
    mine, theirs = torch.tensor([[1.0, 3.0, 50.0]]), torch.tensor([[5.0, 9.0]])
    mask, all_of_it = own("xx."), own("xx")
    mean = 18 / 4
    other = iter([torch.tensor(2.0), theirs.sum(), (theirs - mean).square().sum()])
    [found] = whitened([mine], [mask], lambda part: part + next(other))
    assert found.tolist() == [pytest.approx([(1 - mean) / math.sqrt(35 / 3), (3 - mean) / math.sqrt(35 / 3), 0], abs=1e-5)]
    both = whitened([mine, theirs], [mask, all_of_it], alone)
    assert both[0].equal(found)


def test_numbers_far_from_0_lose_no_digits_to_their_mean():
    values = 10_000 + torch.arange(100.0)[None]
    _, variance = moments([values], [torch.ones(1, 100, dtype=torch.bool)], alone)
    assert variance.item() == pytest.approx(torch.arange(100.0).var().item())


@pytest.mark.parametrize("mask", [own("..."), own(".x.")])
def test_fewer_than_two_tokens_are_not_whitened_into_nothing(mask):
    given = torch.tensor([[4.0, 5.0, 6.0]])
    assert [one.item() for one in moments([given], [mask], alone)] == [0.0, 1.0]
    assert torch.allclose(whitened([given], [mask], alone)[0], given * mask)


def test_equal_numbers_become_0_not_infinite():
    assert whitened([torch.full((1, 4), 3.0)], [own("xxxx")], alone)[0].tolist() == [[0.0] * 4]


# ---------------------------------------------------------------- losses

CLIP = {"cliprange": 0.2, "cliprange_value": 0.2}


def of_one_token(ratio=1.0, advantage=0.0, value=0.0, old_value=0.0, returned=0.0, entropy=0.0, **clip):
    new, advantage, value, old_value, returned, entropy = (
        torch.tensor([[one]], dtype=torch.float64) for one in (math.log(ratio), advantage, value, old_value, returned, entropy)
    )
    old = torch.zeros_like(new)
    return losses(new, old, advantage, value, old_value, returned, entropy, own("x"), **{**CLIP, **clip})


def test_the_worked_example_of_the_specification():
    """Advantage 0.15, ratio 1.22, clipped to 1.2: the loss is -0.18."""
    found = of_one_token(ratio=1.22, advantage=0.15)
    assert found.policy.item() == pytest.approx(-0.18)
    assert (found.clipped.item(), found.ratio.item(), found.tokens.item()) == (1, pytest.approx(1.22), 1)
    assert found.kl.item() == pytest.approx(0.5 * math.log(1.22) ** 2)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 1.0, -1.2, 1),  # gone far enough up
        (0.5, 1.0, -0.5, 0),  # went down though it should go up: the whole of it counts
        (0.5, -1.0, 0.8, 1),  # gone far enough down
        (1.5, -1.0, 1.5, 0),  # went up though it should go down
        (1.1, 1.0, -1.1, 0),
        (1.5, 0.0, 0.0, 0),
    ],
)
def test_a_ratio_counts_until_it_has_moved_far_enough_the_right_way(ratio, advantage, loss, clipped):
    found = of_one_token(ratio=ratio, advantage=advantage)
    assert (found.policy.item(), found.clipped.item()) == (pytest.approx(loss), clipped)
    wider = of_one_token(ratio=ratio, advantage=advantage, cliprange=0.6)
    assert (wider.policy.item(), wider.clipped.item()) == (pytest.approx(-ratio * advantage), 0)


@pytest.mark.parametrize(
    ("value", "loss", "clipped"),
    [
        (1.1, 0.9**2, 0),  # within 0.2 of the old
        (1.8, 0.8**2, 1),  # nearer to the return than it may be at once: as if it were at 1.2
        (0.5, 1.5**2, 0),  # away from the return: as it is, the larger error
    ],
)
def test_the_value_loss_is_half_the_larger_squared_error(value, loss, clipped):
    found = of_one_token(value=value, old_value=1.0, returned=2.0)
    assert (found.value.item(), found.value_clipped.item()) == (pytest.approx(loss), clipped)
    free = of_one_token(value=value, old_value=1.0, returned=2.0, cliprange_value=9)
    assert (free.value.item(), free.value_clipped.item()) == (pytest.approx((value - 2) ** 2), 0)


def test_what_is_clipped_is_not_pushed_further():
    for ratio, moved in ((1.1, True), (1.5, False)):
        logp = torch.tensor([[math.log(ratio)]], requires_grad=True)
        nothing = torch.zeros(1, 1)
        losses(logp, nothing, nothing + 1, nothing, nothing, nothing, nothing, own("x"), **CLIP).policy.backward()
        assert bool(logp.grad.any()) == moved


def test_sums_are_over_own_tokens_and_the_others_have_no_gradient_even_if_infinite():
    mask = own("xx..", "....")
    logps = torch.tensor([[0.1, -0.1, math.inf, math.nan], [math.inf, 1.0, 2.0, 3.0]], requires_grad=True)
    old = torch.zeros(2, 4)
    values, entropies = torch.full((2, 4), 0.5, requires_grad=True), torch.full((2, 4), 2.0, requires_grad=True)
    found = losses(logps, old, old + 1, values, old + 0.5, old + 1.5, entropies, mask, **CLIP)
    assert found.tokens == 2
    assert found.policy.item() == pytest.approx(-(math.exp(0.1) + math.exp(-0.1)))
    assert (found.value.item(), found.entropy.item()) == (pytest.approx(2 * 1.0), pytest.approx(4.0))
    assert found.ratio.item() == pytest.approx(math.exp(0.1) + math.exp(-0.1))
    (found.policy + found.value + found.entropy).backward()
    for tensor in (logps, values, entropies):
        assert tensor.grad[mask].all() and not tensor.grad[~mask].any()


@given(trajectories(), st.integers(0, 99))
def test_before_the_first_step_the_policys_loss_is_minus_the_sum_of_advantages(drawn, seed):
    """And its gradient by a log-probability is minus the advantage: the policy gradient."""
    advantages, values, mask, _, _ = drawn
    logps = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    found = losses(logps, logps.detach(), advantages, values, values, values, values, mask, **CLIP)
    found.policy.backward()
    assert found.policy.item() == pytest.approx(-(advantages * mask).sum().item(), abs=1e-4)
    assert torch.allclose(logps.grad, -(advantages * mask))
    assert (found.clipped.item(), found.kl.item(), found.value.item()) == (0, 0, 0)


# ---------------------------------------------------------------- the KL coefficient


def simulate(control, rounds=200, noise=0.1, seed=0):
    """A policy whose KL settles, a third of the way each round, where reward and KL balance: the less it costs the farther it goes."""
    drawn, kl, seen = random.Random(seed), 0.0, []
    for _ in range(rounds):
        kl += (0.005 / control.coefficient - kl) / 3
        seen.append(kl * math.exp(drawn.gauss(0, noise)))
        control.saw(seen[-1])
    return seen


@pytest.mark.parametrize("start", [0.005, 0.05, 0.5])
def test_an_adaptive_coefficient_brings_the_kl_near_its_target_and_keeps_it_there(start):
    control = KLControl(start, target=0.1)
    seen = simulate(control)
    assert 0.08 < sum(seen[60:]) / 140 < 0.12
    assert all(0.04 < kl < 0.2 for kl in seen[60:])
    # Without control it would stay at what the first coefficient leads to.
    assert simulate(KLControl(start), noise=0)[-1] == pytest.approx(0.005 / start, rel=1e-3)


def test_one_round_moves_the_coefficient_by_a_fifth_at_most():
    control = KLControl(0.1, target=0.1)
    control.saw(99.0)
    assert control.coefficient == pytest.approx(0.12)
    control.saw(-5.0)
    assert control.coefficient == pytest.approx(0.096)


def test_without_a_target_the_coefficient_stays():
    control = KLControl(0.05)
    control.saw(3.0)
    assert control.coefficient == 0.05
