"""Make the quickstart's student: a Qwen3 of about a million parameters and its tokenizer, pre-trained on a knowledge base.

    python -m demo.tiny_students.tiny_model OUT --corpus datasets/query_rewrite/fivedoctors

It stands in for the Qwen base that cannot be downloaded here. It reads documents only, never a question, a label or a rewrite.
Its embeddings start from latent semantic analysis of the documents (Deerwester et al. 1990), so that characters and words that
occur together start close to each other; then it learns to answer a few characters of a document, with noise between them, by
the words of its title and of the clause. The tokenizer has a token for each character, each word of the knowledge base and each
line of the shipped prompts, so that a prompt is a dozen tokens long.
"""

import argparse
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rjieba
from overtake.cli import run
from overtake.data.tables import BadInput, read_objects
from overtake.retrieval.corpus import Document, read_corpus
from overtake.tasks.query_rewrite import prompts

from demo.tiny_students.students import chat_tokenizer, check_free, make_model, write

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<think>\n\n</think>\n\n", "<unk>"]
_PEAK_RATE = 2e-3
_WORD = re.compile(r"\w+")


def make_tokenizer(documents: list[Document], lines: list[str], extra: list[str], read_words: bool = False) -> Any:
    """A fast tokenizer: characters, each prompt line as one token, the words of the documents and of `extra` texts as " word".

    So a question falls into characters and a rewrite into words: a word that was never seen is still like a known one that shares
    a character. With `read_words` the known words are tokens in the question too, so that they can be copied.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    counts = Counter(word for document in documents for word in set(words(f"{document.title} {document.text}")))
    known = {word for word, n in counts.items() if n >= 2 and len(word) > 1}
    known |= {word for text in extra for word in text.split() if 1 < len(word) <= 12 and _WORD.fullmatch(word)}
    characters = {c for text in [*(document.title + document.text for document in documents), *extra, *lines] for c in text}
    basic = [chr(code) for code in range(32, 127)] + ["\n"] + list("，。？！：；、“”（）《》…—")
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *basic, *sorted(characters)]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL[:3]])
    forms = [form for word in sorted(known) for form in ([word, f" {word}"] if read_words else [f" {word}"])]
    whole = [*SPECIAL[3:6], "system\n", "user\n", "assistant\n", *lines, *forms]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    return chat_tokenizer(tokenizer, start="<think>\n\n</think>\n\n")


def words(text: str) -> list[str]:
    """The words of a text as jieba cuts them, punctuation left out."""
    return [word for word in rjieba.cut(text) if _WORD.fullmatch(word)]


def lessons(documents: list[Document], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (characters of a document's clauses with noise between, title words and half of the time clause words) pairs.

    Only title words that stand in the text count; where there are none the clause's words are always asked for.
    Raises BadInput when no document holds a clause.
    """
    if not any(_clauses(document) for document in documents):
        raise BadInput(f"none of the {len(documents)} documents holds a clause of four characters: there is nothing to learn from")
    frequency = Counter(word for document in documents for word in set(words(document.text)))
    everything = {c for document in documents for c in document.text}
    characters = sorted(c for c in everything if "\u4e00" <= c <= "\u9fff") or sorted(filter(str.isalnum, everything))
    while True:
        document = rng.choice(documents)
        clauses = _clauses(document)
        if not clauses:
            continue
        picked = rng.sample(clauses, min(rng.choice([1, 1, 2]), len(clauses)))
        parts = ["".join(c for c in clause if rng.random() < rng.choice([0.5, 0.9])) for clause in picked]
        for _ in range(rng.choice([0, 1, 2])):
            parts.insert(rng.randrange(len(parts) + 1), "".join(rng.choices(characters, k=rng.randrange(1, 6))))
        # A title whose words stand in the text says what the document is about; one that does not is a number in a statute book.
        title = [re.split(r"[：:]", document.title)[0], *words(document.title)[-3:]]
        target = [word for word in title if len(word) > 1 and word in document.text]
        if not target or rng.random() < 0.5:
            target += [word for word in words(" ".join(picked)) if len(word) > 1 and frequency[word] < len(documents) * 0.2][:8]
        yield "".join(parts), " ".join(dict.fromkeys(target))


def _clauses(document: Document) -> list[str]:
    return [clause[:30] for clause in re.split(r"[，。；：！？、\s]", document.text) if len(clause) > 3]


