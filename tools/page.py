"""Try the tasks in a browser: type, and see beside each other what the question, the teacher and every student make of it.

    bash recipes/page.sh
    python tools/page.py --system SFT=output/query_rewrite/sft/checkpoint-27 --system finance:RL=finance@http://127.0.0.1:8000/v1 \\
        --eval output/query_rewrite/eval

A system is TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL (its key as for tools/evaluate.py); the task may be left out for query rewriting.
Without any, those under output/ are taken: the newest checkpoint of SFT, GRPO and PPO of each task. The teacher answers where one is set.
Examples are held-out rows of --eval, without it of output/TASK/eval. The page is for this machine alone; --open with --host lets others in,
without a key. What is typed is kept in memory while a tab is open, and nowhere else.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, settings, tasks
from overtake.data.tables import BadInput
from overtake.launch import checkpoints
from overtake.page import app, candidates
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
        runs = {name: checkpoints.last(ROOT / "output" / task.name / folder) for name, folder in RUNS.items()}
        named = [f"{name}={checkpoint}" for name, checkpoint in runs.items() if checkpoint]
    return ([candidates.TEACHER] if _teacher() else []) + named


def _teacher() -> bool:
    try:
        chat.endpoint(candidates.TEACHER)
    except settings.SettingsError:
        return False
    return True


def work(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    known = list(tasks.known().values())
    folders = {app.of_evaluation(folder, known).called: folder for folder in args.eval}
    for task in known:
        own = ROOT / "output" / task.name / "eval"
        if not args.eval and (own / "summary.json").is_file():
            folders[task.called] = own
    strange = [system for system in args.system if "=" not in system]
    if strange:
        raise BadInput(f"--system {strange[0]}: give TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL")
    serving.refuse_strangers(args, keyed=False)
    tabs = [app.shown(task, systems_of(task, args.system), folders.get(task.called)) for task in known]
    return serving.run(args, lambda: (app.app(tabs), "the page is open at {url}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 on SIGTERM, 2 bad input, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--system", action="append", default=[], help="TASK:NAME=FOLDER or TASK:NAME=MODEL@BASE_URL; repeat")
    parser.add_argument("--eval", action="append", default=[], type=Path, help="folder that tools/evaluate.py wrote; repeat")
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
