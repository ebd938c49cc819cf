"""Worked solutions of the finance sample's own problems, by rule, and verdicts on worked solutions; with none of a model's understanding.

It reads only the sentences that a source.yaml lists as `taught`, word for word but for their numbers, and takes one short calculation a
line. Of every hundred solutions SLIPS go wrong in one line on purpose, and on from there, so that the filter has something to do; which
ones is decided by a hash of the question. What it cannot read it says it cannot read.
"""

import hashlib
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from overtake.reading.normal_forms import for_likeness
from overtake.reading.numbers import read_quantity, same_quantity
from overtake.reading.tags import read_answer

SLIPS = 15
"""Of a hundred solutions, those with one wrong line."""

NUMBER = re.compile(r"\d+(?:\.\d+)?")
LINE = re.compile(r"([\d.]+%?)([-+*/])([\d.]+%?)=(-?[\d.]+%?)")
_LONGEST_THOUGHT = 300
_LONGEST_ANSWER = 60
_SIGNS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


class Way(NamedTuple):
    """Method for a kind of problem: its name, its lines over slots and earlier results, the answer's unit."""

    zh: str
    en: str
    lines: tuple[str, ...]
    unit_zh: str
    unit_en: str


# A line is "left sign right" or "left sign right as percent". A letter is a slot, =0 the result of the first line; 100% stands for itself.
WAYS = {
    "growth": Way("增长率", "growth rate", ("b - a", "=0 / a %"), "", ""),
    "base_year": Way("基期", "base year", ("100% + p%", "b / =0"), "{u}", " {u}"),
    "margin": Way("毛利率", "gross margin", ("r - c", "=0 / r %"), "", ""),
    "current_ratio": Way("流动比率", "current ratio", ("x / y",), "", ""),
    "npv": Way("净现值", "net present value", ("100% + p%", "c / =0", "=1 - i"), "{u}", " {u}"),
    "simple_interest": Way("单利利息", "simple interest", ("m * p%", "=0 * t"), "{u}", " {u}"),
    "compound_interest": Way("复利本利和", "compound amount", ("100% + p%", "m * =0", "=1 * =0"), "{u}", " {u}"),
    "break_even": Way("盈亏平衡", "break-even", ("s - v", "f / =0"), "件", " units"),
    "eps": Way("每股收益", "earnings per share", ("n / h",), "元", " yuan"),
    "pe": Way("市盈率", "price-earnings ratio", ("s / e",), "倍", " times"),
    "roe": Way("净资产收益率", "return on equity", ("n / q %",), "", ""),
    "depreciation": Way("年折旧", "depreciation", ("k - g", "=0 / t"), "{u}", " {u}"),
    "tax": Way("所得税", "tax", ("b * p%",), "{u}", " {u}"),
    "share_points": Way("百分点", "percentage points", ("q% - p%",), "个百分点", " percentage points"),
    "currency": Way("汇兑", "exchange", ("m * x",), "元", " yuan"),
}


class Solver:
    """Solves what matches one of the `taught` sentences of a source.yaml, and answers its `taught` questions in words."""

    def __init__(self, source: dict[str, Any], slips: int = SLIPS) -> None:
        self._slips = slips
        self._known = [
            (_pattern(frame, source["units"][language]), name, language)
            for name, written in source["calculation"].items()
            for language in ("zh", "en")
            for frame in written[language]["taught"]
        ]
        self._answers = {for_likeness(question): gold for written in source["text"].values() for question, gold in written["taught"]}

    def solve(self, question: str) -> str:
        """`<think>lines</think><answer>number with unit</answer>`, or an answer that says that the question could not be read."""
        for pattern, name, language in self._known:
            if match := pattern.fullmatch(question.strip()):
                return worked(name, language, match.groupdict(), int(hashlib.sha256(question.encode()).hexdigest(), 16), self._slips)
        known = self._answers.get(for_likeness(question))
        return f"<think>{known or 'no rule for this'}</think><answer>{known or 'unknown'}</answer>"

    @property
    def sentences(self) -> int:
        """Number of sentences it can read."""
        return len(self._known) + len(self._answers)


