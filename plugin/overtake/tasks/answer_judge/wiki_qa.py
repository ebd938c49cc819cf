"""wiki_qa of the FlashRAG collection, by its hub id: questions with reference answers, for a light model to answer and a judge to grade."""

import os
from pathlib import Path
from typing import Literal

from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.tasks.answer_judge.rows import alternatives

HUGGING_FACE, MODELSCOPE = "RUC-NLPIR/FlashRAG_datasets", "hhjinjiajie/FlashRAG_Dataset"


def hub_of(name: str) -> str:
    """Name the hub, hf or ms, where `name` is the collection's on that hub, with or without the hub in front; "" for anything else.

    >>> hub_of("hhjinjiajie/FlashRAG_Dataset"), hub_of("hf::RUC-NLPIR/FlashRAG_datasets"), hub_of("questions.jsonl")
    ('ms', 'hf', '')
    """
    return {MODELSCOPE: "ms", HUGGING_FACE: "hf"}.get(name.removeprefix("hf::").removeprefix("ms::"), "")


def fetch(split: Literal["train", "dev", "test"], hub: str = "") -> Path:
    """The split's file from `hub`; else ModelScope, or Hugging Face where USE_HF=1 (as in ms-swift). Its other files are gigabytes.

    Raises BadInput when the hub cannot be reached, naming the file to get by other means.
    """
    file = f"wiki_qa/{split}.jsonl"
    on_hf = hub == "hf" if hub else os.environ.get("USE_HF", "0").lower() in ("1", "true", "yes", "y", "on", "t")
    name = HUGGING_FACE if on_hf else MODELSCOPE
    try:
        if on_hf:
            from huggingface_hub import hf_hub_download

            return Path(str(hf_hub_download(name, file, repo_type="dataset")))
        from modelscope.hub.file_download import dataset_file_download

        return Path(dataset_file_download(name, file))
    except Exception as error:  # noqa: BLE001 - each hub's client raises its own kinds, and all of them mean: not to be had
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{file} of {name} could not be fetched from {'Hugging Face' if on_hf else 'ModelScope'} ({type(error).__name__}: {reason}): "
            f"try the other hub ({MODELSCOPE if on_hf else HUGGING_FACE}), or download it elsewhere and give the file"
        ) from None


def questions(path: Path) -> list[dict[str, str]]:
    """Rows of a file in FlashRAG's form (`id`, `question`, `golden_answers`) that have an answer: id, question and answer, a JSON list.

    Most questions of wiki_qa have none: no sentence of the article answered them. Raises BadInput when no row has one.
    """
    rows = tables.read_rows(path, required=("id", "question", "golden_answers"))
    qa_rows = [
        {"id": row["id"], "question": row["question"].strip(), "answer": tables.cell(list(gold))}
        for row in rows
        if (gold := alternatives(row["golden_answers"])) and row["question"].strip()
    ]
    if not qa_rows:
        raise BadInput(f"{path}: none of {len(rows)} rows has a reference answer in golden_answers")
    return qa_rows
