"""A teacher's solutions, held to rules and judge, as files for SFT, RL and evaluation; a share of the problems is held out first."""

import argparse
import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from overtake import cli
from overtake.data import tables
from overtake.data.near_duplicates import overlaps
from overtake.data.splits import held_out
from overtake.data.tables import BadInput
from overtake.remote import chat
from overtake.remote.gateway import Ok, Result
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.judge import CRITERIA, reasoning_call
from overtake.tasks.finance.rewards import answer_format, finance_accuracy

ALSO = ("teacher_output", "sample")
RIGHT = 0.6
"""The least accuracy of a right answer in words: the share of the gold's keywords that it says. A number is right or wrong."""

Row = dict[str, str]
Lines = list[dict[str, Any]]
Solution = tuple[Row, Mapping[str, float] | None]
"""What passes, with the judge's criteria where it was asked."""


def rejection_reason(row: Row) -> str | None:
    """Return which rule a solution breaks, by the rewards' own functions; None for a solution that breaks none.

    A gold that cannot be graded is refused with the table, so the accuracy is a number here.
    """
    if answer_format.score(row["teacher_output"]) < 1.0:
        return "tags incomplete or out of order"
    if (_accuracy(row) or 0.0) < RIGHT:
        return "answer wrong"
    return None


def judged(rows: Sequence[Row], concurrency: int | None) -> list[Result]:
    """The judge's verdict on each solution."""
    to = chat.endpoint("judge")
    calls = [reasoning_call(row["question"], row["gold_answer"], row["teacher_output"], to) for row in rows]
    return cli.ask(chat.chat_gateway("judge", concurrency), calls, "judge")


def weakest(criteria: Mapping[str, float]) -> str:
    """The criterion with the smallest share, the first of several.

    >>> weakest({"logic": 1.0, "accuracy": 0.667, "completeness": 1.0, "concision": 0.667})
    'accuracy'
    """
    return min(CRITERIA, key=lambda name: criteria[name])


def best(solutions: Sequence[Solution], most: int) -> list[Row]:
    """Take at most `most` solutions of one problem: first by the weakest criterion, then by the mean, and the shorter of equals."""

    def rank(solution: Solution) -> tuple[float, float, int]:
        row, criteria = solution
        shares = list(criteria.values()) if criteria else [1.0]
        return -min(shares), -fmean(shares), len(row["teacher_output"])

    return [row for row, _ in sorted(solutions, key=rank)[:most]]


def sft_row(row: Row) -> dict[str, Any]:
    """One solution to imitate."""
    messages = [*prompts.finance_messages(row["question"]), {"role": "assistant", "content": row["teacher_output"]}]
    extra = {name: row[name] for name in ("type", "source")}
    return {"id": row["id"], "prompt": row["question"], "response": row["teacher_output"], **extra, "messages": messages}


def rl_row(row: Row) -> dict[str, Any]:
    """One problem with the answer that rewards and evaluation compare with."""
    return {"id": row["id"], "prompt": row["question"], **{name: row[name] for name in ("gold_answer", "type", "source")}}


class Sifted(NamedTuple):
    """Solutions after the filter, and where each went."""

    rejected: Lines
    unjudged: Lines
    good: dict[str, list[Solution]]
    """By problem, what passes."""
    verdicts: list[Mapping[str, float]]
    """The criteria of each verdict."""


def sift(rows: Sequence[Row], verdicts_of: Callable[[Sequence[Row]], Sequence[Result | None]], least: float) -> Sifted:
    """Sift each solution by the rules, those that pass by `verdicts_of` (None: not asked), of which each criterion needs `least`."""
    sifted = Sifted([], [], defaultdict(list), [])
    passed = []
    for row in rows:
        if reason := rejection_reason(row):
            sifted.rejected.append(_line(row, reason))
        else:
            passed.append(row)
    for row, verdict in zip(passed, verdicts_of(passed), strict=True):
        if verdict is None:
            sifted.good[row["id"]].append((row, None))
        elif not isinstance(verdict, Ok):
            sifted.unjudged.append(_line(row, verdict.reason))
        else:
            criteria = verdict.value["criteria"]
            sifted.verdicts.append(criteria)
            link = weakest(criteria)
            if criteria[link] >= least:
                sifted.good[row["id"]].append((row, criteria))
            else:
                verdict_columns = {"criteria": criteria, "weakest": link, "judge": verdict.value["weakest"]}
                sifted.rejected.append(_line(row, f"judge: {link}") | verdict_columns)
    return sifted


def _line(row: Row, reason: str) -> dict[str, Any]:
    return {"id": row["id"], "sample": row["sample"], "type": row["type"], "reason": reason}


