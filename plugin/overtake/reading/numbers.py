"""Numbers as people write answers: one quantity of a text, exact in Decimal, with its unit and precision; and when two are the same.

What is decided on purpose:

- **Percent is a hundredth.** 25 %, 25 个百分点, 百分之二十五, 250 ‰ and 0.25 are the same number, and 25 is another.
- **Scales count.** 1.2 million is 1,200,000, 3 亿 is 300,000,000. A bare number is taken at its face value; only where the question names
  the unit it wants (多少亿元, in millions), a bare gold is in that unit, and a bare answer may be.
- **Units must agree where both say one**, after conversion (万元 and 元, 年 and 个月). A symbol of several currencies agrees with each.
- **The gold's last digit is the tolerance**: half a unit of it, or a whole one where the gold has decimals and three digits or more, since
  workings round on the way. An answer rounded to three digits or more may also be half a unit of its own last digit away (0.5 % at most).
  A gold that is a fraction allows 1 %; a gold that is a range allows what lies in it.
- **One answer.** Two different numbers, a range for a point, a bound (at least 5, 5 以上), "or", 可能: nothing was answered. Of an equation
  the last side is the answer; years and dates beside another number are no numbers; the same number said twice is one.
- **Brackets around the first number, and nothing else in them, are an accountant's minus.** So is a word of falling before or behind a
  number (下降 5 %, a decrease of 5 %), except where the question asks for the fall itself (下降了多少).

math-verify and its like read formulas into sympy: Chinese scales, accountants' brackets and units are not theirs, a call takes
milliseconds, and what an answer may hold has no bound there. Here work is bounded: 2,000 characters, 40 digits, exponents of 30.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

from overtake.reading.plain import plain_text
from overtake.reading.units import NO_UNIT, Unit, currency_before, same_unit, scale_at, skip_gap, unit_at

_LONGEST_QUESTION = 4000
_MOST_EXPONENT = 30
_MOST_QUANTITIES = 12
_PRECISION = Context(prec=60)
_TELLING_DIGITS = 3
"""Fewer say too little: 0.3 is no answer to 0.34, but 0.34 is one to 0.3402."""
_FRACTION_STEP = Decimal("0.02")
"""The step of a fraction, which has no last digit, as a share of its value."""


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
    """plain, percent, times, money, time, mass, or year for a calendar year."""
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

    @property
    def bare(self) -> bool:
        """Only a number is said: no unit, no scale."""
        return not self.unit and not self.scaled and self.kind == "plain"


_CORE = r"""(?:
    \d{1,3}(?:\.\d{3})+,\d+ | \d{1,3}(?:\.\d{3}){2,}            # 1.234.567,89
  | (?:\d{1,3}(?:,\d{3})+ | \d{1,2}(?:,\d{2})+,\d{3} | \d{1,4}(?:,\d{4})+ | \d{1,3}(?:\ \d{3})+ | \d+) (?:\.\d+)?
  | \.\d+
)(?!\d|[.,]\d)"""
_NUMBER = re.compile(_CORE, re.VERBOSE)
_POWER = re.compile(r"[eE]([+-]?\d{1,4})(?!\d)|\s*[×x*·]\s*10\s*\^\s*[({]?\s*([+-]?\d{1,4})\s*[)}]?(?!\d)", re.ASCII)
_TEN_TO_THE = re.compile(r"\^\s*[({]?\s*([+-]?\d{1,4})\s*[)}]?(?!\d)")
_OVER = re.compile(rf"(?:\s*/\s*|[:比])({_CORE})", re.VERBOSE)
_AND_OVER = re.compile(r"\s+(\d{1,4})\s*/\s*(\d{1,4})(?![\d.,/])")
_TOKEN = re.compile(
    rf"""(?P<skip>
        (?<!\d)\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?![\d.,]*[%\d])
      | (?<!\d)(?:\d{{4}}\s*年\s*)?\d{{1,2}}\s*月(?:份|底|末|初)?(?:\s*\d{{1,2}}\s*[日号])?
      | 第\s*\d+ | (?<![\d.,])\d+(?:st|nd|rd|th)\b | (?<![\d.,])[1-4][QH](?:\d{{2,4}})?\b
      | (?<![A-Za-z_])(?!(?:USD|HKD|TWD|EUR|GBP|JPY|CNY|RMB)\d)[A-Za-z_]+\d[\w.]*
    )
  | (?P<year>(?<![\d.,])(?:19|20)\d\d(?:\s*[-/~至]\s*(?:(?:19|20)\d\d|\d\d))?\s*(?:财?年(?:度|末|底|初)?))
  | (?P<number>(?<!\d)(?<!\d[.,]){_CORE})""",
    re.VERBOSE,
)
_YEAR_BEFORE = re.compile(
    r"(?:\b(?:in|for|from|years?(?:\s+of)?|fy|fiscal|since|by|during|and|to|between|than|vs\.?)|['\-/])\s*$", re.IGNORECASE
)
_YEAR = re.compile(r"(?:19|20)\d\d")

_ABOUT_BEFORE = re.compile(
    r"(?:大?约(?:为|是)?|大概|近似|近|将近|≈|~|about|approx(?:imately|\.)?|around|roughly|nearly|almost|circa|ca\.)$", re.IGNORECASE
)
_ABOUT_BEHIND = re.compile(r"\s*(?:左右|上下|or\s+so)", re.IGNORECASE)
_BOUND_BEFORE = re.compile(
    r"""(?:[<>≤≥±]|不(?:到|足|超过|低于|高于|少于|多于)|超过?|[大小高低多少]于|至[少多]|最[多少]
    |(?:at\s+(?:least|most)|(?:more|less|greater|fewer|higher|lower|larger|smaller)\s+than
    |over|under|above|below|up\s+to|minimum|maximum)(?:\s+of)?)$""",
    re.VERBOSE | re.IGNORECASE,
)
_BOUND_BEHIND = re.compile(
    r"\s*(?:以[上下内外]|\+|or\s+(?:more|less|higher|lower|above|below|fewer)|and\s+(?:above|below|over))", re.IGNORECASE
)
_MINUS_WORD = re.compile(r"(?:负|\bminus|\bnegative)$", re.IGNORECASE)
_RANGE_BETWEEN = re.compile(r"\s*(?:-|~|至|到|与|和|to|and|±)\s*", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:either|or|maybe|perhaps|possibly|might|not|isn't|wrong|incorrect|unsure)\b|或|要么|抑或|也许|可能|不确定|不是|并非|错误|≠|\?",
    re.IGNORECASE,
)
_FALL_WORDS = (
    r"下降|减少|降低|下跌|下滑|下调|亏损|缩减|缩小|回落|跌|降幅|跌幅|减幅|"
    r"decreas\w*|declin\w*|fell|fall(?:en|s)?|drop\w*|reduc\w*|loss(?:es)?"
)
_FALL_BEFORE = re.compile(rf"(?:{_FALL_WORDS}|\bdown)(?:\s|了|幅度|额|比例|率|为|是|:|by|of|was|is)*$", re.IGNORECASE)
_FALL_BEHIND = re.compile(r"\s*的?(?:decrease|decline|drop|reduction|lower\b|降幅|跌幅|减幅|亏损|下降)", re.IGNORECASE)
_FALL = re.compile(_FALL_WORDS, re.IGNORECASE)
_RISE = re.compile(r"增|升|涨|提高|变化|变动|increas|grow|rise|rose|chang|gain", re.IGNORECASE)

_BRACKETED = re.compile(r"\s*\(\s*(?:单位\s*:\s*|in\s+)?([^()\d]{1,20})\)", re.IGNORECASE)
_HEADED = re.compile(r"\(\s*(?:单位\s*:\s*|in\s+)?([^()\d]{1,20})\)\s*(?:[:为是]|is|was)?\s*$", re.IGNORECASE)
_EQUALS = re.compile(r"[=≈]")


@dataclass
class _Found:
    quantity: Quantity
    start: int
    """Where its sign or currency begins."""
    end: int
    written: Decimal
    """The number without its unit and sign."""
    calendar: bool = False


def read_quantity(text: str) -> Quantity | None:
    """The one quantity of a text that is meant as an answer; None for none, several different ones, a hedge, or a number in no known form.

    >>> [float(read_quantity(text).value) for text in ("约为 -1,234.5 万元", "$(12.6) million", "12.5%")]
    [-12345000.0, -12600000.0, 0.125]
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
        found = _scan(sides[-1]) if sides else None
        if not found:
            return None
        quantity = _single([one.quantity for one in found if not one.calendar] or [one.quantity for one in found])
        return replace(quantity, approximate=True) if quantity and "≈" in plain else quantity


