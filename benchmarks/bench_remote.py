"""Measure the calls to remote services, and other clients beside them, against a local server whose latencies are drawn and known.

    python benchmarks/bench_remote.py --peers output/peers
    python benchmarks/bench_remote.py --part step warm
    python benchmarks/bench_remote.py --part calls --only ours_retrieval aiohttp_bare

Prints Markdown tables. Each measurement is a process of its own; the rounds go from client to client, so that a busy minute hits all of
them. The parts: `calls` is wall time against the bound (sum of the latencies drawn / concurrency) and CPU; `step` a reward step; `warm`
the same step from the cache of an earlier process; `memory` its growth over 100,000 calls; `rate` a service that accepts 50 requests in
any second and refuses the rest. --peers FOLDER makes an environment for each peer there (2 GB in all), once. Exit code 1: a row could not
be measured or lost calls.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overtake.cli import Abort, run

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "benchmarks" / "remote"
PARTS = ("calls", "step", "warm", "memory", "rate")
LATENCIES = (0.05, 0.2, 1.0)
"""Seconds, on average; each call's is drawn from within JITTER of it."""
JITTER = 0.2
CONCURRENCY = 64
STEP_MEANS = (0.05, 0.2)
"""Of the retrievals and of the judge in a reward step of COMPLETIONS."""
COMPLETIONS = 256
RATE = 50
_SECONDS = 900
"""Within which any one process must be done."""

PEERS = {
    "clients": ["openai==3.52.0", "httpx==0.28.1", "httpx-aiohttp==0.2.0", "aiohttp==3.14.5"],
    "litellm": ["litellm==1.106.2", "openai==2.54.0", "aiohttp==3.14.5"],
    "distilabel": ["distilabel[openai]==1.5.3", "openai==3.52.0", "datasets==5.2.0", "requests==2.34.2"],
    "curator": ["bespokelabs-curator==0.1.31", "litellm==1.83.7", "openai==2.30.0", "aiohttp==3.13.5"],
}


@dataclass(frozen=True)
class Contender:
    """A row: a function of benchmarks/remote/contenders.py and how it is measured."""

    name: str
    title: str
    peer: str = ""
    """Its environment; "" is ours."""
    calls: int = 2000
    rounds: tuple[int, int, int] = (3, 1, 0)
    """How often at each of LATENCIES; 0: not measured."""
    starts_inside: bool = False
    """It starts itself on the clock, so it is given the server's: from the first request to the last answer."""


CONTENDERS = (
    Contender("ours_retrieval", "**ours, retrieval**", rounds=(3, 3, 0)),
    Contender("ours_chat", "**ours, chat**", rounds=(3, 3, 3)),
    Contender("aiohttp_bare", "aiohttp 3.14, bare", rounds=(3, 3, 1)),
    Contender("httpx_over_aiohttp", "httpx 0.28 over aiohttp", "clients"),
    Contender("httpx_plain", "httpx 0.28", "clients", calls=500),
    Contender("openai_sdk", "openai 3.52", "clients", rounds=(3, 1, 1)),
    Contender("openai_over_aiohttp", "openai 3.52, its aiohttp client", "clients"),
    Contender("litellm", "litellm 1.106", "litellm", calls=500),
    Contender("distilabel", "distilabel 1.5.3, pipeline ¹", "distilabel", calls=500, rounds=(3, 0, 0), starts_inside=True),
    Contender("distilabel_llm", "distilabel 1.5.3, its LLM alone", "distilabel", calls=500),
    Contender("curator", "bespoke curator 0.1.31 ¹", "curator", starts_inside=True),
    Contender("swift_sample", "ms-swift 4.6 `swift sample` ¹ ²", calls=100, rounds=(3, 0, 0), starts_inside=True),
)
_NOTES = (
    "Share of the bound: median of the rounds (least – most). CPU: ms a call, of the process and its children, user and system.",
    "¹ starts itself on the clock: its wall time is the server's, from the first request to the last answer; its CPU holds the start.",
    "² asks for one answer after the other.",
)


@dataclass
class Report:
    """Lines to print, and whether all of it could be measured."""

    lines: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def share(result: dict[str, Any], concurrency: int, starts_inside: bool = False) -> float:
    """Return which part of the wall time the bound is: (latencies drawn / concurrency) / wall.

    >>> share({"wall": 2.0, "server": {"rag_drawn": 100.0, "chat_drawn": 0.0, "window": 1.7}}, 64)
    0.78125
    """
    server = result["server"]
    return (server["rag_drawn"] + server["chat_drawn"]) / concurrency / (server["window"] if starts_inside else result["wall"])


