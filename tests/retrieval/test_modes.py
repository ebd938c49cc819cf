"""Ways to serve a rewrite: what each does, over HTTP as in process, and the lines in the documents that do the same for another service."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from overtake.retrieval.corpus import Document, read_corpus, read_queries
from overtake.retrieval.modes import doubt, fused
from overtake.retrieval.service import KnowledgeBase, create_app, lexicon_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    Document("skin", "胶原蛋白肽", "改善皮肤弹性，减少皱纹。"),
    Document("eye", "叶黄素", "缓解视疲劳，保护视网膜。"),
    Document("sleep", "褪黑素", "帮助入睡，改善睡眠。"),
]
BASE = KnowledgeBase.build(DOCUMENTS, {"显老": "胶原蛋白肽 皱纹"})
CLIENT = TestClient(create_app({("health", "default"): BASE}))
QUESTION = "改善皮肤弹性"


def data(rewrite, **fields):
    body = {"query": QUESTION, "tenant_id": "health", "score_threshold": 0, "rewritten_query": rewrite, **fields}
    answer = CLIENT.post("/api/chat/general_rag", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def names(served):
    return [hit["doc_id"] for hit in served["recall"]]


def test_without_a_mode_the_rewrite_alone_finds_and_the_answer_names_no_mode():
    served = data("视网膜")
    assert names(served) == ["eye"]
    assert not {"mode", "fell_back"} & served.keys()


def test_fused_holds_the_documents_of_both_and_those_found_twice_stand_first():
    assert names(data(QUESTION)) == ["skin", "sleep"]
    served = data("睡眠 视网膜", mode="fused")
    assert (names(served), served["mode"], served["fell_back"]) == (["sleep", "skin", "eye"], "fused", "")
    assert [hit["rank"] for hit in served["recall"]] == [1, 2, 3]
    assert names(data("睡眠 视网膜", mode="fused", top_k=1)) == ["sleep"]
    assert names(data("睡眠 视网膜", mode="fused", score_threshold=0.5)) == ["skin"], "the threshold holds for both lists"


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        ("改善皮肤弹性？", "copy"),
        ("很抱歉，我无法回答这个问题。", "refusal"),
        ("皮肤 " * 51, "too long"),
        ("视网膜", "disagreement"),
        ("完全无关", "disagreement"),
        ("胶原蛋白肽 皱纹 皮肤", ""),
    ],
)
def test_fallback_takes_the_question_where_the_rewrite_is_in_doubt(rewrite, reason):
    served = data(rewrite, mode="fallback")
    assert (served["mode"], served["fell_back"]) == ("fallback", reason)
    assert names(served) == (["skin", "sleep"] if reason else names(data(rewrite)))


def test_a_mode_without_a_rewrite_is_about_the_services_own():
    assert data(None, query="显老", mode="fallback")["fell_back"] == ""
    assert names(data(None, query="显老", mode="fused")) == ["skin"]


def test_a_mode_that_does_not_exist_is_refused_by_name():
    answer = CLIENT.post("/api/chat/general_rag", json={"query": "皮肤", "tenant_id": "health", "mode": "both"})
    assert answer.status_code == 422
    assert answer.json()["message"] == "mode: input should be 'fused' or 'fallback'; got 'both'"


def test_where_the_question_finds_nothing_no_list_disagrees():
    assert doubt("数羊到天亮", "睡眠", [], BASE.retrieve("数羊到天亮", "睡眠", 5, 0)) == ""
    found = BASE.retrieve("数羊到天亮", "睡眠", 5, 0)
    assert fused([], found) == found != []


def test_the_lines_in_the_documents_serve_as_the_service_does():
    page = (ROOT / "docs/rag_service.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def serve" in block)
    assert len(block.strip().splitlines()) <= 32
    lines: dict = {}
    exec(compile(block, "docs/rag_service.md", "exec"), lines)
    folder = ROOT / "datasets/query_rewrite/fivedoctors"
    base = KnowledgeBase.build(read_corpus(folder)[::8], lexicon_of(folder))
    questions = [row["text"] for row in read_queries(folder).values()][::500]
    rewrites = ["很抱歉，我无法回答这个问题。", "褪黑素 " * 50, *questions[:2], *map(base.own_rewrite, questions)]
    reasons = set()
    for question in questions:
        for rewrite in rewrites:
            for mode in (None, "fused", "fallback"):
                hits, reason = base.serve(question, rewrite, 5, 0.3, 10, mode)
                served = lines["serve"](
                    question, rewrite, mode, lambda text, asked=question: list(map(asdict, base.retrieve(asked, text, 10, 0, 10))), 5, 0.3
                )
                assert [document["doc_id"] for document in served["recall"]] == [hit.doc_id for hit in hits], (question, rewrite, mode)
                # What is a copy the service reads more closely, and a copy's list is the question's.
                assert {reason, served.get("fell_back", "")} in ({reason}, {"copy", ""}), (question, rewrite, mode)
                reasons.add(served.get("fell_back", ""))
    assert reasons == {"", "copy", "refusal", "too long", "disagreement"}
