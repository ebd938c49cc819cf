"""The English sample: what is shipped is what its source makes, and no word of a held-out question stands in anything that teaches."""

import shutil
from pathlib import Path

import pytest
from overtake.retrieval.corpus import read_corpus, read_lexicon, read_qrels, read_queries
from overtake.tasks.query_rewrite import prompts

from demo.samples import make_clinic_sample as clinic

FOLDER = Path(__file__).parents[2] / "datasets/clinic"
FILES = ("corpus.jsonl", "queries.jsonl", "lexicon.tsv", "qrels/train.tsv", "qrels/test.tsv")


def test_the_shipped_files_are_what_the_source_makes(tmp_path):
    shutil.copy(FOLDER / "source.yaml", tmp_path)
    assert clinic.make(tmp_path) == 0
    assert all((tmp_path / name).read_text("utf-8") == (FOLDER / name).read_text("utf-8") for name in FILES)


def test_held_out_words_stand_in_no_prompt_row_or_lexicon():
    queries, test = read_queries(FOLDER), read_qrels(FOLDER, "test")
    taught = [row["text"] for key, row in queries.items() if key not in test]
    taught += [text for pair in read_lexicon(FOLDER / "lexicon.tsv").items() for text in pair]
    held_out = [queries[key]["text"] for key in test]
    assert (len(held_out), len(taught) > 300, len(read_corpus(FOLDER))) == (48, True, 48)
    assert list(clinic.shared(held_out, [*taught, prompts.rewrite_prompt("default", "?")])) == []


def test_a_shared_word_is_a_leak_whatever_its_ending(tmp_path, capsys):
    source = (FOLDER / "source.yaml").read_text("utf-8").replace('"rare bowel movements"', '"broken wrists"')
    (tmp_path / "source.yaml").write_text(source, encoding="utf-8")
    assert clinic.make(tmp_path) == 1
    assert "leak: broken wrists <- wrist" in capsys.readouterr().err
    assert not (tmp_path / "corpus.jsonl").exists()


def test_another_file_is_one_error(tmp_path):
    (tmp_path / "source.yaml").write_text("concepts: 3\n")
    with pytest.raises(ValueError, match="is not readable as such a source"):
        clinic.make(tmp_path)
