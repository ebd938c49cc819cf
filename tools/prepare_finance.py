"""Make raw.jsonl of financial problems from a hub's data set and tables of your own: stage 1 of the finance system.

    python tools/prepare_finance.py hf::DianJin/DianJin-R1-Data my_questions.xlsx output/finance/raw --sample 5000
    python tools/prepare_finance.py ms::tongyi_dianjin/DianJin-R1-Data output/finance/raw --test-file held_out.jsonl --ask-teacher

An INPUT is a data set on a hub, a table (.jsonl, .xlsx, .csv), a .json list, a .parquet file or a folder of these. Columns are found
under their usual names, English and Chinese. OUT_DIR gets

    raw.jsonl                 id, question, gold_answer, type, source
    left_out.jsonl            every row that is not in it, and why
    type_disagreements.jsonl  with --ask-teacher: where the teacher tells another type than the rule, which stays
    prepare_stats.json        counts by reason, type and source
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overtake import cli
from overtake.data import hub, tables
from overtake.data.duplicates import overlaps, repeats
from overtake.data.splits import draw
from overtake.data.tables import BadInput
from overtake.reading.verdicts import read_choice
from overtake.remote import chat
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.golds import wrong_golds
from overtake.tasks.finance.rewards import finance_accuracy
from overtake.tasks.finance.rows import Row

_TYPE_LIMIT = 50


class Found(NamedTuple):
    """A row of an input."""

    where: str
    row: Row
    fault: str
    """Why it cannot be asked or graded, or ""."""


def read_input(name: str, chosen: Mapping[str, str]) -> list[Found]:
    """The rows of an input as problems; one from a hub is its own source."""
    found = []
    from_hub = hub.is_name(name)
    for file, table in hub.read_any(hub.fetch(name) if from_hub else Path(name)):
        try:
            of = problems.columns(list(table[0]) if table else [], chosen)
        except BadInput as error:
            raise BadInput(f"{file}: {error}") from None
        source = f"{name.rpartition('::')[2]}/{file.stem}" if from_hub else file.stem
        worked = [{"id": str(index), "output": cells[of["gold_answer"]]} for index, cells in enumerate(table)]
        wrong = {one.id for one in wrong_golds(worked)}
        for index, cells in enumerate(table):
            row = problems.problem(cells, of, source)
            reason = (
                "the gold answer contradicts its own calculation" if str(index) in wrong else finance_accuracy.rejection_reason(row) or ""
            )
            found.append(Found(f"{file.name}: row {tables.row_number(file, index)}", row, reason))
    return found


def told_apart(found: Sequence[Found]) -> list[Found]:
    """The same rows with ids of their own: one that another question has already gets its question's hash."""
    taken: dict[str, str] = {}
    apart = []
    for one in found:
        row = one.row
        if taken.setdefault(row["id"], row["question"]) != row["question"]:
            row = {**row, "id": f"{row['id']}-{problems.made_id(row['question'])}"}
        apart.append(one._replace(row=row))
    return apart


def without_repeats(found: Sequence[Found], held_out: Sequence[str]) -> tuple[list[Row], list[dict[str, str]]]:
    """(the problems to keep, those left out with the reason): unusable ones, repeated ones, and those that the test file asks."""
    usable = [one for one in found if not one.fault]
    left_out = [_left_out(one, one.fault) for one in found if one.fault]
    asked = [one.row["question"] for one in usable]
    tested = {twin.place: (twin, "a test row", held_out[twin.of][:200]) for twin in overlaps(asked, held_out)}
    repeated = {twin.place: (twin, "another row", usable[twin.of].row["id"]) for twin in repeats(asked)}
    kept = []
    for place, one in enumerate(usable):
        if again := tested.get(place) or repeated.get(place):
            twin, what, of = again
            left_out.append(_left_out(one, f"{'same' if twin.exact else 'nearly the same'} question as {what}") | {"of": of})
        else:
            kept.append(one.row)
    return kept, left_out


def _left_out(one: Found, reason: str) -> dict[str, str]:
    return {"where": one.where, "reason": reason, "id": one.row["id"], "question": one.row["question"][:200]}


