"""The reference RAG service: candidates from the rewrite, scores from the user's own question, order from both.

`KnowledgeBase` is the whole of it, for callers in the same process; `create_app` serves several over HTTP.
"""

import asyncio
import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from overtake.retrieval.corpus import Document, read_corpus, read_lexicon
from overtake.retrieval.dense import Encoder, HybridIndex
from overtake.retrieval.engine import Engine, Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.modes import Mode, doubt, fused
from overtake.retrieval.reranking import Reranker, Scorer, expand

T = TypeVar("T")

CANDIDATES = 10
AT_ONCE = 64
"""Questions under way at once where they wait for another machine or for a model; elsewhere one at a time is fastest."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One entry of a recall list; `rank` counts from 1."""

    doc_id: str
    title: str
    content: str
    reranker_score: float
    first_stage_score: float
    rank: int


class KnowledgeBase:
    """Documents that can be asked and changed: an engine that finds them, a reranker, a lexicon.

    `version`, a key for caches, changes with the documents (their order has no part in it), the lexicon, the reranker's kind and `name` (if
    it has one), and the encoder's name. Where `waits` is true, threads may call `retrieve` at once, and beside it one `change`.
    """

    def __init__(self, index: Engine, lexicon: dict[str, str], reranker: Scorer | None = None) -> None:
        """Without a reranker of the caller's, the embedded one scores; it and `version` read every document of the engine once."""
        self.index, self.lexicon = index, lexicon
        own = Reranker((), lexicon) if reranker is None else None
        self.reranker: Scorer = own or reranker  # type: ignore[assignment]
        self.waits = index.waits or own is None
        """Questions wait for another machine or for a model: to be asked in threads."""
        self._counting = own
        self._changing = threading.Lock()
        self._sum = 0
        self._note(index.documents(), ())

    @classmethod
    def build(
        cls, documents: Iterable[Document], lexicon: dict[str, str], reranker: Scorer | None = None, encoder: Encoder | None = None
    ) -> "KnowledgeBase":
        """Index documents in memory, with an encoder for their vectors too. Raises Unavailable where the encoder does not answer."""
        return cls(Index.build(documents) if encoder is None else HybridIndex.build(documents, encoder), lexicon, reranker)

    @classmethod
    def load(cls, path: Path, reranker: Scorer | None = None, encoder: Encoder | None = None) -> "KnowledgeBase":
        """Read a BEIR folder (corpus.jsonl and, if there is one, lexicon.tsv) or one .jsonl file. Raises ValueError for a bad file."""
        return cls.build(read_corpus(path), lexicon_of(path), reranker, encoder)

    def __len__(self) -> int:
        return len(self.index)

    def documents(self) -> dict[str, Document]:
        """Every document by id, read from the engine."""
        return {document.id: document for document in self.index.documents()}

    def change(self, documents: Iterable[Document] = (), delete: Iterable[str] = ()) -> None:
        """Add documents, replace those whose id is known, delete ids (unknown ones too); the next question sees all of it."""
        changed, gone = {document.id: document for document in documents}, list(delete)
        with self._changing:
            before = self.index.get({*changed, *gone})
            self.index.change(changed.values(), gone)
            self._note(changed.values(), before)

    def _note(self, added: Iterable[Document], removed: Iterable[Document]) -> None:
        def seen(documents: Iterable[Document], sign: int) -> Iterator[Document]:
            for document in documents:
                self._sum = (self._sum + sign * _digest(document)) % 2**256
                yield document

        added, removed = seen(added, 1), seen(removed, -1)
        if self._counting is not None:
            self._counting.count(added, removed)
        else:
            deque(chain(added, removed), maxlen=0)
        scorer = [type(self.reranker).__qualname__, getattr(self.reranker, "name", "")]
        content = json.dumps([str(self._sum), self.lexicon, scorer, self.index.kind], sort_keys=True)
        self.version = hashlib.sha256(content.encode()).hexdigest()[:12]

    def own_rewrite(self, query: str) -> str:
        """The service's own rewrite: the question, then the lexicon's terms for the phrases that stand in it."""
        return expand(query, self.lexicon)

    def retrieve(
        self,
        query: str,
        rewrite: str | None,
        top_k: int = 5,
        score_threshold: float = 0.5,
        candidates: int = CANDIDATES,
        mode: Mode | None = None,
    ) -> list[Hit]:
        """The recall list of a question, best document first.

        The rewrite finds max(top_k, candidates) documents (None: the service rewrites; text without a word finds none). The question
        scores them: `reranker_score`, which no rewrite can change. The order is by that score plus the first stage's, the latter as a
        share of its best; documents with a reranker score below the threshold go, then all but top_k. The sum is measured: on STARD's
        raw questions nDCG@10 is .541 by it, .532 by the first stage alone, .529 by the reranker alone (docs/rag_service.md).
        A `mode` also looks at what the question itself finds: see modes.py.
        """
        return self.serve(query, rewrite, top_k, score_threshold, candidates, mode)[0]

    def serve(
        self, query: str, rewrite: str | None, top_k: int, score_threshold: float, candidates: int, mode: Mode | None
    ) -> tuple[list[Hit], str]:
        """(the recall list as `retrieve` gives it, why `fallback` did not use the rewrite; "" where it did)."""
        text = self.own_rewrite(query) if rewrite is None else rewrite
        width, reason = max(top_k, candidates), ""
        hits = self._ordered(query, text, width)
        if mode is not None:
            of_question = self._ordered(query, query, width)
            if mode == "fused":
                hits = fused(of_question, hits)
            elif reason := doubt(query, text, of_question, hits):
                hits = of_question
        above = [hit for hit in hits if hit.reranker_score >= score_threshold][:top_k]
        return [replace(hit, rank=rank) for rank, hit in enumerate(above, 1)], reason

    def _ordered(self, query: str, text: str, width: int) -> list[Hit]:
        first_stage = self.index.find(text, width)
        if not first_stage:
            return []
        best = first_stage[0][1]
        scores = self.reranker.score(query, [document for document, _ in first_stage])
        scored = [(score, first / best, document) for score, (document, first) in zip(scores, first_stage, strict=True)]
        scored.sort(key=lambda item: -(item[0] + item[1]))
        return [Hit(doc.id, doc.title, doc.text, score, first, rank) for rank, (score, first, doc) in enumerate(scored, 1)]


