r"""Finance: let a teacher solve the problems of raw.jsonl step by step (stage 2 of the finance system).

    export OVERTAKE_TEACHER_BASE_URL=https://api.deepseek.com/v1 OVERTAKE_TEACHER_MODEL=deepseek-reasoner OVERTAKE_TEACHER_API_KEY=…
    export OVERTAKE_TEACHER_TIMEOUT=300   # a chain of thought takes longer than the 30 s there are
    python tools/generate.py raw.jsonl distilled.jsonl --task finance --samples 4

A row of OUTPUT is the problem's row and `teacher_output` (<think>…</think><answer>…</answer>), `sample`, `teacher_model`. Whatever the
teacher writes becomes a row, in the tags where it can be told what belongs into them; tools/filter.py judges it.
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

from overtake import cli
from overtake import generation as teachers
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.generation import Row
from overtake.reading.boxed import boxed
from overtake.reading.tags import split_think
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems

_ANSWER = re.compile(r"(.*?)(<answer>.*</answer>)\s*", re.DOTALL)


def tagged(text: str) -> str:
    r"""A teacher's whole text in the form that the student learns, as far as it can be told what belongs into which tag.

    Reasoning models begin inside the think block (their template opens it); what they explain between it and the answer is thought
    too; an answer without its tag is the only \boxed{…} there is, or all that follows the thought. Text without any thought stays as it is.

    >>> tagged("<think>1000/1.25</think>\n\n<answer>800</answer>")
    '<think>\n1000/1.25\n</think>\n<answer>800</answer>'
    >>> tagged("1000/1.25=800\n</think>\n\n收入为 \\boxed{800}。")
    '<think>\n1000/1.25=800\n\n收入为 \\boxed{800}。\n</think>\n<answer>800</answer>'
    >>> tagged("800")
    '800'
    """
    whole = text.strip()
    thought, rest = split_think(whole)
    # A model that does not reason apart explains first and then answers.
    explained = _ANSWER.fullmatch(rest) if "<think>" not in rest else None
    if not rest or (rest == whole and not (explained and explained[1].strip())):
        return whole
    if "<answer>" not in rest and "</answer>" not in rest:
        boxes = list(dict.fromkeys(boxed(rest)))
        answer = f"<answer>{boxes[0] if len(boxes) == 1 else rest}</answer>"
        prose = rest if len(boxes) == 1 else ""
    elif parts := _ANSWER.fullmatch(rest):
        prose, answer = parts[1].strip(), parts[2]
    else:
        return whole
    thought = "\n\n".join(filter(None, (thought, prose)))
    return f"<think>\n{thought}\n</think>\n{answer}"


def calls(rows: Sequence[Row], to: chat.Endpoint, args: argparse.Namespace) -> list[chat.ChatCall]:
    """One call for each sample of each row, a row's samples together."""
    return [
        chat.chat_call(to, prompts.finance_messages(row["question"]), args.max_tokens, args.temperature, sample=sample, thinking=True)
        for row in rows
        for sample in range(args.samples)
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("input", type=Path, help="raw.jsonl of tools/prepare_finance.py")
    parser.add_argument("output", type=Path, help="distilled.jsonl to write")
    parser.add_argument("--samples", type=cli.positive, default=1, help="solutions of each problem (default %(default)s)")
    teachers.add_arguments(parser, max_tokens=4096, temperature=0.6)


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; returns the exit code."""
    started = time.monotonic()
    teachers.check_files(args)
    table = problems.read(args.input)
    whole, rejected = problems.usable(args.input, table)
    if not whole:
        raise BadInput(f"{args.input}: none of {len(table)} rows can be asked; row {rejected[0]['row']}: {rejected[0]['reason']}")
    rows = teachers.pilot(whole, args.limit)
    teacher = teachers.teacher(args.concurrency)
    teacher.calls = calls(rows, teacher.endpoint, args)
    if args.batch_write:
        what = f"{len(rows)} problems to solve {args.samples} times"
        return teachers.write_batch(args, what, teacher.calls, rejected)
    teachers.answer(teacher, args, teacher.endpoint.model)
    samples = [(row, sample) for row in rows for sample in range(args.samples)]
    solutions, failed = [], []
    for (row, sample), result in zip(samples, teacher.results, strict=True):
        if isinstance(result, Ok):
            value = result.value
            solutions.append({**row, "teacher_output": tagged(value["text"]), "sample": sample, "teacher_model": value["model"]})
        else:
            failed.append({"id": row["id"], "sample": sample, "reason": result.reason, "question": row["question"][:200]})
    if solutions:
        tables.write_rows(args.output, solutions)
    files = teachers.write_lists(args.output, rejected, failed)
    forecast = teachers.forecast(teacher.answers, len(rows), len(whole)) if len(rows) < len(whole) else ""
    print(
        f"{len(table)} rows in, {len(solutions)} solutions of {len({row['id'] for row in solutions})} problems "
        f"({teacher.cached} from cache), {len(rejected)} rejected, {len(failed)} failed; {teacher.paid}{forecast}, "
        f"{time.monotonic() - started:.0f} s; {args.output if solutions else 'no problem was solved, nothing'} written{files}"
    )
    return teachers.exit_code(args, failed)