def second_opinion(rows: Sequence[Row], concurrency: int | None) -> tuple[list[dict[str, str]], int]:
    """(rows of which the teacher tells another type than the rule, how many it told no type of)."""
    to, system = chat.endpoint("teacher"), {"role": "system", "content": prompts.prompt("classify_finance")}

    def read(text: str) -> dict[str, Any]:
        return {"type": read_choice(text, "type", problems.TYPES)}

    calls = [
        chat.chat_call(
            to,
            [system, {"role": "user", "content": f"问题：{row['question']}"}],
            _TYPE_LIMIT,
            0.0,
            read=read,
            form="question type",
            tries=2,
        )
        for row in rows
    ]
    told = cli.ask(chat.chat_gateway("teacher", concurrency), calls, "question types")
    differing = [
        {"id": row["id"], "question": row["question"], "rule": row["type"], "teacher": result.value["type"]}
        for row, result in zip(rows, told, strict=True)
        if isinstance(result, Ok) and result.value["type"] != row["type"]
    ]
    return differing, sum(isinstance(result, Failed) for result in told)


def work(args: argparse.Namespace) -> int:
    """Read everything, leave out, sample, write; returns the exit code."""
    if args.out_dir.exists() and not args.out_dir.is_dir():
        raise BadInput(f"{args.out_dir} is a file: name a folder as the last argument")
    chosen = {"question": args.question_column, "gold_answer": args.answer_column, "type": args.type_column, "id": args.id_column}
    chosen = {ours: name for ours, name in chosen.items() if name}
    held_out = [one.row["question"] for one in read_input(str(args.test_file), {})] if args.test_file else []
    if args.ask_teacher:
        chat.endpoint("teacher")  # refused now rather than after the fetching
    found = told_apart([one for name in args.inputs for one in read_input(name, chosen)])
    kept, left_out = without_repeats(found, held_out)
    if not kept:
        reasons = Counter(row["reason"] for row in left_out)
        raise BadInput(f"{', '.join(args.inputs)}: none of {len(found)} rows is left ({_words(reasons)}): give other rows or columns")
    places = draw([(row["type"], row["source"]) for row in kept], args.sample or len(kept), args.seed)
    rows = [kept[place] for place in places]
    differing, untold = second_opinion(rows, args.concurrency) if args.ask_teacher else ([], 0)
    reasons = Counter(row["reason"] for row in left_out)
    types = {name: count for name in problems.TYPES if (count := sum(row["type"] == name for row in rows))}
    stats = {
        "inputs": list(args.inputs),
        "test_file": str(args.test_file or ""),
        "test_rows": len(held_out),
        "rows": len(found),
        "left_out": dict(sorted(reasons.items())),
        "usable": len(kept),
        "seed": args.seed,
        "sampled": len(rows),
        "types": types,
        "sources": dict(sorted(Counter(row["source"] for row in rows).items())),
        "teacher": {"asked": len(rows), "other_type": len(differing), "no_type": untold} if args.ask_teacher else None,
    }
    tables.write_aside(
        {
            args.out_dir / "raw.jsonl": tables.json_lines(rows),
            args.out_dir / "left_out.jsonl": tables.json_lines(left_out),
            args.out_dir / "prepare_stats.json": (json.dumps(stats, ensure_ascii=False, indent=2) + "\n").encode(),
            **({args.out_dir / "type_disagreements.jsonl": tables.json_lines(differing)} if args.ask_teacher else {}),
        }
    )
    told = f"; the teacher tells another type of {len(differing)} and none of {untold}" if args.ask_teacher else ""
    print(
        f"{len(found)} rows in, {len(left_out)} left out ({_words(reasons) or 'none'}), {len(kept)} usable, {len(rows)} taken "
        f"({_words(types)}){told}; {args.out_dir} written"
    )
    if untold:
        print("some calls failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
    return 1 if untold else 0


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 1 some calls failed, 2 bad input or a dead service, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    args = parser.parse_args(argv)
    return cli.run(lambda: work(args), args.out_dir)


if __name__ == "__main__":
    sys.exit(main())
