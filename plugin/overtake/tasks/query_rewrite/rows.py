"""Rows of query rewriting: the columns that tools/convert.py and `overtake/query_rewrite` make and the rewards read."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from overtake.data.tables import cell
from overtake.remote.rag import Hit
from overtake.tasks.query_rewrite.columns import COLUMNS, GOLD, ORIGINAL_RECALL, QUERY, QUERY_ID, TEACHER_JUDGE, TEACHER_RECALL, TOOL

Recall = tuple[Hit, ...]


class RewriteRow(NamedTuple):
    """One question, and what was measured once of the question itself and of the teacher's rewrite; fields in the order of `COLUMNS`."""

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
        query_id, query, tenant, kb, profile, history, gold, rewrite, recall, points, original = (cells.get(name, "") for name in COLUMNS)
        if not query.strip():
            raise ValueError(f"{QUERY} is empty in the row with {QUERY_ID} {query_id!r}: make the files with {TOOL}")
        about = (query_id, query, tenant, kb or "default", profile, history, tuple(map(str, _list(GOLD, gold, query_id) or ())), rewrite)
        judge = _points(points, query_id)
        return cls(*about, _recall(TEACHER_RECALL, recall, query_id), judge, _recall(ORIGINAL_RECALL, original, query_id))

    def to_columns(self) -> dict[str, str]:
        """The same as text columns, which `from_columns` reads back.

        >>> row = RewriteRow("q1", "皮肤没弹性吃啥", "fivedoctors", gold=("d7",), teacher_recall=(Hit("d7", 0.9),))
        >>> RewriteRow.from_columns(row.to_columns()) == row, row.to_columns()["rag_teacher_recall"]
        (True, '[["d7", 0.9]]')
        """
        return dict(zip(COLUMNS, map(cell, self), strict=True)) | ({} if self.gold else {GOLD: ""})


def _list(name: str, text: str, query_id: str) -> list[Any] | None:
    try:
        value = json.loads(text) if text else None
    except ValueError:
        value = False
    if not isinstance(value, list | None):
        raise ValueError(f"{name} of {query_id!r} is no JSON list: {text[:100]!r}; make the files with {TOOL}")
    return value


def _recall(name: str, text: str, query_id: str) -> Recall | None:
    hits = _list(name, text, query_id)
    try:
        return None if hits is None else tuple(Hit(None if doc_id is None else str(doc_id), float(score)) for doc_id, score in hits)
    except (ValueError, TypeError):
        fault = f"is no list of [document, score]: {text[:100]!r}; make the files with {TOOL}"
        raise ValueError(f"{name} of {query_id!r} {fault}") from None


def _points(text: str, query_id: str) -> float | None:
    try:
        points = float(text) if text else None
    except ValueError:
        points = -1.0
    if points is not None and not 0 <= points <= 5:
        raise ValueError(f"{TEACHER_JUDGE} of {query_id!r} is {text!r}: it must be empty or 0 to 5")
    return points
