"""Task rag: a generated answer against reference answers, with reasons, by the judge (OVERTAKE_JUDGE_*).

    export OVERTAKE_JUDGE_BASE_URL=http://127.0.0.1:8000/v1 OVERTAKE_JUDGE_MODEL=judge-1   # e.g. the small judge
    python tools/judge.py answers.xlsx graded.xlsx

The sheet holds the reference answer (`answer`, 标准答案, 参考答案: one, or a JSON list of alternatives; or EVOUNA's `golden_answer`), the
generated one (`answer_hat`, 生成答案, 模型答案) and, if there is one, the question (`question`, 问题). Added are judge_main (on the fact
asked for: correct, incorrect or none), judge_secondary (on all else), judge_reason and judge_model. Rows that got no verdict are in
OUTPUT.failed.jsonl and nowhere else, rows without a reference answer in OUTPUT.rejected.jsonl. The same command goes on where it
was interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake import cli
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.evaluation.statistics import bootstrap_mean
from overtake.remote import chat
from overtake.remote.gateway import Ok, Result
from overtake.tasks.answer_judge import judge as grading
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.answer_judge.columns import JUDGE_MAIN, JUDGE_REASON, JUDGE_SECONDARY
from overtake.tasks.answer_judge.judgements import Judgement
from overtake.tasks.answer_judge.rows import JudgeRow

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of --task rag."""
    parser.add_argument("input", type=Path, help="sheet of answers to grade")
    parser.add_argument("output", type=Path, help="sheet to write")
    parser.add_argument("--limit", type=cli.positive, help="pilot: only the first LIMIT usable rows")
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_JUDGE_CONCURRENCY)")


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; returns the exit code."""
    started = time.monotonic()
    tables.check_output(args.output)
    pairs, rejected = _usable(args.input)
    if not pairs:
        raise BadInput(f"{args.input}: no row can be graded; row {rejected[0]['row']}: {rejected[0]['reason']}")
    pairs = pairs[: args.limit]
    tables.check_cells(args.output, [cells for cells, _ in pairs])
    results = graded([row for _, row in pairs], args.concurrency)
    graded_rows: list[Row] = []
    failed: list[Row] = []
    for (cells, row), result in zip(pairs, results, strict=True):
        if isinstance(result, Ok):
            verdict = grading.judgement(result.value)
            added = {JUDGE_MAIN: verdict.main, JUDGE_SECONDARY: verdict.secondary, JUDGE_REASON: verdict.reason}
            graded_rows.append({**cells, **added, "judge_model": result.value["model"]})
        else:
            failed.append({"id": row.id, "reason": result.reason, "question": row.question, "answer_hat": row.answer_hat[:200]})
    if graded_rows:
        tables.write_rows(args.output, graded_rows)
    files = cli.write_beside(args.output, "rejected", rejected) + cli.write_beside(args.output, "failed", failed)
    if graded_rows:
        shares = [
            f"{part} correct {bootstrap_mean([row[f'judge_{part}'] == 'correct' for row in graded_rows])}" for part in ("main", "secondary")
        ]
        print(", ".join(shares))
    meter = chat.chat_gateway("judge", args.concurrency).meter
    print(
        f"{len(pairs) + len(rejected)} rows in, {len(graded_rows)} graded, {len(rejected)} rejected, {len(failed)} failed; "
        f"{meter.calls} calls ({meter.cached} from cache), {meter.tokens:,} tokens, {meter.usd:.4f} USD, "
        f"{time.monotonic() - started:.0f} s; {args.output if graded_rows else 'no row was graded, nothing'} written{files}"
    )
    if failed:
        print("some calls failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
    return 1 if failed else 0


def graded(rows: Sequence[JudgeRow], concurrency: int | None = None) -> list[Result]:
    """The judge's result for each row, as `grading.answer_call`'s; an empty answer states nothing and adds nothing, without a call.

    Raises Abort when the judge is dead, refuses the key, or fails on most of the first rows.
    """
    to = chat.endpoint("judge")
    answered = [row for row in rows if row.answer_hat]
    calls = [grading.answer_call(row.question, row.gold, row.answer_hat, to) for row in answered]
    results = iter(cli.ask(chat.chat_gateway("judge", concurrency), calls, "judge"))
    return [next(results) if row.answer_hat else Ok({**_NOTHING._asdict(), "model": ""}) for row in rows]


_NOTHING = Judgement("none", "none", "the answer is empty")


def _usable(path: Path) -> tuple[list[tuple[Row, JudgeRow]], list[Row]]:
    """(cells and row of what can be graded, the rest with the reason)."""
    sheet = tables.read_rows(path)
    try:
        columns = judged.columns_of(sheet[0])
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    columns = {part: name for part, name in columns.items() if part not in ("main", "secondary")}  # labels are not asked for here
    pairs: list[tuple[Row, JudgeRow]] = []
    rejected: list[Row] = []
    for index, cells in enumerate(sheet):
        number = tables.row_number(path, index)
        try:
            row = judged.judge_row(cells, columns)
            pairs.append((dict(cells), row if cells.get(columns.get("id", "")) else row._replace(id=f"row{number}")))
        except ValueError as error:
            rejected.append({"row": number, "reason": str(error), "question": cells.get(columns.get("question", ""), "")[:200]})
    return pairs, rejected
