"""Query rewriting: retrieve with every rewrite and with its original question on the live service (step 2 of its data).

    export OVERTAKE_RAG_URL=http://127.0.0.1:8900
    python tools/validate.py rewrites.xlsx validated.xlsx --judge

Adds recall_count, top1_score, success, recall, quality, the same for the original, gain, gold, basis, kb_name and, with --judge,
judge_score and judge_reason. With --qrels the recalled documents of labelled questions score 1 (relevant) or 0 instead of the
reranker's score. What could not be measured is listed in OUTPUT.failed.jsonl, never scored: run again to retry just that. A sheet of two
teachers, of `generate.py --compare-with`, is measured for both, and the last line says which to take.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from overtake import cli
from overtake.data import tables
from overtake.data.near_duplicates import is_copy
from overtake.data.tables import BadInput
from overtake.doctor.attacks import spread
from overtake.evaluation.statistics import paired_difference
from overtake.remote import chat, rag
from overtake.remote.gateway import Call, Failed, Ok, Result
from overtake.retrieval.corpus import read_qrels
from overtake.tasks.query_rewrite import judge as judging
from overtake.tasks.query_rewrite import judge_worth
from overtake.tasks.query_rewrite.rewards.relevance import relevances, worth

NEEDED = ("query_id", "original_query", "rewritten_query", "tenant_id")
SECOND = "compare_"
"""What the columns of a second teacher begin with."""
_OF_BOTH = ("rewritten_query", "teacher_model", "teacher_usd")

Row = dict[str, Any]
Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Unmeasured:
    """Reason why a row's retrieval is no measurement."""

    reason: str


def labels(path: Path) -> Qrels:
    """Relevance labels of a knowledge base's folder, or of one file in it: qrels.tsv or qrels/<split>.tsv."""
    try:
        if not path.is_file():
            return read_qrels(path)
        if path.parent.name == "qrels":
            return read_qrels(path.parent.parent, path.stem)
        if path.name == "qrels.tsv":
            return read_qrels(path.parent)
    except ValueError as error:
        raise BadInput(f"--qrels {error}") from None
    raise BadInput(f"--qrels {path}: name the folder that holds qrels.tsv or qrels/, or a file with that place and name")


def measured(rewrite: Result, original: Result, gold: dict[str, int]) -> Row | Unmeasured:
    """The columns of one row from its two retrievals; `gold` is the question's labels, empty when it has none."""
    relevant = sorted(doc_id for doc_id, score in gold.items() if score > 0)
    lists, qualities = [], []
    for name, result in (("rewrite", rewrite), ("original", original)):
        if isinstance(result, Failed):
            return Unmeasured(f"{name}: {result.reason}")
        hits = rag.hits(result.value)
        try:
            scores = relevances(hits, relevant)
        except ValueError as error:
            return Unmeasured(f"{name}: {error}")
        # Gold relevances may be more than the documents found: what was not recalled counts as 0.
        lists.append([(hit.doc_id, score) for hit, score in zip(hits, scores, strict=False)])
        qualities.append(worth(scores, relevant))
    (recall, before), (value, value_before) = lists, qualities
    return {
        "recall_count": len(recall),
        "top1_score": recall[0][1] if recall else 0.0,
        "success": bool(recall),
        "recall": recall,
        "original_recall_count": len(before),
        "original_top1_score": before[0][1] if before else 0.0,
        "original_recall": before,
        "quality": value,
        "original_quality": value_before,
        "gain": round(value - value_before, 12),
        "gold": relevant or "",
        "basis": "gold" if relevant else "reranker",
    }


def read_sheet(
    path: Path,
    columns: Sequence[str],
    filled: Sequence[str],
    tool: str,
    check: Callable[[str, dict[str, str]], None] = lambda where, row: None,
) -> list[dict[str, str]]:
    """The rows of the sheet that `tool` wrote, with these columns, of which `filled` hold something in every row; no query_id twice.

    `check(where, row)` raises for what else is wrong with a row. Raises BadInput, for the sheet as a whole.
    """
    rows = tables.read_rows(path)
    if missing := [name for name in columns if name not in rows[0]]:
        raise BadInput(f"{path}: no column {', '.join(missing)}: give the sheet that {tool} writes; there are {', '.join(rows[0])}")
    rows_by_id: dict[str, int] = {}
    for index, row in enumerate(rows):
        number = tables.row_number(path, index)
        where = f"{path}: row {number}"
        if blank := [name for name in filled if not row[name].strip()]:
            raise BadInput(f"{where}: {blank[0]} is blank: fill it or delete the row")
        check(where, row)
        if row["query_id"] in rows_by_id:
            raise BadInput(f"{where}: query_id {row['query_id']!r} stands already in row {rows_by_id[row['query_id']]}: delete one")
        rows_by_id[row["query_id"]] = number
    return rows


