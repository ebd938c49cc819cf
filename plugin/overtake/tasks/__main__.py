"""What the recipes ask of a task, a line each: its folder under output/, its served name, its port, its flags of `swift deploy`.

python -m overtake.tasks query_rewrite
"""

import sys

from overtake import tasks
from overtake.task import Task


def told(task: Task) -> list[str]:
    """The lines.

    >>> told(tasks.find("judge"))
    ['judge', 'judge', '8000', '--temperature 0 --max_new_tokens 1024 --enable_thinking true']
    """
    how = task.decoding
    top_p = "" if how.top_p is None else f" --top_p {how.top_p:g}"
    flags = f"--temperature {how.temperature:g}{top_p} --max_new_tokens {how.limit}"
    return [task.called, task.served, str(task.port), " ".join([flags, *how.flags])]


def main(name: str) -> int:
    """Print the lines; 2 for a name that is no task's."""
    try:
        print(*told(tasks.find(name)), sep="\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