def same_quantity(answer_text: str, gold_text: str, question: str = "") -> bool:
    """Whether an answer says the gold's number, by the rules at the top of this file; `question` may name the unit it asks for.

    Raises ValueError when the gold is no single quantity: ask `read_quantity(gold_text)` first where that may be.

    >>> same_quantity("0.25", "25%"), same_quantity("25", "25%"), same_quantity("106900 万元", "10.69 亿元")
    (True, False, True)
    >>> same_quantity("10.69 亿元", "10.69"), same_quantity("10.69 亿元", "10.69", "增长了多少亿元？")
    (False, True)
    """
    gold = _read_gold(gold_text)
    if gold is None:
        raise ValueError(f"the gold {gold_text[:80]!r} is no single quantity: give one number with its unit, such as 12.5% or 3 万元")
    answer = read_quantity(answer_text)
    if answer is None:
        return False
    with localcontext(_PRECISION):
        asked = _read_gold("1" + unit_asked(question)) if question else None
        if asked and not asked.bare:
            if gold.bare and not answer.bare:
                gold = _in_unit(gold, asked)
            elif answer.bare and not gold.bare and _agree(_in_unit(answer, asked), gold):
                return True
        if answer.falling and gold.value > 0 and _FALL.search(question) and not _RISE.search(question):
            answer = replace(answer, value=-answer.value)
        return _agree(answer, gold)


