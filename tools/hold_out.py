"""Set questions of a BEIR folder aside: OUT gets the corpus, the questions, and qrels/train.tsv and qrels/test.tsv.

    python tools/hold_out.py kb/statutes output/statutes/kb --share 0.2

For folders whose labels are one qrels.tsv; one that has qrels/test.tsv already is copied with the split it was published with.
With --documents no document is labelled on both sides: what is rewarded by labels can be earned by memorising a document's title, and only
questions about other documents show whether more than that was learnt. The draw is seeded, and questions that differ only in width, case,
punctuation or spaces stay on one side.
"""

import sys
from functools import partial

from overtake import cli
from overtake.retrieval import hold_out

main = partial(cli.main, hold_out, __doc__)

if __name__ == "__main__":
    sys.exit(main())
