"""Query rewriting: live retrieval with each system's rewrite, on gold labels where the rows have them, and the judge with --judge.

    python tools/evaluate.py data/test.jsonl out/eval --system copy --system teacher --system SFT=out/sft/checkpoint-90 \\
        --system GRPO=out/merged --against GRPO

`copy` is the share of rewrites that are the question again, `unreadable` that of empty ones.
Of its own this task has the systems `copy` (the question as it is) and `teacher` (the rewrite in the file), which may stand alone, and
`fused:NAME` and `fallback:NAME`: the rewrites of NAME, used by the RAG service together with the question (docs/rag_service.md).
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from overtake.cli import Abort, ask
from overtake.data.near_duplicates import is_copy
from overtake.data.tables import BadInput, read_rows
from overtake.evaluation.comparing import Answers, Scores
from overtake.remote import chat, rag
from overtake.remote.gateway import Failed, Ok
from overtake.retrieval.metrics import evaluate_run, quality
from overtake.task import Row
from overtake.tasks.query_rewrite import TASK, prompts
from overtake.tasks.query_rewrite.columns import GOLD, HISTORY, KB, PROFILE, QUERY, QUERY_ID, TEACHER_REWRITE, TENANT
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway
from overtake.tasks.query_rewrite.unwrapping import sendable

_OF_GOLD = ("hit@1", "recall@5", "mrr@10", "ndcg@10")
_DEPTH = 10
_GOOD = 0.6
"""The least score of a first document that counts as right where there are no labels: what tools/convert.py lets a student imitate."""
_SHOWN = 5
"""Documents that the details name."""
_TEXTS = (QUERY, TENANT, PROFILE, HISTORY)
_NEEDED = (QUERY_ID, *_TEXTS, KB, GOLD, TEACHER_REWRITE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("--judge", action="store_true", help="let the judge score each rewrite too (0 to 5)")


def read(args: argparse.Namespace) -> list[Row]:
    """The rows of tools/convert.py's test.jsonl, all labelled or none."""
    rows = read_rows(args.test, required=_NEEDED)
    unlabelled = [row[QUERY_ID] for row in rows if row[GOLD] in ("", "[]")]
    if 0 < len(unlabelled) < len(rows):
        raise BadInput(
            f"{args.test}: {len(unlabelled)} of {len(rows)} rows have no gold labels (first: {unlabelled[0]}): label all or none, "
            "for gold relevance and reranker scores cannot be averaged"
        )
    rag.rag_gateway()  # what is not set is said now rather than after the rewriting
    if args.judge:
        chat.endpoint("judge")
    return rows


def messages(row: Row) -> list[dict[str, str]]:
    """The prompt of training."""
    return prompts.rewrite_messages(row[TENANT], row[QUERY], row[PROFILE], row[HISTORY])


def measure(name: str, answers: Answers, rows: Sequence[Row], args: argparse.Namespace) -> Scores:
    """Return what each rewrite retrieves, and with --judge what the judge gives it; a rewrite that no retriever takes retrieves nothing.

    A name `fused:…` or `fallback:…` has the service use the question too, which is all there is where it gets no rewrite.
    """
    way, _, of = name.partition(":")
    mode = way if of and way in TASK.evaluation.ways else ""
    texts = {row[QUERY_ID]: sendable(answer) for row in rows if (answer := answers[row[QUERY_ID]]) is not None}
    queries = {row[QUERY_ID]: texts[row[QUERY_ID]] or row[QUERY] * bool(mode) for row in rows if row[QUERY_ID] in texts}
    answered = [row for row in rows if queries.get(row[QUERY_ID])]
    labelled = rows[0][GOLD] not in ("", "[]")
    of_labels = _OF_GOLD if labelled else ["top1", "good@1"]
    worst = dict.fromkeys(["quality", *of_labels, *(["judge"] if args.judge else [])], 0.0)
    scores: Scores = {query_id: dict(worst) for query_id, text in queries.items() if not text}
    calls = [
        rag.rag_call(row[QUERY], queries[row[QUERY_ID]], row[TENANT], row[KB], top_k=_DEPTH, labelled=labelled, mode=mode)
        for row in answered
    ]
    results = ask(rag.rag_gateway(), calls, f"retrieving for {name}")
    values = {row[QUERY_ID]: result.value for row, result in zip(answered, results, strict=True) if isinstance(result, Ok)}
    recalls = {query_id: rag.hits(value) for query_id, value in values.items()}
    if answered and isinstance(failed := results[0], Failed) and not recalls:
        raise Abort(f"none of {len(answered)} retrievals for {name} could be measured, e.g.: {failed.reason}; see to the RAG service")
    scores |= _of_gold(recalls, rows) if labelled else {query_id: _of_reranker(hits) for query_id, hits in recalls.items()}
    for query_id, hits in recalls.items():
        scores[query_id]["retrieved"] = [hit.doc_id or f"score {hit.score:.3f}" for hit in hits[:_SHOWN]]
        if values[query_id].get("fell_back"):
            scores[query_id]["fell_back"] = values[query_id]["fell_back"]
    if args.judge:
        to_judge = [row for row in answered if texts[row[QUERY_ID]]]
        for row in answered:
            if not texts[row[QUERY_ID]] and row[QUERY_ID] in scores:
                scores[row[QUERY_ID]]["judge"] = 0.0
        calls = [judge_call(row[QUERY], texts[row[QUERY_ID]], row[PROFILE], row[HISTORY]) for row in to_judge]
        verdicts = ask(judge_gateway(), calls, f"judging {name}")
        for row, verdict in zip(to_judge, verdicts, strict=True):
            if isinstance(verdict, Ok) and row[QUERY_ID] in scores:
                scores[row[QUERY_ID]]["judge"] = verdict.value["score"]
    for row in rows:
        if (found_of := scores.get(row[QUERY_ID])) is not None:
            text = answers[row[QUERY_ID]] or ""
            found_of |= {"copy": float(is_copy(row[QUERY], text)), "unreadable": float(not text)}
    return scores


def _of_gold(recalls: dict[str, list[rag.Hit]], rows: Sequence[Row]) -> Scores:
    ranked = {query_id: [hit.doc_id or "" for hit in hits] for query_id, hits in recalls.items()}
    gold = {row[QUERY_ID]: {doc_id: 1 for doc_id in json.loads(row[GOLD])} for row in rows}
    try:
        return evaluate_run(ranked, {query_id: gold[query_id] for query_id in ranked})
    except ValueError as error:
        raise BadInput(str(error)) from None


def _of_reranker(hits: list[rag.Hit]) -> dict[str, Any]:
    top1 = hits[0].score if hits else 0.0
    return {"quality": quality([hit.score for hit in hits]), "top1": top1, "good@1": float(top1 >= _GOOD)}
