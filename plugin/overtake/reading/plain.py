"""A text in one way of writing, for reading numbers: half-width, one minus, no LaTeX or Markdown, numerals in words as digits."""

import re
import unicodedata
from functools import lru_cache

from overtake.reading.boxed import around, boxes
from overtake.reading.numerals import with_digits

LONGEST = 2000
_MOST_DIGITS = 40
_INVISIBLE = re.compile("[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u3164\ufe00-\ufe0f\ufeff]")
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_WRITTEN_ALIKE = str.maketrans(
    dict.fromkeys("−–—―‒‐‑﹣－﹘", "-") | {"～": "~", "〜": "~", "∼": "~", "：": ":", "＝": "=", "⁄": "/", "∕": "/", "÷": "/"}
)
_LATEX = [
    (re.compile(r"\\[dtc]?frac\s*\{\s*([^{}\\]{1,60}?)\s*\}\s*\{\s*([^{}\\]{1,60}?)\s*\}"), r" \1/\2 "),
    (re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)?|mbox|operatorname|bm?|underline)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}|\\[,;!:](?=\s?\d{3})"), ","),
    (re.compile(r"\\([%$&#])"), r"\1"),
    (re.compile(r"\\(?:left|right|displaystyle|big|Big|,|;|!|:|\(|\)|\[|\]|\s|quad|qquad)"), " "),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\(?:approx|simeq)\b"), "≈"),
    (re.compile(r"\\sim\b"), "~"),
    (re.compile(r"\\pm\b"), "±"),
    (re.compile(r"\\geq?(?:slant)?\b"), "≥"),
    (re.compile(r"\\leq?(?:slant)?\b"), "≤"),
    (re.compile(r"\\neq?\b"), "≠"),
    (re.compile(r"\\yen\b"), "¥"),
    (re.compile(r"\\sqrt\b(?:\s*\[[^\[\]]{0,9}\])?"), "√"),
    (re.compile(r"\\(?=[A-Za-z])"), " "),
    (re.compile(r"\*\*|__|`"), ""),
]
_MATH = re.compile(r"\$\$?([^$]*)\$\$?(?!\d)")
_BLANKS = re.compile(r"\s\s+")
_BRACES = str.maketrans("{}", "  ")
_BEFORE_BOX = re.compile(r"[^\d。；;\n,，=]{0,24}$")
_PARTS_OF = {"百": "%", "千": "‰", "万": "‱"}


def plain_text(text: str) -> str | None:
    """Return `text` in one way of writing: half-width, one minus, no LaTeX, numerals as digits. None for what nobody can have meant.

    Of a text with a box the working before it is out; what stands right before it and all that follows belongs to the answer.
    """
    if len(text) > LONGEST or _REORDERING.search(text):
        return None
    text = _INVISIBLE.sub("", text)
    unboxed = _unboxed(text)
    if unboxed is None:
        return None
    text = re.sub("(?<=[0-9])[\u00a0\u2009\u202f'’](?=[0-9]{3})", ",", unboxed)
    text = _SUPERSCRIPT.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = re.sub(r"(?<=[0-9])(?=[¼-¾⅐-⅞])", " ", text)
    text = re.sub("[-−–—―－]{2,}", " ", text)
    text = "".join(char if char.isascii() else _without_marks(char) for char in text)
    text = _squeezed(unicodedata.normalize("NFKC", text).translate(_WRITTEN_ALIKE))
    if len(text) > LONGEST + LONGEST // 4:  # signs that stand for many: ﷺ
        return None
    text = _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    for pattern, by in _LATEX:
        text = pattern.sub(by, text)
    text = _squeezed(_MATH.sub(r" \1 ", text).translate(_BRACES))
    text = re.sub("百分之百|百分百", "100%", text)
    text = with_digits(text)
    text = re.sub(r"(负|-)?\s*1?([百千万])分之\s*(负|-)?\s*(\d+(?:[.,]\d+)*)", _per, text)
    text = re.sub(r"(\d{1,12})\s*又\s*(\d{1,12})\s*分之\s*(\d{1,12})", r"\1 \3/\2", text)
    text = re.sub(r"(\d{1,12})\s*又\s*(?=\d{1,12}\s*/\s*\d)", r"\1 ", text)
    text = re.sub(r"(\d{1,12})\s*分之\s*(-?\d+(?:\.\d+)?)", r"\2/\1", text)
    text = re.sub(r"负(?=\s*[\d.$¥€£])", "-", text)
    return None if any(len(run) > _MOST_DIGITS for run in re.findall(r"\d[\d.,]*", text)) else text


def _squeezed(text: str) -> str:
    return _BLANKS.sub(lambda match: "\n" if "\n" in match[0] else " ", text)


def _unboxed(text: str) -> str | None:
    """`text` from right before its box on, the box open; None for boxes that say different things."""
    in_text = boxes(text)
    if not in_text:
        return text
    if len({" ".join(box.inside.split()) for box in in_text}) > 1:
        return None
    first = in_text[0]
    content, end = around(text, first)
    before = _BEFORE_BOX.search(text, 0, first.start)
    lead = before[0].rstrip("$ \\([") if before else ""
    rest = text[end:]
    for box in in_text[1:]:
        rest = rest.replace(text[box.start : box.end], box.inside)
    outside = "" if content.startswith(tuple("-−$¥(负")) else lead
    return f"{outside} {content} {rest}" if outside else f"{content} {rest}"


@lru_cache(maxsize=1 << 12)
def _without_marks(char: str) -> str:
    """`char`, or a bullet for a number that only marks an item: ① and ⒈ are not 1."""
    if unicodedata.category(char) != "No":
        return char
    kind = unicodedata.decomposition(char).partition(">")[0]
    return char if kind in ("<fraction", "<super", "<sub") else " • "


def _per(match: re.Match[str]) -> str:
    return ("-" if match[1] or match[3] else "") + match[4] + _PARTS_OF[match[2]]
