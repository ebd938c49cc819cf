"""Embeddings and relevance scores from models by address, for a service that must itself answer now.

One attempt of SECONDS, of several servers at the next one where the first fails, and no waiting out of an outage as the gateway does:
whoever asks here is asked too, and says 503. Nothing is cached: the vectors of documents are kept by whoever asked for them, and a
question's are cheap.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from overtake.remote import servers
from overtake.remote.faults import malformed, of_error
from overtake.remote.http import post
from overtake.remote.process import loop

SECONDS = 20.0
_TEXTS = 64
"""Texts of one request for embeddings; vLLM, TEI and OpenAI all take as many."""


def embed(texts: Sequence[str], base_url: str, model: str, key: str = "") -> list[list[float]]:
    """One vector a text from an OpenAI-compatible `base_url`/embeddings, all of one length. Raises Fault."""
    parts = [list(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS)]
    vectors = [vector for part in parts for vector in _ask(base_url, "/embeddings", {"model": model, "input": part}, key, _vectors)]
    if len(vectors) != len(texts) or len(set(map(len, vectors))) > 1:
        raise malformed(f"{len(texts)} texts were sent, {len(vectors)} vectors came", [len(vector) for vector in vectors][:100])
    return vectors


def rerank(query: str, texts: Sequence[str], base_url: str, model: str = "", key: str = "") -> list[float]:
    """The relevance in [0, 1] of each text to the query, from `base_url`/rerank. Raises Fault.

    With a model's name the form of Jina, Cohere and vLLM is sent, without one that of TEI, which serves one model and names none. All four
    answer with numbers in [0, 1] by default; other numbers are logits, which no threshold fits, and are refused.
    """
    if model:
        body: dict[str, Any] = {"model": model, "query": query, "documents": list(texts), "top_n": len(texts), "return_documents": False}
    else:
        body = {"query": query, "texts": list(texts)}
    scores = _ask(base_url, "/rerank", body, key, _scores)
    if sorted(scores) != list(range(len(texts))):
        raise malformed(f"{len(texts)} texts were sent, scores came for {len(scores)}", sorted(scores)[:100])
    return [scores[place] for place in range(len(texts))]


def _ask(base_url: str, path: str, body: object, key: str, parse: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(SECONDS):
            return await servers.ask(base_url, lambda url: post(url.rstrip("/") + path, body, key, proxies=True))

    try:
        answer = asyncio.run_coroutine_threadsafe(bounded(), loop()).result()
    except Exception as error:  # noqa: BLE001 - whatever broke the request ends as a Fault
        raise of_error(error, SECONDS) from None
    return parse(answer)


def _vectors(answer: Any) -> list[list[float]]:
    """
    >>> _vectors({"data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]})
    [[1, 0], [0, 1]]
    """
    rows: Any = answer.get("data") if isinstance(answer, dict) else None
    try:
        vectors = [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]
        if all(vector and all(math.isfinite(value) for value in vector) for vector in vectors):
            return vectors
    except (KeyError, TypeError):
        pass
    raise malformed('the answer holds no "data" of {"index", "embedding": numbers}', answer)


def _scores(answer: Any) -> dict[int, float]:
    """
    >>> _scores({"results": [{"index": 1, "relevance_score": 0.9}]}), _scores([{"index": 0, "score": 0.2}])
    ({1: 0.9}, {0: 0.2})
    """
    rows: Any = answer.get("results") if isinstance(answer, dict) else answer
    try:
        by_index = {row["index"]: float(row["relevance_score"] if "relevance_score" in row else row["score"]) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise malformed('the answer holds no "results" of {"index", "relevance_score"}, nor TEI\'s list', answer) from None
    if not all(0 <= score <= 1 for score in by_index.values()):
        raise malformed("a score lies outside [0, 1]: have the server apply the sigmoid", answer)
    return by_index
