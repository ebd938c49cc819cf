"""Write one HTML page of training runs: held-out table with intervals, curves side by side, alarms. It needs no network to be read.

    python tools/report.py report.html --run GRPO=output/query_rewrite/grpo --run PPO=output/query_rewrite/ppo \
        --eval output/query_rewrite/eval

A run is NAME=FOLDER, the output folder of a training; --eval names the folder that tools/evaluate.py wrote.
"""

import argparse
import sys
from pathlib import Path

from overtake.cli import run
from overtake.data.tables import BadInput, write_aside
from overtake.evaluation.report import page


def _parse(runs: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in runs:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise BadInput(f"--run {one}: give NAME=FOLDER, e.g. GRPO=output/query_rewrite/grpo")
        if name in found:
            raise BadInput(f"--run {one}: {name} stands twice: give each its own name")
        found[name] = Path(folder)
    return found


def report(arguments: argparse.Namespace) -> int:
    """Write the page."""
    text = page(_parse(arguments.run), arguments.eval)
    write_aside({arguments.out: text.encode()})
    print(f"{arguments.out}: open it in a browser")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the page to write")
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER of a training run; repeat, five at most")
    parser.add_argument("--eval", type=Path, help="folder that tools/evaluate.py wrote")
    arguments = parser.parse_args(argv)
    return run(lambda: report(arguments))


if __name__ == "__main__":
    sys.exit(main())
