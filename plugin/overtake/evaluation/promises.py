"""The headline: teacher, SFT and RL in the terms that a project is approved by, beside what was expected, and which promises are kept."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from overtake import text_table
from overtake.evaluation.statistics import paired_difference
from overtake.task import Headline

_ROLES = (("teacher", r"teacher|教师"), ("RL", r"(?<![a-z])(rl|grpo|ppo)(?![a-z])|强化"), ("SFT", r"(?<![a-z])sft(?![a-z])"))
_TIE = 1e-9
Scores = Mapping[str, Mapping[str, Any]]


def role(name: str) -> str:
    """Name the part that a candidate plays, by its name; "" for one that the headline leaves out.

    >>> role("teacher"), role("GRPO-16"), role("SFT"), role("rl_ppo"), role("copy"), role("girl")
    ('teacher', 'RL', 'SFT', 'RL', '', '')
    """
    return next((part for part, pattern in _ROLES if re.search(pattern, name.lower())), "")


def headline(
    about: Headline, scores: Mapping[str, Scores], means: Mapping[str, Mapping[str, Any]], costs: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The rows of teacher, SFT and RL candidates and the promises of the students among them; empty where nobody of these was measured.

    scores: by candidate and row. means: intervals by candidate and metric. costs: by candidate, as `costs.together` makes them.
    """
    names = [name for name in scores if role(name)]
    teachers = [name for name in names if role(name) == "teacher"]
    teacher = teachers[0] if teachers else ""
    rows = []
    for name in names:
        top1 = next((metric for metric in about.top1 if metric in means[name]), "")
        rows.append(
            {
                "candidate": name,
                "role": role(name),
                "quality": means[name].get(about.quality),
                "top1": means[name].get(top1),
                "top1_of": top1,
                "against": _against(scores[name], scores[teacher], about.wins) if teacher and name != teacher else None,
                "latency": costs.get(name, {}).get("latency_median"),
                "usd_1000": _usd(costs.get(name, {})),
                "expected": dict(about.expected.get(role(name), {})),
            }
        )
    students = [name for name in names if role(name) != "teacher"] if teacher else []
    return {"rows": rows, "promises": [verdict for name in students for verdict in _promises(about, name, teacher, scores, means, costs)]}


def _usd(cost: Mapping[str, float]) -> float | None:
    return cost.get("usd_1000", cost.get("gpu_usd_1000"))


def _against(ours: Scores, theirs: Scores, metric: str) -> dict[str, int] | None:
    """How many rows are won, tied and lost, of those that both measured."""
    gains = [ours[row][metric] - theirs[row][metric] for row in ours if row in theirs and metric in ours[row] and metric in theirs[row]]
    if not gains:
        return None
    won, lost = sum(gain > _TIE for gain in gains), sum(gain < -_TIE for gain in gains)
    return {"win": won, "tie": len(gains) - won - lost, "loss": lost}


def _promises(
    about: Headline, name: str, teacher: str, scores: Mapping[str, Scores], means: Mapping[str, Any], costs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Quality as a share of the teacher's, cost and latency as the change from them; `measured` is None where one side is not known."""
    of = {who: {row: values[about.quality] for row, values in scores[who].items() if about.quality in values} for who in (name, teacher)}
    ends: dict[str, Any] = {"measured": None, "low": None, "high": None}
    if of[name].keys() & of[teacher].keys() and (base := means[teacher][about.quality].mean):
        change = paired_difference(of[name], of[teacher])
        ends = {end: round(1 + value / base, 4) for end, value in (("measured", change.mean), ("low", change.low), ("high", change.high))}
    verdicts = [{"candidate": name, "what": "quality", "promised": about.promised["quality"], **ends}]
    ours, theirs = costs.get(name, {}), costs.get(teacher, {})
    for what, mine, its in (
        ("cost", _usd(ours), _usd(theirs)),
        ("latency", ours.get("latency_median"), theirs.get("latency_median")),
    ):
        gain = round(mine / its - 1, 4) if mine is not None and its else None
        verdicts.append({"candidate": name, "what": what, "promised": about.promised[what], "measured": gain, "low": None, "high": None})
    for verdict in verdicts:
        value, limit = verdict["measured"], verdict["promised"]
        verdict["kept"] = None if value is None else value >= limit if verdict["what"] == "quality" else value <= limit
    return verdicts


def table(summary: Mapping[str, Any]) -> str:
    """Lay out both parts as text, what was expected behind each row; "" where there are no rows."""
    if not summary["rows"]:
        return ""
    head = ["headline", "quality 0-5", "top-1, %", "win/tie/loss", "latency, ms", "USD per 1,000", "expected: the same"]
    lines = [
        head,
        *([row["candidate"], *cells(row), ", ".join(filter(None, cells({**row["expected"], "against": None})))] for row in summary["rows"]),
    ]
    shown = text_table.lines(
        [[cell or "–" for cell in line] for line in lines], ("<12", ">18", ">18", ">14", ">12", ">14", ">36"), ruled=True
    )
    labelled = {row["top1_of"] for row in summary["rows"]} - {""}
    shown += [f"top-1 is {', '.join(sorted(labelled))}; win/tie/loss against the teacher, of rows that both measured"] * bool(labelled)
    return "\n".join([*shown, *map(words, summary["promises"])])


def cells(row: Mapping[str, Any]) -> list[str]:
    """Quality, top-1, wins, latency and cost of a row, in words; "" for what is not known."""
    against = row.get("against")
    return [
        _mean(row.get("quality"), 1, ".2f"),
        _mean(row.get("top1"), 100, ".1f"),
        "/".join(str(against[name]) for name in ("win", "tie", "loss")) if against else "",
        "" if row.get("latency") is None else f"{row['latency'] * 1000:,.0f}",
        "" if row.get("usd_1000") is None else f"{row['usd_1000']:.2f}",
    ]


def _mean(value: Any, factor: float, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, float | int):
        return format(value * factor, form)
    ends = vars(value) if not isinstance(value, Mapping) else value
    mean, low, high = (format(ends[name] * factor, form) for name in ("mean", "low", "high"))
    return f"{mean} [{low},{high}]"


def words(promise: Mapping[str, Any]) -> str:
    """One promise: what was promised and measured, and whether it is kept.

    >>> words({"candidate": "RL", "what": "cost", "promised": -0.9, "measured": -0.888, "low": None, "high": None, "kept": False})
    'RL: cost -88.8 % of the teacher, promised -90.0 %: not kept'
    """
    name, what, measured = promise["candidate"], promise["what"], promise["measured"]
    sign = "" if what == "quality" else "+"
    promised = f"promised {promise['promised']:{sign}.1%}".replace("%", " %")
    if measured is None:
        return f"{name}: {what} not measured on both sides, {promised}"
    interval = "" if promise["low"] is None else f" [{promise['low']:.1%}, {promise['high']:.1%}]".replace("%", " %")
    value = f"{measured:{sign}.1%}".replace("%", " %")
    return f"{name}: {what} {value}{interval} of the teacher, {promised}: {'kept' if promise['kept'] else 'not kept'}"


def in_report(summary: Mapping[str, Any] | None) -> dict[str, Sequence[Any]]:
    """Return what the page shows: rows of cells beside those expected, and the promises in words."""
    rows = (summary or {}).get("rows", [])
    return {
        "rows": [
            {"name": row["candidate"], "cells": list(zip(cells(row), cells({**row["expected"], "against": None}), strict=True))}
            for row in rows
        ],
        "promises": [(words(verdict), verdict["kept"]) for verdict in (summary or {}).get("promises", [])],
    }
