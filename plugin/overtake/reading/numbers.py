"""Numbers as people write answers: one quantity of a text, exact in Decimal, with its unit and precision; and when two are the same.

What is decided on purpose:

- **Percent is a hundredth.** 25 %, 25 个百分点, 百分之二十五, 250 ‰ and 0.25 are the same number, and 25 is another.
- **Scales count.** 1.2 million is 1,200,000, 3 亿 is 300,000,000. A bare number is taken at its face value; only where the question names
  the unit it wants (多少亿元, in millions, 单位：万元), a bare gold is in that unit, and a bare answer may be.
- **A bare gold is in the unit that the question's figures share** (营收1000万元…, gold 800: 800, 800万元 and 8000000元, not 800元; of a
  question for a duration, the unit of its durations), unless the question asks for another unit, a share or a ratio; where the figures
  share none, it is taken at its face value.
- **Units must agree where both say one**, after conversion (万元 and 元, 年 and 个月). A symbol of several currencies agrees with each.
- **The gold's last digit is the tolerance**: half a unit of it, or a whole one where the gold has decimals and three digits or more, since
  workings round on the way. An answer rounded to three digits or more may also be half a unit of its own last digit away (0.5 % at most).
  A gold that is a fraction allows 1 %; a gold that is a range allows what lies in it.
- **One answer.** Two different numbers, a range for a point, a bound (at least 5, 5 以上), "or", 可能: nothing was answered. Of an equation
  the last side is the answer; years, dates, marks of a list and of a source are no numbers; the same number said twice is one.
- **Brackets around the first number, and nothing else in them, are an accountant's minus.** So is a word of falling before or behind a
  number (下降 5 %, a decrease of 5 %), except where the question asks for the fall itself (下降了多少).

What one quantity looks like is quantities.py's. math-verify and its like read formulas into sympy: Chinese scales, accountants' brackets
and units are not theirs, a call takes milliseconds, and what an answer may hold has no bound there. Here work is bounded: 2,000 characters,
40 digits, exponents of 30.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from functools import lru_cache

from overtake.reading.normal_forms import half_width
from overtake.reading.plain import LONGEST, plain_text
from overtake.reading.quantities import Quantity, measures, quantities
from overtake.reading.quantity_tokens import declared_units
from overtake.reading.units import same_unit, scale_at, unit_at

_LONGEST_QUESTION = 4000
_PRECISION = Context(prec=60)
_TELLING_DIGITS = 3
"""Fewer say too little: 0.3 is no answer to 0.34, but 0.34 is one to 0.3402."""
_SAID_TWICE = Decimal("0.01")
"""By so much of its value a number may be rounded where it is said a second time."""
_HEDGE = re.compile(
    r"\b(?:either|or|maybe|perhaps|possibly|might|not|isn't|wrong|incorrect|unsure)\b|或|要么|抑或|也许|可能|不确定|不是|并非|错误|≠|\?",
    re.IGNORECASE,
)
_FALL = re.compile(
    r"下降|减少|降低|下跌|下滑|下调|下浮|亏|缩减|缩小|回落|萎缩|收窄|滑落|贬值|跌|降[幅息准了多低]|减[幅值了多]|赔|少了|负增长|净流出"
    r"|decreas|declin|fell|fall|drop|reduc|loss|shr[aiu]nk|lost|contracti|plung|slid|slump|lower|outflow",
    re.IGNORECASE,
)
_RISE = re.compile(r"增|升|涨|提高|变化|变动|increas|grow|rise|rose|chang|gain", re.IGNORECASE)
_EQUALS = re.compile(r"[=≈]")

_ASKED = re.compile(r"(?:多少|几)个?(?=\S)")
_ASKED_LATIN = re.compile(r"\b(?:in|how many)\s+(thousand|million|billion|trillion)s?\b", re.IGNORECASE)
_PERCENT_IN_BRACKETS = re.compile(
    r"\(\s*(?:单位\s*:?\s*|in\s+)?(%|‰|percent|percentage points?|百分点|个百分点)\s*\)|单位\s*[:是为]\s*(%|‰|个?百分点)", re.IGNORECASE
)
_FIGURE = re.compile(r"((?:US|HK)?[$€£¥]?)\s*\d[\d,.]*(\D{0,16})")
"""A number of a question with what may be its unit before and behind it."""
_CLAUSE = re.compile(r"[，。；;!！?？\n]|,(?!\d)|\.(?!\d)")
_ASKS = re.compile(r"多少|几|求|计算|[?？]|\b(?:what|how|calculate|compute|find|determine)\b", re.IGNORECASE)
_ASKS_RATIO = re.compile(
    r"(?:率|比例|比重|占比|比值|之比|百分|倍|系数|指数|年限|[期时]间|周期|回收期|多久|股数|人数|户数|数量|销量|产量|件数|次数)[^，。；]{0,8}$"
    r"|(?:percent|ratio|\brate\b|margin|proportion|times\b|multiple|how long|how many|growth)",
    re.IGNORECASE,
)
_ASKS_TIME = re.compile(
    r"(?:年限|期限|[期时]间|周期|久期|回收期|多久|多长)[^，。；率]{0,8}$|how long|\b(?:payback|holding) period\b|duration", re.IGNORECASE
)


def read_quantity(text: str) -> Quantity | None:
    """The one quantity of a text that is meant as an answer; None for none, several different ones, a hedge, or a number in no known form.

    >>> [float(read_quantity(text).value) for text in ("约为 -1,234.5 万元", "$(12.6) million", "12.5%", "1年6个月")]
    [-12345000.0, -12600000.0, 0.125, 18.0]
    >>> read_quantity("either 5 or 6") is read_quantity("10 或 20") is read_quantity("5, 6 and 7") is None
    True
    >>> read_quantity("5%-6%").lower, read_quantity("(106.4+70.5)/2 = 88.45").value, read_quantity("百分之十二点五").value
    (Decimal('0.05'), Decimal('88.45'), Decimal('0.125'))
    """
    with localcontext(_PRECISION):
        plain = plain_text(text)
        if plain is None or _HEDGE.search(plain):
            return None
        sides = [side for side in _EQUALS.split(plain) if side.strip()]
        written = quantities(sides[-1]) if sides else None
        if not written:
            return None
        quantity = _single([figure.quantity for figure in written if not figure.calendar] or [figure.quantity for figure in written])
        return replace(quantity, approximate=True) if quantity and "≈" in plain else quantity


def same_quantity(answer_text: str, gold_text: str, question: str = "") -> bool:
    """Return whether an answer says the gold's number, by the rules at the top of this file; `question` may name its unit, or share one.

    Raises ValueError when the gold is no single quantity: ask `read_quantity(gold_text)` first where that may be.

    >>> same_quantity("0.25", "25%"), same_quantity("25", "25%"), same_quantity("106900 万元", "10.69 亿元")
    (True, False, True)
    >>> same_quantity("10.69 亿元", "10.69"), same_quantity("10.69 亿元", "10.69", "增长了多少亿元？")
    (False, True)
    >>> question = "某公司2023年营收1000万元，同比增长25%，请计算2022年营收。"
    >>> [same_quantity(answer, "800", question) for answer in ("800", "8000000元", "800元")]
    [True, True, False]
    """
    gold = _read_gold(gold_text)
    if gold is None:
        raise ValueError(f"the gold {gold_text[:80]!r} is no single quantity: give one number with its unit, such as 12.5% or 3 万元")
    answer = read_quantity(answer_text)
    if answer is None:
        return False
    with localcontext(_PRECISION):
        if answer.falling and gold.value > 0 and _FALL.search(question) and not _RISE.search(question):
            answer = replace(answer, value=-answer.value)
        of_question, certain = _unit_of_answer(question) if question else (None, False)
        if of_question and gold.bare and not answer.bare and (certain or _comparable(answer, of_question)):
            gold = _in_unit(gold, of_question)
        elif of_question and answer.bare and certain and _agree(_in_unit(answer, of_question), gold):
            return True
        return _agree(answer, gold)


def _unit_of_answer(question: str) -> tuple[Quantity | None, bool]:
    """(one of the unit that a question wants its number in, whether it says so); None where it neither names nor shares one."""
    if named := unit_asked(question):
        unit = _read_gold("1" + named)
        return (unit, True) if unit and not unit.bare else (None, False)
    return _unit_shared(question), False


def with_unit(gold: str, question: str) -> str:
    """A bare gold as an answer would write it, with the unit that its question names or shares; "" for any other gold or question.

    >>> with_unit("800", "某公司2023年营收1000万元，同比增长25%，请计算2022年营收。"), with_unit("12", "增长了多少亿元？")
    ('800万元', '12亿元')
    >>> with_unit("4", "Revenue rose from $1.5 million by $2.5 million. What is it now?"), with_unit("800万元", "多少万元？")
    ('$4 million', '')
    """
    number = _read_gold(gold)
    unit = _unit_of_answer(question)[0] if number and number.bare else None
    if unit is None:
        return ""
    for around in (("", unit_asked(question)), *((figure[1], figure[2]) for figure in _FIGURE.finditer(half_width(question)))):
        before, behind = around
        for end in range(len(behind) + 1):
            unit_quantity = _read_gold(f"{before}1{behind[:end]}")
            within_word = re.match("[a-z]{2}", behind[max(end - 1, 0) : end + 1], re.IGNORECASE)
            if (
                unit_quantity
                and not unit_quantity.bare
                and not within_word
                and (unit_quantity.value, unit_quantity.unit) == (unit.value, unit.unit)
            ):
                return f"{before}{gold.strip()}{' ' * behind[:1].isascii()}{behind[:end].strip()}".strip()
    return ""


def _comparable(answer: Quantity, unit: Quantity) -> bool:
    """Whether an answer may be meant in the unit that the question's figures share; a ratio or another kind of thing is not."""
    kinds = ("plain", "money") if unit.kind in ("plain", "money") else ("plain", unit.kind)
    return answer.kind in kinds


