"""Rows of question-answering problems as the finance tools pass them on: `id, question, gold_answer, type, source`."""

from collections.abc import Sequence
from pathlib import Path

from overtake.data import tables
from overtake.data.questions import normal
from overtake.data.tables import BadInput

COLUMNS = ("id", "question", "gold_answer", "type", "source")
TYPES = ("calculation", "concept", "analysis", "reasoning")
LONGEST = 20_000
"""Characters of a question that are still asked; financial reports come with their tables."""

Row = dict[str, str]


def read(path: Path, also: Sequence[str] = ()) -> list[Row]:
    """The rows of a file that holds the columns of a problem and those named `also`, blank cells and all.

    Raises BadInput when a column is missing.
    """
    rows = tables.read_rows(path)
    if missing := [name for name in (*COLUMNS, *also) if name not in rows[0]]:
        maker = "tools/generate.py --task finance" if also else "tools/prepare_finance.py"
        raise BadInput(f"{path}: no column {', '.join(missing)}: give the file that {maker} writes; there are {', '.join(rows[0])}")
    return rows


def fault(row: Row) -> str:
    """Why a row is no problem that can be asked and scored, or "".

    >>> fault({"id": "a", "question": "2022年营收？", "gold_answer": "800", "type": "calculation", "source": "x"})
    ''
    """
    if not row["question"].strip():
        return "the question is blank"
    if not normal(row["question"]):
        return "the question holds no word"
    if len(row["question"]) > LONGEST:
        return f"the question is over {LONGEST:,} characters"
    if not row["gold_answer"].strip():
        return "the gold answer is blank"
    if not row["id"].strip():
        return "the id is blank"
    if row["type"] not in TYPES:
        return f"the type is {row['type'][:40]!r}, none of {', '.join(TYPES)}"
    return ""


def usable(path: Path, rows: Sequence[Row], key: Sequence[str] = ("id",)) -> tuple[list[Row], list[dict[str, str | int]]]:
    """(rows to use, rows rejected with their number and reason); `key` names the columns that tell two rows apart."""
    seen: dict[tuple[str, ...], int] = {}
    kept: list[Row] = []
    rejected: list[dict[str, str | int]] = []
    for index, row in enumerate(rows):
        number, mark = tables.row_number(path, index), tuple(row[name] for name in key)
        reason = fault(row)
        if not reason and mark in seen:
            reason = f"{' '.join(key)} {' '.join(mark)!r} stands already in row {seen[mark]}"
        if reason:
            rejected.append({"row": number, "reason": reason, "question": row["question"][:200]})
            continue
        seen[mark] = number
        kept.append(row)
    return kept, rejected
