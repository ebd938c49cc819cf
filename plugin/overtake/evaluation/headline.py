"""The headline table of a report: systems against the measures of their task, each with its interval, then the paired differences."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from overtake.evaluation.comparing import SIGNIFICANT, Task
from overtake.tasks import EVALUATE as TASKS


class Measure(NamedTuple):
    """How a measure is called and written."""

    english: str
    chinese: str
    better: int = 1
    """1: more is better; -1: less is; 0: neither."""
    digits: int = 3
    factor: float = 1.0


def _share(english: str, chinese: str, better: int = 1) -> Measure:
    return Measure(f"{english}, %", f"{chinese}，%", better, 1, 100.0)


MEASURES = {
    "quality": Measure("retrieval quality", "检索质量"),
    "top1": Measure("top-1 reranker score", "首条重排分数"),
    "hit@1": _share("top-1 accuracy", "首条命中率"),
    "recall@5": _share("recall@5", "前五召回率"),
    "ndcg@10": Measure("nDCG@10", "nDCG@10"),
    "format": _share("format", "格式"),
    "accuracy": _share("accuracy", "准确率"),
    "unreadable": _share("unreadable", "无法读取", -1),
    "length": Measure("length, characters", "长度（字符）", 0, 0),
    "characters": Measure("length, characters", "长度（字符）", 0, 0),
    "rules": Measure("rule book", "规则得分"),
    "safe": _share("safe", "安全"),
    "refused": _share("needless refusals", "不必要的拒答", -1),
    "declined": _share("refused where owed", "应拒且已拒"),
    "main": _share("main answer", "主要答案"),
    "secondary": _share("secondary answer", "次要答案"),
    "readable": _share("readable", "可读取"),
    "passed": _share("wrong ones passed", "错误被放过", -1),
}
"""By the name in summary.json; `judge` is of another scale in each task, and a name that is not here is shown as it is."""

_REWRITE_JUDGE = Measure("rewrite quality, judged (0-5)", "改写质量（评审，0-5）", 1, 2)
_JUDGE = Measure("judge (0-1)", "评审（0-1）")
COSTS = {
    "latency_median": Measure("latency, ms: median, 95 % below", "延迟，毫秒：中位数与 95 % 分位", -1, 0, 1000.0),
    "usd_1000": Measure("USD per 1000 calls", "每千次美元", -1, 2),
    "gpu_usd_1000": Measure("GPU, USD per 1000 calls", "每千次 GPU 美元", -1, 2),
}
"""What an answer takes, by the names of costs.py; they stand behind the measures of the first table, without differences."""


def measure(name: str) -> Measure:
    """How a measure of summary.json is written.

    >>> measure("hit@1").english, measure("x_format").better
    ('top-1 accuracy, %', -1)
    """
    return MEASURES.get(name) or Measure(name, name, -1 if name.startswith("x_") else 1)


def task_of(summary: Mapping[str, Any]) -> Task:
    """The task that was measured: the one that knows most of the measures."""
    measured = {name for means in summary["means"].values() for name in means}
    tasks: list[Task] = [import_module(module).TASK for module in TASKS.values()]
    return max(tasks, key=lambda task: len(measured & set(task.metrics)))


def tables(summary: Mapping[str, Any], task: Task) -> list[dict[str, Any]]:
    """The task's tables that hold a number, the first with what an answer took: columns, means and differences in the words of the page."""
    measured = list(dict.fromkeys(name for means in summary["means"].values() for name in means))
    of_tables = {name for names in task.tables.values() for name in names}
    first = next(iter(task.tables))
    made = []
    for title, names in task.tables.items():
        rest = [name for name in measured if name not in of_tables] if title == first else []
        # The judge's score stands first in the specification's table.
        shown = sorted((name for name in (*names, *rest) if name in measured), key=lambda name: name != "judge")
        if shown:
            made.append({"title": title, **_table(summary, {name: _of(task, name) for name in shown}, costs=title == first)})
    return made


def _of(task: Task, name: str) -> Measure:
    if name == "judge":
        return _REWRITE_JUDGE if "rewrite" in task.answer else _JUDGE
    return measure(name)


def _table(summary: Mapping[str, Any], measures: Mapping[str, Measure], costs: bool) -> dict[str, Any]:
    taken = summary.get("costs", {}) if costs else {}
    known = {name: one for name, one in COSTS.items() if any(name in of for of in taken.values())}
    means = [
        {
            "name": system,
            "rows": summary["rows"][system],
            "cells": [_mean(of.get(name), one) for name, one in measures.items()]
            + [_cost(name, taken.get(system, {}), one) for name, one in known.items()],
        }
        for system, of in summary["means"].items()
    ]
    chance = summary.get("p_holm", {})
    differences = [
        {"name": system, "cells": [_difference(of.get(name), one, chance.get(system, {}).get(name)) for name, one in measures.items()]}
        for system, of in summary["differences"].items()
    ]
    return {"measures": list(measures.values()), "costs": list(known.values()), "means": means, "differences": differences}


def _mean(interval: Any, shown: Measure) -> dict[str, str] | None:
    if interval is None:
        return None
    return {"mean": _number(interval["mean"], shown), "interval": ", ".join(_number(interval[end], shown) for end in ("low", "high"))}


def _cost(name: str, taken: Mapping[str, float], shown: Measure) -> dict[str, str] | None:
    if name not in taken:
        return None
    slowest = taken.get("latency_p95") if name == "latency_median" else None
    return {"mean": _number(taken[name], shown), "interval": "" if slowest is None else _number(slowest, shown)}


def _difference(interval: Any, shown: Measure, chance: float | None) -> dict[str, str] | None:
    if interval is None:
        return None
    sign = 1 if interval["low"] > 0 else -1 if interval["high"] < 0 else 0
    # As in the table of tools/evaluate.py; a summary of old holds no p.
    if chance is not None and chance >= SIGNIFICANT:
        sign = 0
    verdict = {0: "same", 1: "better", -1: "worse"}[sign * shown.better] if shown.better or not sign else "more" if sign > 0 else "less"
    ends = ", ".join(_number(interval[end], shown, "+") for end in ("low", "high"))
    p = "" if chance is None else "p < 0.001" if chance < 0.001 else f"p {chance:.3f}"
    return {"mean": _number(interval["mean"], shown, "+"), "interval": ends, "verdict": verdict, "p": p}


def _number(value: float, shown: Measure, sign: str = "") -> str:
    return format(value * shown.factor, f"{sign},.{shown.digits}f")
