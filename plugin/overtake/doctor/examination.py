"""One examination of a run: the options, the preflight, the live services, the rewards under attack, the findings printed."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from overtake import settings
from overtake.data.tables import BadInput
from overtake.doctor import attacks, findings, live, memory, plan, preflight, scoring
from overtake.doctor.command import Command, of_recipe, parse
from overtake.doctor.findings import Finding
from overtake.doctor.rows import files
from overtake.task import Task
from overtake.task import rewards as rewards_of

Known = Callable[[Sequence[str]], list[Task]]
"""known(plugins) -> all tasks, those that the files of --external_plugins define among them."""

_ATTACKED = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options beside --task."""
    parser.add_argument("--data", type=Path, help="rows: a training file or, where the task reads one, a raw one (default: the recipe's)")
    parser.add_argument("--model", help="as the recipe's MODEL=")
    parser.add_argument("--recipe", help="whose rewards and numbers are examined (default: the task's GRPO recipe)")
    about = f"rows to attack, spread over the file (default {_ATTACKED}); with --plan the rows to train on"
    parser.add_argument("--rows", help=about)
    parser.add_argument("--no-judge", action="store_true", help="ask no judge")
    parser.add_argument("--fast", action="store_true", help="the preflight without network and without attacks")
    parser.add_argument("--only-attacks", action="store_true", help="the attacks without the preflight")
    parser.add_argument("--memory", metavar="PROFILE", help="only print what each training recipe takes of a card, part by part")
    parser.add_argument(
        "--plan", metavar="MODEL", help="only count what this model takes: a folder, a config.json or a name; wants --gpus, --rows"
    )
    parser.add_argument("--gpus", metavar="COUNTxGB", help="--plan: the cards, e.g. 4x80")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="--plan: the JSON of tools/gpu_check.sh, for the time that it takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def memory_of(profile: str, root: Path) -> int:
    """Print what each training recipe takes of the memory of a profile's card, or of MODEL's, as the recipes' variables say."""
    file = root / "recipes/profiles" / f"{profile}.sh"
    if not file.is_file():
        raise BadInput(f"--memory {profile}: there are {', '.join(sorted(path.stem for path in file.parent.glob('*.sh')))}")
    card = memory.card_of(file)
    share = f"; of a card's {card:.1f} may {memory.SHARE:.0%} be planned with" if card else ""
    print(f"PROFILE={profile}, GB of 10^9 bytes, rows at their longest{share}")
    for kind in ("sft", "grpo", "ppo"):
        for recipe in sorted((root / "recipes").glob(f"{kind}_*.sh")):
            print(f"\n{recipe.stem}: " + "\n".join(memory.report(of_recipe(recipe, (), {"PROFILE": profile}), card)))
    return 0


def plan_of(args: argparse.Namespace, profile_of: Callable[[int, int], str], root: Path, tasks: Sequence[Task]) -> int:
    """Print what --plan asks for; `profile_of(cards, GB)` is "" where there is none for them. Raises BadInput."""
    if args.gpus is None:
        raise BadInput("--plan wants --gpus COUNTxGB, e.g. --gpus 4x80, and --rows N, the rows to train on")
    cards, rows = plan.gpus(args.gpus), plan.row_count(args.rows)
    profile = profile_of(*cards)
    if not profile:
        sizes = ", ".join(map(str, memory.CARDS))
        raise BadInput(f"--gpus {args.gpus}: no profile is for cards of {cards[1]} GB, only of {sizes} and more; PROFILE=cpu needs none")
    speed = plan.measured(args.measured) if args.measured else None
    shown = [args.task] if args.task else list(tasks)
    with plan.located(args.plan) as model:
        found = list(plan.stages(root, model, profile, cards[0], rows, shown, speed))
    print(plan.as_json(args.plan, profile, rows, found) if args.json else plan.report(args.plan, profile, cards, rows, found, shown))
    return 0


def doctor(args: argparse.Namespace, root: Path, known_rewards: Known) -> int:
    """Examine, print, and tell by the exit code; `args.task` is the task, None where --fast reads a command from the input."""
    # A service that is down is what is looked for: nobody waits until it is up again.
    os.environ.setdefault("OVERTAKE_OUTAGE_PATIENCE", "0")
    command = _command(args, root) if args.task else parse(sys.stdin.read())
    try:
        tasks = known_rewards(command.flags.get("external_plugins", []))
    except (ValueError, ImportError) as error:
        raise BadInput(str(error)) from None
    results, scores = [], ""
    if not args.only_attacks:
        results += preflight.fast(command, os.environ, tasks)
        results += [] if args.fast or findings.exit_code(results) else live.services(command, tasks, args.no_judge)
    if not args.fast:
        more, scores = _attack(args, command, root, tasks)
        results += more
    if args.json:
        print(findings.as_json(results, task=args.task and args.task.called, table=scores.splitlines()))
    elif args.fast:
        shown = [finding for finding in results if finding.level != "ok"]
        print(findings.table(shown), end="\n" if shown else "", file=sys.stderr)
    else:
        print(scores, findings.table(results), sep="\n\n" if scores else "")
    return findings.exit_code(results)


def _command(args: argparse.Namespace, root: Path) -> Command:
    recipe = args.recipe or args.task.recipe
    if not recipe:
        raise BadInput(f"{args.task.called} has no recipe of its own: add --recipe NAME, one of recipes/")
    overrides = {"MODEL": args.model, "DATASET": str(args.data) if args.data else None}
    return of_recipe(root / "recipes" / f"{recipe}.sh", [*_own(args.task, root), *args.flags], {k: v for k, v in overrides.items() if v})


def _own(task: Task, root: Path) -> list[str]:
    """Flags that bring a task of a user's own file into a recipe of ours: its plugin, and each of its rewards with weight 1."""
    if not task.file:
        return []
    names = [reward.name for reward in task.rewards]
    plugins = [str(root / "plugin/register.py"), task.file]
    return ["--external_plugins", *plugins, "--reward_funcs", *names, "--reward_weights", *("1" for _ in names)]


def _attack(args: argparse.Namespace, command: Command, root: Path, tasks: Sequence[Task]) -> tuple[list[Finding], str]:
    """The rewards under attack: what was found, and the table."""
    task: Task = args.task
    rewards = rewards_of(tasks)
    # Every row that a run might judge is judged, or none: a share would compare judged answers with others.
    for name in {reward.judged for reward in rewards.values() if "judge" in reward.asks}:
        os.environ[f"OVERTAKE_{name.upper()}"] = str(int(bool(settings.value(name)) and not args.no_judge))
    settings.load.cache_clear()
    path = args.data or (root / "datasets" / task.attacks.sample if task.attacks.sample else None)
    if args.data is None and (there := [file for file in files(command.flags.get("dataset", [])) if file.is_file()]):
        path = there[0]
    if path is None:
        return [Finding("error", "rows", "no file is named", "add --data FILE")], ""
    of_golds = task.attacks.golds(path) if task.attacks.golds else []
    rows = attacks.spread(task.attacks.rows(path), plan.row_count(args.rows) if args.rows is not None else _ATTACKED)
    of_run = scoring.rewards_of(task, command.flags, rewards, command.flags.get("external_plugins", []))
    outcome, more = scoring.examine(task, rows, of_run)
    scores = f"{task.called}: {len(rows)} rows of {path}\n{scoring.table(outcome)}" if outcome else ""
    return [*of_golds, *more], scores
