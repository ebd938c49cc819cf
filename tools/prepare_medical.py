"""Make the files of the medical task from a hub's data set and tables of your own.

    python tools/prepare_medical.py krisfu/delicate_medical_r1_data my_answers.xlsx output/medical/data
    python tools/prepare_medical.py answers.jsonl output/medical/data --questions-only asks.jsonl --red-team red_team.jsonl

An INPUT is a data set on ModelScope (USE_HF=1: Hugging Face; fetched once, kept in OVERTAKE_CACHE_DIR), a .jsonl, .xlsx or .csv file or a
folder, with the columns question and answer, maybe reasoning and keywords, also under their Chinese names. OUT_DIR gets

    train.jsonl, dev.jsonl     for SFT: questions with answers
    test.jsonl                 held out
    gold_set.jsonl             answers that keep every rule of the book, not in the others; the first a doctor should check
    red_team.jsonl             high-risk questions; `split`: train, or held_out, which nothing is trained on
    training_prompts.jsonl     for RL, high-risk first: the red team's training part, the gold set, then train
    DATA_CARD.md, prepare_stats.json

No question, nor one nearly the same, stands on two sides. An answer that breaks a safety rule of the book is not trained on.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.medical import prepare

main = partial(cli.main, prepare, __doc__)

if __name__ == "__main__":
    sys.exit(main())
