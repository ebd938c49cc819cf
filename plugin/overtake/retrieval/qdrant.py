"""First stage past one machine: the embedded engine's BM25 as sparse vectors in Qdrant, all knowledge bases in one collection.

With an encoder its vectors stand in the same points, in a collection of that model's; one request brings both orders, dense.py fuses them.

A document's vector holds the term-frequency part of BM25 for each of its words (`index.words`, the same as the embedded engine's), a
question's the times each word stands in it; Qdrant multiplies by the idf, counted over the knowledge base alone. The average length is that
of the knowledge base when a document is written: documents written much earlier keep the average of their day.
"""

import re
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from overtake.retrieval.corpus import Document
from overtake.retrieval.dense import DEPTH, Encoder, text_of
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.index import words
from overtake.retrieval.modes import fuse

COLLECTION = "overtake"
_VECTOR, _DENSE = "stems", "dense"
_K1, _B = 1.2, 0.75
_PAGE = 1000


class QdrantIndex:
    """The documents of one knowledge base, (tenant, kb), in a collection that others share: an `Engine`.

    >>> index = QdrantIndex(QdrantClient(":memory:"), ("shop", "default"))
    >>> index.change([Document("a", "虾青素", "抗氧化"), Document("b", "叶黄素", "护眼")])
    >>> [document.id for document, _ in index.find("虾青素 护眼", 5)]
    ['b', 'a']
    """

    waits = True

    def __init__(self, client: QdrantClient, base: tuple[str, str], encoder: Encoder | None = None) -> None:
        self._client, self._base, self._encoder = client, base, encoder
        self.kind = "stems" if encoder is None else f"stems and {encoder.name}"
        self._collection = COLLECTION if encoder is None else f"{COLLECTION}_{re.sub(r'[^A-Za-z0-9_-]', '_', encoder.name)}"
        self._mine = models.Filter(
            must=[
                models.FieldCondition(key=key, match=models.MatchValue(value=value))
                for key, value in zip(("tenant", "kb"), base, strict=True)
            ]
        )
        self._lengths: tuple[int, int] | None = None  # documents, and words of all of them; counted at the first change
        with _answers():
            if not client.collection_exists(self._collection):
                _create(client, self._collection, encoder)
            elif _VECTOR not in (client.get_collection(self._collection).config.params.sparse_vectors or {}):
                raise ValueError(f"collection {self._collection} is of an older form, without {_VECTOR}: delete it and load it again")

    def __len__(self) -> int:
        with _answers():
            return self._client.count(self._collection, count_filter=self._mine, exact=True).count

    def find(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The k best documents and their scores, best first, equal scores by id (across the cut: as Qdrant has them)."""
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one document")
        terms = Counter(map(_term, words(text)))
        if not terms:
            return []
        sparse = models.SparseVector(indices=list(terms), values=[float(times) for times in terms.values()])
        idf = models.SearchParams(idf=models.IdfCorpusParams(corpus=self._mine))
        if self._encoder is None:
            return self._ask([self._query(sparse, _VECTOR, k, idf)])[0]
        (query,) = self._encoder.encode([text], asking=True)
        depth = max(k, DEPTH)
        both = self._ask([self._query(sparse, _VECTOR, depth, idf), self._query(query.tolist(), _DENSE, depth)])
        by_id = {document.id: document for hits in both for document, _ in hits}
        return [(by_id[doc_id], score) for doc_id, score in fuse([[document.id for document, _ in hits] for hits in both], k)]

    def _query(self, query: Any, using: str, limit: int, params: models.SearchParams | None = None) -> models.QueryRequest:
        return models.QueryRequest(query=query, using=using, filter=self._mine, params=params, limit=limit, with_payload=True)

    def _ask(self, queries: list[models.QueryRequest]) -> list[list[tuple[Document, float]]]:
        with _answers():
            answers = self._client.query_batch_points(self._collection, queries)
        recalls = [[(_document(point), point.score) for point in answer.points] for answer in answers]
        return [sorted(hits, key=lambda hit: (-hit[1], hit[0].id)) for hits in recalls]

    def get(self, ids: Collection[str]) -> list[Document]:
        """The documents of these ids, in no order; ids that are unknown are left out."""
        with _answers():
            points = self._client.retrieve(self._collection, [self._point(doc_id) for doc_id in ids], with_payload=True)
        return [_document(point) for point in points]

    def documents(self) -> Iterator[Document]:
        """Every document, a thousand at a time."""
        return (_document(point) for point in self._scroll(["id", "title", "text"]))

    def change(self, documents: Iterable[Document] = (), delete: Iterable[str] = ()) -> None:
        """Add or replace documents and delete ids; seen by every client of the server once this returns.

        Two requests where both are given, documents first: broken off between them, the ids are still there and the call can be repeated.
        """
        changed = {document.id: document for document in documents}
        cut = {doc_id: words(f"{document.title} {document.text}") for doc_id, document in changed.items()}
        gone = [doc_id for doc_id in delete if doc_id not in changed]
        count, total = self._lengths = self._lengths or self._count()
        count, total = count + len(cut), total + sum(map(len, cut.values()))
        average = total / max(1, count)
        dense = (
            []
            if self._encoder is None or not changed
            else self._encoder.encode(list(map(text_of, changed.values())), asking=False).tolist()
        )
        points = [self._made(changed[doc_id], terms, average, vector) for (doc_id, terms), vector in zip_longest(cut.items(), dense)]
        with _answers():
            if points:
                self._client.upsert(self._collection, points, wait=True)
                # Replaced and deleted documents still count in the average until the next start.
                self._lengths = count, total
            if gone:
                self._client.delete(self._collection, models.PointIdsList(points=[self._point(doc_id) for doc_id in gone]), wait=True)

    def close(self) -> None:
        """Leave all open: the client belongs to the caller."""

    def _made(self, document: Document, terms_of_document: list[str], average: float, dense: list[float] | None) -> models.PointStruct:
        norm = _K1 * (1 - _B + _B * len(terms_of_document) / max(1.0, average))
        terms = {term: times * (_K1 + 1) / (times + norm) for term, times in Counter(map(_term, terms_of_document)).items()}
        tenant, kb = self._base
        vector: dict[str, Any] = {_VECTOR: models.SparseVector(indices=list(terms), values=list(terms.values()))}
        if dense is not None:
            vector[_DENSE] = dense
        return models.PointStruct(
            id=self._point(document.id),
            vector=vector,
            payload={
                "tenant": tenant,
                "kb": kb,
                "id": document.id,
                "title": document.title,
                "text": document.text,
                "length": len(terms_of_document),
            },
        )

    def _point(self, doc_id: str) -> str:
        """A point's id names its knowledge base, so no tenant can write or read another's document by its id."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, repr((*self._base, doc_id))))

    def _count(self) -> tuple[int, int]:
        lengths = [point.payload["length"] for point in self._scroll(["length"]) if point.payload is not None]
        return len(lengths), sum(lengths)

    def _scroll(self, fields: list[str]) -> Iterator[models.Record]:
        place = None
        while True:
            with _answers():
                points, place = self._client.scroll(self._collection, self._mine, limit=_PAGE, offset=place, with_payload=fields)
            yield from points
            if place is None:
                return


def _create(client: QdrantClient, name: str, encoder: Encoder | None) -> None:
    sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
    dense = {}
    if encoder is not None:
        dense[_DENSE] = models.VectorParams(size=encoder.encode(["size"], asking=False).shape[1], distance=models.Distance.DOT)
    client.create_collection(name, vectors_config=dense, sparse_vectors_config={_VECTOR: sparse})
    keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    client.create_payload_index(name, "tenant", keyword, wait=True)
    client.create_payload_index(name, "kb", models.PayloadSchemaType.KEYWORD, wait=True)


def _term(word: str) -> int:
    # Of 200,000 words some 5 pairs share a number; a shared number adds their weights.
    return zlib.crc32(word.encode())


def _document(point: models.Record | models.ScoredPoint) -> Document:
    payload = point.payload or {}
    return Document(payload["id"], payload["title"], payload["text"])


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except (ResponseHandlingException, UnexpectedResponse) as error:
        raise Unavailable(
            f"Qdrant does not answer ({str(error)[:200]}): see that it runs and that --url and QDRANT_API_KEY are right"
        ) from error