def step_ratio(wall: float, server: dict[str, float], means: tuple[float, float], concurrency: int) -> float:
    """A step's wall less one mean latency of each service, over the slower one's latencies drawn / concurrency.

    >>> step_ratio(1.25, {"rag_drawn": 12.8, "chat_drawn": 51.2}, (0.05, 0.2), 64)
    1.25
    """
    return (wall - sum(means)) / (max(server["rag_drawn"], server["chat_drawn"]) / concurrency)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range where there are several.

    >>> spread([0.91, 0.93, 0.88]), spread([0.5])
    ('0.91 (0.88–0.93)', '0.50')
    """
    text = f"{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, line by line.

    >>> table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    return ["| " + " | ".join(cells) + " |" if cells else "|" + "---|" * len(head) for cells in (head, (), *rows)]


class Bench:
    """The server, and processes that are measured against it."""

    def __init__(self, url: str, folder: Path, peers: Path | None, quick: bool) -> None:
        self.url, self.folder, self.peers, self.quick = url, folder, peers, quick
        self.jobs = 0

    def measure(
        self,
        script: str,
        name: str,
        calls: int,
        peer: str = "",
        *,
        means: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
        rate: int = 0,
        cache: Path | None = None,
        settings: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return what the process says of its work (benchmarks/remote/job.py). Raises ChildFailed, with its last words.

        `means`: latencies of retrieval and chat. `cache`: the folder of our answers, empty by default. `settings`: more of OVERTAKE_*.
        """
        self.jobs += 1
        folder = self.folder / f"{self.jobs}_{name}"
        folder.mkdir()
        served = {"seed": seed, "rag": means[0], "chat": means[1], "jitter": JITTER, "rate": rate}
        task = {"name": name, "url": self.url, "folder": str(folder), "calls": calls, "concurrency": CONCURRENCY, "served": served}
        file = folder / "job.json"
        file.write_text(json.dumps(task), encoding="utf-8")
        python = sys.executable if not peer else str(environment(self.peers, peer))
        _child([python, str(SCRIPTS / f"{script}.py"), str(file)], self._environment(folder, cache, settings or {}), folder / "log")
        return json.loads(file.with_suffix(".result").read_text(encoding="utf-8"))

    def _environment(self, folder: Path, cache: Path | None, settings: dict[str, str]) -> dict[str, str]:
        ours = {
            "RAG_URL": self.url,
            "RAG_CONCURRENCY": str(CONCURRENCY),
            "TEACHER_BASE_URL": f"{self.url}/v1",
            "TEACHER_MODEL": "bench",
            "TEACHER_CONCURRENCY": str(CONCURRENCY),
            "CACHE_DIR": str(cache or folder / "cache"),
            **settings,
        }
        outside = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
        # Nothing is fetched, told to others or left in the home folder.
        quiet = {"HF_HUB_OFFLINE": "1", "TELEMETRY_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}
        home = {"HOME": str(folder), "PYTHONPATH": str(ROOT / "plugin")}
        return {**outside, **quiet, **home, **{f"OVERTAKE_{name}": value for name, value in ours.items()}}


class ChildFailed(Exception):
    """A measured process ended without a result; the message is the end of what it said."""


def _child(command: list[str], variables: dict[str, str], log: Path) -> None:
    with log.open("wb") as words:
        process = subprocess.Popen(command, env=variables, stdout=words, stderr=words, start_new_session=True)
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"not done after {_SECONDS} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ChildFailed(lines[-1][:300] if lines else f"exit code {code}")


def environment(peers: Path | None, peer: str) -> Path:
    """The Python of a peer's environment, which is made when it is absent or its pins have changed."""
    assert peers
    folder = (peers / peer).resolve()
    python, pinned = folder / "bin" / "python", folder / "pins.txt"
    pins = "\n".join(PEERS[peer]) + "\n"
    if not pinned.is_file() or pinned.read_text() != pins:
        print(f"making {folder}", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *PEERS[peer]],
        ):
            if subprocess.run(command, stdout=sys.stderr).returncode:
                raise Abort(f"{' '.join(command)} failed: see above, or leave out --peers")
        pinned.write_text(pins)
    return python


@contextmanager
def served() -> Iterator[tuple[str, Path]]:
    """(address of a server of our own, a folder for everything that is written)."""
    with tempfile.TemporaryDirectory(prefix="bench_remote_", ignore_cleanup_errors=True) as name:
        ready = Path(name) / "address"
        process = subprocess.Popen([sys.executable, str(SCRIPTS / "server.py"), str(ready)], start_new_session=True)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise Abort("the server did not start: see above")
                time.sleep(0.01)
            yield ready.read_text(), Path(name)
        finally:
            process.kill()
            process.wait()


