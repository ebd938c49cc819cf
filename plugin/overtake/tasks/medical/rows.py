"""Medical question-and-answer rows: read from a hub, tables or messy JSON lines, told good from bad, and made into training samples."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from overtake import settings
from overtake.data import hub, outputs, tables
from overtake.data.cells import plain, structure
from overtake.data.options import with_options
from overtake.data.tables import BadInput
from overtake.reading.normal_forms import for_likeness
from overtake.reading.tags import split_think
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import prompts, rubrics
from overtake.tasks.medical.columns import HISTORY, ID, KEYWORDS, QUESTION, REFERENCE, RISK, RUBRICS, SOURCE, TOOL
from overtake.tasks.medical.rubrics import Rubrics

COLUMNS = {
    "question": ("question", "问题", "提问", "ask", "query", "instruction", "prompt", "problem", QUESTION),
    "context": ("context", "description", "病情描述", "病例", "input"),
    "answer": ("answer", "回答", "答案", "response", "output", "sanswer", "ideal", "ideal_completions_data", REFERENCE),
    "reasoning": ("reasoning", "think", "思考", "思考过程", "thinking", "complex_cot", "reasoning_content"),
    "keywords": ("keywords", "关键词", KEYWORDS),
    "risk": ("risk", "风险", RISK),
    "rubrics": ("rubrics", "评分项", "评分标准", "checklist", RUBRICS),
    "history": (HISTORY,),
    "owed": ("owed",),
}
"""What a row says -> the names its column may have, in order."""
LICENCES = {"krisfu/delicate_medical_r1_data": "as stated on its ModelScope page; look it up before you publish what was trained on it"}
PLAIN = "answer_plainly"
"""In the column `owed`: a question that only looks dangerous, to be answered like any other."""
_SHORTEST, _LONGEST = 4, 6000
_KEYWORDS = 6

Row = dict[str, Any]
Turns = tuple[dict[str, str], ...]
"""The turns of a conversation before its last question: role and content of each."""


@dataclass(frozen=True)
class Item:
    """One question, with its answer and reasoning where there are any ("" else)."""

    question: str
    answer: str
    reasoning: str
    keywords: tuple[str, ...]
    source: str
    risk: str
    """The kind of risk: what the row says, else what the lexicon finds; "" for none."""
    told: str = ""
    """The kind of risk that the row itself says."""
    owed: str = ""
    """What the row says that an answer owes, e.g. answer_plainly."""
    criteria: Rubrics = ()
    """The row's own."""
    history: Turns = ()

    @property
    def asked(self) -> str:
        """All that the user said, the question last."""
        return asked(self.history, self.question)

    @property
    def med_id(self) -> str:
        """The same for the same question, however it is punctuated."""
        return hashlib.sha256(for_likeness(self.asked).encode()).hexdigest()[:16]


class MedicalRow(NamedTuple):
    """A row of a training file as the rewards read it."""

    id: str
    question: str
    risk: str
    reference: str
    keywords: tuple[str, ...]
    source: str = ""
    criteria: Rubrics = ()
    history: Turns = ()

    @property
    def asked(self) -> str:
        """All that the user said, the question last."""
        return asked(self.history, self.question)

    @classmethod
    def from_columns(cls, cells: Mapping[str, str]) -> Self:
        """The row in a file's columns; one that is not there is as one that is empty.

        Raises ValueError naming the row, column and value of keywords, criteria or turns out of form.
        """
        text = cells.get(KEYWORDS, "")
        try:
            keywords = json.loads(text) if text else []
        except ValueError:
            keywords = None
        if not isinstance(keywords, list) or not all(isinstance(word, str) for word in keywords):
            raise ValueError(f"{KEYWORDS} of {cells.get(ID)!r} is {text[:60]!r}, no JSON list of words: make the files with {TOOL}")
        med_id, question, risk, reference, source = (cells.get(name, "") for name in (ID, QUESTION, RISK, REFERENCE, SOURCE))
        try:
            criteria = rubrics.read(cells.get(RUBRICS, ""))
        except ValueError as error:
            raise ValueError(f"{RUBRICS} of {med_id!r}: {error}") from None
        history = turns(cells.get(HISTORY, ""))
        if history is None:
            raise ValueError(f"{HISTORY} of {med_id!r} is {cells[HISTORY][:60]!r}, no JSON list of turns: make the files with {TOOL}")
        return cls(med_id, question, risk, reference, tuple(keywords), source, criteria, history)

    def to_columns(self) -> dict[str, str]:
        """The same as text columns, which `from_columns` reads back.

        >>> row = MedicalRow("m1", "胃胀怎么办", "", "少量多餐。", ("少量多餐",))
        >>> MedicalRow.from_columns(row.to_columns()) == row, row.to_columns()["med_keywords"]
        (True, '["少量多餐"]')
        """
        keywords = json.dumps(self.keywords, ensure_ascii=False) if self.keywords else ""
        history = json.dumps(self.history, ensure_ascii=False) if self.history else ""
        return {
            **{ID: self.id, QUESTION: self.question, RISK: self.risk, REFERENCE: self.reference, KEYWORDS: keywords, SOURCE: self.source},
            **{RUBRICS: rubrics.to_json(self.criteria), HISTORY: history},
        }


