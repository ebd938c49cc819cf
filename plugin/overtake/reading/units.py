"""Units and scales behind a number, and currencies before it: what they are called, what they are worth, and which agree."""

import re
from decimal import Decimal
from math import prod
from typing import NamedTuple


class Unit(NamedTuple):
    """What a number counts, as one of these kinds: plain, percent, times, money, time, mass."""

    kind: str
    name: str
    """The base unit: CNY, month, kg, ...; ratio for percent and times; "" for none."""
    factor: Decimal
    """How many base units one of these is."""


# Each: pattern, kind, unit, factor. The first that matches counts, so longer words stand before their beginnings.
_UNITS: list[tuple[re.Pattern[str], Unit]] = [
    (
        re.compile(rf"(?:{pattern})" + (r"(?![A-Za-z])" if pattern[-1].isascii() and pattern[-1] != "%" else ""), re.IGNORECASE),
        Unit(kind, name, Decimal(factor)),
    )
    for pattern, kind, name, factor in (
        (r"个?百分点|%|percent(?:age)?(?:\s+points?)?|per\s+cent|pct|ppts?|pp|p\.p\.", "percent", "ratio", "0.01"),
        (r"‰|per\s+mille?", "percent", "ratio", "0.001"),
        (r"‱|个?基点|basis\s+points?|bps?", "percent", "ratio", "0.0001"),
        (r"成", "percent", "ratio", "0.1"),
        (r"倍", "times", "ratio", "1"),
        (r"times|fold|x", "times", "ratio", "1"),
        (r"美元|美金", "money", "USD", "1"),
        (r"USD|U\.?S\.?\s*dollars?|US\$", "money", "USD", "1"),
        (r"港元|港币", "money", "HKD", "1"),
        (r"HKD|Hong Kong dollars?", "money", "HKD", "1"),
        (r"新?台币", "money", "TWD", "1"),
        (r"日元|日圆", "money", "JPY", "1"),
        (r"JPY|(?:japanese )?yen", "money", "JPY", "1"),
        (r"欧元|€", "money", "EUR", "1"),
        (r"EUR|euros?", "money", "EUR", "1"),
        (r"英镑|£", "money", "GBP", "1"),
        (r"GBP|pounds?(?:\s+sterling)?", "money", "GBP", "1"),
        (r"元人民币|人民币|元|块钱?|圆", "money", "CNY", "1"),
        (r"CNY|RMB|(?:chinese )?yuan|renminbi", "money", "CNY", "1"),
        (r"¥", "money", "¥", "1"),
        (r"\$", "money", "$", "1"),
        (r"dollars?", "money", "$", "1"),
        (r"cents?|¢", "money", "$", "0.01"),
        (r"个月", "time", "month", "1"),
        (r"months?", "time", "month", "1"),
        (r"年", "time", "month", "12"),
        (r"years?|yrs?", "time", "month", "12"),
        (r"天|日", "time", "day", "1"),
        (r"days?", "time", "day", "1"),
        (r"个?星期|周", "time", "day", "7"),
        (r"weeks?", "time", "day", "7"),
        (r"吨", "mass", "kg", "1000"),
        (r"tonnes?|tons?", "mass", "kg", "1000"),
        (r"公斤|千克", "mass", "kg", "1"),
        (r"kgs?|kilograms?", "mass", "kg", "1"),
    )
]
NO_UNIT = Unit("plain", "", Decimal(1))
_GAP = re.compile(r"[ \t\n]{0,4}(?:-(?=[A-Za-z]))?")
_SYMBOLS = {"$": {"USD", "HKD", "TWD", "$"}, "¥": {"CNY", "JPY", "¥"}}
_CURRENCY_BEFORE = re.compile(r"(US\$|HK\$|NT\$|[$¥€£]|人民币|美元|(?<![A-Za-z])(?:USD|HKD|TWD|EUR|GBP|JPY|CNY|RMB))$", re.IGNORECASE)
_CODES = {"US$": "USD", "HK$": "HKD", "NT$": "TWD", "€": "EUR", "£": "GBP", "人民币": "CNY", "RMB": "CNY", "美元": "USD"}

_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "兆": 10**12}
_HAN_SCALE = re.compile(r"((?:[十百千](?![分克米瓦])|[万萬亿億兆]){1,4})[多余来]?")
_LATIN_SCALES = {
    **dict.fromkeys(("hundred", "hundreds"), 100),
    **dict.fromkeys(("thousand", "thousands", "k"), 10**3),
    **dict.fromkeys(("lakh", "lakhs"), 10**5),
    **dict.fromkeys(("million", "millions", "mn", "mln", "mm", "m"), 10**6),
    **dict.fromkeys(("crore", "crores"), 10**7),
    **dict.fromkeys(("billion", "billions", "bn", "bln", "b"), 10**9),
    **dict.fromkeys(("trillion", "trillions", "tn", "trn"), 10**12),
}
_LATIN_SCALE = re.compile(rf"({'|'.join(sorted(_LATIN_SCALES, key=len, reverse=True))})(?![A-Za-z])", re.IGNORECASE)


def unit_at(text: str, at: int) -> tuple[Unit, int]:
    """(the unit that stands at or shortly behind `at`, where it ends); a plain unit ending at `at` for none.

    >>> unit_at("5 个百分点", 1)
    (Unit(kind='percent', name='ratio', factor=Decimal('0.01')), 6)
    """
    start = skip_gap(text, at)
    for pattern, unit in _UNITS:
        if found := pattern.match(text, start):
            return unit, found.end()
    return NO_UNIT, at


def scale_at(text: str, at: int) -> tuple[int, int]:
    """(the scale that stands at or shortly behind `at`, where it ends); 1 for none.

    >>> scale_at("5 千万元", 1), scale_at("5 hundred thousand", 1), scale_at("5 千克", 1)
    ((10000000, 4), (100000, 18), (1, 1))
    """
    start = skip_gap(text, at)
    if han := _HAN_SCALE.match(text, start):
        return prod(_HAN_SCALES[char] for char in han[1]), han.end()
    if latin := _LATIN_SCALE.match(text, start):
        scale, end = _LATIN_SCALES[latin[1].lower()], latin.end()
        further, behind = scale_at(text, end) if scale <= 1000 and len(latin[1]) > 1 else (1, end)
        return scale * further, behind if further > 1 else end
    return 1, at


def currency_before(text: str) -> tuple[str, int]:
    """(the currency in which `text` ends, where it begins); "" for none.

    >>> currency_before("about US$"), currency_before("RMB"), currency_before("about")
    (('USD', 6), ('CNY', 0), ('', 5))
    """
    found = _CURRENCY_BEFORE.search(text)
    return (_CODES.get(found[0].upper(), found[0].upper()), found.start()) if found else ("", len(text))


def same_unit(one: str, other: str) -> bool:
    """Whether two base units may be the same: one is not said, both are equal, or a symbol stands for the other.

    >>> same_unit("", "CNY"), same_unit("$", "HKD"), same_unit("USD", "CNY")
    (True, True, False)
    """
    return not one or not other or one == other or other in _SYMBOLS.get(one, ()) or one in _SYMBOLS.get(other, ())


def skip_gap(text: str, at: int) -> int:
    """Behind the white space at `at`, and the hyphen of 5-year."""
    found = _GAP.match(text, at)
    return found.end() if found else at
