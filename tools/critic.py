"""Make a critic for PPO: a model with a value head in the place of its language head, and its tokenizer.

    python tools/critic.py Qwen/Qwen3-0.6B output/critic --policy Qwen/Qwen3-4B
    OVERTAKE_CRITIC=output/critic swift rlhf --rlhf_type ppo ...

PPO makes one of the policy's own base when none is named; a smaller model of the same family takes less memory and time. The head is
zero: it begins by expecting nothing.
"""

import argparse
import sys
from pathlib import Path

from overtake.cli import run
from overtake.data.tables import BadInput


def make(arguments: argparse.Namespace) -> int:
    """Write the model to a new folder."""
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise BadInput(f"{arguments.out} is there already: choose another folder or remove it")
    from overtake.trainers import critic
    from transformers import AutoTokenizer

    try:
        base = critic.folder_of(arguments.base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        if arguments.policy:
            critic.check_tokenizer(base, AutoTokenizer.from_pretrained(critic.folder_of(arguments.policy)))
        made = critic.from_model(base)
    except (OSError, ValueError) as error:
        raise BadInput(str(error).strip().splitlines()[0]) from None
    aside = arguments.out.with_name(arguments.out.name + ".aside")
    made.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.replace(arguments.out)
    millions = made.num_parameters() / 1e6
    print(f"{arguments.out}: {type(made).__name__} of {millions:.2f} M parameters, value head zero; name it in OVERTAKE_CRITIC")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="folder or hub name of a language model, smaller than the policy or its base")
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--policy", help="the model that PPO trains: check that the tokenizers agree")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
