"""RL rows by their conversation: what is left to find a row by where ms-swift strips every other column (`swift sample`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overtake.data import tables
from overtake.data.tables import BadInput

COLUMNS = tuple(
    f"rag_{name}"
    for name in (
        *("query_id", "query", "tenant", "kb", "profile", "history", "gold"),
        *("teacher_rewrite", "teacher_recall", "teacher_judge", "original_recall"),
    )
)

Row = dict[str, Any]


def prompt(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns that a rewrite answers: all but an answer at the end.

    >>> prompt([{"role": "user", "content": "睡不着"}, {"role": "assistant", "content": "失眠"}])
    [{'role': 'user', 'content': '睡不着'}]
    """
    turns = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def key(messages: Sequence[Mapping[str, Any]]) -> str:
    """The same for a row, for a request on it and for what was drawn on it."""
    return json.dumps(prompt(messages), ensure_ascii=False)


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """What GRPO passes beside its completions, for a completion on each of the rows: those on one row are a group."""
    return {name: [row[name] for row in rows] for name in COLUMNS} | {"prompt_id": [key(row["messages"]) for row in rows]}


def read(path: Path) -> dict[str, Row]:
    """The rows of an RL file (tools/convert.py) by the key of their conversation, in the file's order, with all of their columns.

    Raises BadInput when a row is out of form, and for two rows of one conversation: nothing could tell their rewrites apart.
    """
    if tables.suffix(path) != ".jsonl":
        raise BadInput(f"{path}: rows to sample on are a .jsonl file with messages: make it with tools/convert.py")
    count = len(tables.read_rows(path, required=("messages", *COLUMNS)))
    rows: dict[str, Row] = {}
    for number, row in zip(range(1, count + 1), tables.read_objects(path), strict=False):
        messages, where = row.get("messages"), f"{path}: line {number}"
        if not isinstance(messages, list) or not all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in messages):
            raise BadInput(f"{where}: messages is {str(messages)[:60]!r}, no list of turns: make the file with tools/convert.py")
        if strange := [name for name in COLUMNS if not isinstance(row.get(name), str)]:
            raise BadInput(f"{where}: {strange[0]} is {row.get(strange[0])!r}, no text: make the file with tools/convert.py")
        if blank := [name for name in ("rag_query_id", "rag_query") if not row[name].strip()]:
            raise BadInput(f"{where}: {blank[0]} is blank: make the file with tools/convert.py")
        twin = rows.setdefault(key(messages), row)
        if twin is not row:
            raise BadInput(
                f"{where}: {row['rag_query_id']!r} and {twin['rag_query_id']!r} are one conversation, word for word, so their rewrites "
                "could not be told apart: delete one of the two"
            )
    return rows
