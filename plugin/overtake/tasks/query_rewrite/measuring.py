"""Recall lists of rewrites and verdicts on them, measured once a step for all rewards that need it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple, Self

from overtake import settings
from overtake.remote import chat, faults, rag
from overtake.remote.gateway import Call, Failed, Ok, Result
from overtake.rewards.measuring import in_words, is_drawn, send, stop_on_outage
from overtake.rewards.reward import Batch
from overtake.tasks.query_rewrite.columns import GOLD, TEACHER_RECALL
from overtake.tasks.query_rewrite.judge import Verdict, group_call, judge_call, judge_gateway, shown_order, verdict, verdicts_of_group
from overtake.tasks.query_rewrite.rewards.relevance import relevances, worth
from overtake.tasks.query_rewrite.rows import Recall, RewriteRow
from overtake.tasks.query_rewrite.unwrapping import sendable


@dataclass(frozen=True)
class Retrieval:
    """Recall lists of the student's and the teacher's rewrite, and the gold documents, if any, that tell how relevant it is."""

    student_recall: Recall
    teacher_recall: Recall
    gold: tuple[str, ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Self | None:
        """Return what the trace says was retrieved for a sample; None where it was not measured."""
        if parts["recall"] is None:
            return None
        student, teacher = (tuple(rag.Hit(*hit) for hit in parts[name]) for name in ("recall", "teacher_recall"))
        return cls(student, teacher, tuple(parts["gold"]))

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
        """Worth of the student's recall, in [0, 1]."""
        return worth(self.student, self.gold)

    @cached_property
    def teacher_quality(self) -> float:
        """Worth of the teacher's recall, in [0, 1]."""
        return worth(self.teacher, self.gold)


Retrieving = Callable[[], list[Retrieval | Failed]]
Judging = Callable[[], list[Verdict | Failed | None]]


def sent(batch: Batch) -> list[str]:
    """The rewrites that are sent to retriever and judge: "" for one that neither can take, which recalls nothing and is worth nothing."""
    return list(map(sendable, batch.texts))


def retrievals(batch: Batch) -> Retrieving:
    """Start all retrievals of a batch; the function returned waits for them. Failed, with the reason, where there is no measurement.

    An empty rewrite recalls nothing, which needs no call. The teacher's recall is asked for only where the data lacks it; a row
    without the teacher's rewrite too has no baseline and abstains.
    Waiting raises Outage when most of a batch failed.
    """
    return batch.once(retrievals, lambda: _retrievals(batch.rows(RewriteRow), sent(batch)))


def _retrievals(rows: Sequence[RewriteRow], texts: Sequence[str]) -> Retrieving:
    def ask(row: RewriteRow, text: str) -> Call | None:
        return rag.rag_call(row.query, text, row.tenant, row.kb, labelled=bool(row.gold)) if text else None

    # Equal rewrites are one request for the gateway, yet each counts: in the share of cache hits, and in the outage rule.
    deadline = settings.load().batch_deadline
    students = send(rag.rag_gateway, [ask(row, text) for row, text in zip(rows, texts, strict=True)], deadline)
    lacking = [row.teacher_rewrite if row.teacher_recall is None else "" for row in rows]
    teachers = send(rag.rag_gateway, [ask(row, text) for row, text in zip(rows, lacking, strict=True)], deadline)

    @cache
    def wait() -> list[Retrieval | Failed]:
        of_students, of_teachers = (list(map(_named, rows, results())) for results in (students, teachers))
        remedy = f"See to the RAG service at {faults.without_secrets(settings.load().rag_url)}"
        stop_on_outage(of_students, [row.query_id for row in rows], "retrievals", remedy, most=0.5)
        return list(map(_retrieval, rows, of_students, of_teachers))

    return wait


def _named(row: RewriteRow, result: Result | None) -> Result | None:
    """The result, failed where the row has gold documents and the recall does not name its own: 0.0 would be invented."""
    if not isinstance(result, Ok) or not row.gold or all(hit.doc_id is not None for hit in rag.hits(result.value)):
        return result
    fault = f"a recalled document has no doc_id: let the RAG service return it, or leave {GOLD} empty to use its reranker scores"
    return Failed(fault, "malformed", outage=False)


def _retrieval(row: RewriteRow, student: Result | None, teacher: Result | None) -> Retrieval | Failed:
    for result in (student, teacher):
        if isinstance(result, Failed):
            return result
    of_teacher = tuple(rag.hits(teacher.value)) if isinstance(teacher, Ok) else row.teacher_recall
    if of_teacher is None:
        return Failed("the row has neither the teacher's recall nor a rewrite of the teacher's", "no_baseline", outage=False)
    if row.gold and any(hit.doc_id is None for hit in of_teacher):
        return Failed(f"a document of {TEACHER_RECALL} has no doc_id to be compared with {GOLD}", "no_baseline", outage=False)
    return Retrieval(tuple(rag.hits(student.value)) if isinstance(student, Ok) else (), of_teacher, row.gold)


