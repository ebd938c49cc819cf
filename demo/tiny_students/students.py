"""Parts that the tiny students share: a Qwen3 of about a million random weights, the form of a chat, the folder they are written to."""

from pathlib import Path
from typing import Any

from overtake.data.tables import BadInput


def make_model(tokenizer: Any, width: int, layers: int, seed: int) -> Any:
    """A randomly initialised Qwen3 with tied embeddings, in float32."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def chat_tokenizer(tokenizer: Any, start: str = "") -> Any:
    """A `tokenizers` tokenizer as transformers' fast one for chats of <|im_start|> and <|im_end|>, an answer beginning with `start`."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + start + "{% endif %}"
    )
    return fast


def check_free(out: Path) -> None:
    """Refuse, before any work, a folder that holds something. Raises BadInput."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is there already: choose another folder or remove it")


def write(model: Any, tokenizer: Any, out: Path, trained: str) -> None:
    """Write both to `out`, whole or not at all, and print the size and how it was `trained`."""
    aside = out.with_name(f"{out.name}.aside")
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.rename(out)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{out}: Qwen3 of {millions:.2f} M parameters, {len(tokenizer)} tokens, {trained}")