@lru_cache(maxsize=4096)
def unit_asked(question: str) -> str:
    """The scale and unit that a question wants its number in, "" where it names none. Percent is none: 百分之多少 is answered in many ways.

    >>> unit_asked("比上年增长了多少亿元？"), unit_asked("What is the change (in millions)?"), unit_asked("增长百分之多少？")
    ('亿元', 'million', '')
    """
    text = unicodedata.normalize("NFKC", question[-_LONGEST_QUESTION:])
    han = re.search(r"(?:多少|几)个?([百千万亿]*(?:美元|港元|欧元|日元|英镑|元|吨|公斤|倍)|[百千万亿]+)", text)
    latin = re.search(r"\b(?:in|how many)\s+(thousand|million|billion|trillion)s?\b", text, re.IGNORECASE)
    return han[1] if han else latin[1].lower() if latin else ""


def _in_unit(bare: Quantity, asked: Quantity) -> Quantity:
    factor = asked.value
    return replace(bare, value=bare.value * factor, step=bare.step * factor, kind=asked.kind, unit=asked.unit, scaled=asked.scaled)


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
    return abs(answer.value - gold.value) <= _tolerance(answer, gold) + slack


def _tolerance(answer: Quantity, gold: Quantity) -> Decimal:
    if gold.kind == "year":
        return Decimal(0)
    exponent = gold.step.adjusted() - gold.value.adjusted() if gold.value else 0
    whole = gold.digits >= _TELLING_DIGITS and exponent < 0 and not _is_count(gold)
    own = answer.step / 2 if answer.digits >= _TELLING_DIGITS else Decimal(0)
    return max(gold.step if whole else gold.step / 2, own)


def _is_count(gold: Quantity) -> bool:
    """An integer without scale or unit, exact as far as one can tell."""
    return gold.bare and gold.step == 1


def _scan(text: str) -> list[_Found] | None:
    """All quantities of a plain text, ranges put together; None where digits stand in no known form, or a bound."""
    found: list[_Found] = []
    at, covered = 0, [False] * len(text)
    while token := _TOKEN.search(text, at):
        start, end = token.span()
        before = text[found[-1].end if found else 0 : start]
        if token["number"]:
            one = _read(text, start, end, before, first=not found)
            if one is None or len(found) >= _MOST_QUANTITIES:
                return None
            end = one.end
            found.append(one)
        elif token["year"] and len(token["year"].rstrip("财年度末底初 ")) == 4:
            year = Decimal(token["year"][:4])
            found.append(_Found(Quantity(year, Decimal(1), 4, "year"), start, end, year, calendar=True))
        covered[start:end] = [True] * (end - start)
        at = end
    if any(char.isdigit() and not seen for char, seen in zip(text, covered, strict=True)):
        return None
    return _with_ranges(text, found)


