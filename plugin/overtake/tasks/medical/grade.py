"""Task medical: medical answers by the row's own rubrics, else by the teacher's checklist (accuracy, safety, completeness, clarity).

    export DEEPSEEK_API_KEY=...   # or OVERTAKE_TEACHER_*, OVERTAKE_JUDGE_*
    python tools/judge.py --task medical --input answers.jsonl --limit 10
    python tools/judge.py --task medical --input answers.jsonl --mock       # offline: by the rule book and shared words, no model

The input (.jsonl, .xlsx, .csv) has the columns question and answer, maybe reference and rubrics (or med_question, med_reference,
med_rubrics, and messages that end in an answer). Verdicts stand in teacher_judgements.jsonl beside it, one readable line each, with the
reason; an answer that has its line there is not asked about again, whoever wrote the file. Add --output for another place. What got no
verdict is in OUTPUT.failed.jsonl.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from overtake import cli
from overtake.data import tables
from overtake.data.cells import Structured, no_text
from overtake.data.tables import BadInput
from overtake.evaluation.statistics import bootstrap_mean
from overtake.reading.tags import strip_think
from overtake.remote import budget, chat
from overtake.remote.gateway import Failed, Ok, Result
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import mock_judge, rubrics
from overtake.tasks.medical.columns import HISTORY, QUESTION, REFERENCE, RUBRICS
from overtake.tasks.medical.judge import (
    CRITERIA,
    MEDICAL_PARTS,
    MedicalVerdict,
    medical_judge_call,
    medical_verdict,
    read_met,
    read_verdict,
)
from overtake.tasks.medical.prompts import prompt
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rows import MedicalRow

NAME = "teacher_judgements.jsonl"
MOCK = "overtake-mock-judge"
"""The `model` of verdicts by rule."""
_SAVED_EVERY = 200

Row = dict[str, Any]
Key = tuple[str, str, str, str, str]
"""question, answer, reference, the model asked for, the rubric."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what --task medical takes."""
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="file of answers to judge")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {NAME} beside the input")
    parser.add_argument("--limit", type=cli.positive, help="pilot: only the first LIMIT answers")
    parser.add_argument(
        "--mock", action="store_true", help=f"ask nobody: verdicts by rule (model {MOCK}), to try the line out without a key"
    )
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_JUDGE_CONCURRENCY)")


def work(args: argparse.Namespace) -> int:
    """Check everything, ask for what has no verdict yet, write as it goes; returns the exit code."""
    started = time.monotonic()
    output = args.output or args.input.with_name(NAME)
    tables.check_output(output)
    if tables.suffix(output) != ".jsonl":
        raise BadInput(f"{output}: verdicts are kept as JSON lines: name a .jsonl file")
    budget.count_for(str(output.resolve()))
    answers = read_answers(args.input)[: args.limit]
    to = None if args.mock else chat.endpoint("judge")
    verdicts = kept(output)
    keys: list[Key] = [(row.asked, answer, row.reference, to.model if to else MOCK, _rubric(row)) for row, answer in answers]
    row_of = {key: row for key, (row, _) in zip(keys, answers, strict=True)}
    open_keys = [key for key in dict.fromkeys(keys) if key not in verdicts]
    failed: list[Row] = []
    door = chat.chat_gateway("judge", args.concurrency)
    # In parts, so that an interruption leaves what was paid for in the file too, not only in the cache.
    for start in range(0, len(open_keys), _SAVED_EVERY):
        part = open_keys[start : start + _SAVED_EVERY]
        if to:
            results = cli.ask(door, [medical_judge_call(row_of[key], key[1], to) for key in part], "judge")
        else:
            results = [_mocked(row_of[key], key[1]) for key in part]
        for key, result in zip(part, results, strict=True):
            if isinstance(result, Ok):
                verdicts[key] = line(key, row_of[key], medical_verdict(result.value, row_of[key].criteria))
            else:
                failed.append({"question": key[0], "answer": key[1][:200], "reason": result.reason})
        tables.write_aside({output: tables.json_lines(verdicts.values())})
    lines = [verdicts[key] for key in keys if key in verdicts]
    files = cli.write_beside(output, "failed", failed)
    if lines:
        by_part = {name: [row[name] for row in lines if name in row] for name in (*MEDICAL_PARTS, CRITERIA)}
        parts = ", ".join(f"{name} {fmean(shares):.2f}" for name, shares in by_part.items() if shares)
        print(f"teacher {bootstrap_mean([row['score'] for row in lines])} ({', '.join(sorted({row['model'] for row in lines}))}): {parts}")
    meter = door.meter
    print(
        f"{len(answers)} answers in, {len(lines)} judged, {len(failed)} failed; {len(set(keys)) - len(open_keys)} had their line; "
        f"{meter.calls} calls ({meter.cached} from cache), {meter.tokens:,} tokens, {meter.usd:.4f} USD, {time.monotonic() - started:.0f} s"
        f"; {output}{files}"
    )
    if failed:
        print("some calls failed: run the same command again to retry just those", file=sys.stderr)
    return 1 if failed else 0