@lru_cache(maxsize=4096)
def unit_asked(question: str) -> str:
    """The scale and unit that a question wants its number in, "" where it names none.

    Percent is one only where it stands as the unit, in brackets: 百分之多少 is answered in many ways.

    >>> unit_asked("比上年增长了多少亿元？"), unit_asked("What is the change (in millions)?"), unit_asked("收入是多少（单位：万元）？")
    ('亿元', 'millions', '万元')
    >>> unit_asked("增长百分之多少？"), unit_asked("增长率是多少（%）？"), unit_asked("几年收回投资？")
    ('', '%', '年')
    """
    text = half_width(question[-_LONGEST_QUESTION:])
    for match in _ASKED.finditer(text):
        unit, end = unit_at(text, scale := scale_at(text, match.end())[1])
        if unit.kind not in ("percent", "plain") or (unit.kind == "plain" and scale > match.end()):
            return text[match.end() : max(end, scale)].strip()
    if percent := _PERCENT_IN_BRACKETS.search(text):
        return "%" if "‰" not in percent[0] else "‰"
    if declared := declared_units(text):
        return declared[-1]
    latin = _ASKED_LATIN.search(text)
    return latin[1].lower() if latin else ""


@lru_cache(maxsize=4096)
def _unit_shared(question: str) -> Quantity | None:
    """One of the unit that all of a question's figures are in; None where they share none, or the question asks for a share or a ratio.

    Figures are what is measured in money, size or scales (1000万元, $5 million, 3吨); percents, times, durations and bare numbers are none.
    Where a duration is asked for, the durations are the figures: 甲需2年，乙需4年，平均回收期是多少？
    """
    clauses = [clause for clause in _CLAUSE.split(question) if clause.strip()]
    asking = next((clause for clause in reversed(clauses) if _ASKS.search(clause)), clauses[-1] if clauses else "")
    plain = plain_text(question[-LONGEST:])
    if plain is None:
        return None
    of_time = bool(_ASKS_TIME.search(asking))
    if not of_time and _ASKS_RATIO.search(asking):
        return None
    figures = [
        (scale, unit)
        for scale, unit in measures(plain)
        if (unit.kind == "time" if of_time else unit.kind in ("money", "mass", "size") or (scale > 1 and unit.kind in ("plain", "count")))
    ]
    if not figures or len({scale * unit.factor for scale, unit in figures}) > 1:
        return None
    names = {unit.name for _, unit in figures if unit.name}
    scale, unit = next((figure for figure in figures if figure[1].name), figures[0])
    if len(names) > 1 and not all(same_unit(unit.name, name) for name in names):
        return None
    factor = scale * unit.factor
    return Quantity(factor, factor, 1, unit.kind, unit.name, scale > 1, measure=factor)


