"""Read the files of a knowledge base: documents, questions, relevance labels, lexicon.

The layout is BEIR's: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv` or `qrels/<split>.tsv`, and our own `lexicon.tsv`. A file is refused
whole: every error is a ValueError that names the file, the line and what to do.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    """Relevance by question and document from `qrels/<split>.tsv`; without a split from `qrels.tsv`, else from all splits joined."""
    folder = Path(folder)
    splits = sorted((folder / "qrels").glob("*.tsv"))
    if split is not None:
        files = [path for path in splits if path.stem == split]
    else:
        files = [folder / "qrels.tsv"] if (folder / "qrels.tsv").is_file() else splits
    if not files:
        wanted = folder / "qrels" / f"{split}.tsv" if split is not None else f"{folder / 'qrels.tsv'} or {folder / 'qrels'}/*.tsv"
        raise ValueError(f"{wanted}: no such file; splits there: {', '.join(path.stem for path in splits) or 'none'}")
    qrels: dict[str, dict[str, int]] = {}
    for path in files:
        for where, line in _lines(path):
            cells = line.split("\t")
            if cells[-1] == "score":
                continue
            try:
                query, document, score = cells[0], cells[1], int(cells[2])
            except (IndexError, ValueError):
                raise ValueError(f"{where}: {line!r}: write query-id, corpus-id and a whole number, separated by tabs") from None
            if qrels.setdefault(query, {}).setdefault(document, score) != score:
                raise ValueError(f"{where}: question {query!r} and document {document!r} have two scores: keep one")
    if not qrels:
        raise ValueError(f"{files[0]}: no labels: write query-id, corpus-id and score, separated by tabs")
    return qrels


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
    if file.suffix != ".jsonl":
        raise ValueError(f"{file}: not a .jsonl file: give a folder that holds {name}, or a .jsonl file")
    return file


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", text) of every line that is not blank. Lines end at newlines only: str.splitlines also cuts at U+2028."""
    with path.open("rb") as file:
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
    seen: dict[str, str] = {}
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
        if str(key) in seen:
            raise ValueError(f"{where}: id {str(key)!r} stands already at {seen[str(key)]}: give each line its own")
        seen[str(key)] = where
        yield where, str(key), row
    if not seen:
        raise ValueError(f"{path}: empty: write one object a line")


def _text(where: str, row: dict[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise ValueError(f'{where}: "text" is {text!r}: give every line a "text"')
    return text
