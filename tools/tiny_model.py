"""Make the quickstart's student: a Qwen3 of about a million parameters and its tokenizer, pre-trained on a knowledge base.

    python tools/tiny_model.py OUT --corpus datasets/query_rewrite/fivedoctors --steps 600

It stands in for the Qwen base that cannot be downloaded here. It reads documents only, never a question, a label or a
rewrite: each clause of a document (some characters dropped) is followed by the document's title words and the clause's own
words, so that the model learns to read characters and to write words. The tokenizer has one token for a character, one for
each word of the knowledge base behind a space, and one for each line of the shipped prompts, so that prompts stay short.
"""

import argparse
import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rjieba

from overtake import prompts
from overtake.data.cli import run
from overtake.data.tables import BadInput
from overtake.retrieval.corpus import Document, read_corpus

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<think>\n\n</think>\n\n", "<unk>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
_PEAK_RATE = 2e-3
_WORD = re.compile(r"\w+")


def make_tokenizer(documents: list[Document], lines: list[str], extra: list[str]) -> Any:
    """A fast tokenizer: characters, " word" for words of the documents and of `extra` texts, one token for each prompt line."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    counts: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for document in documents:
        counts.update(set(words(document.title + " " + document.text)))
        characters.update(document.title + document.text)
    for text in [*extra, *lines]:
        characters.update(text)
    spaced = {word for word, n in counts.items() if n >= 2 and len(word) > 1}
    spaced |= {word for text in extra for word in text.split() if 1 < len(word) <= 12 and _WORD.fullmatch(word)}
    basic = [chr(code) for code in range(32, 127)] + ["\n"] + list("，。？！：；、“”（）《》…—")
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *basic, *sorted(characters)]))}
    for word in sorted(spaced):
        vocabulary.setdefault(" " + word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    # A run " word" that is known stays whole; everything else falls into characters.
    pattern = "|".join(re.escape(word) for word in sorted(spaced, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf" (?:{pattern})(?!\w)|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL[:3]])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in [*SPECIAL[3:6], *lines]])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def words(text: str) -> list[str]:
    """The words of a text as jieba cuts them, punctuation left out."""
    return [word for word in rjieba.cut(text) if _WORD.fullmatch(word)]


def lessons(documents: list[Document], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (damaged clause, title words and clause words) pairs from documents drawn at random."""
    frequency = Counter(word for document in documents for word in set(words(document.text)))
    while True:
        document = rng.choice(documents)
        clauses = [clause for clause in re.split(r"[，。；：！？\s]", document.text) if len(clause) > 3]
        if not clauses:
            continue
        clause = rng.choice(clauses)
        damaged = "".join(c for c in clause[:40] if rng.random() > 0.15)
        target = list(dict.fromkeys([word for word in words(clause[:40]) if frequency[word] < len(documents) * 0.2]))
        if rng.random() < 0.5:
            target = list(dict.fromkeys([*words(document.title)[-6:], *target]))
        if target:
            yield damaged, " ".join(target[:12])


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and pre-trained weights to a folder that holds no model yet."""
    if (arguments.out / "config.json").exists():
        raise BadInput(f"{arguments.out} holds a model already: choose another folder or remove it")
    documents = read_corpus(arguments.corpus)
    extra = []
    if arguments.texts:
        rows = [json.loads(line) for line in arguments.texts.read_text(encoding="utf-8").splitlines()]
        extra = [message["content"] for row in rows for message in row["messages"] if message["role"] != "system"]
    names = [f"rewrite_{tenant}" for tenant in prompts.tenants()]
    lines = sorted({line for name in names for line in prompts.prompt(name).splitlines() if line.strip()})
    tokenizer = make_tokenizer(documents, lines, extra)
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    loss = pretrain(model, tokenizer, lessons(documents, random.Random(arguments.seed)), arguments.steps) if arguments.steps else math.nan
    aside = arguments.out.with_name(arguments.out.name + ".aside")
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.rename(arguments.out)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{arguments.out}: Qwen3 of {millions:.2f} M parameters, {len(tokenizer)} tokens, {arguments.steps} steps, loss {loss:.2f}")
    return 0


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


def pretrain(model: Any, tokenizer: Any, pairs: Iterator[tuple[str, str]], steps: int) -> float:
    """AdamW with a cosine schedule on the answer part of each pair, 32 pairs a step; returns the mean loss of the last tenth."""
    import torch
    from tqdm import tqdm

    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    losses = []
    model.train()
    for step in tqdm(range(steps), desc="pre-training the tiny model", unit="step", mininterval=2):
        rate = _PEAK_RATE * min(1.0, (step + 1) / 50) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = [_encode(tokenizer, *next(pairs)) for _ in range(32)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows])
        labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows])
        loss = model(input_ids=ids, labels=labels, attention_mask=ids != tokenizer.pad_token_id).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def _encode(tokenizer: Any, source: str, target: str) -> tuple[list[int], list[int]]:
    given = tokenizer(source + "\n", add_special_tokens=False).input_ids
    wanted = [*tokenizer(" " + target, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return given + wanted, [-100] * len(given) + wanted


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds a model")
    parser.add_argument("--corpus", type=Path, required=True, help="BEIR folder or .jsonl of documents")
    parser.add_argument("--texts", type=Path, help="file of further text whose characters and words the tokenizer should know (train.jsonl)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
