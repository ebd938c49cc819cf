"""Try the tasks in a browser: type, and see beside each other what the question, the teacher and every student make of it.

    bash recipes/page.sh
    python tools/page.py --system SFT=output/query_rewrite/sft/checkpoint-27 --system finance:RL=finance@http://127.0.0.1:8000/v1 \\
        --eval output/query_rewrite/eval
    bash recipes/page.sh --blind --eval output/query_rewrite/eval --pair SFT GRPO

A system is TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL (its key as for tools/evaluate.py); the task may be left out for query rewriting.
Without any, those under output/ are taken: the newest checkpoint of SFT, GRPO and PPO of each task. The teacher answers where one is set.
Examples are held-out rows of --eval, without it of output/TASK/eval. --blind asks which of two candidates' answers to these rows a person
prefers, without saying whose they are; the choices go into preferences.jsonl there (tools/evaluate.py --preferences). The page is for this
machine alone; --open with --host lets others in, without a key. What is typed is kept in memory while a tab is open, and nowhere else.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, settings, tasks
from overtake.data.tables import BadInput
from overtake.evaluation import preferences
from overtake.launch import checkpoints
from overtake.page import app, blind, candidates
from overtake.remote import chat
from overtake.retrieval import serving
from overtake.task import Task

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"SFT": "sft", "GRPO": "grpo", "PPO": "ppo"}


def systems_of(task: Task, given: Sequence[str]) -> list[str]:
    """The systems of a task among those given, else those under output/; and the teacher where one is set."""
    named = [system.partition(":")[2] for system in given if system.partition(":")[0] == task.called]
    if task.called == tasks.DEFAULT:
        named += [system for system in given if system.partition("=")[0].partition(":")[0] not in tasks.known()]
    if not given:
        runs = {name: checkpoints.last(ROOT / "output" / task.called / folder) for name, folder in RUNS.items()}
        named = [f"{name}={checkpoint}" for name, checkpoint in runs.items() if checkpoint]
    return ([candidates.TEACHER] if _teacher() else []) + named


def _teacher() -> bool:
    try:
        chat.endpoint(candidates.TEACHER)
    except settings.SettingsError:
        return False
    return True


def _asked(args: argparse.Namespace, evaluations: Sequence[tuple[Path, Task]]) -> list[blind.Asked]:
    """The comparisons of the evaluations' folders, each with its log there."""
    if args.system:
        raise BadInput("--blind compares answers that are there: name the folder of tools/evaluate.py by --eval, and leave --system out")
    if not evaluations:
        raise BadInput("--blind: no output/TASK/eval is there: name the folder that tools/evaluate.py wrote by --eval")
    asked = []
    for folder, task in evaluations:
        comparison, log = preferences.comparison(folder, task, args.pair, args.seed), folder / "preferences.jsonl"
        if stale := preferences.renew(log, comparison):
            print(f"{log}: {stale} choices were between answers that the candidates no longer give; these questions are asked again")
        asked.append(blind.Asked(comparison, log))
    return asked


def work(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    known = list(tasks.known().values())
    own = {task.called: ROOT / "output" / task.called / "eval" for task in known}
    here = [(folder, task) for task in known if ((folder := own[task.called]) / "summary.json").is_file()]
    evaluations = [(folder, app.of_evaluation(folder, known)) for folder in args.eval] or here
    serving.refuse_strangers(args, keyed=False)
    if args.blind:
        asked = _asked(args, evaluations)
        return serving.run(args, lambda: (blind.app(asked), "the blind comparison is open at {url}"))
    strange = [system for system in args.system if "=" not in system]
    if strange:
        raise BadInput(f"--system {strange[0]}: give TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL")
    folders = {task.called: folder for folder, task in evaluations}
    tabs = [app.shown(task, systems_of(task, args.system), folders.get(task.called)) for task in known]
    return serving.run(args, lambda: (app.app(tabs), "the page is open at {url}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 on SIGTERM, 2 bad input, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--system", action="append", default=[], help="TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL; repeat")
    parser.add_argument("--eval", action="append", default=[], type=Path, help="folder that tools/evaluate.py wrote; repeat")
    parser.add_argument("--blind", action="store_true", help="record which of two candidates' answers people prefer")
    parser.add_argument("--pair", nargs=2, default=(), metavar="NAME", help="--blind: the candidates; else that of --against and the base")
    parser.add_argument("--seed", type=int, default=0, help="--blind: draws the order of questions and of left and right")
    parser.add_argument("--task", type=tasks.named, help="the file of your own task, which gets a tab, too")
    serving.add_address(parser, port=7860)
    args = parser.parse_args(argv)
    # Answers and the ledger of what is asked here go with the page; and nobody who looks at one waits out an outage of minutes.
    with tempfile.TemporaryDirectory(prefix="overtake_page_") as folder:
        os.environ |= {"OVERTAKE_CACHE_DIR": folder, "GRADIO_TEMP_DIR": folder}
        os.environ.setdefault("OVERTAKE_OUTAGE_PATIENCE", "1")
        settings.load.cache_clear()
        return cli.run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
