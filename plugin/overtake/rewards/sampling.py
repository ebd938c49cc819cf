"""`swift sample`'s call of a reward: its requests become the completions and columns of GRPO's call, each row found by its conversation.

`--prm_model` and `--orm_model` make a reward without arguments and call it once for each question: requests that end in a draw, the
last one in the teacher's answer, without any dataset column. The rows are those that `--dataset overtake/sample:<file>` read in the same
process.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Sampled(NamedTuple):
    """A row that is sampled on."""

    name: str
    columns: dict[str, str]


_rows: dict[str, Sampled] = {}


class Request(Protocol):
    """Part of ms-swift's InferRequest that is used."""

    messages: Sequence[Mapping[str, Any]]


def prompt(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns that a completion answers: all but an answer at the end.

    >>> prompt([{"role": "user", "content": "睡不着"}, {"role": "assistant", "content": "失眠"}])
    [{'role': 'user', 'content': '睡不着'}]
    """
    turns = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def key(messages: Sequence[Mapping[str, Any]]) -> str:
    """The same for a row, for a request on it and for what was drawn on it."""
    return json.dumps(prompt(messages), ensure_ascii=False)


def remember(rows: Mapping[str, Sampled]) -> None:
    """Keep rows by the key of their conversation for the life of the process.

    Raises ValueError when another file's row has the same conversation and other columns.
    """
    for of, row in rows.items():
        if (remembered := _rows.setdefault(of, row)) != row:
            both = f"{remembered.name!r} and {row.name!r}"
            raise ValueError(f"{both}, of two files, are one conversation with different columns: sample on one file at a time")


def name(of: str) -> str:
    """The name of the row that is remembered under a key."""
    return _rows[of].name


def as_columns(requests: Sequence[Request]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return (completions, columns) of requests, a group for each question.

    Raises ValueError for a conversation that is none of the rows.
    """
    keys = [key(request.messages) for request in requests]
    for of, request in zip(keys, requests, strict=True):
        if of not in _rows:
            raise ValueError(
                f"no row holds the conversation that ends in {str(prompt(request.messages)[-1:])[:200]}, so there is nothing to measure "
                "by: give the rows as --dataset overtake/sample:rl_train.jsonl (tools/convert.py makes it), and no --system of your own"
            )
    rows = [_rows[of].columns for of in keys]
    columns = {column: [row[column] for row in rows] for column in rows[0]}
    return [str(request.messages[-1]["content"]) for request in requests], columns | {"prompt_id": keys}
