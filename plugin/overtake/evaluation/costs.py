"""Costs of answers: seconds, tokens and money of each, and of a system's answers together."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from overtake import settings, text_table

_COLUMNS = {
    "latency_median": "latency s, median",
    "latency_p95": "latency s, p95",
    "tokens": "tokens a row",
    "usd_1000": "USD per 1,000",
    "gpu_usd_1000": "GPU USD per 1,000",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one answer; None where it is not known."""

    seconds: float | None = None
    """From asking to the answer's last token, retries and waits between them included; of a folder, those of its whole batch."""
    busy: float | None = None
    """Its share of the wall time: what passed since the answer before it came. The sum is how long the model was at work."""
    tokens: int | None = None
    """Of prompt and answer together."""
    usd: float | None = None
    """By the provider's prices; None for a model without one."""


def gpu_usd(seconds: float) -> float | None:
    """Cost of a model's own hardware for so long, by OVERTAKE_GPU_HOUR_USD; None where that is not set."""
    hour = settings.load().gpu_hour_usd
    return seconds / 3600 * hour if hour else None


def latencies(seconds: Iterable[float]) -> dict[str, float]:
    """Median and 95th percentile (linear between ranks); empty without values.

    >>> latencies([1.0, 2.0, 3.0])
    {'latency_median': 2.0, 'latency_p95': 2.9}
    """
    measured = list(seconds)
    if not measured:
        return {}
    return {"latency_median": round(float(np.median(measured)), 6), "latency_p95": round(float(np.percentile(measured, 95)), 6)}


def together(costs: Iterable[Cost]) -> dict[str, float]:
    """Latency, mean tokens and USD per 1,000 answers, each over the answers that know it; what none knows is left out."""
    rows = list(costs)

    def known(name: str) -> list[float]:
        return [value for row in rows if (value := getattr(row, name)) is not None]

    summary = latencies(known("seconds"))
    if tokens := known("tokens"):
        summary["tokens"] = sum(tokens) / len(tokens)
    if usd := known("usd"):
        summary["usd_1000"] = 1000 * sum(usd) / len(usd)
    elif (busy := known("busy")) and (price := gpu_usd(sum(busy))) is not None:
        summary["gpu_usd_1000"] = 1000 * price / len(busy)
    return summary


def of_ledger(service: str) -> dict[str, float]:
    """Latency, tokens and price of a service's answers, by the ledger of calls in OVERTAKE_CACHE_DIR; empty where it was never asked.

    Answers of a batch have a price and no latency. Of several models asked, the last is the one that counts.
    """
    file = settings.load().cache_dir / "ledger.jsonl"
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []
    rows = [row for line in lines if f'"{service}"' in line and (row := _row(line))]
    answered = [row for row in rows if row.get("service") == service and row.get("status") == "ok"]
    if not answered:
        return {}
    model = answered[-1].get("model")
    return together(
        Cost(row.get("seconds"), tokens=sum((row.get("usage") or {}).values()) or None, usd=row.get("usd"))
        for row in answered
        if row.get("model") == model
    )


def hit_rate(service: str) -> float | None:
    """The share of answers of a service that took no request of their own, by the ledger; None where it was never asked."""
    file = settings.load().cache_dir / "ledger.jsonl"
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []
    states = Counter(row["status"] for line in lines if f'"{service}"' in line and (row := _row(line)).get("service") == service)
    counted = states["ok"] + states["cached"] + states["shared"]
    return (states["cached"] + states["shared"]) / counted if counted else None


def _row(line: str) -> dict[str, Any]:
    """A row of the ledger; empty for one that a full disk has cut."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def table(by_system: Mapping[str, Mapping[str, float]], title: str) -> str:
    """A row for each system; "" when nothing is known of any."""
    shown = [name for name in _COLUMNS if any(name in cost for cost in by_system.values())]
    if not shown:
        return ""
    rows = [[system, *(f"{cost[name]:,.4g}" if name in cost else "–" for name in shown)] for system, cost in by_system.items()]
    return "\n".join(text_table.lines([[title, *(_COLUMNS[name] for name in shown)], *rows], ("<35", ">23"), ruled=True))
