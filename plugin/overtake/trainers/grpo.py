"""GRPO whose unmeasured rewards abstain: ms-swift counts None as 0, which makes a failed call the best or worst sample of its group."""

from collections.abc import Sequence
from typing import Any

import torch
from swift.rl_core.data import GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer


class GRPOTrainer(SwiftGRPOTrainer):
    """ms-swift's GRPOTrainer, with `None` of a reward neutral and counted as `reward_abstain/<name>`.

    Each unmeasured value takes the mean of the measured ones of its group and reward, so the sample's advantage from that reward is 0;
    a group without any takes 0 throughout, so it contributes nothing. This is not yet exact: a value at the mean narrows the
    standard deviation that the siblings are divided by (.9, .8, None, .7: 1.22 instead of 1.00 for the first), and with
    `--scale_rewards batch` and in the `reward` curve filled values count like measured ones.
    `--scale_rewards gdpo` leaves None out by itself and is left alone.
    """

    def _generate_completions(self, samples: list[GRPOSample]) -> list[GRPOSample]:
        """A completion that ends at once is the end token alone: ms-swift 4.6.0 leaves it without ids and fails on its shape."""
        samples = super()._generate_completions(samples)
        for sample in samples:
            if not sample.response_token_ids:
                sample.response_token_ids = [self.processing_class.eos_token_id]
        return samples

    def _compute_rewards_per_func(self, samples: list[GRPOSample]) -> torch.Tensor:
        rewards: torch.Tensor = super()._compute_rewards_per_func(samples)
        mode = "train" if self.model.training else "eval"
        for name, share in zip(self.reward_func_names, torch.isnan(rewards).float().mean(dim=0).tolist(), strict=True):
            self._metrics[mode][f"reward_abstain/{name}"].append(share)
        if self.scale_rewards == "gdpo":
            return rewards
        return fill_unmeasured(rewards, self._groups(samples, len(rewards), mode))

    def _groups(self, samples: list[GRPOSample], count: int, mode: str) -> list[Any]:
        """The group of each row of the gathered matrix, as the advantages will see them."""
        if self.dynamic_num_samples:
            from accelerate.utils import gather_object

            return list(gather_object([sample.prompt_id for sample in samples]))
        size = self.num_generations if mode == "train" else self.num_generations_eval
        return [index // size for index in range(count)]


def fill_unmeasured(rewards: torch.Tensor, groups: Sequence[Any]) -> torch.Tensor:
    """Replace each NaN of [samples, rewards] by the mean of its group's measured values of that reward, or by 0 where there is none.

    >>> fill_unmeasured(torch.tensor([[0.5], [float("nan")], [float("nan")], [float("nan")]]), ["a", "a", "b", "b"]).flatten().tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    filled = rewards.clone()
    for group in dict.fromkeys(groups):
        rows = [index for index, other in enumerate(groups) if other == group]
        means = torch.nan_to_num(torch.nanmean(rewards[rows], dim=0), nan=0.0)
        filled[rows] = torch.where(torch.isnan(rewards[rows]), means, rewards[rows])
    return filled
