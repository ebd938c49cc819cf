"""Names of the columns in a training file of this task: nothing else spells them. Light, since the task object reads them, too."""

TOOL = "tools/filter.py"
"""Makes the training files, with the columns that the rewards read."""
ID = "fin_id"
QUESTION = "fin_question"
GOLD = "fin_gold"
TYPE = "fin_type"
SOURCE = "fin_source"
READ = (ID, QUESTION, GOLD, TYPE)
"""What tells whether an answer is right."""
GRADED = (GOLD, QUESTION)
"""What a rule for one kind of answer needs."""
