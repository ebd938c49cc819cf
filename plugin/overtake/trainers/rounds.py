"""The rows of a run against its rounds: how many mini-batches a round of PPO has room for, and in which order rows are drawn."""

from collections.abc import Iterator
from typing import Any


def mini_batches(rows: int, size: int, most: int, siblings: int = 1) -> int:
    """Count the mini-batches of `size` completions that a round of PPO has, at most `most`: as the rows fill, `siblings` completions each.

    >>> [mini_batches(rows, 64, 4) for rows in (64, 100, 200, 400, 1000)]
    [1, 1, 3, 4, 4]

    Raises ValueError for rows that do not fill one.
    """
    fitting = [count for count in range(1, most + 1) if count * size <= rows * siblings and count * size % siblings == 0]
    if not fitting:
        raise ValueError(
            f"{rows} rows fill no mini-batch of {size}: give more rows, or lower --gradient_accumulation_steps or "
            "--per_device_train_batch_size"
        )
    return fitting[-1]


def next_multiple(steps: float, of: int) -> float:
    """The number of steps, raised to a whole multiple; a share of all steps, below 1, stays.

    >>> next_multiple(32, 12), next_multiple(36, 12), next_multiple(0.1, 12)
    (36, 36, 0.1)
    """
    return steps if steps < 1 else -(-int(steps) // of) * of


class EveryRow:
    """The rows of an epoch in whole batches of `batch_size`; TRL's RepeatSampler leaves out the same tail each time rows are not shuffled.

    Here what an epoch leaves out begins the next. `fill`: there is no next, so the last batch is filled up with the first rows.

    >>> order = EveryRow(7, 3, shuffle=False, seed=0)
    >>> order.rows(0), order.rows(1), order.rows(2)
    ([0, 1, 2, 3, 4, 5], [6, 0, 1, 2, 3, 4], [5, 6, 0, 1, 2, 3])
    >>> EveryRow(7, 3, shuffle=False, seed=0, fill=True).rows(0)
    [0, 1, 2, 3, 4, 5, 6, 0, 1]
    """

    def __init__(self, count: int, batch_size: int, *, shuffle: bool, seed: int | None, fill: bool = False) -> None:
        self.count, self.shuffle, self.seed = count, shuffle, seed
        whole, rest = divmod(count, batch_size)
        self.drawn = (whole + bool(whole and rest and fill)) * batch_size
        """In an epoch."""

    def rows(self, epoch: int) -> list[int]:
        """The rows that an epoch draws, by their index."""
        if not self.shuffle:
            return [at % self.count for at in range(epoch * self.drawn, (epoch + 1) * self.drawn)]
        order: list[int] = []
        undrawn: list[int] = []
        for mixed in self._mixed(epoch + 1):
            remaining = set(undrawn)
            order = [*undrawn, *(row for row in mixed if row not in remaining)]
            undrawn = order[self.drawn :]
        return [*order, *order][: self.drawn]

    def _mixed(self, epochs: int) -> Iterator[list[int]]:
        import torch

        generator = torch.Generator()
        if self.seed is not None:
            generator.manual_seed(self.seed)
        for _ in range(epochs):
            yield torch.randperm(self.count, generator=generator).tolist()


def with_every_row(sampler: Any, *, fill: bool) -> Any:
    """TRL's RepeatSampler, drawing as EveryRow says."""
    order = EveryRow(sampler.num_samples, sampler.batch_size, shuffle=sampler.shuffle, seed=sampler.seed, fill=fill)

    class Sampler(type(sampler)):  # type: ignore[misc]  # loaded with TRL only
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            """Called by accelerate before each epoch, also after a restart."""
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            rows = order.rows(self.epoch)
            for start in range(0, len(rows), self.batch_size):
                for _ in range(self.repeat_count):
                    for row in rows[start : start + self.batch_size]:
                        yield from [row] * self.mini_repeat_count

        def __len__(self) -> int:
            return order.drawn * self.mini_repeat_count * self.repeat_count

    sampler.__class__ = Sampler
    return sampler
