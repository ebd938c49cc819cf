"""Base of a reward: `begin` sends what scoring a batch will ask, `finish` waits and scores; around both `Reward` is what ms-swift calls."""

import inspect
import logging
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from overtake.reading.tags import strip_think
from overtake.rewards import sampling, trace
from overtake.rewards.measuring import Outage
from overtake.rewards.metrics import log_metrics

_log = logging.getLogger(__name__)
_NO_ABSTAINING = {"swift.megatron.trainers.grpo_trainer": "Megatron", "swift.ray.megatron.grpo_trainer": "Ray"}
"""Trainers of ms-swift's in whose sums a reward of None is 0, by the module that a process loads for one."""
_MOST_PENDING = 16
"""Batches that are remembered: within a step each reward may have one or two, and nothing else has to be found again."""

Handle = TypeVar("Handle")
T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """One completion's value, None where it could not be measured, and what the value was made of."""

    value: float | None
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, by the names that it has in the trace."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """What is logged of it; None where it does not count. The same names for every completion, or ranks would wait for each other."""


class FromColumns(Protocol):
    """A task's row class."""

    @classmethod
    def from_columns(cls, cells: Mapping[str, str]) -> Self:
        """The row in a dataset's columns."""


RowType = TypeVar("RowType", bound=FromColumns)


@dataclass
class Batch:
    """Completions and their columns as text, as far as a reward reads them. Not to be changed."""

    completions: list[str]
    columns: dict[str, list[str]]
    groups: list[str]
    """The same for the completions of one prompt, by `prompt_id`; without it (PPO) each stands alone."""
    grouped: bool
    step: int | None
    """The trainer's, the same on every rank; None when there is no trainer."""
    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes of this batch: made once, for all rewards of the step."""
        if name not in self._made:
            self._made[name] = make()
        outcome: T = self._made[name]
        return outcome

    def rows(self, row: type[RowType]) -> list[RowType]:
        """Return its rows, parsed once, one object for all completions of a group. Raises ValueError for a value out of form."""

        def parse() -> list[RowType]:
            by_cells: dict[tuple[str, ...], RowType] = {}
            parsed = []
            for cells in zip(*self.columns.values(), strict=True):
                if cells not in by_cells:
                    by_cells[cells] = row.from_columns(dict(zip(self.columns, cells, strict=True)))
                parsed.append(by_cells[cells])
            return parsed

        return self.once(row, parse)

    @cached_property
    def texts(self) -> list[str]:
        """The completions without their think blocks."""
        return [strip_think(completion) for completion in self.completions]


# The rewards of a step find each other's batch here, so that what one has measured is not asked for again by the next.
_batches: deque[Batch] = deque(maxlen=_MOST_PENDING)


class Reward(Generic[Handle]):
    """A reward of ours. Its subclass says what it reads, asks and makes of it; its name is the metric's name."""

    columns: ClassVar[tuple[str, ...]] = ()
    """Dataset columns that it cannot do without."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Those that it reads where there are any."""
    tool: ClassVar[str] = "the task's tool"
    """What makes files with these columns."""
    run: "Run | None" = None

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.name = type(self).__name__
        self.group_size = getattr(args, "num_generations", None) or 1
        self._pending: deque[tuple[Batch, Handle]] = deque(maxlen=_MOST_PENDING)

    def begin(self, batch: Batch) -> Handle:
        """Send what scoring the batch will ask, and return what `finish` waits by; nothing, where nobody is asked."""
        return None  # type: ignore[return-value]

    def finish(self, batch: Batch, pending: Handle) -> list[Scored]:
        """Score every completion of the batch."""
        raise NotImplementedError

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Begin with these completions; the same call of the reward then finds it on its way."""
        with self._guarded():
            batch = self._read(completions, columns)
            self._pending.append((batch, self.begin(batch)))

    def measure(self, completions: Sequence[str], **columns: Any) -> list[Scored]:
        """The completions' values and what they are made of.

        Raises ValueError for a column that is missing or out of form, Outage when nothing can be measured any more.
        """
        batch = self._read(completions, columns)
        for at, (begun, pending) in enumerate(self._pending):
            if begun == batch:
                del self._pending[at]
                return self.finish(batch, pending)
        return self.finish(batch, self.begin(batch))

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """One value for each completion, None where it could not be measured; or one for each request of `swift sample`.

        Under a trainer of ours whatever is raised ends the run on all ranks; elsewhere it is raised. Under Megatron's or Ray's trainer,
        which would score None as 0, Outage is raised in its place.
        """
        if completions and not isinstance(completions[0], str):
            return self._of_requests(completions)
        with self._timed(completions, columns) as values:
            values[:] = self._values(completions, columns)
        theirs = next(filter(sys.modules.get, _NO_ABSTAINING), "")
        if self.run is None and theirs and (unmeasured := values.count(None)):
            raise Outage(
                f"{self.name}: {unmeasured} of {len(values)} completions were not measured, and {_NO_ABSTAINING[theirs]}'s trainer would "
                "score them 0: see to the service (or OVERTAKE_JUDGE_SHARE=1) and go on from the last checkpoint"
            )
        return values

    def _values(self, completions: Sequence[str], columns: Mapping[str, Any]) -> list[float | None]:
        scored = self.measure(completions, **columns)
        for note, table in ((trace.note, [score.parts for score in scored]), (_log_samples, [score.metrics for score in scored])):
            note({name: [row[name] for row in table] for name in (table[0] if table else ())})
        return [score.value for score in scored]

    def _read(self, completions: Sequence[str], columns: Mapping[str, Any]) -> Batch:
        count = len(completions)
        names = (*self.columns, *(name for name in self.optional if columns.get(name)))
        cells = {name: ["" if value is None else str(value) for value in self._column(columns, name, count)] for name in names}
        grouped = bool(columns.get("prompt_id"))
        groups = map(str, self._column(columns, "prompt_id", count) if grouped else range(count))
        step = getattr(columns.get("trainer_state"), "global_step", None)
        batch = Batch(list(completions), cells, list(groups), grouped, step)
        if step is None:
            return batch
        for recent in _batches:
            if recent == batch:
                return recent
        _batches.append(batch)
        return batch

    def _column(self, columns: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
        values = columns.get(name)
        if not isinstance(values, list | tuple):
            raise ValueError(f"the dataset has no column {name}: make the training files with {self.tool}")
        if len(values) != count:
            raise ValueError(f"column {name} holds {len(values)} values for {count} completions: they must be as many")
        return values

    def _of_requests(self, requests: Sequence[sampling.Request]) -> list[float | None]:
        """Values as ms-swift makes numbers of them, which has no room for None.

        A question of which any draw or the teacher's answer could not be measured gets NaN throughout, which ms-swift leaves out of its
        output, and a warning says so. recipes/sample_rag.sh does better.
        """
        completions, columns = sampling.as_columns(requests)
        values, groups = self._values(completions, columns), columns["prompt_id"]
        unmeasured = Counter(group for group, value in zip(groups, values, strict=True) if value is None)
        for group, count in unmeasured.items():
            of = sampling.name(group)
            _log.warning("%s: %d of %d rewrites of %s not measured: left out", self.name, count, groups.count(group), of)
        return [float("nan") if group in unmeasured else value for group, value in zip(groups, values, strict=True)]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep what is raised as the reason why the run has to stop: an exception on one rank would leave the others waiting for it."""
        try:
            yield
        except Exception as error:
            if self.run is None or not self.run.stops:
                raise
            if not isinstance(error, Outage):
                traceback.print_exc()
            reason = " ".join(str(error).split())
            self.run.reasons.append(reason if isinstance(error, Outage) else f"{self.name} raised {type(error).__name__}: {reason}")

    @contextmanager
    def _timed(self, completions: Sequence[str], columns: Mapping[str, Any]) -> Iterator[list[float | None]]:
        """Room for the values of a batch, which is timed and traced; None throughout where something was raised."""
        started = time.perf_counter()
        if self.run:
            self.run.begin(self, completions, columns)
        values: list[float | None] = []
        with self._guarded():
            yield values
            if len(values) != len(completions):
                raise ValueError(f"{len(values)} values for {len(completions)} completions: they must be as many")
        if len(values) != len(completions):
            values[:] = [None] * len(completions)
        if self.run:
            trace.note({f"rewards/{self.name}": [None if value is None or value != value else float(value) for value in values]})
            self.run.seconds += time.perf_counter() - started