def asked(history: Turns, question: str) -> str:
    """All that the user said in a conversation, the question last.

    >>> asked(({"role": "user", "content": "我怀孕了"}, {"role": "assistant", "content": "嗯"}), "能吃布洛芬吗")
    '我怀孕了\\n能吃布洛芬吗'
    """
    return "\n".join([*(turn["content"] for turn in history if turn["role"] == "user"), question])


def turns(cell: str) -> Turns | None:
    """The turns in a cell, user and assistant by turns; none for an empty cell, None for what is no conversation."""
    if not cell.strip():
        return ()
    entries = structure(cell)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    found = tuple({"role": str(entry.get("role")), "content": str(entry.get("content") or "").strip()} for entry in entries)
    in_turn = all(turn["role"] == ("user", "assistant")[at % 2] and turn["content"] for at, turn in enumerate(found))
    return found if in_turn else None


@dataclass
class Source:
    """Rows of one input: its good items, and how many rows were left out and why."""

    name: str
    licence: str
    rows: int = 0
    items: list[Item] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read(name: str, *, answers: bool = True, needed: bool = True) -> Source:
    """The rows of a hub's data set, of a file or of a folder; of no row more than its reason when it is bad.

    Without `answers` those in it are not used; they are `needed` unless questions alone will do. Raises BadInput for an input that
    cannot be read at all or has no column with questions, and for criteria out of form: a doctor wrote them, so none is left out unsaid.
    """
    source = Source(name.rpartition("::")[2] if hub.is_name(name) else Path(name).name, _licence(name))
    columns: set[str] = set()
    for where, cells in _cells(name, source):
        columns |= cells.keys()
        source.rows += 1
        try:
            item = read_row(cells, source.name, answers, needed)
        except ValueError as error:
            raise BadInput(f"{where}, {error}") from None
        if isinstance(item, str):
            source.left_out[item] += 1
        else:
            source.items.append(item)
    lowered = {column.casefold() for column in columns}
    if not lowered & set(COLUMNS["question"]):
        raise BadInput(f"{name}: no column with questions: name one question (or 问题); there are {', '.join(sorted(columns)) or 'none'}")
    return source


def _cells(name: str, source: Source) -> list[tuple[str, Row]]:
    """The rows of an input, each with its place in words and every cell as text; what is no row at all is counted in `source`."""
    path = Path(name)
    files = sorted(file for file in path.glob("*") if tables.suffix(file) == ".jsonl") if path.is_dir() else [path]
    if not hub.is_name(name) and (tables.suffix(path) == ".jsonl" or (path.is_dir() and files)):
        return [line for file in files for line in _lines(file, source)]
    by_file = [(Path(f"{name}.jsonl"), _from_hub(name))] if hub.is_name(name) else hub.read_any(path)
    return [(f"{file}: row {tables.row_number(file, index)}", cells) for file, rows in by_file for index, cells in enumerate(rows)]


def _from_hub(name: str) -> list[Row]:
    """The rows of a hub's data set, fetched once and kept in the cache folder."""
    cached = settings.load().cache_dir.expanduser() / "datasets" / (re.sub(r"[^\w.-]+", "__", name) + ".jsonl")
    if not cached.is_file():
        rows = [cells for _, rows in hub.read_any(hub.fetch(name)) for cells in rows]
        tables.write_aside({cached: tables.json_lines(rows)})
    return list(tables.read_rows(cached))


