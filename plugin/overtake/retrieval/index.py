"""First stage on one machine: BM25 over word stems and characters (tantivy, rjieba), in memory or a folder, changed while searched."""

import re
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import rjieba
import tantivy

from overtake.retrieval.corpus import Document

_HAN = re.compile(r"[\u3400-\u9fff]")
_RUN = re.compile(r"[^\W_]+")
_FIELD = "stem"
_STORED = "document"
_VECTOR = "vector"
_COMMON, _FEW = 0.3, 1000
"""Single characters that a larger share of the documents holds are not looked for, where there are so many documents at least."""
_STEMMER = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.stemmer("English")).build()


def normalise(text: str) -> str:
    """Text as retrieval compares it: full-width forms folded, lower case, without characters that UTF-8 cannot hold."""
    return unicodedata.normalize("NFKC", text.encode("utf-8", "ignore").decode("utf-8")).lower()


def stemmed(terms: Sequence[str]) -> list[str]:
    """The words, those of Latin letters without their English endings (Snowball's stemmer, tantivy's own), the others as they are.

    >>> stemmed(["studies", "studied", "running", "虾青素", "café", "omega", "3"])
    ['studi', 'studi', 'run', '虾青素', 'café', 'omega', '3']
    """
    latin = iter(_STEMMER.analyze(" ".join(term for term in terms if term.isascii())))
    return [next(latin) if term.isascii() else term for term in terms]


def words(text: str) -> list[str]:
    """The words of a text, English ones as their stems, then the Han characters of its longer words; punctuation falls away.

    The characters let 工资 meet 薪资. On STARD's raw questions they move nDCG@10 from .490 (words) to .532; docs/rag_service.md
    has the table.

    >>> words("虾青素，怎么吃？"), words("He studies it.")
    (['虾', '青素', '怎么', '吃', '青', '素', '怎', '么'], ['he', 'studi', 'it'])
    """
    plain = normalise(text)
    if plain.isascii():  # where rjieba has nothing to cut
        return stemmed(_RUN.findall(plain))
    # jieba keeps omega-3 whole, and whoever writes omega 3 would miss it.
    terms = stemmed([part for word in rjieba.cut(plain) for part in _RUN.findall(word)])
    return terms + [character for word in terms if len(word) > 1 for character in _HAN.findall(word)]


