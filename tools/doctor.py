"""Examine a run before it costs anything: do the rewards resist cheating, and are machine, services, rows and numbers in order?

    python tools/doctor.py --task query_rewrite                                  # rewards and rows of grpo_rag.sh
    python tools/doctor.py --task medical --data output/medical/data/training_prompts.jsonl --no-judge
    python tools/doctor.py --task finance --data my_questions.jsonl --json
    python tools/doctor.py --task judge -- --reward_funcs judge_format --reward_weights 1     # flags of ms-swift, as a recipe takes them
    DRY_RUN=1 bash recipes/grpo_rag.sh | python tools/doctor.py --fast           # what every recipe does first: no network, no attack

Honest answers and attacks go through the very rewards of the recipe, every row judged: the weighted total must not pay any attack as
much as an honest answer. Then the preflight. Exit codes: 0 in order (warnings may stand), 1 an error was found, 2 bad input.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, settings
from overtake.doctor import findings
from overtake.doctor.command import Command, of_recipe, parse
from overtake.doctor.findings import Finding

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("query_rewrite", "finance", "medical", "judge")


def attack(args: argparse.Namespace, command: Command) -> tuple[list[Finding], str]:
    """The rewards under attack: what was found, and the table."""
    # Every row that a run might judge is judged, or none: a share would compare judged answers with others.
    chosen = settings.load()
    for name in ("judge_share", "finance_judge_share"):
        os.environ[f"OVERTAKE_{name.upper()}"] = str(int(bool(getattr(chosen, name)) and not args.no_judge))
    settings.load.cache_clear()
    from overtake.doctor import attacks, scoring
    from overtake.doctor.rows import files

    task = attacks.TASKS[args.task]
    flags = command.flags
    path = args.data or (ROOT / "datasets" / task.sample if task.sample else None)
    if args.data is None and (there := [file for file in files(command.flags.get("dataset", [])) if file.is_file()]):
        path = there[0]
    if path is None:
        return [Finding("error", "rows", "no file is named", "add --data FILE")], ""
    found = scoring.golds(path) if args.task == "finance" else []
    rows = attacks.spread(task.rows(path), args.rows)
    outcome, more = scoring.examine(task, rows, scoring.rewards_of(task, flags, flags.get("external_plugins", [])))
    said = f"{args.task}: {len(rows)} rows of {path}\n{scoring.table(outcome)}" if outcome else ""
    return [*found, *more], said


def doctor(args: argparse.Namespace) -> int:
    """Examine, print, and tell by the exit code."""
    from overtake.doctor import live, preflight

    # A service that is down is what is looked for: nobody waits until it is up again.
    os.environ.setdefault("OVERTAKE_OUTAGE_PATIENCE", "0")
    command = _command(args) if args.task else parse(sys.stdin.read())
    found, said = [], ""
    if not args.only_attacks:
        found += preflight.fast(command, os.environ)
        found += [] if args.fast or findings.exit_code(found) else live.services(command, args.no_judge)
    if not args.fast:
        more, said = attack(args, command)
        found += more
    if args.json:
        print(findings.as_json(found, task=args.task, table=said.splitlines()))
    elif args.fast:
        shown = [one for one in found if one.level != "ok"]
        print(findings.table(shown), end="\n" if shown else "", file=sys.stderr)
    else:
        print(said, findings.table(found), sep="\n\n" if said else "")
    return findings.exit_code(found)


def _command(args: argparse.Namespace) -> Command:
    from overtake.doctor.attacks import TASKS

    path = ROOT / "recipes" / f"{args.recipe or TASKS[args.task].recipe}.sh"
    chosen = {"MODEL": args.model, "DATASET": str(args.data) if args.data else None}
    return of_recipe(path, args.flags, {name: value for name, value in chosen.items() if value})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 in order, 1 an error was found, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--task", choices=TASKS, help="needed, unless --fast reads a recipe's command from its input")
    parser.add_argument("--data", type=Path, help="rows: a training file or, but for query_rewrite, a raw one (default: the recipe's)")
    parser.add_argument("--model", help="as the recipe's MODEL=")
    parser.add_argument("--recipe", help="whose rewards and numbers are examined (default: the task's GRPO recipe)")
    parser.add_argument("--rows", type=cli.positive, default=48, help="rows to attack, spread over the file (default %(default)s)")
    parser.add_argument("--no-judge", action="store_true", help="ask no judge")
    parser.add_argument("--fast", action="store_true", help="the preflight without network and without attacks")
    parser.add_argument("--only-attacks", action="store_true", help="the attacks without the preflight")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(words[:at])
    args.flags = words[at + 1 :]
    if args.task is None and not args.fast:
        parser.error("--task is needed")
    return cli.run(lambda: doctor(args))


if __name__ == "__main__":
    sys.exit(main())
