"""Compare rewriting systems on held-out questions: same rows, live retrieval, gold labels, paired 95 % intervals.

    python tools/evaluate.py data/test.jsonl out/eval --system copy --system teacher --system SFT=out/sft/checkpoint-90 \
        --system GRPO=out/merged --against GRPO

A system is NAME=copy (the question as it is), NAME=teacher (the rewrite in the file), NAME=FOLDER (a model or adapter folder) or
NAME=MODEL@BASE_URL (an OpenAI-compatible endpoint, key in OVERTAKE_STUDENT_API_KEY); `copy` and `teacher` may stand alone. Writes
answers_<NAME>.jsonl, eval_details_<NAME>.jsonl and summary.json. Answers that are there are used again unless the model or the rows
changed.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from overtake import prompts, settings
from overtake.data.cli import ask, run
from overtake.data.tables import BadInput, json_lines, read_rows, write_aside, write_rows
from overtake.evaluation import students
from overtake.evaluation.statistics import Interval, bootstrap_mean, paired_difference
from overtake.remote import chat, rag
from overtake.remote.gateway import Ok
from overtake.remote.judging import judge_call, judge_gateway
from overtake.retrieval.metrics import evaluate_run, quality

METRICS = ("quality", "top1", "hit@1", "recall@5", "ndcg@10", "judge")
"""Without gold labels quality and top1 are of reranker scores; with them of gold relevance, and top1 is hit@1, so not shown."""
_OF_GOLD = ("hit@1", "recall@5", "ndcg@10")
_DEPTH = 10
_TEXTS = ("rag_query", "rag_tenant", "rag_profile", "rag_history")
_NEEDED = ("rag_query_id", *_TEXTS, "rag_kb", "rag_gold", "rag_teacher_rewrite")


def rewrites(name: str, spec: str, rows: list[dict[str, str]], out: Path) -> dict[str, str | None]:
    """One rewrite for each question id: "" where the system gave none, None where its service did not answer.

    Kept in answers_<name>.jsonl; rows without an answer are asked again the next time.
    """
    if spec in ("copy", "teacher"):
        column = {"copy": "rag_query", "teacher": "rag_teacher_rewrite"}[spec]
        return {row["rag_query_id"]: row[column] for row in rows}
    identity = _identity(spec, rows)
    file = out / f"answers_{_file(name)}.jsonl"
    if file.exists():
        kept = read_rows(file)
        if kept[0].get("identity") == identity and len(kept) == len(rows):
            return {row["rag_query_id"]: row["rewrite"] for row in kept}
    try:
        conversations = [
            prompts.rewrite_messages(row["rag_tenant"], row["rag_query"], row["rag_profile"], row["rag_history"]) for row in rows
        ]
    except ValueError as error:
        raise BadInput(str(error)) from None
    answers: list[str | None]
    if "@http" in spec:
        model, _, url = spec.partition("@")
        answers = students.from_endpoint(model, url, os.environ.get("OVERTAKE_STUDENT_API_KEY", ""), conversations)
    else:
        answers = list(students.from_folder(Path(spec), conversations))
    answered = [
        {"identity": identity, "rag_query_id": row["rag_query_id"], "query": row["rag_query"], "rewrite": answer}
        for row, answer in zip(rows, answers, strict=True)
        if answer is not None
    ]
    write_rows(file, answered)
    return {row["rag_query_id"]: answer for row, answer in zip(rows, answers, strict=True)}


def _file(name: str) -> str:
    return name.replace(" ", "_")


def _identity(spec: str, rows: list[dict[str, str]]) -> str:
    """Changes when the weights or the rows change."""
    asked = [[row[name] for name in ("rag_query_id", *_TEXTS)] for row in rows]
    digest = hashlib.sha256(json.dumps([spec, asked]).encode())
    for file in sorted(Path(spec).glob("*.safetensors")) if "@http" not in spec else []:
        digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def measure(name: str, answers: dict[str, str | None], rows: list[dict[str, str]], judged: bool) -> dict[str, dict[str, float]]:
    """Per question id: the metrics that could be measured. An empty rewrite scores 0, a missing answer of a service is left out."""
    asked = [row for row in rows if answers[row["rag_query_id"]]]
    labelled = rows[0]["rag_gold"] not in ("", "[]")
    worst = dict.fromkeys(["quality", *(_OF_GOLD if labelled else ["top1"]), *(["judge"] if judged else [])], 0.0)
    scores = {query_id: dict(worst) for query_id, answer in answers.items() if answer == ""}
    calls = [
        rag.rag_call(
            row["rag_query"], answers[row["rag_query_id"]] or "", row["rag_tenant"], row["rag_kb"], top_k=_DEPTH, labelled=labelled
        )
        for row in asked
    ]
    found = {
        row["rag_query_id"]: rag.hits(result.value)
        for row, result in zip(asked, ask(rag.rag_gateway(), calls, f"retrieving for {name}"), strict=True)
        if isinstance(result, Ok)
    }
    scores |= _of_gold(found, rows) if labelled else {query_id: _of_reranker(hits) for query_id, hits in found.items()}
    if judged:
        calls = [judge_call(row["rag_query"], answers[row["rag_query_id"]] or "") for row in asked]
        verdicts = ask(judge_gateway(), calls, f"judging {name}")
        for row, verdict in zip(asked, verdicts, strict=True):
            if isinstance(verdict, Ok) and row["rag_query_id"] in scores:
                scores[row["rag_query_id"]]["judge"] = verdict.value["score"]
    return scores


def _of_gold(found: dict[str, list[rag.Hit]], rows: list[dict[str, str]]) -> dict[str, dict[str, float]]:
    if any(hit.doc_id is None for hits in found.values() for hit in hits):
        raise BadInput("the RAG service names no documents (doc_id), so what it finds cannot be compared with gold labels")
    ranked = {query_id: [hit.doc_id or "" for hit in hits] for query_id, hits in found.items()}
    gold = {row["rag_query_id"]: {doc_id: 1 for doc_id in json.loads(row["rag_gold"])} for row in rows}
    try:
        return evaluate_run(ranked, {query_id: gold[query_id] for query_id in ranked})
    except ValueError as error:
        raise BadInput(str(error)) from None


def _of_reranker(hits: list[rag.Hit]) -> dict[str, float]:
    return {"quality": quality([hit.score for hit in hits]), "top1": hits[0].score if hits else 0.0}


def summarise(scores: dict[str, dict[str, dict[str, float]]], against: str | None) -> dict[str, Any]:
    """Means with intervals for each system and, with `against`, the paired differences of that system to every other one."""

    def column(name: str, metric: str) -> dict[str, float]:
        return {query_id: values[metric] for query_id, values in scores[name].items() if metric in values}

    measured = {name: [metric for metric in METRICS if column(name, metric)] for name in scores}
    means = {name: {metric: bootstrap_mean(list(column(name, metric).values())) for metric in measured[name]} for name in scores}
    differences: dict[str, dict[str, Interval]] = {}
    if against:
        for name in scores:
            if name != against:
                differences[name] = {
                    metric: paired_difference(column(against, metric), column(name, metric))
                    for metric in measured[name]
                    if column(against, metric).keys() & column(name, metric).keys()
                }
    return {"rows": {name: len(scores[name]) for name in scores}, "means": means, "against": against, "differences": differences}


def table(summary: dict[str, Any]) -> str:
    """The summary as text: a row for each system, then a row for each paired difference, `*` where its interval excludes 0."""
    shown = [metric for metric in METRICS if any(metric in means for means in summary["means"].values())]
    head = f"{'mean [95 % interval]':<22}{'rows':>5}" + "".join(f"{metric:>23}" for metric in shown)
    lines = [head, "-" * len(head)]
    for name, means in summary["means"].items():
        cells = "".join(f"{means[metric]!s:>23}" if metric in means else f"{'not measured':>23}" for metric in shown)
        lines.append(f"{name:<22}{summary['rows'][name]:>5}{cells}")
    if summary["differences"]:
        lines += ["", f"{'paired difference':<27}" + "".join(f"{metric:>23}" for metric in shown), "-" * len(head)]
    for name, metrics in summary["differences"].items():
        cells = "".join(f"{_signed(metrics[metric]) if metric in metrics else 'not measured':>23}" for metric in shown)
        lines.append(f"{summary['against'] + ' - ' + name:<27}{cells}")
    if summary["differences"]:
        lines.append("* the 95 % interval (paired bootstrap over questions) excludes 0; without it no difference is shown")
    return "\n".join(lines)


def _signed(difference: Interval) -> str:
    mark = " " if difference.verdict == "no difference shown" else "*"
    return f"{difference.mean:+.3f} [{difference.low:+.2f},{difference.high:+.2f}]{mark}"


def _parse(systems: list[str]) -> dict[str, str]:
    found = {}
    for system in systems:
        name, _, spec = system.partition("=")
        if not name or (not spec and name not in ("copy", "teacher")):
            raise BadInput(f"--system {system}: give copy, teacher, NAME=FOLDER or NAME=MODEL@BASE_URL")
        if name in found:
            raise BadInput(f"--system {system}: {name} stands twice: give each its own name")
        if spec not in ("", "copy", "teacher") and "@http" not in spec and not Path(spec).is_dir():
            raise BadInput(f"--system {system}: {spec} is no folder")
        found[name] = spec or name
    return found


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure every system and write and print the table."""
    rows = read_rows(arguments.test, required=_NEEDED)
    unlabelled = [row["rag_query_id"] for row in rows if row["rag_gold"] in ("", "[]")]
    if 0 < len(unlabelled) < len(rows):
        raise BadInput(
            f"{arguments.test}: {len(unlabelled)} of {len(rows)} rows have no gold labels (first: {unlabelled[0]}): label all or none, "
            "for gold relevance and reranker scores cannot be averaged"
        )
    systems = _parse(arguments.system)
    if arguments.against and arguments.against not in systems:
        raise BadInput(f"--against {arguments.against} is not among the systems {', '.join(systems)}")
    rag.rag_gateway()  # what is not set is said now rather than after the rewriting
    if arguments.judge:
        chat.endpoint("judge")
    arguments.out.mkdir(parents=True, exist_ok=True)
    scores = {}
    for name, spec in systems.items():
        answers = rewrites(name, spec, rows, arguments.out)
        scores[name] = measure(name, answers, rows, judged=arguments.judge)
        details = [
            {"rag_query_id": row["rag_query_id"], "query": row["rag_query"], "rewrite": answers[row["rag_query_id"]] or ""}
            | {metric: value for metric, value in scores[name].get(row["rag_query_id"], {}).items()}
            for row in rows
        ]
        write_aside({arguments.out / f"eval_details_{_file(name)}.jsonl": json_lines(details)})
    summary = summarise(scores, arguments.against)
    plain = json.dumps(summary, ensure_ascii=False, indent=1, default=vars)
    write_aside({arguments.out / "summary.json": plain.encode()})
    print(table(summary))
    missing = {name: len(rows) - len(values) for name, values in scores.items() if len(values) < len(rows)}
    if missing:
        print(f"not measured, and in no mean: {missing} (the service did not answer; see {settings.load().cache_dir}/ledger.jsonl)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path, help="test.jsonl of tools/convert.py")
    parser.add_argument("out", type=Path, help="folder for answers, details and summary")
    parser.add_argument("--system", action="append", required=True, help="copy, teacher, NAME=FOLDER or NAME=MODEL@BASE_URL; repeat")
    parser.add_argument("--against", help="print paired differences of this system to every other one")
    parser.add_argument("--judge", action="store_true", help="let the judge score each rewrite too (0 to 5)")
    arguments = parser.parse_args(argv)
    return run(lambda: evaluate(arguments), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
