"""A tiny model and rows for recipes that really run."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A random Qwen3 of two layers that spells: one token per character.

    Some thousand of them, so that it hardly ever ends at once: ms-swift 4.6.0 breaks off on an empty completion.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    symbols = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "[UNK]", *map(chr, range(32, 127)), "\n", *map(chr, range(0x4E00, 0x5600))]
    spelling = Tokenizer(models.WordLevel({symbol: at for at, symbol in enumerate(symbols)}, unk_token="[UNK]"))
    spelling.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    spelling.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=spelling, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=["<|im_start|>"]
    ).save_pretrained(tmp_path / "tiny")
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(symbols), head_dim=32, eos_token_id=2, pad_token_id=0, **size)).save_pretrained(
        tmp_path / "tiny"
    )
    for name in ("train", "val", "rl_train", "rl_val"):
        turns = [("system", "rewrite"), ("user", "question {}"), ("assistant", "query {}")]
        rows = [{"messages": [{"role": role, "content": text.format(at)} for role, text in turns]} for at in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path
