"""Units and scales behind a number, and currencies before it: what they are called, what they are worth, and which agree."""

import re
from decimal import Context, Decimal
from math import prod
from typing import NamedTuple


class Unit(NamedTuple):
    """Unit of a number, of one of these kinds: plain, percent, times, money, time, mass, size (length, area, ...), count."""

    kind: str
    name: str
    """The base unit: CNY, month, kg, ...; ratio for percent and times; #人 for what is counted; "" for none."""
    factor: Decimal
    """How many base units one of these is."""
    tail: bool = False
    """A digit right behind it is its tenths: 七成五, 3块5."""


NO_UNIT = Unit("plain", "", Decimal(1))
_PER = Context(prec=60)


def _one_of(parts: str) -> Decimal:
    """The share of a whole that has so many parts, as exactly as Decimal holds it here."""
    return _PER.divide(Decimal(1), Decimal(parts))


ONE_MINUTE = _one_of("1440")
"""As a share of a day."""
_RATIOS: tuple[tuple[str, str, str], ...] = (
    (r"个?百分点|个点|%|percent(?:age)?(?:\s+points?)?|per\s+cent|pct|ppts?|pp|p\.p\.", "percent", "0.01"),
    (r"个?千分点|‰|per\s+mille?", "percent", "0.001"),
    (r"‱|个?基点|basis\s+points?|bps?", "percent", "0.0001"),
    (r"成(?![本功为长交果立员绩])", "percent", "0.1"),
    (r"倍", "times", "1"),
    (r"times|fold|x", "times", "1"),
)
_MONEY: tuple[tuple[str, str, str], ...] = (
    (r"美元|美金|USD|U\.?S\.?\s*dollars?|US\$", "USD", "1"),
    (r"港元|港币|港纸|HKD|Hong Kong dollars?|HK\$", "HKD", "1"),
    (r"新?台币|TWD|(?:new )?taiwan dollars?|NT\$", "TWD", "1"),
    (r"加元|加币|加拿大元|CAD|canadian dollars?|CA?\$", "CAD", "1"),
    (r"澳元|澳币|澳大利亚元|AUD|australian dollars?|AU?\$", "AUD", "1"),
    (r"新加坡元|新元|坡币|SGD|singapore dollars?|S\$", "SGD", "1"),
    (r"新西兰元|纽元|纽币|NZD|new zealand dollars?|NZ\$", "NZD", "1"),
    (r"澳门元|澳门币|MOP|patacas?", "MOP", "1"),
    (r"日元|日圆|JPY|(?:japanese )?yen", "JPY", "1"),
    (r"韩元|韩圆|韩币|KRW|₩|(?:korean )?won", "KRW", "1"),
    (r"欧元|€|EUR|euros?", "EUR", "1"),
    (r"英镑|£|GBP|pounds?(?:\s+sterling)?", "GBP", "1"),
    (r"瑞士法郎|瑞郎|CHF|swiss francs?", "CHF", "1"),
    (r"卢布|RUB|₽|r(?:o)?ubles?", "RUB", "1"),
    (r"(?:印度)?卢比|INR|₹|rupees?", "INR", "1"),
    (r"泰铢|THB|฿|baht", "THB", "1"),
    (r"林吉特|令吉|MYR|ringgits?", "MYR", "1"),
    (r"越南盾|VND|₫", "VND", "1"),
    (r"雷亚尔|BRL|R\$", "BRL", "1"),
    (r"兰特|ZAR|rands?", "ZAR", "1"),
    (r"元人民币|人民币|元(?![素旦])|圆|CNY|RMB|(?:chinese )?yuan|renminbi", "CNY", "1"),
    (r"块钱?", "CNY", "1"),
    (r"[角毛]钱?", "CNY", "0.1"),
    (r"分钱", "CNY", "0.01"),
    (r"¥", "¥", "1"),
    (r"\$|dollars?", "$", "1"),
    (r"cents?|¢", "$", "0.01"),
)
_TIMES: tuple[tuple[str, str, Decimal], ...] = (
    (r"个?月(?!均)|months?", "month", Decimal(1)),
    (r"个季度|quarters?", "month", Decimal(3)),
    (r"年|周年|years?|yrs?", "month", Decimal(12)),
    (r"个?星期|个?礼拜|周(?!年)|weeks?|wks?", "day", Decimal(7)),
    (r"天|日|days?", "day", Decimal(1)),
    (r"个?小时|个?钟头|hours?|hrs?|h", "day", _one_of("24")),
    (r"分钟|minutes?|mins?", "day", ONE_MINUTE),
    (r"秒钟?|seconds?|secs?", "day", _one_of("86400")),
)
_SIZES: tuple[tuple[str, str, str], ...] = (
    (r"吨|tonnes?|tons?", "kg", "1000"),
    (r"公斤|千克|kgs?|kilograms?|kilos?", "kg", "1"),
    (r"市?斤", "kg", "0.5"),
    (r"两(?![个年天位人])", "kg", "0.05"),
    (r"毫克|mg|milligrams?", "kg", "0.000001"),
    (r"克|g|grams?", "kg", "0.001"),
    (r"盎司|ounces?|oz", "kg", "0.028349523125"),
    (r"磅|lbs?", "kg", "0.45359237"),
    (r"平方公里|平方千米|square kilomet(?:er|re)s?|sq\.? ?km", "m²", "1000000"),
    (r"平方米|平米|㎡|square met(?:er|re)s?|sq\.? ?m", "m²", "1"),
    (r"公顷|hectares?", "m²", "10000"),
    (r"亩", "亩", "1"),
    (r"acres?", "acre", "1"),
    (r"平方英尺|square (?:feet|foot)|sq\.? ?ft", "ft²", "1"),
    (r"立方米|m³|cubic met(?:er|re)s?", "l", "1000"),
    (r"毫升|ml|millilit(?:er|re)s?", "l", "0.001"),
    (r"公?升|lit(?:er|re)s?", "l", "1"),
    (r"加仑|gallons?", "gallon", "1"),
    (r"桶|barrels?|bbls?", "barrel", "1"),
    (r"公里|千米|km|kilomet(?:er|re)s?", "m", "1000"),
    (r"厘米|cm|centimet(?:er|re)s?", "m", "0.01"),
    (r"毫米|millimet(?:er|re)s?", "m", "0.001"),
    (r"米|met(?:er|re)s?", "m", "1"),
    (r"英里|miles?", "m", "1609.344"),
    (r"英尺|feet|foot|ft", "m", "0.3048"),
    (r"英寸|inch(?:es)?", "m", "0.0254"),
    (r"千瓦时|kwh|kilowatt[- ]hours?", "kWh", "1"),
    (r"兆瓦时|mwh|megawatt[- ]hours?", "kWh", "1000"),
    (r"千瓦|kw|kilowatts?", "kW", "1"),
    (r"兆瓦|mw|megawatts?", "kW", "1000"),
    (r"摄氏度|°C|celsius", "°C", "1"),
    (r"华氏度|°F|fahrenheit", "°F", "1"),
    (r"度", "度", "1"),
)
# What is counted. Chinese measure words are a closed class; of English nouns these are those of reports. 个 agrees with each.
_COUNTS: tuple[tuple[str, str], ...] = (
    (r"个?人|名|位|口|people|persons?|employees?|workers?|customers?|users?|students?|clients?|investors?|residents?", "人"),
    (r"股|shares?|stocks?", "股"),
    (r"户|households?|families|family", "户"),
    (r"[台辆]|vehicles?|cars?|trucks?", "台"),
    (r"家|companies|company|firms?|stores?|banks?|branches", "家"),
    (r"个|units?|items?|pieces?", "个"),
    (r"次|回|遍|趟", "次"),
    (r"points?|点(?!\d)", "点"),
    (r"bonds?|contracts?|lots?|手", "手"),
    (r"tickets?|张", "张"),
    (r"[笔]|transactions?|orders?", "笔"),
    (r"分(?!之)", "分"),
    *(
        (char, char)
        for char in "只条头匹把片件套架艘座栋幢间层番份项宗批类种样组双副箱包袋瓶罐盒盘杯碗颗粒枚支枝根棵株朵束串页本册篇首幅集岁"
    ),
)


