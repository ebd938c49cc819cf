"""Meaning of a cell: its text, what is missing, and the lists and objects that it holds, however they were printed."""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from typing import Any


class Structured(str):
    """The JSON text of a list or an object that stood in a cell as such, and not as text."""

    __slots__ = ()


def cell(value: Any) -> str:
    """The text of a cell: JSON for lists and objects, "true" and "false", "" for None and NaN, numbers without a needless .0.

    >>> [cell(x) for x in (None, float("nan"), True, 1.0, 0.25, ["a", 1, float("nan")], "NA")]
    ['', '', 'true', '1', '0.25', '["a", 1, null]', 'NA']
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | dict | tuple):
        return Structured(json.dumps(_without_nan(value), ensure_ascii=False, default=str))
    return json.dumps(value) if isinstance(value, bool | int) else str(value)


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of any values as `read_rows` gives it."""
    return {str(name): cell(value) for name, value in row.items()}


def structure(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a cell holds, as JSON or as Python, pandas and numpy print one; None for a text.

    Of what is not JSON only lists and objects that hold a text count: "(3.2)" and "{1, 2}" are mathematics.

    >>> structure("['Paris', nan]"), structure("['Paris' 'Lyon']"), structure('["Ann"]'), structure("(3.2)")
    (['Paris', None], ['Paris', 'Lyon'], ['Ann'], None)
    """
    bare = text.strip()
    if bare[:1] + bare[-1:] not in ("[]", "{}", "()") and not bare.startswith("array("):
        return None
    try:
        value = _without_nan(json.loads(bare))
        return value if isinstance(value, list | dict) else None
    except (ValueError, RecursionError):
        pass
    try:
        value = _literal(ast.parse(_with_commas(bare), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    return value if isinstance(value, list | dict) and _holds_text(value) else None


def plain(text: str) -> str:
    """The text of a cell that has to be one: of a list of one thing that thing. Raises ValueError for other lists and objects.

    >>> plain("怎么吃"), plain('["怎么吃"]'), plain("[1, 2]")
    ('怎么吃', '怎么吃', '[1, 2]')
    >>> plain("['怎么吃', '多少']")
    Traceback (most recent call last):
    ValueError: it is a list of 2 ("怎么吃", …), no text: write one text
    """
    value = structure(text)
    if value is None or (value and not isinstance(text, Structured) and not _holds_text(value)):
        return str(text)
    if not value:
        return ""
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict):
        return cell(value[0])
    first = json.dumps(next(iter(value)), ensure_ascii=False)[:40]
    raise ValueError(f"it is {'an object' if isinstance(value, dict) else f'a list of {len(value)}'} ({first}, …), no text: write one text")


def no_text(text: str) -> str:
    """Return why a cell is no text, in words; "" for one that is (`plain`)."""
    try:
        plain(text)
    except ValueError as error:
        return str(error)
    return ""


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _holds_text(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return any(map(_holds_text, value)) if isinstance(value, list) else isinstance(value, str)


def _with_commas(text: str) -> str:
    """numpy prints no commas, and Python would take two texts side by side for one."""
    parts: list[str] = []
    before, ends = "", {tokenize.STRING, tokenize.NUMBER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        starts = token.type in ends or token.string in ("[", "{")
        parts.append(f", {token.string}" if starts and before in ("literal", "]", "}") else f" {token.string}")
        before = "literal" if token.type in ends else token.string
    return "".join(parts).strip()


def _literal(node: ast.expr) -> Any:
    """The value of an expression that is printed data. Raises ValueError for one that is not."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        items = [_literal(item) for item in node.elts]
        if isinstance(node, ast.List) or all(isinstance(item, str) for item in items):
            return items
    if isinstance(node, ast.Dict) and all(node.keys):
        return {str(_literal(name)): _literal(item) for name, item in zip(node.keys, node.values, strict=True) if name}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    if name in ("nan", "NaN", "NaT", "NA", "null", "None"):
        return None
    if name in ("true", "True_", "false", "False_"):
        return name[0] in "tT"
    # array(['a'], dtype=object), np.str_('a')
    if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name | ast.Attribute):
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if called in ("array", "str_", "bool_") or re.fullmatch(r"u?(int|float)\d+", called):
            return _literal(node.args[0])
    raise ValueError(f"no printed data: {ast.dump(node)[:60]}")
