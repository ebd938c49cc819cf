"""Words and meaning together, over both engines: what is found, changed, kept, kept apart; and an encoder that is away is no answer."""

import threading
import warnings

import numpy as np
import pytest
from fastapi.testclient import TestClient
from overtake.retrieval.corpus import Document
from overtake.retrieval.dense import HybridIndex, Vectors
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.models import RemoteEncoder
from overtake.retrieval.modes import fuse
from overtake.retrieval.qdrant import QdrantIndex
from overtake.retrieval.service import KnowledgeBase, create_app
from qdrant_client import QdrantClient

SKIN, SLEEP = Document("skin", "胶原蛋白肽", "弹性"), Document("sleep", "褪黑素", "夜间助眠")
OTHER = Document("other", "钙片", "骨骼")


@pytest.fixture
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # local mode has no payload index
        yield QdrantClient(":memory:")


@pytest.fixture
def encoder(embedding):
    return RemoteEncoder(f"{embedding.url}/v1", "meaning-4", "s3cret")


@pytest.fixture(params=["embedded", "qdrant"])
def engine(request, client, encoder):
    made = HybridIndex.build([], encoder) if request.param == "embedded" else QdrantIndex(client, ("health", "default"), encoder)
    made.change([SKIN, SLEEP, OTHER])
    return made


def ids(engine, text, k=10):
    return [document.id for document, _ in engine.find(text, k)]


def test_fused_scores_are_the_sums_of_the_reciprocal_ranks():
    assert fuse([["a", "b", "c"], ["c", "a"]], 5) == [
        ("a", pytest.approx(1 / 61 + 1 / 62)),
        ("c", pytest.approx(1 / 63 + 1 / 61)),
        ("b", 1 / 62),
    ]
    assert fuse([["b"], ["a"]], 1) == [("a", 1 / 61)]
    assert fuse([[], []], 3) == []


def test_a_question_without_a_common_word_finds_by_meaning_and_words_still_count(engine):
    assert ids(engine, "睡不着了")[0] == "sleep"
    assert ids(Index.build([SKIN, SLEEP, OTHER]), "睡不着了") == []
    assert ids(engine, "钙片")[0] == "other"
    assert engine.find("失眠 钙片", 1)[0][0] in (SLEEP, OTHER)


def test_both_engines_have_one_order_and_the_same_scores(client, encoder):
    documents = [
        Document(f"d{number}", "", f"{'失眠 ' * (number % 3)}{'皮肤 ' * (number % 2)}词{number} 钙 {'乙 ' * number}")
        for number in range(30)
    ]
    embedded, qdrant = HybridIndex.build(documents, encoder), QdrantIndex(client, ("a", "b"), encoder)
    qdrant.change(documents)
    for text in ("睡不着 钙", "显老", "词7", "钙"):
        first, second = embedded.find(text, 10), qdrant.find(text, 10)
        assert len(first) == 10 and len({document.id for document, _ in first} & {document.id for document, _ in second}) >= 9
        assert [score for _, score in first] == pytest.approx([score for _, score in second], rel=0.02)


def test_text_without_a_word_finds_nothing_and_no_documents_are_refused(engine):
    assert ids(engine, "？！") == []
    with pytest.raises(ValueError, match="k is 0"):
        engine.find("失眠", 0)


def test_what_is_replaced_or_deleted_is_found_by_its_new_meaning_only(engine):
    engine.change([Document("skin", "褪黑素", "新")], ["sleep", "never"])
    assert ids(engine, "失眠", 1) == ["skin"] and "sleep" not in ids(engine, "失眠")
    assert (len(engine), engine.get(["skin"])) == (2, [Document("skin", "褪黑素", "新")])


def test_tenants_neither_see_nor_change_each_others_vectors(client, encoder):
    health, school = (QdrantIndex(client, (tenant, "default"), encoder) for tenant in ("health", "school"))
    health.change([SLEEP])
    school.change([SKIN, Document("sleep", "失眠课", "机密")])
    school.change(delete=["sleep"])
    assert (ids(health, "失眠 机密"), ids(school, "失眠"), ids(health, "显老")) == (["sleep"], ["skin"], ["sleep"])


def test_a_folder_keeps_the_vectors_and_opens_without_asking_for_them_again(tmp_path, encoder, embedding):
    first = HybridIndex.build([SKIN, SLEEP], encoder, tmp_path / "kb")
    first.change([OTHER], ["skin"])
    first.close()
    asked = len(embedding.requests)
    second = HybridIndex(Index.open(tmp_path / "kb"), encoder)
    assert len(embedding.requests) == asked
    assert second.find("失眠", 10) == first.find("失眠", 10) and ids(second, "失眠")[0] == "sleep"