def judge(rows: Sequence[Row]) -> list[Row]:
    """Add judge_score and judge_reason to every row; a verdict that failed leaves them blank and is returned as a failure.

    All stay blank where a pilot shows that the judge is worthless, and the others are not paid.
    """
    failed: list[Row] = []
    if wrong := _pilot(rows):
        print(
            f"the judge {chat.endpoint('judge').model} is worthless and left out: {'; '.join(wrong)}. judge_score stays blank, so RL goes "
            "by retrieval alone; to have one set OVERTAKE_JUDGE_MODEL to a stronger model and run again",
            file=sys.stderr,
        )
        for row in rows:
            row["judge_score"], row["judge_reason"] = "", ""
        return []
    calls = [_judge_call(row, row["rewritten_query"]) for row in rows]
    for row, result in zip(rows, cli.ask(judging.judge_gateway(), calls, "judge"), strict=True):
        row["judge_score"], row["judge_reason"] = judging.verdict(result.value)[:2] if isinstance(result, Ok) else ("", "")
        if isinstance(result, Failed):
            failed.append({"query_id": row["query_id"], "part": "judge", "reason": result.reason})
    return failed


def _judge_call(row: Row, rewrite: str) -> Call:
    return judging.judge_call(row["original_query"], rewrite, row.get("user_profile", ""), row.get("history_summary", ""))


