"""Batches of rows of one length, dealt in a drawn order: an update over several of them sees short and long rows alike."""

from collections.abc import Iterator
from typing import Any

import torch
from swift.dataloader.shard import BatchSamplerShard

_plain = BatchSamplerShard.__iter__


def mix_lengths() -> None:
    """Let `--group_by_length` deal its batches in a drawn order; doing it again changes nothing.

    ms-swift deals them from the longest rows of some 50 batches to the shortest, so that one update sees long rows alone and the next ones
    ever shorter ones: held-out loss was 5 % higher (benchmarks/bench_sft_length.py). Its epochs, seeds and shares of the ranks stay.
    """
    BatchSamplerShard.__iter__ = _mixed


def _mixed(self: Any) -> Iterator[list[int]]:
    if not self.group_by_length:
        yield from _plain(self)
        return
    from transformers.trainer_pt_utils import get_length_grouped_indices

    generator = torch.Generator()
    generator.manual_seed(self.curr_seed)
    together = self.batch_size * self.world_size  # at a time over all ranks
    order = get_length_grouped_indices(self.lengths, together, generator=generator)
    order = order[: len(order) // self.world_size * self.world_size]
    whole = len(order) // together
    # The first one holds the longest row: what does not fit fails at once.
    drawn = [0, *(torch.randperm(whole - 1, generator=generator) + 1).tolist()] if whole else []
    for at in drawn:
        yield order[at * together : (at + 1) * together][self.rank :: self.world_size]
    if (rest := order[whole * together :][self.rank :: self.world_size]) and not self.drop_last:
        yield rest
