"""The RAG service's wire contract: ask for a recall list, read it strictly, keep it for as long as the knowledge base stays as it was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from overtake import settings
from overtake.redaction import without_login
from overtake.remote import servers
from overtake.remote.faults import Fault, error_inside, malformed
from overtake.remote.gateway import Call, Gateway, gateway
from overtake.remote.http import post
from overtake.remote.outcome import outcome
from overtake.remote.process import once
from overtake.remote.store import key_of, store

_PATH = "/api/chat/general_rag"
_ROUNDING = 1e-3
"""What a 16-bit sigmoid can lie beside [0, 1]; a logit that lies no further away does no harm."""
_NO_MODE = "the answer does not say as data.mode that the rewrite was used"
_MODES = "this service knows no modes; docs/rag_service.md has the lines for it"
_EMPTY_SECONDS = 3600.0
"""For so long an empty list is believed of a service that does not tell the state of its knowledge base: it may be filled meanwhile."""


class Hit(NamedTuple):
    """One document of a recall list; `doc_id` is None when the service does not name its documents."""

    doc_id: str | None
    score: float
    """`reranker_score`, of the original query against the document, in [0, 1]."""


@dataclass
class _State:
    """What is known of a knowledge base's state in this process."""

    version: str | None = None
    """As the service named it last, to any process; "" where it names none, None before its first answer."""
    told: bool = False
    """It has answered this process."""


@dataclass(slots=True, kw_only=True)
class RagCall(Call):
    """A retrieval. The state of the knowledge base that an answer names is part of the key under which it is kept."""

    base: str
    """Key of the knowledge base."""
    answered: Callable[[], str | None]
    """The state named with this call's own answer, None before it."""

    @property
    def key(self) -> str:
        """Hash of the identity and of the knowledge base's state."""
        own = self.answered()
        version = _state(self.base).version if own is None else own
        return key_of(self.identity | {"state": version} if version else self.identity)

    def prepare(self) -> None:
        """Look up the state that was named last, on the gateway's loop."""
        state = _state(self.base)
        if state.version is None and not state.told:
            stored = store().get([self.base]).get(self.base)
            state.version = str(stored["version"]) if stored else None

    def unsure(self) -> str:
        """The knowledge base, where documents may have changed: it names its states, and has not answered this process yet."""
        state = _state(self.base)
        return "" if state.told or state.version == "" else self.base

    def good_for(self, value: dict[str, Any]) -> float | None:
        """Seconds for which an answer may be kept; None: for good."""
        stateless = not self.answered() and not settings.load().kb_version
        return _EMPTY_SECONDS if stateless and not value["recall"] else None


def rag_gateway(concurrency: int | None = None) -> Gateway:
    """The gateway all retrieval calls go through.

    Raises SettingsError when no service is set.
    """
    config = settings.load()
    if not config.rag_url:
        raise settings.SettingsError("no RAG service is set: export OVERTAKE_RAG_URL, or start ours with tools/serve_rag.py")
    at_once = concurrency or config.rag_concurrency
    return gateway("rag", at_once, config.rag_timeout, address=config.rag_url, requests_a_minute=config.rag_rpm)