def calls(bench: Bench, contenders: Sequence[Contender], report: Report) -> None:
    """The clients, in rounds: wall time against the bound, and CPU."""
    latencies = (0.005,) if bench.quick else LATENCIES
    results: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for place, mean in enumerate(latencies):
        for number in range(1 if bench.quick else 3):
            for contender in contenders:
                if number >= contender.rounds[place]:
                    continue
                label, count = f"{contender.name} at {mean * 1000:g} ms", min(contender.calls, 100) if bench.quick else contender.calls
                _say(f"round {number + 1}: {label}")
                try:
                    result = bench.measure("contenders", contender.name, count, contender.peer, means=(mean, mean), seed=number)
                except ChildFailed as error:
                    report.lost.append(f"{label} could not be measured: {error}")
                    continue
                if result["done"] < count:
                    report.lost.append(f"{label}: {count - result['done']} of {count} calls had no answer: {result.get('error', '')}")
                results.setdefault((contender.name, mean), []).append({**result, "calls": count})
    head = ["client", "calls", *(text for mean in latencies for text in (f"{mean * 1000:g} ms: share of the bound", "CPU"))]
    rows = [_row(candidate, [results.get((candidate.name, mean), []) for mean in latencies], bench.quick) for candidate in contenders]
    report.lines += [f"{CONCURRENCY} calls at once, each with a latency drawn from ±{JITTER:.0%} of the mean.", ""]
    report.lines += table(head, [*_ideal(results, latencies), *rows])
    report.lines += ["", *_NOTES, _server_words([result for several in results.values() for result in several])]


def _row(contender: Contender, several: Sequence[list[dict[str, Any]]], quick: bool) -> list[str]:
    cells = [contender.title, f"{min(contender.calls, 100) if quick else contender.calls:,}"]
    for results in several:
        shares = [share(result, CONCURRENCY, contender.starts_inside) for result in results]
        cpus = [1000 * result["cpu"] / max(result["done"], 1) for result in results]
        cells += [spread(shares), f"{statistics.median(cpus):.2f}"] if results else ["–", "–"]
    return cells


def _ideal(measured: dict[tuple[str, float], list[dict[str, Any]]], latencies: Sequence[float]) -> list[list[str]]:
    """A row for each number of calls: the fewer, the more the last ones' idle places weigh."""
    full = [(mean, result) for (_, mean), several in measured.items() for result in several if result["server"]["most_at_once"] > 1]
    rows = []
    for count in sorted({result["calls"] for _, result in full}, reverse=True):
        cells = ["a client that costs nothing", f"{count:,}"]
        for wanted in latencies:
            same = [result for mean, result in full if (mean, result["calls"]) == (wanted, count)]
            shares = [share({**result, "wall": result["server"]["ideal"]}, CONCURRENCY) for result in same]
            cells += [f"{statistics.median(shares):.2f}", "0"] if shares else ["–", "–"]
        rows.append(cells)
    return rows


def _server_words(results: Sequence[dict[str, Any]]) -> str:
    lateness = [
        1000 * result["server"]["late"] / max(result["server"]["rag_calls"] + result["server"]["chat_calls"], 1) for result in results
    ]
    busy = [result["server"]["cpu"] / result["wall"] for result in results]
    if not results:
        return "Nothing was measured."
    return f"The server answered {spread(lateness)} ms later than drawn, and was busy {max(busy):.0%} of the time at most."


def steps(bench: Bench, parts: Sequence[str], report: Report) -> None:
    """Reward steps against the service, then the same ones in a new process from the cache."""
    means, count = ((0.001, 0.001), 16) if bench.quick else (STEP_MEANS, COMPLETIONS)
    cache, settings = bench.folder / "warm", {"JUDGE_SHARE": "1"}
    _say("reward steps")
    cold = bench.measure("parts", "steps", count, means=means if "step" in parts else (0.0, 0.0), cache=cache, settings=settings)
    _whole(cold, 8 * count, "reward steps", report)
    if "step" in parts:
        ratios = [step_ratio(step["wall"], step["server"], means, CONCURRENCY) for step in cold["steps"]]
        walls, asked = [step["wall"] for step in cold["steps"]], cold["steps"][0]["server"]
        head = ["reward step", "retrievals, verdicts", "wall, s", "(wall − one latency of each) / the slower one's bound"]
        name = f"{count} completions, retrieval {means[0] * 1000:g} ms, judge {means[1] * 1000:g} ms, {CONCURRENCY} of each at once"
        report.lines += table(head, [[name, f"{asked['rag_calls']}, {asked['chat_calls']}", spread(walls), spread(ratios)]])
        report.lines += ["", "Seven steps after one that opens the connections; the call of RagCompetition is timed."]
    if "warm" in parts:
        _say("the same steps in a new process")
        warm = bench.measure("parts", "warm_steps", count, cache=cache, settings=settings)
        _whole(warm, 8 * count, "reward steps from the cache", report)
        first, *others = [count / wall for wall in warm["walls"]]
        asked = warm["server"]["rag_calls"] + warm["server"]["chat_calls"]
        if asked:
            report.lost.append(f"{asked} calls of the warm steps went to the server")
        rows = [[f"{count} completions", f"{max(others):,.0f}", f"{statistics.median(others):,.0f}", f"{first:,.0f}", f"{asked}"]]
        report.lines += ["", *table(["from the cache of an earlier process", "rewards/s, best", "median", "first step", "requests"], rows)]
        report.lines += ["", "Eight steps over again in a new process; the call of RagCompetition is timed, imports are not."]


