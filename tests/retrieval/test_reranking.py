"""Second stage: the formula worked by hand, the lexicon, the bounds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overtake.retrieval.corpus import Document
from overtake.retrieval.reranking import Reranker, expand

A, B = DOCUMENTS = [Document("a", "甲乙", "丙"), Document("b", "", "甲丁")]
RERANKER = Reranker(DOCUMENTS, {})


def test_the_formula_as_worked_by_hand():
    # a: {甲, 乙, 甲乙} in the title, {丙} in the text; b: {甲, 丁, 甲丁}. Mean length 3.5. Question: {甲, 乙, 甲乙}.
    one = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5)) ** 1.5  # idf of what one document holds
    both = math.log(1 + (2 - 2 + 0.5) / (2 + 0.5)) ** 1.5
    total = one + 0.5 * one + 0.5 * both
    a = 1.1 / (1 + 0.2 * 4 / 3.5)
    b = 0.5 * both / total / (1 + 0.2 * 3 / 3.5)
    assert RERANKER.score("甲乙", [B, A]) == pytest.approx([b / (b + 0.108), a / (a + 0.108)])


def test_grams_that_no_document_holds_lower_every_score():
    unseen = math.log(1 + 1.5 / 1.5) ** 1.5  # as if one document held it
    one = math.log(2) ** 1.5
    a = 0.5 * one / (0.5 * one + 3 * unseen) / (1 + 0.2 * 4 / 3.5)  # 丙 held; 丙戊 戊己 unseen at 1, 戊 己 at 0.5
    assert RERANKER.score("丙戊己", [A]) == pytest.approx([a / (a + 0.108)])
    assert RERANKER.score("丙", [A])[0] > RERANKER.score("丙戊己", [A])[0]


def test_a_match_in_the_title_counts_a_little_more():
    documents = [Document("title", "褪黑素", "助眠"), Document("text", "助眠", "褪黑素")]
    title, text = Reranker(documents, {}).score("褪黑素", documents)
    assert 1 < title / text < 1.1


def test_the_lexicon_lifts_the_document_that_lay_words_miss():
    question = "脸上显老怎么办"
    documents = [Document("a", "虾青素", "抗氧化，保护皮肤"), Document("b", "叶黄素", "护眼")]
    assert Reranker(documents, {}).score(question, documents) == [0.0, 0.0]
    lifted, other = Reranker(documents, {"显老": "抗氧化", "眼干": "护眼"}).score(question, documents)
    assert lifted > 0.3
    assert other == 0.0


def test_expand_leaves_a_question_without_known_phrases_as_it_is():
    assert expand("怎么吃", {"显老": "抗氧化"}) == "怎么吃"


@pytest.mark.parametrize("question", ["", "？！", "\ud800"])
def test_a_question_without_characters_scores_zero(question):
    assert RERANKER.score(question, DOCUMENTS) == [0.0, 0.0]


def test_no_candidates_give_no_scores():
    assert RERANKER.score("甲", []) == []


def test_a_document_that_was_not_counted_is_scored_like_the_others():
    assert RERANKER.score("甲乙", [Document("z", "甲乙", "丙")]) == RERANKER.score("甲乙", [A])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(alphabet="甲乙丙a ", max_size=5), st.booleans()), max_size=8))
def test_counting_changes_gives_the_scores_of_counting_what_is_left(changes):
    counted, now = Reranker([], {}), {}
    for doc_id, text, stays in changes:
        old = [now.pop(doc_id)] if doc_id in now else []
        new = [Document(doc_id, text, text[:1])] if stays else []
        now.update({document.id: document for document in new})
        counted.count(new, old)
        counted.score("甲乙 a", DOCUMENTS)  # what it remembers of a question must not outlive a change
    assert counted.score("甲乙 a", DOCUMENTS) == Reranker(now.values(), {}).score("甲乙 a", DOCUMENTS)


@settings(max_examples=100)
@given(st.text(alphabet="甲乙丙丁戊ab1 ，", max_size=30))
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_other_candidates(question):
    together = RERANKER.score(question, DOCUMENTS)
    assert together == RERANKER.score(question, [A]) + RERANKER.score(question, [B])
    assert all(0 <= score < 1 for score in together)


def test_english_is_scored_by_words():
    documents = [Document("a", "", "collagen peptides for skin"), Document("b", "", "lutein for eyes")]
    reranker = Reranker(documents, {})
    a, b = reranker.score("Collagen skin", documents)
    assert a > 0.8
    assert b == 0.0
    assert reranker.score("Skin peptide", documents) == reranker.score("skins peptides", documents) == [pytest.approx(a), 0.0]
