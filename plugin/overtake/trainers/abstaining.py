"""Advantages of a batch with unmeasured rewards: exactly what ms-swift computes on the measured samples alone.

Which samples are measured, and what they are measured by, is decided for each group (spec: a reward that is missing for a whole
group drops out of it, one that is missing for some members takes these members out):

* A reward that no member of the group has weighs nothing in that group, and the other weights grow so that the sum of all (of
  their absolute values) stays. All members are still compared by one formula. Without the growth such a group would spread less
  than the others, so that `--scale_rewards batch` and `none` would teach it less for an outage; `group` divides it out again.
  So a reward that exists for one kind of task only (None elsewhere) makes those other groups count fully, not partly.
* A member without a reward that a sibling has **abstains**: its sum would lack a part that theirs hold. This is so under `gdpo` too,
  which normalises each reward by itself and could count the rest: a sum that lacks a part is still no sum of all parts, and one
  rule is easier to trust than two.
* A reward of weight 0 decides nothing and makes nobody abstain.
* A group of which no reward of any weight was measured abstains as a whole.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from swift.rl_core.advantage import compute_advantages, compute_advantages_dynamic, compute_reward_metrics

UNMEASURED = float("nan")


def has_gaps(rewards: torch.Tensor, weights: torch.Tensor) -> bool:
    """Return whether a reward that weighs anything is NaN anywhere in [samples, rewards].

    >>> has_gaps(torch.tensor([[1.0, UNMEASURED]]), torch.tensor([1.0, 0.0]))
    False
    """
    return bool(torch.isnan(rewards[:, weights != 0]).any())


def complete_requests(rewards: torch.Tensor, requests: Sequence[Hashable] | None) -> torch.Tensor:
    """Give the rows of one request what any of them measured; ms-swift refuses a request whose rows differ, and keeps doing so.

    >>> complete_requests(torch.tensor([[UNMEASURED], [0.5], [UNMEASURED]]), ["a", "a", "b"]).flatten().tolist()
    [0.5, 0.5, nan]
    """
    filled = rewards.clone()
    for rows in _rows(requests or []):
        filled[rows] = torch.where(torch.isnan(rewards[rows]), torch.nanmean(rewards[rows], dim=0), rewards[rows])
    return filled


def total_rewards(rewards: torch.Tensor, weights: torch.Tensor, groups: Sequence[Hashable]) -> torch.Tensor:
    """The weighted sum of each sample, [samples], NaN for those that abstain; rewards are [samples, rewards], weights [rewards].

    >>> rewards, weights = torch.tensor([[0.5, 1.0], [UNMEASURED, 1.0]]), torch.tensor([1.0, 0.25])
    >>> total_rewards(rewards, weights, ["a", "a"]).tolist()  # one of a's two lacks the first reward
    [0.75, nan]
    >>> total_rewards(rewards, weights, ["a", "b"]).tolist()  # all of b lack it: 1.0 * (1.0 + 0.25)
    [0.75, 1.25]
    """
    member, by_group = _weights_by_group(rewards, weights, groups)
    own = by_group[member]
    # A weight of NaN (nothing measured in the group) stays NaN; a gap counts only where the weight is not 0.
    return torch.where(own == 0, 0.0, rewards * own).sum(dim=1)


def advantages(
    rewards: torch.Tensor,
    weights: torch.Tensor,
    groups: Sequence[Hashable],
    requests: Sequence[Hashable] | None = None,
    *,
    scale_rewards: str = "group",
    kl_values: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (advantages, totals), both [samples]: 0 and NaN where a sample abstains, elsewhere ms-swift's on the measured alone.

    `requests` names the request of each row where one may have several (ms-swift's request-aware mode, which reads gdpo as none).
    The rest is of `swift.rl_core.advantage.compute_advantages`, whose estimators are called and not copied.

    >>> found, totals = advantages(torch.tensor([[0.9], [0.8], [UNMEASURED], [0.7]]), torch.ones(1), [0] * 4)
    >>> [round(value, 2) for value in found.tolist()]  # the deviation of .9 .8 .7 is .1
    [1.0, 0.0, 0.0, -1.0]
    """
    totals = total_rewards(rewards, weights, groups)
    scored = (~torch.isnan(totals)).nonzero().flatten()
    by_row = torch.zeros_like(totals)
    if not len(scored):
        return by_row, totals
    rows = scored.tolist()
    options |= {"scale_rewards": scale_rewards, "kl_values": None if kl_values is None else kl_values[scored]}
    # With reinforce_plus_plus, as with several rows a request, ms-swift reads gdpo as none.
    if scale_rewards == "gdpo" and options.get("advantage_estimator") != "reinforce_plus_plus" and requests is None:
        if len(rows) > 1:  # of one alone gdpo makes NaN
            wide, wide_weights = _a_column_for_each_group(rewards, weights, groups)
            by_row[scored] = compute_advantages(wide[scored], wide_weights, num_generations=len(rows), **options)[0]
    else:
        by_row[scored], totals[scored] = compute_advantages_dynamic(
            totals[scored].unsqueeze(1),
            torch.ones_like(weights[:1]),
            [groups[row] for row in rows],
            rows if requests is None else [requests[row] for row in rows],
            **options,
        )
    return by_row, totals


