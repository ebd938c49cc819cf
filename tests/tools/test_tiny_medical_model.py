"""tiny_medical_model.py: every character of the texts has a token, the weights follow the seed, a folder is never written over."""

import json

import pytest
from overtake.tasks.medical import prompts
from safetensors.torch import load_file

from demo.tiny_students import tiny_medical_model

pytestmark = pytest.mark.usefixtures("fresh")
ANSWER = "胸痛要立即拨打120，不要自己开车。\n\n阿司匹林 100 mg？"


@pytest.fixture
def make(monkeypatch, tmp_path):
    """make(name, *options) -> (exit code, folder) of the tool on one training row."""
    texts = tmp_path / "train.jsonl"
    row = {"messages": [*prompts.medical_messages("胸痛怎么办？"), {"role": "assistant", "content": ANSWER}]}
    texts.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")

    def make(name, *options):
        folder = tmp_path / name
        return tiny_medical_model.main([str(folder), "--texts", str(texts), "--width", "32", "--layers", "1", *options]), folder

    return make


def test_answers_come_back_from_their_tokens_and_the_system_prompts_lines_are_one_each(make, capsys):
    code, folder = make("model")
    assert code == 0 and "random weights" in capsys.readouterr().out
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(ANSWER).input_ids
    assert tokenizer.decode(ids) == ANSWER and tokenizer.unk_token_id not in ids
    for line in filter(str.strip, prompts.prompt("answer_medical").splitlines()):
        assert len(tokenizer(line).input_ids) == 1, line


def test_the_weights_follow_the_seed(make):
    first, same, other = (
        load_file(make(name, "--seed", seed)[1] / "model.safetensors") for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert all(bool((first[name] == same[name]).all()) for name in first)
    assert any(bool((first[name] != other[name]).any()) for name in first)


def test_a_folder_with_files_is_refused_and_kept(make, capsys):
    _, folder = make("model")
    before = (folder / "config.json").read_bytes()
    assert make("model")[0] == 2
    assert "is there already: choose another folder or remove it" in capsys.readouterr().err
    assert (folder / "config.json").read_bytes() == before