def work(args: argparse.Namespace) -> int:
    """Read, split, filter, judge, write; 0 done, 1 some solutions unjudged. Raises BadInput, SettingsError or Abort."""
    rows = read_input(args)
    if args.judge:
        chat.endpoint("judge")  # refused now rather than after the rules
    of_problem = {row["id"]: row for row in reversed(rows)}
    ids = list(dict.fromkeys(row["id"] for row in rows))
    sides = held_out([row["question"] for row in rows], args.test_share, args.seed, kinds=[row["type"] for row in rows])
    test = {row["id"] for row, is_test in zip(rows, sides, strict=True) if is_test}
    tested, rest = ([name for name in ids if (name in test) == side] for side in (True, False))
    repeats = overlaps([of_problem[name]["question"] for name in rest], [of_problem[name]["question"] for name in tested])
    near = {rest[repeat.place] for repeat in repeats}
    rest = [name for name in rest if name not in near]
    if not rest or (args.test_share and not tested):
        raise BadInput(
            f"{args.input}: {len(ids)} problems with --test-share {args.test_share:g} leave {len(tested)} to hold out and {len(rest)} "
            "to train on: give more problems or another share"
        )
    training = [row for row in rows if row["id"] not in test | near]
    sifted = sift(training, lambda passed: judged(passed, args.concurrency) if args.judge and passed else [None] * len(passed), args.least)
    chosen_rows = [row for solutions in sifted.good.values() for row in best(solutions, args.most)]
    reasons = dict(sorted(Counter(line["reason"] for line in sifted.rejected).items()))
    if not chosen_rows and not sifted.unjudged:
        raise BadInput(f"{args.input}: no solution passes ({cli.counted(reasons)}): see what the teacher wrote, or give other options")
    files: dict[str, Lines] = {
        "sft.jsonl": [sft_row(row) for row in chosen_rows],
        "rl.jsonl": [rl_row(of_problem[name]) for name in rest],
        "test.jsonl": [rl_row(of_problem[name]) for name in tested],
        "rejected.jsonl": sifted.rejected,
        "unjudged.jsonl": sifted.unjudged,
    }
    stats = {
        "input": args.input.name,
        "input_sha256": hashlib.sha256(args.input.read_bytes()).hexdigest(),
        "solutions": len(rows),
        "problems": len(ids),
        "seed": args.seed,
        "test_share": args.test_share,
        "held_out_problems": len(tested),
        "left_out_near_a_held_out_problem": sorted(near),
        "judge": args.judge,
        "least_of_each_criterion": args.least if args.judge else None,
        "most_of_one_problem": args.most,
        "filtered": len(training),
        "passed_rules": len(sifted.unjudged) + len(sifted.verdicts) + (0 if args.judge else sum(map(len, sifted.good.values()))),
        "passed": sum(map(len, sifted.good.values())),
        "rejected": reasons,
        "unjudged": len(sifted.unjudged),
        "criteria": _criteria(sifted.verdicts),
        "types": {
            kind: _of_type(kind, training, sifted, chosen_rows) for kind in problems.TYPES if any(row["type"] == kind for row in training)
        },
        "problems_without_a_solution": len(rest) - len(sifted.good),
        "files": {name: len(lines) for name, lines in files.items()},
    }
    cli.write_folder(args.out_dir, {**files, "filter_stats.json": stats})
    asked_too = "the judge too" if args.judge else "in all, for the judge was not asked"
    print(
        f"{len(rows)} solutions of {len(ids)} problems in, {len(tested)} problems held out, {len(near)} left out as near to them; "
        f"of {len(training)} solutions {stats['passed_rules']} pass the rules, {stats['passed']} {asked_too}, "
        f"{len(chosen_rows)} kept for SFT; left out: {cli.counted(reasons) or 'none'}; {args.out_dir} written"
    )
    if sifted.unjudged:
        print(
            f"{len(sifted.unjudged)} solutions have no verdict ({sifted.unjudged[0]['reason']}): they are in no file but unjudged.jsonl; "
            "run the same command again to ask for just those, the others come from the cache",
            file=sys.stderr,
        )
    return 1 if sifted.unjudged else 0


def read_input(args: argparse.Namespace) -> list[Row]:
    """The solutions; refused whole when a row is none."""
    cli.check_folder(args.out_dir, *(f"{name}.jsonl" for name in ("sft", "rl", "test", "rejected", "unjudged")))
    if not 0 <= args.test_share < 1:
        raise BadInput(f"--test-share {args.test_share:g}: give a share below 1, e.g. 0.2, or 0 to hold out none")
    if not 0 <= args.least <= 1:
        raise BadInput(f"--least {args.least:g}: give a share from 0 to 1, e.g. 0.66")
    table = problems.read(args.input, ALSO)
    rows, bad = problems.usable(args.input, table, ("id", "sample"))
    if bad:
        raise BadInput(f"{args.input}: row {bad[0]['row']}: {bad[0]['reason']}: make the file with tools/generate.py --task finance")
    for index, row in enumerate(rows):
        if _accuracy({**row, "teacher_output": f"<answer>{row['gold_answer']}</answer>"}) is None:
            where = f"{args.input}: row {tables.row_number(args.input, index)}"
            raise BadInput(f"{where}: gold_answer {row['gold_answer'][:60]!r} cannot be graded: correct it or delete the row")
    return rows


def _accuracy(row: Row) -> float | None:
    return finance_accuracy.score(row["teacher_output"], row["gold_answer"], row["type"], row["question"])


def _criteria(verdicts: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The mean share of each criterion, and of how many solutions it was the weakest."""
    links = Counter(weakest(criteria) for criteria in verdicts if min(criteria.values()) < 1.0)
    return {name: {"mean": round(fmean(each[name] for each in verdicts), 4), "weakest_of": links[name]} for name in CRITERIA if verdicts}


def _of_type(kind: str, training: Sequence[Row], sifted: Sifted, chosen_rows: Sequence[Row]) -> dict[str, Any]:
    reasons = Counter(line["reason"] for line in sifted.rejected if line["type"] == kind)
    counted = {"filtered": training, "unjudged": sifted.unjudged, "kept": chosen_rows}
    counts = {name: sum(row["type"] == kind for row in lines) for name, lines in counted.items()}
    return {**counts, "rejected": dict(sorted(reasons.items()))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("input", type=Path, help="distilled.jsonl of tools/generate.py --task finance")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write")
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="by the rules alone")
    parser.add_argument("--least", type=float, default=0.66, help="least share of each criterion's checks (default %(default)s)")
    parser.add_argument("--most", type=cli.positive, default=1, help="most solutions of one problem in sft.jsonl (default %(default)s)")
    parser.add_argument("--test-share", type=float, default=0.2, help="share of the problems to hold out (default %(default)s); 0: none")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_JUDGE_CONCURRENCY, else the teacher's)")
