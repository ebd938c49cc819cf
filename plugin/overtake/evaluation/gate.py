"""The promotion gate: a checkpoint is not exported that held-out rows show worse than the model it starts from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOWN = 0.05
"""Of a p after Holm's correction."""


class Unreadable(ValueError):
    """The summary cannot be held against the checkpoint; the message names the file and the remedy."""


def read(file: Path) -> dict[str, Any]:
    """The summary that tools/evaluate.py wrote. Raises Unreadable for anything else."""
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(of, dict) for of in summary["differences"].values()):
            raise TypeError
        if summary["against"] is None:
            raise Unreadable(f"{file}: it compares with nothing: evaluate with --against")
    except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Unreadable(f"{file}: it is no summary.json of tools/evaluate.py ({type(error).__name__}): correct the path") from None
    return dict(summary)


def check(file: Path, summary: Mapping[str, Any], checkpoint: Path, start: str, metric: str = "") -> None:
    """Raise Unreadable unless the summary compares this checkpoint with `start`, in the metric where one is named."""
    against, differences = summary["against"], summary["differences"]
    measured = str(summary.get("systems", {}).get(against, ""))
    ours = checkpoint.resolve()
    if measured and Path(measured).is_dir() and ours not in (of := _origins(Path(measured))) and Path(f"{ours}-merged") not in of:
        raise Unreadable(f"{file}: its {against} is {measured}, not this checkpoint: evaluate this one with --against")
    if start not in differences:
        names = ", ".join(differences) or "nothing"
        raise Unreadable(f"{file}: it compares {against} with {names}, not with {start}: set START=, or evaluate with --against")
    if metric and metric not in differences[start]:
        raise Unreadable(f"{file}: it has no {metric}; there are {', '.join(differences[start])}: set METRIC=")


def _origins(folder: Path) -> list[Path]:
    """Of which checkpoints a folder holds the weights: its own, or what an export names as merged."""
    args = folder / "args.json"
    exported = args.is_file() and not folder.name.startswith("checkpoint-")
    merged = json.loads(args.read_text(encoding="utf-8")).get("adapters") if exported else None
    return [Path(path).resolve() for path in merged or []] or [folder.resolve()]


def worse(summary: Mapping[str, Any], better: Mapping[str, str], start: str, metric: str = "") -> str:
    """Return where the candidate was shown worse than `start`, in words; "" for nowhere. `metric` looks at that one alone.

    better: up, down or neutral for each metric. What is neutral is looked at by nobody, unless it is named: then less of it is worse.

    >>> rose = {"mean": 0.2, "low": 0.1, "high": 0.3}
    >>> told = {"against": "GRPO", "differences": {"SFT": {"refused": rose, "length": rose}}}
    >>> worse(told, {"refused": "down", "length": "neutral"}, "SFT")
    'GRPO is worse than SFT: refused +0.200 [+0.100,+0.300]'
    """
    differences = summary["differences"][start]
    looked_at = [metric] if metric else [name for name in differences if better.get(name, "up") != "neutral"]
    # Of many metrics one falls by chance alone, so there the p after Holm's correction decides too; one that was named is tested by itself.
    chances = {} if metric else summary.get("p_holm", {}).get(start, {})
    shown = [
        f"{name} {interval['mean']:+.3f} [{interval['low']:+.3f},{interval['high']:+.3f}]"
        for name in looked_at
        if (interval := differences[name]) and chances.get(name, 0.0) < SHOWN
        if (interval["low"] > 0 if better.get(name) == "down" else interval["high"] < 0)
    ]
    return f"{summary['against']} is worse than {start}: {', '.join(shown)}" if shown else ""
