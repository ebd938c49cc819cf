"""Candidates and the pick among them."""

import json

import pytest
from overtake.data.near_duplicates import is_copy
from overtake.retrieval.corpus import Document
from overtake.retrieval.metrics import quality
from overtake.retrieval.service import KnowledgeBase

from demo.mock_teacher.rewriting import LONGEST, Rewriter, read_labels


@pytest.fixture(scope="module")
def rewriter(kb, labels):
    return Rewriter(kb, labels)


def test_lexicon_phrases_become_the_documents_terms_and_the_longest_phrase_wins(kb):
    assert Rewriter(kb).rewrite("请问脸垮有没有办法") == "皮肤松弛 真皮弹性"
    assert Rewriter(kb).rewrite("脸垮，睡眠障碍") == "皮肤松弛 真皮弹性 睡眠 障碍"


def test_labelled_questions_teach_the_terms_of_their_words_where_there_is_no_lexicon(rewriter, kb, labels):
    without = Rewriter(KnowledgeBase.build(kb.documents().values(), {}), labels)
    found = dict(without.candidates("屏幕前坐着"))
    words, added = found["learned1"].split()[:-1], found["learned1"].split()[-1]
    assert words == ["屏幕", "前", "坐", "着"] and added in {"叶黄素", "保护", "视网膜", "黄斑", "蓝光", "损伤"}
    assert without.rewrite("屏幕前坐着") == found["learned1"]
    assert "learned1" not in dict(without.candidates("数羊前坐着")), "one question teaches nothing"
    assert "learned1" not in dict(rewriter.candidates("屏幕前坐着")), "a lexicon is all that a teacher with one knows"


def test_the_pick_of_a_labelled_question_finds_its_document_at_least_as_well_as_every_candidate(rewriter, kb, labels):
    for question, gold in labels.items():
        picked = rewriter.rewrite(question)
        scores = {}
        for _, text in rewriter.candidates(question):
            relevant = [float(hit.doc_id in gold) for hit in kb.retrieve(question, text, 10, 0)]
            scores[text] = quality([*relevant, 0.0, 0.0, 0.0][:3])
        assert scores.get(picked, 0) == max(scores.values(), default=0)


def test_a_labelled_question_may_get_another_candidate_than_an_unlabelled_one(kb):
    question = "脸垮还是说关节疼痛"
    default = Rewriter(kb).rewrite(question)
    picked = Rewriter(kb, {question: {"bone"}}).rewrite(question)
    assert "皮肤松弛" in default
    assert [hit.doc_id for hit in kb.retrieve(question, picked, 1, 0)] == ["bone"]


def test_among_equally_good_candidates_the_lexicons_then_the_shorter_wins(kb):
    assert Rewriter(kb, {"脸垮睡眠": {"skin"}}).rewrite("脸垮睡眠") == "皮肤松弛 真皮弹性"


def test_the_profile_counts_only_where_the_question_holds_no_phrase(kb):
    assert Rewriter(kb).rewrite("买点啥", "35岁，脸垮") == "皮肤松弛 真皮弹性"
    assert Rewriter(kb).rewrite("脸怎样", "35岁，脸垮") == "胶原蛋白肽"


@pytest.mark.parametrize(
    "question",
    [
        pytest.param("睡眠障碍怎样缩短", id="known words among others"),
        pytest.param("关节疼痛，视网膜？", id="known words only"),
        pytest.param("ＡＢＣ", id="unknown word"),
        pytest.param("   褪黑素\n\n叶黄素  ", id="several lines"),
        pytest.param("关节软骨" * 200, id="long"),
        pytest.param("？！", id="no word"),
        pytest.param("", id="empty"),
        pytest.param("\ud800关节", id="lone surrogate"),
    ],
)
def test_a_rewrite_is_one_short_line_and_no_copy_while_another_candidate_differs(rewriter, question):
    rewrite = rewriter.rewrite(question)
    assert rewrite == " ".join(rewrite.split())
    assert len(rewrite) <= LONGEST
    assert rewrite == rewriter.rewrite(question)
    if list(rewriter.candidates(question)):
        assert not is_copy(question, rewrite)


def test_the_pseudo_relevance_candidate_adds_terms_of_the_best_documents(kb):
    found = dict(Rewriter(kb).candidates("蓝光损伤问题"))
    words = found["rm3-3-2"].split()
    assert words[:2] == ["蓝光", "损伤"]
    assert len(words) == 4
    assert set(words[2:]) <= {"叶黄素", "保护", "视网膜", "黄斑", "减轻"}


def test_two_rewriters_of_the_same_data_agree(kb, rewriter, labels):
    questions = ["脸垮还是说关节疼痛", "屏幕前坐着", "蓝光损伤问题", *labels]
    assert [Rewriter(kb, labels).rewrite(question) for question in questions] == [rewriter.rewrite(question) for question in questions]


def test_an_empty_gold_set_and_an_unknown_document_label_nothing(kb):
    assert Rewriter(kb, {"甲乙": set(), "丙丁": {"nowhere"}}).labelled == 0


def test_a_knowledge_base_of_one_document_rewrites():
    assert Rewriter(KnowledgeBase.build([Document("a", "", "关节")], {})).rewrite("我的关节") == "关节"


@pytest.fixture
def folder(tmp_path):
    rows = [{"_id": str(i), "text": text} for i, text in enumerate(["甲？", "乙", "甲", "丙"])]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def write_qrels(path, *ids):
    path.parent.mkdir(exist_ok=True)
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{key}\td{key}\t1\n{key}\tx\t0\n" for key in ids))


def test_labels_come_from_the_training_split_and_never_from_another(folder):
    write_qrels(folder / "qrels" / "test.tsv", "3")
    assert read_labels(folder, {"0"}) == {}
    write_qrels(folder / "qrels" / "train.tsv", "0", "1")
    assert read_labels(folder) == {"甲？": {"d0"}, "乙": {"d1"}}


def test_a_single_qrels_file_needs_the_held_out_ids_and_their_twins_are_left_out_too(folder):
    write_qrels(folder / "qrels.tsv", "0", "1", "2", "3")
    assert read_labels(folder) == {}
    assert read_labels(folder, {"0"}) == {"乙": {"d1"}, "丙": {"d3"}}


def test_a_label_of_no_question_is_refused(folder):
    write_qrels(folder / "qrels" / "train.tsv", "9")
    with pytest.raises(ValueError, match="question '9' of the labels stands in no line"):
        read_labels(folder)
