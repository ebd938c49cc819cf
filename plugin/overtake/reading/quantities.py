"""The grammar of quantities: what a run of tokens (quantity_tokens.py) says, one number with its unit after the other.

    quantity := lead amount {smaller amount}         3亿5000万, 1年6个月, 12元5角, $5 and 20 cents
    lead     := {sign | currency | "(" | about | minus word}, behind words of falling, of a bound, or a unit in brackets
    amount   := number [")"] [scale [digit]] [unit [digit | half]] [")"] [unit in brackets] [about | bound | word of falling]

A digit right behind a scale or a unit is its tenths: 3万2, 七成五.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from overtake.reading.quantity_tokens import Literal, Token, tokenize
from overtake.reading.units import NO_UNIT, ONE_MINUTE, Unit, same_unit

_MOST_QUANTITIES = 12
_YEAR = re.compile(r"(?:19|20)\d\d")
_YEAR_BEFORE = re.compile(
    r"(?:\b(?:in|for|from|years?(?:\s+of)?|fy|fiscal|since|by|during|and|to|between|than|vs\.?)|['\-/])\s*$", re.IGNORECASE
)
_STANDS_BETWEEN = frozenset("(:=,为是$¥€£")
"""Behind one of these a hyphen with a blank behind it is a minus; behind any other sign or word it is a dash."""
_HUNDREDTHS = {"CNY": Decimal("0.01"), "¥": Decimal("0.01"), "day": ONE_MINUTE}
"""What 分 is behind 元 and 角, and behind 小时."""
_ONE_DIGIT = frozenset("123456789")
_END = Token("end", "", 0, 0, False)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, in base units: 3 万元 is 30000 CNY, 25 % is 0.25, 2 年 is 24 months."""

    value: Decimal
    """The middle of a range."""
    step: Decimal
    """One unit of the last digit that is written, in base units; 0.01 for 1.25, 10000 for 3 万."""
    digits: int
    """Significant digits that are written."""
    kind: str = "plain"
    """plain, percent, times, money, time, mass, size, count, or year for a calendar year."""
    unit: str = ""
    """CNY, USD, $, ¥, month, day, kg, ...; ratio for percent and times; "" where none is said."""
    scaled: bool = False
    """A scale is said: 万, million."""
    lower: Decimal | None = None
    upper: Decimal | None = None
    """The ends of a range."""
    approximate: bool = False
    """约, about, 左右 are said."""
    falling: bool = False
    """The minus is said by a word: 下降 5 %."""
    measure: Decimal = Decimal(1)
    """The worth of what stands behind the number, of its largest part: 10000 for 万元, 12 for 年."""

    @property
    def bare(self) -> bool:
        """Lack of a unit and of a scale: only a number is said."""
        return not self.unit and not self.scaled and self.kind == "plain"


@dataclass
class Figure:
    """A quantity and the tokens that say it."""

    quantity: Quantity
    first: int
    """Its first token, sign and currency included."""
    behind: int
    """The token behind its last one."""
    written: Decimal
    """The number without its unit and sign."""
    calendar: bool = False
    """It may be a year and nothing else."""
    led: bool = False
    """A sign or a currency of its own stands before it."""


class _Lead(NamedTuple):
    """What stands right before a number and belongs to it."""

    minus: bool
    bracket: bool
    """One opens."""
    approximate: bool
    currency: str
    first: int
    """The first token of all that."""


def quantities(text: str) -> list[Figure] | None:
    """All quantities of a plain text (see plain.py), ranges put together; None where digits stand in no known form, or a bound.

    >>> [(float(one.quantity.value), one.quantity.unit) for one in quantities("1年6个月，约 -3 万元") or []]
    [(18.0, 'month'), (-30000.0, 'CNY')]
    """
    tokens = tokenize(text)
    if tokens is not None and any(token.kind == "mark" for token in tokens) and not any(token.kind == "number" for token in tokens):
        tokens = tokenize(text, marks=False)
    if tokens is None:
        return None
    figures: list[Figure] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "number":
            figure = _quantity(text, tokens, at, figures[-1].behind if figures else 0, first=not figures)
            if figure is None or len(figures) >= _MOST_QUANTITIES:
                return None
            at = figure.behind
            if figures and (whole := _compound(tokens, figures[-1], figure)):
                figures[-1] = whole
            else:
                figures.append(figure)
            continue
        at += 1
        if token.kind == "year" and len(token.text.rstrip("财年度末底初 ")) == 4:
            year = Decimal(token.text[:4])
            figures.append(Figure(Quantity(year, Decimal(1), 4, "year"), at - 1, at, year, calendar=True))
    return _with_ranges(tokens, _without_numbering(tokens, figures))


