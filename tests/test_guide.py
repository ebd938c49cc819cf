"""docs/zh/guide.md: its FastAPI route, served as it stands there and asked as training asks; its errors, which the code has."""

import ast
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from overtake import settings
from overtake.remote.gateway import Failed, Ok
from overtake.remote.rag import Hit, hits, rag_call, rag_gateway

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs/zh/guide.md"
DOCUMENTS = {"d1": "胶原蛋白肽 每日用量", "d2": "褪黑素 帮助入睡", "d3": "胶原蛋白肽 与皮肤"}
SCORES = {"每日用量": 0.9, "皮肤": 0.7, "入睡": 0.2}


@pytest.fixture
def route(fresh: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, Any], str]]:
    """The page's code with a search and a reranker in place of the user's, behind uvicorn; its names and its address."""
    block = next(
        block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL) if "APIRouter" in block
    )
    names: dict[str, Any] = {"__name__": "general_rag_routes"}
    exec(compile(block, str(GUIDE), "exec"), names)
    names["search"] = lambda text, tenant_id, kb_name: [
        {"id": name, "text": document} for name, document in DOCUMENTS.items() if set(text.split()) & set(document.split())
    ]
    names["rerank"] = lambda query, texts: [next(score for word, score in SCORES.items() if word in text) for text in texts]
    server = uvicorn.Server(uvicorn.Config(names["app"], port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    monkeypatch.setenv("OVERTAKE_RAG_URL", address)
    settings.load.cache_clear()
    yield names, address
    server.should_exit = True
    thread.join(10)


def asked(query: str, rewrite: str) -> Ok | Failed:
    """The gateway's answer to one retrieval."""
    return rag_gateway().run([rag_call(query, rewrite, "fivedoctors")])[0]


def test_the_route_of_the_guide_answers_the_client_of_training(route: tuple[dict[str, Any], str]) -> None:
    names, address = route
    queries: list[str] = []
    rerank = names["rerank"]
    names["rerank"] = lambda query, texts: queries.append(query) or rerank(query, texts)

    found = asked("脸上显老，一天吃多少", "胶原蛋白肽 褪黑素")
    assert isinstance(found, Ok)
    assert hits(found.value) == [Hit("d1", 0.9), Hit("d3", 0.7)], "best first, and d2 lies below the threshold of 0.5"
    assert queries == ["脸上显老，一天吃多少"], "the original question is what is scored"

    nothing = asked("脸上显老", "无关的词")
    assert isinstance(nothing, Ok)
    assert hits(nothing.value) == [], "an empty list is a measurement"

    old = httpx.post(f"{address}/api/chat/general_rag", params={"query": "褪黑素", "tenant_id": "fivedoctors", "score_threshold": "0"})
    assert [document["doc_id"] for document in old.json()["data"]["recall"]] == ["d2"], "query parameters go on as before"
    assert httpx.post(f"{address}/api/chat/general_rag", json={"query": "褪黑素"}).status_code == 422

    def down(query: str, texts: list[str]) -> list[float]:
        raise RuntimeError("reranker is down")

    names["rerank"] = down
    broken = httpx.post(f"{address}/api/chat/general_rag", json={"query": "褪黑素", "tenant_id": "fivedoctors"})
    assert (broken.status_code, broken.headers["retry-after"]) == (503, "1"), "an outage is no empty list"
    assert "reranker is down" in broken.text


def says(source: str, words: str) -> bool:
    """Whether a string of a Python file, in an f-string a part between its values, holds these words; docstrings are none."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare]
    return any(words in text for text in strings if isinstance(text, str))


def test_each_error_that_the_guide_explains_is_one_of_the_code_and_names_settings_that_are() -> None:
    table = re.search(r"\| 报错里的词 .*?\n\n", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert table
    rows = [line.strip("|").split("|") for line in table[0].strip().splitlines()[2:]]
    quoted = [row[0].strip().strip("`") for row in rows]
    assert len(set(quoted)) == len(rows) >= 12
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "plugin").rglob("*.py")]
    assert [words for words in quoted if not any(words in source and says(source, words) for source in sources)] == []
    known = {f"OVERTAKE_{name.upper()}" for name in settings.model().model_fields}
    assert set(re.findall(r"OVERTAKE_[A-Z_]+", table[0])) <= known
