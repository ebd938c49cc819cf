"""Measure the retrieval engine and service beside other engines, and how their cost grows with the number of documents.

    python benchmarks/bench_retrieval.py --corpus stard_zh
    python benchmarks/bench_retrieval.py --sizes 1000 10000 --engines ours tantivy fts5 --no-service
    python benchmarks/bench_retrieval.py --quality stard_zh

Prints Markdown tables. Each engine at each size is a process of its own, on the same documents and questions: those of --corpus (a BEIR
folder; without it the sample fivedoctors), and beyond its size copies with words drawn anew. --quality FOLDER measures instead what each
way to cut text finds of a labelled folder's questions. Engines whose packages are absent are left out and named. Exit code 1: something
could not be measured.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake.cli import Abort, run

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "benchmarks" / "retrieval"
NAMES = {
    "ours": ("**ours**, words cut", ""),
    "ours_cut": ("**ours**, words looked up", ""),
    "tantivy": ("tantivy, bare", ""),
    "fts5": ("SQLite FTS5", ""),
    "bm25s": ("bm25s", "bm25s"),
    "rank_bm25": ("rank_bm25", "rank-bm25"),
    "qdrant_edge": ("qdrant-edge", "qdrant-edge-py"),
    "milvus_lite": ("milvus-lite", "milvus-lite pymilvus jieba"),
}
"""How each is called in the tables, and what pip installs for it."""


class Failed(Exception):
    """A measured process ended without a result; the message is the end of what it said."""


def child(script: str, folder: Path, task: dict[str, Any], limit: float) -> Any:
    """Return what a script of benchmarks/retrieval found. Raises Failed."""
    job = folder / f"{script}_{time.monotonic_ns()}.json"
    job.write_text(json.dumps(task), encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "plugin")}
    log = job.with_suffix(".log")
    with log.open("wb") as words:
        process = subprocess.Popen([sys.executable, str(SCRIPTS / f"{script}.py"), str(job)], stdout=words, stderr=words, env=variables)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {limit:g} s") from None
        finally:
            process.kill()
            process.wait()
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise Failed(lines[-1][:200] if lines else f"exit code {code}")
    return json.loads(job.with_suffix(".result").read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def engines(folder: Path, options: argparse.Namespace, lost: list[str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what each engine took at each size; prints the tables."""
    present = [name for name in options.engines if not NAMES[name][1] or importlib.util.find_spec(name)]
    for name in options.engines:
        if name not in present:
            print(f"- {NAMES[name][0]} is left out: pip install {NAMES[name][1]}")
    by_engine: dict[tuple[str, int], dict[str, Any]] = {}
    for size in options.sizes:
        for name in present:
            print(f"{NAMES[name][0]}, {size:,} documents", file=sys.stderr, flush=True)
            task = {"engine": name, "size": size, "corpus": str(options.corpus), "seconds": options.seconds, "threads": options.threads}
            try:
                by_engine[name, size] = child("measure", folder, task, options.limit)
            except Failed as error:
                lost.append(f"{NAMES[name][0]} at {size:,} documents: {error}")
        rows = []
        for name in present:
            result = by_engine.get((name, size))
            if result is None:
                rows.append([NAMES[name][0], *"–––––––"])
                continue
            cells = [
                result["index"],
                result["memory"],
                result["one"]["qps"],
                result["one"]["p99"],
                result["many"]["qps"],
                result["many"]["p99"],
            ]
            added = f"{1000 * result['add']:,.0f}" if "add" in result else "anew"
            rows.append([NAMES[name][0], *map(figure, cells), added])
        head = [f"{size:,} documents", "index s", "memory MB", "questions/s", "p99 ms", f"questions/s, {options.threads} threads", "p99 ms"]
        print("\n".join(["", *table([*head, "100 more, ms"], rows)]), flush=True)
    return by_engine


def figure(value: float) -> str:
    """Three digits that mean something.

    >>> figure(12345.6), figure(1.234), figure(0.0123)
    ('12,346', '1.2', '0.012')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def growth(by_engine: dict[tuple[str, int], dict[str, Any]], sizes: Sequence[int]) -> None:
    """Print how a question's milliseconds grow, and what cutting and the engine over bare tantivy cost at the largest size."""
    names = list(dict.fromkeys(name for name, _ in by_engine))
    cell = {key: figure(1000 / result["one"]["qps"]) for key, result in by_engine.items()}
    rows = [[NAMES[name][0], *(cell.get((name, size), "–") for size in sizes)] for name in names]
    print("\n".join(["", *table(["ms a question, one client", *(f"{size:,}" for size in sizes)], rows)]))
    for size in sizes:
        ours, cut, bare = (by_engine.get((name, size)) for name in ("ours", "ours_cut", "tantivy"))
        if ours and cut:
            share = 1 - ours["one"]["qps"] / cut["one"]["qps"]
            print(f"\n{size:,}: cutting a question takes {ours['cut']:.3f} ms, {share:.0%} of ours", end="")
            if bare:
                print(f"; ours with the words looked up has {cut['one']['qps'] / bare['one']['qps']:.0%} of bare tantivy's rate", end="")
    print(flush=True)