def lexicon_of(path: Path) -> dict[str, str]:
    """The lexicon.tsv of a knowledge base's folder; {} where there is none. Raises ValueError for a bad file."""
    file = Path(path) / "lexicon.tsv"
    return read_lexicon(file) if file.is_file() else {}


def _digest(document: Document) -> int:
    row = json.dumps([document.id, document.title, document.text])
    return int.from_bytes(hashlib.sha256(row.encode()).digest())


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("blank")
    return text


_Text = Annotated[str, Field(max_length=4000), AfterValidator(_not_blank)]


class Question(BaseModel):
    """The request of POST /api/chat/general_rag."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    query: _Text = Field(description="the user's question; every score is about it")
    rewritten_query: _Text | None = Field(None, description="used as it is to find documents; null or absent: the service rewrites")
    tenant_id: str
    kb_name: str = "default"
    top_k: int = Field(5, ge=1, le=100, description="documents wanted at most")
    score_threshold: float = Field(0.5, ge=0, le=1, description="documents that score below are left out")
    mode: Mode | None = Field(
        None, description="null or absent: the rewrite alone finds documents; fused: the question too; fallback: the question in its place"
    )


class Recalled(BaseModel):
    """One document of the answer."""

    doc_id: str
    title: str
    content: str
    reranker_score: float = Field(description="relevance to `query`, 0 to 1; the rewrite has no part in it")
    first_stage_score: float = Field(description="first stage's score of the rewrite, as a share of the best document's")
    rank: int


class Recall(BaseModel):
    """Documents found, best first."""

    query: str
    rewritten_query: str = Field(description="the text that found the documents")
    rewritten_by: str = Field(description='"client" or "service"')
    recall: list[Recalled]
    kb_version: str = Field(description="changes when the answer could: put it into cache keys")
    mode: Mode | None = Field(None, description="as asked for; absent where none was")
    fell_back: str = Field("", description="why fallback took the question: copy, refusal, too long or disagreement; absent without a mode")


class NewDocument(BaseModel):
    """One document to add, or to put in the place of the one with its id."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=512)
    title: str = Field("", max_length=4000)
    text: str = Field(max_length=200_000)

    @model_validator(mode="after")
    def _says_something(self) -> "NewDocument":
        _not_blank(self.title + self.text)
        return self


