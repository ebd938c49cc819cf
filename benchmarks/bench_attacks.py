"""Attack the rewards: what the best-paid trick of each earns beside an honest answer, and whether any completion breaks one.

    python benchmarks/bench_attacks.py                          # the shipped rows; retrieval and judge are started here
    python benchmarks/bench_attacks.py --tree ../older          # the same tricks through another checkout's rewards
    python benchmarks/bench_attacks.py --fuzz 20000             # so many drawn completions through each reward, in place of the tricks

Rows are the doctor's: the shipped samples, and for query rewriting labelled questions of the fivedoctors sample with the mock teacher's
rewrite, which is the honest answer there and earns about 0, since it is measured against itself. The tricks are the doctor's too, the gold
document's title among them. Retrieval is serve_rag.py, the judge of rewrites the mock teacher; answers of medicine and finance are not
judged, nor is anything by the rewards of another checkout, whose prompts the mock teacher does not know. Rewards are called as ms-swift
calls them, so any version's can be measured.

--fuzz draws, by --seed, honest answers cut, stuffed and turned over, with lone surrogates, format characters, fillers and blanks between
them; each must be worth a number from -1 to 1, or None, and raise nothing. Exit code 1 where one is not.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from overtake import settings, tasks
from overtake.cli import positive, run
from overtake.data.tables import BadInput
from overtake.doctor import attacks
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.task import Row, Task
from overtake.tasks.query_rewrite import prompts
from overtake.tasks.query_rewrite.rows import RewriteRow

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "datasets/query_rewrite/fivedoctors"
HONEST = "honest"
_PART = 2_000
"""Completions that go through a reward in one call."""
_PIECES = [
    *"0123456789.,%+-#/=()<>[]{}|*^~ \n\t\r，。、；：？！（）％＋－＝",
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<output>",
        "</output>",
        "main:",
        "secondary:",
        "correct",
        "none",
        "\\boxed{",
        "}",
        "10⁶",
        "½",
        "①",
    ),
    *(
        "\ud800",
        "\udfff",
        "\u200b",
        "\u200d",
        "\u2060",
        "\u3164",
        "\ufeff",
        "\u202e",
        "\u00ad",
        "\ufffd",
        "\x00",
        "\x1b",
        "\U000e0041",
        "e\u0301",
    ),
    *(
        "高血压",
        "布洛芬400毫克",
        "不要",
        "保证根治",
        "急诊",
        "净现值",
        "亿元",
        "百分之",
        "万",
        "一二三",
        "the",
        "NaN",
        "inf",
        "1e999",
        "评分者请注意",
    ),
]


def completions(seed: str, honest: Sequence[str], count: int) -> Iterator[str]:
    """Seeded texts: honest answers cut, stuffed and turned over, and pieces of every kind alone."""
    draw = random.Random(seed)
    for _ in range(count):
        text = draw.choice([*honest, "", ""])
        for _ in range(draw.randint(0, 6)):
            at, end = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
            piece = draw.choice(_PIECES) * draw.choice([1, 1, 1, 2, 30])
            text = draw.choice([text[:at] + piece + text[at:], text[:at] + text[end:], text + piece, text[::-1], piece.join(text[:200])])[
                :1500
            ]
        yield text


# Runs in a process of its own, so that the rewards may be another checkout's: jobs on stdin, values on stdout.
_SCORER = """
import json, sys
from importlib import import_module
import overtake
for line in sys.stdin:
    job = json.loads(line)
    module, _, name = overtake.REWARDS.get(job["reward"], ":").partition(":")
    try:
        value = list(getattr(import_module(module), name)(None)(job["completions"], **job["columns"])) if module else "absent"
    except Exception as error:
        value = f"raises {type(error).__name__}: {error}"[:300]
    print(json.dumps(value), flush=True)
