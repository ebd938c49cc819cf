"""The tokens that quantities are made of: numbers, scales, units, currencies, signs, and the words around them that change what is said.

A lexer of two states: right behind a number scales and units are read, everywhere else what may stand around a number. Each token is
found by a pattern that fits at one place, so that the time grows with the text alone.
"""

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from overtake.reading.units import NO_UNIT, Unit, currency_at, scale_at, unit_at

_MOST_EXPONENT = 30
_MOST_NUMBERS = 30
_FRACTION_STEP = Decimal("0.02")
"""The step of a fraction, which has no last digit, as a share of its value."""

_CORE = r"""(?:
    \d{1,3}(?:\.\d{3})+,\d+ | \d{1,3}(?:\.\d{3}){2,}            # 1.234.567,89
  | (?:\d{1,3}(?:,\d{3})+ | \d{1,2}(?:,\d{2})+,\d{3} | \d{1,4}(?:,\d{4})+ | \d{1,3}(?:\ \d{3})+ | \d{1,3}(?:_\d{3})+ | \d+) (?:\.\d+)?
  | \.\d+
)(?!\d|[.,]\d)"""
_NUMBER = re.compile(rf"(?<!\d)(?<!\d[.,]){_CORE}", re.VERBOSE)
_POWER = re.compile(r"[eE]([+-]?\d{1,4})(?!\d)|\s*[×x*·]\s*10\s*\^\s*[({]?\s*([+-]?\d{1,4})\s*[)}]?(?!\d)", re.ASCII)
_TEN_TO_THE = re.compile(r"\^\s*[({]?\s*([+-]?\d{1,4})\s*[)}]?(?!\d)")
_OVER = re.compile(rf"(?:\s*/\s*|(\s*[:比]\s*))({_CORE})", re.VERBOSE)
_AND_OVER = re.compile(r"\s+(\d{1,4})\s*/\s*(\d{1,4})(?![\d.,/])")
_WHOLE = re.compile(r"(?:19|20)\d\d")

