"""PPO's critic: what it expects stands before the right token, and what was trained is saved and put back; a critic made of a base
model, and one line for what cannot be one.
"""

import json

import pytest
import torch
from overtake.trainers import critic
from safetensors.torch import load_file, save_file


@pytest.fixture
def model():
    """A tiny value model whose head is not zero."""
    from transformers import Qwen3Config, Qwen3ForTokenClassification

    torch.manual_seed(3)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Qwen3ForTokenClassification(Qwen3Config(vocab_size=9, num_hidden_layers=1, num_labels=1, **size)).eval()


def test_a_value_is_of_the_state_before_the_token_and_does_not_know_it(model):
    rows = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 4, 8]])
    found = critic.values(model, {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}, tokens=2)
    assert found.shape == (2, 2)
    assert found.dtype == torch.float32
    # The rows differ in their last token only, which no value has seen.
    assert found[0].equal(found[1])
    assert torch.allclose(found[0], model(rows[:1]).logits[0, 2:4, 0])


def test_padding_on_the_left_changes_no_value(model):
    whole = torch.tensor([[1, 2, 3, 4]])
    padded = torch.tensor([[0, 0, 1, 2, 3, 4]])
    seen = torch.tensor([[0, 0, 1, 1, 1, 1]])
    given = {"input_ids": padded, "attention_mask": seen, "position_ids": (seen.cumsum(1) - 1).clamp(min=0)}
    assert torch.allclose(critic.values(model, given, 2), critic.values(model, {"input_ids": whole}, 2), atol=1e-6)


def test_with_lora_adapters_and_head_are_trained_and_saved_and_nothing_else(model, tmp_path):
    made = critic.with_lora(model, rank=4, alpha=8)
    trained = {name for name, weight in made.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name or "score" in name for name in trained)
    assert {weight.shape[0] for name, weight in made.named_parameters() if "lora_A" in name} == {4}
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name in trained:
                weight.fill_(0.5)
    critic.save(made, tmp_path / "critic")
    assert set(load_file(tmp_path / "critic/model.safetensors")) == trained
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
    critic.load(made, tmp_path / "critic")
    assert all(weight.eq(0.5 if name in trained else 0).all() for name, weight in made.named_parameters())


def test_a_critic_trained_whole_can_be_named_again(model, tmp_path):
    critic.save(model, tmp_path / "critic")
    again = critic.from_model(str(tmp_path / "critic"))
    assert all(weight.equal(again.state_dict()[name]) for name, weight in model.state_dict().items())
    # Without a tokenizer it reads the policy's.
    critic.check_tokenizer(str(tmp_path / "critic"), tokenizer=None)


def test_a_checkpoint_without_a_critic_or_with_another_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"holds no critic \(critic/model.safetensors\), so PPO cannot go on from it: resume from"):
        critic.load(model, tmp_path / "checkpoint-3/critic")
    (tmp_path / "critic").mkdir()
    weights = {name: weight for name, weight in model.state_dict().items() if name != "score.bias"}
    save_file(weights, tmp_path / "critic/model.safetensors")
    with pytest.raises(
        ValueError, match=r"is of another critic: 1 weights differ, score.bias first; resume with the same critic and tuner"
    ):
        critic.load(model, tmp_path / "critic")


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
    done = run(critic, base("small"), tmp_path / "out", "--policy", base("big", layers=2))
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
        done = run(critic, arguments[0], tmp_path / "out", *arguments[1:])
        assert (done.code, done.err.count("error: "), message in done.err) == (2, 1, True), done.err
        assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, base, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("mine")
    done = run(critic, base("small"), tmp_path / "out")
    assert (done.code, done.err) == (2, f"error: {tmp_path / 'out'} is there already: choose another folder or remove it")
    assert (tmp_path / "out/config.json").read_text() == "mine"
