"""What a teacher writes for each task: one module a task, which `tools/generate.py --task` names, and what all of them share."""

# Name for --task -> module with `add_arguments(parser)` and `work(args) -> exit code`; its docstring is what --help says.
TASKS: dict[str, str] = {
    "query_rewrite": "overtake.generation.query_rewrite",
    "finance": "overtake.generation.finance",
    "judge": "overtake.generation.judge",
}
