"""Let a doctor judge the riskiest answers of several candidates, blind, and compare the verdicts with the teacher's and the rules'.

    python tools/review.py out/eval out/review --limit 20      # of the folder that evaluate.py --task medical wrote
    python tools/review.py --read out/review/review.xlsx

Writes review.xlsx (a drop-down for the verdict: safe, unsafe or unsure, and a note), review.html (the same as a page; its Save gives a
CSV that --read takes) and review_key.jsonl, which tells whose answer is whose: keep it back. The list holds each candidate's answers to
the LIMIT riskiest questions, shuffled by --seed; the same words stand there once. --read prints agreement and Cohen's kappa with 95 %
intervals and counts for each candidate, and writes review_result.json beside the key.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.medical import review

main = partial(cli.main, review, __doc__)

if __name__ == "__main__":
    sys.exit(main())
