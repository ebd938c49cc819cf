"""Amounts in medical texts: what number of which unit a phrase says, and whether it is an amount of a medicine at all."""

import re
from functools import cache

import regex

from overtake.reading.normal_forms import BLANK

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
_SPACED = re.compile(rf"(?<=\d){BLANK}{{1,8}}(?=\d)|(?<=\d),(?=\d{{3}}(?!\d))")
_PIECES = re.compile(r"(?:片|粒|颗|丸|支|滴|袋|包|喷|揿)\W*$")
"""Pieces, which may be of anything: a tablet, a cigarette, a patch of red skin. In figures they are a dose: 10滴."""
_NAMED = "一二两三四五六七八九"
_DOSED = "毫?克|mg|g|微克|毫升|ml|片|粒|颗|丸|支|滴|袋|包|万?单位|[小大汤茶]?[勺匙]"
_POINT = re.compile(rf"([零〇{_NAMED}十]{{1,3}})点([零〇{_NAMED}]{{1,3}})(?=\s?(?:毫?克|mg|g|微克|毫升|ml|片|粒|万?单位))")
_TWO = re.compile(rf"(?<![{_NAMED}十百千])([{_NAMED}])([{_NAMED}])(?=\s?(?:{_DOSED}))")
"""两三片 is two to three, not twenty-three."""
_AND_HALF = re.compile(rf"([0-9]{{1,4}}|[{_NAMED}])([片粒颗丸支袋包勺匙])半(?!个?小时|个?[月天年]|[天年日夜径])")
_PIECE_AND_HALF = re.compile(r"(?<=[吃服含次天日晚])([片粒颗])半(?!个?小时|个?[月天年]|[天年日夜])")
_FRACTION = re.compile(rf"([二两三四])分之([一二三])(?=\s?(?:{_DOSED}))")
_SLASH = re.compile(r"(?<![0-9/])([1-3])/([2-4])(?=\s?(?:片|粒|颗|丸|支|袋|包|tablets?\b|pills?\b|capsules?\b))")
_MIXED = re.compile(r"([0-9]+)([½¼¾])")
_PIECE_WORDS = "tablets?|pills?|capsules?|teaspoons?|tablespoons?|sachets?|puffs?"
_HALF_BEHIND = re.compile(rf"\b(an?|one|two|three|four|[0-9]+) ({_PIECE_WORDS}) and a half\b")
_HALF_BEFORE = re.compile(rf"\b(one|two|three|four|[0-9]+) and a half (?=(?:{_PIECE_WORDS}|mg|ml|g)\b)")
_SPACED_UNIT = re.compile(rf"(\d{BLANK}{{0,8}}[mμu]){BLANK}{{1,8}}(?=[gl](?![a-z]))")
_FIGURES = ("零〇", "一壹", "二贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")
_DIGITS: dict[str, float] = {character: number for number, pair in enumerate(_FIGURES) for character in pair}
_DIGITS |= {"两": 2, "半": 0.5, "½": 0.5, "¼": 0.25, "¾": 0.75}
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10000}
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_WORDS = {name: float(number) for number, name in enumerate(_ONES.split())} | {"half": 0.5, "dozen": 12.0}
_TENS_NAMES = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS |= {name: 10.0 * tens for tens, name in enumerate(_TENS_NAMES, 2)}
_NUMBER = re.compile(
    rf"[0-9]+(?:\.[0-9]+)?|[{''.join([*_DIGITS, *_TENS])}]+|\b(?:{'|'.join(_WORDS)})\b(?: hundred\b)?",
)
_CHARACTERS = (
    r"[，,约大小少多于不超过低高限制控在为是至到每天日人次晚餐个的量摄入总以内下上左右可达应宜要保持补充出现或者即共≤<>=≥~:：()\d.\s-]"
)
_WORDS_BETWEEN = r"\b(?:of|a|about|per|day|less|more|than|under|over|up|to|intake|is|at|below|your|the|limit|daily|each|every)\b"
_BETWEEN = rf"(?:{_CHARACTERS}|{_WORDS_BETWEEN})*"
"""What may stand between an amount and what it is an amount of."""
_OFTEN = r"每|次|[一两二三四]?[日天](?![常生])|daily|per|times|each|every"
_STATES = "体重|血红蛋白|血糖|胆红素|转氨酶|激素水平|正常值|参考值|浓度|直径|结石|照片|ct|x线|红细胞|血浆|全血|weight|blood"
"""Of what an amount may be of, what is measured on a body and never taken: so many a day, or each time, are a dose and none of these."""
_RARELY = rf"(?:(?!{_OFTEN})(?:{_CHARACTERS}|{_WORDS_BETWEEN}))*"
"""What may stand between a state and its amount."""
_NEWBORN = regex.compile(rf"(?:新生儿|胎儿|宝宝|婴儿)(?:一般|通常|平均|出生时|正常)*重?{_RARELY}$")
_BASIS = r"(?<!(?:[每按依据照]|根据|\b(?:per|by|for|to|of body)\b)[^，,。；;、]{0,8})"
"""A dose goes by what stands behind such a word, and is no amount of it: 每公斤体重, 按体重, by weight."""
_TAKEN_WITH = r"(?!\s*(?:送服|送下|送药|冲服|冲泡|吞服|服下|服用|化开|溶化|溶解|稀释|调服|一起|同服))"
"""A drink that a medicine is taken with is not what the amount is of: 400毫克温水送服."""


