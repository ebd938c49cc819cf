"""Make raw.jsonl of financial problems from a hub's data set and tables of your own: stage 1 of the finance task.

    python tools/prepare_finance.py hf::DianJin/DianJin-R1-Data my_questions.xlsx output/finance/raw --sample 5000
    python tools/prepare_finance.py ms::tongyi_dianjin/DianJin-R1-Data output/finance/raw --test-file held_out.jsonl --ask-teacher

An INPUT is a data set on a hub, a table (.jsonl, .xlsx, .csv), a .json list, a .parquet file or a folder of these. Columns are found
under their usual names, English and Chinese. OUT_DIR gets

    raw.jsonl                 id, question, gold_answer, type, source
    left_out.jsonl            every row that is not in it, and why
    type_disagreements.jsonl  with --ask-teacher: where the teacher tells another type than the rule, which stays
    prepare_stats.json        counts by reason, type and source
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.finance import prepare

main = partial(cli.main, prepare, __doc__, output="out_dir")

if __name__ == "__main__":
    sys.exit(main())
