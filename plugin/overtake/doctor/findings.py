"""Findings of the doctor, each with its remedy; as a table, as JSON, as an exit code."""

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

from overtake import text_table

Level = Literal["error", "warning", "ok"]
LEVELS: tuple[Level, ...] = ("error", "warning", "ok")


class Finding(NamedTuple):
    """One thing that was looked at. An error would stop or spoil the run, a warning may."""

    level: Level
    what: str
    value: str
    remedy: str = ""
    """What to do; "" where nothing is to be done."""


_NAMED = 20
"""Rows that a finding names."""


def listed(names: Sequence[str]) -> str:
    """Names of rows as the end of a finding's value, not more than can be read.

    >>> listed(["a", "b"]), listed([])
    (': a, b', '')
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f": {', '.join(names[:_NAMED])}{more}" if names else ""


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 with an error among them, else 0.

    >>> exit_code([Finding("warning", "disk", "9 GB", "free some")]), exit_code([Finding("error", "disk", "0 GB", "free some")])
    (0, 1)
    """
    return int(any(finding.level == "error" for finding in findings))


def table(findings: Sequence[Finding]) -> str:
    """The findings as lines, the gravest first, a remedy on a line of its own.

    >>> print(table([Finding("ok", "rows", "9"), Finding("error", "disk", "0 GB", "free some")]))
    error    disk  0 GB
             -> free some
    ok       rows  9
    """
    gravest_first = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    rows = [[f"{finding.level:7}", finding.what, finding.value] for finding in gravest_first]
    remedies = [f"\n         -> {finding.remedy}" if finding.remedy else "" for finding in gravest_first]
    return "\n".join(line + remedy for line, remedy in zip(text_table.fitted(rows, "<"), remedies, strict=True))


def as_json(findings: Sequence[Finding], **more: object) -> str:
    """The findings, and what else is told, as one JSON object."""
    return json.dumps({"findings": [finding._asdict() for finding in findings], **more}, ensure_ascii=False, indent=2)
