"""Names of the columns in a training file of this task: nothing else spells them. Light, since the task object reads them, too."""

TOOL = "--dataset overtake/judge:FILE"
JUDGE_ID = "judge_id"
JUDGE_QUESTION = "judge_question"
JUDGE_ANSWER = "judge_answer"
JUDGE_ANSWER_HAT = "judge_answer_hat"
JUDGE_MAIN = "judge_main"
JUDGE_SECONDARY = "judge_secondary"
JUDGE_FACTS = "judge_facts"
JUDGE_REASON = "judge_reason"
"""Of a judge's verdict, in a table of verdicts."""
READ = (JUDGE_MAIN, JUDGE_SECONDARY)
"""What tells whether a verdict is right."""
SHOWN = (JUDGE_ID, JUDGE_QUESTION, JUDGE_ANSWER, JUDGE_ANSWER_HAT)
"""What the trace shows of a row, where it is there."""
