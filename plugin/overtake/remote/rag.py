"""The RAG service's wire contract (spec 1.2, 1.7): ask for a recall list, read it strictly."""

from dataclasses import dataclass
from typing import Any

import httpx

from overtake import settings
from overtake.remote.gateway import Call, Gateway, Unusable, UnusableAgain, client, gateway

_PATH = "/api/chat/general_rag"


@dataclass(frozen=True)
class Hit:
    """One document of a recall list; `doc_id` is None when the service does not name its documents."""

    doc_id: str | None
    score: float
    """`reranker_score`, of the original query against the document, in [0, 1]."""


def rag_gateway() -> Gateway:
    """The gateway all retrieval calls go through.

    Raises SettingsError when no service is set.
    """
    chosen = settings.load()
    if not chosen.rag_url:
        raise settings.SettingsError("no RAG service is set: export OVERTAKE_RAG_URL, or start ours with tools/serve_rag.py")
    return gateway("rag", chosen.rag_concurrency, chosen.rag_timeout)


def rag_call(
    query: str, rewrite: str, tenant_id: str, kb_name: str = "default", *, top_k: int | None = None, labelled: bool = False
) -> Call:
    """A retrieval with `rewrite`; to measure the original query send it as the rewrite too, or the service rewrites by itself.

    `labelled`: gold documents will tell what is relevant, so nothing is to be cut off by the reranker's score.
    """
    chosen = settings.load()
    body = {
        "query": query,
        "rewritten_query": rewrite,
        "tenant_id": tenant_id,
        "kb_name": kb_name,
        "top_k": top_k or chosen.rag_top_k,
        "score_threshold": 0.0 if labelled else chosen.rag_score_threshold,
    }

    async def send() -> dict[str, Any]:
        key = chosen.rag_api_key.get_secret_value()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        response = await _client().post(chosen.rag_url.rstrip("/") + _PATH, json=body, headers=headers)
        response.raise_for_status()
        try:
            data = response.json()
        except ValueError:
            raise Unusable(f"the answer is no JSON: {response.text[:200]}") from None
        return {"recall": [[hit.doc_id, hit.score] for hit in read_recall(data)]}

    return Call({"url": chosen.rag_url, "kb_version": chosen.kb_version, **body}, send)


def read_recall(answer: Any) -> list[Hit]:
    """The recall list of a service's answer, in its order. An empty list is a measurement; a missing one is not.

    Raises Unusable when the list is missing or a score is no number from 0 to 1 (logits would make every threshold and tanh
    meaningless), and UnusableAgain when the answer carries an error of its own under HTTP 200.

    >>> read_recall({"data": {"recall": [{"doc_id": "d1", "reranker_score": 0.8}]}})
    [Hit(doc_id='d1', score=0.8)]
    """
    if isinstance(answer, dict) and (answer.get("error") or answer.get("code") not in (None, 0, 200, "0", "200")):
        raise UnusableAgain(f"the service reports an error inside its answer: {str(answer)[:200]}")
    recall = (answer.get("data") or {}).get("recall") if isinstance(answer, dict) and isinstance(answer.get("data"), dict | None) else None
    if not isinstance(recall, list):
        raise Unusable(f"the answer holds no data.recall list: {str(answer)[:200]}")
    hits = []
    for item in recall:
        score = item.get("reranker_score") if isinstance(item, dict) else None
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise Unusable(f"an item of data.recall holds no number from 0 to 1 as reranker_score: {str(item)[:200]}")
        doc_id = item.get("doc_id", item.get("id"))
        hits.append(Hit(None if doc_id is None else str(doc_id), float(score)))
    return hits


def hits(value: dict[str, Any]) -> list[Hit]:
    """The recall list of an `Ok` value of `rag_call`."""
    return [Hit(doc_id, score) for doc_id, score in value["recall"]]


def _client() -> httpx.AsyncClient:
    from httpx_aiohttp import AiohttpTransport

    # httpx keeps its API but not its connection pool, which collapses beyond 16 calls at once (libs.md).
    seconds = settings.load().rag_timeout
    return client("rag", lambda: httpx.AsyncClient(transport=AiohttpTransport(), timeout=seconds, trust_env=False))
