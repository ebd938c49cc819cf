"""Encoders and cross-encoders, from folders that sentence-transformers loads and from servers: scores, orders, refusals, outages."""

import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient
from overtake.retrieval import models
from overtake.retrieval.corpus import Document
from overtake.retrieval.dense import HybridIndex, text_of
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.models import LocalEncoder, LocalReranker, RemoteEncoder, RemoteReranker
from overtake.retrieval.service import KnowledgeBase, create_app

DOCUMENTS = [Document("skin", "胶原蛋白", "改善皮肤弹性"), Document("sleep", "褪黑素", "帮助入睡"), Document("both", "", "皮肤 睡眠 abc")]


def test_a_folder_gives_the_vectors_that_sentence_transformers_gives_at_length_one(encoder_folder):
    from sentence_transformers import SentenceTransformer

    encoder = LocalEncoder(encoder_folder)
    found = encoder.encode(["皮肤不好", "abc"], asking=True)
    plain = SentenceTransformer(str(encoder_folder), device="cpu").encode(["皮肤不好", "abc"])
    assert (found.dtype, found.shape, encoder.name) == (np.float32, (2, 16), "tiny-encoder")
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert found == pytest.approx(plain / np.linalg.norm(plain, axis=1, keepdims=True), abs=1e-5)


def test_a_folders_vectors_find_the_document_that_says_the_same(encoder_folder):
    index = HybridIndex.build(DOCUMENTS, LocalEncoder(encoder_folder))
    for document in DOCUMENTS:
        assert index.find(text_of(document), 1)[0][0] == document


def test_threads_may_ask_a_folders_models_at_once(encoder_folder, reranker_folder):
    encoder, reranker, failed = LocalEncoder(encoder_folder), LocalReranker(reranker_folder()), []
    expected = encoder.encode(["皮肤"], asking=True), reranker.score("皮肤", DOCUMENTS)

    def ask():
        for _ in range(10):
            same = np.allclose(encoder.encode(["皮肤"], asking=True), expected[0], atol=1e-6)
            if not same or reranker.score("皮肤", DOCUMENTS) != pytest.approx(expected[1], abs=1e-6):
                failed.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_folders_relevance_is_the_sigmoid_of_its_logit(reranker_folder):
    import torch
    from sentence_transformers import CrossEncoder

    folder = reranker_folder()
    logits = CrossEncoder(str(folder)).predict([("皮肤", text_of(one)) for one in DOCUMENTS], activation_fn=torch.nn.Identity())
    scores = LocalReranker(folder).score("皮肤", DOCUMENTS)
    assert scores == pytest.approx([1 / (1 + math.exp(-float(logit))) for logit in logits], abs=1e-5)
    assert len(set(scores)) == 3 and all(0 < score < 1 for score in scores)


def test_a_classifier_of_several_labels_and_a_path_that_is_no_folder_are_refused(reranker_folder, tmp_path):
    with pytest.raises(ValueError, match="a classifier of 3 labels: give a cross-encoder with one"):
        LocalReranker(reranker_folder(3))
    with pytest.raises(
        ValueError, match=r"OVERTAKE_EMBEDDING_MODEL is .*gone, which is no folder: name one, or set OVERTAKE_EMBEDDING_BASE"
    ):
        LocalEncoder(tmp_path / "gone")


def rerank_server(serve, tei=False, scale=1.0):
    def answer(body):
        texts = body["texts" if tei else "documents"]
        rows = [{"index": place, "score" if tei else "relevance_score": scale * len(text) / 100} for place, text in enumerate(texts)]
        rows.reverse()  # the best first, as servers answer
        return 200, rows if tei else {"results": rows}

    return serve(answer)


@pytest.mark.parametrize("tei", [pytest.param(False, id="jina, cohere, vllm"), pytest.param(True, id="tei")])
def test_a_servers_relevance_comes_in_the_order_of_the_documents(serve, tei):
    server = rerank_server(serve, tei)
    reranker = RemoteReranker(f"{server.url}/v1", "" if tei else "bge", "s3cret")
    assert reranker.score("皮肤", DOCUMENTS) == [len(text_of(one)) / 100 for one in DOCUMENTS]
    (request,) = server.requests
    texts = list(map(text_of, DOCUMENTS))
    jina = {"model": "bge", "query": "皮肤", "documents": texts, "top_n": 3, "return_documents": False}
    assert (request.path, request.key) == ("/v1/rerank", "Bearer s3cret")
    assert request.body == ({"query": "皮肤", "texts": texts} if tei else jina)


