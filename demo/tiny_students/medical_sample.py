"""Cut the medical sample down for the tiny student: Chinese rows without their reasoning, which it can say within 150 characters.

    python -m demo.tiny_students.medical_sample datasets/medical/questions.jsonl datasets/medical/red_team.jsonl OUT

Writes OUT/questions.jsonl and OUT/red_team.jsonl, both or none.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake.cli import run, write_folder
from overtake.data.tables import read_rows


def work(arguments: argparse.Namespace) -> int:
    """Write both files."""
    files = {}
    for name, file in (("questions.jsonl", arguments.questions), ("red_team.jsonl", arguments.red_team)):
        chinese = [row for row in read_rows(file, required=["question"]) if re.search("[\u4e00-\u9fff]", row["question"])]
        files[name] = [{key: value for key, value in row.items() if key != "reasoning"} for row in chinese]
    write_folder(arguments.out, files)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="questions with answers")
    parser.add_argument("red_team", type=Path, help="the red team's questions")
    parser.add_argument("out", type=Path, help="folder to write")
    arguments = parser.parse_args(argv)
    return run(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main())