def _in_unit(bare: Quantity, unit: Quantity) -> Quantity:
    factor = unit.value
    return replace(bare, value=bare.value * factor, step=bare.step * factor, kind=unit.kind, unit=unit.unit, scaled=unit.scaled)


@lru_cache(maxsize=4096)
def _read_gold(text: str) -> Quantity | None:
    return read_quantity(text)


def _agree(answer: Quantity, gold: Quantity) -> bool:
    if not same_unit(answer.unit, gold.unit):
        return False
    slack = Decimal("1e-12") * abs(gold.value)
    if answer.lower is not None and answer.upper is not None:
        if gold.lower is None or gold.upper is None:
            return False
        return max(abs(answer.lower - gold.lower), abs(answer.upper - gold.upper)) <= gold.step / 2 + slack
    if gold.lower is not None and gold.upper is not None:
        return gold.lower - slack <= answer.value <= gold.upper + slack
    off, most = abs(answer.value - gold.value), _tolerance(answer, gold)
    if gold.step == gold.measure and most == gold.step / 2 and abs(off - most) <= slack and abs(answer.value) > abs(gold.value):
        return False  # a whole number and a half is rounded up to another: 1.5 is no 1
    return off <= most + slack


def _tolerance(answer: Quantity, gold: Quantity) -> Decimal:
    if gold.kind == "year":
        return Decimal(0)
    exponent = gold.step.adjusted() - gold.value.adjusted() if gold.value else 0
    whole = gold.digits >= _TELLING_DIGITS and exponent < 0 and not _is_count(gold)
    own = answer.step / 2 if answer.digits >= _TELLING_DIGITS else Decimal(0)
    return max(gold.step if whole else gold.step / 2, own)


def _is_count(gold: Quantity) -> bool:
    """An integer without scale, exact as far as one can tell."""
    return not gold.scaled and gold.step == gold.measure == 1


def _single(figures: Sequence[Quantity]) -> Quantity | None:
    """The finest of several that say the same, at most rounded by 1 %; None where they do not."""
    finest = min(figures, key=lambda figure: (figure.step, not figure.unit))
    for figure in figures:
        if (figure.lower, figure.upper) != (finest.lower, finest.upper) and None in (figure.lower, finest.lower):
            return None
        if not same_unit(figure.unit, finest.unit) or abs(figure.value - finest.value) > min(
            figure.step / 2, abs(finest.value) * _SAID_TWICE
        ):
            return None
    return finest
