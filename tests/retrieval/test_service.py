"""The service: which text does what, thresholds, tenants, refusals."""

import pytest
from fastapi.testclient import TestClient
from overtake.retrieval.corpus import Document
from overtake.retrieval.service import Hit, KnowledgeBase, create_app

DOCUMENTS = [
    Document("skin", "胶原蛋白肽", "改善皮肤弹性，减少皱纹。"),
    Document("eye", "叶黄素", "缓解视疲劳，保护视网膜。"),
    Document("sleep", "褪黑素", "帮助入睡，改善睡眠。"),
]
HEALTH = KnowledgeBase.build(DOCUMENTS, {"显老": "胶原蛋白肽 皱纹"})
SCHOOL = KnowledgeBase.build([Document("math", "一元二次方程", "改善解题速度的课程。")], {})
CLIENT = TestClient(create_app({("health", "default"): HEALTH, ("school", "default"): SCHOOL}))


def ask(**fields):
    return CLIENT.post("/api/chat/general_rag", json={"query": "改善皮肤", "tenant_id": "health", **fields})


def recall(**fields):
    answer = ask(**fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["recall"]


def test_an_answer_has_the_whole_contract():
    answer = ask(rewritten_query="皮肤 皱纹").json()
    (score,) = HEALTH.reranker.score("改善皮肤", DOCUMENTS[:1])
    assert score > 0.5
    content = "改善皮肤弹性，减少皱纹。"
    assert answer == {
        "code": 0,
        "message": "ok",
        "data": {
            "query": "改善皮肤",
            "rewritten_query": "皮肤 皱纹",
            "rewritten_by": "client",
            "recall": [
                {
                    "doc_id": "skin",
                    "title": "胶原蛋白肽",
                    "content": content,
                    "reranker_score": score,
                    "first_stage_score": 1.0,  # the only one found is the best one
                    "rank": 1,
                }
            ],
            "kb_version": HEALTH.version,
        },
    }


def test_a_document_scores_the_same_whatever_the_rewrite_says():
    rewrites = ["皮肤", "胶原蛋白肽 改善皮肤弹性，减少皱纹。", "叶黄素 皱纹 褪黑素"]
    scores = {
        hit["reranker_score"] for text in rewrites for hit in recall(rewritten_query=text, score_threshold=0) if hit["doc_id"] == "skin"
    }
    assert len(scores) == 1


def test_the_rewrite_alone_decides_what_is_found():
    assert [hit["doc_id"] for hit in recall(rewritten_query="视网膜", score_threshold=0)] == ["eye"]
    assert recall(rewritten_query="视网膜", score_threshold=0.5) == []


# BM25 (k1 1.2, b 0.75) by hand; skin has 21 words, eye 18, sleep 16, on average 18.33; a word that one of three documents holds has idf
# ln(1 + 2.5 / 1.5) = .981. skin holds 皮肤, 皮, 肤 once each: 3 * .981 * 2.2 / (1 + 1.2 * (.25 + .75 * 21 / 18.33)) = 2.78. eye holds
# 视网膜, 网, 膜, 疲劳, 疲, 劳 once, 6 * .981 * 2.2 / 2.184 = 5.93, and 视 twice, which the rewrite says twice:
# 2 * .981 * 4.4 / 3.184 = 2.71; together 8.64. So the shares are eye 1 and skin .32.
EYE_BEFORE_SKIN = "视网膜 视疲劳 皮肤"


def test_documents_come_by_the_sum_of_both_scores():
    hits = recall(rewritten_query=EYE_BEFORE_SKIN, score_threshold=0)
    assert [(hit["doc_id"], hit["rank"]) for hit in hits] == [("skin", 1), ("eye", 2)]
    assert [hit["first_stage_score"] for hit in hits] == pytest.approx([2.78 / 8.64, 1], abs=0.001)
    # skin .88 + .32, eye 0 + 1: the question shares no character with eye.
    assert [hit["reranker_score"] for hit in hits] == pytest.approx([0.88, 0], abs=0.005)


class Told:
    """A reranker that gives the scores it was told."""

    def __init__(self, **scores):
        self.scores = scores

    def score(self, query, documents):
        return [self.scores[document.id] for document in documents]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(0.3, 0.9, ["b", "a"], id="1.3 and 1.4: the reranker outweighs the first stage"),
        pytest.param(0.3, 0.7, ["a", "b"], id="1.3 and 1.2: the first stage outweighs the reranker"),
        pytest.param(0.25, 0.75, ["a", "b"], id="1.25 twice: the first stage's order stays"),
    ],
)
def test_the_order_worked_by_hand(a, b, expected):
    # Two documents of equal length, every word in one of them: each word found is worth the same, so a has two shares and b one.
    base = KnowledgeBase.build([Document("a", "", "one two"), Document("b", "", "three four")], {}, Told(a=a, b=b))
    hits = base.retrieve("?", "one two three", score_threshold=0)
    assert [hit.doc_id for hit in hits] == expected
    assert {hit.doc_id: (hit.reranker_score, hit.first_stage_score) for hit in hits} == {"a": (a, 1.0), "b": (b, 0.5)}
    assert [hit.rank for hit in hits] == [1, 2]
    # The threshold is about the reranker's score alone.
    assert [(hit.doc_id, hit.rank) for hit in base.retrieve("?", "one two three", score_threshold=0.5)] == [("b", 1)]


