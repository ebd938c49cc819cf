"""Keep the best of the rewrites that `swift sample` drew, as rows for SFT: rejection sampling (recipes/sample_rag.sh does both).

    python tools/select_best_of_n.py data/rl_train.jsonl sample/draws.jsonl sample/train.jsonl

Of a question's draws the one that RagCompetition scores highest is kept, among those without a fault by RewriteRules that retrieve better
than the question itself. A draw that could not be measured has no score: the best of the others is kept, and a question without any
measured draw is left out. OUTPUT holds messages, the rows' other columns and metadata; OUTPUT.left_out.jsonl every other question and why.
With --selected rl_train.selected.jsonl the rows that teach something are written too: without the questions of which eight draws or more,
all measured, earn the same, so that GRPO would compare equals. ROWS itself stays.
The judge is asked about OVERTAKE_JUDGE_SHARE of the questions. Measurements are kept: the same command again asks only for what failed.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.query_rewrite import select

main = partial(cli.main, select, __doc__)

if __name__ == "__main__":
    sys.exit(main())
