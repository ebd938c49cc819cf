"""A judge's verdicts beside people's: which judge, the rows to compare on, the table."""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake import cli, text_table
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.evaluation import students
from overtake.evaluation.agreement import MEASURES
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.answer_judge import agreement, rule_judge
from overtake.tasks.answer_judge import grade as rag
from overtake.tasks.answer_judge import judge as grading
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.answer_judge.agreement import Grade, Judged, Said
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement
from overtake.tasks.answer_judge.prompts import judge_messages
from overtake.tasks.answer_judge.rows import JudgeRow


def by_rules(rows: Sequence[JudgeRow]) -> list[Said | None]:
    """The rule judge's verdicts; it never abstains, and says nothing of the secondary answer."""
    return [Said(rule_judge.judge(row.question, row.gold, row.answer_hat).main) for row in rows]


def by_endpoint(rows: Sequence[JudgeRow]) -> list[Said | None]:
    """The judge endpoint's verdicts; None where what it wrote is none.

    Raises Abort when the service did not answer for some rows: that is no opinion of the judge.
    """
    results = rag.graded(rows)
    lost = [result for result in results if isinstance(result, Failed) and not result.unusable]
    if lost:
        raise cli.Abort(
            f"{len(lost)} of {len(results)} verdicts could not be had, e.g.: {lost[0].reason}; run the same command again, "
            "what was answered is kept"
        )
    return [_said(grading.judgement(result.value)) if isinstance(result, Ok) else None for result in results]


def by_folder(folder: Path) -> Grade:
    """The verdicts of a model in a folder; None where what it wrote is none."""

    def grade(rows: Sequence[JudgeRow]) -> list[Said | None]:
        conversations = [judge_messages(row.question, row.gold, row.answer_hat) for row in rows]
        return [_read(text) for text in students.from_folder(folder, conversations, grading.LIMIT, [True] * len(rows))]

    return grade


def _read(text: str) -> Said | None:
    try:
        return _said(read_judgement(text))
    except ValueError:
        return None


def _said(judgement: Judgement) -> Said:
    return Said(judgement.main, judgement.secondary)


def judge_of(name: str) -> Grade:
    """The judge that --judge names."""
    if name in ("rules", "endpoint"):
        return by_rules if name == "rules" else by_endpoint
    if not Path(name).is_dir():
        raise BadInput(f"--judge {name}: say rules, endpoint (OVERTAKE_JUDGE_*), or the folder of a model")
    return by_folder(Path(name))


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, print; 0 done. Raises BadInput, SettingsError or Abort."""
    if args.summary:
        if args.summary.suffix != ".json":
            raise BadInput(f"--summary {args.summary}: name a .json file")
        tables.check_output(args.summary.with_suffix(".jsonl"))  # whether its place can be written to
    rows = [row for row in judged.read(args.input) if row.main is not None]
    if not rows:
        raise BadInput(f"{args.input}: no row has a human verdict: fill the column {' or '.join(judged.LABEL)}")
    if args.limit and args.limit < len(rows):
        rows = random.Random(0).sample(rows, args.limit)
    grade = judge_of(args.judge)
    verdicts = [Judged(row, judgement) for row, judgement in zip(rows, grade(rows), strict=True)]
    result = {"input": str(args.input), "judge": args.judge, **agreement.summary(verdicts)}
    if not args.no_probes:
        result["probes"] = agreement.probes(verdicts, grade)
    print(report(result))
    if args.summary:
        tables.write_aside({args.summary: json.dumps(result, ensure_ascii=False, indent=1).encode()})
        print(f"{args.summary} written")
    return 0


def report(result: dict[str, Any]) -> str:
    """The table of a summary."""
    names = list(MEASURES)
    columns = ("<28", ">6", ">11", ">24")

    def cells(label: str, part: dict[str, Any]) -> list[str]:
        return [label[:27], str(part["rows"]), f"{part['abstained']['mean']:.3f}", *(_interval(part[name]) for name in names)]

    overall = [["", "rows", "abstained", *(name.replace("_", " ") for name in names)], cells(result["judge"], result)]
    if result["substring"]:
        overall.append(cells("substring, same rows", result["substring"]))
        overall.append(["difference", "", "", *(_interval(result["difference"][name], "+") for name in names)])
    lines = text_table.lines(overall, columns, ruled=True)
    for title, key in (("model", "by_model"), ("length", "by_length")):
        lines += ["", *text_table.lines([cells(f"{title} {name}", part) for name, part in result[key].items()], columns)]
    verdicts = list(next(iter(result["confusion"].values())))
    confusion = [[people, *(str(counts[name]) for name in verdicts)] for people, counts in result["confusion"].items()]
    lines += ["", *text_table.lines([["people said, judge said", *verdicts], *confusion], ("<28", ">11"))]
    if result["secondary"]["rows"]:
        lines += ["", f"secondary answer: accuracy {_interval(result['secondary']['accuracy'])} on {result['secondary']['rows']} rows"]
    for name, part in result.get("probes", {}).items():
        shares = ", ".join(f"{key.replace('_', ' ')} {_interval(value)}" for key, value in part.items() if key not in ("rows", "abstained"))
        lines.append(f"{'' if name != 'order' else chr(10)}probe {name}: {part['rows']} rows, {part['abstained']} abstained; {shares}")
    return "\n".join(lines)


def _interval(value: dict[str, float] | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.3f},{value['high']:{sign}.3f}]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("input", type=Path, help="labelled rows: .xlsx, .csv or .jsonl")
    parser.add_argument("--judge", required=True, metavar="rules|endpoint|FOLDER", help="whose verdicts to compare with people's")
    parser.add_argument("--limit", type=cli.positive, help="pilot: LIMIT rows, drawn with a fixed seed")
    parser.add_argument("--no-probes", action="store_true", help="ask for each row once; the probes ask up to four times more")
    parser.add_argument("--summary", type=Path, metavar="FILE.json", help="write everything shown, and more, as JSON")
