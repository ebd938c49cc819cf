"""Honest answers and attacks through the very rewards of a run: what each earns, row by row, and which attack is paid."""

import importlib.util
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from overtake import task as kinds
from overtake import text_table
from overtake.data.tables import BadInput
from overtake.doctor import attacks
from overtake.doctor.findings import Finding, listed
from overtake.evaluation.statistics import Interval, bootstrap_mean
from overtake.rewards import reward as rewarding
from overtake.rewards import trace
from overtake.rewards.measuring import Outage
from overtake.settings import SettingsError
from overtake.task import Row, Task

HONEST = "honest"
_EQUAL = 1e-9
_MOST = 0.7
"""Of what an honest answer earns an attack should earn less than this share."""


class Reward(NamedTuple):
    """A reward of the run."""

    name: str
    weight: float
    score: Any
    """Called as ms-swift calls it: score(completions, **columns) -> one value or None for each."""


class Line(NamedTuple):
    """Mean earnings of one kind of answer, over the rows on which it and the honest answer were measured."""

    answer: str
    total: float | None
    difference: Interval | None
    """From the honest answer, paired by row; None for the honest one itself."""
    rewards: dict[str, float]
    """By name of reward, and of the parts of a composite one."""
    rows: int


class Outcome(NamedTuple):
    """Lines, the honest answer first; and the honest total of each row, None where it could not be measured."""

    lines: list[Line]
    honest: list[float | None]


def rewards_of(
    task: Task, flags: Mapping[str, Sequence[str]], known_rewards: Mapping[str, kinds.Reward], plugins: Sequence[str] = ()
) -> list[Reward]:
    """The rewards that a run's flags name, with their weights, and the parts that are shown beside. Raises BadInput.

    A name that is not one of `known_rewards` is looked for in ms-swift's table, after the plugins were imported as ms-swift imports them.
    """
    weights: dict[str, float] = {}
    if names := flags.get("reward_funcs"):
        numbers = [float(weight) for weight in flags.get("reward_weights") or ["1"] * len(names)]
        if len(numbers) != len(names):
            raise BadInput(f"--reward_weights holds {len(numbers)} values for {len(names)} of --reward_funcs: give one for each")
        weights = dict(zip(names, numbers, strict=True))
    if not weights:
        raise BadInput("no reward is named: add --reward_funcs and --reward_weights behind --")
    weights |= {name: 0.0 for name in task.attacks.beside if name not in weights}
    return [Reward(name, weight, _load(name, known_rewards, plugins)) for name, weight in weights.items()]


def _load(name: str, known_rewards: Mapping[str, kinds.Reward], plugins: Sequence[str]) -> Any:
    if name in known_rewards:
        return known_rewards[name].load()(None)
    from swift.rewards import orms

    for at, plugin in enumerate(plugins):
        spec = importlib.util.spec_from_file_location(f"doctor_plugin_{at}", plugin)
        if not spec or not spec.loader:
            raise BadInput(f"--external_plugins {plugin}: no Python file; correct the path")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    if name not in orms:
        raise BadInput(f"--reward_funcs {name}: neither ours ({', '.join(known_rewards)}) nor registered by --external_plugins")
    return orms[name](None)


def measure(task: Task, rows: Sequence[Row], rewards: Sequence[Reward]) -> Outcome:
    """Score the honest answer and every attack of each row, all of a row in one group. Raises what the rewards raise.

    rows: at least two, since an attack may borrow from another row.
    """
    rows = task.attacks.look_up(rows) if task.attacks.look_up else rows
    answers_by_row = [{HONEST: task.attacks.honest(row), **task.attacks.tricks(row, rows[at - 1])} for at, row in enumerate(rows)]
    names = list(answers_by_row[0])
    completions = [answers[name] for answers in answers_by_row for name in names]
    columns = attacks.columns(rows, len(names))
    values: dict[str, list[float | None]] = {}
    parts: dict[str, list[float | None]] = defaultdict(lambda: [None] * len(completions))
    for reward in rewards:
        if not isinstance(reward.score, rewarding.Reward):
            values[reward.name] = list(reward.score(completions, **columns))
            continue
        scored = reward.score.measure(completions, **columns)
        values[reward.name] = [result.value for result in scored]
        for at, scored_row in enumerate(scored):
            named_parts = {**scored_row.parts.get("parts", {}), **{name: scored_row.parts.get(name) for name in ("rules", "teacher")}}
            for part, value in named_parts.items():
                if isinstance(value, float | int):
                    parts[f"{reward.name}/{part}"][at] = float(value)
    weights = {reward.name: reward.weight for reward in rewards if reward.weight}
    totals = [trace.total({name: values[name][at] for name in weights}, weights) for at in range(len(completions))]
    shown = {**values, **parts}
    width = len(names)
    honest = totals[::width]
    lines = []
    for place, name in enumerate(names):
        both = [
            at
            for at, answers in enumerate(answers_by_row)
            if honest[at] is not None and totals[at * width + place] is not None and (not place or answers[name] != answers[HONEST])
        ]
        means: dict[str, float] = {}
        for column, of_all in shown.items():
            measured = [value for at in both if (value := of_all[at * width + place]) is not None]
            means |= {column: fmean(measured)} if measured else {}
        differences = [(totals[at * width + place] or 0.0) - (honest[at] or 0.0) for at in both]
        total = fmean(totals[at * width + place] or 0.0 for at in both) if both else None
        lines.append(Line(name, total, bootstrap_mean(differences) if place and both else None, means, len(both)))
    return Outcome(lines, honest)


