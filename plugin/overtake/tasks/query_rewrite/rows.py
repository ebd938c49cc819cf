"""Rows of query rewriting: the columns that tools/convert.py and `overtake/query_rewrite` make and the rewards read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from overtake.data.tables import cell
from overtake.remote.rag import Hit
from overtake.tasks.query_rewrite.columns import (
    GOLD,
    HISTORY,
    KB,
    ORIGINAL_RECALL,
    PROFILE,
    QUERY,
    QUERY_ID,
    TEACHER_JUDGE,
    TEACHER_RECALL,
    TEACHER_REWRITE,
    TENANT,
    TOOL,
)

Recall = tuple[Hit, ...]


@dataclass(frozen=True)
class RewriteRow:
    """One question, and what was measured once of the question itself and of the teacher's rewrite."""

    query_id: str
    query: str
    tenant: str
    kb: str = "default"
    profile: str = ""
    history: str = ""
    gold: tuple[str, ...] = ()
    """The documents that are relevant; none where there are no labels."""
    teacher_rewrite: str = ""
    teacher_recall: Recall | None = None
    """None: not in the data, to be asked live."""
    teacher_judge: float | None = None
    """0 to 5; None: not known."""
    original_recall: Recall | None = None
    """What the question itself recalls; None: not known."""

    @classmethod
    def from_columns(cls, cells: Mapping[str, str]) -> Self:
        """The row in a file's columns; one that is not there is as one that is empty.

        Raises ValueError naming column and row for a value out of form, and for a row without a question.
        """
        query_id = cells.get(QUERY_ID, "")
        if not cells.get(QUERY, "").strip():
            raise ValueError(f"{QUERY} is empty in the row with {QUERY_ID} {query_id!r}: make the files with {TOOL}")
        return cls(
            query_id=query_id,
            query=cells[QUERY],
            tenant=cells.get(TENANT, ""),
            kb=cells.get(KB, "") or "default",
            profile=cells.get(PROFILE, ""),
            history=cells.get(HISTORY, ""),
            gold=tuple(map(str, _list(cells, GOLD) or ())),
            teacher_rewrite=cells.get(TEACHER_REWRITE, ""),
            teacher_recall=_recall(cells, TEACHER_RECALL),
            teacher_judge=_points(cells),
            original_recall=_recall(cells, ORIGINAL_RECALL),
        )

    def to_columns(self) -> dict[str, str]:
        """The same as text columns, which `from_columns` reads back.

        >>> row = RewriteRow("q1", "皮肤没弹性吃啥", "fivedoctors", gold=("d7",), teacher_recall=(Hit("d7", 0.9),))
        >>> RewriteRow.from_columns(row.to_columns()) == row, row.to_columns()["rag_teacher_recall"]
        (True, '[["d7", 0.9]]')
        """
        return {
            QUERY_ID: self.query_id,
            QUERY: self.query,
            TENANT: self.tenant,
            KB: self.kb,
            PROFILE: self.profile,
            HISTORY: self.history,
            GOLD: cell(self.gold) if self.gold else "",
            TEACHER_REWRITE: self.teacher_rewrite,
            TEACHER_RECALL: cell(self.teacher_recall),
            TEACHER_JUDGE: cell(self.teacher_judge),
            ORIGINAL_RECALL: cell(self.original_recall),
        }


def _list(cells: Mapping[str, str], name: str) -> list[Any] | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ValueError(f"{name} of {cells.get(QUERY_ID)!r} is no JSON list: {text[:100]!r}; make the files with {TOOL}")
    return value


def _recall(cells: Mapping[str, str], name: str) -> Recall | None:
    hits = _list(cells, name)
    try:
        return None if hits is None else tuple(Hit(None if doc_id is None else str(doc_id), float(score)) for doc_id, score in hits)
    except (ValueError, TypeError):
        what = "no list of [document, score]"
        raise ValueError(f"{name} of {cells.get(QUERY_ID)!r} is {what}: {cells[name][:100]!r}; make the files with {TOOL}") from None


def _points(cells: Mapping[str, str]) -> float | None:
    text = cells.get(TEACHER_JUDGE, "")
    try:
        points = float(text) if text else None
    except ValueError:
        points = -1.0
    if points is not None and not 0 <= points <= 5:
        raise ValueError(f"{TEACHER_JUDGE} of {cells.get(QUERY_ID)!r} is {text!r}: it must be empty or 0 to 5")
    return points
