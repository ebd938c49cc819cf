"""The tasks that this package knows: one folder each, over mechanisms that name none of them."""

# Name for --task -> module with TASK (a comparing.Task) and `add_arguments(parser)`; its docstring is what --help says.
EVALUATE: dict[str, str] = {
    "query_rewrite": "overtake.tasks.query_rewrite.evaluate",
    "finance": "overtake.tasks.finance.evaluate",
    "medical": "overtake.tasks.medical.evaluate",
    "judge": "overtake.tasks.answer_judge.evaluate",
}
# Name for --task -> module with `add_arguments(parser)` and `work(args) -> exit code`; its docstring is what --help says.
GENERATE: dict[str, str] = {
    "query_rewrite": "overtake.tasks.query_rewrite.generate",
    "finance": "overtake.tasks.finance.generate",
    "judge": "overtake.tasks.answer_judge.generate",
}
GRADE: dict[str, str] = {"rag": "overtake.tasks.answer_judge.grade", "medical": "overtake.tasks.medical.grade"}
