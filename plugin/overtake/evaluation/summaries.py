"""Labels of a summary.json beside its numbers: of which task it is, how each metric is called, and whether more of it is better."""

from collections.abc import Mapping, Sequence
from typing import Any

from overtake.task import Task


def describe(summary: dict[str, Any], task: Task) -> None:
    """Add the task and its metrics to a summary."""
    metrics = [task.metric(name) for name in _names(summary)]
    summary["task"] = task.called
    summary["metrics"] = {metric.name: {"en": metric.english, "zh": metric.chinese, "better": metric.better} for metric in metrics}


def task_of(summary: Mapping[str, Any], tasks: Sequence[Task]) -> Task:
    """The task that was measured: the one that the summary names, else the one that knows most of its measures."""
    named = next((task for task in tasks if task.called == summary.get("task")), None)
    return named or max(tasks, key=lambda task: sum(task.knows(name) for name in _names(summary)))


def better(summary: Mapping[str, Any], tasks: Sequence[Task]) -> dict[str, str]:
    """Return up, down or neutral for each metric: as the summary says, else, of one that does not say it, as its task does, or another."""
    directions = {name: metric["better"] for name, metric in summary.get("metrics", {}).items()}
    first = task_of(summary, tasks)

    def declared(name: str) -> str:
        return next((task for task in (first, *tasks) if task.knows(name)), first).metric(name).better

    return {name: directions.get(name) or declared(name) for name in _names(summary)}


def _names(summary: Mapping[str, Any]) -> list[str]:
    parts = (summary.get(part, {}).values() for part in ("means", "differences"))
    return list(dict.fromkeys(name for part in parts for of in part for name in of))