def read_texts(file: Path) -> list[str]:
    """Return what user and assistant say in the `messages` of a .jsonl file. Raises BadInput for a row without."""
    try:
        return [message["content"] for row in read_objects(file) for message in row["messages"] if message["role"] != "system"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"--texts {file}: a row without messages ({error!r}): give the train.jsonl that tools/convert.py writes") from None


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and pre-trained weights to a new folder."""
    check_free(arguments.out)
    try:
        documents = read_corpus(arguments.corpus)
        system = prompts.prompt(f"rewrite_{arguments.tenant}")
    except ValueError as error:
        raise BadInput(str(error)) from None
    extra = read_texts(arguments.texts) if arguments.texts else []
    names = [f"rewrite_{tenant}" for tenant in prompts.tenants()]
    lines = sorted({line for name in names for line in prompts.prompt(name).splitlines() if line.strip()})
    tokenizer = make_tokenizer(documents, lines, extra, arguments.read_words)
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    place_embeddings(model, tokenizer, documents)
    pairs = lessons(documents, random.Random(arguments.seed))
    loss = pretrain(model, tokenizer, pairs, system, arguments.steps) if arguments.steps else math.nan
    write(model, tokenizer, arguments.out, f"{arguments.steps} steps, loss {loss:.2f}")
    return 0


def place_embeddings(model: Any, tokenizer: Any, documents: list[Document]) -> None:
    """Add to the random embeddings the unit vectors of latent semantic analysis over (token, document), weighted by idf.

    Without this a model of this size remembers its training questions and does not generalise: held-out nDCG@10 after the same
    SFT was .08 without and .27 with it.
    """
    import numpy as np
    import torch

    texts = [f"{document.title} {document.text}" for document in documents]
    number = tokenizer.get_vocab()
    counts = np.zeros((len(tokenizer), len(texts)), dtype=np.float32)
    for column, text in enumerate(texts):
        # Characters count for themselves too, not only where no word holds them.
        tokens = {*text, *(word if word in number else f" {word}" for word in words(text))}
        counts[[number[token] for token in tokens if token in number], column] = 1
    counts *= np.log(len(texts) / np.maximum(counts.sum(1, keepdims=True), 1))
    weight = model.get_input_embeddings().weight.data
    left, strength, _ = np.linalg.svd(counts, full_matrices=False)
    rank = min(weight.shape[1], len(strength))
    vectors = np.zeros(tuple(weight.shape), dtype=np.float32)
    vectors[:, :rank] = left[:, :rank] * np.sqrt(strength[:rank])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    weight.add_(torch.from_numpy(np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0)))
    # Where both forms are tokens " word" starts as "word" plus one direction common to all: writing what was read is then little to learn.
    pairs = [(place, number[token[1:]]) for token, place in number.items() if token.startswith(" ") and token[1:] in number]
    if pairs:
        spaced, plain = [place for place, _ in pairs], [place for _, place in pairs]
        weight[spaced] = weight[plain] + torch.randn(weight.shape[1]) / weight.shape[1] ** 0.5


def pretrain(model: Any, tokenizer: Any, pairs: Iterator[tuple[str, str]], system: str, steps: int) -> float:
    """AdamW with a cosine schedule on the answers, 32 pairs a step, as chats with `system`; returns the mean loss of the last tenth."""
    import torch
    from tqdm import tqdm

    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    losses = []
    model.train()
    for step in tqdm(range(steps), desc="pre-training the tiny model", unit="step", mininterval=2):
        rate = _PEAK_RATE * min(1.0, (step + 1) / 50) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = [_encode(tokenizer, system, *next(pairs)) for _ in range(32)]
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


def _encode(tokenizer: Any, system: str, source: str, target: str) -> tuple[list[int], list[int]]:
    conversation = [{"role": "system", "content": system}, {"role": "user", "content": source}]
    given = tokenizer(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)).input_ids
    wanted = [*tokenizer(target).input_ids, tokenizer.eos_token_id]
    return given + wanted, [-100] * len(given) + wanted


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--corpus", type=Path, required=True, help="BEIR folder or .jsonl of documents")
    parser.add_argument("--tenant", default="default", help="whose prompt stands over the lessons")
    parser.add_argument(
        "--texts", type=Path, help="file of further text whose characters and words the tokenizer should know (train.jsonl)"
    )
    parser.add_argument("--steps", type=int, default=300, help="of 32 lessons (default 300; 1200 where users and documents share words)")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=2, help="copying words is learnt sooner with 3")
    parser.add_argument(
        "--read-words", action="store_true", help="known words are tokens in questions too: for users who use the documents' words"
    )
    parser.add_argument("--seed", type=int, default=20, help="of weights and lessons")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
