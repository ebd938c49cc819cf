"""Words and meaning together: dense vectors beside the embedded engine's BM25, both orders fused, each DEPTH deep."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from overtake.retrieval.corpus import Document
from overtake.retrieval.index import Index, words
from overtake.retrieval.modes import fuse

DEPTH = 50
_LITTLE_ENDIAN = np.dtype("<f4")


class Encoder(Protocol):
    """Interface of an embedding model for hybrid retrieval."""

    name: str
    """Of the model; vectors of different names are never compared."""

    def encode(self, texts: Sequence[str], *, asking: bool) -> np.ndarray:
        """Vectors of length 1, float32 [texts, dimensions]; `asking`: they are questions. Any thread may call. Raises Unavailable."""


def text_of(document: Document) -> str:
    """Text of a document that is embedded."""
    return f"{document.title}\n{document.text}".strip()


class Vectors:
    """Vectors by id, compared one by one with numpy: exact, and linear in their number.

    Searches in other threads see one state: rows are only ever appended, and what is replaced or deleted is marked in a copy of `alive`.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._state: tuple[list[str], np.ndarray, np.ndarray] = ([], np.empty((0, 0), np.float32), np.empty(0, bool))

    def __len__(self) -> int:
        return len(self._places)

    def change(self, added: dict[str, np.ndarray], deleted: Iterable[str]) -> None:
        """Delete ids, then add or replace vectors. One thread at a time."""
        ids, matrix, alive = self._state
        gone = [self._places.pop(doc_id) for doc_id in {*deleted, *added} if doc_id in self._places]
        alive = alive.copy()
        alive[gone] = False
        used = len(ids)
        if added:
            new = np.stack(list(added.values()))
            if used + len(new) > len(matrix):
                live_rows = np.flatnonzero(alive[:used])
                ids = [ids[place] for place in live_rows]
                room = np.empty((max(5 * (len(live_rows) + len(new)) // 4, 1024), new.shape[1]), np.float32)
                room[: len(live_rows)] = matrix[live_rows].reshape(len(live_rows), new.shape[1])
                matrix, alive, used = room, np.zeros(len(room), bool), len(live_rows)
                alive[:used] = True
                self._places = {doc_id: place for place, doc_id in enumerate(ids)}
            matrix[used : used + len(new)] = new
            alive[used : used + len(new)] = True
            self._places.update((doc_id, used + place) for place, doc_id in enumerate(added))
            ids = [*ids, *added]
        self._state = (ids, matrix, alive)

    def nearest(self, query: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k ids of the highest dot product, best first, equal ones by id."""
        ids, matrix, alive = self._state
        if not ids:
            return []
        scores = matrix[: len(ids)] @ query
        scores[~alive[: len(ids)]] = -np.inf
        best = np.argpartition(-scores, k - 1)[:k] if k < len(ids) else np.arange(len(ids))
        hits = [(ids[place], float(scores[place])) for place in best if scores[place] > -np.inf]
        return sorted(hits, key=lambda item: (-item[1], item[0]))


class HybridIndex:
    """The embedded engine with an encoder: an `Engine` whose order is fused from BM25 and the vectors.

    A document's vector is kept in the same commit as its text, so no kill -9 can part them; `Vectors` is read from there at the start.
    """

    waits = True

    def __init__(self, index: Index, encoder: Encoder) -> None:
        """Raises ValueError when a document has no vector of this encoder."""
        self._index, self._encoder, self._vectors = index, encoder, Vectors()
        self.kind = f"stems and {encoder.name}"
        vectors: dict[str, np.ndarray] = {}
        for doc_id, vector in index.vectors():
            name, _, numbers = vector.partition(b"\0")
            if name.decode() != encoder.name:
                origin = f"of {name.decode()!r}" if name else "of no model"
                raise ValueError(
                    f"document {doc_id!r} has a vector {origin}, not of {encoder.name!r}: load the documents into a new folder"
                )
            vectors[doc_id] = np.frombuffer(numbers, _LITTLE_ENDIAN)
        self._vectors.change(vectors, ())

    @classmethod
    def build(cls, documents: Iterable[Document], encoder: Encoder, folder: Path | None = None) -> "HybridIndex":
        """Index documents in memory or in a new folder; see Index.build. Raises Unavailable."""
        whole = list(documents)
        return cls(Index.build(whole, folder, _kept(encoder, whole)[1]), encoder)

    def __len__(self) -> int:
        return len(self._index)

    def find(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The k best documents by fused rank, best first; text without a word finds none. Raises Unavailable, ValueError for k below 1."""
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one document")
        lexical = self._index.find(text, max(k, DEPTH))
        if not words(text):
            return []
        (query,) = self._encoder.encode([text], asking=True)
        by_id = {document.id: document for document, _ in lexical}
        near = [doc_id for doc_id, _ in self._vectors.nearest(query, max(k, DEPTH))]
        by_id |= {document.id: document for document in self._index.get([doc_id for doc_id in near if doc_id not in by_id])}
        # What went between the two searches is in neither order.
        orders = [document.id for document, _ in lexical], [doc_id for doc_id in near if doc_id in by_id]
        return [(by_id[doc_id], score) for doc_id, score in fuse(orders, k)]

    def get(self, ids: Collection[str]) -> list[Document]:
        """The documents of these ids, in no order; ids that are unknown are left out."""
        return self._index.get(ids)

    def documents(self) -> Iterator[Document]:
        """Every document."""
        return self._index.documents()

    def change(self, documents: Iterable[Document] = (), delete: Iterable[str] = ()) -> None:
        """Add or replace documents and delete ids, text and vector in one commit; nothing is changed when the encoder is Unavailable."""
        changed, gone = list({document.id: document for document in documents}.values()), list(delete)
        vectors, stored = _kept(self._encoder, changed)
        self._index.change(changed, gone, stored)
        self._vectors.change(vectors, gone)

    def close(self) -> None:
        """End what writes."""
        self._index.close()


def _kept(encoder: Encoder, documents: Sequence[Document]) -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """Each document's vector, and the bytes that are kept of it: the model's name, a zero, float32."""
    if not documents:
        return {}, {}
    vectors = dict(zip((document.id for document in documents), encoder.encode(list(map(text_of, documents)), asking=False), strict=True))
    return vectors, {doc_id: encoder.name.encode() + b"\0" + vector.astype(_LITTLE_ENDIAN).tobytes() for doc_id, vector in vectors.items()}
