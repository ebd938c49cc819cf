"""Score the samples of a run again with other weights, from its trace: nothing is generated, no service is asked.

    python tools/rescore.py output/query_rewrite/grpo/trace.jsonl                       # as the run scored them
    python tools/rescore.py output/query_rewrite/grpo/trace.jsonl --weight-judge 0 --reward-weights 1.0 0.5 --out totals.jsonl

Prints the mean rewards of each step then and now. What was not measured then cannot be weighed now: without a verdict the other
weights grow, without a recall list a sample abstains.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.query_rewrite import rescore

main = partial(cli.main, rescore, __doc__)

if __name__ == "__main__":
    sys.exit(main())
