"""Golds of calculation questions: found in a worked solution, and held against their own calculation."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from overtake.reading.arithmetic import calculate
from overtake.reading.units import scale_at

_CALL = re.compile(r"\[([A-Za-z]\w*)\((.{1,300}?)\)→\s*([^\[\]]{1,60})\]")
_EQUALS = re.compile(r"[=＝≈]")
_FORMULA = re.compile(r"[\d.,+＋\-－–−—*×÷/^%％()（）\[\]［］〔〕\s$]+$")
_CLAUSE = re.compile(r"[，。；;：|、\n]|,(?!\d)")
_NUMBER = re.compile(r"[-+－]?\d[\d,]*(?:\.\d+)?")
_ROUNDING = Decimal("0.01")
"""Share of the value by which a working may differ from its own result, for it rounds on the way."""


class WrongGold(NamedTuple):
    """A row whose stated answer contradicts the calculation beside it."""

    id: str
    formula: str
    stated: str
    recomputed: Decimal
    """What the formula gives."""


def gold_of_solution(solution: str) -> str:
    """The answer of a worked solution: what stands behind its last "=" up to the end of the clause, calls of a calculator taken out.

    >>> gold_of_solution("(0.218-0.13)/0.13*100%=68%"), gold_of_solution("增长了25/100=[Calculator(25/100)→0.25]0.25。所以为25%。")
    ('68%', '0.25')
    """
    last = _EQUALS.split(_CALL.sub("", solution))[-1]
    return next((clause.strip() for clause in _CLAUSE.split(last) if clause.strip()), "")


def wrong_golds(rows: Iterable[Mapping[str, Any]]) -> list[WrongGold]:
    """The rows whose gold contradicts their own calculation; rows that hold none that can be recalculated are passed over.

    A row holds `id` and either `output`, a solution as in DISC-FinLLM (formula = answer, or calculator calls), or `derivation` with
    `answer` and `scale`, as in TAT-QA. Contradicted is what is further off than half a unit of the answer's last digit and 1 % (workings
    round), and a percent sign on one side alone, for then gold and formula are a hundred apart.

    >>> wrong_golds([{"id": "a", "output": "6900/1400=4.3125"}, {"id": "b", "output": "10944/(1+20.9%)=9052亿元"}])
    [WrongGold(id='a', formula='6900/1400', stated='4.3125', recomputed=Decimal('4.9285714285714285714285714286'))]
    """
    contradictions = []
    for row in rows:
        for formula, stated in _worked(row):
            value = _calculated(formula)
            if value is not None and not _agrees(value, formula, stated):
                contradictions.append(WrongGold(str(row["id"]), formula, stated, value))
                break
    return contradictions


def _worked(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The (formula, stated result) pairs that decide a row's gold."""
    if "derivation" in row:
        return [(str(row["derivation"]), f"{row['answer']} {row['scale']}".strip())]
    solution = str(row.get("output", ""))
    if calls := [(formula, stated) for tool, formula, stated in _CALL.findall(solution) if tool == "Calculator"]:
        return calls
    sides = _EQUALS.split(solution)
    formula = _FORMULA.search(_CLAUSE.split(sides[-2])[-1]) if len(sides) > 1 else None
    return [(formula[0].strip(), gold_of_solution(solution))] if formula else []


def _calculated(formula: str) -> Decimal | None:
    try:
        return calculate(formula, accounting=True)
    except ValueError:
        return None


def _agrees(value: Decimal, formula: str, stated: str) -> bool:
    """Whether a formula gives what is stated. A formula leaves out 亿元 and million, so they do not count; a percent sign does."""
    match = _NUMBER.search(stated)
    if not match:
        return True  # nothing is stated that could be wrong
    number = Decimal(match[0].replace(",", "").replace("－", "-"))
    step = Decimal(1).scaleb(-len(match[0].partition(".")[2]))
    readings = [value]
    if "percent" in stated:  # TAT-QA: the row's scale, said beside the number; its derivation may give the fraction
        readings.append(value * 100)
    elif re.search(r"[%％]", stated):
        readings = [value * 100]
    elif scale := re.search(r"thousand|million|billion", stated):
        unit = Decimal(scale_at(scale[0], 0)[0])
        readings = [value / unit if re.search(r"thousand|million|billion", formula) else value]
    return any(abs(reading - number) <= max(step / 2, abs(number) * _ROUNDING) for reading in readings)