# The first that matches counts, so longer words stand before their beginnings.
_NAMED_UNITS: list[tuple[str, Unit]] = [
    *((words, Unit(kind, "ratio", Decimal(factor), words.startswith("成"))) for words, kind, factor in _RATIOS),
    *((words, Unit("money", name, Decimal(factor), name == "CNY" and factor != "0.01")) for words, name, factor in _MONEY),
    *((words, Unit("time", name, factor)) for words, name, factor in _TIMES),
    *((words, Unit("mass" if name == "kg" else "size", name, Decimal(size), words[0] in "米市")) for words, name, size in _SIZES),
    *((words, Unit("count", f"#{name}", Decimal(1))) for words, name in _COUNTS),
]
# A Latin name ends where its word ends.
_UNIT = re.compile("|".join(rf"((?:{words})(?:(?<![A-Za-z])|(?![A-Za-z])))" for words, _ in _NAMED_UNITS), re.IGNORECASE)
_GAP = re.compile(r"[ \t\n]{0,4}(?:-(?=[A-Za-z]))?")
_SYMBOLS = {"$": {"USD", "HKD", "TWD", "$"}, "¥": {"CNY", "JPY", "¥"}}
_CODES = "USD|HKD|TWD|CAD|AUD|SGD|NZD|MOP|JPY|KRW|EUR|GBP|CHF|RUB|INR|THB|MYR|VND|BRL|ZAR|CNY|RMB"
_CURRENCY = re.compile(
    r"(?<![A-Za-z])(?:(?-i:[A-Z]{1,3})|(?:US|HK) )\$|[$¥€£₩₽₹฿₫]|人民币|美元|港元|欧元|日元|英镑|"
    rf"(?<![A-Za-z])(?:{_CODES}|Rs\.?)(?![A-Za-z])",
    re.IGNORECASE,
)
_NAMED = {
    "RMB": "CNY",
    "人民币": "CNY",
    "RS": "INR",
    "RS.": "INR",
    **{"US$": "USD", "HK$": "HKD", "NT$": "TWD", "C$": "CAD", "CA$": "CAD", "CAN$": "CAD", "A$": "AUD", "AU$": "AUD", "S$": "SGD"},
    **{"SG$": "SGD", "NZ$": "NZD", "R$": "BRL", "MOP$": "MOP"},
}

