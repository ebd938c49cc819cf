"""Calibrate a judge: how far it agrees with people, and what its verdicts hang on that they should not.

    python tools/calibrate.py labelled.xlsx --judge rules
    python tools/calibrate.py labelled.xlsx --judge endpoint --summary output/judge/calibration.json   # OVERTAKE_JUDGE_*
    python tools/calibrate.py labelled.xlsx --judge output/judge/grpo/checkpoint-50-merged

Rows: a question, reference answers, a generated answer and the human verdict (`question`, `answer`, `answer_hat`, `label`, or EVOUNA's
columns). Shown: accuracy, balanced accuracy and Cohen's kappa with 95 % intervals over questions, beside those of the simplest judge (a
reference answer is a substring); the same by answering model and by length; the confusion table; how often the judge abstained; and
probes, which ask again with the reference answers in reverse, with sentences about nothing behind the answer, with a plea for a good
verdict behind a refused one, and with another question's answer.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.answer_judge import calibrate

main = partial(cli.main, calibrate, __doc__, output="summary")

if __name__ == "__main__":
    sys.exit(main())