def test_a_knowledge_base_is_ordered_and_cut_by_the_cross_encoder(serve):
    base = KnowledgeBase.build(DOCUMENTS, {}, RemoteReranker(rerank_server(serve).url, "bge"))
    hits = base.retrieve("皮肤", "皮肤 褪黑素", score_threshold=0)
    assert {hit.doc_id: hit.reranker_score for hit in hits} == {one.id: len(text_of(one)) / 100 for one in DOCUMENTS}
    assert base.waits and base.version != KnowledgeBase.build(DOCUMENTS, {}, RemoteReranker("http://other", "gte")).version
    assert [hit.doc_id for hit in base.retrieve("皮肤", "皮肤 褪黑素", score_threshold=0.1)] == ["skin"]


@pytest.mark.parametrize(
    ("status", "value", "said"),
    [
        pytest.param(503, {"error": "loading"}, "HTTP 503", id="an outage"),
        pytest.param(401, {"error": "bad key"}, "HTTP 401", id="a wrong key"),
        pytest.param(200, {"results": [{"index": 0, "relevance_score": 3.2}]}, r"outside \[0, 1\]: have the server apply", id="logits"),
        pytest.param(200, {"results": [{"index": 0, "relevance_score": 0.2}]}, "scores came for 1", id="documents left out"),
        pytest.param(200, {"results": "none"}, "holds no", id="another form"),
        pytest.param(200, [], "scores came for 0", id="nothing"),
    ],
)
def test_what_a_reranker_should_not_say_is_a_503_and_never_the_lexical_score(serve, status, value, said):
    base = KnowledgeBase.build(DOCUMENTS, {}, RemoteReranker(serve(lambda body: (status, value)).url, "bge", "s3cret"))
    with pytest.raises(Unavailable, match=said):
        base.retrieve("皮肤", None)
    answer = TestClient(create_app({("t", "default"): base})).post("/api/chat/general_rag", json={"query": "皮肤", "tenant_id": "t"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "OVERTAKE_RERANKER_BASE_URL" in answer.json()["message"] and "s3cret" not in answer.text


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"data": [{"index": 0, "embedding": [1.0]}]}, id="vectors left out"),
        pytest.param({"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}, id="two lengths"),
        pytest.param({"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}, id="empty vectors"),
        pytest.param({"data": [{"index": 0, "embedding": ["a"]}, {"index": 1, "embedding": ["b"]}]}, id="no numbers"),
        pytest.param({"data": [{"embedding": [1.0]}] * 2}, id="no index"),
        pytest.param([], id="another form"),
    ],
)
def test_an_embedding_answer_out_of_form_is_unavailable(serve, value):
    with pytest.raises(Unavailable, match="the embedding endpoint gave no usable answer"):
        RemoteEncoder(serve(lambda body: (200, value)).url, "m").encode(["a", "b"], asking=False)


def test_many_texts_go_in_requests_of_64_and_come_back_in_order(embedding):
    found = RemoteEncoder(f"{embedding.url}/v1", "m", "s3cret").encode([f"t{number}" for number in range(130)], asking=False)
    assert [len(request.body["input"]) for request in embedding.requests] == [64, 64, 2]
    assert {(request.path, request.key, request.body["model"]) for request in embedding.requests} == {
        ("/v1/embeddings", "Bearer s3cret", "m")
    }
    alone = RemoteEncoder(f"{embedding.url}/v1", "m").encode(["t100"], asking=False)
    assert found[100] == pytest.approx(alone[0]) and found.shape == (130, 4)


def test_an_address_where_nobody_listens_is_unavailable():
    with pytest.raises(Unavailable, match=r"the embedding endpoint gave no usable answer \(ClientConnectorError"):
        RemoteEncoder("http://127.0.0.1:9/v1", "m").encode(["a"], asking=True)


def test_the_settings_name_the_models(monkeypatch, encoder_folder, reranker_folder):
    assert (models.encoder(), models.reranker()) == (None, None)
    for name, value in {"EMBEDDING_MODEL": encoder_folder, "RERANKER_MODEL": reranker_folder()}.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", str(value))
    models.settings.load.cache_clear()
    assert (type(models.encoder()), type(models.reranker())) == (LocalEncoder, LocalReranker)
    for name in ("EMBEDDING", "RERANKER"):
        monkeypatch.setenv(f"OVERTAKE_{name}_BASE_URL", "http://127.0.0.1:9")
    models.settings.load.cache_clear()
    assert (type(models.encoder()), type(models.reranker())) == (RemoteEncoder, RemoteReranker)
    monkeypatch.delenv("OVERTAKE_EMBEDDING_MODEL")
    models.settings.load.cache_clear()
    with pytest.raises(ValueError, match="no model is named: set OVERTAKE_EMBEDDING_MODEL"):
        models.encoder()


def test_serving_words_alone_imports_no_heavy_library():
    heavy = "torch", "sentence_transformers", "transformers", "qdrant_client", "aiohttp"
    code = f"import sys\nfrom overtake.retrieval import guard, serving, stores\nprint([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