def _log_samples(values: Mapping[str, Sequence[float | None]]) -> None:
    log_metrics({name: [value for value in numbers if value is not None] for name, numbers in values.items()})


class Foreign(Reward[None]):
    """A reward function of another's, timed, traced and guarded like ours."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Start the reward ahead, where it can."""
        with self._guarded():
            if hasattr(self.function, "start"):
                self.function.start(completions, **columns)

    def _values(self, completions: Sequence[str], columns: Mapping[str, Any]) -> list[float | None]:
        return list(self.function(completions, **columns))


class ForeignCoroutine(Foreign):
    """The same of a coroutine, which ms-swift runs together with its like."""

    async def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:  # type: ignore[override]
        """One value for each completion."""
        with self._timed(completions, columns) as values:
            values[:] = await self.function(completions, **columns)
        return values


class Run:
    """State that the rewards of one training share. `stops`: its trainer ends the run for the `reasons`, so that nothing need be raised."""

    def __init__(self, *, stops: bool = False) -> None:
        self.rewards: list[Reward[Any]] = []
        self.stops = stops
        self.reasons: list[str] = []
        """Why the run has to stop."""
        self.seconds = 0.0
        """How long the rewards were waited for."""
        self.about: Callable[[Sequence[str], Mapping[str, Any]], list[dict[str, Any]]] | None = None
        """What the trace says of each completion of a batch; None while there is no trace."""

    def adopt(self, function: Any, name: str) -> Reward[Any]:
        """The reward for ms-swift to call: ours itself, any other function behind one of ours."""
        if not isinstance(function, Reward):
            # ms-swift tells the two kinds apart in this way too.
            waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
            function = (ForeignCoroutine if waits else Foreign)(function)
        function.run, function.name = self, name
        self.rewards.append(function)
        return function

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Begin with all rewards, before any of them is waited for."""
        for reward in self.rewards:
            reward.start(completions, **columns)

    def begin(self, reward: Reward[Any], completions: Sequence[str], columns: Mapping[str, Any]) -> None:
        """A reward is called; the first one's call begins a batch of the trace."""
        if self.about and reward is self.rewards[0]:
            trace.begin(self.about(completions, columns))
