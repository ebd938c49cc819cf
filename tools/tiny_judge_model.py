"""Make the judge chain's student for the cpu profile: a Qwen3 of about a million parameters that has learnt to find words again.

    python tools/tiny_judge_model.py OUT --texts output/judge/data/train.jsonl

It stands in for a base model that cannot run on two cores. Its lessons are made by rule of random words: a reference and a line that holds
it or not, then the reference once more and whether it was there. It reads no verdict, no tag and no sentence of the sample, so that the
form of a verdict is left to SFT and what follows from finding to both trainings.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overtake import prompts
from overtake.data.cli import run
from overtake.data.tables import BadInput, read_rows
from overtake.standin.students import make_model

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
TAGS = ["<think>", "</think>", "<output>", "</output>"]
FIELDS = ["Question:", "Reference answer:", "Answer to grade:", "system\n", "user\n", "assistant\n"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PEAK_RATE = 2e-3
_WINDOW = 512


def make_tokenizer(texts: list[str], lines: list[str]) -> Any:
    """A fast tokenizer: digits, signs and Han characters alone, words by BPE over `texts`; tags, fields and prompt `lines` whole."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    basic = [chr(code) for code in range(32, 127)] + ["\n"] + list("，。？！：；、“”（）《》…—")
    trainer = trainers.BpeTrainer(vocab_size=1600, min_frequency=3, special_tokens=SPECIAL, initial_alphabet=basic, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in [*TAGS, *FIELDS, *lines]])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def lessons(tokens: list[int], fields: list[int], yes: int, no: int, rng: random.Random) -> Iterator[tuple[list[int], list[int]]]:
    """Endless (given, wanted) token ids: a reference, a line with or without it; then the reference and whether the line holds it."""
    while True:
        gold = rng.choices(tokens, k=rng.randint(1, 4))
        line = rng.choices(tokens, k=rng.randint(2, 10))
        held = rng.random() < 0.5
        # What is not held is as long, and in half of the cases like it but for one place.
        said = list(gold) if held or rng.random() < 0.5 else rng.choices(tokens, k=len(gold))
        if not held:
            said[rng.randrange(len(said))] = rng.choice(tokens)
        at = rng.randrange(len(line) + 1)
        given = [*rng.choices(tokens, k=rng.randint(0, 8)), fields[0], *gold, fields[1], *line[:at], *said, *line[at:], fields[2]]
        yield given, [*gold, yes if said == gold else no]


def pretrain(model: Any, pairs: Iterator[tuple[list[int], list[int]]], pad: int, steps: int) -> float:
    """AdamW with a cosine schedule, 64 lessons a step; returns the mean loss of the last tenth."""
    import torch
    from tqdm import tqdm

    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    losses: list[float] = []
    model.train()
    for step in tqdm(range(steps), desc="pre-training the tiny model", unit="step", mininterval=2):
        rate = _PEAK_RATE * min(1.0, (step + 1) / 30) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = [next(pairs) for _ in range(64)]
        longest = max(len(given) + len(wanted) for given, wanted in rows)
        ids = torch.tensor([given + wanted + [pad] * (longest - len(given) - len(wanted)) for given, wanted in rows])
        labels = torch.tensor([[-100] * len(given) + wanted + [-100] * (longest - len(given) - len(wanted)) for given, wanted in rows])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and pre-trained weights to a new folder."""
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise BadInput(f"{arguments.out} is there already: choose another folder or remove it")
    rows = read_rows(arguments.texts, required=("question", "answer_hat"))
    texts = [f"{row['question']}\n{row['answer_hat']}\n{row.get('judge_reason', '')}" for row in rows]
    words = "main: correct; secondary: incorrect none"
    tokenizer = make_tokenizer([*texts, *[words] * 5], [line for line in prompts.prompt("judge_answer").splitlines() if line.strip()])
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    model.config.max_position_embeddings = _WINDOW
    number = tokenizer.get_vocab()
    plain = [place for token, place in number.items() if token not in {*SPECIAL, *TAGS, *FIELDS} and len(token) < 30]
    fields = [number["Reference answer:"], number["Answer to grade:"], number["assistant\n"]]
    pairs = lessons(plain, fields, number["+"], number["-"], random.Random(arguments.seed))
    loss = pretrain(model, pairs, tokenizer.pad_token_id, arguments.steps) if arguments.steps else math.nan
    aside = arguments.out.with_name(arguments.out.name + ".aside")
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.rename(arguments.out)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{arguments.out}: Qwen3 of {millions:.2f} M parameters, {len(tokenizer)} tokens, {arguments.steps} steps, loss {loss:.2f}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--texts", type=Path, required=True, help="graded rows whose words the tokenizer should know; none is learnt")
    parser.add_argument("--steps", type=int, default=1000, help="of 64 lessons (default %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20, help="of weights and lessons")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
