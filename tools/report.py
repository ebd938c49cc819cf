"""Write one HTML page of training runs: held-out table with intervals, curves side by side, alarms. It needs no network to be read.

    python tools/report.py report.html --run GRPO=output/query_rewrite/grpo --run PPO=output/query_rewrite/ppo \
        --eval output/query_rewrite/eval

A run is NAME=FOLDER, the output folder of a training; --eval names the folder that tools/evaluate.py wrote. While they train, --follow
serves the page on this machine, with the last samples and the parts of their reward, and renews it until all have ended.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, tasks
from overtake.evaluation import following, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("out", type=Path, help="the page to write")
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER of a training run; repeat, five at most")
    parser.add_argument("--eval", type=Path, help="folder that tools/evaluate.py wrote")
    parser.add_argument("--follow", action="store_true", help="serve the page while the runs train")
    parser.add_argument("--port", type=int, default=0, help="with --follow; default: a free one")
    parser.add_argument("--task", type=tasks.named, help="the file of your own task, where the runs are of one")
    args = parser.parse_args(argv)
    known = list(tasks.known().values())
    if args.follow:
        return cli.run(lambda: following.follow(args.out, args.run, args.eval, known, args.port))
    return cli.run(lambda: report.write(args.out, args.run, args.eval, known))


if __name__ == "__main__":
    sys.exit(main())