def measures(text: str) -> list[tuple[int, Unit]]:
    """Return (scale, unit) of every number of a plain text, whatever else stands in it; a currency before a number is its unit.

    >>> [(scale, unit.name) for scale, unit in measures("营收1000万元，同比增长25%，成本 $5 million")]
    [(10000, 'CNY'), (1, 'ratio'), (1000000, '$')]
    """
    tokens = tokenize(text) or []
    amounts = []
    for at, token in enumerate(tokens):
        if token.kind == "number":
            before = next((earlier for earlier in reversed(tokens[max(0, at - 2) : at]) if earlier.kind not in ("sign", "open")), _END)
            scale, place = (tokens[at + 1].scale, at + 2) if _kind(tokens, at + 1) == "scale" else (1, at + 1)
            unit = tokens[place].unit if _kind(tokens, place) == "unit" else NO_UNIT
            if _kind(tokens, at + 1) == "declared":
                scale, unit = tokens[at + 1].scale, tokens[at + 1].unit
            amounts.append((scale, before.unit if before.kind == "currency" and not unit.name else unit))
    return amounts


def _quantity(text: str, tokens: Sequence[Token], at: int, lowest: int, *, first: bool) -> Figure | None:
    """The quantity whose number is the token `at`; None for a bound and for digits in no known form."""
    number = tokens[at].number
    lead = _lead(tokens, at, lowest, first=first)
    if number is None or lead is None:
        return None
    value, step, digits = number.value, number.step, number.digits
    place = at + 1
    closed = lead.bracket and _kind(tokens, place) == "close"
    place += closed
    scale, scaled, unit = 1, False, NO_UNIT
    if _kind(tokens, place) == "scale":
        scale, scaled, place = tokens[place].scale, True, place + 1
        if rest := _rest(tokens, place, scale):
            more, step, further, place = rest
            value, digits, scale = value * scale + more, digits + further, 1
    if _kind(tokens, place) == "half" and _kind(tokens, place + 1) == "unit":  # 三个半小时
        value, step, place = value + Decimal("0.5"), Decimal("0.1"), place + 1
    if _kind(tokens, place) == "unit":
        unit, place = tokens[place].unit, place + 1
        if _kind(tokens, place) == "half":
            value, step, place = value + Decimal("0.5"), Decimal("0.1"), place + 1
        elif unit.tail and (tenths := _lone_digit(tokens, place)):
            value, step, digits, place = value + tenths / 10, Decimal("0.1"), digits + 1, place + 1
    if lead.bracket and not closed and _kind(tokens, place) == "close":
        closed, place = True, place + 1
        if not scaled and not unit.name:  # (12.6) million came first, this is ($12.6) million
            if _kind(tokens, place) == "scale":
                scale, place = tokens[place].scale, place + 1
            if _kind(tokens, place) == "unit":
                unit, place = tokens[place].unit, place + 1
    if scale == 1 and not scaled and not unit.name:
        scale, unit, place = _declared_unit(tokens, place, lead.first, lowest)
    if lead.currency:
        if unit.name and not same_unit(unit.name, lead.currency):
            return None
        unit = Unit("money", lead.currency if unit.name in ("", "$", "¥") else unit.name, unit.factor)
    behind = tokens[place] if place < len(tokens) else _END
    if not behind.gap and tokens[place - 1].text[-1].isdigit() and re.match("[A-Za-z]", behind.text):
        return None  # 25abc
    approximate = lead.approximate
    if behind.kind == "about behind":
        approximate, place = True, place + 1
    if _kind(tokens, place) == "bound behind":
        return None
    minus = lead.minus or (lead.bracket and closed and first and not lead.approximate)
    falling = not minus and value > 0 and (_falls(tokens, lead.first, lowest) or _kind(tokens, place) == "fall behind")
    measure = unit.factor * scale
    factor = -measure if minus or falling else measure
    quantity = Quantity(
        *(value * factor, step * measure, digits, unit.kind, unit.name, scaled or scale > 1),
        approximate=approximate,
        falling=falling,
        measure=measure,
    )
    calendar = quantity.bare and not minus and bool(_YEAR.fullmatch(tokens[at].text)) and place == at + 1
    if calendar and _YEAR_BEFORE.search(text[max(0, tokens[at].start - 20) : tokens[at].start]):
        quantity = replace(quantity, kind="year")
    return Figure(quantity, lead.first, place, value, calendar, led=lead.minus or lead.bracket or bool(lead.currency))


