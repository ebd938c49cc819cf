"""Turn a validated sheet into training, validation and held-out files: step 3 of the data for query rewriting.

    python tools/convert.py validated.xlsx data/ --require-gain

The split is drawn before the filter, so that evaluation sees the questions where the teacher lost too. OUT_DIR gets

    train.jsonl, val.jsonl        filtered, for SFT: messages (system, user, assistant) and metadata
    rl_train.jsonl, rl_val.jsonl  unfiltered, for RL: messages (system, user) and the teacher's measurements as rag_* columns
    test.jsonl                    unfiltered and held out, columns as for RL
    convert_stats.json            what fell where and why
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.query_rewrite import convert

main = partial(cli.main, convert, __doc__)

if __name__ == "__main__":
    sys.exit(main())