def _pilot(rows: Sequence[Row]) -> list[str]:
    """What is wrong with the judge, by its verdicts on some rewrites and on their questions; nothing where there are too few of them."""
    sampled = spread([row for row in rows if not is_copy(row["original_query"], row["rewritten_query"])], judge_worth.PILOT)
    if len(sampled) < judge_worth.FEWEST:
        return []
    copied = spread(sampled, judge_worth.COPIES)
    calls = [_judge_call(row, row["rewritten_query"]) for row in sampled]
    calls += [_judge_call(row, row["original_query"]) for row in copied]
    results = cli.ask(judging.judge_gateway(), calls, "is the judge worth it")
    points = [judging.verdict(result.value).score if isinstance(result, Ok) else None for result in results]
    honest = {id(row): value for row, value in zip(sampled, points, strict=False) if value is not None}
    pairs = [
        (value, honest[id(row)])
        for row, value in zip(copied, points[len(sampled) :], strict=True)
        if value is not None and id(row) in honest
    ]
    return judge_worth.faults(list(honest.values()), [float(row["gain"]) for row in sampled if id(row) in honest], pairs)


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; 0 done, 1 some calls failed. Raises BadInput, SettingsError or Abort."""
    started = time.monotonic()
    tables.check_output(args.output)
    compared = f"{SECOND}rewritten_query" in tables.read_rows(args.input)[0]
    filled = [name for name in NEEDED if not (compared and name == "rewritten_query")]
    rows, qrels = read_sheet(args.input, NEEDED, filled, "tools/generate.py"), labels(args.qrels) if args.qrels else {}
    whole = len(rows)
    if compared and not (rows := [row for row in rows if row["rewritten_query"].strip() and row[f"{SECOND}rewritten_query"].strip()]):
        raise BadInput(f"{args.input}: no row has a rewrite of both teachers: run tools/generate.py --compare-with again")
    if qrels and not any(row["query_id"] in qrels for row in rows):
        raise BadInput(
            f"--qrels {args.qrels}: labels none of the {len(rows)} rows, e.g. query_id {rows[0]['query_id']!r}: give matching labels"
        )
    tables.check_cells(args.output, rows)
    gateway = rag.rag_gateway(args.concurrency)
    if args.judge:
        chat.endpoint("judge")  # refused now rather than after the retrievals
    measured, failed = _measure(rows, args, qrels)
    if compared:
        theirs, lost = _measure([_of_second(row) for row in rows], args, qrels)
        measured, failed = (
            _side_by_side(measured, theirs),
            failed + [{**row, "part": f"{row['part']} of the second teacher"} for row in lost],
        )
    if measured:
        tables.write_rows(args.output, measured)
    files = cli.write_beside(args.output, "failed", failed)
    if measured:
        print(_summary(measured))
    meter = gateway.meter
    print(
        f"{whole} rows in, {len(measured)} measured, {len(failed)} failures, {meter.calls} retrievals ({meter.cached} from cache), "
        f"{time.monotonic() - started:.0f} s; {args.output if measured else 'no row was measured, nothing'} written{files}"
    )
    if compared and measured:
        print(recommendation(measured))
    if failed:
        print("some calls failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
    return 1 if failed else 0


def _measure(rows: Sequence[Row], args: argparse.Namespace, qrels: Qrels) -> tuple[list[Row], list[Row]]:
    """(the rows with what was measured of them, what failed)."""
    results = cli.ask(rag.rag_gateway(args.concurrency), _calls(rows, args.kb_name, qrels), "retrieval")
    complete: list[Row] = []
    failed: list[Row] = []
    for row, rewrite, original in zip(rows, results[::2], results[1::2], strict=True):
        columns = measured(rewrite, original, qrels.get(row["query_id"], {}))
        if isinstance(columns, Unmeasured):
            failed.append({"query_id": row["query_id"], "part": "retrieval", "reason": columns.reason})
        else:
            complete.append({**row, "kb_name": args.kb_name, **columns})
    return complete, failed + (judge(complete) if args.judge and complete else [])


def _of_second(row: Row) -> Row:
    return row | {name: row[f"{SECOND}{name}"] for name in _OF_BOTH if f"{SECOND}{name}" in row}


def _side_by_side(ours: Sequence[Row], theirs: Sequence[Row]) -> list[Row]:
    """The rows that both teachers have, what was measured of the second under names with its prefix."""
    second = {row["query_id"]: row for row in theirs}
    return [
        row | {f"{SECOND}{name}": other[name] for name in _MEASURED if name in other}
        for row in ours
        if (other := second.get(row["query_id"]))
    ]


_MEASURED = ("recall_count", "top1_score", "success", "recall", "quality", "gain", "judge_score", "judge_reason")


def recommendation(rows: Sequence[Row]) -> str:
    """Name which of two teachers to take: the one that retrieves better, else that the judge prefers, else the cheaper; with its price.

    A difference counts where its paired 95 % interval leaves out 0.
    """
    names = [str(rows[0].get(f"{prefix}teacher_model") or place) for prefix, place in (("", "the first"), (SECOND, "the second"))]
    prices = [_usd_1000([row.get(f"{prefix}teacher_usd", "") for row in rows]) for prefix in ("", SECOND)]
    gaps = []
    for measure, name in (("retrieval quality", "quality"), ("the judge's points", "judge_score")):
        both_measured = {row["query_id"]: row for row in rows if row.get(name, "") != "" and row.get(f"{SECOND}{name}", "") != ""}
        if not both_measured:
            continue
        ours, theirs = ({key: float(row[f"{prefix}{name}"]) for key, row in both_measured.items()} for prefix in ("", SECOND))
        difference = paired_difference(ours, theirs)
        better = 0 if difference.low > 0 else 1 if difference.high < 0 else None
        gaps.append(f"{measure} {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] on {len(both_measured)} rows")
        if better is not None:
            gap = f"{gaps[-1]}, {names[0]} less {names[1]}"
            return f"take {names[better]}: {gap}; {_priced(names, prices)}"
    evidence = f"no difference shown between {names[0]} and {names[1]} ({'; '.join(gaps)})"
    if prices[0] is None or prices[1] is None or prices[0] == prices[1]:
        return f"take either, or compare more rows: {evidence}; {_priced(names, prices)}"
    cheaper = int(prices[1] < prices[0])
    return f"take {names[cheaper]}, the cheaper: {evidence}; {_priced(names, prices)}"


def _usd_1000(cells: Sequence[Any]) -> float | None:
    priced = [float(cell) for cell in cells if cell != "" and cell is not None]
    return 1000 * fmean(priced) if priced else None


def _priced(names: Sequence[str], prices: Sequence[float | None]) -> str:
    return "USD per 1,000 rewrites: " + ", ".join(
        f"{name} {'not known' if price is None else f'{price:.2f}'}" for name, price in zip(names, prices, strict=True)
    )


def _calls(rows: Sequence[Row], kb_name: str, qrels: Mapping[str, Any]) -> list[Call]:
    """Two for each row: with the rewrite, and with the original sent as the rewrite (else the service rewrites by itself)."""
    return [
        rag.rag_call(row["original_query"], text, row["tenant_id"], kb_name, labelled=row["query_id"] in qrels)
        for row in rows
        for text in (row["rewritten_query"], row["original_query"])
    ]


def _summary(rows: Sequence[Row]) -> str:
    gains = [row["gain"] for row in rows]
    shares = [sum(map(test, gains)) / len(gains) for test in (lambda gain: gain > 0, lambda gain: gain == 0, lambda gain: gain < 0)]
    gold = sum(row["basis"] == "gold" for row in rows)
    judged = [row["judge_score"] for row in rows if row.get("judge_score", "") != ""]
    return (
        f"success {fmean(row['success'] for row in rows):.1%}, mean top-1 {fmean(row['top1_score'] for row in rows):.3f} "
        f"(original {fmean(row['original_top1_score'] for row in rows):.3f}), mean gain {fmean(gains):+.3f}: "
        f"better {shares[0]:.1%}, same {shares[1]:.1%}, worse {shares[2]:.1%}; scored by gold {gold}, by the reranker {len(rows) - gold}"
        + (f"; judge {fmean(judged):.2f} of 5 on {len(judged)}" if judged else "")
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line takes."""
    parser.add_argument("input", type=Path, help="sheet that tools/generate.py wrote")
    parser.add_argument("output", type=Path, help="sheet to write")
    parser.add_argument("--qrels", type=Path, help="folder or file of relevance labels, by query_id")
    parser.add_argument("--kb-name", default="default", help="knowledge base to ask (default: %(default)s)")
    parser.add_argument("--judge", action="store_true", help="let the judge (unset: the teacher) score each rewrite from 0 to 5")
    parser.add_argument("--concurrency", type=cli.positive, help="retrievals at once (default: OVERTAKE_RAG_CONCURRENCY, else 16)")
