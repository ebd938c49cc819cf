"""Say what a training run's log shows: reward at the start and at the end, seconds, steps.

    python tools/curve.py output/query_rewrite/grpo
    python tools/curve.py output/query_rewrite/sft --as-long-as output/query_rewrite/grpo   # prints a number of steps

Reads logging.jsonl, which ms-swift writes into the output folder.
"""

import argparse
import math
import sys
from pathlib import Path

from overtake.cli import run
from overtake.evaluation.curves import first_and_last_fifth, read_log, train_seconds


def show(folder: Path, as_long_as: Path | None) -> int:
    """Print the summary, or with `as_long_as` the number of steps `folder` would have done in the other run's time."""
    rows = read_log(folder)
    seconds, steps = train_seconds(rows)
    if as_long_as:
        print(max(1, round(train_seconds(read_log(as_long_as))[0] * steps / seconds)))
        return 0
    print(f"{folder}: {steps} steps in {seconds:.0f} s")
    # A step in which nothing could be measured has no reward (NaN).
    rewards = [float(row["reward"]) for row in rows if not math.isnan(row.get("reward", math.nan))]
    if rewards:
        first, last = first_and_last_fifth(rewards)
        print(f"mean training reward: first fifth {first:+.3f}, last fifth {last:+.3f} ({last - first:+.3f})")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output folder of a training run")
    parser.add_argument("--as-long-as", type=Path, metavar="RUN", help="print how many steps fit into the time that run took")
    arguments = parser.parse_args(argv)
    return run(lambda: show(arguments.run, arguments.as_long_as))


if __name__ == "__main__":
    sys.exit(main())