def examine(task: Task, rows: Sequence[Row], rewards: Sequence[Reward]) -> tuple[Outcome | None, list[Finding]]:
    """Measure, and judge what was measured; a service that is missing or down is a finding."""
    if len(rows) < 2:
        return None, [Finding("error", "rows", str(len(rows)), "give a file with two rows or more")]
    try:
        outcome = measure(task, rows, rewards)
    except (Outage, SettingsError, ValueError) as error:
        return None, [Finding("error", "rewards", " ".join(str(error).split()), "set this right, then run the doctor again")]
    return outcome, [*_of_honest(task, rows, rewards, outcome), *(_of_attack(task, line, outcome.lines[0]) for line in outcome.lines[1:])]


def _of_honest(task: Task, rows: Sequence[Row], rewards: Sequence[Reward], outcome: Outcome) -> list[Finding]:
    scores = [value for value in outcome.honest if value is not None]
    if 2 * len(scores) < len(rows):
        remedy = "look at the columns and at the services: a reward that abstains teaches nothing"
        return [Finding("error", "honest answers", f"{len(scores)} of {len(rows)} could be measured", remedy)]
    results = []
    if missing := len(rows) - len(scores):
        results.append(
            Finding("warning", "honest answers", f"{missing} of {len(rows)} could not be measured", "look at these rows' columns")
        )
    least = task.attacks.least * sum(reward.weight for reward in rewards)
    low = [_id(row, task) for row, value in zip(rows, outcome.honest, strict=True) if value is not None and value < least - _EQUAL]
    # Measured against itself it should earn 0; a teacher's slip in a few of them is no fault of the rewards.
    bad = (fmean(scores) if task.attacks.least else bootstrap_mean(scores).high) < least - _EQUAL
    summary = f"earn {fmean(scores):.3f} on average"
    if task.attacks.least:
        summary += f", at least {least:.2f} is expected; below: {len(low)} of {len(scores)}{listed(low)}"
    remedy = "see to these golds, or to the weights: what the best answer does not earn cannot be learnt" if low else ""
    return [*results, Finding("error" if bad else "warning" if low else "ok", "honest answers", summary, remedy)]


def _of_attack(task: Task, line: Line, honest: Line) -> Finding:
    what = f"attack: {line.answer}"
    if line.total is None or line.difference is None:
        return Finding("warning", what, "could not be measured", "see why these rows abstain")
    paid = [name for name, mean in line.rewards.items() if mean > honest.rewards.get(name, mean) + _EQUAL]
    summary = f"{_said(line.total)}, honest {_said(line.total - line.difference.mean)}, difference {line.difference} on {line.rows} rows"
    summary += f"; paid by {', '.join(paid)}" if paid else ""
    # Where an honest answer is measured against itself it earns about 0, of which there is no share.
    of_honest = line.total / (line.total - line.difference.mean) if task.attacks.least and line.total > line.difference.mean else 0.0
    summary += f"; {of_honest:.2f} of honest" if task.attacks.least else ""
    if line.difference.mean >= -_EQUAL and line.answer in task.attacks.paid:
        return Finding("warning", what, summary, task.attacks.paid[line.answer])
    if line.difference.mean >= -_EQUAL:
        way = f"lower the weight of {', '.join(paid)}, or raise" if paid else "raise"
        return Finding(
            "error", what, summary, f"{way} the weight of a reward that tells it, or add such a one: the policy would learn this"
        )
    if line.difference.high >= 0:
        return Finding("warning", what, summary, "not told from an honest answer on so few rows: run again with more --rows")
    if of_honest > _MOST:
        return Finding("warning", what, summary, f"over {_MOST:g} of an honest answer: see which reward pays it, and for what")
    return Finding("ok", what, summary)


def _said(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def _id(row: Row, task: Task) -> str:
    return row.get(task.attacks.id) or row[task.attacks.question][:30]


def table(outcome: Outcome) -> str:
    """A line for each kind of answer: total, difference from honest with its interval, each reward and part; "!" where it beats honest."""
    names = list(dict.fromkeys(name for line in outcome.lines for name in line.rewards))
    honest = outcome.lines[0].rewards
    cells_of_table = [["answer", "total", "from honest", *names]]
    for line in outcome.lines:
        cells = [
            f"{line.rewards[name]:.3f}{'!' if line.rewards[name] > honest.get(name, line.rewards[name]) + _EQUAL else ''}"
            if name in line.rewards
            else "-"
            for name in names
        ]
        cells_of_table.append([line.answer, "-" if line.total is None else f"{line.total:.3f}", str(line.difference or ""), *cells])
    return "\n".join(text_table.fitted(cells_of_table, "<"))
