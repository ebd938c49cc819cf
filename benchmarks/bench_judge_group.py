"""Does one judge call for a question's rewrites say what a call for each says? Verdicts read, tokens, agreement, on a run's groups.

    python benchmarks/bench_judge_group.py output/query_rewrite/grpo/trace.jsonl output/query_rewrite/data/rl_train.jsonl --questions 30

The judge is the one of the settings (OVERTAKE_JUDGE_*, else the teacher). Of questions spread over the data the last group is taken, its
distinct rewrites and the teacher's (`OVERTAKE_JUDGE_GROUP=1` asks so). Agreement: of each two rewrites of a question that single calls give
different points, the share that the one call orders alike (equal points there count half), the mean over questions with a bootstrap
interval. What was answered is kept in OVERTAKE_CACHE_DIR: the same command goes on after an interruption. Exit code 0 measured, 2 not.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from overtake import cli
from overtake.data.tables import BadInput, read_rows
from overtake.doctor.attacks import spread
from overtake.evaluation.statistics import bootstrap_mean, wins
from overtake.remote import chat
from overtake.remote.gateway import Call, Ok, Result
from overtake.tasks.query_rewrite import rescore
from overtake.tasks.query_rewrite.judge import group_call, judge_call, judge_gateway, shown_order
from overtake.tasks.query_rewrite.rows import RewriteRow


class Group(NamedTuple):
    """A question and its distinct rewrites, the teacher's among them, in the order in which a judge of all is shown them."""

    row: RewriteRow
    shown: list[str]


def groups(trace: Path, data: Path) -> list[Group]:
    """The last group of each question that a run trained on. Raises BadInput for files that do not belong together."""
    cells = read_rows(data, required=["rag_query_id", "rag_query"])
    try:
        rows = list(map(RewriteRow.from_columns, cells))
    except ValueError as error:
        raise BadInput(f"{data}: {error}") from None
    by_question = defaultdict(list)
    for sample in rescore.read(trace).samples:
        if sample["mode"] == "train" and sample.get("rewrite"):
            by_question[sample["query_id"]].append(sample)
    found = []
    for row in rows:
        samples = by_question[row.query_id]
        rewrites = {sample["rewrite"] for sample in samples if sample["step"] == samples[-1]["step"]}  # a trace is in the order of steps
        if row.teacher_rewrite and rewrites - {row.teacher_rewrite}:
            found.append(Group(row, shown_order(row.query, [row.teacher_rewrite, *rewrites])))
    if not found:
        raise BadInput(f"{data} holds no teacher's rewrite of a question in {trace}: name the rl_train.jsonl that the run trained on")
    return found


def agreement(single: Sequence[float], together: Sequence[float]) -> float | None:
    """Share of the pairs that `single` tells apart and `together` orders alike; equal points there count half. None without such a pair.

    >>> agreement([1, 3, 5], [2, 2, 4]), agreement([5, 5], [1, 2])
    (0.8333333333333334, None)
    """
    places = range(len(single))
    better_first = [(together[better], together[worse]) for better in places for worse in places if single[better] > single[worse]]
    return fmean(wins(better_first)) if better_first else None


class Judged(NamedTuple):
    """What a judge said of a group, by a call for each rewrite and by one call for all, in one order."""

    alone: list[Result]
    together: Result

    def points(self) -> tuple[list[float], list[float]] | None:
        """The points by both ways; None where one of them has not judged every rewrite."""
        alone = [result.value["score"] for result in self.alone if isinstance(result, Ok)]
        if len(alone) < len(self.alone) or not isinstance(self.together, Ok):
            return None
        return alone, [each["score"] for each in self.together.value["each"]]


def judged(asked: Sequence[Group]) -> list[Judged]:
    """Ask both ways. Raises Abort for a judge that is down."""
    to = chat.endpoint("judge")
    calls: list[Call] = []
    for row, shown in asked:
        calls += [judge_call(row.query, text, row.profile, row.history, to) for text in shown]
        calls.append(group_call(row.query, shown, row.profile, row.history, to))
    each = iter(cli.ask_regardless(judge_gateway(), calls, "judge"))
    return [Judged([next(each) for _ in shown], next(each)) for _, shown in asked]


def line(way: str, calls: Sequence[tuple[Result, int]], points: Sequence[float]) -> str:
    """A line of the table, of calls with the number of rewrites that each judged, and of the points that both ways gave."""
    read = [(result.value["usage"], count) for result, count in calls if isinstance(result, Ok)]
    verdicts, wanted = sum(count for _, count in read), sum(count for _, count in calls)
    asked, said = (sum(usage.get(f"{kind}_tokens", 0) for usage, _ in read) / max(1, verdicts) for kind in ("prompt", "completion"))
    return f"| {way} | {len(calls)} | {verdicts} of {wanted} | {asked:.0f} + {said:.0f} | {f'{fmean(points):.2f}' if points else '-'} |"


def work(args: argparse.Namespace) -> int:
    """Ask the judge both ways and print what came back; 0."""
    asked = spread(groups(args.trace, args.data), args.questions)
    found = judged(asked)
    both = [points for of_group in found if (points := of_group.points())]
    print(f"{chat.endpoint('judge').model}, {sum(len(shown) for _, shown in asked)} rewrites of {len(asked)} questions")
    print("| | calls | verdicts read | tokens a verdict, asked + said | points where both judged |\n|---|---|---|---|---|")
    alone = [(result, 1) for of_group in found for result in of_group.alone]
    together = [(of_group.together, len(of_group.alone)) for of_group in found]
    print(line("a call for each", alone, [point for points, _ in both for point in points]))
    print(line("one call for all", together, [point for _, points in both for point in points]))
    shares = [share for points in both if (share := agreement(*points)) is not None]
    told = bootstrap_mean(shares) if shares else "not measured: single calls tell no two rewrites of a question apart"
    print(f"order alike: {told} ({len(shares)} of {len(both)} questions that both judged have rewrites that single calls tell apart)")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 measured, 2 bad input or a dead judge, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("trace", type=Path, help="trace.jsonl of a GRPO run")
    parser.add_argument("data", type=Path, help="the rl_train.jsonl it trained on")
    parser.add_argument("--questions", type=cli.positive, default=30, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    return cli.run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