def reward_metrics(totals: torch.Tensor, groups: Sequence[Hashable], scale_rewards: str) -> dict[str, float]:
    """Return `reward`, `reward_std` and `frac_reward_zero_std` as ms-swift defines them, over the samples whose total is not NaN.

    NaN each when there is none; a group with one measured sample has deviation 0, as ms-swift's group of one.

    >>> reward_metrics(torch.tensor([0.25, UNMEASURED, 0.75, UNMEASURED]), [0, 0, 0, 1], "none")["reward"]
    0.5
    """
    scored = ~torch.isnan(totals)
    if not scored.any():
        return dict.fromkeys(("reward", "reward_std", "frac_reward_zero_std"), UNMEASURED)

    def measure(values: torch.Tensor) -> tuple[float, float]:
        measured = compute_reward_metrics(values, values.unsqueeze(1), [], len(values), "group")
        return measured.reward_std, measured.frac_reward_zero_std

    values = [totals[rows][scored[rows]] for rows in _rows(groups)]
    spreads = [measure(group) for group in values if len(group)]
    batch = measure(totals[scored])[0]
    return {
        "reward": totals[scored].mean().item(),
        "reward_std": batch if scale_rewards == "batch" else sum(std for std, _ in spreads) / len(spreads),
        "frac_reward_zero_std": sum(zero for _, zero in spreads) / len(spreads),
    }


def group_deviations(totals: torch.Tensor, groups: Sequence[Hashable]) -> torch.Tensor:
    """The standard deviation of each sample's group over its measured totals, [samples]; 0 where fewer than two are measured.

    >>> group_deviations(torch.tensor([0.0, 1.0, UNMEASURED, 0.5, UNMEASURED]), [0, 0, 0, 1, 1])
    tensor([0.7071, 0.7071, 0.7071, 0.0000, 0.0000])
    """
    deviations = torch.zeros_like(totals)
    for rows in _rows(groups):
        measured = totals[rows][~torch.isnan(totals[rows])]
        if len(measured) > 1:
            deviations[rows] = measured.std()
    return deviations


def once(totals: torch.Tensor, requests: Sequence[Hashable] | None) -> torch.Tensor:
    """The totals, all but the last row of each request left out as NaN: ms-swift counts a request once.

    >>> once(torch.tensor([0.5, 1.0, 0.5]), ["a", "b", "a"]).tolist()
    [nan, 1.0, 0.5]
    """
    if requests is None:
        return totals
    last = list({request: row for row, request in enumerate(requests)}.values())
    counted = torch.full_like(totals, UNMEASURED)
    counted[last] = totals[last]
    return counted


def _rows(groups: Sequence[Hashable]) -> list[list[int]]:
    """The rows of each group, groups in the order of their first row."""
    by_group: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        by_group.setdefault(group, []).append(row)
    return list(by_group.values())


def _weights_by_group(rewards: torch.Tensor, weights: torch.Tensor, groups: Sequence[Hashable]) -> tuple[torch.Tensor, torch.Tensor]:
    """(group of each row [samples], weights of each group [groups, rewards]); the weights are NaN where nothing was measured."""
    number = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    member = torch.tensor([number[group] for group in groups], device=rewards.device)
    counts = torch.zeros(len(number), len(weights), dtype=torch.long, device=rewards.device)
    counts.index_add_(0, member, (~torch.isnan(rewards)).long())
    counted = torch.where(counts > 0, weights, 0.0)
    return member, counted * (weights.abs().sum() / counted.abs().sum(dim=1, keepdim=True))


def _a_column_for_each_group(rewards: torch.Tensor, weights: torch.Tensor, groups: Sequence[Hashable]) -> tuple[torch.Tensor, torch.Tensor]:
    """[samples, rewards] and [rewards] as [samples, groups * rewards] and [groups * rewards], NaN outside a row's own group.

    gdpo normalises column by column and leaves NaN out, then whitens over the batch. So with a column for each group it takes groups
    of any size, and weights of their own, in one call as a single group.
    """
    member, by_group = _weights_by_group(rewards, weights, groups)
    wide = torch.full((len(rewards), *by_group.shape), UNMEASURED, dtype=rewards.dtype, device=rewards.device)
    wide[torch.arange(len(rewards), device=rewards.device), member] = rewards
    return wide.flatten(start_dim=1), torch.nan_to_num(by_group, nan=0.0).flatten()
