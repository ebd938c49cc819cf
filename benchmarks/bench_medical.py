"""Does the medical rule book tell good answers from bad ones? AUC on LLMEval-Med and HealthBench, which are read and never copied.

    python benchmarks/bench_medical.py FOLDER        # with llmeval_checklists_zh.jsonl and healthbench_104_en.jsonl

For each row the reference answer is set against another question's reference, itself with every second sentence left out, and a salad of
its own words in another order. AUC is the share of pairs in which the reference earns more (a tie is half), its interval a bootstrap over
the rows. The rules know question and answer alone: with the reference or its keywords they would be told the answer.
"""

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake.cli import run
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.evaluation.statistics import bootstrap_mean
from overtake.tasks.medical import book
from overtake.tasks.medical.rewards.medical_rules import score

FILES = {"LLMEval-Med": "llmeval_checklists_zh.jsonl", "HealthBench": "healthbench_104_en.jsonl"}
_SENTENCES = re.compile(r"(?<=[。！？!?\n])|(?<=\.)(?=\s)")


def pairs(path: Path) -> list[tuple[str, str]]:
    """(question, reference answer) of every row that has one; of a conversation the user's turns. Raises BadInput for a file without."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file: name the folder that holds it")
    found = []
    for row in filter(None, tables.read_objects(path)):
        turns = row.get("prompt") or [{"role": "user", "content": row.get("problem", "")}]
        question = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
        reference = row.get("sanswer") or row.get("ideal")
        if isinstance(question, str) and question and isinstance(reference, str) and reference:
            found.append((question, reference))
    if not found:
        raise BadInput(f"{path}: no row holds a question and a reference answer: name the folder of the files as they were published")
    return found


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


def work(folder: Path) -> int:
    """Print the table; 0."""
    rules = book.shipped()
    print("| data | rows | against | rules: AUC |\n|---|---|---|---|")
    for name, file in FILES.items():
        rows = pairs(folder / file)
        wins: dict[str, list[float]] = {}
        for at, (question, reference) in enumerate(rows):
            honest = score(question, reference, rules)
            for kind, answer in worse(reference, rows[at - 1][1], at).items():
                verdict = score(question, answer, rules)
                if honest and verdict:
                    wins.setdefault(kind, []).append((honest.total > verdict.total) + (honest.total == verdict.total) / 2)
        for kind, shares in wins.items():
            print(f"| {name} | {len(shares)} | {kind} | {bootstrap_mean(shares)} |")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 measured, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the two files are")
    args = parser.parse_args(argv)
    return run(lambda: work(args.folder))


if __name__ == "__main__":
    sys.exit(main())
