"""Rollouts by transformers draw from the whole distribution where no top k is asked for, and from the first k where one is."""

from types import SimpleNamespace

import pytest
import torch
from overtake.trainers.all_tokens import draw_from_all
from swift.infer_engine import RequestConfig, transformers_engine
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

ENDS = SimpleNamespace(eos_token_id=1, pad_token_id=0)
"""What is read of a tokenizer."""


@pytest.fixture
def prepare(monkeypatch):
    original = getattr(transformers_engine.prepare_generation_config, "__wrapped__", transformers_engine.prepare_generation_config)
    monkeypatch.setattr(transformers_engine, "prepare_generation_config", original)
    draw_from_all()
    draw_from_all()
    assert transformers_engine.prepare_generation_config.__wrapped__ is original, "once"
    return transformers_engine.prepare_generation_config


def worst_rank(config: GenerationConfig) -> int:
    """The rank of the least likely token among 2,000 draws from a nearly flat distribution over 500."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=500, head_dim=16, eos_token_id=1, pad_token_id=0, **small)).eval()
    prompt = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        ranks = model(prompt).logits[0, -1].argsort(descending=True).argsort()
    drawn = model.generate(prompt.repeat(2000, 1), generation_config=config)[:, -1]
    return int(ranks[drawn].max())


@pytest.mark.parametrize("of_model", [None, 20], ids=["transformers' own default", "a model's own"])
@pytest.mark.parametrize("asked", [-1, 0])
def test_no_top_k_draws_from_all(prepare, of_model, asked):
    request = RequestConfig(max_tokens=1, temperature=1.0, top_p=1.0, top_k=asked)
    assert worst_rank(prepare(GenerationConfig(top_k=of_model), request, ENDS)) > 400


def test_a_top_k_that_is_asked_for_stays(prepare):
    request = RequestConfig(max_tokens=1, temperature=1.0, top_p=1.0, top_k=7)
    assert worst_rank(prepare(GenerationConfig(), request, ENDS)) == 6


def test_greedy_stays_greedy(prepare):
    config = prepare(GenerationConfig(), RequestConfig(max_tokens=1, temperature=0, top_k=-1), ENDS)
    assert config.do_sample is False and worst_rank(config) == 0
