r"""Contents of \boxed{…}, in which models trained on mathematics leave their answer, with the sign, currency and unit that touch the
box."""

import re
from typing import NamedTuple

from overtake.reading.units import scale_at, unit_at

_OPEN = re.compile(r"\\f?boxed\s*\{|\\framebox\s*\{")
_NUMBER_FIRST = re.compile(r"\s*[-+−$¥(]*\s*(?:[\d.]|\\[dtc]?frac)")
_BEFORE = re.compile(r"(?:(?<![\d)\]}])[-−–－]|负|\\\$|(?:US|HK|NT|[CAS])\$|[¥￥€£]|RMB|人民币|\s)*(?:\$|\\\(|\\\[)?\s*$")
_MATH = re.compile(r"\\(?:text|mathrm|mbox|rm)\s*\{([^{}]{0,24})\}?|\\([%$])|\\[,;!: )\]]|\$")
_IN_BRACKETS = re.compile(r"\s*[(（]\s*(?:单位\s*[:：]\s*|in\s+)?([^()（）\d]{1,16})[)）]", re.IGNORECASE)
_REACH = 32
_CLOSES = frozenset("。，；;\n=")
"""No unit goes on behind one of these."""


class Box(NamedTuple):
    """A box of a text: what is in it, and from where to where it stands."""

    inside: str
    start: int
    end: int


def boxes(text: str) -> list[Box]:
    r"""The boxes of `text`, braces inside them kept; one that never closes, or holds another, is none.

    >>> [one.inside for one in boxes(r"so \boxed{\frac{1}{2}} and \boxed{ 800 万元 }, not \boxed{7")]
    ['\\frac{1}{2}', '800 万元']
    """
    closed = []
    opened = list(_OPEN.finditer(text))
    for place, opening in enumerate(opened):
        last = opened[place + 1].start() if place + 1 < len(opened) else len(text)
        depth = 1
        for sign in re.finditer("[{}]", text[opening.end() : last]):
            depth += 1 if sign[0] == "{" else -1
            if depth == 0:
                end = opening.end() + sign.end()
                closed.append(Box(text[opening.end() : end - 1].strip(), opening.start(), end))
                break
    return closed


def boxed(text: str) -> list[str]:
    r"""Return what each box of `text` says: its content, and for a number the sign or currency before it and the unit behind it too.

    >>> boxed(r"增长率为\boxed{12.5}\%"), boxed(r"-\boxed{3.2}亿元"), boxed(r"$\boxed{800}$ 万元"), boxed(r"选 \boxed{B}。")
    (['12.5%'], ['-3.2亿元'], ['800 万元'], ['B'])
    """
    return [around(text, box)[0] for box in boxes(text)]


def around(text: str, box: Box) -> tuple[str, int]:
    """Return (what a box says, with what belongs to it; where that ends)."""
    if not _NUMBER_FIRST.match(box.inside):
        return box.inside, box.end
    before = _BEFORE.search(text, max(0, box.start - _REACH), box.start)
    lead = re.sub(r"\\([$])|[\s]|\\[(\[]|\$$", r"\1", before[0]) if before else ""
    tail, end = _tail(text, box.end)
    return lead + box.inside + tail, end


def _tail(text: str, at: int) -> tuple[str, int]:
    """(scale and unit that stand at `at`, in plain writing; where they end)."""
    start, behind = at, text[at : at + 2 * _REACH]
    ends: list[int] = []
    plain = ""
    while at < start + len(behind) and len(plain) < _REACH:
        math = _MATH.match(text, at) if text[at] in "\\$" else None
        at, piece = (math.end(), (math[1] or math[2] or "").replace("\\", "")) if math else (at + 1, text[at])
        plain += piece
        ends += [at] * len(piece)
        if text[at - 1 : at] in _CLOSES:
            break
    bracket = _IN_BRACKETS.match(plain)
    here = plain if not bracket else bracket[1]
    place = unit_at(here, scale_at(here, 0)[1])[1]
    size = bracket.end() if bracket and place == len(here.rstrip()) else 0 if bracket else place
    return plain[:size], ends[size - 1] if size else start