def _read(text: str, start: int, end: int, before: str, *, first: bool) -> _Found | None:
    """The quantity whose first number stands at start:end, behind `before`; None for a bound and for digits in no known form."""
    number = _value(text, start, end)
    if number is None:
        return None
    value, step, digits, end = number
    lead = _lead(before[-80:], first=first)
    if lead is None:
        return None
    closed, end = _closing(text, end) if lead.bracket else (False, end)
    scale, end = scale_at(text, end)
    scaled = scale > 1
    if scaled and (more := _rest(text, end, scale)):
        rest, rest_step, rest_digits, end = more
        value, step, digits, scale = value * scale + rest, rest_step, digits + rest_digits, 1
    unit, end = unit_at(text, end)
    if lead.bracket and not closed:
        closed, end = _closing(text, end)
        if closed and not scaled and not unit.name:  # (12.6) million came first, this is ($12.6) million
            scale, end = scale_at(text, end)
            unit, end = unit_at(text, end)
    if scale == 1 and not scaled and not unit.name:
        scale, unit, end = _unit_in_brackets(text, end, lead.rest)
    if lead.currency:
        if unit.name and not same_unit(unit.name, lead.currency):
            return None
        unit = Unit("money", unit.name or lead.currency, unit.factor)
    if end < len(text) and text[end].isascii() and text[end].isalpha() and text[end - 1].isdigit():
        return None
    approximate = lead.approximate
    if about := _ABOUT_BEHIND.match(text, end):
        approximate, end = True, about.end()
    if _BOUND_BEHIND.match(text, end):
        return None
    minus = lead.minus or (lead.bracket and closed and first and not lead.approximate)
    falling = not minus and value > 0 and bool(_FALL_BEFORE.search(lead.rest) or _FALL_BEHIND.match(text, end))
    factor = unit.factor * scale * (-1 if minus or falling else 1)
    quantity = Quantity(
        value * factor, step * abs(factor), digits, unit.kind, unit.name, scaled or scale > 1, approximate=approximate, falling=falling
    )
    calendar = quantity.bare and not minus and bool(_YEAR.fullmatch(text[start:end]))
    if calendar and _YEAR_BEFORE.search(before):
        quantity = replace(quantity, kind="year")
    return _Found(quantity, start - lead.length, end, value, calendar)


class _Lead(NamedTuple):
    """What stands right before a number and belongs to it."""

    minus: bool
    bracket: bool
    """One opens."""
    approximate: bool
    currency: str
    rest: str
    """The text before all that."""
    length: int
    """Of all that."""


def _lead(before: str, *, first: bool) -> _Lead | None:
    """Take sign, currency, bracket and "about" off the end of `before`, in any order; None where a bound stands before them."""
    bracket = minus = approximate = gap = False
    currency, rest = "", before
    while True:
        tight = rest.rstrip()
        gap = gap or tight != rest
        if tight.endswith(("-", "+")):
            inner = tight[:-1].rstrip()
            between_two = not first and not inner.strip("(")
            between_words = gap and re.search(r"[^\s(:=,为是$¥€£]$", inner) and not re.search(r"\b(?:is|was|of|by)$", inner)
            if between_two or between_words:
                break
            minus, rest = minus ^ tight.endswith("-"), tight[:-1]
        elif not currency and currency_before(tight)[0]:
            currency, begin = currency_before(tight)
            rest = tight[:begin]
        elif tight.endswith("(") and not bracket and not approximate:
            bracket, rest = True, tight[:-1]
        elif not first and tight.strip() == "~":
            break
        elif about := _ABOUT_BEFORE.search(tight):
            approximate, rest = True, tight[: about.start()]
        elif word := _MINUS_WORD.search(tight):
            minus, rest = not minus, tight[: word.start()]
        else:
            break
    rest = rest.rstrip()
    if _BOUND_BEFORE.search(rest) and (first or rest.strip() != "±"):
        return None
    return _Lead(minus, bracket, approximate, currency, rest, len(before) - len(rest))


def _unit_in_brackets(text: str, at: int, before: str) -> tuple[int, Unit, int]:
    """(scale, unit, end) of a table's unit, behind a number or in the heading before it: 800（万元）, Revenue (in millions): 12.6."""
    behind, ahead = _BRACKETED.match(text, at), _HEADED.search(before)
    for found, end in ((behind, behind.end() if behind else at), (ahead, at)):
        if found:
            scale, place = scale_at(found[1], 0)
            unit, place = unit_at(found[1], place)
            if place and place == len(found[1].rstrip()):
                return scale, unit, end
    return 1, NO_UNIT, at


