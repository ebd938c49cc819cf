"""Files of a knowledge base: what is read, and what a refusal says."""

import re

import pytest
from overtake.retrieval.corpus import Document, read_corpus, read_lexicon, read_qrels, read_queries


def test_a_folder_and_its_file_read_the_same(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes('\ufeff{"_id": "a", "title": "虾青素", "text": "抗氧化\u2028护肤"}\r\n\n{"id": 7, "text": "无标题"}\n'.encode())
    expected = [Document("a", "虾青素", "抗氧化\u2028护肤"), Document("7", "", "无标题")]
    assert read_corpus(tmp_path) == expected
    assert read_corpus(path) == expected


def test_questions_keep_their_other_columns(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": 3, "text": "怎么吃", "user_profile": "孕妇"}\n', encoding="utf-8")
    assert read_queries(tmp_path) == {"3": {"_id": "3", "text": "怎么吃", "user_profile": "孕妇"}}


GOOD = '{"_id": "a", "text": "x"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(GOOD + '{"_id": "b", "text"\n', r"corpus.jsonl:2: not JSON .*write one object a line", id="bad JSON names its line"),
        pytest.param(GOOD + '["b", "x"]\n', r"corpus.jsonl:2: .* is not an object", id="a line that is no object is refused"),
        pytest.param(GOOD + '{"text": "x"}\n', r'corpus.jsonl:2: "_id" is None: give every line an "_id"', id="a missing id is refused"),
        pytest.param(GOOD + '{"_id": true, "text": "x"}\n', r'corpus.jsonl:2: "_id" is True', id="true is no id"),
        pytest.param(GOOD + '{"_id": "b"}\n', r'corpus.jsonl:2: "text" is None: give every line a "text"', id="a missing text is refused"),
        pytest.param('{"_id": "b", "text": " "}\n', r"corpus.jsonl:1: document 'b' has neither", id="a blank document is refused"),
        pytest.param('{"_id": "b", "title": 3, "text": "x"}\n', r'corpus.jsonl:1: "title" is 3', id="a title that is no text is refused"),
        pytest.param(
            GOOD + "\n" + GOOD, r"corpus.jsonl:3: id 'a' stands already at .*:1: give each", id="an id that stands twice names both"
        ),
        pytest.param("\n", r"corpus.jsonl: empty: write one object a line", id="an empty file is refused"),
        pytest.param("[" * 100_000, r"corpus.jsonl:1: not JSON", id="a nest too deep is bad JSON"),
    ],
)
def test_a_bad_corpus_is_refused_whole(tmp_path, content, message):
    (tmp_path / "corpus.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_corpus(tmp_path)


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes('{"_id": "a", "text": "虾青素"}'.encode("gbk"))
    with pytest.raises(ValueError, match=r"corpus.jsonl:1: not UTF-8: save the file as UTF-8"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("name", ["", "nothing", "kb.csv"])
def test_a_path_that_holds_no_corpus_says_what_to_give(tmp_path, name):
    (tmp_path / "kb.csv").write_text("id,text\n")
    with pytest.raises(ValueError, match=r"give a folder that holds corpus.jsonl, or a .jsonl file"):
        read_corpus(tmp_path / name)


def test_a_blank_question_is_refused(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": ""}\n')
    with pytest.raises(ValueError, match=r"queries.jsonl:1: question '1' is blank"):
        read_queries(tmp_path)


@pytest.fixture
def splits(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n")
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n2\ta\t1\n")
    return tmp_path


def test_all_splits_are_joined_when_none_is_named(splits):
    assert read_qrels(splits) == {"1": {"a": 1, "b": 0}, "2": {"a": 1}}


def test_a_named_split_is_read_alone(splits):
    assert read_qrels(splits, "test") == {"2": {"a": 1}}


def test_qrels_tsv_is_the_whole_when_it_is_there(splits):
    (splits / "qrels.tsv").write_text("3\tc\t2\n")
    assert read_qrels(splits) == {"3": {"c": 2}}


def test_a_split_that_is_not_there_lists_those_that_are(splits):
    with pytest.raises(ValueError, match=re.escape("dev.tsv: no such file; splits there: test, train")):
        read_qrels(splits, "dev")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("1 a 1", r"test.tsv:3: '1 a 1': write query-id, corpus-id", id="spaces instead of tabs are refused"),
        pytest.param("2\ta\tyes", r"test.tsv:3: .*whole number", id="a score that is no number is refused"),
        pytest.param("2\ta\t0", r"test.tsv:3: .*two scores", id="two scores for one pair are refused"),
    ],
)
def test_a_bad_label_names_its_line(splits, line, message):
    with (splits / "qrels" / "test.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_qrels(splits)


def test_a_phrase_that_stands_twice_has_both_terms(tmp_path):
    (tmp_path / "lexicon.tsv").write_text("显老\t抗氧化\n皮肤松\t胶原蛋白肽\n显老\t抗皱\n", encoding="utf-8")
    assert read_lexicon(tmp_path / "lexicon.tsv") == {"显老": "抗氧化 抗皱", "皮肤松": "胶原蛋白肽"}


@pytest.mark.parametrize("line", ["显老 抗氧化", "显老\t", "\t抗氧化"])
def test_a_lexicon_line_without_both_sides_is_refused(tmp_path, line):
    (tmp_path / "lexicon.tsv").write_text(f"a\tb\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lexicon.tsv:2: .*write the layman's phrase, a tab and the documents' terms"):
        read_lexicon(tmp_path / "lexicon.tsv")
