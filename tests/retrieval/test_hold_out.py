"""Holding questions out: what goes to which side, what is copied, what is refused with nothing written."""

import json

import pytest
from overtake.retrieval import hold_out
from overtake.retrieval.corpus import read_qrels, read_queries

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def beir(tmp_path):
    """beir(questions, qrels) -> a folder of three documents; `qrels` maps a place in it to (question, document, score) rows."""

    def beir(questions, qrels, name="kb"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        documents = [{"_id": key, "title": "", "text": f"文档{key}"} for key in ("d0", "d1", "d2")]
        rows = [{"_id": key, "text": text} for key, text in questions.items()]
        for file, lines in (("corpus.jsonl", documents), ("queries.jsonl", rows)):
            (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
        for place, labels in qrels.items():
            (folder / place).write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{s}\n" for q, d, s in labels))
        return folder

    return beir


@pytest.fixture
def labelled(beir):
    """Twenty questions, each labelled with two documents; q1 asks as q0 does."""
    questions = {f"q{i}": f"问题{i}" for i in range(20)} | {"q0": "ＡＢ 怎么吃？", "q1": "ab怎么吃"}
    return beir(questions, {"qrels.tsv": [(q, d, 1) for q in questions for d in ("d0", "d1")]})


def sides(folder):
    return {split: set(read_qrels(folder, split)) for split in ("train", "test")}


def test_a_share_of_the_questions_is_held_out_and_labels_stay_whole(run, labelled, tmp_path):
    done = run(hold_out, labelled, tmp_path / "out", "--share", "0.25")
    assert (done.code, done.err) == (0, "")
    found = sides(tmp_path / "out")
    assert not found["train"] & found["test"]
    assert found["train"] | found["test"] == {f"q{i}" for i in range(20)}
    assert len(found["test"]) in (5, 6)  # five of nineteen that differ; the pair counts as one
    assert all(gold == {"d0": 1, "d1": 1} for split in found for gold in read_qrels(tmp_path / "out", split).values())
    assert done.out == f"{tmp_path / 'out'}: 3 documents; questions: {len(found['train'])} train, {len(found['test'])} test\n"
    for name in ("corpus.jsonl", "queries.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (labelled / name).read_bytes()
    assert not (tmp_path / "out.aside").exists()


def test_questions_are_drawn_from_either_side(run, labelled, tmp_path):
    """A run of little time has a table all the same: of the questions drawn, as many as asked for are held out."""
    run(hold_out, labelled, tmp_path / "whole", "--share", "0.5")
    done = run(hold_out, labelled, tmp_path / "out", "--share", "0.5", "--keep", "6", "3")
    whole, drawn = sides(tmp_path / "whole"), sides(tmp_path / "out")
    assert done.out == f"{tmp_path / 'out'}: 3 documents; questions: 6 train, 3 test\n"
    assert drawn["train"] < whole["train"] and drawn["test"] < whole["test"]
    assert set(read_queries(tmp_path / "out")) == drawn["train"] | drawn["test"]
    assert run(hold_out, labelled, tmp_path / "more", "--keep", "600", "300").code == 0
    assert set(read_queries(tmp_path / "more")) == set(read_queries(labelled))


def test_questions_that_ask_the_same_stay_on_one_side(run, labelled, tmp_path):
    for seed in range(12):
        run(hold_out, labelled, tmp_path / f"out{seed}", "--share", "0.5", "--seed", seed)
        found = sides(tmp_path / f"out{seed}")
        assert ("q0" in found["test"]) == ("q1" in found["test"])


def test_the_draw_is_seeded(run, labelled, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(hold_out, labelled, tmp_path / name, "--seed", seed)
    assert sides(tmp_path / "a") == sides(tmp_path / "b") != sides(tmp_path / "c")


def test_a_published_split_is_kept_and_its_questions_are_counted(run, beir, tmp_path):
    qrels = {"qrels/train.tsv": [("q1", "d0", 2), ("q1", "d1", 1)], "qrels/test.tsv": [("q0", "d2", 1)]}
    folder = beir({"q0": "一", "q1": "二"}, qrels)
    (folder / "lexicon.tsv").write_text("话\t词\n")
    done = run(hold_out, folder, tmp_path / "new/out")
    assert done.out == f"{tmp_path / 'new/out'}: 3 documents; questions: 1 test, 1 train\n"
    assert {split: read_qrels(tmp_path / "new/out", split) for split in ("train", "test")} == {
        "train": {"q1": {"d0": 2, "d1": 1}},
        "test": {"q0": {"d2": 1}},
    }
    assert (tmp_path / "new/out/lexicon.tsv").read_text() == "话\t词\n"


def test_labels_of_questions_that_are_not_there_are_left_out(run, beir, tmp_path):
    labels = [("q0", "d0", 1), ("q1", "d0", 1), ("gone", "d0", 1)]
    run(hold_out, beir({"q0": "一", "q1": "二"}, {"qrels.tsv": labels}), tmp_path / "out", "--share", "0.5")
    found = sides(tmp_path / "out")
    assert found["train"] | found["test"] == {"q0", "q1"}


def test_what_cannot_be_parted_is_one_line_and_nothing_is_written(run, beir, tmp_path):
    two = {"q0": "一", "q1": "二"}
    good = beir(two, {"qrels.tsv": [("q0", "d0", 1), ("q1", "d0", 1)]}, "good")
    broken = beir(two, {"qrels.tsv": [("q0", "d0", 1)]}, "broken")
    (broken / "corpus.jsonl").write_text("{broken\n")
    unknown = beir(two, {"qrels.tsv": [("q0", "d9", 1)]}, "unknown")
    (tmp_path / "there").mkdir()
    cases = [
        ([good, tmp_path / "out", "--share", "0"], "--share 0.0: give a share between 0 and 1"),
        ([good, tmp_path / "out", "--share", "1"], "--share 1.0: give a share between 0 and 1"),
        ([good, tmp_path / "out", "--share", "0.01"], "no question is left for test: 2 questions have labels, --share is 0.01"),
        ([good, tmp_path / "out", "--share", "0.99"], "no question is left for train: 2 questions have labels, --share is 0.99"),
        ([good, tmp_path / "out", "--keep", "5", "0"], "--keep 5 0: give at least one question to either side"),
        ([good, tmp_path / "there"], "there exists: remove it or choose another folder"),
        ([tmp_path / "nowhere", tmp_path / "out"], "nowhere: no such file: give a folder that holds corpus.jsonl"),
        ([broken, tmp_path / "out"], "corpus.jsonl:1: not JSON"),
        ([beir(two, {}, "unlabelled"), tmp_path / "out"], "qrels.tsv or"),
        ([unknown, tmp_path / "out"], "qrels name 1 documents that the corpus lacks (first: d9)"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        done = run(hold_out, *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 0), arguments
        assert done.err.startswith("error: ") and message in done.err, done.err
        assert sorted(tmp_path.iterdir()) == before


def test_documents_are_held_out_with_their_questions(run, beir, tmp_path):
    # Two questions each of d0 and d1; six of d2, too many for the held-out side.
    document = {**dict.fromkeys(("q0", "q1"), "d0"), **dict.fromkeys(("q2", "q3"), "d1"), **{f"q{i}": "d2" for i in range(4, 10)}}
    folder = beir({name: f"问题{name}" for name in document}, {"qrels.tsv": [(q, d, 1) for q, d in document.items()]})
    seen = set()
    for seed in range(6):
        done = run(hold_out, folder, tmp_path / f"out{seed}", "--share", "0.2", "--documents", "--seed", seed)
        assert (done.code, done.err) == (0, "")
        labelled = {split: {d for row in read_qrels(tmp_path / f"out{seed}", split).values() for d in row} for split in ("train", "test")}
        assert not labelled["train"] & labelled["test"] and "d2" in labelled["train"]
        seen |= labelled["test"]
    assert seen == {"d0", "d1"}
    one = beir({name: f"问题{name}" for name in document}, {"qrels.tsv": [(q, "d0", 1) for q in document]}, name="one")
    refused = run(hold_out, one, tmp_path / "never", "--documents")
    assert refused.code == 2 and "questions that share a document stay together" in refused.err