def _rubric(row: MedicalRow) -> str:
    """What tells one way of judging from another: the prompt, and the row's own criteria."""
    texts = (prompt("judge_rubrics"), rubrics.to_json(row.criteria)) if row.criteria else (prompt("judge_medical"),)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def _mocked(row: MedicalRow, answer: str) -> Result:
    try:
        if row.criteria:
            said = read_met(len(row.criteria), mock_judge.met([text for text, _ in row.criteria], answer))
        else:
            said = read_verdict(mock_judge.verdict(row.asked, row.reference, answer))
        return Ok({**said, "model": MOCK})
    except TimeoutError as error:
        return Failed(str(error), "timeout", outage=False)


def line(key: Key, row: MedicalRow, verdict: MedicalVerdict) -> Row:
    """A judgement as it stands in the file: the share of each part of the checklist, or what the row's rubrics give."""
    question, answer, reference, judge, rubric = key
    rules = medical_rules.score(question, answer, medical_book.shipped(), reference=reference)
    shares = {part: round(sum(items) / len(items), 4) for part, items in verdict.items.items()}
    met = verdict.items.get(CRITERIA, [])
    items = [{"criterion": text, "points": points, "met": is_met} for (text, points), is_met in zip(row.criteria, met, strict=True)]
    return {
        "question": question,
        "answer": answer,
        "reference": reference,
        "score": round(verdict.score, 4),
        **({CRITERIA: round(verdict.score, 4)} if row.criteria else shares),
        "items": items or verdict.items,
        "reason": verdict.reason,
        "rules": round(rules.total, 4) if rules else None,
        "rules_broken": rules.broken if rules else [medical_rules.TIMED_OUT],
        "model": verdict.model,
        "asked": judge,
        "rubric": rubric,
    }


def kept(path: Path) -> dict[Key, Row]:
    """The judgements of an earlier run by what they are of; none for a file that is not there yet.

    Raises BadInput naming the line that is no judgement.
    """
    if not path.is_file():
        return {}
    names = ("question", "answer", "reference", "asked", "rubric")
    verdicts: dict[Key, Row] = {}
    for number, row in enumerate(tables.read_objects(path), 1):
        if not row:
            continue
        if not all(isinstance(row.get(name), str) for name in names) or not all(
            isinstance(row.get(name), int | float) for name in ("score", *((CRITERIA,) if CRITERIA in row else MEDICAL_PARTS))
        ):
            raise BadInput(f"{path}: line {number} is no judgement: delete it, or name another --output")
        verdicts[(row["question"], row["answer"], row["reference"], row["asked"], row["rubric"])] = row
    return verdicts


def read_answers(path: Path) -> list[tuple[MedicalRow, str]]:
    """Read every row, and its answer with its think block off; a row without an answer is refused.

    Raises BadInput naming the row.
    """
    rows = tables.read_rows(path)
    answers = []
    for index, row in enumerate(rows):
        where = f"{path}: row {tables.row_number(path, index)}"
        names = {"question": QUESTION, "reference": REFERENCE, "rubrics": RUBRICS, "history": HISTORY}
        cells = {column: row.get(name) or row.get(column, "") for name, column in names.items()}
        answer = strip_think(row.get("answer") or _last_turn(row.get("messages", "")))
        for name, text in (("question", cells[QUESTION]), ("answer", answer)):
            if why := no_text(text) if name == "question" or isinstance(row.get("answer"), Structured) else "":
                raise BadInput(f"{where}: {name}: {why}")
            if not text.strip():
                raise BadInput(f"{where}: {name} is blank: fill it or delete the row; the columns there are {', '.join(row)}")
        try:
            parsed = MedicalRow.from_columns({name: text.strip() for name, text in cells.items()})
        except ValueError as error:
            raise BadInput(f"{where}: {error}") from None
        answers.append((parsed, answer))
    return answers


def _last_turn(cell: str) -> str:
    """The assistant's last turn in a cell of messages, "" where there is none."""
    try:
        turns: Sequence[Mapping[str, Any]] = json.loads(cell) if cell else []
        return str(turns[-1]["content"]) if turns and turns[-1]["role"] == "assistant" else ""
    except (ValueError, KeyError, TypeError):
        return ""