class Index:
    """Documents that can be searched by BM25 (k1 1.2, b 0.75, tantivy's own).

    >>> index = Index.build([Document("a", "虾青素", "抗氧化"), Document("b", "叶黄素", "护眼")])
    >>> [doc_id for doc_id, _ in index.search("虾青素 护眼", 5)]
    ['b', 'a']
    """

    kind, waits = "stems", False

    def __init__(self, index: tantivy.Index) -> None:
        self._index, self._schema = index, index.schema
        self._searcher = index.searcher()
        self._writer: tantivy.IndexWriter | None = None

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def change(
        self, documents: Iterable[Document] = (), delete: Iterable[str] = (), vectors: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """Add documents, replace those whose id is known, and delete ids (unknown ones too), all in one commit.

        Once it returns, searches see the change, and a folder keeps it through a kill -9 (a power cut is as good as the disk's fsync); a
        change that was broken off is not there at all. The index takes changes from one thread at a time, and searches from any.
        Until tantivy merges segments, documents deleted still count in the words' frequencies: scores move a little, never what is found.
        `vectors`: bytes that are kept beside documents, by id (dense.py).
        Raises ValueError while another process, or another Index, that has changed this folder has neither ended nor called `close`.
        """
        # Cut first: what fails here has changed nothing.
        rows = [(document.id, _row(document, vectors)) for document in documents]
        if self._writer is None:
            try:
                self._writer = self._index.writer(heap_size=16_000_000, num_threads=1)
            except ValueError as error:
                raise ValueError(f"another process changes this index: end it first, or have it call close() ({str(error)[:80]})") from None
        try:
            for doc_id in [*delete, *(doc_id for doc_id, _ in rows)]:
                self._writer.delete_documents_by_term("id", doc_id)
            # The last of those that share an id, as if they had come one after the other.
            for row in dict(rows).values():
                self._writer.add_document(row)
            self._writer.commit()
        except BaseException:
            self._writer.rollback()
            raise
        self._index.reload()
        self._searcher = self._index.searcher()

    def close(self) -> None:
        """End the threads that write, so that another process may change the folder; searches go on."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.wait_merging_threads()

    @classmethod
    def build(
        cls, documents: Iterable[Document], folder: Path | None = None, vectors: Mapping[str, bytes] = MappingProxyType({})
    ) -> "Index":
        """Index documents in memory, or in a new folder that `open` reads again; `vectors` as `change` has them.

        Raises FileExistsError when the folder exists; it appears only when the index is complete.
        """
        if folder is None:
            return cls(_write(documents, None, vectors))
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists: delete it or name another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(documents, aside, vectors)
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Index":
        """Read an index that `build` wrote. Raises ValueError when the folder holds none."""
        if not tantivy.Index.exists(str(folder)):
            raise ValueError(f"{folder}: no index there: write one with Index.build(documents, folder)")
        index = tantivy.Index.open(str(folder))
        for field, value in ((_STORED, b""), (_VECTOR, b""), (_FIELD, "")):
            try:
                tantivy.Query.term_query(index.schema, field, value)
            except ValueError:
                raise ValueError(f"{folder}: an index of an older form, without {field}s: delete it and build it again") from None
        return cls(index)

    def search(self, text: str, k: int) -> list[tuple[str, float]]:
        """Find without the texts: (id, BM25 score)."""
        return [(document.id, score) for document, score in self.find(text, k)]

    def find(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The k best documents and their BM25 scores, best first, equal scores by id.

        The text is words and nothing else: quotes, operators and field names have no meaning. A word that is repeated counts
        again, as BM25 has it. Text without a word finds nothing. Of many documents, characters that most hold are passed over: that
        halves the time and leaves nDCG@10 as it was (docs/rag_service.md).
        """
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one document")
        clauses = []
        searcher = self._searcher  # one state of the index for the whole search, whatever changes meanwhile
        for word, times in _telling(searcher, Counter(words(text))).items():
            term = tantivy.Query.term_query(self._schema, _FIELD, word, index_option="freq")
            clauses.append((tantivy.Occur.Should, tantivy.Query.boost_query(term, float(times)) if times > 1 else term))
        if not clauses:
            return []
        query, limit = tantivy.Query.boolean_query(clauses), k + 1
        hits = searcher.search(query, limit, count=False).hits
        # A tie across the cut would be broken by the place in the index: fetch on until it is whole.
        while len(hits) == limit and hits[-1][0] == hits[k - 1][0]:
            limit *= 4
            hits = searcher.search(query, limit, count=False).hits
        scored = [(_document(searcher, address), score) for score, address in hits]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0].id))[:k]

    def get(self, ids: Collection[str]) -> list[Document]:
        """The documents of these ids, in no order; ids that are unknown are left out."""
        searcher, query = self._searcher, tantivy.Query.term_set_query(self._schema, "id", list(ids))
        return [_document(searcher, address) for _, address in searcher.search(query, max(1, len(ids)), count=False).hits]

    def documents(self) -> Iterator[Document]:
        """Every document, in the order they were built; changes made meanwhile are not seen."""
        searcher = self._searcher
        hits = searcher.search(tantivy.Query.all_query(), max(1, int(searcher.num_docs)), count=False).hits
        return (_document(searcher, address) for _, address in hits)

    def vectors(self) -> Iterator[tuple[str, bytes]]:
        """The id of every document, and the bytes kept beside it; b"" where there are none."""
        searcher = self._searcher
        hits = searcher.search(tantivy.Query.all_query(), max(1, int(searcher.num_docs)), count=False).hits
        for _, address in hits:
            stored = searcher.doc(address)
            yield stored["id"][0], bytes((stored[_VECTOR] or [b""])[0])


def _telling(searcher: tantivy.Searcher, terms: Counter[str]) -> Counter[str]:
    """The terms without the single characters that tell little and cost most, unless nothing else is there to find by."""
    if searcher.num_docs < _FEW:
        return terms
    most = _COMMON * searcher.num_docs
    frequency = {term: searcher.doc_freq(_FIELD, term) for term in terms}
    return Counter({term: terms[term] for term in terms if frequency[term] and (len(term) > 1 or frequency[term] <= most)}) or terms


def _row(document: Document, vectors: Mapping[str, bytes]) -> tantivy.Document:
    terms = " ".join(words(f"{document.title} {document.text}"))
    vector = {_VECTOR: vectors[document.id]} if document.id in vectors else {}
    return tantivy.Document(**{"id": document.id, _FIELD: terms, _STORED: msgspec.json.encode(document), **vector})


def _document(searcher: tantivy.Searcher, address: tantivy.DocAddress) -> Document:
    return msgspec.json.decode(searcher.doc(address)[_STORED][0], type=Document)


def _write(documents: Iterable[Document], folder: Path | None, vectors: Mapping[str, bytes]) -> tantivy.Index:
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("id", stored=True, tokenizer_name="raw")
    schema.add_text_field(_FIELD, tokenizer_name="whitespace", index_option="freq")
    schema.add_bytes_field(_STORED, stored=True)
    schema.add_bytes_field(_VECTOR, stored=True)
    index = tantivy.Index(schema.build(), path=None if folder is None else str(folder))
    writer = index.writer(heap_size=128_000_000, num_threads=1)
    try:
        for document in documents:
            writer.add_document(_row(document, vectors))
        writer.commit()
    finally:
        writer.wait_merging_threads()  # ends the threads that write into the folder
    index.reload()
    return index
