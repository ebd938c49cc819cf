"""Two forms to compare texts in: one for rules, which holds what a reader sees, and one for likeness, which holds what is asked.

What goes to a retriever, a judge or a student is the text itself and neither of these.
"""

import re
import unicodedata
from functools import lru_cache

import regex

from overtake.reading.labels import label_end

_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}\u2800\ufffc]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HAN = "\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
BLANK = r"[^\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
"""White space that ends no line, for a pattern."""
_BETWEEN_HAN = re.compile(rf"(?<=[{_HAN}]){BLANK}+(?=[{_HAN}])")

_GREETING = (
    r"您好|你好|(?:大家|各位|老师|医生|大夫|专家|亲)们?好|[早中下晚]上?午?好|在吗|不好意思|打扰(?:一下|了)|劳驾|"
    r"拜托(?:了|啦|各位|大家)?(?=[^\p{L}\p{N}_\s]|\s)|"
    r"(?:紧急|在线|急)?(?:求助|求教|求解答?|请教)(?:一下|了|啦|各位|大家|帖)?(?=[^\p{L}\p{N}_\s]|\s)|"
    r"(?:hi|hello|hey)(?: there)?(?![a-z])|excuse me"
)
_ASKING = (
    r"我?就?很?想?要?(?:请问|请教|求问|求教)(?:一?下)?(?:大家|各位)?(?:(?:老师|医生|大夫|专家|朋友)们?(?=[^\p{L}\p{N}_\s]|\s))?|"
    r"我?就?很?(?:想|要|想要)(?:问|咨询|了解|知道|打听)(?:一?下)?|(?:问|咨询|打听)一?下|"
    r"麻烦(?:您|你)?(?:问|告诉我|讲|说|看)?一?下|"
    r"请(?:您|你|帮我|帮忙)?(?=计算|解释|说明|介绍|分析|判断|回答|列出|给出|求|告诉|推荐|简述|比较|问)|"
    r"(?:could|can|would|will) you (?:please |kindly )?(?:tell me|explain|help me(?: with)?)|"
    r"please(?: tell me)?|pls|kindly|tell me|may i ask|"
    r"i(?: would|['’]?d)? (?:like|want) to (?:know|ask)"
)
_FILLER = r"(?:那(?=请问|请教|问一?下)|(?:那个|就是说?|话说|那么|嗯+|呃+|额|唉|哎|诶|emm*|um+|uh+|well|so)(?=[^\p{L}\p{N}_\s]|\s|$))"
# Possessive parts by the regex module: re matches some of them wrongly before Python 3.11.5. Its own \W holds numbers like ①.
_LEAD = regex.compile(rf"[^\p{{L}}\p{{N}}]*+(?>(?:{_GREETING}|{_ASKING}|{_FILLER})[^\p{{L}}\p{{N}}]*+)*+")
_TRAIL = regex.compile(
    r"(?:(?:谢谢|多谢|感谢|感激|拜托|麻烦(?:您|你)?了|请问|请教|求教|求问|thank you|thanks|thx|please|pls"
    r"|(?<=[^\p{L}\p{N}])(?:(?:在线|紧急|急|跪)?求(?:助|解答?|告知|回复|指教)|急))"
    r"(?:您|你|大家|各位|医生|老师|大夫|专家|不尽|了|啦)*(?: (?:a lot|so much|very much|in advance))?[^\p{L}\p{N}]*+){1,4}+$"
)
_PARTICLES = re.compile("[呀啊哦喔噢哟呦啦哇咯呗吗吧呢嘛]+")
_NO_PARTICLE = re.compile("(?:[酒网贴氧水茶书迪咖]吧|[毛花]呢|干嘛)$")
"""Words that end like a particle."""

_WRITTEN_ALIKE = str.maketrans(dict.fromkeys("‐‑‒–―−", "-") | dict.fromkeys("〜∼", "~") | {"∶": ":", "⁄": "/", "∕": "/", "÷": "/"})
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HAN_DIGITS = frozenset("〇零一二三四五六七八九十百千万亿两半")
# Signs that carry meaning where they stand, beside those of Unicode's classes Sm and Sc, which all do.
_BETWEEN_NUMBERS = frozenset("-—~/:.*^&")
_BEHIND_NUMBER = frozenset("%‰‱°/")
_BEFORE_NUMBER = frozenset("-.#")
_BEHIND_LETTER = frozenset("+#%")
_DECORATING = frozenset("|~")
"""Those of class Sm that mostly draw something."""


def half_width(text: str) -> str:
    """Return `text` with full-width characters as plain ones, and compatibility characters as what they stand for unless that is a number.

    >>> half_width("ＡＢＣ１．５　㎎ ℃ 10⁶ ½ ① ⒈")
    'ABC1.5 mg °C 10⁶ ½ ① ⒈'
    """
    return text if text.isascii() else "".join(char if char.isascii() else _half(char) for char in text)