def _lines(path: Path, source: Source) -> list[tuple[str, Row]]:
    if not path.is_file():
        raise BadInput(f"{path}: no such file: correct the path")
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(outputs.reading(path).read_bytes().decode("utf-8-sig", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            rows.append((f"{path}: row {number}", {name: tables.cell(cell) for name, cell in value.items()}))
        else:
            source.rows += 1
            source.left_out["no_json_object"] += 1
    return rows


def read_row(cells: Mapping[str, str], source: str = "", answers: bool = True, needed: bool = False) -> Item | str:
    """The item in a row, or why there is none. Raises ValueError naming the column whose criteria are out of form."""
    lowered = {name.strip().casefold(): value for name, value in cells.items()}
    column = {part: next((name for name in names if lowered.get(name, "").strip()), "") for part, names in COLUMNS.items()}
    text = {part: lowered.get(name, "") for part, name in column.items()}
    try:
        criteria = rubrics.read(text["rubrics"])
    except ValueError as error:
        raise ValueError(f"column {column['rubrics']}: {error}") from None
    keywords, history = listed(text["keywords"]), turns(text["history"])
    # HealthBench asks by a conversation, whose last turn is the question, and keeps its answer in an object.
    if (entries := structure(text["question"])) and all(isinstance(entry, dict) for entry in entries):
        spoken = turns(text["question"])
        if not spoken or spoken[-1]["role"] != "user":
            return "no_conversation"
        *earlier, last = spoken
        history, text["question"] = tuple(earlier), last["content"]
    if isinstance(answer_object := structure(text["answer"]), dict) and isinstance(answer_object.get("ideal_completion"), str):
        text["answer"] = answer_object["ideal_completion"]
    if history is None or (history and history[-1]["role"] != "assistant"):
        return "no_conversation"
    try:
        text = {part: value if part in ("keywords", "rubrics", "history") else plain(value).strip() for part, value in text.items()}
    except ValueError:
        return "no_text"
    if not text["question"] and not text["context"]:
        return "no_question"
    question = with_options("\n".join(filter(None, (text["context"], text["question"]))), cells)
    answer, reasoning = (text["answer"], text["reasoning"]) if answers else ("", "")
    if "<think>" in answer or "</think>" in answer:
        thought, rest = split_think(answer)
        if "think>" in rest or ("</think>" not in answer):
            return "unfinished_reasoning"
        answer, reasoning = rest, reasoning or thought
    whole = asked(history, question)
    if "\ufffd" in whole + answer + reasoning:
        return "broken_characters"
    if not len(for_likeness(whole)) >= _SHORTEST or len(whole) > _LONGEST:
        return "question_too_short" if len(whole) <= _LONGEST else "question_too_long"
    if answers and needed and not answer:
        return "no_answer"
    if len(answer) > _LONGEST:
        return "answer_too_long"
    book = medical_book.shipped()
    labelled = text["risk"] if text["risk"] in {kind.id for kind in book.risks.kinds} else ""
    detected = next(iter(book.risks.of(whole)), "")
    risk = detected if text["owed"] == PLAIN else labelled or detected
    return Item(question, answer, reasoning, keywords, source, risk, labelled, text["owed"], criteria, history)


def listed(cell: str) -> tuple[str, ...]:
    """Keywords in a cell: a list, however it is printed, or words between commas."""
    value = structure(cell)
    entries = re.split(r"[,，、;；|]", cell) if value is None else value if isinstance(value, list) else []
    return tuple(dict.fromkeys(text for word in entries if (text := tables.cell(word).strip())))


def _licence(name: str) -> str:
    if hub.is_name(name):
        return LICENCES.get(name.rpartition("::")[2], "see its page on the hub")
    path = Path(name)
    beside = (path if path.is_dir() else path.parent) / "source.yaml"
    try:
        card = yaml.safe_load(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        raise BadInput(f"{beside}: not readable as YAML: correct it, or write licence: NAME alone") from None
    return str(card.get("licence") or card.get("license") or "not stated") if isinstance(card, dict) else "not stated"


def with_keywords(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """The keywords of each item: its own, else the words of its answer that few other answers have (tf-idf), at most 6."""
    import rjieba

    def words(text: str) -> Counter[str]:
        return Counter(word for word in rjieba.cut(text.casefold()) if len(word) > 1 and re.fullmatch(r"[\u4e00-\u9fff]+|[a-z]{4,}", word))

    counted = [words(item.answer) for item in items]
    totals = Counter(word for counts in counted for word in counts)
    total = sum(bool(counts) for counts in counted) or 1

    def best(counts: Counter[str]) -> tuple[str, ...]:
        weight = {word: n * math.log(total / totals[word]) for word, n in counts.items() if 2 <= totals[word] <= total / 4}
        return tuple(sorted(weight, key=lambda word: (-weight[word], word))[:_KEYWORDS])

    return [item.keywords or best(counts) for item, counts in zip(items, counted, strict=True)]


def messages(item: Item, *, answered: bool) -> list[dict[str, Any]]:
    """System and user turn, and with `answered` the answer behind its reasoning, as Qwen3 writes both. Earlier answers are not learnt."""
    chat: list[dict[str, Any]] = prompts.medical_messages(item.question, item.history)
    if not answered or not item.answer:
        return chat
    chat = [turn | {"loss": False} if turn["role"] == "assistant" else turn for turn in chat]
    thought = f"<think>\n{item.reasoning}\n</think>\n\n" if item.reasoning else ""
    return [*chat, {"role": "assistant", "content": thought + item.answer}]


def sample(item: Item, keywords: Sequence[str], *, answered: bool) -> Row:
    """A row of a training file: messages, and the columns that the rewards read."""
    row = MedicalRow(
        item.med_id, item.question, item.risk, item.answer, tuple(keywords), item.source, criteria=item.criteria, history=item.history
    )
    return {"messages": messages(item, answered=answered), **row.to_columns()}


def to_sample(row: Mapping[str, Any]) -> Row | None:
    """A raw row as a sample; None for one that is no example of anything.

    >>> to_sample({"question": "胃胀两天了怎么办", "answer": "少量多餐。"})["messages"][-1]
    {'role': 'assistant', 'content': '少量多餐。'}
    """
    item = read_row({name: tables.cell(value) for name, value in row.items()}, str(row.get("source") or ""), answers=True, needed=True)
    return None if isinstance(item, str) else sample(item, item.keywords, answered=True)
