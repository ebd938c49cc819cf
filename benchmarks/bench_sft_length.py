"""Measure what SFT gains where a batch holds rows of one length: rows a second, padding and loss, beside batches as they come.

    python benchmarks/bench_sft_length.py
    python benchmarks/bench_sft_length.py --rows medical --batch 4 --rounds 4 --threads 2

Rows are the shipped ones of --rows (medical: question and reference answer; judge: question, answers and verdict; finance: question and
gold), a token for each character, cut to --max-length. The batches are those of ms-swift's own sampler, without
--group_by_length, with it, and with it and our plugin, which deals the batches in a drawn order, over the same rows with the same seed; the
model is a Qwen2 with random weights, trained whole, with --accumulation
batches an update. In each round all orders run an epoch from the same weights, in an order drawn by --seed.

Prints a table in Markdown: rows a second (median, lowest and highest), the ratio of medians, the share of padding, the loss of all rows at
the first weights (the same in all orders, or something is wrong: then exit code 1), and the held-out loss after --epochs epochs.
"""

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overtake.cli import positive, run
from overtake.data.tables import read_rows

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {
    "medical": ("datasets/medical/questions.jsonl", ("question",), ("answer",)),
    "judge": ("datasets/judge/train.jsonl", ("question", "answer", "answer_hat"), ("judge_facts", "label", "label_secondary")),
    "finance": ("datasets/finance/train.jsonl", ("question",), ("gold_answer",)),
}
ORDERS = {"plain": "as they come", "sorted": "by length, ms-swift", "mixed": "by length, ours"}
_HELD_OUT = 10
"""One row in so many."""
_PROMPT = -100
"""No loss is taken of it."""


class Row(NamedTuple):
    """Tokens, and of how many in front no loss is taken."""

    tokens: list[int]
    prompt: int


class Epoch(NamedTuple):
    """One pass over the rows."""

    seconds: float
    rows: int
    padding: float
    """Share of the tokens that went through the model."""


def shipped(name: str, most: int) -> tuple[list[Row], int]:
    """The shipped rows of a task, and how many tokens there are: a token for each character that occurs."""
    file, asked, answered = SHIPPED[name]
    cells = read_rows(ROOT / file)
    texts = [tuple(" ".join(row[column] for column in columns) for columns in (asked, answered)) for row in cells]
    letters = {letter: at for at, letter in enumerate(sorted({letter for pair in texts for text in pair for letter in text}), 1)}
    rows = [([letters[letter] for letter in prompt], [letters[letter] for letter in answer]) for prompt, answer in texts]
    return [Row([*prompt, *answer][:most], min(len(prompt), most - 1)) for prompt, answer in rows], len(letters) + 1


def batches(rows: Sequence[Row], size: int, order: str, seed: int) -> Iterator[list[Row]]:
    """The batches of ms-swift's sampler."""
    from overtake.trainers import mixed_lengths
    from swift.dataloader.shard import BatchSamplerShard

    how: dict[str, Any] = {} if order == "plain" else {"group_by_length": True, "lengths": [len(row.tokens) for row in rows]}
    BatchSamplerShard.__iter__ = mixed_lengths._mixed if order == "mixed" else mixed_lengths._plain
    for at in BatchSamplerShard(len(rows), batch_size=size, shuffle=True, drop_last=False, data_seed=seed, **how):
        yield [rows[index] for index in at]


def losses(model: Any, batch: Sequence[Row]) -> tuple[Any, int, int]:
    """Return (sum of the losses of a batch's answers, how many tokens those are, tokens with padding)."""
    import torch

    longest = max(len(row.tokens) for row in batch)
    tokens = torch.tensor([row.tokens + [0] * (longest - len(row.tokens)) for row in batch])
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (longest - len(row.tokens)) for row in batch])
    labels = torch.where(mask.bool(), tokens, _PROMPT)
    for at, row in enumerate(batch):
        labels[at, : row.prompt] = _PROMPT
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
    total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_PROMPT, reduction="sum")
    return total, int((labels[:, 1:] != _PROMPT).sum()), tokens.numel()


def mean_loss(model: Any, parts: Sequence[Sequence[Row]]) -> float:
    """The loss of a token of all answers."""
    import torch

    with torch.inference_mode():
        told = [losses(model, batch) for batch in parts]
    return float(sum(total for total, _, _ in told)) / sum(count for _, count, _ in told)


