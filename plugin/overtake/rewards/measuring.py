"""Measuring by services, for the rewards that ask them: sending, who is judged, why a sample abstains, and when an outage ends the run."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

from overtake.remote import budget
from overtake.remote.gateway import Call, Failed, Gateway, Result

_SMALLEST_TELLING_BATCH = 8
_SHUT_OUT = ("http_401", "http_403", "http_404")
"""What a service says to every question alike: the key or the address is wrong."""

ABSTAINED = (
    *("timeout", "connection", "http_429", "http_4xx", "http_5xx", "malformed", "error_inside", "too_large", "unusable"),
    *("deadline", "budget", "circuit", "bug", "no_baseline", "no_weight", "other"),
)
"""Why a sample has no score: `Failed.kind` of what it lacks, HTTP statuses by class; `no_baseline`: the data lacks the teacher's side;
`no_weight`: what was measured weighs nothing."""

Results = list[Result | None]


class Outage(RuntimeError):
    """Nothing can be measured any more: a service is down, or the budget is spent. The run stops instead of training on noise."""


def send(gateway: Callable[[], Gateway], calls: Sequence[Call | None], deadline: float) -> Callable[[], Results]:
    """Send calls, all together; the function returned waits for their results, in the calls' places. None is no call and no result.

    `gateway` is not called when there is nothing to send, so that a service that is not needed need not be set.
    """
    sent_calls = [call for call in calls if call is not None]
    if not sent_calls:
        return lambda: [None] * len(calls)
    future = gateway().submit(sent_calls, deadline)

    def wait() -> Results:
        results = iter(future.result())
        return [None if call is None else next(results) for call in calls]

    return wait


def stop_on_outage(results: Sequence[Result | None], questions: Sequence[str], what: str, remedy: str, *, most: float = 1.0) -> None:
    """Raise Outage when what was measured of a batch is too little to learn from. `questions` tells which question each result is of.

    It is when a service was given up or the budget is spent; and, of 8 results or more, when it was down for more than the share `most`, or
    none of them came. What refuses the answers to one question alone (a content filter does) says nothing of the others: these abstain.
    """
    called = [(question, result) for question, result in zip(questions, results, strict=True) if result is not None]
    failed = [(question, result) for question, result in called if isinstance(result, Failed)]
    down = sum(result.outage for _, result in failed)
    over = [result for _, result in failed if result.kind in ("circuit", "budget")]
    shut_out = any(result.kind in _SHUT_OUT for _, result in failed)
    several = len({question for question, _ in failed}) > 1
    nothing = len(failed) == len(called) and (shut_out or several or 2 * down > len(failed))
    if over or (len(called) >= _SMALLEST_TELLING_BATCH and (down > len(called) * most or nothing)):
        raise Outage(
            f"{len(failed)} of {len(called)} {what} of this batch failed, e.g.: {(over or [failed[-1][1]])[-1].reason}. What is learnt "
            f"from so few measurements would be noise, so the run stops. {remedy}, then go on: training with --resume_from_checkpoint, "
            "sampling by the same command. What was answered is kept, nothing is paid twice."
        )


def share_to_judge(share: float, step: int | None) -> float:
    """The share of groups that a judge is asked about: none beyond the soft limit of the budget."""
    return 0.0 if budget.soft_limit_reached(step) else share


def is_drawn(question_id: str, step: int | None, share: float) -> bool:
    """Return whether a group is among the share that a judge is asked about: the same on every rank, another draw at every step.

    Whole groups are drawn: judging single completions is worse than no judge.
    """
    return _draw(question_id, step or 0) < share


@lru_cache(maxsize=1024)
def _draw(question_id: str, step: int) -> float:
    """A number in [0, 1) that depends on question and step alone.

    >>> _draw("q1", 7) == _draw("q1", 7), _draw("q1", 7) == _draw("q1", 8)
    (True, False)
    """
    digest = hashlib.sha256(json.dumps([question_id, step]).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def verdict_needed(
    groups: Sequence[str], to_judge: Sequence[bool], called: Sequence[bool], verdicts: Sequence[object], group_size: int
) -> list[bool]:
    """Return which rows need a verdict to be scored: those of the groups of which the judge answered anything.

    Where it answered nothing (`Failed` for all that were `called`) the part is missing for the whole group, and all are scored without
    it. Of a group that is split over ranks, so that fewer than `group_size` are here, the others' verdicts cannot be seen, and one
    formula for all cannot be promised: there the silent rows abstain.
    """
    members_of: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members_of[group].append(index)
    needed = list(to_judge)
    for members in members_of.values():
        waited = [index for index in members if to_judge[index] and called[index]]
        if waited and len(members) >= group_size and all(isinstance(verdicts[index], Failed) for index in waited):
            for index in members:
                needed[index] = False
    return needed


def why_abstained(kind: str) -> str:
    """The reason in `ABSTAINED` for a `Failed.kind`, one of a few so that every rank logs the same names.

    >>> why_abstained("http_503"), why_abstained("http_429"), why_abstained("timeout"), why_abstained("")
    ('http_5xx', 'http_429', 'timeout', 'other')
    """
    kind_of_failure = kind if kind in ABSTAINED else re.sub(r"^(http_[45])\d\d$", r"\1xx", kind)
    return kind_of_failure if kind_of_failure in ABSTAINED else "other"


def abstain_metrics(value: float | None, *parts: object) -> dict[str, float]:
    """Return `abstain/<reason>` of one sample: 1.0 for why it has no value, by the first of its parts that failed; 0.0 for all else."""
    failed = next((part for part in parts if isinstance(part, Failed)), None)
    why = "" if value is not None else why_abstained(failed.kind) if failed else "no_weight"
    return {f"abstain/{reason}": float(reason == why) for reason in ABSTAINED}


def in_words(part: object) -> dict[str, str] | None:
    """Return what the trace says of a part that failed; None where it did not."""
    return {"kind": part.kind, "reason": part.reason} if isinstance(part, Failed) else None
