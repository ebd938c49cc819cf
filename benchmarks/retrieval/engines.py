"""A class for each engine: `build` indexes documents, `search` answers a question with the ids of the ten best.

Questions come cut into the words of `overtake.retrieval.index.words`, which all index alike; but where `cuts` is true, the engine cuts.
"""

import sqlite3
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from overtake.retrieval import index as embedded
from overtake.retrieval.corpus import Document

Texts = list[tuple[str, str]]
K = 10


class _Ours:
    """Our embedded engine, cutting included; it brings the documents' texts as well."""

    cuts = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "index"

    def build(self, texts: Texts) -> None:
        self._index = embedded.Index.build((Document(key, "", text) for key, text in texts), self._folder)

    def search(self, question: Any) -> list[str]:
        return [document.id for document, _ in self._index.find(question, K)]

    def add(self, texts: Texts) -> None:
        self._index.change(Document(key, "", text) for key, text in texts)


class _OursCut(_Ours):
    """The same with the words of each question looked up, not cut."""

    cuts = False

    def build(self, texts: Texts) -> None:
        super().build(texts)
        self._cut = embedded.words
        embedded.words = lambda text: text if isinstance(text, list) else self._cut(text)  # type: ignore[assignment]


class _Tantivy:
    """Bare tantivy: the same words in the same kind of field, ids alone stored."""

    cuts = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tantivy"
        self._folder.mkdir()

    def build(self, texts: Texts) -> None:
        import tantivy

        self._library = tantivy
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("id", stored=True, tokenizer_name="raw")
        schema.add_text_field("words", tokenizer_name="whitespace", index_option="freq")
        self._index = tantivy.Index(schema.build(), path=str(self._folder))
        self.add(texts)

    def add(self, texts: Texts) -> None:
        writer = self._index.writer(heap_size=128_000_000, num_threads=1)
        for key, text in texts:
            writer.add_document(self._library.Document(id=key, words=" ".join(embedded.words(text))))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, question: Any) -> list[str]:
        clauses = []
        for word, times in Counter(question).items():
            term = self._library.Query.term_query(self._index.schema, "words", word, index_option="freq")
            clauses.append((self._library.Occur.Should, self._library.Query.boost_query(term, float(times)) if times > 1 else term))
        hits = self._searcher.search(self._library.Query.boolean_query(clauses), K, count=False).hits
        return [self._searcher.doc(address)["id"][0] for _, address in hits]


class _RankBm25:
    """rank_bm25's BM25Okapi; a document more is a new index."""

    cuts = False

    def __init__(self, folder: Path) -> None:
        pass

    def build(self, texts: Texts) -> None:
        from rank_bm25 import BM25Okapi

        self._ids = [key for key, _ in texts]
        self._index = BM25Okapi([embedded.words(text) for _, text in texts], k1=1.2)

    def search(self, question: Any) -> list[str]:
        import numpy as np

        scores = self._index.get_scores(question)
        return [self._ids[place] for place in np.argsort(-scores)[:K]]


class _Bm25s:
    """bm25s with its numba backend where numba is there; a document more is a new index."""

    cuts = False

    def __init__(self, folder: Path) -> None:
        pass

    def build(self, texts: Texts) -> None:
        import bm25s

        self._ids = [key for key, _ in texts]
        try:
            self._index = bm25s.BM25(k1=1.2, b=0.75, backend="numba")
        except (ImportError, ValueError):
            self._index = bm25s.BM25(k1=1.2, b=0.75)
        self._index.index([embedded.words(text) for _, text in texts], show_progress=False)
        self._size = min(K, len(texts))

    def search(self, question: Any) -> list[str]:
        known = [word for word in question if word in self._index.vocab_dict]
        if not known:
            return []
        places, _ = self._index.retrieve([known], k=self._size, show_progress=False)
        return [self._ids[place] for place in places[0]]


