"""Measuring a batch of rewrites: what the RAG service recalls for them and what the judge says of them. An outage is never a score."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from overtake import settings
from overtake.reading.tags import strip_think
from overtake.remote import budget, chat, faults, rag
from overtake.remote.gateway import Failed, Ok, Result
from overtake.retrieval.metrics import quality
from overtake.rewards import trace
from overtake.tasks.query_rewrite.judge import Verdict, judge_call, verdict
from overtake.tasks.query_rewrite.rewards.relevance import relevances

_SMALLEST_TELLING_BATCH = 8


ABSTAINED = (
    *("timeout", "connection", "http_429", "http_4xx", "http_5xx", "malformed", "error_inside", "too_large", "unusable"),
    *("deadline", "budget", "circuit", "bug", "no_baseline", "no_weight", "other"),
)
"""Why a sample has no score: `Failed.kind` of what it lacks, HTTP statuses by class; `no_baseline`: the data lacks the teacher's side;
`no_weight`: what was measured weighs nothing."""


class Outage(RuntimeError):
    """Nothing can be measured any more: a service is down, or the budget is spent. The run stops instead of training on noise."""


@dataclass(unsafe_hash=True)
class Row:
    """One rewrite and what its dataset row says; `group` is the same for the completions of one prompt. Not to be changed.

    Not frozen only since that would triple the time to make one.
    """

    rewrite: str
    """Without its think block; "" is a rewrite too, a worthless one."""
    group: str
    query_id: str
    query: str
    tenant: str
    kb: str
    gold: tuple[str, ...]
    teacher_rewrite: str
    teacher_recall: tuple[rag.Hit, ...] | None
    """None: not in the data, to be asked live."""
    teacher_judge: float | None
    """0 to 5; None: not known."""


@dataclass(frozen=True)
class Retrieval:
    """What the student's and the teacher's rewrite recall, and the gold documents, if any, that tell how relevant it is."""

    student_recall: tuple[rag.Hit, ...]
    teacher_recall: tuple[rag.Hit, ...]
    gold: tuple[str, ...] = ()

    @cached_property
    def student(self) -> list[float]:
        """Relevances of the student's recall."""
        return relevances(self.student_recall, self.gold)

    @cached_property
    def teacher(self) -> list[float]:
        """Relevances of the teacher's recall."""
        return relevances(self.teacher_recall, self.gold)

    @cached_property
    def student_quality(self) -> float:
        """Spec 1.5's quality of the student's recall."""
        return quality(self.student)

    @cached_property
    def teacher_quality(self) -> float:
        """Spec 1.5's quality of the teacher's recall."""
        return quality(self.teacher)


Retrieving = Callable[[], list[Retrieval | Failed]]
Judging = Callable[[], list[Verdict | Failed | None]]


def column(columns: Mapping[str, Any], name: str, rows: int, tool: str = "tools/convert.py") -> list[Any]:
    """A dataset column as the trainer hands it over: one value for each completion. `tool` is named as what makes it.

    Raises ValueError when it is missing or of another length.
    """
    values = columns.get(name)
    if not isinstance(values, list | tuple):
        raise ValueError(f"the dataset has no column {name}: make the training files with {tool}")
    if len(values) != rows:
        raise ValueError(f"column {name} holds {len(values)} values for {rows} completions: they must be as many")
    return list(values)


def read_rows(completions: Sequence[str], columns: Mapping[str, Any]) -> list[Row]:
    """Completions with their columns, read. Completions of one `prompt_id` are a group; without it (PPO) each stands alone.

    Raises ValueError naming the column for a missing one, another length, or a value out of form.
    """
    count = len(completions)
    names = ("query_id", "query", "tenant", "kb", "gold", "teacher_rewrite", "teacher_recall", "teacher_judge")
    read = {name: ["" if value is None else value for value in column(columns, f"rag_{name}", count)] for name in names}
    groups = column(columns, "prompt_id", count) if columns.get("prompt_id") else range(count)
    rows = []
    for index, (completion, group) in enumerate(zip(completions, groups, strict=True)):
        here = {name: str(values[index]) for name, values in read.items()}
        if not here["query"].strip():
            raise ValueError(f"rag_query is empty in the row with rag_query_id {here['query_id']!r}: make the files with tools/convert.py")
        recall, gold = _list(here, "teacher_recall"), _list(here, "gold")
        rows.append(
            Row(
                rewrite=strip_think(completion),
                group=str(group),
                query_id=here["query_id"],
                query=here["query"],
                tenant=here["tenant"],
                kb=here["kb"] or "default",
                gold=tuple(map(str, gold or ())),
                teacher_rewrite=here["teacher_rewrite"],
                teacher_recall=None if recall is None else tuple(rag.Hit(*hit) for hit in recall),
                teacher_judge=_points(here),
            )
        )
    return rows


def _list(row: Mapping[str, str], name: str) -> list[Any] | None:
    if not row[name]:
        return None
    value = _json(row[name])
    if not isinstance(value, list):
        raise ValueError(f"rag_{name} of {row['query_id']!r} is no JSON list: {row[name][:100]!r}; make the files with tools/convert.py")
    return value