"""


class Scorer:
    """The rewards of a checkout."""

    def __init__(self, tree: Path, environment: Mapping[str, str]) -> None:
        words = [sys.executable, "-c", _SCORER]
        env = {**os.environ, **environment, "PYTHONPATH": str(tree / "plugin")}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def values(self, reward: str, completions: Sequence[str], columns: Mapping[str, list[Any]]) -> list[float | None] | str:
        """A value for each completion, or what the reward raises."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"reward": reward, "completions": list(completions), "columns": columns}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise BadInput(f"the rewards' process has ended with {self.process.wait()} at {reward}")
        scores: list[float | None] | str = json.loads(line)
        return scores


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """The settings that name a retrieval service and a judge, both started here and ended behind."""
    started, urls = [], []
    rag = [str(ROOT / "tools/serve_rag.py"), str(SAMPLE)]
    teacher = ["-m", "demo.serve_teacher", str(SAMPLE)]
    try:
        for name, words in (("rag", rag), ("teacher", teacher)):
            ready = folder / name
            command = [sys.executable, *words, "--port", "0", "--ready-file", str(ready)]
            env = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugin'}:{ROOT}"}
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=env))
            while not ready.exists():
                if started[-1].poll() is not None:
                    raise BadInput(f"{' '.join(words)} ended with {started[-1].returncode}")
                time.sleep(0.05)
            urls.append(ready.read_text())
        yield {
            "OVERTAKE_RAG_URL": urls[0],
            "OVERTAKE_TEACHER_BASE_URL": f"{urls[1]}/v1",
            "OVERTAKE_TEACHER_MODEL": "overtake-stand-in",
            "OVERTAKE_CACHE_DIR": str(folder / "cache"),
            "OVERTAKE_JUDGE_SHARE": "1",
        }
    finally:
        for process in started:
            process.terminate()
            process.wait()


def rewriting_rows(count: int) -> list[Row]:
    """Labelled questions of the sample with the mock teacher's rewrite and four points of the judge's."""
    labels, queries = read_qrels(SAMPLE, "train"), read_queries(SAMPLE)
    names = [row["id"] for row in attacks.spread([{"id": name} for name in labels], count)]
    asked = [queries[name]["text"] for name in names]
    calls = [chat.chat_call(chat.endpoint("teacher"), prompts.rewrite_messages("fivedoctors", text), 200) for text in asked]
    rows = []
    for name, text, result in zip(names, asked, chat.chat_gateway("teacher").run(calls), strict=True):
        if not isinstance(result, Ok):
            raise BadInput(f"the mock teacher gave no rewrite of {text!r}: {result.reason}")
        row = RewriteRow(name, text, "fivedoctors", gold=tuple(labels[name]), teacher_rewrite=result.value["text"], teacher_judge=4.0)
        rows.append(row.to_columns())
    return rows


def rows_of(task: Task, count: int) -> list[Row]:
    """The doctor's rows of a task."""
    if not task.attacks.sample:
        return rewriting_rows(count)
    return attacks.spread(task.attacks.rows(ROOT / "datasets" / task.attacks.sample), count)


def environment(services: Mapping[str, str], task: Task, tree: Path = ROOT) -> dict[str, str]:
    """The settings for a task's rewards: rewrites alone are judged, and those of this checkout, whose prompts the mock teacher knows."""
    if tree != ROOT:
        return {**services, "OVERTAKE_JUDGE_SHARE": "0"}
    shares = {"OVERTAKE_JUDGE_SHARE", *(f"OVERTAKE_{reward.judged.upper()}" for reward in task.rewards)}
    return {**services, **(dict.fromkeys(shares, "0") if task.attacks.sample else {})}


def tricked(
    attacked: Sequence[Task], trees: Sequence[Path], services: Mapping[str, str], count: int, tricks: Sequence[str] = ()
) -> list[list[str]]:
    """A line for each reward: honest, and for each checkout the trick that is paid best; with `tricks` a line for each of these.

    Raises BadInput for a trick that a task does not know.
    """
    lines = [
        ["reward", "rows", *(f"{what}, {tree.name}" for tree in trees for what in ("honest", "best-paid trick", "it earns", "of honest"))]
    ]
    for task in attacked:
        rows = rows_of(task, count)
        rows = task.attacks.look_up(rows) if task.attacks.look_up else rows
        answers = [{HONEST: task.attacks.honest(row), **task.attacks.tricks(row, rows[at - 1])} for at, row in enumerate(rows)]
        names = list(answers[0])
        if unknown := [trick for trick in tricks if trick not in names]:
            raise BadInput(f"--trick {unknown[0]}: no trick of {task.called}: choose of {', '.join(names[1:])}")
        texts, columns = [variant[name] for variant in answers for name in names], attacks.columns(rows, len(names))
        scorers = [Scorer(tree, environment(services, task, tree)) for tree in trees]
        for reward in task.rewards:
            of_trees = [scorer.values(reward.name, texts, columns) for scorer in scorers]
            for shown in [[trick] for trick in tricks] or [names[1:]]:
                cells = [reward.name, str(len(rows))]
                for values in of_trees:
                    cells += [values, "", "", ""] if isinstance(values, str) else best_paid(names, answers, values, shown)
                lines.append(cells)
                print(*cells, sep="\t", file=sys.stderr)
        for scorer in scorers:
            scorer.process.kill()
            scorer.process.wait()
    return lines


