"""`swift sample`'s call of a reward: its requests become the completions and columns of GRPO's call, each row found by its conversation.

`--prm_model` and `--orm_model` make a reward without arguments and call it once for each question: requests that end in a draw, the
last one in the teacher's rewrite, without any dataset column (ms-swift-4.6: 2.10). The rows are those that
`--dataset overtake/sample:<file>` read in the same process.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from overtake.tasks.query_rewrite import conversations
from overtake.tasks.query_rewrite.conversations import Row

_log = logging.getLogger(__name__)
_rows: dict[str, Row] = {}


class Request(Protocol):
    """What is used of ms-swift's InferRequest."""

    messages: Sequence[Mapping[str, Any]]


def remember(rows: Mapping[str, Row]) -> None:
    """Keep rows by the key of their conversation for the life of the process.

    Raises ValueError when another file's row has the same conversation and other columns.
    """
    for key, row in rows.items():
        if _rows.setdefault(key, row) != row:
            both = f"{_rows[key]['rag_query_id']!r} and {row['rag_query_id']!r}"
            raise ValueError(f"{both}, of two files, are one conversation with different columns: sample on one file at a time")


@cache
def accepting_requests(reward: type) -> type:
    """`reward` under its own name, which also takes requests of `swift sample` in the place of completions.

    ms-swift makes a number of every score, so it has no room for None: a question of which any draw or the teacher's rewrite could not
    be measured gets NaN throughout, which ms-swift leaves out of its output, and a warning says so. tools/select_best_of_n.py does better.
    """

    def call(self: Any, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if not completions or isinstance(completions[0], str):
            scores: list[float | None] = reward.__call__(self, completions, **columns)
            return scores
        texts, found = as_columns(completions)
        scores = reward.__call__(self, texts, **found)
        groups = found["prompt_id"]
        unmeasured = Counter(group for group, score in zip(groups, scores, strict=True) if score is None)
        for group, count in unmeasured.items():
            query = _rows[group]["rag_query_id"]
            _log.warning("%s: %d of %d rewrites of %s not measured: left out", reward.__name__, count, groups.count(group), query)
        return [float("nan") if group in unmeasured else score for group, score in zip(groups, scores, strict=True)]

    return type(reward.__name__, (reward,), {"__call__": call, "__doc__": reward.__doc__, "__module__": reward.__module__})


def as_columns(requests: Sequence[Request]) -> tuple[list[str], dict[str, list[Any]]]:
    """(completions, columns) of requests, a group for each question.

    Raises ValueError for a conversation that is none of the rows.
    """
    columns = conversations.columns([_row(request.messages) for request in requests])
    return [str(request.messages[-1]["content"]) for request in requests], columns


def _row(messages: Sequence[Mapping[str, Any]]) -> Row:
    found = _rows.get(conversations.key(messages))
    if found is None:
        raise ValueError(
            f"no row holds the conversation that ends in {str(conversations.prompt(messages)[-1:])[:200]}, so there is nothing to measure "
            "by: give the rows as --dataset overtake/sample:rl_train.jsonl (tools/convert.py makes it), and no --system of your own"
        )
    return found
