"""Problems from hubs and tables of any form, without those that repeat, that a test asks or that cannot be graded."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from overtake import cli
from overtake.data import hub, tables
from overtake.data.near_duplicates import overlaps, repeats
from overtake.data.splits import draw
from overtake.data.tables import BadInput
from overtake.remote import chat
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.golds import wrong_golds
from overtake.tasks.finance.judge import read_type
from overtake.tasks.finance.rewards import finance_accuracy
from overtake.tasks.finance.rows import Row

_TYPE_LIMIT = 50


class Entry(NamedTuple):
    """A row of an input."""

    where: str
    row: Row
    rejection_reason: str
    """Why it cannot be asked or graded, or ""."""


def read_input(name: str, columns: Mapping[str, str]) -> list[Entry]:
    """The rows of an input as problems; one from a hub is its own source. `columns` are those that the user names."""
    entries = []
    from_hub = hub.is_name(name)
    for file, table in hub.read_any(hub.fetch(name) if from_hub else Path(name)):
        try:
            of = problems.columns(list(table[0]) if table else [], columns)
        except BadInput as error:
            raise BadInput(f"{file}: {error}") from None
        source = f"{name.rpartition('::')[2]}/{file.stem}" if from_hub else file.stem
        worked = [{"id": str(index), "output": cells[of["gold_answer"]]} for index, cells in enumerate(table)]
        wrong = {gold.id for gold in wrong_golds(worked)}
        for index, cells in enumerate(table):
            row = problems.problem(cells, of, source)
            reason = (
                "the gold answer contradicts its own calculation" if str(index) in wrong else finance_accuracy.rejection_reason(row) or ""
            )
            entries.append(Entry(f"{file.name}: row {tables.row_number(file, index)}", row, reason))
    return entries


def with_unique_ids(entries: Sequence[Entry]) -> list[Entry]:
    """The same rows with ids of their own: an id that another question has already gets its question's hash."""
    used: dict[str, str] = {}
    unique = []
    for entry in entries:
        row = entry.row
        if used.setdefault(row["id"], row["question"]) != row["question"]:
            row = {**row, "id": f"{row['id']}-{problems.made_id(row['question'])}"}
        unique.append(entry._replace(row=row))
    return unique


def without_repeats(entries: Sequence[Entry], held_out: Sequence[str]) -> tuple[list[Row], list[dict[str, str]]]:
    """Return (the problems to keep, those left out with the reason): unusable ones, repeated ones, and those that the test file asks."""
    usable = [entry for entry in entries if not entry.rejection_reason]
    left_out = [_left_out(entry, entry.rejection_reason) for entry in entries if entry.rejection_reason]
    questions = [entry.row["question"] for entry in usable]
    tested = {repeat.place: (repeat, "a test row", held_out[repeat.of][:200]) for repeat in overlaps(questions, held_out)}
    repeated = {repeat.place: (repeat, "another row", usable[repeat.of].row["id"]) for repeat in repeats(questions)}
    first_of_each = []
    for place, entry in enumerate(usable):
        if again := tested.get(place) or repeated.get(place):
            repeat, what, of = again
            left_out.append(_left_out(entry, f"{'same' if repeat.exact else 'nearly the same'} question as {what}") | {"of": of})
        else:
            first_of_each.append(entry.row)
    return first_of_each, left_out


def _left_out(entry: Entry, reason: str) -> dict[str, str]:
    return {"where": entry.where, "reason": reason, "id": entry.row["id"], "question": entry.row["question"][:200]}


