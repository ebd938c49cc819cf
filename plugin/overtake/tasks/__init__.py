"""The tasks: a folder each, found by itself, and those of users' own files; the one registry."""

import argparse
import ast
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

from overtake.task import DECLARED, Reward, Task

DEFAULT = "query_rewrite"
"""The task that tools take when none is named."""
_own: dict[str, Task] = {}


@cache
def shipped() -> dict[str, Task]:
    """The tasks of this package, by the name that users type, the default first. A folder here with a `TASK` is one."""
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))
    tasks: list[Task] = [import_module(f"{__name__}.{name}").TASK for name in folders]
    DECLARED.update({setting.name: setting for task in tasks for setting in task.settings})
    return {task.called: task for task in sorted(tasks, key=lambda task: (task.name != DEFAULT, task.called))}


def known() -> dict[str, Task]:
    """All tasks, by the name that users type: those of this package, then the registered ones."""
    return {**shipped(), **_own}


def register(task: Task) -> Task:
    """Make a user's own task known; doing it again replaces it. Raises ValueError for what is none, or has the name of another."""
    if not isinstance(task, Task):
        raise ValueError(f"{task!r} is no Task: make one of overtake.task.Task")
    for other in shipped().values():
        if {task.name, task.called} & {other.name, other.called}:
            raise ValueError(f"task {task.called}: this package has a task of that name; call yours otherwise")
        if shared := {reward.name for reward in task.rewards} & {reward.name for reward in other.rewards}:
            raise ValueError(f"task {task.called}: reward {', '.join(sorted(shared))} is one of {other.called}; call yours otherwise")
    _own[task.called] = task
    DECLARED.update({setting.name: setting for setting in task.settings})
    return task


def rewards() -> dict[str, Reward]:
    """The rewards of all tasks, by name."""
    return {reward.name: reward for reward in (reward for task in known().values() for reward in task.rewards)}


def find(name: str) -> Task:
    """The task of a name, or of a Python file that defines TASK. Raises ValueError naming the tasks there are."""
    if name.endswith(".py"):
        return _of_file(Path(name))
    tasks = known()
    match = tasks.get(name) or next((task for task in tasks.values() if task.name == name), None)
    if match is None:
        raise ValueError(f"{name} is no task: there are {', '.join(tasks)}, or name the file of your own, path/to/task.py")
    return match


@cache
def _loaded(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(f"overtake_task_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while they are made
    spec.loader.exec_module(module)
    return module


def _of_file(path: Path) -> Task:
    if not path.is_file():
        raise ValueError(f"{path} is no file: name the Python file that defines TASK")
    task = getattr(_loaded(path.resolve()), "TASK", None)
    if not isinstance(task, Task):
        raise ValueError(f"{path} defines no TASK: make one of overtake.task.Task")
    return register(replace(task, file=str(path.resolve())))


def with_plugins(files: Sequence[str]) -> list[Task]:
    """All known tasks, and those that files of --external_plugins define; a file without a TASK is not run."""
    for name in files:
        path = Path(name)
        try:
            lines = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
        except (SyntaxError, UnicodeDecodeError):
            continue  # said where plugins are examined
        if any(isinstance(line, ast.Assign) and any(getattr(target, "id", "") == "TASK" for target in line.targets) for line in lines):
            find(name)
    return list(known().values())


def named(name: str) -> Task:
    """Return `find` for an option of argparse, whose errors are in one line."""
    try:
        return find(name)
    except (ValueError, SyntaxError, ImportError) as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from None


def having(stage: str) -> dict[str, Task]:
    """The known tasks that a tool can do, by name."""
    return {name: task for name, task in known().items() if stage in task.stages}


def choose(
    argv: Sequence[str] | None,
    stage: str,
    description: str,
    shared: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> tuple[Task, argparse.Namespace]:
    """Return (the task that --task names, what it and the tool were told) of a tool that does `stage`; the default task is the default.

    `shared` adds the options that every task has, the task's module its own. A task may be named by its file.
    """
    offered = having(stage)
    others = {task.also[stage]: name for name, task in offered.items() if stage in task.also}

    def able(name: str) -> Task:
        task = named(others.get(name, name))
        if stage not in task.stages:
            raise argparse.ArgumentTypeError(f"{task.called} is nothing this tool does: there are {', '.join(offered)}")
        return task

    default = DEFAULT if DEFAULT in offered else next(iter(offered))

    def add_task(parser: argparse.ArgumentParser, about: str) -> None:
        names = f"{{{','.join(offered)}}}"
        parser.add_argument("--task", type=able, metavar=names, default=default, help=about)

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_task(first, "")
    module = first.parse_known_args(argv)[0].task.stage(stage)
    parser = argparse.ArgumentParser(
        description=f"{description}\n{module.__doc__}", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_task(parser, "or the file of your own task; default %(default)s; --help shows its options")
    shared(parser)
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    return args.task, args
