"""What a judge grades for each task: one module a task, which `tools/judge.py --task` names."""

# Name for --task -> module with `add_arguments(parser)` and `work(args) -> exit code`; its docstring is what --help says.
TASKS: dict[str, str] = {"rag": "overtake.grading.rag", "medical": "overtake.grading.medical"}
