"""First stage past one machine: the embedded engine's BM25 as sparse vectors in Qdrant, all knowledge bases in one collection.

A document's vector holds the term-frequency part of BM25 for each of its words (`index.words`, the same as the embedded engine's), a
question's the times each word stands in it; Qdrant multiplies by the idf, counted over the knowledge base alone. The average length is that
of the knowledge base when a document is written: documents written much earlier keep the average of their day.
"""

import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from overtake.retrieval.corpus import Document
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.index import words

COLLECTION = "overtake"
_VECTOR = "words"
_K1, _B = 1.2, 0.75
_PAGE = 1000


class QdrantIndex:
    """The documents of one knowledge base, (tenant, kb), in a collection that others share: an `Engine`.

    >>> index = QdrantIndex(QdrantClient(":memory:"), ("shop", "default"))
    >>> index.change([Document("a", "虾青素", "抗氧化"), Document("b", "叶黄素", "护眼")])
    >>> [document.id for document, _ in index.find("虾青素 护眼", 5)]
    ['b', 'a']
    """

    def __init__(self, client: QdrantClient, base: tuple[str, str]) -> None:
        self._client, self._base = client, base
        self._mine = models.Filter(
            must=[
                models.FieldCondition(key=key, match=models.MatchValue(value=value))
                for key, value in zip(("tenant", "kb"), base, strict=True)
            ]
        )
        self._lengths: tuple[int, int] | None = None  # documents, and words of all of them; counted at the first change
        with _answers():
            if not client.collection_exists(COLLECTION):
                _create(client)

    def __len__(self) -> int:
        with _answers():
            return self._client.count(COLLECTION, count_filter=self._mine, exact=True).count

    def find(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The k best documents and their scores, best first, equal scores by id (across the cut: as Qdrant has them)."""
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one document")
        terms = Counter(map(_term, words(text)))
        if not terms:
            return []
        with _answers():
            points = self._client.query_points(
                COLLECTION,
                query=models.SparseVector(indices=list(terms), values=[float(times) for times in terms.values()]),
                using=_VECTOR,
                query_filter=self._mine,
                search_params=models.SearchParams(idf=models.IdfCorpusParams(corpus=self._mine)),
                limit=k,
                with_payload=True,
            ).points
        return sorted(((_document(point), point.score) for point in points), key=lambda hit: (-hit[1], hit[0].id))

    def get(self, ids: Collection[str]) -> list[Document]:
        """The documents of these ids, in no order; ids that are unknown are left out."""
        with _answers():
            return [_document(point) for point in self._client.retrieve(COLLECTION, [self._point(one) for one in ids], with_payload=True)]

    def documents(self) -> Iterator[Document]:
        """Every document, a thousand at a time."""
        return (_document(point) for point in self._scroll(["id", "title", "text"]))

    def change(self, documents: Iterable[Document] = (), delete: Iterable[str] = ()) -> None:
        """Add or replace documents and delete ids; seen by every client of the server once this returns.

        Two requests where both are given, documents first: broken off between them, the ids are still there and the call can be repeated.
        """
        given = {document.id: document for document in documents}
        cut = {doc_id: words(f"{document.title} {document.text}") for doc_id, document in given.items()}
        gone = [doc_id for doc_id in delete if doc_id not in given]
        count, total = self._lengths = self._lengths or self._count()
        count, total = count + len(cut), total + sum(map(len, cut.values()))
        average = total / max(1, count)
        points = [self._made(given[doc_id], found, average) for doc_id, found in cut.items()]
        with _answers():
            if points:
                self._client.upsert(COLLECTION, points, wait=True)
                # Replaced and deleted documents still count in the average until the next start.
                self._lengths = count, total
            if gone:
                self._client.delete(COLLECTION, models.PointIdsList(points=[self._point(one) for one in gone]), wait=True)

    def close(self) -> None:
        """Nothing: the client belongs to the caller."""

    def _made(self, document: Document, found: list[str], average: float) -> models.PointStruct:
        norm = _K1 * (1 - _B + _B * len(found) / max(1.0, average))
        terms = {term: times * (_K1 + 1) / (times + norm) for term, times in Counter(map(_term, found)).items()}
        tenant, kb = self._base
        return models.PointStruct(
            id=self._point(document.id),
            vector={_VECTOR: models.SparseVector(indices=list(terms), values=list(terms.values()))},
            payload={
                "tenant": tenant,
                "kb": kb,
                "id": document.id,
                "title": document.title,
                "text": document.text,
                "length": len(found),
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
                points, place = self._client.scroll(COLLECTION, self._mine, limit=_PAGE, offset=place, with_payload=fields)
            yield from points
            if place is None:
                return


def _create(client: QdrantClient) -> None:
    vector = models.SparseVectorParams(modifier=models.Modifier.IDF)
    client.create_collection(COLLECTION, vectors_config={}, sparse_vectors_config={_VECTOR: vector})
    keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    client.create_payload_index(COLLECTION, "tenant", keyword, wait=True)
    client.create_payload_index(COLLECTION, "kb", models.PayloadSchemaType.KEYWORD, wait=True)


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
