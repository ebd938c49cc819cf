"""A text in one way of writing, for reading numbers: half-width, one minus, no LaTeX or Markdown, Chinese numerals as digits."""

import re
import unicodedata

from overtake.reading.chinese import with_digits

_LONGEST = 2000
_MOST_DIGITS = 40
_INVISIBLE = re.compile("[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u3164\ufe00-\ufe0f\ufeff]")
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_MINUS = str.maketrans(
    dict.fromkeys("−–—―‒‐‑﹣－﹘", "-") | {"～": "~", "〜": "~", "∼": "~", "：": ":", "＝": "=", "⁄": "/", "∕": "/", "÷": "/"}
)
_LATEX = [
    (re.compile(r"\\[dtc]?frac\s*\{\s*([^{}\\]{1,60}?)\s*\}\s*\{\s*([^{}\\]{1,60}?)\s*\}"), r" \1/\2 "),
    (re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)?|mbox|operatorname|bm?)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}|\\[,;!:](?=\s?\d{3})"), ","),
    (re.compile(r"\\([%$&#])"), r"\1"),
    (re.compile(r"\\(?:left|right|displaystyle|big|Big|,|;|!|:|\(|\)|\[|\]|\s|quad|qquad)"), " "),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\(?:approx|simeq)\b"), "≈"),
    (re.compile(r"\\sim\b"), "~"),
    (re.compile(r"\\pm\b"), "±"),
    (re.compile(r"\*\*|__|`"), ""),
]
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_MATH = re.compile(r"\$\$?([^$]*)\$\$?(?!\d)")
_PARTS_OF = {"百": "%", "千": "‰", "万": "‱"}


def plain_text(text: str) -> str | None:
    """`text` in one way of writing: half-width, one minus, no LaTeX, Chinese numerals as digits. None for what nobody can have meant."""
    if len(text) > _LONGEST or _REORDERING.search(text):
        return None
    text = _INVISIBLE.sub("", text)
    text = re.sub("(?<=[0-9])[\u00a0\u2009\u202f'’](?=[0-9]{3})", ",", text)
    text = _SUPERSCRIPT.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
    text = re.sub(r"(?<=[0-9])(?=[¼-¾⅐-⅞])", " ", text)
    text = re.sub("[-−–—―－]{2,}", " ", text)
    text = unicodedata.normalize("NFKC", text).translate(_MINUS)
    text = _OTHER_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)
    boxed = {" ".join(found.split()) for found in _BOXED.findall(text)}
    if len(boxed) > 1:
        return None
    text = boxed.pop() if boxed else text
    for pattern, by in _LATEX:
        text = pattern.sub(by, text)
    text = _MATH.sub(r" \1 ", text)
    text = with_digits(text)
    text = re.sub(r"(负|-)?\s*1?([百千万])分之\s*(负|-)?\s*(\d+(?:[.,]\d+)*)", _per, text)
    text = re.sub(r"(\d{1,12})\s*分之\s*(-?\d+(?:\.\d+)?)", r"\2/\1", text)
    text = re.sub(r"负(?=\s*[\d.$¥€£])", "-", text)
    return None if any(len(run) > _MOST_DIGITS for run in re.findall(r"\d[\d.,]*", text)) else text


def _per(found: re.Match[str]) -> str:
    return ("-" if found[1] or found[3] else "") + found[4] + _PARTS_OF[found[2]]