def memory(bench: Bench, _: Sequence[str], report: Report) -> None:
    """Return what is resident after a tenth of the calls and after all."""
    count = 1000 if bench.quick else 100_000
    _say(f"memory over {count} calls")
    result = bench.measure("parts", "memory", count)
    _whole(result, count, "memory", report)
    early, late = result["mb_early"], result["mb_end"]
    head = ["memory", f"after {count // 10:,} calls", f"after {count:,} calls", "growth", "wall, s", "CPU, ms a call"]
    cells = ["distinct retrievals in batches of 500, no latency", *(f"{size:.1f} MB" for size in (early, late, late - early))]
    report.lines += table(head, [[*cells, f"{result['wall']:.1f}", f"{1000 * result['cpu'] / count:.2f}"]])


def rate(bench: Bench, _: Sequence[str], report: Report) -> None:
    """Rows against a service that accepts RATE requests in any second."""
    count = 100 if bench.quick else 1000
    rows = []
    for name, title, peer, variables in (
        ("ours_retrieval", f"**ours, OVERTAKE_RAG_RPM={60 * RATE}**", "", {"RAG_RPM": str(60 * RATE)}),
        ("openai_sdk", "openai 3.52, its 2 retries", "clients", {}),
    ):
        if peer and not bench.peers:
            continue
        _say(f"{count} rows at {RATE} a second: {name}")
        result = bench.measure("contenders", name, count, peer, means=(0.05, 0.05), rate=RATE, settings=variables)
        server = result["server"]
        refused = server["refused"] / (server["refused"] + server["rag_calls"] + server["chat_calls"])
        rows.append([title, f"{result['done']:,} of {count:,}", f"{refused:.1%}", f"{result['wall'] / (count / RATE):.3f}"])
        if not peer:
            _whole(result, count, "rate", report)
    report.lines += table([f"service that accepts {RATE} in any second", "rows done", "refusals", "wall / (rows / 50)"], rows)


def _whole(result: dict[str, Any], count: int, label: str, report: Report) -> None:
    if result["done"] < count:
        report.lost.append(f"{label}: {count - result['done']} of {count} had no answer")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> int:
    """Measure the parts asked for and print the report."""
    known = [contender for contender in CONTENDERS if not options.only or contender.name in options.only]
    wanted_contenders = [contender for contender in known if options.peers or not contender.peer]
    if options.peers:  # made before anything is measured
        wanted = {contender.peer for contender in known if "calls" in options.part} | ({"clients"} if "rate" in options.part else set())
        for peer in sorted(wanted - {""}):
            environment(options.peers, peer)
    report = Report()
    begun = time.monotonic()
    with served() as (url, folder):
        bench = Bench(url, folder, options.peers, options.quick)
        if "calls" in options.part:
            calls(bench, wanted_contenders, report)
            if left := [contender.title for contender in known if contender not in wanted_contenders]:
                report.lines.append(f"Left out without --peers: {', '.join(left)}.")
        for names, part in ((("step", "warm"), steps), (("memory",), memory), (("rate",), rate)):
            if asked := [name for name in names if name in options.part]:
                report.lines.append("")
                try:
                    part(bench, asked, report)
                except ChildFailed as error:
                    report.lost.append(f"{' and '.join(asked)} could not be measured: {error}")
    print("\n".join(report.lines).strip())
    print(f"\nMeasured in {time.monotonic() - begun:.0f} s on {os.cpu_count()} cores.")
    for line in report.lost:
        print(f"- {line}")
    return 1 if report.lost else 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="of calls, step, warm, memory, rate")
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="CLIENT", help="of the part `calls`: " + ", ".join(names))
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="environments of the peers, made where absent; without it they are left out"
    )
    parser.add_argument("--quick", action="store_true", help="a few calls of each, to see that all of it runs; its figures say nothing")
    options = parser.parse_args(argv)
    return run(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
