"""Finance: form and accuracy by the rewards' own rules, all together and by type of question, and four criteria by the judge.

    python tools/evaluate.py data/test.jsonl out/eval --task finance --system base=Qwen/Qwen2.5-1.5B --system SFT=out/sft/checkpoint-90 \\
        --system GRPO=out/grpo/checkpoint-200 --against GRPO

`format` is the share of answers in the tags, `accuracy` that of right ones (of answers in words the share of the gold's keywords), `judge`
the mean share of the four criteria's checks, `unreadable` the share without one answer tag, `length` the characters of the whole text.
"""

import argparse
from collections.abc import Sequence

from overtake.cli import ask
from overtake.data.tables import BadInput, read_rows, row_number
from overtake.evaluation.comparing import Answers, Scores
from overtake.reading.tags import last_answer
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import Row
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.judge import reasoning_call
from overtake.tasks.finance.rewards import answer_format, finance_accuracy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="form and accuracy alone")


def read(args: argparse.Namespace) -> list[Row]:
    """The problems of test.jsonl (or raw.jsonl), each with a gold answer that can be graded."""
    table = read_rows(args.test)
    try:
        of = problems.columns(list(table[0]), {})
    except BadInput as error:
        raise BadInput(f"{args.test}: {error}") from None
    rows = [problems.problem(cells, of, "") for cells in table]
    numbers: dict[str, int] = {}
    for index, row in enumerate(rows):
        number = row_number(args.test, index)
        reason = problems.rejection_reason(row)
        if not reason and row["id"] in numbers:
            reason = f"id {row['id']!r} stands already in row {numbers[row['id']]}"
        if not reason and accuracy(f"<answer>{row['gold_answer']}</answer>", row) is None:
            reason = f"gold_answer {row['gold_answer'][:60]!r} cannot be graded"
        if reason:
            raise BadInput(f"{args.test}: row {number}: {reason}: correct it or delete the row")
        numbers[row["id"]] = number
    if args.judge:
        chat.endpoint("judge")
    return rows


def accuracy(text: str, row: Row) -> float | None:
    """Score by the reward."""
    return finance_accuracy.score(text, row["gold_answer"], row["type"], row["question"])


def messages(row: Row) -> list[dict[str, str]]:
    """The prompt of training."""
    return prompts.finance_messages(row["question"])


def measure(name: str, answers: Answers, rows: Sequence[Row], args: argparse.Namespace) -> Scores:
    """Form, accuracy (once more under its type), whether it could be read, length; and with the judge its criteria."""
    answered = [(row, text) for row in rows if (text := answers[row["id"]]) is not None]
    scores: Scores = {}
    for row, text in answered:
        correct = accuracy(text, row) or 0.0
        scores[row["id"]] = {
            "format": answer_format.score(text),
            "accuracy": correct,
            row["type"]: correct,
            "unreadable": float(last_answer(text) is None),
            "length": float(len(text)),
        }
    if args.judge:
        non_empty = [(row, text) for row, text in answered if text]
        to = chat.endpoint("judge")
        calls = [reasoning_call(row["question"], row["gold_answer"], text, to) for row, text in non_empty]
        for row, text in answered:
            if not text:
                scores[row["id"]]["judge"] = 0.0
        for (row, _), verdict in zip(non_empty, ask(chat.chat_gateway("judge"), calls, f"judging {name}"), strict=True):
            if isinstance(verdict, Ok):
                criteria = verdict.value["criteria"]
                mean = round(sum(criteria.values()) / len(criteria), 4)
                scores[row["id"]] |= {"judge": mean, **{f"judge_{name}": share for name, share in criteria.items()}}
                scores[row["id"]]["judge_says"] = verdict.value["weakest"]
    return scores
