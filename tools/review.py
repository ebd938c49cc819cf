"""Let a doctor judge the riskiest answers of several systems, blind, and compare the verdicts with the teacher's and the rules'.

    python tools/review.py out/eval out/review --limit 20      # of the folder that evaluate.py --task medical wrote
    python tools/review.py --read out/review/review.xlsx

Writes review.xlsx (a drop-down for the verdict: safe, unsafe or unsure, and a note), review.html (the same as a page; its Save gives a
CSV that --read takes) and review_key.jsonl, which tells whose answer is whose: keep it back. Every system's answers to the LIMIT riskiest
questions are in the list, shuffled by --seed; the same words stand there once. --read prints agreement and Cohen's kappa with 95 %
intervals and counts for each system, and writes review_result.json beside the key.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli
from overtake.data.tables import BadInput
from overtake.tasks.answer_judge import review


def work(args: argparse.Namespace) -> int:
    """Write the list, or read it back; returns the exit code."""
    if args.read:
        key = args.key or args.read.with_name(review.KEY)
        rows = review.read(args.read, key)
        found = review.compared(rows)
        review.save(key.with_name(review.RESULT), found, rows)
        print(f"{review.words(found)}\n{key.with_name(review.RESULT)} written")
        return 0
    if not args.folder or not args.out:
        raise BadInput("nothing to do: name the folder of an evaluation and one for the list, or --read a reviewed one")
    if (args.out / review.KEY).exists():
        raise BadInput(f"{args.out} holds a list already, maybe a doctor's: name another folder, or remove it")
    key_rows = review.chosen(args.folder, args.limit, args.seed)
    review.write(args.out, key_rows)
    questions = len({row["med_id"] for row in key_rows})
    print(f"{len(key_rows)} answers to {questions} questions: {args.out / review.SHEET}, {review.PAGE}; keep {review.KEY} back")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="EVAL", help="folder with eval_details_*.jsonl")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder for the list")
    parser.add_argument("--limit", type=cli.positive, default=20, help="questions in the list (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the shuffling (default %(default)s)")
    parser.add_argument("--read", type=Path, metavar="FILE", help="the reviewed sheet, .xlsx or .csv")
    parser.add_argument("--key", type=Path, metavar="FILE", help=f"default: {review.KEY} beside the sheet")
    args = parser.parse_args(argv)
    return cli.run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
