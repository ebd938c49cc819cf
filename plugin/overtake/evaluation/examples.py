"""Examples out of the held-out rows, what each system answered side by side: the best and the worst, or gains, ties and losses."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from overtake.data.outputs import reading
from overtake.data.tables import read_objects
from overtake.evaluation.statistics import Interval, paired_difference
from overtake.task import Task

Details = Mapping[str, Mapping[str, Any]]
"""A system's line of eval_details_NAME.jsonl by row id."""


E = TypeVar("E")
OUTCOMES = ("better", "same", "worse")
_TIE = 1e-9


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


def compared(summary: Mapping[str, Any], details: Mapping[str, Details], task: Task) -> tuple[str, str]:
    """Return (ours, theirs): the system that the evaluation holds against the others, and what the task measures by, else another one.

    "" for what the folder does not hold.
    """
    systems = summary.get("systems", {})
    base = next((name for name, spec in systems.items() if spec == task.evaluation.base and name in details), "")
    ours = next((name for name in (summary.get("against") or "", *reversed(list(details))) if name in details and name != base), "")
    return ours, base or next((name for name in details if name != ours), "")


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
    gains = _gains(details[ours], details[theirs], measure)
    ranked = sorted(gains, key=lambda row: -gains[row])
    best = [_example(row, details, gains, ours, task) for row in ranked[:count] if gains[row] > 0]
    return best, [_example(row, details, gains, ours, task) for row in ranked[::-1][:count] if gains[row] < 0]


def outcomes(details: Mapping[str, Details], ours: str, theirs: str, measure: str, task: Task) -> dict[str, list[Example]]:
    """All rows that both measured as better, same and worse, each from the smallest difference to the largest."""
    gains = _gains(details[ours], details[theirs], measure)
    parts: dict[str, list[Example]] = {name: [] for name in OUTCOMES}
    for row in sorted(gains, key=lambda row: (abs(gains[row]), row)):
        name = OUTCOMES[0] if gains[row] > _TIE else OUTCOMES[2] if gains[row] < -_TIE else OUTCOMES[1]
        parts[name].append(_example(row, details, gains, ours, task))
    return parts


def in_their_shares(parts: Mapping[str, Sequence[E]], count: int) -> list[E]:
    """At most `count` examples, as many of each outcome as its share of all rows, spread over its differences.

    >>> in_their_shares({"better": ["a"], "same": ["b", "c", "d", "e"], "worse": ["f"]}, 3)  # of 2 in 3 rows, and 1 of the others
    ['a', 'c', 'e']
    """
    rows = sum(map(len, parts.values()))
    count = min(count, rows)
    exact = {name: count * len(part) / rows for name, part in parts.items() if part}
    counts = {name: int(share) for name, share in exact.items()}
    # An outcome that there is is shown where there is room for it, then by the largest remainder.
    for name in sorted(exact, key=lambda name: (counts[name] > 0, counts[name] - exact[name]))[: count - sum(counts.values())]:
        counts[name] += 1
    return [example for name, part in parts.items() if part for example in _spread(part, counts[name])]


def _spread(part: Sequence[E], count: int) -> list[E]:
    return [part[(2 * at + 1) * len(part) // (2 * count)] for at in range(count)]


def one_of_each(parts: Mapping[str, Sequence[Example]], ours: str, theirs: str, titles: Mapping[str, str]) -> str:
    """A gain, a tie and a loss in words, each the middle one of its kind: question, both answers, and what else the details say.

    `titles`: names of documents, by what the details call them.
    """
    rows = sum(map(len, parts.values()))
    lines = [f"{ours} against {theirs}, {rows} held-out rows: " + ", ".join(f"{len(part)} {name}" for name, part in parts.items())]
    for name, part in parts.items():
        if not part:
            lines += ["", f"{name} (0 of {rows})"]
            continue
        (example,) = _spread(part, 1)
        question, *_ = example.asked.values()
        lines += ["", f"{name} ({len(part)} of {rows}): {' '.join(question.split())}"]
        lines += [f"  {column}: {_titled(text, titles)}" for column, text in list(example.asked.items())[1:]]
        for answer in example.answers:
            if answer.system in (ours, theirs):
                lines.append(f"  {answer.system}: {' '.join(answer.text.split()) or '(no answer)'}")
                lines += [f"    {note}: {_titled(text, titles)}" for note, text in answer.notes.items()]
    return "\n".join(lines)


def _titled(text: str, titles: Mapping[str, str]) -> str:
    return ", ".join(f"{part} {titles[part]}" if part in titles else part for part in text.split(", "))


def _gains(ours: Details, theirs: Details, measure: str) -> dict[str, float]:
    return {
        row: float(line[measure]) - float(theirs[row][measure])
        for row, line in ours.items()
        if measure in line and measure in theirs.get(row, {})
    }


def _example(row: str, details: Mapping[str, Details], gains: Mapping[str, float], ours: str, task: Task) -> Example:
    shown = [name for name, column in task.evaluation.shown.items() if column != task.evaluation.id]
    answers = [_answer(system, lines[row], task) for system, lines in details.items() if row in lines]
    cells = {name: text for name in shown if (text := words(details[ours][row].get(name, "")))}
    return Example(row, cells, gains[row], answers)


def fingerprint(details: Mapping[str, Details], task: Task) -> str:
    """Twelve digits of the SHA-256 of the held-out rows as the details show them: the same rows give the same, whoever answered."""
    rows = {row: [line.get(name) for name in task.evaluation.shown] for lines in details.values() for row, line in lines.items()}
    return hashlib.sha256(json.dumps(sorted(rows.items()), ensure_ascii=False).encode()).hexdigest()[:12]


def _answer(system: str, line: Mapping[str, Any], task: Task) -> Answer:
    scores = {name: float(line[name]) for name in next(iter(task.measured().values())) if isinstance(line.get(name), int | float)}
    measured = {*task.evaluation.shown, task.evaluation.answer, *task.measures()}
    notes = {name: words(value) for name, value in line.items() if name not in measured and value and not isinstance(value, int | float)}
    return Answer(system, str(line.get(task.evaluation.answer) or ""), scores, notes)


def words(value: Any) -> str:
    """A value of the details as one line of text.

    >>> words({"length": "too short"}), words(["a", "b"]), words('["c"]')
    ('length: too short', 'a, b', 'c')
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {words(item)}" for name, item in value.items())
    return ", ".join(map(words, value)) if isinstance(value, list) else str(value)
