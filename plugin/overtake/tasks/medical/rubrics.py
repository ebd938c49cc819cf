"""Rubrics of a medical row: weighted criteria that its answer meets or does not, as JSON, as a checklist, as a cell that a doctor edits.

A cell of a sheet holds one criterion a line, its points in brackets first; points below 0 are for what an answer must not do. A line that
begins with two blanks goes on with the criterion above it:

    [+5] 第一句就让患者拨打120
    [+2] 说明等待时怎么做：
      坐下休息，不要走动
    [-8] 给出了具体药物的剂量

Read as well: HealthBench's list of {"criterion", "points"}, and LLMEval-Med's checklist, in which 核心需求 are worth 2 points, 次要需求 1.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from overtake.data.cells import structure
from overtake.reading.normal_forms import for_likeness

CHECKLIST = {"核心需求": 2.0, "次要需求": 1.0}
"""Heads of LLMEval-Med's checklists -> points of each criterion below."""
LEAST, MOST = 0.01, 100
"""Points of a criterion, without their sign."""
EXAMPLE = "[+5] 让患者立即拨打120"
_TEXT, _POINTS = ("criterion", "text", "要求"), ("points", "分值")
_MINUS = ("-", "－", "−", "–")
_LINE = re.compile(r"[\[【［]\s*([+\-＋－−–]?)\s*(\d+(?:\.\d+)?)\s*分?\s*[\]】］][ \t\u3000]*(.*)")
_GOES_ON = re.compile(r"(?:  |\u3000|\t)(.*)")
_HEAD = re.compile(rf"\s*(?:[一二三四]\s*[、.．]\s*)?(?:【)?({'|'.join(CHECKLIST)})(?:】)?\s*[:：]?\s*")
_NUMBERED = re.compile(r"\s*(?:\d+\s*[.、．)）]|[①-⑳]|[-•*])\s*(.+)")


class Criterion(NamedTuple):
    """One thing that an answer meets or does not, and what that is worth: below 0 for a fault."""

    text: str
    points: float


Rubrics = tuple[Criterion, ...]


def read(cell: str) -> Rubrics:
    r"""The criteria in a cell, however it writes them; none for an empty one.

    >>> read("[+5] 让患者拨打120\n[-8] 给出剂量")
    (Criterion(text='让患者拨打120', points=5.0), Criterion(text='给出剂量', points=-8.0))
    >>> read('[{"criterion": "Asks how old the child is.", "points": 3}]')
    (Criterion(text='Asks how old the child is.', points=3.0),)
    >>> read("核心需求：\n1. 说明原因\n次要需求：\n1. 语言易懂")
    (Criterion(text='说明原因', points=2.0), Criterion(text='语言易懂', points=1.0))

    Raises ValueError, naming the value and the remedy, for a cell out of form, and where no criterion has points above 0.
    """
    cell = cell.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    text = cell.strip()
    if not text:
        return ()
    entries = None if _LINE.match(text) else structure(text)
    if isinstance(entries, dict):
        entries = [entries]
    if entries is not None:
        criteria = [_of_object(entry, number) for number, entry in enumerate(entries, 1)]
    elif any(_HEAD.fullmatch(line) for line in text.split("\n")):
        criteria = list(_of_checklist(text))
    else:
        criteria = list(_of_lines(cell))
    texts = [for_likeness(criterion.text) for criterion in criteria]
    for place, (criterion, likeness) in enumerate(zip(criteria, texts, strict=True)):
        if likeness in texts[:place]:
            raise ValueError(f"{_quoted(criterion.text)} stands there twice: delete one of the two")
    if criteria and not any(criterion.points > 0 for criterion in criteria):
        raise ValueError(f"no item has points above 0, so no answer could earn any: add what a good one holds, e.g. {EXAMPLE}")
    return tuple(criteria)