def worked(name: str, language: str, slots: dict[str, str], luck: int = 0, slips: int = 0) -> str:
    """A problem of kind `name` worked out from its numbers as they are written; `luck` decides whether, of a hundred `slips`, and where.

    >>> worked("growth", "en", {"a": "800", "b": "1000"})
    '<think>growth rate\\n1000-800=200\\n200/800=25%</think><answer>25%</answer>'
    >>> worked("growth", "en", {"a": "800", "b": "1000"}, luck=0, slips=1)
    '<think>growth rate\\n1000-800=201\\n201/800=25.12%</think><answer>25.12%</answer>'
    """
    way = WAYS[name]
    slip = luck // 100 % len(way.lines) if luck % 100 < slips else -1
    results: list[str] = []

    def term(word: str) -> str:
        if word.startswith("="):
            return results[int(word[1])]
        return word if word[0].isdigit() else slots[word.rstrip("%")] + "%" * word.endswith("%")

    lines = [way.zh if language == "zh" else way.en]
    for at, line in enumerate(way.lines):
        left, sign, right, *percent = line.split()
        terms = term(left), term(right)
        value = _SIGNS[sign](*map(_value, terms))
        is_percent = bool(percent) or all(operand.endswith("%") for operand in terms)
        if at == slip:
            value += Decimal(luck // 10_000 % 9 + 1) / (100 if is_percent else 1)
        results.append(_shown(value * 100) + "%" if is_percent else _shown(value))
        lines.append(f"{terms[0]}{sign}{terms[1]}={results[-1]}")
    unit = (way.unit_zh if language == "zh" else way.unit_en).replace("{u}", slots.get("u", ""))
    answer = results[-1].rstrip("%") + unit if unit else results[-1]
    return "<think>" + "\n".join(lines) + f"</think><answer>{answer}</answer>"


def reasoning_verdict(task: str) -> str:
    """The JSON that prompts/judge_reasoning.txt asks for, by counting: it checks lines of the form a*b=c and knows no other reasoning.

    Raises ValueError for a task that is not the JSON object with question, reference and response.
    """
    asked = json.loads(task)
    question, reference, response = (str(asked[name]) for name in ("question", "reference", "response"))
    try:
        answer = read_answer(response)
    except ValueError:
        answer = ""
    thought = response.partition("</think>")[0].removeprefix("<think>").strip()
    lines = LINE.findall(thought)
    given = set(NUMBER.findall(question)) | {"100"}
    results: set[str] = set()
    follows = bool(lines) or bool(thought)
    for left, _, right, result in lines:
        follows = follows and {left.rstrip("%"), right.rstrip("%")} <= given | results
        results.add(result.rstrip("%"))
    exact = all(is_right(*line) for line in lines)
    is_number = read_quantity(reference) is not None
    right = bool(answer) and (same_quantity(answer, reference, question) if is_number else for_likeness(reference) in for_likeness(answer))
    concluded = not lines or lines[-1][3].strip("-%") in NUMBER.findall(answer)
    steps = [line.strip() for line in thought.splitlines() if line.strip()]
    used = {number for line in lines for number in NUMBER.findall(line[0] + " " + line[2])}
    checks = {
        "logic": [follows, exact, concluded and bool(answer)],
        "accuracy": [right, exact, right],
        "completeness": [not lines or set(NUMBER.findall(question)) <= used | {"1"}, bool(answer), bool(steps)],
        "concision": [len(set(steps)) == len(steps), len(thought) <= _LONGEST_THOUGHT, len(answer) <= _LONGEST_ANSWER],
    }
    faults = [name for name, held in checks.items() if not all(held)]
    return json.dumps(checks | {"weakest": "、".join(faults) or "无"}, ensure_ascii=False)


def answer_verdict(gold: str, answer: str) -> str:
    """The JSON that prompts/judge_finance.txt asks for: right is an answer that holds the gold's words and is not much longer."""
    right = for_likeness(gold) in for_likeness(answer) and len(answer) <= len(gold) + _LONGEST_ANSWER
    return json.dumps({"判定": "正确" if right else "错误", "理由": "含标准答案" if right else "不含标准答案或过长"}, ensure_ascii=False)


def is_right(left: str, sign: str, right: str, result: str) -> bool:
    """Return whether a line "left sign right=result" adds up, to two decimals."""
    try:
        value = _SIGNS[sign](_value(left), _value(right))
        return abs(value - _value(result)) <= Decimal("0.005")
    except ArithmeticError:
        return False


def _value(term: str) -> Decimal:
    return Decimal(term[:-1]) / 100 if term.endswith("%") else Decimal(term)


def _shown(number: Decimal) -> str:
    text = f"{round(number, 2):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _pattern(frame: str, units: list[str]) -> re.Pattern[str]:
    text = re.escape(frame)
    text = text.replace(re.escape("{u}"), f"(?P<u>{'|'.join(map(re.escape, units))})", 1).replace(re.escape("{u}"), "(?P=u)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+(?:\\.\\d+)?)", text))