class _Fts5:
    """SQLite's FTS5 over the words, in a file, ranked by its bm25()."""

    cuts = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fts5.sqlite"

    def build(self, texts: Texts) -> None:
        # One connection for all threads, as FTS5 is usually held; sqlite3 locks it.
        self._open = sqlite3.connect(self._path, check_same_thread=False)
        self._open.execute("create virtual table documents using fts5(id unindexed, words, tokenize='unicode61')")
        self.add(texts)

    def add(self, texts: Texts) -> None:
        rows = ((key, " ".join(embedded.words(text))) for key, text in texts)
        with self._open:
            self._open.executemany("insert into documents values (?, ?)", rows)

    def search(self, question: Any) -> list[str]:
        match = " or ".join(f'"{word}"' for word in dict.fromkeys(question))
        sql = "select id from documents where documents match ? order by rank limit ?"
        return [key for (key,) in self._open.execute(sql, (match, K))] if match else []


class _QdrantEdge:
    """qdrant-edge: Qdrant's engine in process, the BM25 of our Qdrant engine as sparse vectors."""

    cuts = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "edge"
        self._folder.mkdir()

    def build(self, texts: Texts) -> None:
        import qdrant_edge

        self._library = qdrant_edge
        words = qdrant_edge.EdgeSparseVectorParams(modifier=qdrant_edge.Modifier.Idf)
        self._shard = qdrant_edge.EdgeShard.create(str(self._folder), qdrant_edge.EdgeConfig(sparse_vectors={"words": words}))
        self._ids: list[str] = []
        self.add(texts)
        self._shard.optimize()

    def add(self, texts: Texts) -> None:
        cut = [embedded.words(text) for _, text in texts]
        mean = sum(map(len, cut)) / max(1, len(cut))
        points = []
        for (key, _), words_of_text in zip(texts, cut, strict=True):
            norm = 1.2 * (0.25 + 0.75 * len(words_of_text) / mean)
            terms = Counter(zlib.crc32(word.encode()) for word in words_of_text)
            values = [times * 2.2 / (times + norm) for times in terms.values()]
            points.append(self._library.Point(len(self._ids), {"words": self._library.SparseVector(list(terms), values)}))
            self._ids.append(key)
        for start in range(0, len(points), 1000):
            self._shard.update(self._library.UpdateOperation.upsert_points(points[start : start + 1000]))

    def search(self, question: Any) -> list[str]:
        terms = Counter(zlib.crc32(word.encode()) for word in question)
        vector = self._library.SparseVector(list(terms), [float(times) for times in terms.values()])
        request = self._library.QueryRequest(limit=K, query=self._library.Query.Nearest(vector, using="words"))
        return [self._ids[point.id] for point in self._shard.query(request)]


class _MilvusLite:
    """milvus-lite: BM25 by its own function, words by its own jieba, over its own protocol."""

    cuts = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "milvus.db"

    def build(self, texts: Texts) -> None:
        from pymilvus import DataType, Function, FunctionType, MilvusClient

        self._client = MilvusClient(str(self._path))
        schema = self._client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("text", DataType.VARCHAR, max_length=65535, enable_analyzer=True, analyzer_params={"tokenizer": "jieba"})
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function(name="bm25", function_type=FunctionType.BM25, input_field_names=["text"], output_field_names=["words"])
        )
        index = self._client.prepare_index_params()
        index.add_index(field_name="words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        self._client.create_collection("documents", schema=schema, index_params=index)
        self.add(texts)

    def add(self, texts: Texts) -> None:
        for start in range(0, len(texts), 1000):
            self._client.insert("documents", [{"id": key, "text": text} for key, text in texts[start : start + 1000]])
        self._client.flush("documents")
        self._client.load_collection("documents")

    def search(self, question: Any) -> list[str]:
        (hits,) = self._client.search("documents", data=[question], anns_field="words", limit=K, output_fields=["id"])
        return [hit["id"] for hit in hits]


ENGINES: dict[str, tuple[Any, str]] = {
    "ours": (_Ours, ""),
    "ours_cut": (_OursCut, ""),
    "tantivy": (_Tantivy, ""),
    "fts5": (_Fts5, ""),
    "bm25s": (_Bm25s, "bm25s"),
    "rank_bm25": (_RankBm25, "rank_bm25"),
    "qdrant_edge": (_QdrantEdge, "qdrant_edge"),
    "milvus_lite": (_MilvusLite, "milvus_lite"),
}
"""Its class, and the module that must be there."""