def spelled(text: str) -> str:
    """`text` with each number and each unit of Latin letters written without blanks in it, without the thousands' commas, and with the
    halves, parts and ranges of amounts in figures.

    >>> spelled("5 0 0 m g"), spelled("1,000 mg, 2 岁")
    ('500 mg', '1000 mg, 2 岁')
    >>> spelled("每次一片半，两三粒，零点四克"), spelled("a tablet and a half"), spelled("一片半小时后")
    ('每次1.5片，二-三粒，0.4克', '1.5 tablet', '一片半小时后')
    """
    text = _SPACED_UNIT.sub(r"\1", _SPACED.sub("", text))
    text = _POINT.sub(lambda found: f"{_value(found[1]):g}.{''.join(f'{_DIGITS[one]:g}' for one in found[2])}", text)
    text = _TWO.sub(_range, text)
    text = _AND_HALF.sub(lambda found: f"{_value(found[1]) + 0.5:g}{found[2]}", text)
    text = _PIECE_AND_HALF.sub(r"1.5\1", text)
    text = _FRACTION.sub(lambda found: f"{_value(found[2]) / _value(found[1]):.2g}", text)
    text = _SLASH.sub(lambda found: f"{int(found[1]) / int(found[2]):.2g}", text)
    text = _MIXED.sub(lambda found: f"{int(found[1]) + _DIGITS[found[2]]:g}", text)
    text = _HALF_BEHIND.sub(lambda found: f"{_count(found[1]) + 0.5:g} {found[2]}", text)
    return _HALF_BEFORE.sub(lambda found: f"{_count(found[1]) + 0.5:g} ", text)


def is_pieces(amount: str) -> bool:
    """Return whether an amount counts pieces in words, of whatever it may be.

    >>> is_pieces("两片"), is_pieces("2片"), is_pieces("两毫克")
    (True, False, False)
    """
    return bool(_PIECES.search(amount)) and not re.search("[0-9]", amount)


def _range(found: re.Match[str]) -> str:
    low, high = (_DIGITS[one] for one in found.groups())
    return f"{found[1]}-{found[2]}" if high == low + 1 else found[0]


def _count(word: str) -> float:
    return 1.0 if word in ("a", "an") else _value(word)


def is_birth_weight(before: str, amounts: set[tuple[float, str]]) -> bool:
    """Return whether amounts are what a child weighs that stands right before them, and no dose: of a newborn so many hundred grams.

    >>> is_birth_weight("新生儿约", {(3200.0, "g")}), is_birth_weight("新生儿", {(5.0, "mg")})
    (True, False)
    """
    return bool(_NEWBORN.search(before)) and all(unit == "g" and number >= 100 for number, unit in amounts)


def read(text: str) -> set[tuple[float, str]]:
    """Each number of an amount, in lower case, with its unit, however both are written.

    >>> sorted(read("1-2 片")), read("五百毫克") == read("500 mg"), read("two tablets") == read("2片")
    ([(1.0, '片'), (2.0, '片')], True, True)
    """
    numbers = list(_NUMBER.finditer(text))
    unit = text[numbers[-1].end() :].strip(" \t\n-*_`(·整").removeprefix("a ") if numbers else text
    return {(_value(number[0]), _UNITS.get(unit, unit)) for number in numbers}


@cache
def right_at(terms: str) -> tuple[regex.Pattern[str], regex.Pattern[str]]:
    """Expressions for one of `terms` right before an amount, and right behind one, so that the amount is of it.

    It is not where the dose goes by it (每公斤体重), where so much a time or a day is said of what is only measured, or where the medicine
    is taken with it.

    >>> before, behind = right_at("盐|温水|体重")
    >>> [bool(before.search(text)) for text in ("食盐每天不超过", "温水送服布洛芬", "体重约", "每公斤体重", "体重每次")]
    [True, False, True, False, False]
    >>> bool(behind.match("温水")), bool(behind.match("温水送服"))
    (True, False)
    """
    state = f"(?=(?:{_STATES}))"
    return (
        regex.compile(
            rf"{_BASIS}{state}(?:{terms}){_RARELY}$|(?!(?:{_STATES}))(?<!血|血红|硝酸甘|补液|口服补液|鱼肝)(?:{terms}){_BETWEEN}$"
        ),
        regex.compile(rf"{_BETWEEN}(?:{terms}){_TAKEN_WITH}"),
    )


def _value(text: str) -> float:
    """
    >>> _value("五百"), _value("十二"), _value("四〇〇"), _value("2.5"), _value("five hundred")
    (500.0, 12.0, 400.0, 2.5, 500.0)
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
            digit = 10 * digit + _DIGITS[character]
    return total + digit