def test_a_folder_of_another_model_or_of_none_is_refused_by_name(tmp_path, encoder):
    HybridIndex.build([SKIN], encoder, tmp_path / "a").close()
    Index.build([SKIN], tmp_path / "b")
    with pytest.raises(
        ValueError, match=r"document 'skin' has a vector of 'meaning-4', not of 'other-model': load the documents into a new"
    ):
        HybridIndex(Index.open(tmp_path / "a"), RemoteEncoder("http://127.0.0.1:9", "other-model"))
    with pytest.raises(ValueError, match="document 'skin' has a vector of no model, not of 'meaning-4'"):
        HybridIndex(Index.open(tmp_path / "b"), encoder)
    assert [hit for hit, _ in Index.open(tmp_path / "a").search("胶原蛋白肽", 5)] == ["skin"]  # words alone still can


def test_models_of_different_names_have_collections_of_their_own(client, encoder, embedding):
    QdrantIndex(client, ("a", "b"), encoder).change([SKIN])
    other = QdrantIndex(client, ("a", "b"), RemoteEncoder(f"{embedding.url}/v1", "org/other model"))
    assert (len(other), other.kind) == (0, "stems and org/other model")
    assert sorted(one.name for one in client.get_collections().collections) == ["overtake_meaning-4", "overtake_org_other_model"]


def test_an_encoder_that_is_away_changes_nothing_and_is_no_answer(engine, embedding):
    embedding.state["down"] = 503
    with pytest.raises(Unavailable, match=r"the embedding endpoint gave no usable answer \(HTTP 503"):
        engine.find("钙片", 10)
    with pytest.raises(Unavailable):
        engine.change([Document("new", "", "新")], ["sleep"])
    embedding.state["down"] = 0
    assert (len(engine), engine.get(["new"]), ids(engine, "失眠")[0]) == (3, [], "sleep")


def test_over_http_an_encoder_that_is_away_is_a_503_and_never_words_alone(engine, embedding):
    base = KnowledgeBase(engine, {})
    client = TestClient(create_app({("health", "default"): base}))
    question = {"query": "失眠 钙片", "tenant_id": "health", "score_threshold": 0}
    answer = client.post("/api/chat/general_rag", json=question).json()["data"]
    assert {hit["doc_id"] for hit in answer["recall"]} >= {"sleep", "other"}
    assert answer["recall"][0]["first_stage_score"] <= 1
    version = base.version
    embedding.state["down"] = 500
    refused = client.post("/api/chat/general_rag", json=question)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "OVERTAKE_EMBEDDING_BASE_URL" in refused.json()["message"] and "s3cret" not in refused.text
    change = {"tenant_id": "health", "documents": [{"id": "new", "text": "新"}]}
    assert client.post("/api/documents", json=change).status_code == 503
    assert (len(base), base.version) == (3, version)
    embedding.state["down"] = 0
    assert client.post("/api/documents", json=change).json()["documents"] == 4


def test_the_version_knows_the_encoder(encoder, embedding):
    other = RemoteEncoder(f"{embedding.url}/v1", "meaning-5")
    versions = {KnowledgeBase.build([SKIN], {}, encoder=one).version for one in (None, encoder, other)}
    assert len(versions) == 3
    assert KnowledgeBase.build([SKIN], {}, encoder=encoder).version in versions


def unit(*numbers):
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def test_vectors_come_by_their_product_and_what_was_replaced_or_deleted_is_gone_through_growth():
    vectors, rng = Vectors(), np.random.default_rng(0)
    assert vectors.nearest(unit(1, 0), 3) == []
    truth = {}
    for _ in range(60):
        added = {f"v{rng.integers(3000)}": unit(*rng.normal(size=8)) for _ in range(100)}
        gone = [f"v{rng.integers(3000)}" for _ in range(40)]
        vectors.change(added, gone)
        truth = {key: value for key, value in truth.items() if key not in gone} | added
    asked = unit(*rng.normal(size=8))
    scores = {key: float(value @ asked) for key, value in truth.items()}
    found = vectors.nearest(asked, 20)
    assert [key for key, _ in found] == sorted(scores, key=lambda key: -scores[key])[:20]
    assert [score for _, score in found] == pytest.approx(sorted(scores.values(), reverse=True)[:20], abs=1e-6)
    assert len(vectors) == len(truth) == len(vectors.nearest(asked, 10_000))


def test_searches_in_other_threads_see_whole_states_while_vectors_change():
    vectors, broken, stop = Vectors(), [], threading.Event()
    vectors.change({"p": unit(1, 0), "q": unit(1, 0)}, ())

    def search():
        while not stop.is_set():
            found = {doc_id for doc_id, _ in vectors.nearest(unit(1, 0), 2)}
            if len(found) != 2 or len({doc_id[1:] for doc_id in found}) != 1:
                broken.append(found)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(400):
        old, new = f"{number - 1}" if number else "", f"{number}"
        vectors.change({f"p{new}": unit(1, 0), f"q{new}": unit(1, 0)}, [f"p{old}", f"q{old}"])
    stop.set()
    for thread in threads:
        thread.join()
    assert broken == []