def to_judge(rows: Sequence[RewriteRow], step: int | None, share: float) -> list[bool]:
    """Return which rows the judge is asked about: whole groups, by `is_drawn`, where the teacher's own score is known."""
    return [row.teacher_judge is not None and is_drawn(row.query_id, step, share) for row in rows]


def verdicts(batch: Batch, to_judge: Sequence[bool]) -> Judging:
    """Start the judge on the rows asked for; the function returned waits. None for a row that the judge is not asked about.

    An empty rewrite is worth 0 points, which needs no call. Waiting raises Outage when the judge answers nothing.
    """
    groups = batch.groups if batch.grouped and settings.load().judge_group else list(map(str, range(len(to_judge))))
    return batch.once((verdicts, *to_judge), lambda: _verdicts(batch.rows(RewriteRow), sent(batch), to_judge, groups))


class _Together(NamedTuple):
    """A group whose rewrites are judged in one call."""

    first: int
    """The row that the call is made for."""
    shown: list[str]
    teacher: str


def _together(rows: Sequence[RewriteRow], texts: Sequence[str], asked: Sequence[bool], groups: Sequence[str]) -> dict[int, _Together]:
    """The group of each row that is judged with its siblings; a rewrite that stands alone here, as in PPO, is judged alone."""
    members: dict[str, list[int]] = {}
    for at, (group, ask) in enumerate(zip(groups, asked, strict=True)):
        if ask:
            members.setdefault(group, []).append(at)
    together: dict[int, _Together] = {}
    for places in members.values():
        row, teacher = rows[places[0]], sendable(rows[places[0]].teacher_rewrite)
        written = [at for at in places if texts[at]]
        if len(places) > 1 and written and teacher:
            shown = shown_order(row.query, [teacher, *(texts[at] for at in written)])
            together |= dict.fromkeys(places, _Together(written[0], shown, teacher))
    return together


def _verdicts(rows: Sequence[RewriteRow], texts: Sequence[str], asked: Sequence[bool], groups: Sequence[str]) -> Judging:
    to = chat.endpoint("judge") if any(asked) else None
    together = _together(rows, texts, asked, groups)

    def call(at: int) -> Call | None:
        row, group = rows[at], together.get(at)
        if not (asked[at] and texts[at]) or (group and group.first != at):
            return None
        if group:
            return group_call(row.query, group.shown, row.profile, row.history, to)
        return judge_call(row.query, texts[at], row.profile, row.history, to)

    answers = send(judge_gateway, list(map(call, range(len(rows)))), settings.load().batch_deadline)

    @cache
    def wait() -> list[Verdict | Failed | None]:
        own = answers()
        outcomes = [own[together[at].first] if at in together and text else own[at] for at, text in enumerate(texts)]
        remedy = "See to the judge, or set OVERTAKE_JUDGE_SHARE=0 to go on without it"
        stop_on_outage(outcomes, [row.query_id for row in rows], "verdicts", remedy)

        def read(at: int) -> Verdict | Failed:
            group, outcome = together.get(at), outcomes[at]
            of_group = own[group.first] if group else None
            told = verdicts_of_group(of_group.value, group.shown, group.teacher) if group and isinstance(of_group, Ok) else {}
            if not texts[at]:
                return Verdict(0.0, "an empty rewrite", told[group.teacher].teacher if group and told else None)
            if isinstance(outcome, Ok):
                return told[texts[at]] if group else verdict(outcome.value)
            assert outcome is not None  # a rewrite that is asked about has a result
            return outcome

        return [read(at) if ask else None for at, ask in enumerate(asked)]

    return wait


def retrieval_parts(row: RewriteRow, text: str, pair: Retrieval | Failed) -> dict[str, Any]:
    """Return what the trace holds of a retrieval: the recall lists, or why there are none."""
    measured = pair if isinstance(pair, Retrieval) else None
    return {
        **_about(row, text),
        "gold": row.gold,
        "recall": measured and [[hit.doc_id, hit.score] for hit in measured.student_recall],
        "quality": measured and measured.student_quality,
        "teacher_recall": measured and [[hit.doc_id, hit.score] for hit in measured.teacher_recall],
        "teacher_quality": measured and measured.teacher_quality,
        "retrieval_failed": in_words(pair),
    }


def teacher_points(row: RewriteRow, given: Verdict | None) -> float | None:
    """The points that a verdict is held against: the teacher's rewrite's by the same call, else those in the data."""
    return row.teacher_judge if given is None or given.teacher is None else given.teacher


def verdict_parts(row: RewriteRow, text: str, verdict: Verdict | Failed | None) -> dict[str, Any]:
    """Return what the trace holds of a verdict, or why there is none."""
    readable = verdict if isinstance(verdict, Verdict) else None
    return {
        **_about(row, text),
        "points": readable and readable.score,
        "teacher_points": teacher_points(row, readable),
        "judge_says": readable and readable.reason,
        "judge_failed": in_words(verdict),
    }


def _about(row: RewriteRow, text: str) -> dict[str, Any]:
    return {"query_id": row.query_id, "query": row.query, "rewrite": text}
