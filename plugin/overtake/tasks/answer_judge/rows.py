"""Rows to be judged: a question, its reference answers, a generated answer and, if known, the verdict; from any table that has them."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from overtake.data import tables
from overtake.data.cells import Structured, plain, structure
from overtake.data.options import with_options
from overtake.data.tables import BadInput
from overtake.tasks.answer_judge.columns import (
    JUDGE_ANSWER,
    JUDGE_ANSWER_HAT,
    JUDGE_FACTS,
    JUDGE_ID,
    JUDGE_MAIN,
    JUDGE_QUESTION,
    JUDGE_SECONDARY,
)
from overtake.tasks.answer_judge.judgements import VALUES, Value

GOLD = ("golden_answers", "golden_answer", JUDGE_ANSWER, "标准答案", "参考答案", "真实答案", "answer")
ANSWER_HAT = ("answer_hat", JUDGE_ANSWER_HAT, "生成答案", "模型答案", "回答", "预测答案")
QUESTION = ("question", JUDGE_QUESTION, "问题", "query")
LABEL = ("label", "judge", "标签", "人工判断", "主要答案判断", JUDGE_MAIN)
SECONDARY = ("label_secondary", "次要答案判断", JUDGE_SECONDARY)
MODEL = ("model", "模型")
ID = (JUDGE_ID, "id", "_id", "编号")

_LABELS: dict[str, Value] = {
    **dict.fromkeys(("correct", "true", "1", "1.0", "yes", "right", "正确", "对", "是"), "correct"),
    **dict.fromkeys(("incorrect", "false", "0", "0.0", "no", "wrong", "错误", "不正确", "错", "否"), "incorrect"),
    **dict.fromkeys(("none", "无"), "none"),
}


class JudgeRow(NamedTuple):
    """One answer to judge."""

    id: str
    question: str
    """"" where the table has none."""
    gold: tuple[str, ...]
    """Reference answers, any of which is right; at least one."""
    answer_hat: str
    """The generated answer; "" is an answer too."""
    main: Value | None
    """The human or gold verdict on the main answer; None: not known."""
    secondary: Value | None
    model: str
    """Who wrote the answer; "" where the table does not say."""
    facts: tuple[str, ...] = ()
    """What a reason should name."""

    @classmethod
    def from_columns(cls, cells: Mapping[str, str]) -> Self:
        """The row in a training file's columns; one that is not there is as one that is empty.

        Raises ValueError naming the column for what is no verdict.
        """
        of = {name: cells.get(name, "") for name in (JUDGE_ID, JUDGE_QUESTION, JUDGE_ANSWER, JUDGE_ANSWER_HAT, JUDGE_FACTS)}
        gold, facts = alternatives(of[JUDGE_ANSWER]), alternatives(of[JUDGE_FACTS])
        main, secondary = (_verdict(cells, name) for name in (JUDGE_MAIN, JUDGE_SECONDARY))
        return cls(of[JUDGE_ID], of[JUDGE_QUESTION], gold, of[JUDGE_ANSWER_HAT], main, secondary, "", facts)

    def to_columns(self) -> dict[str, str]:
        """The same as text columns, which `from_columns` reads back but for the model; what is not known is "".

        >>> row = JudgeRow("j1", "who", ("Ann", "Anne"), "It was Ann.", "correct", None, "", ("Ann",))
        >>> JudgeRow.from_columns(row.to_columns()) == row, row.to_columns()["judge_answer"]
        (True, '["Ann", "Anne"]')
        """
        return {
            JUDGE_ID: self.id,
            JUDGE_QUESTION: self.question,
            JUDGE_ANSWER: tables.cell(list(self.gold)),
            JUDGE_ANSWER_HAT: self.answer_hat,
            JUDGE_MAIN: self.main or "",
            JUDGE_SECONDARY: self.secondary or "",
            JUDGE_FACTS: tables.cell(list(self.facts)) if self.facts else "",
        }


def columns_of(names: Mapping[str, Any]) -> dict[str, str]:
    """Return which column holds "gold", "answer_hat" and, if there are any, the other parts of a row: the first there is of the names
    above.

    A table with `golden_answer` or `golden_answers` may hold the generated answer as `answer`, as EVOUNA's does.
    Raises ValueError naming the columns there are when one of the two is missing.
    """
    lists = {"gold": GOLD, "answer_hat": ANSWER_HAT, "question": QUESTION, "main": LABEL, "secondary": SECONDARY, "model": MODEL, "id": ID}
    columns = {part: next((name for name in aliases if name in names), "") for part, aliases in lists.items()}
    if not columns["answer_hat"] and columns["gold"] not in ("", "answer") and "answer" in names:
        columns["answer_hat"] = "answer"
    for part, aliases in (("gold", GOLD), ("answer_hat", ANSWER_HAT)):
        if not columns[part]:
            what = "reference answer" if part == "gold" else "generated answer"
            raise ValueError(f"no column holds the {what}: name it {' or '.join(aliases)}; the columns there are {', '.join(names)}")
    return {part: name for part, name in columns.items() if name}


def judge_row(cells: Mapping[str, Any], columns: Mapping[str, str]) -> JudgeRow:
    """A table's row, read; `columns` from `columns_of`. A list may be a list or its printed text; EVOUNA's golden_answer is cut at "/".

    Raises ValueError for a row without a reference answer, a label that is no verdict, and a question or an answer that is no text.

    >>> row = {"question": "who", "golden_answer": "Ann/Anne", "answer": "It was Ann.", "judge": True}
    >>> judge_row(row, columns_of(row))[1:5]
    ('who', ('Ann', 'Anne'), 'It was Ann.', 'correct')
    """
    text = {part: tables.cell(cells.get(name)) for part, name in columns.items()}
    gold = alternatives(text["gold"], cut=columns["gold"] == "golden_answer")
    if not gold:
        raise ValueError("there is no reference answer to judge by")
    for part in ("question", "answer_hat"):
        # A generated answer may well be JSON, so only what is no text in the file either is refused.
        if part == "question" or isinstance(text[part], Structured):
            try:
                text[part] = plain(text.get(part, ""))
            except ValueError as error:
                raise ValueError(f"{columns[part]}: {error}") from None
    text = {part: value.strip() for part, value in text.items()}
    text["question"] = with_options(text["question"], cells)
    stem = hashlib.sha256("\n".join((text.get("question", ""), *gold, text["answer_hat"])).encode()).hexdigest()[:16]
    return JudgeRow(
        text.get("id", "") or stem,
        text.get("question", ""),
        gold,
        text["answer_hat"],
        _label(text.get("main", "")),
        _label(text.get("secondary", "")),
        text.get("model", ""),
        alternatives(tables.cell(cells.get(JUDGE_FACTS)).strip()),
    )


def _verdict(cells: Mapping[str, str], name: str) -> Value | None:
    text = cells.get(name, "")
    verdict = next((value for value in VALUES if value == text), None)
    if text and verdict is None:
        raise ValueError(f"{name} is {text[:40]!r} in a row: it must be {', '.join(VALUES)} or empty")
    return verdict


def alternatives(text: str, cut: bool = False) -> tuple[str, ...]:
    """Reference answers of a cell: a list's, or those between "/" with `cut`, or the text itself; blank ones left out, none twice.

    Raises ValueError for an object.

    >>> alternatives('["Ann", "Anne", ""]'), alternatives("km/h"), alternatives("Ann / Anne", cut=True)
    (('Ann', 'Anne'), ('km/h',), ('Ann', 'Anne'))
    """
    value = structure(text)
    if isinstance(value, dict):
        raise ValueError(f"the reference answer is an object ({', '.join(value)[:40]}), no text: write one text, or a list of them")
    items: list[Any] = text.split("/") if cut and value is None else [text] if value is None else value
    flat = [part for item in items for part in (item if isinstance(item, list) else [item])]
    return tuple(dict.fromkeys(spelling for item in flat if (spelling := tables.cell(item).strip()) and re.search(r"\w", spelling)))


def _label(text: str) -> Value | None:
    if not text:
        return None
    if text.casefold() not in _LABELS:
        raise ValueError(f"the label is {text[:40]!r}, must be true, false, {', '.join(VALUES)} (正确, 错误, 无) or blank")
    return _LABELS[text.casefold()]


def read(path: Path) -> list[JudgeRow]:
    """The rows of a table, each with an id of its own.

    Raises BadInput naming the row for a table that lacks a column and for a row that cannot be read.
    """
    rows = tables.read_rows(path)
    try:
        columns = columns_of(rows[0])
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    read_rows = []
    for index, cells in enumerate(rows):
        try:
            row = judge_row(cells, columns)
        except ValueError as error:
            raise BadInput(f"{path}: row {tables.row_number(path, index)}: {error}") from None
        read_rows.append(row if "id" in columns and row.id else row._replace(id=f"row{tables.row_number(path, index)}"))
    return read_rows