def _kind(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].kind if at < len(tokens) else ""


def _lead(tokens: Sequence[Token], at: int, lowest: int, *, first: bool) -> _Lead | None:
    """Take sign, currency, bracket and "about" off the tokens before `at`, in any order; None where a bound or a function stands there."""
    bracket = minus = approximate = False
    currency, place, gap = "", at, tokens[at].gap
    while place > lowest:
        token = tokens[place - 1]
        if token.kind == "sign":
            before = tokens[place - 2] if place - 2 >= lowest else None
            between_two = not first and all(other.kind == "open" for other in tokens[lowest : place - 1])
            is_dash = gap and before and before.text[-1] not in _STANDS_BETWEEN and before.text.lower() not in ("is", "was", "of", "by")
            if between_two or is_dash:
                break
            minus ^= token.text == "-"
        elif token.kind == "currency" and not currency:
            currency = token.unit.name
        elif token.kind == "open" and not bracket and not approximate:
            bracket = True
        elif token.kind == "about":
            if not first and token.text == "~" and place - 1 == lowest:
                break
            approximate = True
        elif token.kind == "minus":
            minus = not minus
        else:
            break
        gap = gap or token.gap
        place -= 1
    before = tokens[place - 1] if place > lowest else None
    if before and (
        before.kind == "function" or (before.text == "^" and place == at) or (before.kind == "bound" and (first or before.text != "±"))
    ):
        return None
    return _Lead(minus, bracket, approximate, currency, place)


def _falls(tokens: Sequence[Token], at: int, lowest: int) -> bool:
    """Whether a word of falling stands before the token `at`, with nothing but linking words between them."""
    while at > lowest and tokens[at - 1].kind == "link":
        at -= 1
    return at > lowest and tokens[at - 1].kind == "fall"


def _declared_unit(tokens: Sequence[Token], behind: int, first: int, lowest: int) -> tuple[int, Unit, int]:
    """(scale, unit, place behind them) of a unit in brackets, behind a number or in the heading before: 800（万元）, 收入（万元）：800."""
    if _kind(tokens, behind) == "declared":
        return tokens[behind].scale, tokens[behind].unit, behind + 1
    while first > lowest and tokens[first - 1].kind == "link":
        first -= 1
    if first > lowest and tokens[first - 1].kind == "declared":
        return tokens[first - 1].scale, tokens[first - 1].unit, behind
    return 1, NO_UNIT, behind


def _lone_digit(tokens: Sequence[Token], at: int) -> Decimal | None:
    """The one digit that the token `at` is, right behind what it is a part of and without a measure of its own."""
    number = tokens[at].number if at < len(tokens) and not tokens[at].gap else None
    if number and number.text in _ONE_DIGIT and _kind(tokens, at + 1) not in ("scale", "unit", "half", "declared"):
        return number.value
    return None


