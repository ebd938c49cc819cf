"""Compare rewriting systems on held-out questions: same rows, live retrieval, gold labels, paired 95 % intervals.

    python tools/evaluate.py data/test.jsonl out/eval --system copy --system teacher --system SFT=out/sft/checkpoint-90 \
        --system GRPO=out/merged --against GRPO

A system is `copy` (the question as it is), `teacher` (the rewrite in the file), NAME=FOLDER (a model or adapter folder) or
NAME=MODEL@BASE_URL (an OpenAI-compatible endpoint, key in OVERTAKE_STUDENT_API_KEY). Writes answers_<NAME>.jsonl,
eval_details_<NAME>.jsonl and summary.json. What is there already is used again unless the model or the rows changed.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from overtake import prompts, settings
from overtake.data.cli import run
from overtake.data.tables import BadInput, read_rows, write_rows
from overtake.evaluation import students
from overtake.evaluation.statistics import Interval, bootstrap_mean, paired_difference
from overtake.remote import rag
from overtake.remote.gateway import Ok
from overtake.remote.judging import judge_call, judge_gateway
from overtake.retrieval.metrics import evaluate_run

METRICS = ("quality", "hit@1", "recall@5", "ndcg@10", "judge")
_DEPTH = 10
_NEEDED = ("rag_query_id", "rag_query", "rag_tenant", "rag_kb", "rag_gold", "rag_teacher_rewrite")


def rewrites(name: str, spec: str, rows: list[dict[str, str]], out: Path) -> dict[str, str | None]:
    """One rewrite for each question id, None where the system gave none; kept in answers_<name>.jsonl."""
    if spec in ("copy", "teacher"):
        column = {"copy": "rag_query", "teacher": "rag_teacher_rewrite"}[spec]
        return {row["rag_query_id"]: row[column] or None for row in rows}
    identity = _identity(spec, rows)
    file = out / f"answers_{name}.jsonl"
    if file.exists():
        kept = read_rows(file)
        if kept and kept[0].get("identity") == identity:
            return {row["rag_query_id"]: row["rewrite"] or None for row in kept}
    conversations = [prompts.rewrite_messages(row["rag_tenant"], row["rag_query"], row["rag_profile"], row["rag_history"]) for row in rows]
    answers: list[str | None]
    if "@http" in spec:
        model, _, url = spec.partition("@")
        answers = students.from_endpoint(model, url, os.environ.get("OVERTAKE_STUDENT_API_KEY", ""), conversations)
    else:
        answers = list(students.from_folder(Path(spec), conversations))
    kept = [
        {"identity": identity, "rag_query_id": row["rag_query_id"], "query": row["rag_query"], "rewrite": answer or ""}
        for row, answer in zip(rows, answers, strict=True)
    ]
    write_rows(file, kept)
    return {row["rag_query_id"]: row["rewrite"] or None for row in kept}


def _identity(spec: str, rows: list[dict[str, str]]) -> str:
    """Changes when the weights or the questions change."""
    digest = hashlib.sha256(json.dumps([spec, [row["rag_query"] for row in rows]]).encode())
    for file in sorted(Path(spec).glob("*.safetensors")) if "@http" not in spec else []:
        digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def measure(name: str, answers: dict[str, str | None], rows: list[dict[str, str]], judged: bool) -> dict[str, dict[str, float]]:
    """Per question id: the metrics that could be measured. A missing rewrite scores 0, a missing answer of a service is left out."""
    asked = [row for row in rows if answers[row["rag_query_id"]]]
    scores: dict[str, dict[str, float]] = {row["rag_query_id"]: dict.fromkeys(METRICS, 0.0) for row in rows if row not in asked}
    calls = [
        rag.rag_call(row["rag_query"], answers[row["rag_query_id"]] or "", row["rag_tenant"], row["rag_kb"], top_k=_DEPTH) for row in asked
    ]
    with tqdm(total=len(calls), desc=f"retrieving for {name}", unit="query") as bar:
        found = rag.rag_gateway().run(calls, on_result=lambda *_: bar.update())
    ranked = {
        row["rag_query_id"]: [str(hit.doc_id) for hit in rag.hits(result.value)]
        for row, result in zip(asked, found, strict=True)
        if isinstance(result, Ok)
    }
    gold = {row["rag_query_id"]: {doc_id: 1 for doc_id in json.loads(row["rag_gold"])} for row in rows}
    for query_id, values in evaluate_run(ranked, {query_id: gold[query_id] for query_id in ranked}).items():
        scores[query_id] = dict(values)
    if judged:
        verdicts = judge_gateway().run([judge_call(row["rag_query"], answers[row["rag_query_id"]] or "") for row in asked])
        for row, verdict in zip(asked, verdicts, strict=True):
            if isinstance(verdict, Ok) and row["rag_query_id"] in scores:
                scores[row["rag_query_id"]]["judge"] = verdict.value["score"]
    return scores


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
                    if metric in measured[against]
                }
    return {"rows": {name: len(scores[name]) for name in scores}, "means": means, "against": against, "differences": differences}


def table(summary: dict[str, Any]) -> str:
    """The summary as text: a row for each system, then the paired differences."""
    head = f"{'system':<12}{'rows':>5}" + "".join(f"{metric:>24}" for metric in METRICS)
    lines = [head, "-" * len(head)]
    for name, means in summary["means"].items():
        cells = "".join(f"{means[metric]!s:>24}" if metric in means else f"{'not measured':>24}" for metric in METRICS)
        lines.append(f"{name:<12}{summary['rows'][name]:>5}{cells}")
    for name, metrics in summary["differences"].items():
        cells = "; ".join(f"{metric} {value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}] {value.verdict}" for metric, value in metrics.items())
        lines.append(f"{summary['against']} - {name}: {cells}")
    return "\n".join(lines)


def _parse(systems: list[str]) -> dict[str, str]:
    found = {}
    for system in systems:
        name, _, spec = system.partition("=")
        if not spec and name not in ("copy", "teacher"):
            raise BadInput(f"--system {system}: give copy, teacher, NAME=FOLDER or NAME=MODEL@BASE_URL")
        if spec and "@http" not in spec and not Path(spec).is_dir():
            raise BadInput(f"--system {system}: {spec} is no folder")
        found[name] = spec or name
    return found


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure every system and write and print the table."""
    rows = read_rows(arguments.test, required=_NEEDED)
    unlabelled = [row["rag_query_id"] for row in rows if not row["rag_gold"]]
    if unlabelled:
        raise BadInput(f"{arguments.test}: {len(unlabelled)} rows have no gold labels (first: {unlabelled[0]}); validate with --qrels")
    systems = _parse(arguments.system)
    if arguments.against and arguments.against not in systems:
        raise BadInput(f"--against {arguments.against} is not among the systems {', '.join(systems)}")
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
        (arguments.out / f"eval_details_{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in details), encoding="utf-8"
        )
    summary = summarise(scores, arguments.against)
    plain = json.dumps(summary, ensure_ascii=False, indent=1, default=vars)
    (arguments.out / "summary.json").write_text(plain, encoding="utf-8")
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
    return run(lambda: evaluate(arguments))


if __name__ == "__main__":
    sys.exit(main())