@lru_cache(maxsize=1 << 14)
def _half(char: str) -> str:
    kind = unicodedata.decomposition(char).partition(">")[0]
    if not kind.startswith("<"):
        return char
    plain = unicodedata.normalize("NFKC", char)
    return plain if kind in ("<wide", "<narrow") or all(unicodedata.numeric(sign, None) is None for sign in char + plain) else char


def for_rules(text: str) -> str:
    """Return what a reader sees of `text`: NFC, without invisible characters, and without blanks between Han characters.

    Invisible are the default-ignorable and format characters of Unicode (zero-width signs, fillers, marks of direction). A lone surrogate,
    which nothing can store or send, becomes U+FFFD.

    >>> for_rules("皮\\u200b肤 没\\u3164弹性 vitamin C")
    '皮肤没弹性 vitamin C'
    """
    return _BETWEEN_HAN.sub("", visible(text))


def visible(text: str) -> str:
    """Return `text` in NFC without invisible characters, lone surrogates as U+FFFD; blanks stay.

    >>> visible("皮\\u200b肤 没\\u3164弹性")
    '皮肤 没弹性'
    """
    return unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", text)))


def for_likeness(text: str) -> str:
    """Return what `text` asks, for copies and likeness: the form for rules without width, case, label, politeness, particles and
    punctuation.

    Signs that carry meaning stay where they do, beside a number or a Latin letter: >60, -5, 1/2, 10-15, 5%, C++, $5. Of other signs
    between two numbers a blank stays, so that 3、5 is not 35. A text of nothing but politeness keeps it.

    >>> for_likeness("请问，胶原蛋白 怎么吃呢？") == for_likeness("胶原蛋白怎么吃")
    True
    >>> [for_likeness(one) for one in ("ＡＢＣ　１．５ g!", ">60岁能吃吗", "1,000元", "1、2片", "x - 5 > -3", "C++ / C#")]
    ['abc1.5g', '>60岁能吃', '1000元', '1 2片', 'x-5>-3', 'c++c#']
    """
    plain = half_width(for_rules(text)).casefold()
    question = _TRAIL.sub("", plain[label_end(plain) :])
    lead = _LEAD.match(question)
    # What stands right before a number is a sign of the number's.
    question = question[len(question[: lead.end()].rstrip("-−+<>≤≥=≠±~$¥€£.#√ ")) if lead else 0 :]
    return _weighed(_without_particles(question)) or _weighed(plain)


def _without_particles(text: str) -> str:
    def kept(run: re.Match[str]) -> str:
        if run.end() < len(text) and _is_word(text[run.end()]):
            return run[0]
        return run[0][:1] if _NO_PARTICLE.search(text[max(0, run.start() - 1) : run.start() + 1]) else ""

    return _PARTICLES.sub(kept, text)


def _weighed(text: str) -> str:
    """`text` without the signs that carry no meaning where they stand."""
    text = _THOUSANDS.sub("", text.translate(_WRITTEN_ALIKE))
    parts: list[str] = []
    at, size = 0, len(text)
    while at < size:
        end, word = at + 1, _is_word(text[at])
        while end < size and _is_word(text[end]) == word:
            end += 1
        parts.append(text[at:end] if word else _meaning(text[at - 1 : at] if at else "", text[at:end], text[end : end + 1]))
        at = end
    return re.sub("-{2,}", "-", "".join(parts)).strip()


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _meaning(left: str, run: str, right: str) -> str:
    """What stays of a run of signs between two characters; "" at either end of the text."""
    signs = "".join(run.split())
    if left in _HAN_DIGITS and right in _HAN_DIGITS:
        return signs[:1] if signs[:1] in _BETWEEN_NUMBERS else " " if signs else ""
    number_left, number_right = left.isdecimal(), right.isdecimal()
    letter_left, letter_right = left.isascii() and left.isalpha(), right.isascii() and right.isalpha()
    if number_left and number_right:
        meant = "".join(sign if sign in _BETWEEN_NUMBERS or _is_sign(sign) else " " for sign in signs).replace("—", "-")
        return " ".join(meant.split()) or " "
    meaningful = _BEHIND_NUMBER if number_left else _BEHIND_LETTER if letter_left and not run[0].isspace() else frozenset()
    if letter_left and letter_right and signs == "&":
        return signs
    if number_right and not (letter_left and run == "-") and (left or not run[-1].isspace()):
        meaningful |= _BEFORE_NUMBER  # COVID-19, and the mark of a list before a number, have no minus
    touches = number_left or number_right or letter_left or letter_right
    meant = "".join(sign for sign in signs if sign in meaningful or (touches and _is_sign(sign) and sign not in _DECORATING))
    # Said or not, a plus before a number alone is the same number.
    return meant.rstrip("+") if number_right and not letter_left else meant


def _is_sign(char: str) -> bool:
    return unicodedata.category(char) in ("Sm", "Sc")
