"""RL rows by their conversation: what is left to find a row by where ms-swift strips every other column (`swift sample`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.rewards.sampling import key
from overtake.tasks.query_rewrite.columns import COLUMNS, QUERY, QUERY_ID, TOOL

Row = dict[str, Any]


def cells(row: Row) -> dict[str, str]:
    """Return its reward columns."""
    return {name: row[name] for name in COLUMNS}


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return what GRPO passes beside its completions, for a completion on each of the rows: those on one row are a group."""
    return {name: [row[name] for row in rows] for name in COLUMNS} | {"prompt_id": [key(row["messages"]) for row in rows]}


def read(path: Path) -> dict[str, Row]:
    """The rows of an RL file (tools/convert.py) by the key of their conversation, in the file's order, with all of their columns.

    Raises BadInput when a row is out of form, and for two rows of one conversation: nothing could tell their rewrites apart.
    """
    if tables.suffix(path) != ".jsonl":
        raise BadInput(f"{path}: rows to sample on are a .jsonl file with messages: make it with {TOOL}")
    count = len(tables.read_rows(path, required=("messages", *COLUMNS)))
    rows: dict[str, Row] = {}
    for number, row in zip(range(1, count + 1), tables.read_objects(path), strict=False):
        messages, where = row.get("messages"), f"{path}: line {number}"
        if not isinstance(messages, list) or not all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in messages):
            raise BadInput(f"{where}: messages is {str(messages)[:60]!r}, no list of turns: make the file with {TOOL}")
        if strange := [name for name in COLUMNS if not isinstance(row.get(name), str)]:
            raise BadInput(f"{where}: {strange[0]} is {row.get(strange[0])!r}, no text: make the file with {TOOL}")
        if blank := [name for name in (QUERY_ID, QUERY) if not row[name].strip()]:
            raise BadInput(f"{where}: {blank[0]} is blank: make the file with {TOOL}")
        other = rows.setdefault(key(messages), row)
        if other is not row:
            raise BadInput(
                f"{where}: {row[QUERY_ID]!r} and {other[QUERY_ID]!r} are one conversation, word for word, so their rewrites "
                "could not be told apart: delete one of the two"
            )
    return rows
