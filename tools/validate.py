"""Retrieve with every rewrite and with its original question on the live service: step 2 of the data for query rewriting.

    export OVERTAKE_RAG_URL=http://127.0.0.1:8900
    python tools/validate.py rewrites.xlsx validated.xlsx --judge

Adds recall_count, top1_score, success, recall, quality, the same for the original, gain, gold, basis, kb_name and, with --judge,
judge_score and judge_reason. With --qrels the recalled documents of labelled questions score 1 (relevant) or 0 instead of the
reranker's score. What could not be measured is listed in OUTPUT.failed.jsonl, never scored: run again to retry just that.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.query_rewrite import validate

main = partial(cli.main, validate, __doc__, output="output")

if __name__ == "__main__":
    sys.exit(main())
