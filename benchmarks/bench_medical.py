"""Do the medical rule book and a judge tell good answers from bad? AUC on LLMEval-Med and HealthBench, which are read and never copied.

    python benchmarks/bench_medical.py FOLDER                    # with llmeval_checklists_zh.jsonl and healthbench_104_en.jsonl
    OVERTAKE_JUDGE_BASE_URL=http://127.0.0.1:8000/v1 OVERTAKE_JUDGE_MODEL=m python benchmarks/bench_medical.py FOLDER --judge --rows 20

For each row the reference answer is set against another question's reference, itself with every second sentence left out, and a salad of
its own words in another order. AUC is the share of pairs in which the reference earns more (a tie is half), its interval a bootstrap over
the rows. The rules know question and answer alone: with the reference or its keywords they would be told the answer. So does the judge
(--judge, by the variables that name one): it gets question, answer and the row's rubrics, on the rows that have any, and no reference.
What it answered is kept in OVERTAKE_CACHE_DIR: the same command goes on after an interruption, and with more --rows asks for what is new.
"""

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from overtake import cli
from overtake.data.tables import BadInput
from overtake.doctor.attacks import spread
from overtake.evaluation.statistics import bootstrap_mean, wins
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.tasks.medical import book
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical.judge import CRITERIA, MedicalVerdict, medical_judge_call, medical_verdict
from overtake.tasks.medical.rewards.medical_rules import score
from overtake.tasks.medical.rows import Item, MedicalRow

FILES = {"LLMEval-Med": "llmeval_checklists_zh.jsonl", "HealthBench": "healthbench_104_en.jsonl"}
REFERENCE = "reference"
_SENTENCES = re.compile(r"(?<=[。！？!?\n])|(?<=\.)(?=\s)")


class Answers(NamedTuple):
    """A row, and its reference with worse answers by their kind."""

    item: Item
    texts: dict[str, str]


def answers(path: Path) -> list[Answers]:
    """Every row that has a reference, with its answers. Raises BadInput for a file without."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file: name the folder that holds it")
    items = [item for item in medical.read(str(path), needed=False).items if item.answer]
    if not items:
        raise BadInput(f"{path}: no row holds a question and a reference answer: name the folder of the files as they were published")
    return [Answers(item, {REFERENCE: item.answer, **worse(item.answer, items[at - 1].answer, at)}) for at, item in enumerate(items)]


def worse(reference: str, other: str, seed: int) -> dict[str, str]:
    """Three answers that are worse than a reference.

    >>> worse("多喝水。早点睡。", "戒烟。", 0)["half"]
    '多喝水。'
    """
    units = re.findall(r"[\u3400-\u9fff]{1,2}|\w+", reference)
    random.Random(seed).shuffle(units)
    space = " " if reference.isascii() else ""
    half = "".join(_SENTENCES.split(reference)[::2])
    return {"another question's": other, "half": half, "salad": f"{space.join(units)}。"}


def by_rules(rows: Sequence[Answers]) -> list[dict[str, float]]:
    """Points of each answer by the book; one on which the rules take too long has none."""
    shipped = book.shipped()
    verdicts = [{kind: score(row.item.asked, text, shipped) for kind, text in row.texts.items()} for row in rows]
    return [{kind: verdict.total for kind, verdict in of_row.items() if verdict} for of_row in verdicts]


def by_judge(rows: Sequence[Answers], name: str, concurrency: int | None) -> list[dict[str, MedicalVerdict]]:
    """Verdicts of the judge by the rows' own rubrics; an answer without one has none. Raises Abort, SettingsError."""
    to, gateway = chat.endpoint("judge"), chat.chat_gateway("judge", concurrency)
    asked = [(row.item, text) for row in rows for text in row.texts.values()]
    rubric_rows = [MedicalRow("", item.question, "", "", (), criteria=item.criteria, history=item.history) for item, _ in asked]
    calls = [medical_judge_call(row, text, to) for row, (_, text) in zip(rubric_rows, asked, strict=True)]
    # A judge that answers out of form half of the time is what is to be measured.
    verdicts = iter(cli.ask_regardless(gateway, calls, name))
    return [
        {kind: medical_verdict(result.value, row.item.criteria) for kind in row.texts if isinstance(result := next(verdicts), Ok)}
        for row in rows
    ]


def table(name: str, points: Sequence[dict[str, float]], who: str, met: Sequence[dict[str, float]] = ()) -> list[str]:
    """Lines for each kind of worse answer: pairs, AUC, mean points of both, and the mean share of criteria met of both."""
    lines = []
    for kind in ("another question's", "half", "salad"):
        pairs = [(of_row[REFERENCE], of_row[kind]) for of_row in points if REFERENCE in of_row and kind in of_row]
        if not pairs:
            lines.append(f"| {name} | {who} | {kind} | 0 | not measured | | |")
            continue
        both = [(of_row[REFERENCE], of_row[kind]) for of_row in met if REFERENCE in of_row and kind in of_row]
        means, met_means = (" / ".join(f"{fmean(side):.3f}" for side in zip(*of, strict=True)) if of else "" for of in (pairs, both))
        lines.append(f"| {name} | {who} | {kind} | {len(pairs)} | {bootstrap_mean(wins(pairs))} | {means} | {met_means} |")
    return lines


def work(args: argparse.Namespace) -> int:
    """Print the table; 0."""
    data = {name: spread(answers(args.folder / file), args.rows or sys.maxsize) for name, file in FILES.items()}
    if args.judge:
        chat.endpoint("judge")
    print("| data | judged by | against | pairs | AUC | points, reference / other | criteria met |\n|---|---|---|---|---|---|---|")
    for name, rows in data.items():
        print("\n".join(table(name, by_rules(rows), "rules")), flush=True)
        if args.judge and (with_rubrics := [row for row in rows if row.item.criteria]):
            verdicts = by_judge(with_rubrics, name, args.concurrency)
            points = [{kind: verdict.score for kind, verdict in of_row.items()} for of_row in verdicts]
            met = [{kind: fmean(verdict.items[CRITERIA]) for kind, verdict in of_row.items()} for of_row in verdicts]
            model = chat.endpoint("judge").model
            print("\n".join(table(name, points, model, met)), flush=True)
            wanted, had = sum(len(row.texts) for row in with_rubrics), sum(map(len, verdicts))
            print(f"{name}: {model} gave a verdict on {had} of {wanted} answers to {len(with_rubrics)} rows with rubrics", file=sys.stderr)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 measured, 2 bad input or a dead judge, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the two files are")
    parser.add_argument("--judge", action="store_true", help="ask a judge too, by OVERTAKE_JUDGE_* or OVERTAKE_TEACHER_*")
    parser.add_argument("--rows", type=cli.positive, help="only so many rows of each file, spread evenly over it")
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_JUDGE_CONCURRENCY)")
    args = parser.parse_args(argv)
    return cli.run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
