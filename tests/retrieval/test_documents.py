"""POST /api/documents: what is added, replaced and deleted over HTTP, and that one tenant's changes never reach another's documents."""

import asyncio

import httpx
import pytest
from fastapi.testclient import TestClient
from overtake.retrieval.corpus import Document
from overtake.retrieval.guard import Limits, add_guard
from overtake.retrieval.service import KnowledgeBase, create_app

SKIN, EYE = Document("skin", "胶原蛋白肽", "改善皮肤弹性"), Document("eye", "叶黄素", "缓解视疲劳")
PAGE = Document("skin", "皮革课程", "制革工艺")


@pytest.fixture
def bases():
    health, school = KnowledgeBase.build([SKIN, EYE], {}), KnowledgeBase.build([PAGE], {})
    return {("health", "default"): health, ("school", "default"): school, ("health", "faq"): KnowledgeBase.build([EYE], {})}


@pytest.fixture
def client(bases):
    return TestClient(create_app(bases))


def change(client, tenant="health", **fields):
    return client.post("/api/documents", json={"tenant_id": tenant, **fields})


def found(client, query, tenant="health", **fields):
    body = {"query": query, "rewritten_query": query, "tenant_id": tenant, "score_threshold": 0, **fields}
    return [
        (hit["doc_id"], hit["title"], hit["content"]) for hit in client.post("/api/chat/general_rag", json=body).json()["data"]["recall"]
    ]


def test_the_next_question_finds_what_was_added_replaced_and_not_what_was_deleted(client):
    new = {"id": "sleep", "title": "褪黑素", "text": "帮助入睡"}
    answer = change(client, documents=[new, {"id": "skin", "text": "虾红抗氧化"}], delete=["eye", "never"]).json()
    assert (answer["code"], answer["documents"]) == (0, 2)
    assert found(client, "入睡") == [("sleep", "褪黑素", "帮助入睡")]
    assert found(client, "虾红") == [("skin", "", "虾红抗氧化")]
    assert (found(client, "胶原蛋白"), found(client, "视疲劳")) == ([], [])


def test_a_changed_knowledge_base_scores_and_is_versioned_like_one_built_from_what_it_holds(client, bases):
    new = Document("sleep", "褪黑素", "帮助入睡，皮肤也好")
    answer = change(client, documents=[{"id": new.id, "title": new.title, "text": new.text}], delete=["eye"]).json()
    built = KnowledgeBase.build([new, SKIN], {})
    assert answer["kb_version"] == bases["health", "default"].version == built.version
    question = "皮肤不好怎么入睡"
    scores = {hit.doc_id: hit.reranker_score for hit in bases["health", "default"].retrieve(question, None, score_threshold=0)}
    assert scores == {hit.doc_id: hit.reranker_score for hit in built.retrieve(question, None, score_threshold=0)}
    assert set(scores) == {"sleep", "skin"}


def test_the_version_comes_back_when_a_change_is_taken_back(client, bases):
    before = bases["health", "default"].version
    changed = change(client, documents=[{"id": "eye", "text": "护眼"}]).json()["kb_version"]
    back = change(client, documents=[{"id": "eye", "title": EYE.title, "text": EYE.text}]).json()["kb_version"]
    assert changed != before == back


def test_one_tenants_change_leaves_the_same_ids_of_another_tenant_and_of_its_own_other_base(client, bases):
    versions = {key: base.version for key, base in bases.items()}
    change(client, documents=[{"id": "skin", "title": "机密", "text": "配方"}], delete=["eye"])
    assert found(client, "机密 配方") == [("skin", "机密", "配方")]
    assert found(client, "机密 配方 制革", tenant="school") == [("skin", "皮革课程", "制革工艺")]
    assert found(client, "机密 视疲劳", kb_name="faq") == [("eye", "叶黄素", "缓解视疲劳")]
    assert {key for key, base in bases.items() if base.version != versions[key]} == {("health", "default")}
    change(client, tenant="school", delete=["skin"])
    assert (found(client, "制革", tenant="school"), found(client, "机密")) == ([], [("skin", "机密", "配方")])


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        pytest.param({"tenant": "nobody"}, 404, "no knowledge base nobody/default; this service has: health/default,", id="tenant"),
        pytest.param({"documents": [{"id": "", "text": "x"}]}, 422, "documents.0.id: string should have at least 1", id="no id"),
        pytest.param({"documents": [{"id": "n", "text": " "}]}, 422, "documents.0: blank; send text", id="a blank document"),
        pytest.param({"documents": [{"id": "n"}]}, 422, "documents.0.text: missing; send it", id="no text"),
        pytest.param(
            {"documents": [{"id": "n", "text": "x", "body": 1}]},
            422,
            "documents.0.body: unknown field; send only id, title, text",
            id="a field that is misspelt",
        ),
        pytest.param({"remove": ["a"]}, 422, "remove: unknown field; send only tenant_id, kb_name, documents, delete", id="unknown"),
        pytest.param({"delete": "skin"}, 422, "delete: input should be a valid list; got 'skin'", id="one id that is no list"),
    ],
)
def test_a_bad_change_says_what_to_send_and_changes_nothing(client, bases, fields, status, message):
    good = [{"id": "new", "text": "melatonin"}]
    answer = change(client, **{**fields, "documents": good + fields.get("documents", [])}).json()
    assert answer["code"] == status
    assert answer["message"].replace("documents.1", "documents.0").startswith(message)
    assert (found(client, "melatonin"), len(bases["health", "default"])) == ([], 2)


def test_a_key_that_is_set_guards_changes_too(bases):
    async def work():
        transport = httpx.ASGITransport(add_guard(create_app(bases), Limits(key="s3cret")))
        async with httpx.AsyncClient(transport=transport, base_url="http://rag") as client:
            body = {"tenant_id": "health", "delete": ["eye"]}
            refused = await client.post("/api/documents", json=body)
            left = len(bases["health", "default"])
            taken = await client.post("/api/documents", json=body, headers={"Authorization": "Bearer s3cret"})
            return refused.status_code, left, taken.status_code, len(bases["health", "default"])

    assert asyncio.run(work()) == (401, 2, 200, 1)
