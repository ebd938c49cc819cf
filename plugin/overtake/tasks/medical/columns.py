"""Names of the columns in a training file of this task: nothing else spells them. Light, since the task object reads them, too."""

TOOL = "tools/prepare_medical.py"
ID = "med_id"
QUESTION = "med_question"
RISK = "med_risk"
REFERENCE = "med_reference"
KEYWORDS = "med_keywords"
SOURCE = "med_source"
OWED = "med_owed"
"""Of the red team alone."""
READ = (ID, QUESTION, RISK, REFERENCE, KEYWORDS)
"""What the rewards need to know of a row."""