def test_a_rewrite_that_names_the_right_document_ranks_it_first_though_the_question_shares_no_word_with_it():
    gold = Document("gold", "胶原蛋白肽", "改善皮肤弹性。")
    other = Document("other", "防晒霜", "脸上要涂，白天出门不怕纹路加深。")
    base = KnowledgeBase.build([gold, other], {})
    question = "脸上有纹路怎么办"
    assert [hit.doc_id for hit in base.retrieve(question, question, score_threshold=0)] == ["other"]
    # other holds one character of the rewrite (白), and the reranker knows it as the better one: alone it would put it first.
    first, second = base.retrieve(question, gold.title, score_threshold=0)
    assert (first.doc_id, first.reranker_score, first.first_stage_score) == ("gold", 0.0, 1.0)
    # other: .73 + .04, gold: 0 + 1.
    assert second.doc_id == "other" and second.reranker_score > 0.5
    assert second.reranker_score + second.first_stage_score < 1.0


def test_equal_scores_keep_the_first_stage_order():
    hits = recall(query="区块链", rewritten_query="褪黑素 入睡 视网膜", score_threshold=0)
    assert [(hit["doc_id"], hit["reranker_score"]) for hit in hits] == [("sleep", 0.0), ("eye", 0.0)]


def test_the_threshold_keeps_a_document_that_reaches_it_exactly():
    (score,) = HEALTH.reranker.score("改善皮肤", DOCUMENTS[:1])
    assert len(recall(score_threshold=score)) == 1
    assert recall(score_threshold=min(1, score + 1e-9)) == []


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        # skin .88 + .32, eye 0 + 1; eye is the first stage's best.
        pytest.param(EYE_BEFORE_SKIN, "skin", id="the reranker's best leads"),
        # sleep .59 + 1 (it holds 改善 too), skin .88 + .11; skin is the reranker's best.
        pytest.param("褪黑素 入睡 睡眠 改善", "sleep", id="the first stage's best leads"),
    ],
)
def test_top_k_cuts_after_the_scores_are_sorted(rewrite, expected):
    assert [hit["doc_id"] for hit in recall(rewritten_query=rewrite, top_k=1, score_threshold=0)] == [expected]


def test_more_candidates_than_asked_for_are_scored():
    one = TestClient(create_app({("health", "default"): HEALTH}, candidates=1))
    body = {"query": "改善皮肤", "rewritten_query": EYE_BEFORE_SKIN, "tenant_id": "health", "top_k": 1, "score_threshold": 0}
    assert [hit["doc_id"] for hit in one.post("/api/chat/general_rag", json=body).json()["data"]["recall"]] == ["eye"]
    assert [hit["doc_id"] for hit in CLIENT.post("/api/chat/general_rag", json=body).json()["data"]["recall"]] == ["skin"]


@pytest.mark.parametrize("fields", [{}, {"rewritten_query": None}])
def test_without_a_rewrite_the_service_adds_the_terms_of_its_lexicon(fields):
    data = ask(query="显老了怎么办", **fields).json()["data"]
    assert (data["rewritten_query"], data["rewritten_by"]) == ("显老了怎么办 胶原蛋白肽 皱纹", "service")
    assert [hit["doc_id"] for hit in data["recall"]] == ["skin"]


def test_a_given_rewrite_is_used_as_it_is():
    data = ask(query="显老了怎么办", rewritten_query="显老 ").json()["data"]
    assert (data["rewritten_query"], data["rewritten_by"], data["recall"]) == ("显老 ", "client", [])


def test_a_tenant_never_sees_the_documents_of_another():
    assert [hit["doc_id"] for hit in recall(tenant_id="school", rewritten_query="改善 胶原蛋白肽 叶黄素", score_threshold=0)] == ["math"]
    assert "math" not in [hit["doc_id"] for hit in recall(rewritten_query="改善 一元二次方程 课程", score_threshold=0)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"tenant_id": "nobody"}, "no knowledge base nobody/default; this service has: health/default, school/default", id="tenant"
        ),
        pytest.param(
            {"kb_name": "faq"}, "no knowledge base health/faq; this service has: health/default, school/default", id="knowledge base"
        ),
    ],
)
def test_an_unknown_name_lists_what_there_is(fields, message):
    answer = ask(**fields)
    assert (answer.status_code, answer.json()) == (404, {"code": 404, "message": message})


