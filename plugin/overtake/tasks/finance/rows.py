"""Rows of question-answering problems as the finance tools pass them on: `id, question, gold_answer, type, source`."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from overtake.data import tables
from overtake.data.cells import no_text, plain
from overtake.data.options import with_options
from overtake.data.tables import BadInput
from overtake.reading import closed_sets
from overtake.reading.boxed import boxed
from overtake.reading.normal_forms import for_likeness
from overtake.reading.numbers import read_quantity, same_quantity
from overtake.reading.tags import split_think
from overtake.tasks.finance.columns import GOLD, ID, QUESTION, SOURCE, TYPE
from overtake.tasks.finance.golds import gold_of_solution
from overtake.tasks.finance.question_types import question_type

COLUMNS = ("id", "question", "gold_answer", "type", "source")
TYPES = ("calculation", "concept", "analysis", "reasoning")
LONGEST = 20_000
"""Characters of a question that are still asked; financial reports come with their tables."""

ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "_id", "编号", "序号", "题号"),
    "question": ("question", "问题", "题目", "提问", "query", "prompt", "instruction", "problem"),
    "gold_answer": ("gold_answer", "gold", "答案", "标准答案", "参考答案", "正确答案", "answer", "label", "output", "solution", "response"),
    "type": ("type", "类型", "题型", "问题类型", "question_type"),
    "source": ("source", "来源", "数据来源"),
}
"""Names under which each column is found in tables of others; the first there is, is taken."""
CONTEXT = ("context", "background", "passage", "材料", "背景", "资料", "案例")
"""Columns of what a question is asked about; it stands before the question."""
_TYPE_NAMES = {
    **{name: name for name in TYPES},
    **{f"{word}{end}": name for word, name in zip(("计算", "概念", "分析", "推理"), TYPES, strict=True) for end in ("", "题")},
}
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LABEL = re.compile(r"^(?:(?:最终|正确|标准|参考)?答案|答|(?:final |correct )?answer)\s*(?:[:：]|[是为])\s*", re.IGNORECASE)
_STATED = re.compile(r"^\W*(?:(?:最终|正确|标准|参考)?答案|(?:final |correct )?answer)\s*[:：]\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_WORKING = re.compile(
    r"(?:^|(?<=[\n。；;，,]))\s*[【\[(（]?(?:答案)?(?:解析|详解|解答过程|解题过程|解题思路|计算过程|推导过程|过程|解释|说明|理由|分析|思路|解)\s*[】\])）]?\s*[:：]"
    r"|(?:^|(?<=[\n.;,]))\s*(?:explanation|solution|working|reasoning|rationale|calculation|analysis)\s*:"
    r"|(?<=[\n。；;，,.])\s*(?:因为|由于|because\b|since\b)(?=.*[=＝])",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[，。；;、\n（(]|,(?!\d)")
_NUMBER = re.compile(r"[-−－]?\d[\d,]*(?:\.\d+)?")

Row = dict[str, str]


class FinanceRow(NamedTuple):
    """A problem of a training file as the rewards read it."""

    id: str
    question: str
    gold: str
    type: str
    source: str = ""

    @classmethod
    def from_columns(cls, cells: Mapping[str, str]) -> Self:
        """The row in a file's columns; one that is not there is as one that is empty."""
        return cls(*(cells.get(name, "") for name in (ID, QUESTION, GOLD, TYPE, SOURCE)))

    @classmethod
    def of(cls, problem: Row) -> Self:
        """A row of the finance tools."""
        return cls(*(problem[name] for name in COLUMNS))

    def problem(self) -> Row:
        """The same as the finance tools write it."""
        return dict(zip(COLUMNS, self, strict=True))

    def to_columns(self) -> dict[str, str]:
        """The same as text columns, which `from_columns` reads back."""
        return dict(zip((ID, QUESTION, GOLD, TYPE, SOURCE), self, strict=True))


