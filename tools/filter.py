"""Filter a teacher's solutions, by rules and then by the judge, into what SFT, RL and evaluation read: stage 3 of the finance task.

    python tools/filter.py distilled.jsonl output/finance/data
    python tools/filter.py distilled.jsonl output/finance/data --no-judge

A fifth of the problems is held out first, whatever their solutions are worth. OUT_DIR gets

    sft.jsonl          the best solutions of the other problems: id, prompt, response, type, source, messages
    rl.jsonl           all those problems, solved or not: id, prompt, gold_answer, type, source
    test.jsonl         the held-out problems, columns as for RL
    rejected.jsonl     each solution that was left out: id, sample, reason, and what the judge said of it
    unjudged.jsonl     solutions of which the judge gave no verdict; run again to go on with just these
    filter_stats.json  counts by reason, type and criterion

A solution passes the judge when each of four criteria (logic, accuracy, completeness, concision) has its share of checks: its weakest
criterion decides, so that no strength makes up for a wrong formula.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.finance import filter

main = partial(cli.main, filter, __doc__, output="out_dir")

if __name__ == "__main__":
    sys.exit(main())
