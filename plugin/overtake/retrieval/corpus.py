"""Read the files of a knowledge base: documents, questions, relevance labels, lexicon.

The layout is BEIR's: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv` or `qrels/<split>.tsv`, and our own `lexicon.tsv`. A file is refused
whole: every error is a ValueError that names the file, the line and what to do.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overtake.data import outputs


@dataclass(frozen=True, slots=True)
class Document:
    """One entry of a knowledge base; `title` may be empty."""

    id: str
    title: str
    text: str


def read_corpus(path: Path) -> list[Document]:
    """The documents of a BEIR folder (its corpus.jsonl) or of one .jsonl file, in file order.

    A line holds `_id` (or `id`), `text` and, if there is one, `title`.
    """
    documents = []
    for where, key, row in _rows(_file(path, "corpus.jsonl")):
        title, text = row.get("title") or "", _text(where, row)
        if not isinstance(title, str):
            raise ValueError(f'{where}: "title" is {title!r}: write text or leave the key out')
        if not (title.strip() or text.strip()):
            raise ValueError(f"{where}: document {key!r} has neither title nor text: fill it or delete the line")
        documents.append(Document(key, title, text))
    return documents


def read_queries(path: Path) -> dict[str, dict[str, Any]]:
    """The questions of a BEIR folder (its queries.jsonl) or of one .jsonl file, by id.

    Each value is the whole line: `_id` as text, `text`, and whatever else stands there (`user_profile`, `history_summary`).
    """
    queries = {}
    for where, key, row in _rows(_file(path, "queries.jsonl")):
        if not _text(where, row).strip():
            raise ValueError(f"{where}: question {key!r} is blank: fill it or delete the line")
        queries[key] = {**row, "_id": key}
    return queries


def read_qrels(folder: Path, split: str | None = None) -> dict[str, dict[str, int]]:
    """Relevance by question and document from `qrels/<split>.tsv`; without a split from `qrels.tsv`, else from all splits joined.

    A first line may name the columns, in any order; without one they are query-id, corpus-id, score, or TREC's four. Blanks around ids are
    taken off.
    """
    folder = Path(folder)
    splits = sorted((folder / "qrels").glob("*.tsv"))
    if split is not None:
        files = [path for path in splits if path.stem == split]
    else:
        files = [folder / "qrels.tsv"] if (folder / "qrels.tsv").is_file() else splits
    if not files:
        expected = folder / "qrels" / f"{split}.tsv" if split is not None else f"{folder / 'qrels.tsv'} or {folder / 'qrels'}/*.tsv"
        raise ValueError(f"{expected}: no such file; splits there: {', '.join(path.stem for path in splits) or 'none'}")
    qrels: dict[str, dict[str, int]] = {}
    for path in files:
        for where, query, document, score in _labels(path):
            if qrels.setdefault(query, {}).setdefault(document, score) != score:
                raise ValueError(f"{where}: question {query!r} and document {document!r} have two scores: keep one")
    if not qrels:
        raise ValueError(f"{files[0]}: no labels: write query-id, corpus-id and score, separated by tabs")
    return qrels


_NAMES = """
query-id: queryid qid query topic topicid topicno questionid question 查询编号 问题编号 查询 问题
corpus-id: corpusid docid doc docno did document documentid pid passageid passage cid 文档编号 文档id 文档 段落编号
score: score relevance rel relevancy label grade judgment judgement 相关性 相关度 得分 分数 标签
"""
_ROLES = {role: names.split() for role, _, names in (line.partition(":") for line in _NAMES.split("\n") if line)}
"""What each column of labels may be called, in small letters without blanks, - and _."""
_FORMS = "name the columns query-id, corpus-id and score in a first line, or write these three, or TREC's query, 0, document, score"


def _labels(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """("file:line", question, document, score) of every label in a file, its columns told by a header or by their number."""
    places: dict[str, int] = {}
    head: list[str] = []
    width, separator = 0, None
    for where, line in _lines(path):
        if not places:
            separator = "\t" if "\t" in line else None
        cells = [cell.strip() for cell in line.split(separator)]
        if not places:
            width = len(cells)
            places = _places(where, cells)
            head = cells if _named(cells) else []
        if cells == head:
            continue  # joined files repeat it
        if len(cells) != width:
            raise ValueError(f"{where}: {line!r}: write query-id, corpus-id and score as in the first line, in {width} columns")
        query, document, score = (cells[places[role]] for role in _ROLES)
        if not head and width == 4 and cells[1].upper() not in ("0", "Q0"):
            raise ValueError(f"{where}: {line!r} has four columns, but the second is not TREC's 0: {_FORMS}")
        if not re.fullmatch(r"[+-]?\d+(\.0*)?", score) or not query or not document:
            raise ValueError(f"{where}: {line!r}: write query-id, corpus-id and a whole number, separated by tabs")
        yield where, query, document, int(float(score))


def _named(cells: list[str]) -> list[str]:
    """The role of each column of a header ("" for another); nothing for a line that is none."""
    roles = {name: role for role, names in _ROLES.items() for name in names}
    named_roles = [roles.get(re.sub(r"[\s_-]", "", cell.casefold()), "") for cell in cells]
    return (
        named_roles if len(set(filter(None, named_roles))) > 1 or not any(re.fullmatch(r"[+-]?\d+(\.\d*)?", cell) for cell in cells) else []
    )


def _places(where: str, cells: list[str]) -> dict[str, int]:
    """Where each role stands, by the first line of a file."""
    if named := _named(cells):
        for role in _ROLES:
            if (count := named.count(role)) != 1:
                raise ValueError(f"{where}: {count or 'no'} columns hold the {role}; there are {', '.join(cells)}: {_FORMS}")
        return {role: named.index(role) for role in _ROLES}
    if len(cells) not in (3, 4):
        raise ValueError(f"{where}: {len(cells)} columns without a header: {_FORMS}")
    return dict(zip(_ROLES, (0, 1, 2) if len(cells) == 3 else (0, 2, 3), strict=True))


def read_lexicon(path: Path) -> dict[str, str]:
    """The terms of each layman's phrase from a file of `phrase<TAB>terms` lines; a phrase that stands twice has both lines' terms."""
    lexicon: dict[str, str] = {}
    for where, line in _lines(Path(path)):
        phrase, _, terms = (cell.strip() for cell in line.partition("\t"))
        if not phrase or not terms:
            raise ValueError(f"{where}: {line!r}: write the layman's phrase, a tab and the documents' terms")
        lexicon[phrase] = f"{lexicon[phrase]} {terms}" if phrase in lexicon else terms
    return lexicon


def _file(path: Path, name: str) -> Path:
    path = Path(path)
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file}: no such file: give a folder that holds {name}, or a .jsonl file")
    if file.suffix.lower() != ".jsonl":
        raise ValueError(f"{file}: not a .jsonl file: give a folder that holds {name}, or a .jsonl file")
    return file


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", text) of every line that is not blank. Lines end at newlines only: str.splitlines also cuts at U+2028."""
    with outputs.reading(path).open("rb") as file:
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise ValueError(f"{where}: not UTF-8: save the file as UTF-8") from None
            if line.strip():
                yield where, line


def _rows(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """("file:line", id, object) of every line of a .jsonl file."""
    places: dict[str, str] = {}
    for where, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON ({error}): write one object a line") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: {line[:60]!r} is not an object: write one object a line")
        key = row.get("_id", row.get("id"))
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            raise ValueError(f'{where}: "_id" is {key!r}: give every line an "_id" (or "id")')
        if str(key) in places:
            raise ValueError(f"{where}: id {str(key)!r} stands already at {places[str(key)]}: give each line its own")
        places[str(key)] = where
        yield where, str(key), row
    if not places:
        raise ValueError(f"{path}: empty: write one object a line")


def _text(where: str, row: dict[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise ValueError(f'{where}: "text" is {text!r}: give every line a "text"')
    return text
