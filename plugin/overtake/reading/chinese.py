"""Chinese numerals in a text, rewritten in Arabic digits: exact, and only where they count something (not 统一, 第三, 十分重要).

cn2an, the library for it, makes floats, refuses 三点五亿 and 百分之三, and takes one numeral, no text that holds some.
"""

import re

_NAMES = ("零〇", "一壹", "二两贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")
_DIGITS = {char: value for value, chars in enumerate(_NAMES) for char in chars}
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_ALL = "".join([*_DIGITS, *_TENS])
_RUN = re.compile(f"[{_ALL}万萬亿億兆点點]+")
_PART = re.compile(f"([{_ALL}]+)(?:[点點]([{''.join(_DIGITS)}]+))?([万萬亿億兆]*)")
_LONGEST = 40
# What a numeral of one character has to stand before, or behind, to be one.
_COUNTED = re.compile(r"\s*(?:[%‰元圆块倍成年月天日周吨]|分之|个?百分点|个?基点|个(?:月|小时|星期)|[美港欧日]元|英镑|人民币|公斤)")
_LEADS_IN = re.compile(r"(?:分之|负|[为是:=])\s*$")


def with_digits(text: str) -> str:
    """`text` with its Chinese numerals as digits; scales from 万 up and whatever stands around stay.

    >>> with_digits("负一百二十三万四千五百元"), with_digits("十分之三"), with_digits("三点五亿")
    ('负123万4500元', '10分之3', '3.5亿')
    >>> with_digits("第三季度统一为 5 万"), with_digits("百分之十二点五"), with_digits("二〇一九年")
    ('第三季度统一为 5 万', '百分之12.5', '2019年')
    """
    arabic = re.search("[0-9]", text) is not None

    def digits(found: re.Match[str]) -> str:
        run, before, after = found[0], text[: found.start()], text[found.end() :]
        trailing = run[len(run.rstrip("点點")) :]
        run = run.removesuffix(trailing)
        if (
            not run
            or (run[0] not in _DIGITS and run[0] not in "十拾")
            or before.endswith("第")
            or after.startswith("季")
            or len(run) > _LONGEST
        ):
            return found[0]
        alone = not before.strip() and not after.strip(" 。.")
        if len(run) == 1 and (arabic or not (alone or _COUNTED.match(after) or _LEADS_IN.search(before[-4:]))):
            return found[0] if not before.endswith("分之") else found[0].replace(run, _section(run))
        if all(char in _DIGITS for char in run) and len(run) > 1:  # read out digit by digit: a year or a code
            return "".join(str(_DIGITS[char]) for char in run) + trailing if len(run) == 4 and after.startswith("年") else found[0]
        parts = list(_PART.finditer(run))
        if "".join(part[0] for part in parts) != run:
            return found[0]
        return "".join(_section(part[1]) + _fraction(part[2]) + part[3] for part in parts) + trailing

    return _RUN.sub(digits, text)


def _section(chars: str) -> str:
    """一百二十三 as "123"; a last digit without its unit is of the unit below the one before it: 一百二 is 120."""
    total, digit, unit = 0, -1, 10
    for char in chars:
        if char in _TENS:
            unit = _TENS[char]
            total += (1 if digit < 0 else digit) * unit
            digit = -1
        elif _DIGITS[char]:
            digit = _DIGITS[char]
        else:
            unit, digit = 10, -1
    return str(total + (digit if digit > 0 else 0) * (unit // 10))


def _fraction(digits: str | None) -> str:
    return "." + "".join(str(_DIGITS[char]) for char in digits) if digits else ""
