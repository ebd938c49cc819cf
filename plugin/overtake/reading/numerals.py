"""Numbers in words, Chinese and English, rewritten in digits: exact, and only where they count something (not 统一, 第三, no one).

cn2an, the library for the Chinese ones, makes floats, refuses 三点五亿 and 百分之三, and takes one numeral, no text that holds some.
"""

import re
from collections.abc import Sequence

from overtake.reading.units import scale_at, unit_at

_NAMES = ("零〇", "一壹弌", "二两贰兩貳", "三叁參参", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
_DIGITS = {char: value for value, chars in enumerate(_NAMES) for char in chars}
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_ALL = "".join([*_DIGITS, *_TENS])
_SCALES = "万萬亿億兆"
_RUN = re.compile(f"[{_ALL}{_SCALES}点點]+")
_PART = re.compile(f"([{_ALL}]+)(?:[点點]([{''.join(_DIGITS)}]+))?([{_SCALES}]*)")
_LONGEST = 40
# What a numeral of one character has to stand before, or behind, to be one.
_COUNTED = re.compile(
    r"\s*(?:[%‰元圆块倍成年月天日周吨斤股户]|[角毛]|分之|个?百分点|个?基点|个(?:半?(?:月|小时|钟头|星期|季度)|[多余]?[十百千万亿]|bp|pct|点)"
    r"|小时|[美港欧日加澳]元|英镑|人民币|公斤|又)",
    re.IGNORECASE,
)
_LEADS_IN = re.compile(r"(?:分之|负|[为是:=])\s*$")
_GOES_ON = re.compile(r"(?:[元圆角毛块年天又成倍]|\d个?月|小时|分钟|公斤|分之|负)零?$")
"""Behind these a numeral goes on what was begun, in digits or not: 12元五角."""
_HALF = re.compile(
    r"(?<![上下一大过多对前后])(?<!\d个)(?<!\d)半(?=\s*个?(?:年(?![报度])|月|天|日|小时|钟头|星期|季度|倍|成|公斤|吨|亿|万|百分点))"
)
_HALF_OF_ALL = re.compile(r"(?<![大过多])一半|半数")

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_VALUES = {word: value for value, word in enumerate(_ONES.split())}
_VALUES |= {word: 10 * ten for ten, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4, "fifth": 5, "fifths": 5, "tenths": 10}
_LATIN = re.compile(r"[A-Za-z]+")
_BETWEEN = re.compile(r"\s+|\s*-\s*|,\s+")
_IS_SAID = re.compile(r"(?:\b(?:is|was|are|were|equals?|about|minus|negative)|[:=$€£¥(])\s*$", re.IGNORECASE)
_GOES_TO = re.compile(rf"\s*(?:to|or|and|-)\s*(?:{'|'.join(_VALUES)})\b", re.IGNORECASE)
_OF_A_YEAR = ("first", "second", "third", "fourth", "last", "past", "next", "previous", "recent", "the")
"""Behind these a quarter is three months of a year and no part."""


def with_digits(text: str) -> str:
    """Return `text` with its numerals, Chinese and English, as digits; scales (万, million) and whatever stands around stay.

    >>> with_digits("负一百二十三万四千五百元"), with_digits("十分之三"), with_digits("三点五亿"), with_digits("半年")
    ('负123万4500元', '10分之3', '3.5亿', '0.5年')
    >>> with_digits("第三季度统一为 5 万"), with_digits("百分之十二点五"), with_digits("二〇一九年"), with_digits("12元五角")
    ('第三季度统一为 5 万', '百分之12.5', '2019年', '12元5角')
    >>> with_digits("five million dollars"), with_digits("one hundred and twenty-five"), with_digits("no one of the two knows")
    ('5 million dollars', '125', 'no one of the two knows')
    """
    return _english(_chinese(text))


def _chinese(text: str) -> str:
    arabic = re.search("[0-9]", text) is not None

    def digits(match: re.Match[str]) -> str:
        run, before, after = match[0], text[max(0, match.start() - 4) : match.start()], text[match.end() : match.end() + 12]
        trailing = run[len(run.rstrip("点點")) :]
        run = run.removesuffix(trailing)
        lead = run[: len(run) - len(run.lstrip(_SCALES + "十百千"))] if before[-1:].isdigit() else ""
        run = run.removeprefix(lead)
        if run[:1] in ("零", "〇") and run[1:2] in _DIGITS and _GOES_ON.search(before):  # 三年零六个月
            lead, run = run[0], run[1:]
        begins = run[:1] and (run[0] in _DIGITS or run[0] in "十拾")
        if not begins or before.endswith("第") or after.startswith("季") or len(run) > _LONGEST:
            return match[0]
        if len(run) == 1 and not lead:
            alone = not text[: match.start()].strip() and not text[match.end() :].strip(" 。.")
            counted = _COUNTED.match(after)
            goes_on = _GOES_ON.search(before) and (counted or after.startswith(("分", "半")) or not after.strip(" 。."))
            if not (goes_on or (not arabic and (alone or counted or _LEADS_IN.search(before)))):
                return match[0]
        if all(char in _DIGITS for char in run) and len(run) > 1 and not lead:  # read out digit by digit: a year or a code
            return "".join(str(_DIGITS[char]) for char in run) + trailing if len(run) == 4 and after.startswith("年") else match[0]
        parts = list(_PART.finditer(run))
        sections = [_section(part[1]) for part in parts]
        if "".join(part[0] for part in parts) != run or None in sections:
            return match[0]
        # A zero behind a scale says that no unit was left out: 一万零五 is not 一万五.
        in_digits = [
            ("0" if at and part[1][0] in "零〇" else "") + str(section) + _fraction(part[2]) + part[3]
            for at, (part, section) in enumerate(zip(parts, sections, strict=True))
        ]
        return lead + "".join(in_digits) + trailing

    return _HALF_OF_ALL.sub("50%", _HALF.sub("0.5", _RUN.sub(digits, text.replace("廿", "二十").replace("卅", "三十"))))


def _section(chars: str) -> str | None:
    """一百二十三 as "123"; a last digit without its unit is of the unit below the one before it: 一百二 is 120. None for 三四百."""
    total, digit, unit = 0, -1, 10
    for char in chars:
        if char in _TENS:
            unit = _TENS[char]
            total += (1 if digit < 0 else digit) * unit
            digit = -1
        elif _DIGITS[char]:
            if digit > 0:
                return None
            digit = _DIGITS[char]
        else:
            unit, digit = 10, -1
    return str(total + (digit if digit > 0 else 0) * (unit // 10))


def _fraction(digits: str | None) -> str:
    return "." + "".join(str(_DIGITS[char]) for char in digits) if digits else ""


def _english(text: str) -> str:
    words = [(match[0].lower(), match.start(), match.end()) for match in _LATIN.finditer(text)]
    if not any(word in _VALUES or word in _PARTS or word in _LARGE or word == "hundred" for word, _, _ in words):
        return text
    arabic = re.search("[0-9]", text) is not None
    parts: list[str] = []
    at = place = 0
    while place < len(words):
        value, behind = _worded(text, words, place)
        start, end = words[place][1], words[max(behind, place + 1) - 1][2]
        if value and _is_meant(text, value, start, end, arabic):
            parts += [text[at:start], value]
            at, place = end, behind
        else:
            place = max(behind, place + 1)
    return "".join(parts) + text[at:]


def _is_meant(text: str, value: str, start: int, end: int, arabic: bool) -> bool:
    """Whether a number in words counts something: a small one in one word may not ("one of the two"), least of all beside digits."""
    if not value.isdigit() or int(value) > 20:
        return True
    if re.match(r"\s+of\b", text[end : end + 6]):
        return False
    counts = scale_at(text, end)[0] > 1 or bool(unit_at(text, end)[0].name)
    if arabic:
        return False
    counts = counts or bool(_GOES_TO.match(text, end))
    alone = start < 8 and len(text) - end < 8 and not (text[:start] + text[end:]).strip(" .!\n")
    return counts or alone or bool(_IS_SAID.search(text[max(0, start - 12) : start]))


def _worded(text: str, words: Sequence[tuple[str, int, int]], place: int) -> tuple[str, int]:
    """(the number in digits whose words begin at `place`, the place behind them); "" for none."""

    def word(here: int) -> str:
        """The word at `here`, "" where something else stands between it and the one before."""
        if here >= len(words) or (here > place and not _BETWEEN.fullmatch(text, words[here - 1][2], words[here][1])):
            return ""
        return words[here][0]

    at = place
    article = word(at) in ("a", "an")
    at += article
    if article and word(at) not in (*_LARGE, "hundred", *_PARTS):
        return "", place
    if (
        word(at) == "half"
        and not (place and words[place - 1][0] in _OF_A_YEAR)
        and (article or word(at + 1) in ("a", "an", "of") or len(words) == 1)
    ):
        at += 1 + (word(at + 1) in ("a", "an") and word(at + 2) in _LARGE)
        return "0.5", at
    if article and word(at) in _PARTS:
        return (f"1/{_PARTS[word(at)]}", at + 1) if word(at + 1) in ("", "of") else ("", place)
    total, current, any_read, last = 0, 1 if article else 0, article, ""
    while (here := word(at)) or word(at):
        if here == "and" and any_read and (word(at + 1) in _VALUES) and word(at + 2) not in _PARTS:
            at += 1
        elif here in _VALUES and (
            last == "" or last == "hundred" or last in _LARGE or (last in _VALUES and _VALUES[last] >= 20 > _VALUES[here])
        ):
            current, any_read, last, at = current + _VALUES[here], True, here, at + 1
        elif here == "hundred" and any_read and 0 < current < 100:
            current, last, at = current * 100, here, at + 1
        elif here in _LARGE and any_read and current and (word(at + 1) in _VALUES or (word(at + 1) == "and" and word(at + 2) in _VALUES)):
            total, current, last, at = total + current * _LARGE[here], 0, here, at + 1
        else:
            break
    if not any_read:
        return "", place
    if total and current and word(at) in _LARGE:
        current, at = current * _LARGE[word(at)], at + 1
    value = total + current
    if word(at) == "point" and word(at + 1) in _VALUES and not total:
        digits = ""
        at += 1
        while _VALUES.get(word(at), 10) < 10:
            digits, at = digits + str(_VALUES[word(at)]), at + 1
        return f"{value}.{digits}", at
    if word(at) == "and" and word(at + 1) in ("a", "one", "two", "three") and word(at + 2) in _PARTS:
        above = 1 if word(at + 1) == "a" else _VALUES[word(at + 1)]
        return (f"{value}.{above * 10 // 2}" if word(at + 2) == "half" else f"{value} {above}/{_PARTS[word(at + 2)]}"), at + 3
    of_a_year = word(at).startswith("quarter") and (value not in (1, 3) or (place and words[place - 1][0] in _OF_A_YEAR))
    if word(at) in _PARTS and 0 < value < 20 and word(at + 1) not in ("quarter", "half") and not of_a_year:
        return f"{value}/{_PARTS[word(at)]}", at + 1
    return str(value), at
