"""wiki_qa by its hub id: rows that have an answer, and one clear error where the hub cannot be reached."""

import importlib

import pytest
from overtake.data.tables import BadInput, write_rows
from overtake.tasks.answer_judge import wiki_qa


def test_rows_with_an_answer_are_kept(tmp_path):
    rows = [
        {
            "id": "dev_0",
            "question": "what is a fjord made by",
            "golden_answers": ["glaciers", "ice"],
        },
        {"id": "dev_1", "question": "no sentence answers it", "golden_answers": []},
        {"id": "dev_2", "question": "blank", "golden_answers": [""]},
    ]
    write_rows(tmp_path / "dev.jsonl", rows)
    assert wiki_qa.questions(tmp_path / "dev.jsonl") == [
        {
            "id": "dev_0",
            "question": "what is a fjord made by",
            "answer": '["glaciers", "ice"]',
        }
    ]
    write_rows(tmp_path / "none.jsonl", rows[1:])
    with pytest.raises(BadInput, match="none of 2 rows has a reference answer"):
        wiki_qa.questions(tmp_path / "none.jsonl")


HUBS = {
    "1": (
        "huggingface_hub",
        "hf_hub_download",
        "RUC-NLPIR/FlashRAG_datasets could not be fetched from Hugging Face",
        "try the other hub (hhjinjiajie/FlashRAG_Dataset)",
    ),
    "0": (
        *("modelscope.hub.file_download", "dataset_file_download"),
        *("hhjinjiajie/FlashRAG_Dataset could not be fetched from ModelScope", "try the other hub (RUC-NLPIR/FlashRAG_datasets)"),
    ),
}


@pytest.mark.parametrize("use_hf", HUBS)
def test_a_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch, use_hf):
    module, name, hub, other = HUBS[use_hf]

    def unreachable(*asked, **options):
        assert "wiki_qa/train.jsonl" in asked, "one file of the collection, never all of it"
        raise ConnectionError("no route to host")

    monkeypatch.setenv("USE_HF", use_hf)
    monkeypatch.setattr(importlib.import_module(module), name, unreachable)
    with pytest.raises(BadInput) as refusal:
        wiki_qa.fetch("train")
    for words in (f"wiki_qa/train.jsonl of {hub} (ConnectionError: no route to host)", other, "download it elsewhere"):
        assert words in str(refusal.value)
