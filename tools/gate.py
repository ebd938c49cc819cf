"""The promotion gate: does a held-out comparison show a checkpoint worse than the model it starts from? recipes/export.sh asks it.

    python tools/gate.py output/query_rewrite/eval/summary.json output/query_rewrite/grpo/checkpoint-200 --start SFT

The summary is the one of tools/evaluate.py --against. Exit codes: 0 not shown worse, 1 shown worse (where is printed), 2 the summary
says nothing of this checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import tasks
from overtake.evaluation import gate, summaries


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("summary", type=Path, help="summary.json of tools/evaluate.py")
    parser.add_argument("checkpoint", type=Path, help="what is to be exported")
    parser.add_argument("--start", default="SFT", help="the candidate that it starts from (default %(default)s)")
    parser.add_argument("--metric", default="", help="look at this one alone (default: all that are better one way)")
    args = parser.parse_args(argv)
    try:
        summary = gate.read(args.summary)
        gate.check(args.summary, summary, args.checkpoint, args.start, args.metric)
    except gate.Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    words = gate.worse(summary, summaries.better(summary, list(tasks.known().values())), args.start, args.metric)
    print(words, end="\n" if words else "")
    return int(bool(words))


if __name__ == "__main__":
    sys.exit(main())
