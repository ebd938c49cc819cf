"""Systems compared on held-out rows: one module a task, which `tools/evaluate.py --task` names, and what all of them share."""

# Name for --task -> module with TASK (a comparing.Task) and `add_arguments(parser)`; its docstring is what --help says.
TASKS: dict[str, str] = {
    "query_rewrite": "overtake.evaluation.query_rewrite",
    "finance": "overtake.evaluation.finance",
    "medical": "overtake.evaluation.medical",
    "judge": "overtake.evaluation.judge",
}
