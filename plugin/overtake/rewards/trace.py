"""The trace: a line for each sample that a run scored, with all that was measured of it, so that it can be scored again later.

`reward.py` notes what each reward measured; the metrics' callback begins each batch and writes the samples of a step to
OUTPUT_DIR/trace.jsonl.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FILE = "trace.jsonl"

_samples: list[dict[str, Any]] = []
_batch: list[dict[str, Any]] = []


def begin(samples: Sequence[Mapping[str, Any]]) -> None:
    """A batch is about to be scored: what is noted from here on is about these samples."""
    global _batch
    _batch = [dict(sample) for sample in samples]
    _samples.extend(_batch)


def note(fields: Mapping[str, Sequence[Any]]) -> None:
    """Keep one value a sample, in the order of the completions, of whatever JSON can say; without a trace nothing happens.

    A field that is noted again is replaced. Raises ValueError when there are not as many values as samples.
    """
    for name, values in fields.items():
        if _batch and len(values) != len(_batch):
            raise ValueError(f"trace field {name} holds {len(values)} values for {len(_batch)} samples: note one for each completion")
        for sample, value in zip(_batch, values, strict=False):
            sample[name] = value


def take() -> list[dict[str, Any]]:
    """The samples since the last call, which are forgotten here."""
    global _batch
    samples, _batch = list(_samples), []
    _samples.clear()
    return samples


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines, in one write, so that a kill loses whole steps only; what a kill tore before stays a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        os.fchmod(file.fileno(), 0o600)  # it holds what users ask
        torn = b""
        if file.tell():
            file.seek(-1, 2)
            torn = b"" if file.read() == b"\n" else b"\n"
        file.write(torn + b"".join(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n" for line in lines))


def total(rewards: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The weighted sum of a sample's rewards; None where one of them is missing, for such a sample abstains.

    >>> total({"A": 0.5, "B": -1.0}, {"A": 1.0, "B": 0.25}), total({"A": None}, {"A": 1.0})
    (0.25, None)
    """
    parts = [(rewards.get(name), weight) for name, weight in weights.items()]
    weighted = [value * weight for value, weight in parts if value is not None]
    return sum(weighted) if len(weighted) == len(parts) else None


class Trace(NamedTuple):
    """Contents of a trace file."""

    runs: dict[str, dict[str, Any]]
    """By the name of the run: what it began with."""
    samples: list[dict[str, Any]]
    """By step, the evaluation after it behind it; none that a later run did again."""
    torn: int
    """Lines that a kill left half."""


def read(path: Path) -> Trace:
    """Read a trace of one or several runs into the same folder, of which each went on from a checkpoint of the one before.

    The first sample of a run says from where: what earlier runs did from there on was of weights that are no more, and is left out,
    so that of one step and number the last line counts. Raises OSError when there is no such file.
    """
    runs: dict[str, dict[str, Any]] = {}
    samples: dict[tuple[int, bool, int], dict[str, Any]] = {}
    begun: set[str] = set()
    torn = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                torn += 1
                continue
            if "sample" not in line:
                runs[line["run"]] = line
                continue
            place = (line["step"], line["mode"] == "eval")
            if line["run"] not in begun:
                begun.add(line["run"])
                samples = {key: sample for key, sample in samples.items() if key[:2] < place}
            samples[*place, line["sample"]] = line
    return Trace(runs, [samples[key] for key in sorted(samples)], torn)