def rag_call(
    query: str,
    rewrite: str,
    tenant_id: str,
    kb_name: str = "default",
    *,
    top_k: int | None = None,
    labelled: bool = False,
    titled: bool = False,
    score_threshold: float | None = None,
    mode: str = "",
) -> Call:
    """A retrieval with `rewrite`; to measure the original query send it as the rewrite too, or the service rewrites by itself.

    `score_threshold`: what the reranker scores lower is cut off; None for that of the settings.

    `labelled`: gold documents will tell what is relevant, so nothing is to be cut off by the reranker's score, and a list whose
    documents are not all named is a failed call. `mode`: the service is to use the rewrite so, "fused" or "fallback"; one that does not
    say in its answer that it did fails, since it may know no modes; the value then holds under "fell_back" why it took the question, if
    it did. `titled`: the value holds the documents' titles too, by their ids under "titles".
    """
    config = settings.load()
    cut = config.rag_score_threshold if score_threshold is None else score_threshold
    body = {
        "query": query,
        "rewritten_query": rewrite,
        "tenant_id": tenant_id,
        "kb_name": kb_name,
        "top_k": top_k or config.rag_top_k,
        "score_threshold": 0.0 if labelled else cut,
    } | ({"mode": mode} if mode else {})
    address = without_login(servers.first(config.rag_url))
    base = key_of({"state of": address, "tenant_id": tenant_id, "kb_name": kb_name})
    version: str | None = None

    async def send() -> dict[str, Any]:
        nonlocal version
        key = config.rag_api_key.get_secret_value()
        answer = await servers.ask(config.rag_url, lambda url: post(url.rstrip("/") + _PATH, body, key))
        hits = read_recall(answer, labelled=labelled)
        if mode and answer["data"].get("mode") != mode:
            raise Fault("malformed", f"{_NO_MODE} {mode}: {_MODES}", again=False)
        version = _named_state(answer)
        _tell(base, version)
        value: dict[str, Any] = {"recall": [[hit.doc_id, hit.score] for hit in hits]}
        if mode:
            value["fell_back"] = str(answer["data"].get("fell_back") or "")
        if titled:
            titles = (str(item.get("title") or "") for item in answer["data"]["recall"])
            value["titles"] = {hit.doc_id: title for hit, title in zip(hits, titles, strict=True) if hit.doc_id and title.strip()}
        return value

    identity = {"url": address, "kb_version": config.kb_version, **body} | ({"labelled": True} if labelled else {})
    identity |= {"titled": True} if titled else {}
    return RagCall(identity, send, base=base, answered=lambda: version)


def _state(base: str) -> _State:
    states: dict[str, _State] = once("knowledge bases", dict)
    return states.setdefault(base, _State())


def _tell(base: str, version: str) -> None:
    """Note the state that an answer has named; on the gateway's loop."""
    state = _state(base)
    if not state.told or state.version != version:
        state.version, state.told = version, True
        store().put(base, {"version": version})


def _named_state(answer: dict[str, Any]) -> str:
    """The knowledge base's state as an answer names it, "" where it names none.

    >>> _named_state({"data": {"recall": [], "kb_version": "7f3a"}})
    '7f3a'
    """
    named = (answer.get("data") or {}).get("kb_version") or answer.get("kb_version")
    return str(named) if isinstance(named, str | int) else ""


def read_recall(answer: Any, *, labelled: bool = False) -> list[Hit]:
    """The recall list of a service's answer, in its order. An empty list is a measurement; a missing one is not.

    Raises Fault: malformed when the list is missing or a score is no number from 0 to 1 (logits would make every threshold and tanh
    meaningless; what rounding took past them is taken back), or a document of a `labelled` row has no name; error_inside when the answer
    says that it failed, or, empty, does not say in words that are known that it succeeded.

    >>> read_recall({"data": {"recall": [{"doc_id": "d1", "reranker_score": 0.8}]}})
    [Hit(doc_id='d1', score=0.8)]
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    recall = data.get("recall") if isinstance(data, dict) else None
    if isinstance(answer, dict):
        says = outcome(answer, empty=not recall)
        if says == "failed" or (says == "unclear" and isinstance(recall, list) and not recall):
            raise error_inside(answer)
    if not isinstance(recall, list):
        raise malformed("the answer holds no data.recall list", answer)
    return [_hit(item, labelled) for item in recall]


def _hit(item: Any, labelled: bool) -> Hit:
    score = item.get("reranker_score") if isinstance(item, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not -_ROUNDING <= score <= 1 + _ROUNDING:
        raise malformed("an item of data.recall holds no number from 0 to 1 as reranker_score", item)
    names = (item.get(key) for key in ("doc_id", "id"))
    doc_id = next((str(name) for name in names if isinstance(name, str | int | float) and str(name).strip()), None)
    if labelled and doc_id is None:
        raise malformed("an item of data.recall holds no doc_id, by which a row with gold labels is measured", item)
    return Hit(doc_id, min(max(float(score), 0.0), 1.0))


def hits(value: dict[str, Any]) -> list[Hit]:
    """The recall list of an `Ok` value of `rag_call`."""
    return [Hit(doc_id, score) for doc_id, score in value["recall"]]