class Change(BaseModel):
    """The request of POST /api/documents: all of it happens or none."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    kb_name: str = "default"
    documents: list[NewDocument] = Field([], max_length=1000, description="added, or put in the place of those with the same ids")
    delete: list[str] = Field([], max_length=1000, description="ids; those that are unknown are no error")


class Changed(BaseModel):
    """The answer of POST /api/documents; the next question sees the change."""

    code: int = 0
    message: str = "ok"
    documents: int = Field(description="how many the knowledge base has now")
    kb_version: str


class Answer(BaseModel):
    """The answer of POST /api/chat/general_rag."""

    code: int = 0
    message: str = "ok"
    data: Recall


class Refusal(BaseModel):
    """The answer to what was not understood (422), to an unknown tenant (404), to a change where none is taken (409), or while the engine
    or a model is away (503)."""

    code: int
    message: str


def create_app(knowledge_bases: dict[tuple[str, str], KnowledgeBase], candidates: int = CANDIDATES, *, changes: bool = True) -> FastAPI:
    """The HTTP service over knowledge bases by (tenant_id, kb_name); `candidates` documents at least are scored for each question.

    `changes` False: POST /api/documents is refused with 409. The dict may be given other knowledge bases of the same names while it serves.
    """
    app = FastAPI(title="Overtake reference RAG service", version="1")
    threads = ThreadPoolExecutor(AT_ONCE, "overtake-rag")  # has none until one is needed
    names = ", ".join(f"{tenant}/{name}" for tenant, name in knowledge_bases)

    def named(tenant: str, name: str) -> KnowledgeBase:
        base = knowledge_bases.get((tenant, name))
        if base is None:
            raise _Unknown(f"no knowledge base {tenant}/{name}; this service has: {names or 'none'}")
        return base

    async def done(base: KnowledgeBase, work: Callable[[], T]) -> T:
        # No thread where nothing waits: a request takes less time than the hand-over to one (docs/benchmarks.md has the numbers).
        return await asyncio.get_running_loop().run_in_executor(threads, work) if base.waits else work()

    refusals: dict[int | str, dict[str, Any]] = {status: {"model": Refusal} for status in (404, 422, 503)}

    @app.post("/api/chat/general_rag", response_model=Answer, responses=refusals)
    async def general_rag(question: Question) -> Response:
        """Documents found by the rewrite (and with a mode by the question), scored by the question."""
        base = named(question.tenant_id, question.kb_name)
        rewrite = question.rewritten_query if question.rewritten_query is not None else base.own_rewrite(question.query)
        # Before the search: an answer that saw a change may bear the version before it, never the other way round.
        version = base.version
        arguments = (question.query, rewrite, question.top_k, question.score_threshold, candidates, question.mode)
        hits, fell_back = await done(base, lambda: base.serve(*arguments))
        data: dict[str, Any] = {
            "query": question.query,
            "rewritten_query": rewrite,
            "rewritten_by": "service" if question.rewritten_query is None else "client",
            "recall": hits,
            "kb_version": version,
        }
        if question.mode is not None:
            data |= {"mode": question.mode, "fell_back": fell_back}
        return Response(msgspec.json.encode({"code": 0, "message": "ok", "data": data}), media_type="application/json")

    # Where nothing waits in the event loop too: no question can fall between the engine's change and the reranker's.
    @app.post("/api/documents", response_model=Changed, responses=refusals | {409: {"model": Refusal}})
    async def change_documents(change: Change) -> Changed | JSONResponse:
        """Documents added, replaced and deleted in one knowledge base."""
        base = named(change.tenant_id, change.kb_name)
        if not changes:
            return _refusal(409, "this service only reads: change documents through one with --workers 1, or with tools/index.py")

        def work() -> Changed:
            base.change([Document(document.id, document.title, document.text) for document in change.documents], change.delete)
            return Changed(documents=len(base), kb_version=base.version)

        return await done(base, work)

    @app.get("/health")
    async def get_health(request: Request) -> JSONResponse:
        """The knowledge bases there are; to a client without the service's key, only whether all is well."""
        rows = [
            {"tenant_id": tenant, "kb_name": name, "documents": await done(base, base.__len__), "version": base.version}
            for (tenant, name), base in knowledge_bases.items()
        ]
        return JSONResponse({"status": "ok"} if request.scope.get("overtake.anonymous") else {"status": "ok", "knowledge_bases": rows})

    @app.exception_handler(_Unknown)
    async def unknown(request: Request, error: _Unknown) -> JSONResponse:
        return _refusal(404, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return _refusal(503, str(error), {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        model = Change if request.url.path == "/api/documents" else Question
        return _refusal(422, "; ".join(_say(detail, model) for detail in error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    return app


class _Unknown(Exception):
    """A knowledge base that this service does not have."""


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # A lone surrogate in what was sent must not break the answer that names it.
    content = {"code": status, "message": message.encode("utf-8", "backslashreplace").decode()}
    return JSONResponse(content, status_code=status, headers=headers)


def _say(error: dict[str, Any], model: type[BaseModel]) -> str:
    """One pydantic error as "<field>: <what is wrong and what to send>"."""
    kind, value, limits = error["type"], error.get("input"), error.get("ctx", {})
    field = ".".join(str(part) for part in error["loc"][1:]) or "body"
    if kind == "json_invalid":
        return f"body: not JSON ({limits.get('error', 'unreadable')}); send one JSON object with content type application/json"
    if kind == "missing":
        return "body: missing; send one JSON object" if field == "body" else f"{field}: missing; send it"
    if kind == "extra_forbidden":
        fields = (NewDocument if field.startswith("documents.") else model).model_fields
        return f"{field[:80]}: unknown field; send only {', '.join(fields)}"
    if kind == "string_too_long":
        return f"{field}: {len(str(value))} characters; send at most {limits['max_length']}"
    if kind == "value_error":
        instead = ", or null to let the service rewrite" if field == "rewritten_query" else ""
        return f"{field}: blank; send text{instead}"
    return f"{field}: {error['msg'][0].lower()}{error['msg'][1:]}; got {ascii(value)[:80]}"