def _value(text: str, start: int, end: int) -> tuple[Decimal, Decimal, int, int] | None:
    """(value, step, digits, end) of a number, its exponent or what it is divided by included."""
    value, step, digits = _decimal(text[start:end])
    if ten := _TEN_TO_THE.match(text, end):
        if value != 10 or abs(int(ten[1])) > _MOST_EXPONENT:
            return None
        power = Decimal(1).scaleb(int(ten[1]))
        return power, power, 1, ten.end()
    if power_of := _POWER.match(text, end):
        exponent = int(power_of[1] or power_of[2])
        if abs(exponent) > _MOST_EXPONENT:
            return None
        return value.scaleb(exponent), step.scaleb(exponent), digits, power_of.end()
    if step == 1 and (mixed := _AND_OVER.match(text, end)) and int(mixed[2]):
        value += Decimal(mixed[1]) / Decimal(mixed[2])
        return value, value * _FRACTION_STEP, 2, mixed.end()
    if (over := _OVER.match(text, end)) and (below := _decimal(over[1])[0]):
        if below == 1:
            return value, step, digits, over.end()
        return value / below, abs(value / below) * _FRACTION_STEP, 2, over.end()
    return value, step, digits, end


def _decimal(written: str) -> tuple[Decimal, Decimal, int]:
    """(value, step, significant digits) of digits with separators.

    >>> _decimal("1.234.567,8"), _decimal("1,2345"), _decimal("0.050")
    ((Decimal('1234567.8'), Decimal('0.1'), 8), (Decimal('12345'), Decimal('1'), 5), (Decimal('0.050'), Decimal('0.001'), 2))
    """
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:\.\d{3})+,\d+", written):
        written = written.replace(".", "").replace(",", ".")
    written = written.replace(",", "").replace(" ", "")
    value = Decimal(written)
    step = Decimal(1).scaleb(-len(written.partition(".")[2]))
    return value, step, len(written.replace(".", "").lstrip("0")) or 1


def _rest(text: str, at: int, scale: int) -> tuple[Decimal, Decimal, int, int] | None:
    """What goes on a number in a smaller scale: the 5000 万 of 3 亿 5000 万; (value, step, digits, end)."""
    found = _NUMBER.match(text, skip_gap(text, at))
    if not found:
        return None
    value, step, digits = _decimal(found[0])
    smaller, end = scale_at(text, found.end())
    if smaller == 1 and found.start() > at:  # two numbers, not one
        return None
    value, step = value * smaller, step * smaller
    if not (value < scale and smaller < scale):
        return None
    if smaller > 1 and (more := _rest(text, end, smaller)):
        return value + more[0], more[1], digits + more[2], more[3]
    return value, step, digits, end


def _closing(text: str, at: int) -> tuple[bool, int]:
    behind = skip_gap(text, at)
    return (True, behind + 1) if text[behind : behind + 1] == ")" else (False, at)


def _with_ranges(text: str, found: Sequence[_Found]) -> list[_Found]:
    """Two quantities with a range's sign alone between them, as one; the first may leave its scale and unit to the second."""
    joined: list[_Found] = []
    for one in found:
        last = joined[-1] if joined else None
        between = text[last.end : one.start] if last else ""
        if not last or last.calendar != one.calendar or last.quantity.lower is not None or not _RANGE_BETWEEN.fullmatch(between):
            joined.append(one)
            continue
        sign = between.strip().lower()
        if sign in ("and", "和", "与") and not re.search(
            r"(?:\bbetween|介于|在)\s*\W*$", text[: last.start].rstrip("$¥€£-( "), re.IGNORECASE
        ):
            joined.append(one)
            continue
        start, stop = last.quantity, one.quantity
        if start.bare and not stop.bare and one.written:
            base = abs(stop.value / one.written)
            start = replace(start, value=start.value * base, step=start.step * base, unit=stop.unit)
        lower, upper = (start.value - stop.value, start.value + stop.value) if sign == "±" else (start.value, stop.value)
        if lower > upper or not same_unit(start.unit, stop.unit):
            joined.append(one)
            continue
        step = min(start.step, stop.step)
        whole = replace(stop, value=(lower + upper) / 2, step=step, unit=stop.unit or start.unit, lower=lower, upper=upper)
        joined[-1] = _Found(whole, last.start, one.end, one.written, last.calendar)
    return joined


def _single(found: Sequence[Quantity]) -> Quantity | None:
    """The finest of several that say the same; None where they do not."""
    finest = min(found, key=lambda one: (one.step, not one.unit))
    for one in found:
        if (one.lower, one.upper) != (finest.lower, finest.upper) and None in (one.lower, finest.lower):
            return None
        if not same_unit(one.unit, finest.unit) or abs(one.value - finest.value) > one.step / 2:
            return None
    return finest
