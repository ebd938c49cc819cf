"""Say what a training run's log shows: reward at the start and at the end, seconds, steps.

    python tools/curve.py output/query_rewrite/grpo
    python tools/curve.py output/query_rewrite/sft --steps-to-match output/query_rewrite/grpo   # prints a number of steps

Reads logging.jsonl, which ms-swift writes into the output folder.
"""

import sys
from functools import partial

from overtake import cli
from overtake.evaluation import curves

main = partial(cli.main, curves, __doc__)

if __name__ == "__main__":
    sys.exit(main())
