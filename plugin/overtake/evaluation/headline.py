"""The headline table of a report: candidates against the measures of their task, each with its interval, then the paired differences."""

from collections.abc import Mapping
from typing import Any

from overtake.evaluation.comparing import SIGNIFICANT
from overtake.task import Metric, Task

COSTS = {
    "latency_median": Metric(
        "latency_median", "latency, ms: median, 95 % below", "延迟，毫秒：中位数与 95 % 分位", "down", digits=0, factor=1000.0
    ),
    "usd_1000": Metric("usd_1000", "USD per 1000 calls", "每千次美元", "down", digits=2),
    "gpu_usd_1000": Metric("gpu_usd_1000", "GPU, USD per 1000 calls", "每千次 GPU 美元", "down", digits=2),
}
"""What an answer takes, by the names of costs.py; they stand behind the measures of the first table, without differences."""


def tables(summary: Mapping[str, Any], task: Task) -> list[dict[str, Any]]:
    """The task's tables that hold a number, the first with what an answer took: columns, means and differences in the words of the page."""
    measured = list(dict.fromkeys(name for means in summary["means"].values() for name in means))
    of_task = task.measured()
    of_tables = {name for names in of_task.values() for name in names}
    first = next(iter(of_task))
    sections = []
    for title, names in of_task.items():
        rest = [name for name in measured if name not in of_tables] if title == first else []
        # The judge's score stands first in the specification's table.
        shown = sorted((name for name in (*names, *rest) if name in measured), key=lambda name: name != "judge")
        if shown:
            sections.append({"title": title, **_table(summary, {name: task.metric(name) for name in shown}, costs=title == first)})
    return sections


def _table(summary: Mapping[str, Any], measures: Mapping[str, Metric], costs: bool) -> dict[str, Any]:
    costs_of = summary.get("costs", {}) if costs else {}
    measured = {name: measure for name, measure in COSTS.items() if any(name in of for of in costs_of.values())}
    means = [
        {
            "name": system,
            "rows": summary["rows"][system],
            "cells": [_mean(of.get(name), measure) for name, measure in measures.items()]
            + [_cost(name, costs_of.get(system, {}), measure) for name, measure in measured.items()],
        }
        for system, of in summary["means"].items()
    ]
    chance = summary.get("p_holm", {})
    differences = [
        {
            "name": system,
            "cells": [_difference(of.get(name), measure, chance.get(system, {}).get(name)) for name, measure in measures.items()],
        }
        for system, of in summary["differences"].items()
    ]
    return {"measures": list(measures.values()), "costs": list(measured.values()), "means": means, "differences": differences}


def _mean(interval: Any, shown: Metric) -> dict[str, str] | None:
    if interval is None:
        return None
    return {"mean": shown.written(interval["mean"]), "interval": ", ".join(shown.written(interval[end]) for end in ("low", "high"))}


def _cost(name: str, values: Mapping[str, float], shown: Metric) -> dict[str, str] | None:
    if name not in values:
        return None
    slowest = values.get("latency_p95") if name == "latency_median" else None
    return {"mean": shown.written(values[name]), "interval": "" if slowest is None else shown.written(slowest)}


def _difference(interval: Any, shown: Metric, chance: float | None) -> dict[str, str] | None:
    if interval is None:
        return None
    sign = 1 if interval["low"] > 0 else -1 if interval["high"] < 0 else 0
    # As in the table of tools/evaluate.py; a summary of old holds no p.
    if chance is not None and chance >= SIGNIFICANT:
        sign = 0
    signs = {"up": ("worse", "better"), "down": ("better", "worse"), "neutral": ("less", "more")}[shown.better]
    verdict = signs[sign > 0] if sign else "same"
    ends = ", ".join(shown.written(interval[end], "+") for end in ("low", "high"))
    p = "" if chance is None else "p < 0.001" if chance < 0.001 else f"p {chance:.3f}"
    return {"mean": shown.written(interval["mean"], "+"), "interval": ends, "verdict": verdict, "p": p}