_LABELS = r"答案|答|问题?|题目?|方案|选项|步骤|小题|情形|案例|answer|question|step|part|case|option|q"
_ITEM = re.compile(r"\(\s?\d{1,2}\s?\)(?=\s*[^\s,.;。，；)%])|\d{1,2}(?:\.(?=\s)|\)|、(?!\s*[-+]?[\d.,]+\s*(?:$|[,;、。])))(?=\s*\S)")
"""The mark of an item, at the beginning of a line."""
_CONTEXT = re.compile(
    rf"""(?P<gap>\s+)
  | (?P<skip>
        (?<!\d)\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?![\d.,]*[%\d])
      | (?<!\d)(?:\d{{2}}(?:\d{{2}})?\s*年\s*)(?:\d{{1,2}}\s*[-~至到]\s*)?\d{{1,2}}\s*月(?:份|底|末|初)?(?:\s*\d{{1,2}}\s*[日号])?
      | (?<![\d年])(?:\d{{1,2}}\s*[-~至到]\s*)?\d{{1,2}}\s*月(?:份|底|末|初)?(?:\s*\d{{1,2}}\s*[日号])?
      | 第\s*\d+ | (?:[1-4]\s*[-~至到]\s*)?[1-4]\s*季度 | (?<![\d.,])\d+(?:st|nd|rd|th)\b | (?<![\d.,])[1-4][QH](?:\d{{2,4}})?\b
      | (?<![A-Za-z])(?:{_LABELS})\s*[(]?\d{{1,2}}[)]?\s*(?:[:)]|\.(?=\s))\s*(?=\S)
      | (?<![A-Za-z_])(?!(?:USD|HKD|TWD|EUR|GBP|JPY|CNY|RMB|CAD|AUD|SGD|CHF|INR|KRW|Rs)\d)[A-Za-z_]+\d[\w.]*
    )
  | (?P<mark>[\[【](?:\^|来源|参考|文献|注|ref\.?|source)?\s?\d{{1,3}}[\]】])
  | (?P<year>(?<![\d.,])(?:19|20)\d\d(?:\s*[-/~至]\s*(?:(?:19|20)\d\d|\d\d))?\s*(?:财?年(?:度|末|底|初)?))
  | (?P<function>[√∛∜∑∏∫]|(?<![A-Za-z])(?:log|ln|lg|exp|sqrt|cbrt|sin|cos|tan|cot|abs|max|min|mod|round|floor|ceil)(?![A-Za-z]))
  | (?P<bound>[<>≤≥±]|不(?:到|足|超过|低于|高于|少于|多于)|超过?|[大小高低多少]于|至[少多]|最[多少]
      |\b(?:at\s+(?:least|most)|(?:more|less|greater|fewer|higher|lower|larger|smaller)\s+than
      |over|under|above|below|up\s+to|minimum|maximum)(?:\s+of)?\b)
  | (?P<about>大?约(?:为|是)?|大概|近似|将?近|[≈~]|\b(?:about|approx(?:imately)?\b\.?|around|roughly|nearly|almost|circa|ca\.))
  | (?P<fallen>[减扭]亏|(?:下[降跌滑调浮]|降|跌|减[少低]?|缩[减小]?|回落|滑落|萎缩)了?\s*(?:至|到|成|为(?!\s*-))
      |(?:fell|fall(?:en|s)?|drop\w*|declin\w*|decreas\w*)\s+to\b)
  | (?P<fall>下降|减少|降低|下跌|下滑|下调|下浮|亏损|缩减|缩小|缩水|萎缩|收窄|滑落|回落|贬值
      |负增长|净流出|降幅|跌幅|减幅|降[息准薪价税费]?|跌|减|亏|赔|少了|少赚
      |\b(?:decreas|declin|drop|reduc|shr[aiu]nk|contract(?:ed|ion|s)\b|plung|plummet|slid|slump|tumbl|narrow)\w*|\b(?:fell|fall(?:en|s)?|loss(?:es)?
      |lost|down|lower(?:\s+by)?|negative\s+growth|outflows?)\b)
  | (?P<minus>负|\b(?:minus|negative)\b)
  | (?P<link>了|幅度|额|比例|率|[为是:]|\b(?:by|of|was|is|a|an)\b)
  | (?P<sign>[-+])
  | (?P<open>\()
  | (?P<close>\))
  | (?P<range>至|到|与|和|\b(?:to|and)\b)
  | (?P<word>[A-Za-z]+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_MAY_BEGIN = re.compile(
    r"[\s\w.\[【$¥€£₩₽₹฿₫√∛∜∑∏∫<>≤≥±≈~:()+-](?<![\u4e00-\u9fff])"
    "|[第答问题方选步小情案不超大高低多少至最约概近将下降跌减缩回滑萎亏收贬负净赔了幅额比例率为是到与和单人美港欧日英]"
)
"""What any token but "other" begins with."""
_BEHIND = re.compile(
    r"""(?P<about>左右|上下|or\s+so\b)
  | (?P<bound>以[上下内外]|\+(?!\s*\d)|or\s+(?:more|less|higher|lower|above|below|fewer)\b|and\s+(?:above|below|over)\b)
  | (?P<fall>的?\s*(?:decreas|declin|drop|reduction|lower\b)\w*|的?(?:降幅|跌幅|减幅|亏损|下降|下跌|缩减))
  | (?P<half>半)
  | (?P<on>[零又整正]|and\b|,(?=\s*\d+\s*[A-Za-z]))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FILL = re.compile(r"[个多余来]{0,2}(?=\S)")
"""What may stand between a number and its scale: 3.5个亿, 800多万."""
_DECLARED = re.compile(r"\(\s*(?:单位\s*:?\s*|in\s+)?([^()\d]{1,24})\)|单位\s*[:是为]?\s*([^\s\d,.;:()，。；]{1,12})", re.IGNORECASE)
_INTRODUCED = re.compile(r"^(?:以|按|in\s+)|(?:计|为单位|表示)$", re.IGNORECASE)


class Literal(NamedTuple):
    """A number as it is written, without scale and unit."""

    value: Decimal
    step: Decimal
    """One unit of its last digit."""
    digits: int
    """Significant digits that are written."""
    text: str


class Token(NamedTuple):
    """A piece of a text. Kinds are the names in the patterns above, and number, scale, unit, currency, declared (a unit in brackets)."""

    kind: str
    text: str
    start: int
    end: int
    gap: bool
    """White space stands before it."""
    number: Literal | None = None
    scale: int = 1
    unit: Unit = NO_UNIT


def tokenize(text: str, *, marks: bool = True) -> list[Token] | None:
    """The tokens of a plain text (see plain.py), gaps taken out; None where digits stand in no known form, or over 30 numbers.

    `marks`: numbers that only mark an item or a source are no numbers.

    >>> [(token.kind, token.text) for token in tokenize("约 -3 万元") or []]
    [('about', '约'), ('sign', '-'), ('number', '3'), ('scale', '万'), ('unit', '元')]
    """
    tokens: list[Token] = []
    at, numbers, measuring, gap, begins = 0, 0, False, False, True
    while at < len(text):
        token = (_measure(text, at, gap, tokens[-1]) if measuring else None) or _context(text, at, gap, marks, begins)
        if token is None:
            return None
        at = token.end
        if token.kind == "gap":
            gap, begins = True, begins or "\n" in token.text
            continue
        tokens.append(token)
        numbers += token.kind == "number"
        if numbers > _MOST_NUMBERS:
            return None
        gap = begins = False
        measuring = token.kind in ("number", "scale", "unit", "half", "declared") or (measuring and token.kind == "close")
    return tokens


def declared_units(text: str) -> list[str]:
    """The units that stand on their own in brackets, or behind 单位, as they are written.

    >>> declared_units("收入（万元） (in millions) 单位:亿元".replace("（", "(").replace("）", ")")), declared_units("收入(合计)")
    (['万元', 'millions', '亿元'], [])
    """
    units = []
    for place in _DECLARED.finditer(text):
        if _declared(text, place.start(), gap=False):
            inside = _INTRODUCED.sub("", (place[1] or place[2]).strip())
            units.append(inside)
    return units


def _measure(text: str, at: int, gap: bool, last: Token) -> Token | None:
    """The token at `at`, right behind a number, its scale or its unit."""
    if match := _BEHIND.match(text, at):
        kind = str(match.lastgroup)
        if kind != "half" or last.kind in ("unit", "number") or text[at - 1] == "个":
            return Token(kind if kind in ("half", "on") else f"{kind} behind", match[0], at, match.end(), gap)
    if declared := _declared(text, at, gap):
        return declared
    if last.kind in ("number", "scale", "close"):
        filled = _FILL.match(text, at)
        scale, end = scale_at(text, filled.end() if filled else at)
        if scale > 1:
            return Token("scale", text[at:end].strip(), at, end, gap, scale=scale)
    start = at + 1 if text[at] == "个" else at
    if start > at and text[start : start + 1] == "半":
        return Token("half", "个半", at, start + 1, gap)
    if last.kind != "unit":
        unit, end = unit_at(text, at)
        if unit.name in ("", "#个"):
            more, behind = unit_at(text, start) if start > at else (unit, end)
            unit, end = (more, behind) if more.name and behind > end else (unit, end)
        if unit.name:
            return Token("unit", text[at:end].strip(), at, end, gap, unit=unit)
    return None


def _context(text: str, at: int, gap: bool, marks: bool, begins: bool) -> Token | None:
    """The token at `at`, wherever it stands; None where digits stand in no known form. `begins`: a line begins here."""
    if not _MAY_BEGIN.match(text, at):
        return Token("other", text[at], at, at + 1, gap)
    match = _CONTEXT.match(text, at)
    kind = str(match.lastgroup) if match else "other"
    item = _ITEM.match(text, at) if begins and marks else None
    if item and not (match and kind == "skip"):
        return Token("mark", item[0], at, item.end(), gap)
    if match and (kind in ("gap", "skip", "year") or (kind == "mark" and marks)):
        return Token(kind, match[0], at, match.end(), gap)
    currency, end = currency_at(text, at)
    if currency:
        return Token("currency", text[at:end], at, end, gap, unit=Unit("money", currency, Decimal(1)))
    if number := _NUMBER.match(text, at):
        literal = _literal(text, at, number.end())
        return Token("number", text[at : literal[1]], at, literal[1], gap, number=literal[0]) if literal else None
    if declared := _declared(text, at, gap):
        return declared
    if text[at].isdigit() or not match:
        return None
    if kind == "mark":  # not wanted as one
        return Token("other", text[at], at, at + 1, gap)
    return Token(kind, match[0], at, match.end(), gap)


def _declared(text: str, at: int, gap: bool) -> Token | None:
    """A unit on its own in brackets, or behind 单位: 800（万元）, Revenue (in millions)."""
    match = _DECLARED.match(text, at)
    if not match:
        return None
    alone = _unit_alone(_INTRODUCED.sub("", (match[1] or match[2]).strip()))
    return Token("declared", match[0], at, match.end(), gap, scale=alone[0], unit=alone[1]) if alone else None


@lru_cache(maxsize=1024)
def _unit_alone(text: str) -> tuple[int, Unit] | None:
    """(scale, unit) of a text that is a unit and nothing beside: 万元, USD in millions, thousands of dollars; None for any other."""
    currency, start = currency_at(text, 0)
    scale, place = scale_at(text, start)
    of = re.match(r"\s+of\s+", text[place:])
    unit, place = unit_at(text, place + (of.end() if of else 0))
    if currency and not unit.name:
        unit = Unit("money", currency, Decimal(1))
        in_scale = re.match(r"\s+in\s+", text[place:])
        if scale == 1 and in_scale:
            scale, place = scale_at(text, place + in_scale.end())
    return (scale, unit) if place and place >= len(text) else None


def _literal(text: str, start: int, end: int) -> tuple[Literal, int] | None:
    """(the number that begins at start:end, its exponent or what it is divided by included; where it ends); None for no known form."""
    value, step, digits = _decimal(text[start:end])
    if ten := _TEN_TO_THE.match(text, end):
        if value != 10 or abs(int(ten[1])) > _MOST_EXPONENT:
            return None
        power = Decimal(1).scaleb(int(ten[1]))
        return Literal(power, power, 1, text[start : ten.end()]), ten.end()
    if power_of := _POWER.match(text, end):
        exponent = int(power_of[1] or power_of[2])
        if abs(exponent) > _MOST_EXPONENT:
            return None
        return Literal(value.scaleb(exponent), step.scaleb(exponent), digits, text[start : power_of.end()]), power_of.end()
    if text[end : end + 1] in ("^", "_"):
        return None
    if step == 1 and (mixed := _AND_OVER.match(text, end)) and int(mixed[2]):
        value += Decimal(mixed[1]) / Decimal(mixed[2])
        return Literal(value, value * _FRACTION_STEP, 2, text[start : mixed.end()]), mixed.end()
    if (over := _OVER.match(text, end)) and (below := _decimal(over[2])[0]) and not (over[1] and _is_measured(text, over.end())):
        if below == 1:
            return Literal(value, step, digits, text[start : over.end()]), over.end()
        return Literal(value / below, abs(value / below) * _FRACTION_STEP, 2, text[start : over.end()]), over.end()
    return Literal(value, step, digits, text[start:end]), end


def _is_measured(text: str, at: int) -> bool:
    return scale_at(text, at)[0] > 1 or bool(unit_at(text, at)[0].name)


def _decimal(digits: str) -> tuple[Decimal, Decimal, int]:
    """(value, step, significant digits) of digits with separators.

    >>> _decimal("1.234.567,8"), _decimal("1,2345"), _decimal("0.050")
    ((Decimal('1234567.8'), Decimal('0.1'), 8), (Decimal('12345'), Decimal('1'), 5), (Decimal('0.050'), Decimal('0.001'), 2))
    """
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:\.\d{3})+,\d+", digits):
        digits = digits.replace(".", "").replace(",", ".")
    digits = digits.replace(",", "").replace(" ", "").replace("_", "")
    value = Decimal(digits)
    step = Decimal(1).scaleb(-len(digits.partition(".")[2]))
    return value, step, len(digits.replace(".", "").lstrip("0")) or 1
