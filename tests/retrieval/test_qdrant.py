"""The distributed engine (Qdrant's local mode) beside the embedded one: the same documents, changes and tenants, near the same order."""

import warnings
import zlib
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from overtake.retrieval import qdrant
from overtake.retrieval.corpus import Document, read_corpus, read_qrels, read_queries
from overtake.retrieval.dense import HybridIndex
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.metrics import evaluate_run
from overtake.retrieval.qdrant import QdrantIndex
from overtake.retrieval.service import KnowledgeBase
from qdrant_client import QdrantClient

STARD = Path(__file__).parents[3] / "shared" / "data" / "query_rewrite" / "stard_zh"
SKIN, EYE = Document("skin", "胶原蛋白肽", "改善皮肤弹性"), Document("eye", "护眼片", "缓解视疲劳 lutein")


@pytest.fixture
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # local mode has no payload index
        yield QdrantClient(":memory:")


@pytest.fixture(params=["embedded", "qdrant"])
def engine(request, client):
    made = Index.build([]) if request.param == "embedded" else QdrantIndex(client, ("health", "default"))
    made.change([SKIN, EYE])
    return made


def ids(engine, text):
    return [document.id for document, _ in engine.find(text, 10)]


def test_both_engines_add_replace_delete_and_give_back_the_texts(engine):
    engine.change([Document("eye", "虾红", "抗氧化"), Document("sleep", "", "甲"), Document("sleep", "", "褪黑")], ["skin", "eye", "never"])
    assert (ids(engine, "虾红"), ids(engine, "褪黑"), ids(engine, "lutein"), ids(engine, "皮肤")) == (["eye"], ["sleep"], [], [])
    assert engine.get({"eye", "skin"}) == [Document("eye", "虾红", "抗氧化")]
    assert {document.id for document in engine.documents()} == {"eye", "sleep"} and len(engine) == 2


def test_both_engines_find_an_english_word_by_its_other_forms(engine):
    assert ids(engine, "Luteins") == ["eye"]


def test_a_collection_written_before_words_were_stemmed_is_refused(client, monkeypatch):
    monkeypatch.setattr(qdrant, "_VECTOR", "words")
    QdrantIndex(client, ("health", "default"))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="collection overtake is of an older form, without stems: delete it and load it again"):
        QdrantIndex(client, ("health", "default"))


def test_both_engines_answer_nothing_to_text_without_a_word_and_refuse_no_documents(engine):
    assert (ids(engine, "？！"), ids(engine, "区块链")) == ([], [])
    with pytest.raises(ValueError, match="k is 0: ask for at least one document"):
        engine.find("皮肤", 0)


def test_tenants_in_one_collection_neither_see_nor_change_nor_weigh_each_others_documents(client):
    health, school, faq = (QdrantIndex(client, base) for base in [("health", "default"), ("school", "default"), ("health", "faq")])
    health.change([SKIN, EYE])
    before = health.find("皮肤 护眼片", 10)
    school.change([Document("skin", "皮肤", "机密"), *(Document(f"s{number}", "", "皮肤") for number in range(20))])
    faq.change([Document("eye", "", "皮肤")])
    school.change(delete=["eye"])
    assert health.find("皮肤 护眼片", 10) == before
    assert (ids(health, "机密"), ids(faq, "机密 护眼片"), len(health), len(school), len(faq)) == ([], [], 2, 21, 1)
    assert health.get(["s1"]) == [] and school.get(["skin"]) == [Document("skin", "皮肤", "机密")]


def test_a_knowledge_base_answers_and_changes_over_either_engine(engine):
    base = KnowledgeBase(engine, {"显老": "胶原蛋白肽"})
    assert [hit.doc_id for hit in base.retrieve("显老了", None)] == ["skin"]
    base.change([Document("sleep", "褪黑", "melatonin")], ["skin"])
    assert [hit.doc_id for hit in base.retrieve("melatonin", None)] == ["sleep"]
    assert base.version == KnowledgeBase.build([EYE, Document("sleep", "褪黑", "melatonin")], {"显老": "胶原蛋白肽"}).version


def test_a_server_that_does_not_answer_is_unavailable_in_one_sentence():
    with pytest.raises(Unavailable, match="Qdrant does not answer"):
        QdrantIndex(QdrantClient(url="http://127.0.0.1:9", check_compatibility=False), ("a", "b"))


class Hashed:
    """Vectors of hashed character pairs: enough for texts to be near and far, and the same everywhere."""

    name = "hashed"

    def encode(self, texts, *, asking):
        found = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(found, texts, strict=True):
            for pair in pairwise(text):
                row[zlib.crc32("".join(pair).encode()) % 64] += 1
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


@pytest.mark.needs_shared
@pytest.mark.skipif(not STARD.is_dir(), reason=f"{STARD} is absent")
@pytest.mark.parametrize("encoder", [None, Hashed()], ids=["words", "words and vectors"])
def test_the_distributed_engine_finds_what_the_embedded_one_finds(client, encoder):
    # Local mode answers a few sparse queries a second: every 12th question.
    questions = dict(list({query: row["text"] for query, row in read_queries(STARD).items()}.items())[::12])
    documents, qrels = read_corpus(STARD), read_qrels(STARD)
    embedded = Index.build(documents) if encoder is None else HybridIndex.build(documents, encoder)
    qdrant = QdrantIndex(client, ("stard", "default"), encoder)
    for start in range(0, len(documents), 500):
        qdrant.change(documents[start : start + 500])
    runs = [{query: ids(one, text) for query, text in questions.items()} for one in (embedded, qdrant)]
    asked = {query: qrels[query] for query in questions}
    ndcg = [fmean(score["ndcg@10"] for score in evaluate_run(run, asked).values()) for run in runs]
    overlap = fmean(len(set(runs[0][query]) & set(runs[1][query])) / max(1, len(runs[0][query])) for query in questions)
    print(f"\n{len(questions)} questions: nDCG@10 embedded {ndcg[0]:.4f}, qdrant {ndcg[1]:.4f}; overlap@10 {overlap:.3f}")
    assert ndcg[1] == pytest.approx(ndcg[0], abs=0.01)
    assert overlap >= 0.9