def columns(names: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Return which of a table's columns is which of ours, by `named` and then by `ALIASES`; what it lacks is left out.

    Raises BadInput, to be told the file's name by the caller, when `named` names a column that is not there, or none is found for the
    question or the gold answer.

    >>> columns(["问题", "答案", "备注"], {})
    {'question': '问题', 'gold_answer': '答案'}
    """
    if absent := [name for name in named.values() if name not in names]:
        raise BadInput(f"no column {', '.join(absent)}; the columns there are {', '.join(names)}")
    by_part = {}
    for ours, aliases in ALIASES.items():
        if name := named.get(ours) or next((alias for alias in aliases if alias in names), ""):
            by_part[ours] = name
    for ours, option in (("question", "--question-column"), ("gold_answer", "--answer-column")):
        if ours not in by_part:
            accepted = ", ".join(ALIASES[ours])
            raise BadInput(f"no column {accepted}; the columns there are {', '.join(names)}: name one with {option}")
    return by_part


def problem(cells: Mapping[str, str], of: Mapping[str, str], source: str) -> Row:
    """A row of another table as a problem, by `columns`; `source` stands in where it names none.

    A type that is not one of ours, in English or Chinese, is told by rule (`question_type`); an id that lacks is made of the question.
    Of a calculation written out ("80-60=20") the result is the gold answer.

    >>> of = {"question": "instruction", "gold_answer": "output"}
    >>> problem({"instruction": "净现值为负时应如何决策？", "output": "<think>…</think><answer>放弃</answer>"}, of, "dianjin")
    {'id': 'fin-5b7b016e2642', 'question': '净现值为负时应如何决策？', 'gold_answer': '放弃', 'type': 'reasoning', 'source': 'dianjin'}
    """
    stem = _text(cells[of["question"]])
    asked_about = {} if no_text(cells[of["question"]]) else cells  # a fault stays as it is, to be told
    if of["question"] == "instruction" and cells.get("input", "").strip():
        stem = f"{stem}\n{cells['input'].strip()}"
    context = [_text(cells[name]) for name in CONTEXT if name in asked_about and name not in of.values()]
    question = with_options("\n".join(filter(None, (*context, stem))), asked_about)
    gold = gold_answer(_text(cells[of["gold_answer"]]))
    values = {name: cells[of[name]].strip() if name in of else "" for name in ("id", "type", "source")}
    kind = _TYPE_NAMES.get(values["type"].lower()) or question_type(stem, gold)
    if kind == "calculation" and re.search("[=＝≈]", gold) and read_quantity(result := gold_of_solution(gold)) is not None:
        gold = stated_first(gold, result) or result
    return {
        "id": values["id"] or f"fin-{made_id(question)}",
        "question": question,
        "gold_answer": gold,
        "type": kind,
        "source": values["source"] or source,
    }


def _text(cell: str) -> str:
    """The text of a cell; what is no text stays as it is, for `fault` to tell."""
    return (cell if no_text(cell) else plain(cell)).strip()


def made_id(question: str) -> str:
    """An id for a question that has none of its own."""
    return hashlib.sha256(question.encode()).hexdigest()[:12]


def gold_answer(text: str) -> str:
    r"""The answer alone where a whole solution was given: the last answer tag's inside, of that what its box says, without its working.

    Boxes of options are taken together; boxes that say different numbers leave all of the text, which no rule can grade then. A working
    begins at a word for it (解析, Explanation) at the beginning of a line or sentence; 答案 before an answer is taken off.

    >>> gold_answer("<think>…</think> <answer>选 \\boxed{B}</answer>"), gold_answer(" 800万元 "), gold_answer(r"增长率为\boxed{12.5}\%")
    ('B', '800万元', '12.5%')
    >>> gold_answer("答案：800万元\n解析：1000/1.25=800"), gold_answer(r"选\boxed{A}和\boxed{C}")
    ('800万元', 'A,C')
    """
    answers = _ANSWER.findall(text)
    rest = answers[-1] if answers else split_think(text)[1]
    if boxes := list(dict.fromkeys(box for box in boxed(rest) if box)):
        if len(boxes) == 1:
            return boxes[0]
        if all(closed_sets.options(box) for box in boxes):
            return ",".join(boxes)
        return rest.strip()
    stated = [statement.strip() for statement in _STATED.findall(rest)]
    answer = stated[-1] if stated and _WORKING.search(rest) else _LABEL.sub("", rest.strip(), count=1)
    working = _WORKING.search(answer)
    return answer[: working.start()].strip(" \n\t，,；;。.") if working and answer[: working.start()].strip() else answer.strip()


def stated_first(gold: str, result: str) -> str:
    """The answer that a gold begins with, where the calculation behind it comes to the same number; "" where it does not.

    >>> stated_first("800万元（1000/1.25=800）", "800"), stated_first("收入1000万元，成本为1000-200=800万元", "800万元")
    ('800万元', '')
    """
    first = _CLAUSE.split(gold, maxsplit=1)[0].strip()
    if not first or re.search("[=＝≈]", first) or read_quantity(first) is None:
        return ""
    first_number = _NUMBER.search(first)
    result_number = _NUMBER.search(result)
    same = bool(first_number and result_number) and read_quantity(first_number[0]) == read_quantity(result_number[0])  # type: ignore[index]
    return first if same or same_quantity(first, result) else ""


def read(path: Path, also: Sequence[str] = ()) -> list[Row]:
    """The rows of a file that holds the columns of a problem and those named `also`, blank cells and all.

    Raises BadInput when a column is missing.
    """
    rows = tables.read_rows(path)
    if missing := [name for name in (*COLUMNS, *also) if name not in rows[0]]:
        maker = "tools/generate.py --task finance" if also else "tools/prepare_finance.py"
        raise BadInput(f"{path}: no column {', '.join(missing)}: give the file that {maker} writes; there are {', '.join(rows[0])}")
    return rows


def rejection_reason(row: Row) -> str | None:
    """Return why a row is no problem that can be asked and scored; None for one that is.

    >>> rejection_reason({"id": "a", "question": "2022年营收？", "gold_answer": "", "type": "calculation", "source": "x"})
    'the gold answer is blank'
    """
    for what in ("question", "gold_answer"):
        if why := no_text(row[what]):
            return f"the {what.replace('_', ' ')}: {why}"
    if not row["question"].strip():
        return "the question is blank"
    if not for_likeness(row["question"]):
        return "the question holds no word"
    if len(row["question"]) > LONGEST:
        return f"the question is over {LONGEST:,} characters"
    if not row["gold_answer"].strip():
        return "the gold answer is blank"
    if not row["id"].strip():
        return "the id is blank"
    if row["type"] not in TYPES:
        return f"the type is {row['type'][:40]!r}, none of {', '.join(TYPES)}"
    return None


def usable(path: Path, rows: Sequence[Row], key: Sequence[str] = ("id",)) -> tuple[list[Row], list[dict[str, str | int]]]:
    """Return (rows to use, rows rejected with their number and reason); `key` names the columns that tell two rows apart."""
    numbers: dict[tuple[str, ...], int] = {}
    usable_rows: list[Row] = []
    rejected: list[dict[str, str | int]] = []
    for index, row in enumerate(rows):
        number, mark = tables.row_number(path, index), tuple(row[name] for name in key)
        reason = rejection_reason(row)
        if not reason and mark in numbers:
            reason = f"{' '.join(key)} {' '.join(mark)!r} stands already in row {numbers[mark]}"
        if reason:
            rejected.append({"row": number, "reason": reason, "question": row["question"][:200]})
            continue
        numbers[mark] = number
        usable_rows.append(row)
    return usable_rows, rejected