FIELDS = "query, rewritten_query, tenant_id, kb_name, top_k, score_threshold"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"query": " \n"}, "query: blank; send text", id="a blank question"),
        pytest.param(
            {"rewritten_query": ""},
            "rewritten_query: blank; send text, or null to let the service rewrite",
            id="a blank rewrite is not none",
        ),
        pytest.param({"query": "长" * 4001}, "query: 4001 characters; send at most 4000", id="a question too long"),
        pytest.param({"query": 5}, "query: input should be a valid string; got 5", id="a question that is no text"),
        pytest.param({"tenant_id": None}, "tenant_id: input should be a valid string; got None", id="a null tenant"),
        pytest.param({"top_k": 0}, "top_k: input should be greater than or equal to 1; got 0", id="top_k too small"),
        pytest.param({"top_k": 101}, "top_k: input should be less than or equal to 100; got 101", id="top_k too large"),
        pytest.param(
            {"score_threshold": 1.5}, "score_threshold: input should be less than or equal to 1; got 1.5", id="a threshold above 1"
        ),
        pytest.param({"topk": 3}, f"topk: unknown field; send only {FIELDS}", id="a field that is misspelt"),
        pytest.param({"query": "", "top_k": 0}, "query: blank; send text; top_k: input should be greater", id="two errors at once"),
    ],
)
def test_a_bad_request_says_what_to_send(fields, message):
    answer = ask(**fields)
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"{", "body: not JSON", id="broken JSON"),
        pytest.param(b"", "body: missing; send one JSON object", id="nothing"),
        pytest.param(b"[]", "body: input should be", id="a list"),
        pytest.param(b'{"tenant_id": "health"}', "query: missing; send it", id="no question"),
        pytest.param(b'{"query": "\\ud800", "tenant_id": "health"}', "query: input should be a valid string", id="a lone surrogate"),
        pytest.param(b'{"query": "x", "tenant_id": "health", "\\ud800": 1}', "body: input should be", id="a surrogate as a field"),
        pytest.param(b'{"query": "x", "tenant_id": "health", "score_threshold": NaN}', "score_threshold: input should be", id="no number"),
    ],
)
def test_a_body_that_cannot_be_read_says_so(body, message):
    answer = CLIENT.post("/api/chat/general_rag", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/chat/general_rag", 405), ("POST", "/api/chat", 404)])
def test_a_wrong_address_answers_in_the_same_form(method, path, status):
    answer = CLIENT.request(method, path)
    assert answer.status_code == answer.json()["code"] == status
    assert answer.json()["message"].startswith(f"{method} {path}: ")


def test_health_lists_the_knowledge_bases():
    assert CLIENT.get("/health").json() == {
        "status": "ok",
        "knowledge_bases": [
            {"tenant_id": "health", "kb_name": "default", "documents": 3, "version": HEALTH.version},
            {"tenant_id": "school", "kb_name": "default", "documents": 1, "version": SCHOOL.version},
        ],
    }


def test_the_interface_is_described():
    schema = CLIENT.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/api/chat/general_rag", "/api/documents", "/health"}
    answers = schema["paths"]["/api/chat/general_rag"]["post"]["responses"]
    names = {status: answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2] for status, answer in answers.items()}
    assert names == {"200": "Answer", "404": "Refusal", "422": "Refusal", "503": "Refusal"}
    assert CLIENT.get("/docs").status_code == 200


def test_the_version_follows_documents_lexicon_and_reranker():
    class Constant:
        def score(self, query, documents):
            return [1.0 for _ in documents]

    bases = [
        KnowledgeBase.build(DOCUMENTS, {"显老": "胶原蛋白肽 皱纹"}),
        KnowledgeBase.build(DOCUMENTS, {}),
        KnowledgeBase.build(DOCUMENTS[:2], {}),
        KnowledgeBase.build(DOCUMENTS, {}, Constant()),
    ]
    assert bases[0].version == HEALTH.version
    assert len({base.version for base in bases}) == 4
    assert bases[3].retrieve("问", "视网膜") == [Hit("eye", "叶黄素", "缓解视疲劳，保护视网膜。", 1.0, 1.0, 1)]


def test_in_process_an_empty_rewrite_finds_nothing():
    assert HEALTH.retrieve("改善皮肤", "", score_threshold=0) == []


def test_a_folder_is_loaded_with_its_lexicon(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "title": "虾青素", "text": "抗氧化"}\n', encoding="utf-8")
    without = KnowledgeBase.load(tmp_path)
    (tmp_path / "lexicon.tsv").write_text("显老\t抗氧化\n", encoding="utf-8")
    base = KnowledgeBase.load(tmp_path)
    assert (without.lexicon, base.lexicon) == ({}, {"显老": "抗氧化"})
    assert [hit.doc_id for hit in base.retrieve("显老", None)] == ["a"]
    assert KnowledgeBase.load(tmp_path / "corpus.jsonl").version == without.version != base.version
