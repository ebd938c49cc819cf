"""First stage: order, ties, and text that looks like a query language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overtake.retrieval import index
from overtake.retrieval.corpus import Document
from overtake.retrieval.index import Index, words

DOCUMENTS = [
    Document("skin", "胶原蛋白肽", "改善皮肤弹性，减少皱纹。"),
    Document("eye", "叶黄素", "缓解视疲劳，保护视网膜。"),
    Document("heart", "Omega-3 鱼油", "有助于心血管健康。OR AND NOT title:text"),
    Document("english", "", "Study: one retina"),
]
INDEX = Index.build(DOCUMENTS)


def ids(text, k=10):
    return [doc_id for doc_id, _ in INDEX.search(text, k)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("皱纹", ["skin"], id="a word of the text finds its document"),
        pytest.param("叶黄素", ["eye"], id="a word of the title finds its document"),
        pytest.param("OMEGA", ["heart"], id="case does not matter"),
        pytest.param("ｏｍｅｇａ", ["heart"], id="full-width letters do not matter"),
        pytest.param("肽", ["skin"], id="one character of a word finds its document"),
        pytest.param("皱纹 皱纹 皱纹 视网膜", ["skin", "eye"], id="a repeated word counts again"),
        pytest.param("区块链", [], id="words that stand nowhere find nothing"),
        pytest.param("studied retinas", ["english"], id="an English word finds its other forms"),
        pytest.param("区块链 STUDYING", ["english"], id="an English word among Chinese ones, too"),
    ],
)
def test_search_finds(text, expected):
    assert ids(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty text finds nothing"),
        pytest.param("？！……\n\t", id="punctuation finds nothing"),
        pytest.param("*", id="a wildcard finds nothing"),
        pytest.param("id:skin", id="a field name reaches no field"),
        pytest.param("words:皱", id="a prefix of a word is not searched as a field"),
        pytest.param('"', id="an open quote finds nothing"),
        pytest.param("((((([[[{{{", id="open brackets find nothing"),
        pytest.param("/.*/", id="a pattern finds nothing"),
        pytest.param("[a TO z]~2^9", id="a range finds nothing"),
        pytest.param("\x00\ud800", id="a null and a lone surrogate find nothing"),
        pytest.param("?" * 10_000, id="10,000 marks find nothing"),
    ],
)
def test_text_that_holds_no_indexed_word(text):
    assert INDEX.search(text.replace("皱", "壹"), 10) == []


@pytest.mark.parametrize(
    "text",
    ["-皱纹", "NOT 皱纹", "+皱纹 -弹性", "皱纹 AND 区块链", '"皱纹 叶黄素素"~3', "title:皱纹^5", "皱纹\x00", "皱纹*", "皱纹||"],
)
def test_operators_are_not_obeyed_and_the_words_still_count(text):
    assert "skin" in ids(text)


def test_10000_characters_are_searched():
    assert ids("皱纹" * 5_000) == ["skin"]


@settings(max_examples=100)
@given(st.text(max_size=200))
def test_any_text_gives_documents_or_nothing(text):
    assert set(ids(text)) <= {"skin", "eye", "heart", "english"}


@settings(max_examples=100)
@given(st.text(alphabet=st.characters(), max_size=100))
def test_words_hold_no_space_that_would_split_them_in_the_index(text):
    assert all(word.split() == [word] for word in words(text))


def test_an_index_written_before_words_were_stemmed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_FIELD", "words")
    Index.build(DOCUMENTS, tmp_path / "index")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="an index of an older form, without stems: delete it and build it again"):
        Index.open(tmp_path / "index")


def test_equal_scores_come_by_id_even_across_the_cut():
    same = Index.build([Document(f"d{number:02}", "", "同样的内容") for number in reversed(range(40))])
    hits = same.search("内容", 3)
    assert [doc_id for doc_id, _ in hits] == ["d00", "d01", "d02"]
    assert len({score for _, score in hits}) == 1


def test_k_bounds_the_list_and_scores_fall():
    hits = INDEX.search("皮肤 视网膜 健康", 2)
    assert len(hits) == 2
    assert hits[0][1] >= hits[1][1] > 0


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k is 0: ask for at least one document"):
        INDEX.search("皮肤", 0)


def test_a_folder_answers_like_memory(tmp_path):
    folder = tmp_path / "made" / "index"
    built = Index.build(DOCUMENTS, folder)
    query = "皮肤 视网膜 健康"
    assert built.search(query, 5) == Index.open(folder).search(query, 5) == INDEX.search(query, 5)
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_a_folder_that_exists_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="delete it or name another folder"):
        Index.build(DOCUMENTS, tmp_path)


def test_a_build_that_fails_leaves_nothing_behind(tmp_path):
    def broken():
        yield DOCUMENTS[0]
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        Index.build(broken(), tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_an_index_says_how_to_write_one(tmp_path):
    with pytest.raises(ValueError, match=r"no index there: write one with Index.build"):
        Index.open(tmp_path)


def test_no_documents_answer_nothing():
    assert Index.build([]).search("皮肤", 5) == []


def test_characters_that_most_of_many_documents_hold_are_passed_over_unless_nothing_else_is_left():
    many = Index.build(
        [Document(f"d{number:04}", "", "甲" if number % 2 else "甲 乙") for number in range(1000)] + [Document("rare", "", "丙")]
    )
    assert [doc_id for doc_id, _ in many.search("甲 丙", 5)] == ["rare"]
    assert [doc_id for doc_id, _ in many.search("甲", 2)] == ["d0001", "d0003"]
    few = Index.build([Document("a", "", "甲"), Document("b", "", "甲 丙")])
    assert [doc_id for doc_id, _ in few.search("甲 丙", 5)] == ["b", "a"]