def written(criteria: Sequence[Criterion]) -> str:
    r"""Criteria as a cell of a sheet, which `read` reads back. It begins with a bracket: a sign in front Excel would take for a formula.

    >>> written(read("[2分] 说明原因\n【-1.5】 恐吓患者"))
    '[+2] 说明原因\n[-1.5] 恐吓患者'
    """
    return "\n".join(f"[{criterion.points:+.10g}] " + criterion.text.replace("\n", "\n  ") for criterion in criteria)


def to_json(criteria: Sequence[Criterion]) -> str:
    """Criteria in HealthBench's form; "" for none."""
    return json.dumps([{"criterion": text, "points": points} for text, points in criteria], ensure_ascii=False) if criteria else ""


def score(points: Sequence[float], met: Sequence[bool]) -> float:
    """Points earned / points above 0, within 0 and 1.

    >>> score([5, 3, -4], [True, True, True]), score([5, -8], [True, True]), score([5, 5], [True, False])
    (0.5, 0.0, 0.5)
    """
    earned = sum(value for value, is_met in zip(points, met, strict=True) if is_met)
    return min(1.0, max(0.0, earned / sum(value for value in points if value > 0)))


def _criterion(text: str, points: float, where: str) -> Criterion:
    text = "\n".join(line.rstrip() for line in text.strip().split("\n"))
    if not for_likeness(text):
        raise ValueError(f"{where} says nothing: write what an answer has to hold, e.g. {EXAMPLE}")
    if not math.isfinite(points) or not LEAST <= abs(points) <= MOST:
        raise ValueError(f"{where} has {points:g} points: give up to {MOST}, or as many below 0 for a fault")
    return Criterion(text, round(float(points), 4))


def _of_object(entry: Any, number: int) -> Criterion:
    where = f"item {number}"
    if not isinstance(entry, Mapping):
        raise ValueError(f'{where}, {_quoted(str(entry))}, is no object: write {{"criterion": "...", "points": 5}}, or {EXAMPLE}')
    text = next((entry[name] for name in _TEXT if name in entry), None)
    points = next((entry[name] for name in _POINTS if name in entry), None)
    if not isinstance(text, str):
        raise ValueError(f'{where} has no text under "criterion": it has {", ".join(map(str, entry)) or "nothing"}')
    if isinstance(points, bool) or not isinstance(points, int | float):
        raise ValueError(f"{where}, {_quoted(text)}, has points {points!r}: write a number")
    return _criterion(text, points, where)


def _of_checklist(text: str) -> Iterator[Criterion]:
    points, lines = 0.0, [""]
    for line in [*text.split("\n"), "核心需求"]:
        head, numbered = _HEAD.fullmatch(line), _NUMBERED.fullmatch(line)
        if (head or numbered) and lines[0]:
            yield _criterion("\n".join(lines), points, _quoted(lines[0]))
            lines = [""]
        if head:
            points = CHECKLIST[head[1]]
        elif line.strip() and not points:
            raise ValueError(f"{_quoted(line)} stands above {' and '.join(CHECKLIST)}: move it below one of them")
        elif line.strip():
            words = numbered[1] if numbered else line
            lines = [*filter(None, lines), words.strip()]


def _of_lines(text: str) -> Iterator[Criterion]:
    parts: list[tuple[float, list[str]]] = []
    for line in text.split("\n"):
        further = _GOES_ON.fullmatch(line) if parts else None
        if further:
            parts[-1][1].append(further[1])
        elif begun := _LINE.fullmatch(line.strip()):
            sign = -1 if begun[1] in _MINUS else 1
            parts.append((sign * float(begun[2]), [begun[3]]))
        elif line.strip():
            raise ValueError(f"{_quoted(line)} has no points: begin each item with them in brackets, e.g. {EXAMPLE}, or [-8] for a fault")
        elif parts:
            parts[-1][1].append("")
    for points, lines in parts:
        yield _criterion("\n".join(lines), points, _quoted(f"[{points:+g}] {lines[0]}"))


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else line[:39] + "…")