def second_opinion(rows: Sequence[Row], concurrency: int | None) -> tuple[list[dict[str, str]], int]:
    """Return (rows to which the teacher gives another type than the rule, how many rows it gave none)."""
    to, system = chat.endpoint("teacher"), {"role": "system", "content": prompts.prompt("classify_finance")}

    calls = [
        chat.chat_call(
            to,
            [system, {"role": "user", "content": f"问题：{row['question']}"}],
            _TYPE_LIMIT,
            0.0,
            parse=read_type,
            form="question type",
            tries=2,
        )
        for row in rows
    ]
    results = cli.ask(chat.chat_gateway("teacher", concurrency), calls, "question types")
    differing = [
        {"id": row["id"], "question": row["question"], "rule": row["type"], "teacher": result.value["type"]}
        for row, result in zip(rows, results, strict=True)
        if isinstance(result, Ok) and result.value["type"] != row["type"]
    ]
    return differing, sum(isinstance(result, Failed) for result in results)


def work(args: argparse.Namespace) -> int:
    """Read everything, leave out, sample, write; 0 done, 1 some calls failed. Raises BadInput, SettingsError or Abort."""
    cli.check_folder(args.out_dir, "raw.jsonl", "left_out.jsonl", "type_disagreements.jsonl")
    named = {"question": args.question_column, "gold_answer": args.answer_column, "type": args.type_column, "id": args.id_column}
    columns = {ours: name for ours, name in named.items() if name}
    held_out = [entry.row["question"] for entry in read_input(str(args.test_file), {})] if args.test_file else []
    if args.ask_teacher:
        chat.endpoint("teacher")  # refused now rather than after the fetching
    entries = with_unique_ids([entry for name in args.inputs for entry in read_input(name, columns)])
    training, left_out = without_repeats(entries, held_out)
    if not training:
        reasons = Counter(row["reason"] for row in left_out)
        raise BadInput(
            f"{', '.join(args.inputs)}: none of {len(entries)} rows is left ({cli.counted(reasons)}): give other rows or columns"
        )
    places = draw([(row["type"], row["source"]) for row in training], args.sample or len(training), args.seed)
    rows = [training[place] for place in places]
    differing, untyped = second_opinion(rows, args.concurrency) if args.ask_teacher else ([], 0)
    reasons = Counter(row["reason"] for row in left_out)
    types = {name: count for name in problems.TYPES if (count := sum(row["type"] == name for row in rows))}
    stats = {
        "inputs": list(args.inputs),
        "test_file": str(args.test_file or ""),
        "test_rows": len(held_out),
        "rows": len(entries),
        "left_out": dict(sorted(reasons.items())),
        "usable": len(training),
        "seed": args.seed,
        "sampled": len(rows),
        "types": types,
        "sources": dict(sorted(Counter(row["source"] for row in rows).items())),
        "teacher": {"asked": len(rows), "other_type": len(differing), "no_type": untyped} if args.ask_teacher else None,
    }
    files = {"raw.jsonl": rows, "left_out.jsonl": left_out, "prepare_stats.json": stats}
    cli.write_folder(args.out_dir, {**files, "type_disagreements.jsonl": differing} if args.ask_teacher else files)
    opinion = f"; the teacher tells another type of {len(differing)} and none of {untyped}" if args.ask_teacher else ""
    print(
        f"{len(entries)} rows in, {len(left_out)} left out ({cli.counted(reasons) or 'none'}), {len(training)} usable, {len(rows)} taken "
        f"({cli.counted(types)}){opinion}; {args.out_dir} written"
    )
    if untyped:
        print("some calls failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
    return 1 if untyped else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="hf::OWNER/NAME, ms::OWNER/NAME, a file or a folder")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write")
    for ours, option in (("question", "question"), ("gold_answer", "answer"), ("type", "type"), ("id", "id")):
        parser.add_argument(f"--{option}-column", help=f"default: the first there is of {', '.join(problems.ALIASES[ours])}")
    parser.add_argument("--test-file", type=Path, help="questions that are held out: what repeats one of them is left out")
    parser.add_argument("--sample", type=cli.positive, help="take so many, each type and source by its share (default: all)")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    parser.add_argument(
        "--ask-teacher", action="store_true", help="let the teacher tell each question's type too, and list where it differs"
    )
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_TEACHER_CONCURRENCY, else 10)")
