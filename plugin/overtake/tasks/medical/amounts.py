"""Amounts in medical texts: what number of which unit a phrase says, and whether it is an amount of a medicine at all."""

import re
from functools import cache

import regex

_SAME = (
    "mg 毫克 milligram milligrams",
    "ug μg 微克 mcg microgram micrograms",
    "g 克 gram grams",
    "ml 毫升 milliliter milliliters",
    # Pieces count alike, since people call a capsule a pill.
    "片 粒 颗 丸 tablet tablets pill pills capsule capsules",
    "勺 匙 汤匙 茶匙 小勺 teaspoon teaspoons",
)
"""Names of one unit, its own first."""
_UNITS = {unit: names.split()[0] for names in _SAME for unit in names.split()}
_DIGITS: dict[str, float] = {character: number for number, character in enumerate("零一二三四五六七八九")} | {"两": 2, "半": 0.5}
_TENS = {"十": 10, "百": 100, "千": 1000, "万": 10000}
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {name: float(number) for number, name in enumerate(_NAMES)} | {"half": 0.5}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|[零一二两三四五六七八九十百千万半]+|\b(?:" + "|".join(_WORDS) + r")\b(?: hundred\b)?")
_CHARACTERS = (
    r"[，,约大小少多于不超过低高限制控在为是至到每天日人次晚餐个的量摄入总以内下上左右可达应宜要保持补充出现或者即共≤<>=≥~:：()\d.\s-]"
)
_WORDS_BETWEEN = r"\b(?:of|a|about|per|day|less|more|than|under|over|up|to|intake|is|at|below|your|the|limit|daily|each|every)\b"
_BETWEEN = rf"(?:{_CHARACTERS}|{_WORDS_BETWEEN})*"
"""What may stand between an amount and what it is an amount of."""


def read(text: str) -> set[tuple[float, str]]:
    """Each number of an amount, in lower case, with its unit, however both are written.

    >>> sorted(read("1-2 片")), read("五百毫克") == read("500 mg"), read("two tablets") == read("2片")
    ([(1.0, '片'), (2.0, '片')], True, True)
    """
    numbers = list(_NUMBER.finditer(text))
    unit = text[numbers[-1].end() :].strip(" -").removeprefix("a ") if numbers else text
    return {(_value(one[0]), _UNITS.get(unit, unit)) for one in numbers}


@cache
def right_at(words: str) -> tuple[regex.Pattern[str], regex.Pattern[str]]:
    """Expressions for one of `words` right before an amount, and right behind one.

    >>> before, _ = right_at("盐|温水")
    >>> bool(before.search("食盐每天不超过")), bool(before.search("温水送服布洛芬"))
    (True, False)
    """
    return regex.compile(f"(?:{words}){_BETWEEN}$"), regex.compile(f"{_BETWEEN}(?:{words})")


def _value(text: str) -> float:
    """
    >>> _value("五百"), _value("十二"), _value("2.5"), _value("five hundred")
    (500.0, 12.0, 2.5, 500.0)
    """
    first = text.split()[0]
    if first in _WORDS:
        return _WORDS[first] * (100 if text.endswith("hundred") else 1)
    if text[0] not in _DIGITS and text[0] not in _TENS:
        return float(text)
    total = digit = 0.0
    for character in text:
        if character in _TENS:
            total, digit = total + (digit or 1) * _TENS[character], 0.0
        else:
            digit = _DIGITS[character]
    return total + digit
