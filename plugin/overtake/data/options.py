"""A question's options where they stand in columns of their own: without them it is another question, or none."""

import re
from collections.abc import Mapping
from typing import Any

from overtake.data.cells import cell, plain, structure

COLUMNS = ("options", "option", "choices", "选项", "备选项", "候选项", "备选答案", "候选答案")
_LETTERS = "ABCDEFGHIJ"
# A, 选项A, A选项, option_a, choice a, opa
_LETTER = re.compile(r"(?:选项|备选项|option|opt|op|choice|answer_?option)?[\s_-]*([a-j])[\s_-]*(?:选项|项)?", re.IGNORECASE)
_TEXT = ("text", "value", "content", "option", "内容", "文本")
_KEY = ("key", "label", "letter", "id", "选项")


def with_options(question: str, cells: Mapping[str, Any]) -> str:
    """The question with the options of its row behind it, a line each, unless it says them itself.

    They stand in one column (text, a list, an object by letter, a list of objects) or in one for each letter.

    >>> print(with_options("哪项属于流动资产？", {"choices": '{"A": "应收账款", "B": "厂房"}'}))
    哪项属于流动资产？
    A. 应收账款
    B. 厂房
    >>> with_options("问题", {"A": "应收账款"}), with_options("选A还是B？A. 一 B. 二", {"A": "一", "B": "二"})
    ('问题', '选A还是B？A. 一 B. 二')
    """
    options = _in_one_column(cells) or _in_columns(cells)
    texts = [text for _, text in options]
    if not options or not question.strip() or all(_tight(text) in _tight(question) for text in texts):
        return question
    return "\n".join([question, *(f"{letter}. {text}" if letter else text for letter, text in options)])


def _in_one_column(cells: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = {name.strip().casefold(): cell(value) for name, value in cells.items()}
    text = next((named[name] for name in COLUMNS if named.get(name, "").strip()), "")
    value = structure(text)
    if value is None:
        return [("", text.strip())] if text.strip() else []
    if isinstance(value, dict) and (two := _lists(value)):
        value = dict(zip(*two, strict=False))
    if isinstance(value, dict):
        return [(str(letter).strip(), _option(option)) for letter, option in value.items() if _option(option)]
    letters = [_first(option, _KEY) if isinstance(option, dict) else "" for option in value]
    return [
        _lettered(letters[at] or _LETTERS[at : at + 1], _option(_first(option, _TEXT) if isinstance(option, dict) else option))
        for at, option in enumerate(value)
        if _option(_first(option, _TEXT) if isinstance(option, dict) else option)
    ]


def _in_columns(cells: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Columns A, B and so on; one letter alone is no list of options."""
    by_letter: dict[str, str] = {}
    for name, value in cells.items():
        if match := _LETTER.fullmatch(name.strip()):
            by_letter.setdefault(match[1].upper(), cell(value).strip())
    if not {"A", "B"} <= by_letter.keys():
        return []
    return [_lettered(letter, _option(by_letter[letter])) for letter in sorted(by_letter) if _option(by_letter[letter])]


def _lists(value: Mapping[str, Any]) -> tuple[list[Any], list[Any]] | None:
    """(letters, texts) of an object that holds them side by side, as ARC's {"label": ["A", "B"], "text": […]} does."""
    keys = next((value[name] for name in _KEY if isinstance(value.get(name), list)), None)
    texts = next((value[name] for name in _TEXT if isinstance(value.get(name), list)), None)
    return (keys or list(_LETTERS), texts) if texts else None


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((cell(value[name]).strip() for name in names if cell(value.get(name)).strip()), "")


def _option(value: Any) -> str:
    text = cell(value).strip()
    try:
        return plain(text)
    except ValueError:
        return text


def _lettered(letter: str, text: str) -> tuple[str, str]:
    """No letter before a text that begins with its own ("A. 利尿剂")."""
    return ("" if letter and re.match(rf"[(（]?{re.escape(letter)}[)）.．、:：]", text) else letter, text)


def _tight(text: str) -> str:
    return "".join(text.split())
