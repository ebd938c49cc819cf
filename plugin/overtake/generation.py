"""Parts of data generation that every task shares: a teacher asked live or through a batch, its price, the lists beside the output, the
options for all that."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from overtake import cli
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.remote import batch, budget, chat
from overtake.remote.gateway import Failed, Gateway, Ok, Result

Row = dict[str, Any]
T = TypeVar("T")


@dataclass
class Teacher:
    """One teacher on all rows: how to ask it, what it answered."""

    endpoint: chat.Endpoint
    gateway: Gateway
    calls: list[chat.ChatCall] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The values of the calls that succeeded."""
        return [result.value for result in self.results if isinstance(result, Ok)]

    @property
    def cached(self) -> int:
        """Number of calls that cost nothing now."""
        return sum(isinstance(result, Ok) and result.cached for result in self.results)

    @property
    def priced(self) -> bool:
        """Return whether the model has a price."""
        return budget.price(self.endpoint.model, {"prompt_tokens": 0, "completion_tokens": 0}) is not None

    def usd(self, amount: float) -> str:
        """An amount in words."""
        return f"{amount:.4f} USD" if self.priced else "no price known"

    @property
    def paid(self) -> str:
        """Cost of this run, in words."""
        meter = self.gateway.meter
        return f"paid {meter.tokens:,} tokens, {self.usd(meter.usd)}"


def teacher(concurrency: int | None) -> Teacher:
    """The settings' teacher, not asked yet."""
    return Teacher(chat.endpoint("teacher"), chat.chat_gateway("teacher", concurrency))


def add_arguments(parser: argparse.ArgumentParser, *, max_tokens: int, temperature: float) -> None:
    """The options of every task."""
    parser.add_argument("--limit", type=cli.positive, help="pilot: only the first LIMIT usable rows")
    files = parser.add_mutually_exclusive_group()
    files.add_argument(
        "--batch-write", type=Path, metavar="FILE.jsonl", help="ask nothing: write the requests for a provider's batch service"
    )
    files.add_argument(
        "--batch-read", type=Path, nargs="+", metavar="FILE.jsonl", help="ask nothing: take the answers from a batch's results"
    )
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_TEACHER_CONCURRENCY, else 10)")
    parser.add_argument(
        "--max-tokens", type=cli.positive, default=max_tokens, help="default %(default)s; raised for a row when it is cut off"
    )
    parser.add_argument("--temperature", type=float, default=temperature, help="default %(default)s; GPT-5 class models have their own")


def check_files(args: argparse.Namespace) -> None:
    """Raise BadInput when the output cannot be written, or a file is to stand for two things."""
    for path in args.batch_read or [args.batch_write] if args.batch_write or args.batch_read else []:
        if path.resolve() in (args.input.resolve(), args.output.resolve()):
            raise BadInput(f"{path} is the sheet itself: name another file for the batch")
    if args.batch_write:
        if tables.suffix(args.batch_write) != ".jsonl":
            raise BadInput(f"--batch-write {args.batch_write}: batch services take .jsonl only")
        tables.check_output(args.batch_write)
    tables.check_output(args.output)


def pilot(rows: Sequence[T], limit: int | None) -> list[T]:
    """The first `limit` rows, and a word about it."""
    if limit and limit < len(rows):
        print(f"pilot: the first {limit} of {len(rows)} usable rows", file=sys.stderr)
    return list(rows[:limit])


def forecast(answers: Sequence[dict[str, Any]], rows: int, whole: int) -> str:
    """Price of all `whole` rows by the answers to `rows` of them, paid now or earlier, in words; "" where nothing was answered."""
    if not answers or not rows:
        return ""
    usd = [value["usd"] for value in answers if value.get("usd") is not None]
    tokens = sum(sum((value.get("usage") or {}).values()) for value in answers)
    if len(usd) < len(answers):
        return f", about {tokens / rows * whole:,.0f} tokens for all {whole} rows, whose price is not known"
    return f", about {sum(usd) / rows * whole:.4f} USD for all {whole} rows"


def write_batch(args: argparse.Namespace, what: str, calls: Sequence[chat.ChatCall], rejected: Sequence[Row]) -> int:
    """Write the requests of all calls instead of asking; `what` counts them in words ("3 rows to rewrite"). Returns the exit code."""
    batch_file = batch.write(calls, args.batch_write)
    files = cli.write_beside(args.output, "rejected", rejected)
    to_do = "send it, then give the results with --batch-read" if batch_file.files else "run without --batch-write"
    print(
        f"{what}, {batch_file.kept} answered already, {batch_file.requests} requests in "
        f"{', '.join(map(str, batch_file.files)) or 'no file'}: {to_do}; {len(rejected)} rejected{files}"
    )
    return 0


def answer(teacher: Teacher, args: argparse.Namespace, label: str) -> None:
    """Fill in the teacher's results, asked live or read from the batch's files; say what brought no answer and would not again."""
    if not args.batch_read:
        teacher.results = cli.ask(teacher.gateway, teacher.calls, label)
        reasons = [result.reason for result in teacher.results if isinstance(result, Failed)]
        if cut := sum(chat.TOO_LONG in reason for reason in reasons):
            print(f"cut off with --max-tokens {args.max_tokens}: {cut} of {len(reasons)}; raise it, or they fail again", file=sys.stderr)
        return
    teacher.results, problems = batch.read(teacher.gateway, teacher.calls, args.batch_read)
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        first = next(problem for problem in problems if problem.kind == kind)
        print(f"batch results: {count} x {kind}, the first at {first.where}: {first.words}", file=sys.stderr)


def write_lists(output: Path, rejected: Sequence[Row], failed: Sequence[Row]) -> str:
    """Write the lists beside the output; returns words for the summary."""
    return cli.write_beside(output, "rejected", rejected) + cli.write_beside(output, "failed", failed)


def exit_code(args: argparse.Namespace, failed: Sequence[Row]) -> int:
    """Return 1 when calls failed, with a word about what to do; else 0."""
    if failed and args.batch_read:
        print("some rows have no answer: run without --batch-read to ask just those live, the others come from the cache", file=sys.stderr)
    elif failed:
        print("some calls failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
    return 1 if failed else 0
