"""A tenant that tries to read, change or weigh another's documents over HTTP, against every engine."""

import warnings

import pytest
from fastapi.testclient import TestClient
from overtake.retrieval.corpus import Document
from overtake.retrieval.dense import HybridIndex
from overtake.retrieval.index import Index
from overtake.retrieval.models import RemoteEncoder
from overtake.retrieval.qdrant import QdrantIndex
from overtake.retrieval.service import KnowledgeBase, create_app
from qdrant_client import QdrantClient

SECRET = Document("secret", "机密配方", "虾青素 含量 90%")
NAMES = [("victim", "default"), ("victim", "faq"), ("thief", "default"), ("thief", "victim/default")]


@pytest.fixture(params=["embedded", "embedded in folders", "hybrid", "qdrant", "hybrid qdrant"])
def service(request, tmp_path, embedding):
    """(the HTTP service, its knowledge bases); the victim's own holds a secret."""
    encoder, client = RemoteEncoder(f"{embedding.url}/v1", "meaning-4"), QdrantClient(":memory:")

    def engine(number, name):
        folder = tmp_path / str(number)
        return {
            "embedded": lambda: Index.build([]),
            "embedded in folders": lambda: Index.build([], folder),
            "hybrid": lambda: HybridIndex.build([], encoder, folder),
            "qdrant": lambda: QdrantIndex(client, name),
            "hybrid qdrant": lambda: QdrantIndex(client, name, encoder),
        }[request.param]()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # local mode has no payload index
        made = {name: engine(number, name) for number, name in enumerate(NAMES)}
    bases = {name: KnowledgeBase(one, {}) for name, one in made.items()}
    for base in bases.values():
        base.change([Document("own", "公开", "虾青素 是什么")])
    bases["victim", "default"].change([SECRET])
    yield TestClient(create_app(bases)), bases
    for base in bases.values():
        base.index.close()


def ask(client, tenant, kb="default", **more):
    body = {"query": "机密配方 虾青素 含量", "tenant_id": tenant, "kb_name": kb, "score_threshold": 0, "top_k": 100, **more}
    return client.post("/api/chat/general_rag", json=body)


def test_the_owner_reads_it_and_no_other_name_does(service):
    client, _ = service
    assert ask(client, "victim").json()["data"]["recall"][0]["content"] == SECRET.text
    for name in NAMES[1:]:
        answer = ask(client, *name)
        assert [hit["doc_id"] for hit in answer.json()["data"]["recall"]] == ["own"]
        assert "机密" not in answer.text.replace("机密配方 虾青素 含量", "") and "90%" not in answer.text


@pytest.mark.parametrize(
    ("tenant", "kb"),
    [
        pytest.param("victim/default", "", id="the name in one piece"),
        pytest.param("thief", "../victim/default", id="a path"),
        pytest.param("thief", "*", id="a wildcard"),
        pytest.param("", "default", id="no tenant"),
        pytest.param("VICTIM", "default", id="another case"),
        pytest.param("victim ", "default", id="a space"),
        pytest.param("thief' OR tenant='victim", "default", id="a query"),
        pytest.param("victim\x00", "default", id="a zero"),
    ],
)
def test_names_that_are_nearly_the_victims_are_nobodys(service, tenant, kb):
    client, bases = service
    refused = ask(client, tenant, kb)
    assert (refused.status_code, "90%" in refused.text) == (404, False)
    change = {"tenant_id": tenant, "kb_name": kb, "delete": ["secret"]}
    assert client.post("/api/documents", json=change).status_code == 404
    assert bases["victim", "default"].index.get(["secret"]) == [SECRET]


def test_the_thief_can_neither_overwrite_nor_delete_nor_find_by_id(service):
    client, bases = service
    before = bases["victim", "default"].version, ask(client, "victim").json()
    change = {"tenant_id": "thief", "documents": [{"id": "secret", "text": "虾青素 假"}], "delete": ["own"]}
    assert client.post("/api/documents", json=change).status_code == 200
    assert client.post("/api/documents", json={"tenant_id": "thief", "delete": ["secret"]}).status_code == 200
    assert (bases["victim", "default"].version, ask(client, "victim").json()) == before
    assert bases["thief", "default"].index.get(["secret", "own"]) == []


def test_scores_do_not_tell_what_another_tenant_holds(service):
    client, bases = service
    before = ask(client, "thief").json()
    bases["victim", "default"].change([Document(f"more{number}", "", "虾青素 机密配方") for number in range(30)])
    assert ask(client, "thief").json() == before
