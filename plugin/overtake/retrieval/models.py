"""The models that may stand beside the words: an encoder for hybrid retrieval and a cross-encoder, by address or from a folder.

Settings say which: OVERTAKE_EMBEDDING_* and OVERTAKE_RERANKER_*. With a base URL the model is asked there; without one its name is a folder
that sentence-transformers reads. A model that does not answer is Unavailable, and a question then a 503: nothing falls back to words.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from overtake import settings
from overtake.remote import ranking
from overtake.remote.faults import Fault
from overtake.retrieval.corpus import Document
from overtake.retrieval.dense import Encoder, text_of
from overtake.retrieval.engine import Unavailable


class RemoteEncoder:
    """An OpenAI-compatible embedding endpoint; questions and documents are sent as they are."""

    def __init__(self, base_url: str, model: str, key: str = "") -> None:
        self.name, self._asked = model, (base_url, model, key)

    def encode(self, texts: Sequence[str], *, asking: bool) -> np.ndarray:
        """See Encoder."""
        with _answers("the embedding endpoint", "OVERTAKE_EMBEDDING_BASE_URL, _MODEL and _API_KEY"):
            return _unit(np.array(ranking.embed(texts, *self._asked), np.float32))


class LocalEncoder:
    """A sentence-transformers folder; its own prompts, where it has them, tell questions from documents."""

    def __init__(self, folder: Path) -> None:
        self.name = _folder(folder, "OVERTAKE_EMBEDDING").name
        self._model = _library().SentenceTransformer(str(folder), local_files_only=True)
        self._turn = threading.Lock()  # tokenizers refuses two threads at once

    def encode(self, texts: Sequence[str], *, asking: bool) -> np.ndarray:
        """See Encoder."""
        encode = self._model.encode_query if asking else self._model.encode_document
        with self._turn:
            return _unit(np.asarray(encode(list(texts), show_progress_bar=False, convert_to_numpy=True), np.float32))


class RemoteReranker:
    """A cross-encoder behind /rerank, whose relevance is already in [0, 1]; see remote/ranking.py for the forms."""

    def __init__(self, base_url: str, model: str = "", key: str = "") -> None:
        self.name, self._asked = model or base_url, (base_url, model, key)

    def score(self, query: str, documents: Sequence[Document]) -> list[float]:
        """See Scorer. Raises Unavailable."""
        with _answers("the reranker", "OVERTAKE_RERANKER_BASE_URL, _MODEL and _API_KEY"):
            return ranking.rerank(query, list(map(text_of, documents)), *self._asked)


class LocalReranker:
    """A sentence-transformers CrossEncoder folder with one output, whose logit the sigmoid puts into [0, 1]."""

    def __init__(self, folder: Path) -> None:
        self.name = _folder(folder, "OVERTAKE_RERANKER").name
        self._model = _library().CrossEncoder(str(folder), local_files_only=True)
        if self._model.num_labels != 1:
            raise ValueError(f"{folder}: a classifier of {self._model.num_labels} labels: give a cross-encoder with one, the relevance")
        self._turn = threading.Lock()

    def score(self, query: str, documents: Sequence[Document]) -> list[float]:
        """See Scorer."""
        import torch

        pairs = [(query, text_of(document)) for document in documents]
        with self._turn:
            return [float(score) for score in self._model.predict(pairs, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False)]


def encoder() -> Encoder | None:
    """The encoder that the settings name, None for none. Raises ValueError for a folder that cannot be read and for half a setting."""
    chosen = settings.load()
    url, model, key = chosen.embedding_base_url, chosen.embedding_model, chosen.embedding_api_key.get_secret_value()
    if url and not model:
        raise ValueError(f"OVERTAKE_EMBEDDING_BASE_URL is {url} and no model is named: set OVERTAKE_EMBEDDING_MODEL")
    if url:
        return RemoteEncoder(url, model, key)
    return LocalEncoder(Path(model)) if model else None


def reranker() -> RemoteReranker | LocalReranker | None:
    """The cross-encoder that the settings name; None leaves the lexical one. Raises ValueError as `encoder` does."""
    chosen = settings.load()
    url, model, key = chosen.reranker_base_url, chosen.reranker_model, chosen.reranker_api_key.get_secret_value()
    if url:
        return RemoteReranker(url, model, key)
    return LocalReranker(Path(model)) if model else None


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _folder(folder: Path, setting: str) -> Path:
    if not folder.is_dir():
        raise ValueError(f"{setting}_MODEL is {folder}, which is no folder: name one, or set {setting}_BASE_URL for a model by address")
    return folder.resolve()


def _library() -> Any:
    try:
        import sentence_transformers  # seconds of import that only a model on this machine is worth
    except ImportError as error:
        raise ValueError(f"a model from a folder needs sentence-transformers ({error}): pip install -e '.[encoders]'") from None
    return sentence_transformers


@contextmanager
def _answers(what: str, names: str) -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        raise Unavailable(f"{what} gave no usable answer ({str(fault)[:200]}): see that it runs and that {names} are right") from None
