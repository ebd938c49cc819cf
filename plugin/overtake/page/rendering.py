"""Answers as HTML: both languages side by side in <span lang>, of which a style shows one; whatever was typed or answered is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from overtake.page.candidates import Answered
from overtake.task import Line, Part

LANGUAGES = {"en": "English", "zh": "中文"}
_AS_ASKED = ("the question as it is", "原问题")
_HIDDEN = {"en": "zh", "zh": "en"}
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def both(en: str, zh: str) -> str:
    """A text in both languages.

    >>> both("<b>", "是")
    '<span lang="en">&lt;b&gt;</span><span lang="zh">是</span>'
    """
    return f'<span lang="en">{escape(en)}</span><span lang="zh">{escape(zh or en)}</span>'


def showing(language: str) -> str:
    """The style that hides the other language."""
    return f"<style>span[lang={_HIDDEN[language]}] {{ display: none; }}</style>"


def marked(text: str, marks: Iterable[tuple[int, int]]) -> str:
    """A text with places of it marked.

    >>> marked("a<b c", [(4, 5)])
    'a&lt;b <mark>c</mark>'
    """
    pieces, at = [], 0
    for start, end in marks:
        pieces += [escape(text[at:start]), f"<mark>{escape(text[start:end])}</mark>"]
        at = end
    return "".join([*pieces, escape(text[at:])])


def cards(names: Sequence[str], answered: Sequence[Answered | None]) -> str:
    """A card for each name, "" for the question as it is, in order; one without an answer yet says so."""
    return f'<div class="cards">{"".join(map(_card, names, answered))}</div>'


def message(en: str, zh: str) -> str:
    """A remark in the place of answers."""
    return f'<p class="fault" role="alert">{both(en, zh)}</p>'


def _card(name: str, made: Answered | None) -> str:
    head = f"<h3>{both(*_AS_ASKED) if name == '' else escape(name)}</h3>"
    if made is None:
        return f'<section class="card">{head}<p role="status">{both("waiting …", "等待回答……")}</p></section>'
    took = [f"{made.seconds:.2f} s"] if made.seconds is not None else []
    took += [f"{made.usd:.6f} USD"] if made.usd is not None else []
    fault = f'<p class="fault" role="alert">{both("Failed: ", "失败：")}{escape(made.fault)}</p>' if made.fault else ""
    text = f"<p>{escape(made.text)}</p>" if made.text and not made.parts else ""
    head += f"<small>{', '.join(took)}</small>" if took else ""
    return f'<section class="card">{head}{fault}{text}{"".join(map(_part, made.parts))}</section>'


def _part(part: Part) -> str:
    if not part.text and not part.lines:
        return ""
    text = f"<p>{marked(part.text, part.marks)}</p>" if part.text else ""
    lines = f"<ol>{''.join(map(_line, part.lines))}</ol>" if part.lines else ""
    if part.folded:
        return f"<details><summary>{both(part.en, part.zh)}</summary>{text}{lines}</details>"
    return f"<h4>{both(part.en, part.zh)}</h4>{text}{lines}"


def _line(line: Line) -> str:
    kind = {None: "", True: ' class="good"', False: ' class="bad"'}[line.good]
    note = f"<small>{both(line.en, line.zh)}</small>" if line.en or line.zh else ""
    words = both(line.text, line.text_zh) if line.text_zh else escape(line.text)
    return f"<li{kind}>{words}{' ' if line.text and note else ''}{note}</li>"
