"""tools/critic.py: a critic that PPO takes, and one line for what cannot be one."""

import json

import pytest
import torch
from overtake.trainers import critic
from safetensors.torch import load_file


@pytest.fixture
def base(tmp_path):
    """base(name, *letters, layers=1) -> the folder of a random tiny Qwen3 that knows these letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    def base(name, letters="abcde", layers=1):
        spelling = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate(letters)}, unk_token=letters[0]))
        spelling.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        PreTrainedTokenizerFast(tokenizer_object=spelling, eos_token="b", pad_token="a").save_pretrained(tmp_path / name)
        size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
        Qwen3ForCausalLM(Qwen3Config(vocab_size=len(letters), num_hidden_layers=layers, **size)).save_pretrained(tmp_path / name)
        return tmp_path / name

    return base


def test_the_critic_is_the_base_with_a_head_that_expects_nothing_and_the_bases_tokenizer(run, base, tmp_path):
    done = run("critic", base("small"), tmp_path / "out", "--policy", base("big", layers=2))
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith(f"{tmp_path / 'out'}: Qwen3ForTokenClassification of 0.00 M parameters")
    made, before = load_file(tmp_path / "out/model.safetensors"), load_file(tmp_path / "small/model.safetensors")
    body = {name for name in before if name.startswith("model.")}
    assert body == {name for name in made if name.startswith("model.")}
    assert all(made[name].equal(before[name]) for name in body)
    assert made["score.weight"].shape == (1, 16) and not made["score.weight"].any() and not made["score.bias"].any()
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tmp_path / "small/tokenizer.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".aside")] == []
    loaded = critic.from_model(str(tmp_path / "out"))
    assert critic.values(loaded, {"input_ids": torch.tensor([[1, 2, 3]])}, 2).tolist() == [[0, 0]]


def test_a_critic_that_was_trained_keeps_its_head(base, tmp_path):
    made = critic.from_model(str(base("small")))
    torch.nn.init.ones_(made.score.weight)
    made.save_pretrained(tmp_path / "trained")
    assert critic.from_model(str(tmp_path / "trained")).score.weight.eq(1).all()


def test_what_cannot_be_a_critic_is_one_line_and_nothing_is_written(run, base, tmp_path):
    small, other = base("small"), base("other", letters="abcdefg")
    (tmp_path / "cohere").mkdir()
    (tmp_path / "cohere/config.json").write_text(json.dumps({"model_type": "cohere", "vocab_size": 5}), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "cohere" / name).write_bytes((small / name).read_bytes())
    for arguments, message in (
        ([tmp_path / "nowhere"], f"'{tmp_path / 'nowhere'}' not found"),
        ([small, "--policy", other], f"the critic {small} has another tokenizer than the policy (5 and 7 tokens): name a model of"),
        ([tmp_path / "cohere"], f"{tmp_path / 'cohere'} cannot be a critic: "),
    ):
        done = run("critic", arguments[0], tmp_path / "out", *arguments[1:])
        assert (done.code, done.err.count("error: "), message in done.err) == (2, 1, True), done.err
        assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, base, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("mine")
    done = run("critic", base("small"), tmp_path / "out")
    assert (done.code, done.err) == (2, f"error: {tmp_path / 'out'} is there already: choose another folder or remove it")
    assert (tmp_path / "out/config.json").read_text() == "mine"