@lru_cache(maxsize=1024)
def _json(text: str) -> Any:
    """What JSON a cell holds, None where it holds none: the same for all members of a group, so it is read once."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _points(row: Mapping[str, str]) -> float | None:
    try:
        points = float(row["teacher_judge"]) if row["teacher_judge"] else None
    except ValueError:
        points = -1.0
    if points is not None and not 0 <= points <= 5:
        raise ValueError(f"rag_teacher_judge of {row['query_id']!r} is {row['teacher_judge']!r}: it must be empty or 0 to 5")
    return points


def step_of(columns: Mapping[str, Any]) -> int | None:
    """The trainer's step, the same on every rank; None when the caller has no trainer."""
    return getattr(columns.get("trainer_state"), "global_step", None)


def retrievals(rows: Sequence[Row], step: int | None = None) -> Retrieving:
    """Start all retrievals of a batch; the function returned waits for them. Failed, with the reason, where there is no measurement.

    An empty rewrite recalls nothing, which needs no call. The teacher's recall is asked for only where the data lacks it; a row
    without the teacher's rewrite too has no baseline and abstains. The rewards of one step share what was measured.
    Waiting raises Outage when most of a batch failed.
    """
    return _retrievals(tuple(rows)) if step is None else _retrievals_of_step(tuple(rows), step)


def _retrievals(rows: tuple[Row, ...]) -> Retrieving:
    # Equal rewrites are one request for the gateway, yet each counts: in the share of cache hits, and in the outage rule.
    students = [row for row in rows if row.rewrite]
    teachers = [row for row in rows if row.teacher_recall is None and row.teacher_rewrite]
    asked = [(row, row.rewrite) for row in students] + [(row, row.teacher_rewrite) for row in teachers]
    calls = [rag.rag_call(row.query, text, row.tenant, row.kb, labelled=bool(row.gold)) for row, text in asked]
    future = rag.rag_gateway().submit(calls, settings.load().batch_deadline)

    def wait() -> list[Retrieval | Failed]:
        results = future.result()
        remedy = f"See to the RAG service at {faults.without_secrets(settings.load().rag_url)}"
        stop_on_outage(results[: len(students)], "retrievals", remedy)
        of_students, of_teachers = iter(results[: len(students)]), iter(results[len(students) :])
        return [_retrieval(row, of_students, of_teachers) for row in rows]

    return wait


def _retrieval(row: Row, of_students: Iterator[Result], of_teachers: Iterator[Result]) -> Retrieval | Failed:
    student: Result = next(of_students) if row.rewrite else Ok({"recall": []})
    teacher: Result | None = next(of_teachers) if row.teacher_recall is None and row.teacher_rewrite else None
    if isinstance(student, Failed):
        return student
    if isinstance(teacher, Failed):
        return teacher
    known = row.teacher_recall if teacher is None else tuple(rag.hits(teacher.value))
    if known is None:
        return Failed("the row has neither the teacher's recall nor a rewrite of the teacher's", "no_baseline", outage=False)
    return Retrieval(tuple(rag.hits(student.value)), known, row.gold)


@lru_cache(maxsize=1)
def _retrievals_of_step(rows: tuple[Row, ...], step: int) -> Retrieving:
    return _retrievals(rows)


def stop_on_outage(results: Sequence[Result], what: str, remedy: str, *, most: float = 0.5) -> None:
    """Raise Outage when a service was given up or the budget is spent; and when, of 8 or more, it was down for more than the share
    `most`, or refused every one."""
    failed = [result for result in results if isinstance(result, Failed)]
    down = [result for result in failed if result.outage]
    over = [result for result in failed if result.kind in ("circuit", "budget")]
    told = len(results) >= _SMALLEST_TELLING_BATCH
    if over or (told and (len(down) > len(results) * most or len(failed) == len(results))):
        raise Outage(
            f"{len(failed)} of {len(results)} {what} of this batch failed, e.g.: {(over or failed)[-1].reason}. What is learnt from so few "
            f"measurements would be noise, so the run stops. {remedy}, then go on: training with --resume_from_checkpoint, sampling by the "
            "same command. What was answered is kept, nothing is paid twice."
        )


def judge_share(step: int | None) -> float:
    """The share of groups that the judge is asked about: none beyond the soft limit of the budget."""
    return 0.0 if budget.soft_limit_reached(step) else settings.load().judge_share


def to_judge(rows: Sequence[Row], step: int | None, share: float) -> list[bool]:
    """Which rows the judge is asked about: whole groups, drawn by a hash of query and step, where the teacher's own score is known.

    The hash makes every rank and every process draw the same. Judging single completions is worse than no judge (spec trap 7).
    """
    return [row.teacher_judge is not None and is_drawn(row.query_id, step, share) for row in rows]


def is_drawn(query_id: str, step: int | None, share: float) -> bool:
    """Whether a group is among the share that a judge is asked about: the same on every rank, another draw at every step."""
    return _draw(query_id, step or 0) < share