def service(folder: Path, options: argparse.Namespace, by_engine: dict[tuple[str, int], dict[str, Any]], lost: list[str]) -> None:
    """Print what the HTTP service answers at each size."""
    rows = []
    for size in options.sizes:
        print(f"the service, {size:,} documents", file=sys.stderr, flush=True)
        try:
            result = serve(folder, options, size)
        except Failed as error:
            lost.append(f"the service at {size:,} documents: {error}")
            continue
        milvus = by_engine.get(("milvus_lite", size))
        peak = max(result["one"]["qps"], result["many"]["qps"])
        ratio = f"{peak / max(milvus['one']['qps'], milvus['many']['qps']):.0f} x" if milvus else "–"
        cells = [result["one"]["qps"], result["one"]["p99"], result["many"]["qps"], result["many"]["p99"], result["half"]]
        rows.append([f"{size:,}", *map(figure, cells), ratio, figure(result["start"]), figure(result["memory"])])
    head = [
        "HTTP service",
        "questions/s, 1 client",
        "p99 ms",
        f"questions/s, {options.threads} clients",
        "p99 ms",
        "p99 ms at half the peak",
    ]
    print("\n".join(["", *table([*head, "peak beside milvus-lite's", "start s", "memory MB"], rows)]), flush=True)


def serve(folder: Path, options: argparse.Namespace, size: int) -> dict[str, Any]:
    """The measures of one service over so many documents. Raises Failed."""
    sys.path.insert(0, str(SCRIPTS))
    from texts import documents

    kb, ready = folder / f"kb{size}.jsonl", folder / f"ready{size}"
    with kb.open("w", encoding="utf-8") as file:
        for key, text in documents(options.corpus, size):
            file.write(json.dumps({"_id": key, "text": text}, ensure_ascii=False) + "\n")
    tool, begun = ROOT / "tools" / "serve_rag.py", time.monotonic()
    command = [sys.executable, str(tool), f"bench={kb}", "--port", "0", "--ready-file", str(ready), "--workers", str(options.workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "plugin")})
    try:
        while not ready.exists():
            if process.poll() is not None or time.monotonic() - begun > options.limit:
                raise Failed("the service did not start")
            time.sleep(0.05)
        start, port = time.monotonic() - begun, int(ready.read_text().rpartition(":")[2])
        task = {"corpus": str(options.corpus), "tenant": "bench", "port": port, "seconds": options.seconds, "clients": options.threads}
        measured = child("load", folder, task, options.limit)
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
        return {**measured, "start": start, "memory": memory}
    finally:
        process.terminate()
        process.wait()
        kb.unlink()


def quality(folder: Path, options: argparse.Namespace) -> None:
    """Print what each way to cut text finds."""
    by_cut = child("quality", folder, {"corpus": str(options.quality)}, options.limit)
    rows = []
    for name, result in by_cut.items():
        rows.append(
            [
                name,
                *(f"{result[measure]:.3f}" for measure in ("ndcg@10", "recall@5", "hit@1")),
                f"{result['terms']:.1f}",
                f"{result['cut']:.0f}",
            ]
        )
    (questions,) = {measured["questions"] for measured in by_cut.values()}
    head = [f"{questions:,} raw questions, BM25 of", "nDCG@10", "recall@5", "hit@1", "terms a question", "µs to cut one"]
    print("\n".join(table(head, rows)))


def measure(options: argparse.Namespace) -> int:
    """Measure what is asked for and print the tables."""
    wanted = ("corpus.jsonl", "queries.jsonl")
    for source in (options.quality or options.corpus,):
        if missing := [name for name in wanted if not (source / name).is_file()]:
            raise Abort(f"{source}: no {missing[0]} there: give a folder that holds {' and '.join(wanted)}")
    if min(options.sizes) < 1 or options.threads < 1 or options.seconds <= 0 or options.workers < 1:
        raise Abort("--sizes, --threads, --seconds and --workers: give numbers above 0")
    lost: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench_retrieval_", ignore_cleanup_errors=True) as name:
        if options.quality:
            try:
                quality(Path(name), options)
            except Failed as error:
                lost.append(f"the quality could not be measured: {error}")
        else:
            by_engine = engines(Path(name), options, lost) if options.engines else {}
            if by_engine:
                growth(by_engine, options.sizes)
            if not options.no_service:
                service(Path(name), options, by_engine, lost)
    print(
        f"\nMeasured in {time.monotonic() - begun:.0f} s on {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} over the last 15 minutes."
    )
    for line in lost:
        print(f"- {line}")
    return 1 if lost else 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sample = ROOT / "datasets" / "query_rewrite" / "fivedoctors"
    parser.add_argument("--corpus", type=Path, default=sample, metavar="FOLDER", help="corpus.jsonl and queries.jsonl to begin with")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N", help="documents (default: %(default)s)"
    )
    parser.add_argument("--engines", nargs="*", choices=NAMES, default=list(NAMES), metavar="ENGINE", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--threads", type=int, default=20, help="threads, or HTTP clients, of the many (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that one engine may take at one size (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service (default %(default)s)")
    parser.add_argument("--no-service", action="store_true", help="engines alone")
    parser.add_argument("--quality", type=Path, metavar="FOLDER", help="instead: nDCG@10 of each way to cut text, on a labelled folder")
    options = parser.parse_args(argv)
    return run(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
