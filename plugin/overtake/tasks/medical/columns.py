"""Names of the columns in a training file of this task: nothing else spells them. Light, since the task object reads them, too."""

TOOL = "tools/prepare_medical.py"
ID = "med_id"
QUESTION = "med_question"
RISK = "med_risk"
REFERENCE = "med_reference"
KEYWORDS = "med_keywords"
SOURCE = "med_source"
RUBRICS = "med_rubrics"
"""The row's own criteria, in HealthBench's form; "" for none."""
HISTORY = "med_history"
"""The turns before the question, as JSON; "" for none."""
OWED = "med_owed"
"""Of the red team alone."""
READ = (ID, QUESTION, RISK, REFERENCE, KEYWORDS)
"""What the rewards need to know of a row."""
OPTIONAL = (RUBRICS, HISTORY)
"""What they read where there is any."""