def verdict_needed(
    groups: Sequence[str], asked: Sequence[bool], called: Sequence[bool], verdicts: Sequence[object], group_size: int
) -> list[bool]:
    """Which rows need a verdict to be scored: those of the groups of which the judge answered anything.

    Where it answered nothing (`Failed` for all that were `called`) the part is missing for the whole group, and all are scored without
    it. Of a group that is split over ranks, so that fewer than `group_size` are here, the others' verdicts cannot be seen, and one
    formula for all cannot be promised: there the silent rows abstain.
    """
    members_of: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members_of[group].append(index)
    needed = list(asked)
    for members in members_of.values():
        waited = [index for index in members if asked[index] and called[index]]
        if waited and len(members) >= group_size and all(isinstance(verdicts[index], Failed) for index in waited):
            for index in members:
                needed[index] = False
    return needed


@lru_cache(maxsize=1024)
def _draw(query_id: str, step: int) -> float:
    """A number in [0, 1) that depends on query and step alone.

    >>> _draw("q1", 7) == _draw("q1", 7), _draw("q1", 7) == _draw("q1", 8)
    (True, False)
    """
    digest = hashlib.sha256(json.dumps([query_id, step]).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def verdicts(rows: Sequence[Row], asked: Sequence[bool], step: int | None = None) -> Judging:
    """Start the judge on the rows asked for; the function returned waits. None for a row that the judge is not asked about.

    An empty rewrite is worth 0 points, which needs no call. The rewards of one step share the verdicts.
    """
    return _verdicts(tuple(rows), tuple(asked)) if step is None else _verdicts_of_step(tuple(rows), tuple(asked), step)


def _verdicts(rows: tuple[Row, ...], asked: tuple[bool, ...]) -> Judging:
    to = chat.endpoint("judge") if any(asked) else None
    calls = [judge_call(row.query, row.rewrite, to) for row, ask in zip(rows, asked, strict=True) if ask and row.rewrite]
    future = chat.chat_gateway("judge").submit(calls, settings.load().batch_deadline) if calls else None

    def wait() -> list[Verdict | Failed | None]:
        results = future.result() if future else []
        remedy = "See to the judge, or set OVERTAKE_JUDGE_SHARE=0 to go on without it"
        stop_on_outage(results, "verdicts", remedy, most=1.0)
        answers = iter(results)

        def one(row: Row) -> Verdict | Failed:
            result = next(answers) if row.rewrite else Ok({"score": 0.0, "reason": "an empty rewrite"})
            return verdict(result.value) if isinstance(result, Ok) else result

        return [one(row) if ask else None for row, ask in zip(rows, asked, strict=True)]

    return wait


@lru_cache(maxsize=1)
def _verdicts_of_step(rows: tuple[Row, ...], asked: tuple[bool, ...], step: int) -> Judging:
    return _verdicts(rows, asked)


def why_abstained(kind: str) -> str:
    """The reason in `ABSTAINED` for a `Failed.kind`, one of a few so that every rank logs the same names.

    >>> why_abstained("http_503"), why_abstained("http_429"), why_abstained("timeout"), why_abstained("")
    ('http_5xx', 'http_429', 'timeout', 'other')
    """
    found = kind if kind in ABSTAINED else re.sub(r"^(http_[45])\d\d$", r"\1xx", kind)
    return found if found in ABSTAINED else "other"


def trace_retrievals(rows: Sequence[Row], found: Sequence[Retrieval | Failed]) -> None:
    """Keep the recall lists, or why there are none, in the trace."""
    measured = [pair if isinstance(pair, Retrieval) else None for pair in found]
    trace.note(
        {
            "query_id": [row.query_id for row in rows],
            "query": [row.query for row in rows],
            "rewrite": [row.rewrite for row in rows],
            "gold": [row.gold for row in rows],
            "recall": [pair and [[hit.doc_id, hit.score] for hit in pair.student_recall] for pair in measured],
            "quality": [pair and pair.student_quality for pair in measured],
            "teacher_recall": [pair and [[hit.doc_id, hit.score] for hit in pair.teacher_recall] for pair in measured],
            "teacher_quality": [pair and pair.teacher_quality for pair in measured],
            "retrieval_failed": [_words(pair) for pair in found],
        }
    )


def trace_verdicts(rows: Sequence[Row], found: Sequence[Verdict | Failed | None]) -> None:
    """Keep the verdicts, or why there are none, in the trace."""
    given = [one if isinstance(one, Verdict) else None for one in found]
    trace.note(
        {
            "query_id": [row.query_id for row in rows],
            "query": [row.query for row in rows],
            "rewrite": [row.rewrite for row in rows],
            "points": [one and one.score for one in given],
            "teacher_points": [row.teacher_judge for row in rows],
            "judge_says": [one and one.reason for one in given],
            "judge_failed": [_words(one) for one in found],
        }
    )


def _words(result: object) -> dict[str, str] | None:
    return {"kind": result.kind, "reason": result.reason} if isinstance(result, Failed) else None
