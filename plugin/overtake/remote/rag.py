"""The RAG service's wire contract (spec 1.2, 1.7): ask for a recall list, read it strictly."""

from typing import Any, NamedTuple

from overtake import settings
from overtake.remote.faults import error_inside, malformed
from overtake.remote.gateway import Call, Gateway, gateway
from overtake.remote.http import post

_PATH = "/api/chat/general_rag"


class Hit(NamedTuple):
    """One document of a recall list; `doc_id` is None when the service does not name its documents."""

    doc_id: str | None
    score: float
    """`reranker_score`, of the original query against the document, in [0, 1]."""


def rag_gateway(concurrency: int | None = None) -> Gateway:
    """The gateway all retrieval calls go through.

    Raises SettingsError when no service is set.
    """
    chosen = settings.load()
    if not chosen.rag_url:
        raise settings.SettingsError("no RAG service is set: export OVERTAKE_RAG_URL, or start ours with tools/serve_rag.py")
    return gateway("rag", concurrency or chosen.rag_concurrency, chosen.rag_timeout, requests_a_minute=chosen.rag_rpm)


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
        answer = await post(chosen.rag_url.rstrip("/") + _PATH, body, chosen.rag_api_key.get_secret_value())
        return {"recall": [[hit.doc_id, hit.score] for hit in read_recall(answer)]}

    return Call({"url": chosen.rag_url, "kb_version": chosen.kb_version, **body}, send)


def read_recall(answer: Any) -> list[Hit]:
    """The recall list of a service's answer, in its order. An empty list is a measurement; a missing one is not.

    Raises Fault: malformed when the list is missing or a score is no number from 0 to 1 (logits would make every threshold and tanh
    meaningless), error_inside when the answer carries an error of its own under HTTP 200.

    >>> read_recall({"data": {"recall": [{"doc_id": "d1", "reranker_score": 0.8}]}})
    [Hit(doc_id='d1', score=0.8)]
    """
    if isinstance(answer, dict) and (answer.get("error") or answer.get("code") not in (None, 0, 200, "0", "200")):
        raise error_inside(answer)
    recall = (answer.get("data") or {}).get("recall") if isinstance(answer, dict) and isinstance(answer.get("data"), dict | None) else None
    if not isinstance(recall, list):
        raise malformed("the answer holds no data.recall list", answer)
    hits = []
    for item in recall:
        score = item.get("reranker_score") if isinstance(item, dict) else None
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise malformed("an item of data.recall holds no number from 0 to 1 as reranker_score", item)
        doc_id = item.get("doc_id", item.get("id"))
        hits.append(Hit(None if doc_id is None else str(doc_id), float(score)))
    return hits


def hits(value: dict[str, Any]) -> list[Hit]:
    """The recall list of an `Ok` value of `rag_call`."""
    return [Hit(doc_id, score) for doc_id, score in value["recall"]]
