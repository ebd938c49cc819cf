"""Best and worst examples: held-out rows where one system gains or loses most against another, what each answered side by side."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overtake.data.outputs import reading
from overtake.data.tables import read_objects
from overtake.evaluation.statistics import Interval, paired_difference
from overtake.task import Task

Details = Mapping[str, Mapping[str, Any]]
"""A system's line of eval_details_NAME.jsonl by row id."""


class Answer(NamedTuple):
    """One system's side of an example."""

    system: str
    text: str
    scores: dict[str, float]
    notes: dict[str, str]
    """What the details hold besides: documents found, the judge's words, broken rules."""


class Example(NamedTuple):
    """A held-out row with the answers to it."""

    row_id: str
    asked: dict[str, str]
    """The columns of the row, the question first."""
    difference: float
    answers: list[Answer]


def file_part(system: str) -> str:
    """A system's name as it stands in the names of its files.

    >>> file_part("fused:long SFT")
    'fused_long_SFT'
    """
    return system.replace(" ", "_").replace(":", "_")


def read_details(folder: Path, systems: Sequence[str], task: Task) -> dict[str, Details]:
    """The details of those systems that have a file in the folder of tools/evaluate.py."""
    key = next(shown for shown, column in task.evaluation.shown.items() if column == task.evaluation.id)
    details: dict[str, Details] = {}
    for system in systems:
        file = folder / f"eval_details_{file_part(system)}.jsonl"
        if file.is_file():
            details[system] = {line[key]: line for line in read_objects(reading(file)) if line}
    return details


def main_measure(measured: Sequence[str], task: Task) -> str:
    """The measure by which examples are ranked, of those that there are: what the task is about, else the first."""
    return task.main if task.main in measured else measured[0]


def difference(ours: Details, theirs: Details, measure: str) -> Interval | None:
    """The paired difference on the rows that both measured; None when there are none."""
    mine, others = ({row: float(line[measure]) for row, line in side.items() if measure in line} for side in (ours, theirs))
    return paired_difference(mine, others) if mine.keys() & others.keys() else None


def extremes(
    details: Mapping[str, Details], ours: str, theirs: str, measure: str, task: Task, count: int
) -> tuple[list[Example], list[Example]]:
    """Return (best, worst): at most `count` rows each where `ours` gains most on `theirs`, and where it loses most."""
    gains = {
        row: float(line[measure]) - float(details[theirs][row][measure])
        for row, line in details[ours].items()
        if measure in line and measure in details[theirs].get(row, {})
    }

    def example(row: str) -> Example:
        shown = [name for name, column in task.evaluation.shown.items() if column != task.evaluation.id]
        line = details[ours][row]
        answers = [_answer(system, lines[row], task) for system, lines in details.items() if row in lines]
        cells = {name: text for name in shown if (text := _words(line.get(name, "")))}
        return Example(row, cells, gains[row], answers)

    ranked = sorted(gains, key=lambda row: -gains[row])
    best = [example(row) for row in ranked[:count] if gains[row] > 0]
    return best, [example(row) for row in ranked[::-1][:count] if gains[row] < 0]


def fingerprint(details: Mapping[str, Details], task: Task) -> str:
    """Twelve digits of the SHA-256 of the held-out rows as the details show them: the same rows give the same, whoever answered."""
    rows = {row: [line.get(name) for name in task.evaluation.shown] for lines in details.values() for row, line in lines.items()}
    return hashlib.sha256(json.dumps(sorted(rows.items()), ensure_ascii=False).encode()).hexdigest()[:12]


def _answer(system: str, line: Mapping[str, Any], task: Task) -> Answer:
    scores = {name: float(line[name]) for name in next(iter(task.measured().values())) if isinstance(line.get(name), int | float)}
    measured = {*task.evaluation.shown, task.evaluation.answer, *task.measures()}
    notes = {name: _words(value) for name, value in line.items() if name not in measured and value and not isinstance(value, int | float)}
    return Answer(system, str(line.get(task.evaluation.answer) or ""), scores, notes)


def _words(value: Any) -> str:
    """A value of the details as one line of text.

    >>> _words({"length": "too short"}), _words(["a", "b"]), _words('["c"]')
    ('length: too short', 'a, b', 'c')
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_words(item)}" for name, item in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
