"""Examine a run before it costs anything: do the rewards resist cheating, and are machine, services, rows and numbers in order?

    python tools/doctor.py --task query_rewrite                                  # rewards and rows of grpo_rag.sh
    python tools/doctor.py --task medical --data output/medical/data/training_prompts.jsonl --no-judge
    python tools/doctor.py --task finance --data my_questions.jsonl --json
    python tools/doctor.py --task judge -- --reward_funcs judge_format --reward_weights 1     # flags of ms-swift, as a recipe takes them
    DRY_RUN=1 bash recipes/grpo_rag.sh | python tools/doctor.py --fast    # what every training recipe does first: no network, no attack
    python tools/doctor.py --memory 1x24g                                 # the memory that a profile's recipes take, counted
    python tools/doctor.py --plan Qwen/Qwen3-8B --gpus 1x80 --rows 1000   # and steps, calls, price, time of every recipe with a model

Honest answers and attacks go through the very rewards of the recipe, every row judged: the weighted total must not pay any attack as
much as an honest answer. Then the preflight. Exit codes: 0 in order (warnings may stand), 1 an error was found, 2 bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, tasks
from overtake.doctor import examination
from overtake.launch import machine

ROOT = Path(__file__).resolve().parents[1]


def _profile(cards: int, gigabytes: int) -> str:
    """The profile that a recipe takes by itself on such cards."""
    return machine.Cards([gigabytes * 1000] * cards).profile


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 in order, 1 an error was found, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    names = f"{{{','.join(tasks.known())}}}"
    parser.add_argument("--task", type=tasks.named, metavar=names, help="or a file; needed, unless --fast reads a recipe's command")
    examination.add_arguments(parser)
    args = parser.parse_args(words[:at])
    args.flags = words[at + 1 :]
    if args.memory:
        return cli.run(lambda: examination.memory_of(args.memory, ROOT))
    if args.plan:
        return cli.run(lambda: examination.plan_of(args, _profile, ROOT, list(tasks.known().values())))
    if args.task is None and not args.fast:
        parser.error("--task is needed")
    return cli.run(lambda: examination.doctor(args, ROOT, tasks.with_plugins))


if __name__ == "__main__":
    sys.exit(main())
