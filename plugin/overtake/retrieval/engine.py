"""Interface of a first stage, whichever engine holds the documents."""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from overtake.retrieval.corpus import Document


class Unavailable(Exception):
    """The engine, or a model that it or the reranker asks, cannot be reached now; the same call may succeed later."""


class Engine(Protocol):
    """The documents of one knowledge base. Every method but `close` raises Unavailable when the engine does not answer."""

    kind: str
    """What finds documents: "stems", or with vectors their model too. Part of a knowledge base's version."""
    waits: bool
    """Calls wait for another machine or for a model: to be made in threads, several at once."""

    def find(self, text: str, k: int) -> list[tuple[Document, float]]:
        """The k best documents, best first, their scores above 0 and comparable within the list. Raises ValueError for k below 1."""

    def get(self, ids: Collection[str]) -> list[Document]:
        """The documents of these ids, in no order; ids that are unknown are left out."""

    def documents(self) -> Iterator[Document]:
        """Every document."""

    def change(self, documents: Iterable[Document] = (), delete: Iterable[str] = ()) -> None:
        """Add or replace documents and delete ids, unknown ones too; an id in both is replaced. Searches see it once this returns."""

    def close(self) -> None:
        """End what writes."""

    def __len__(self) -> int:
        """How many documents there are."""