def epoch(model: Any, optimizer: Any, parts: Sequence[Sequence[Row]], accumulation: int) -> Epoch:
    """Train on the batches."""
    begun, held = time.perf_counter(), 0
    for start in range(0, len(parts), accumulation):
        update = parts[start : start + accumulation]
        count = sum(len(row.tokens) - max(row.prompt, 1) for batch in update for row in batch)
        for batch in update:
            total, _, size = losses(model, batch)
            (total / count).backward()
            held += size
        optimizer.step()
        optimizer.zero_grad()
    seconds, rows = time.perf_counter() - begun, sum(map(len, parts))
    return Epoch(seconds, rows, 1 - sum(len(row.tokens) for batch in parts for row in batch) / held)


def measure(options: argparse.Namespace) -> int:
    """Run the rounds and print the table."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(options.threads)
    rows, vocabulary = shipped(options.rows, options.max_length)
    random.Random(options.seed).shuffle(rows)
    held_out, rows = rows[::_HELD_OUT], [row for at, row in enumerate(rows) if at % _HELD_OUT]
    sizes = {"hidden_size": options.width, "intermediate_size": 3 * options.width, "num_hidden_layers": options.layers}
    heads = {"num_attention_heads": options.width // 32, "num_key_value_heads": options.width // 64 or 1}
    torch.manual_seed(options.seed)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **sizes, **heads, tie_word_embeddings=True))
    first = {name: value.clone() for name, value in model.state_dict().items()}

    def order(name: str, number: int = 0) -> list[list[Row]]:
        return list(batches(rows, options.batch, name, options.seed + number))

    same = {name: mean_loss(model, order(name)) for name in ORDERS}
    kept = mean_loss(model, [[row] for row in held_out])
    told: dict[str, list[Epoch]] = {name: [] for name in ORDERS}
    after: dict[str, float] = {}
    drawn = random.Random(options.seed)
    for number in range(options.rounds):
        for name in drawn.sample(list(ORDERS), len(ORDERS)):
            model.load_state_dict(first)
            optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr)
            for passed in range(1 if number else options.epochs):
                told[name].append(epoch(model, optimizer, order(name, passed), options.accumulation))
            after.setdefault(name, mean_loss(model, [[row] for row in held_out]))
    print(table(told, same, after))
    print(
        f"\n{options.rows}: {len(rows)} rows of {statistics.mean(len(row.tokens) for row in rows):.0f} tokens on the mean, at most "
        f"{max(len(row.tokens) for row in rows)}; batches of {options.batch}; held-out loss before: {kept:.3f}"
    )
    return 0 if all(math.isclose(same["plain"], loss, rel_tol=1e-4) for loss in same.values()) else 1


def table(told: dict[str, list[Epoch]], same: dict[str, float], after: dict[str, float]) -> str:
    """The measures of all orders in Markdown.

    >>> told = {"plain": [Epoch(2.0, 10, 0.5)], "sorted": [Epoch(2.0, 10, 0.5)], "mixed": [Epoch(1.0, 10, 0.1)]}
    >>> print(table(told, dict.fromkeys(told, 3.0), dict.fromkeys(told, 2.1)).splitlines()[4])
    | by length, ours | 10.0 [10.0, 10.0] | 2.00 | 10.0% | 3.0000 | 2.100 |
    """
    speeds = {name: [one.rows / one.seconds for one in told[name]] for name in ORDERS}
    lines = ["| batches | rows/s | x | padding | loss, first weights | held-out loss, trained |", "|---|---|---|---|---|---|"]
    for name, words in ORDERS.items():
        middle, base = statistics.median(speeds[name]), statistics.median(speeds["plain"])
        rate = f"{middle:.1f} [{min(speeds[name]):.1f}, {max(speeds[name]):.1f}]"
        padding = statistics.mean(one.padding for one in told[name])
        lines.append(f"| {words} | {rate} | {middle / base:.2f} | {padding:.1%} | {same[name]:.4f} | {after[name]:.3f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", choices=SHIPPED, default="medical", help="whose shipped rows (default %(default)s)")
    parser.add_argument("--batch", type=positive, default=2, help="rows of a batch, as the recipes' (default %(default)s)")
    parser.add_argument("--accumulation", type=positive, default=8, help="batches of an update (default %(default)s)")
    parser.add_argument("--max-length", type=positive, default=2048, help="default %(default)s")
    parser.add_argument("--rounds", type=positive, default=3, help="default %(default)s")
    parser.add_argument("--epochs", type=positive, default=3, help="of the first round, before the held-out loss (default %(default)s)")
    parser.add_argument("--width", type=positive, default=128, help="of the model (default %(default)s)")
    parser.add_argument("--layers", type=positive, default=2, help="of the model (default %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-3, help="default %(default)s")
    parser.add_argument("--threads", type=positive, default=1, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    return run(lambda: measure(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
