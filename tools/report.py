"""Write one HTML page of training runs: held-out table with intervals, curves side by side, alarms. It needs no network to be read.

    python tools/report.py report.html --run GRPO=output/query_rewrite/grpo --run PPO=output/query_rewrite/ppo \
        --eval output/query_rewrite/eval

A run is NAME=FOLDER, the output folder of a training; --eval names the folder that tools/evaluate.py wrote.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, tasks
from overtake.evaluation import report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("out", type=Path, help="the page to write")
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER of a training run; repeat, five at most")
    parser.add_argument("--eval", type=Path, help="folder that tools/evaluate.py wrote")
    parser.add_argument("--task", type=tasks.named, help="the file of your own task, where the runs are of one")
    args = parser.parse_args(argv)
    return cli.run(lambda: report.write(args.out, args.run, args.eval, list(tasks.known().values())))


if __name__ == "__main__":
    sys.exit(main())
