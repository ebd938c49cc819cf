"""The arithmetic of PPO on batches of completions (Schulman et al. 2017): rewards by token, GAE, whitening, losses, KL control.

All tensors are [completions, tokens]. A mask is True on a completion's own tokens, which stand next to each other; what it leaves out has
no part in anything. Pure: no trainer, no model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-8
"""Added to a variance before its root."""

Sum = Callable[[Tensor], Tensor]
"""Adds a tensor up over all ranks."""


def token_rewards(scores: Tensor, logps: Tensor, ref_logps: Tensor | None, mask: Tensor, kl_coef: float) -> Tensor:
    """Return -kl_coef (log p - log p_ref) on each token, and on the last the score, [completions], too (Ziegler et al. 2019, eq. 2).

    >>> ones = torch.ones(1, 3, dtype=torch.bool)
    >>> token_rewards(torch.tensor([1.0]), torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-1.5, -1.0, -0.5]]), ones, 0.1)
    tensor([[-0.0500,  0.0000,  1.0500]])
    """
    rewards = torch.zeros_like(logps) if ref_logps is None else kl_coef * (ref_logps - logps)
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    return (rewards + last * scores.unsqueeze(1)).masked_fill(~mask, 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Return (advantages, returns) by generalised advantage estimation (Schulman et al. 2016, eq. 16); after the end nothing has value.

    values[:, t] is the critic's before token t, returns are advantages + values.

    >>> ones = torch.ones(1, 2, dtype=torch.bool)
    >>> gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), ones, gamma=1.0, lam=0.5)
    (tensor([[0.1250, 0.7500]]), tensor([[0.6250, 1.0000]]))
    """
    advantages = torch.zeros_like(rewards)
    ahead, beyond = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for at in reversed(range(rewards.shape[1])):
        here = mask[:, at]
        delta = rewards[:, at] + gamma * beyond - values[:, at]
        ahead = torch.where(here, delta + gamma * lam * ahead, 0.0)
        beyond = torch.where(here, values[:, at], 0.0)
        advantages[:, at] = ahead
    return advantages, (advantages + values).masked_fill(~mask, 0.0)


def moments(values: list[Tensor], masks: list[Tensor], add: Sum) -> tuple[Tensor, Tensor]:
    """Return (mean, variance, unbiased) over the masked tokens of all batches and ranks; (0, 1) where there are fewer than two."""
    device = values[0].device
    count = add(torch.stack([mask.sum() for mask in masks]).sum().double().to(device))
    mean = add(torch.stack([(batch.double() * mask).sum() for batch, mask in zip(values, masks, strict=True)]).sum()) / count.clamp(min=1)
    off = add(torch.stack([((batch.double() - mean).square() * mask).sum() for batch, mask in zip(values, masks, strict=True)]).sum())
    variance = off / (count - 1).clamp(min=1) if count > 1 else torch.ones_like(off)
    return (mean if count > 1 else torch.zeros_like(mean)).float(), variance.float()


def whitened(values: list[Tensor], masks: list[Tensor], add: Sum, *, keep_mean: bool = False) -> list[Tensor]:
    """The same with deviation 1 and, unless it is to be kept, mean 0, over the masked tokens of all batches and ranks.

    >>> found = whitened([torch.tensor([[1.0, 3.0, 9.0]])], [torch.tensor([[True, True, False]])], lambda one: one)
    >>> found[0]
    tensor([[-0.7071,  0.7071,  0.0000]])
    """
    mean, variance = moments(values, masks, add)
    shift = mean if keep_mean else torch.zeros_like(mean)
    scale = torch.rsqrt(variance + EPS)
    return [((batch - mean) * scale + shift).masked_fill(~mask, 0.0) for batch, mask in zip(values, masks, strict=True)]


class Losses(NamedTuple):
    """Sums over the masked tokens of a batch; divided by their number they are means."""

    policy: Tensor
    """-min(ratio A, clip(ratio) A)."""
    value: Tensor
    """The larger squared error, of the value and of the value kept near the old one: not half of it, as in TRL."""
    entropy: Tensor
    clipped: Tensor
    """Tokens on which the clipped ratio counted."""
    value_clipped: Tensor
    kl: Tensor
    """Of the new policy from the one that sampled: half of the squared difference of log-probabilities."""
    ratio: Tensor
    tokens: Tensor


def losses(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    entropies: Tensor,
    mask: Tensor,
    *,
    cliprange: float,
    cliprange_value: float,
) -> Losses:
    """The parts of PPO's loss (eq. 7 and 9 of the paper).

    A token of ratio 1.22 and advantage 0.15: the ratio is clipped to 1.2, the loss is -min(1.22 x 0.15, 1.2 x 0.15) = -0.18.

    >>> ratio, advantage, value, returned, entropy = (torch.tensor([[one]]) for one in (1.22, 0.15, 0.5, 1.0, 2.0))
    >>> old, all_of_it = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    >>> found = losses(ratio.log(), old, advantage, value, value, returned, entropy, all_of_it, cliprange=0.2, cliprange_value=0.2)
    >>> round(found.ratio.item(), 4), round(found.policy.item(), 4), found.clipped.item(), found.value.item(), found.entropy.item()
    (1.22, -0.18, 1.0, 0.25, 2.0)
    """
    difference = (logps - old_logps).masked_fill(~mask, 0.0)
    ratio = difference.exp()
    plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    near = old_values + (values - old_values).clamp(-cliprange_value, cliprange_value)
    error, near_error = (values - returns).square(), (near - returns).square()

    def total(by_token: Tensor) -> Tensor:
        return by_token.masked_fill(~mask, 0.0).sum()

    return Losses(
        policy=-total(torch.min(plain, clipped)),
        value=total(torch.max(error, near_error)),
        entropy=total(entropies),
        clipped=total((clipped < plain).float()),
        value_clipped=total((near_error > error).float()),
        kl=0.5 * total(difference.square()),
        ratio=total(ratio),
        tokens=mask.sum(),
    )


@dataclass
class KLControl:
    """The KL coefficient: fixed, or moved after each rollout so that the KL from the reference comes near a target.

    Ziegler et al. 2019, eq. 4: the error is the share by which the KL misses its target, kept within 0.2. Theirs moves the coefficient by a
    tenth of it, for runs of many thousand batches; a run here has tens, so it is moved by the whole.

    >>> control = KLControl(0.05, target=0.1)
    >>> control.saw(0.11)
    >>> round(control.coefficient, 4)
    0.055
    >>> control.saw(0.0)
    >>> round(control.coefficient, 4)
    0.044
    """

    coefficient: float
    target: float = 0.0
    """Mean KL of a token in nats; 0: the coefficient is fixed."""

    def saw(self, kl: float) -> None:
        """A rollout had this mean KL."""
        if self.target:
            self.coefficient *= 1 + max(-0.2, min(0.2, kl / self.target - 1))
