"""Make the medical chain's student for two cores: a random Qwen3 of about a million weights and its tokenizer, a token for each character.

    python -m demo.tiny_students.tiny_medical_model OUT --texts output/medical/data/train.jsonl

It stands in for Qwen3-1.7B and knows nothing at all: from SFT on a few hundred answers it learns their form and their turns of phrase, no
medicine. Its tokenizer has the characters of the texts and the system prompt's lines whole, so that a prompt stays short.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake.cli import run
from overtake.tasks.medical import prompts

from demo.tiny_students.students import check_free, make_model, write
from demo.tiny_students.tiny_model import make_tokenizer, read_texts


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and random weights to a new folder."""
    check_free(arguments.out)
    # One line: a text with spaces would make words of its own.
    texts = ["".join(text.split()) for file in arguments.texts for text in read_texts(file)]
    lines = sorted({line for line in prompts.prompt("answer_medical").splitlines() if line.strip()})
    characters = [character for text in texts for character in text]
    tokenizer = make_tokenizer([], lines, characters)
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    write(model, tokenizer, arguments.out, "random weights")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--texts", type=Path, required=True, nargs="+", help="train.jsonl and such, whose characters the tokenizer knows")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=20, help="of the weights")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