def _rest(tokens: Sequence[Token], at: int, scale: int) -> tuple[Decimal, Decimal, int, int] | None:
    """What goes on a number in a smaller scale: the 5000 万 of 3 亿 5000 万, the 2 of 3万2; (value, step, digits, place behind)."""
    number: Literal | None = tokens[at].number if at < len(tokens) else None
    if not number:
        return None
    if (number.text in _ONE_DIGIT and not tokens[at].gap) and _kind(tokens, at + 1) != "scale":
        tenth = Decimal(scale) / 10
        return number.value * tenth, tenth, 1, at + 1
    smaller, place = (tokens[at + 1].scale, at + 2) if _kind(tokens, at + 1) == "scale" else (1, at + 1)
    if smaller == 1 and tokens[at].gap:  # two numbers, not one
        return None
    value, step = number.value * smaller, number.step * smaller
    if not (value < scale and smaller < scale):
        return None
    if smaller > 1 and (more := _rest(tokens, place, smaller)):
        return value + more[0], more[1], number.digits + more[2], more[3]
    return value, step, number.digits, place


def _compound(tokens: Sequence[Token], large: Figure, small: Figure) -> Figure | None:
    """Two amounts of one thing in two units, the smaller one behind the larger, as one: 1年6个月, 12元5角."""
    larger, smaller = large.quantity, small.quantity
    if smaller.unit == "#分" and larger.unit in _HUNDREDTHS:
        part = _HUNDREDTHS[larger.unit]
        smaller = replace(smaller, value=smaller.value * part, step=smaller.step * part, kind=larger.kind, unit=larger.unit, measure=part)
    between = tokens[large.behind : small.first]
    joined = all(token.kind == "on" for token in between) and len(between) <= 1
    fits = (
        larger.unit
        and smaller.unit
        and same_unit(larger.unit, smaller.unit)
        and larger.kind == smaller.kind in ("money", "time", "mass", "size")
    )
    if (
        not joined
        or not fits
        or small.led
        or larger.lower is not None
        or abs(smaller.value) >= larger.measure
        or smaller.measure >= larger.measure
    ):
        return None
    value = larger.value - smaller.value if larger.value < 0 else larger.value + smaller.value
    whole = replace(larger, value=value, step=smaller.step, digits=larger.digits + smaller.digits)
    return Figure(whole, large.first, small.behind, large.written)


def _without_numbering(tokens: Sequence[Token], figures: list[Figure]) -> list[Figure]:
    """Without a number that only numbers what stands behind its colon: 1：800万元."""
    if (
        len(figures) > 1
        and figures[0].quantity.bare
        and not figures[1].quantity.bare
        and figures[0].written == int(figures[0].written) < 100
    ):
        place = figures[0].behind
        if place < len(tokens) and tokens[place].text == ":" and figures[0].first == 0:
            return figures[1:]
    return figures


def _with_ranges(tokens: Sequence[Token], figures: Sequence[Figure]) -> list[Figure]:
    """Two quantities with a range's sign alone between them, as one; the first may leave its scale and unit to the second."""
    joined: list[Figure] = []
    for figure in figures:
        last = joined[-1] if joined else None
        between = [token.text.lower() for token in tokens[last.behind : figure.first]] if last else []
        whole = _range(tokens, last, figure, between[0]) if last and len(between) == 1 else None
        if whole:
            joined[-1] = whole
        else:
            joined.append(figure)
    return joined


def _range(tokens: Sequence[Token], last: Figure, figure: Figure, sign: str) -> Figure | None:
    if (
        sign not in ("-", "~", "至", "到", "与", "和", "to", "and", "±")
        or last.calendar != figure.calendar
        or last.quantity.lower is not None
    ):
        return None
    if sign in ("and", "和", "与"):
        lead = [token.text.lower() for token in tokens[max(0, last.first - 2) : last.first]]
        if not any(word in ("between", "介于", "在") or word.endswith(("介", "于", "在")) for word in lead):
            return None
    start, stop = last.quantity, figure.quantity
    if start.bare and not stop.bare and figure.written:
        base = abs(stop.value / figure.written)
        start = replace(start, value=start.value * base, step=start.step * base, unit=stop.unit)
    lower, upper = (start.value - stop.value, start.value + stop.value) if sign == "±" else (start.value, stop.value)
    if lower > upper or not same_unit(start.unit, stop.unit):
        return None
    step = min(start.step, stop.step)
    whole = replace(stop, value=(lower + upper) / 2, step=step, unit=stop.unit or start.unit, lower=lower, upper=upper)
    return Figure(whole, last.first, figure.behind, figure.written, last.calendar)