_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "兆": 10**12}
_HAN_SCALE = re.compile(r"((?:[十百千](?![分克米瓦])|[万萬亿億]|兆(?!瓦)){1,4})[多余来]?")
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
    """Return (the unit that stands at or shortly behind `at`, where it ends); a plain unit ending at `at` for none.

    >>> unit_at("5 个百分点", 1)[0].factor, unit_at("5 kg", 1)[0].name, unit_at("5 households", 1)[0].name, unit_at("5 kings", 1)[1]
    (Decimal('0.01'), 'kg', '#户', 1)
    """
    start = skip_gap(text, at)
    match = _UNIT.match(text, start)
    return (_NAMED_UNITS[match.lastindex - 1][1], match.end()) if match and match.lastindex else (NO_UNIT, at)


def scale_at(text: str, at: int) -> tuple[int, int]:
    """Return (the scale that stands at or shortly behind `at`, where it ends); 1 for none.

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


def currency_at(text: str, at: int) -> tuple[str, int]:
    """Return (the currency that stands at `at` before a number, where it ends); "" for none. An unknown dollar is a currency of its own.

    >>> currency_at("US$5", 0), currency_at("RMB 5", 0), currency_at("C$5", 0), currency_at("about", 0)
    (('USD', 3), ('CNY', 3), ('CAD', 2), ('', 0))
    """
    match = _CURRENCY.match(text, at)
    if not match:
        return "", at
    name = "".join(match[0].upper().split())
    return _NAMED.get(name) or unit_at(name, 0)[0].name or name, match.end()


def same_unit(name: str, other: str) -> bool:
    """Return whether two base units may be the same: one is not said, both are equal, or one stands for several of which the other is one.

    >>> same_unit("", "CNY"), same_unit("$", "HKD"), same_unit("USD", "CNY"), same_unit("#个", "#家"), same_unit("#人", "#户")
    (True, True, False, True, False)
    """
    if not name or not other or name == other or other in _SYMBOLS.get(name, ()) or name in _SYMBOLS.get(other, ()):
        return True
    return "#个" in (name, other) and name[0] == other[0] == "#"


def skip_gap(text: str, at: int) -> int:
    """Place behind the white space at `at`, and the hyphen of 5-year."""
    match = _GAP.match(text, at)
    return match.end() if match else at
