"""Loading documents into an engine: batches, going on after a stop, refusals in one line."""

import json
import sys
import tomllib

import pytest
from overtake.retrieval import loading
from overtake.retrieval.corpus import Document
from overtake.retrieval.index import Index
from overtake.retrieval.models import LocalEncoder

from ..conftest import ROOT


@pytest.fixture
def kb(tmp_path):
    rows = [{"_id": f"d{number}", "title": "", "text": f"批次 word{number}"} for number in range(5)]
    (tmp_path / "shop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "shop.jsonl"


def test_a_second_run_writes_only_what_is_missing_or_differs(run, kb, tmp_path):
    assert run(loading, kb, "--data", tmp_path / "kept", "--batch", 2).out == "shop/default: 5 written, 0 there already, 5 in all\n"
    index = Index.open(tmp_path / "kept" / "shop@default")
    index.change([Document("d1", "", "altered"), Document("extra", "", "kept")], ["d3"])
    index.close()
    assert run(loading, kb, "--data", tmp_path / "kept", "--batch", 2).out == "shop/default: 2 written, 3 there already, 6 in all\n"
    assert [doc_id for doc_id, _ in Index.open(tmp_path / "kept" / "shop@default").search("word1 word3 kept", 9)] == ["extra", "d1", "d3"]


def test_a_load_that_broke_off_goes_on_with_the_batch_it_stopped_at(monkeypatch):
    index, documents, batches = Index.build([]), [Document(f"d{number}", "", f"w{number}") for number in range(5)], []
    change = index.change

    def breaks(part):
        if len(batches) == 1:
            batches.append([])
            raise KeyboardInterrupt
        batches.append([document.id for document in part])
        change(part)

    monkeypatch.setattr(index, "change", breaks)
    with pytest.raises(KeyboardInterrupt):
        loading.load(index, documents, 2, "t")
    assert loading.load(index, documents, 2, "t") == 3
    assert batches == [["d0", "d1"], [], ["d2", "d3"], ["d4"]] and len(index) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param([], 2, "nowhere to load into: give --data FOLDER", id="no engine"),
        pytest.param(["--engine", "qdrant"], 2, "--engine qdrant: give --url, and no --data", id="no url"),
        pytest.param(["--engine", "qdrant", "--url", "http://127.0.0.1:9"], 1, "Qdrant does not answer", id="no server"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(run, kb, arguments, code, message):
    ended = run(loading, kb, *arguments)
    assert (ended.code, ended.err.count("\n")) == (code, 0)
    assert ended.err.startswith(f"error: {message}")


def test_an_extra_that_is_not_installed_is_named_with_its_remedy(run, kb, tmp_path, monkeypatch):
    for package in ("qdrant_client", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, package, None)  # as Python has it for one that cannot be imported
    ended = run(loading, kb, "--engine", "qdrant", "--url", "http://127.0.0.1:9")
    assert (ended.code, ended.err.count("\n")) == (2, 0)
    assert ended.err.startswith("error: --engine qdrant needs qdrant-client (") and ended.err.endswith(": pip install -e '.[qdrant]'")
    with pytest.raises(ValueError, match=r"a model from a folder needs sentence-transformers \(.*\): pip install -e '\.\[encoders\]'"):
        LocalEncoder(tmp_path)


def test_the_extras_that_the_tests_use_are_those_that_users_get():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    tried = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").split()
    assert {*extras["qdrant"], *extras["encoders"]} <= {*tried}
    for name in ("requirements.txt", "requirements-cpu.txt"):
        assert not {"qdrant-client", "sentence-transformers"} & {
            line.split("==")[0] for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        }, f"{name}: the base needs no extra"