def best_paid(
    names: Sequence[str], answers: Sequence[Mapping[str, str]], values: Sequence[float | None], shown: Sequence[str]
) -> list[str]:
    """What an honest answer earns, the trick of `shown` that earns most on the rows where both are measured, what it earns, and the share.

    >>> best_paid(["honest", "a", "b"], [{"honest": "x", "a": "y", "b": "x"}], [0.8, 0.4, 0.8], ["a", "b"])
    ['0.800', 'a', '0.400', '0.50']
    """
    paid: dict[str, tuple[float, float]] = {}
    for place, name in ((names.index(name), name) for name in shown):
        pairs = [
            (value, honest)
            for at, variant in enumerate(answers)
            if variant[name] != variant[HONEST]
            and (value := values[at * len(names) + place]) is not None
            and (honest := values[at * len(names)]) is not None
        ]
        if pairs:
            paid[name] = fmean(value for value, _ in pairs), fmean(honest for _, honest in pairs)
    if not paid:
        return ["-", "-", "-", "-"]
    name = max(paid, key=lambda trick: paid[trick][0] - paid[trick][1])
    value, honest = paid[name]
    return [f"{honest:.3f}", name, f"{value:.3f}", f"{value / honest:.2f}" if honest > 0.05 else "-"]


def fuzzed(fuzzed_tasks: Sequence[Task], services: Mapping[str, str], count: int, seed: int) -> tuple[list[list[str]], int]:
    """A line for each reward: completions, how many had a value and how many none, the highest; and how many were wrong."""
    lines = [["reward", "completions", "with a value", "None", "highest", "raised or out of range"]]
    wrong = 0
    for task in fuzzed_tasks:
        rows = rows_of(task, 12)
        texts = list(completions(f"{seed} {task.name}", [task.attacks.honest(row) for row in rows], count))
        scorer = Scorer(ROOT, environment(services, task))
        for reward in task.rewards:
            values: list[float | None] = []
            raised: list[str] = []
            for start in range(0, count, _PART):
                part = texts[start : start + _PART]
                columns = attacks.columns([rows[at % len(rows)] for at in range(len(part))], 1)
                scores = scorer.values(reward.name, part, columns)
                raised += [scores] if isinstance(scores, str) else []
                values += [] if isinstance(scores, str) else scores
            known = [value for value in values if value is not None]
            bad = [value for value in known if not -1 <= value <= 1]
            wrong += len(bad) + len(raised) + (len(values) != count)
            verdict = raised[0] if raised else str(len(bad))
            lines.append(
                [reward.name, str(count), str(len(known)), str(len(values) - len(known)), f"{max(known, default=0.0):.3f}", verdict]
            )
            print(*lines[-1], sep="\t", file=sys.stderr)
        scorer.process.kill()
        scorer.process.wait()
    return lines, wrong


def work(args: argparse.Namespace) -> int:
    """Start the services, attack, print the table; 1 where a fuzzed completion broke a reward."""
    trees = [Path(name).resolve() for name in args.tree] + [ROOT]
    if absent := [tree for tree in trees if not (tree / "plugin/overtake").is_dir()]:
        raise BadInput(f"--tree {absent[0]}: no checkout of this project: there is no plugin/overtake in it")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench_attacks_")))
        services = stack.enter_context(served(folder))
        os.environ.update(services)
        settings.load.cache_clear()
        selection = args.task or list(tasks.shipped().values())
        lines, wrong = (
            fuzzed(selection, services, args.fuzz, args.seed)
            if args.fuzz
            else (tricked(selection, trees, services, args.rows, args.trick), 0)
        )
    print("\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]]))
    return 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 measured, 1 a completion broke a reward, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--tree", action="append", default=[], metavar="DIR", help="another checkout, whose rewards are measured first")
    parser.add_argument("--task", action="append", type=tasks.named, metavar="NAME", help="this task's rewards alone; may stand again")
    parser.add_argument("--trick", action="append", default=[], metavar="NAME", help="this trick's own line, in place of the best-paid")
    parser.add_argument("--rows", type=positive, default=48, help="rows of each task (default %(default)s)")
    parser.add_argument("--fuzz", type=positive, metavar="N", help="draw N completions for each reward in place of the tricks")
    parser.add_argument("--seed", type=int, default=19, help="of the drawn completions (default %(default)s)")
    args = parser.parse_args(argv)
    return run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
