"""Print the medical rule book in plain words, check it, or score answers by it with the reason for each point.

    python tools/rules.py                       # the book, Chinese and English
    python tools/rules.py --check               # after an edit: are the files sound, and do all examples hold?
    python tools/rules.py --check sheet.xlsx    # and the rubrics of a sheet: what contradicts, what cannot be judged?
    python tools/rules.py --question "感冒要吃抗生素吗？" --answer "一般不需要。"
    python tools/rules.py --answers answers.jsonl --output scored.xlsx

A file of answers (.jsonl, .xlsx, .csv) has the columns question and answer, maybe keywords and reference (or med_question and so on).
--output adds rules_total, rules_safe, rules_broken and rules_reasons to its rows. The book is medical_rules.yaml and medical_risks.yaml in
plugin/overtake/tasks/medical.
"""

import sys
from functools import partial

from overtake import cli
from overtake.tasks.medical import rules

main = partial(cli.main, rules, __doc__)

if __name__ == "__main__":
    sys.exit(main())
