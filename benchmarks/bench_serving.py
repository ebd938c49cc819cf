"""Hold served models under the same load: latency, throughput, tokens and cost, each beside the first one's.

    python benchmarks/bench_serving.py data/test.jsonl --system student=http://127.0.0.1:8000/v1,query-rewrite \\
        --system teacher=https://api.deepseek.com/v1,deepseek-chat --concurrency 16 --requests 200

A system is NAME=URL,MODEL of an OpenAI-compatible address (the model's name is NAME where none is given). The prompts are a .jsonl whose
rows hold `messages` (an answer at their end is left out), or a text with one question a line; they go round until --requests are asked.
The load is closed: --concurrency clients, each of which asks again when it is answered. One request goes before the clock. A failed
request is tried again as everywhere else, its latency counts all tries; what failed in the end is in `failed` alone. USD are by
price where the model has one, else by OVERTAKE_GPU_HOUR_USD. OVERTAKE_STUDENT_API_KEY, where set, is sent to every system.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from overtake import cli, settings
from overtake.data.tables import BadInput, read_objects, write_aside
from overtake.evaluation import costs
from overtake.remote import budget
from overtake.remote.chat import Endpoint, chat_call
from overtake.remote.gateway import Failed, Ok, Result, gateway

COLUMNS = {
    "answered": "answered",
    "failed": "failed",
    "latency_median": "latency s, median",
    "latency_p95": "latency s, p95",
    "requests_s": "requests a second",
    "tokens_s": "tokens out a second",
    "usd_1000": "USD per 1,000",
    "gpu_usd_1000": "GPU USD per 1,000",
}
_COUNTS = ("answered", "failed")


def prompts_of(path: Path) -> list[list[dict[str, str]]]:
    """The conversations of a file, each ending with what is asked. Raises BadInput for a row without one."""
    if path.suffix.lower() != ".jsonl":
        asked = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        conversations = [[{"role": "user", "content": line}] for line in asked]
    else:
        conversations = []
        for number, row in enumerate(filter(None, read_objects(path)), 1):
            turns = row.get("messages")
            if not isinstance(turns, list) or not all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in turns):
                raise BadInput(f"{path}: row {number} has no messages: give rows as training takes them, or a .txt of questions")
            while turns and turns[-1]["role"] == "assistant":
                turns = turns[:-1]
            if not turns:
                raise BadInput(f"{path}: row {number} asks nothing: delete it")
            conversations.append([{"role": str(turn["role"]), "content": str(turn["content"])} for turn in turns])
    if not conversations:
        raise BadInput(f"{path} holds no prompt: write one question a line")
    return conversations


def systems_of(given: Sequence[str]) -> list[Endpoint]:
    """Endpoints of NAME=URL,MODEL; their role is the name. Raises BadInput for what is none, and for a name that stands twice."""
    endpoints: dict[str, Endpoint] = {}
    for argument in given:
        name, _, spec = argument.partition("=")
        url, _, model = spec.partition(",")
        if not name or not url.startswith(("http://", "https://")):
            raise BadInput(f"--system {argument}: give NAME=URL,MODEL with an address that ends in /v1")
        if name in endpoints:
            raise BadInput(f"--system {argument}: {name} stands twice: give each its own name")
        endpoints[name] = Endpoint(name, url, model or name, settings.api_key("OVERTAKE_STUDENT_API_KEY"))
        budget.check(endpoints[name].model)
    return list(endpoints.values())


def load(to: Endpoint, conversations: Sequence[list[dict[str, str]]], args: argparse.Namespace) -> dict[str, Any]:
    """Ask one system `args.requests` times, `args.concurrency` at once; what came of it. Raises Abort when it is dead."""
    through = gateway(f"serving {to.role}", args.concurrency, args.timeout)
    # The number keeps equal prompts apart, which would otherwise share one answer.
    calls = [
        chat_call(to, messages, args.max_tokens, temperature=0.0, cached=False, sample=number, raise_token_limit_on_cutoff=False)
        for number, messages in enumerate(islice(cycle(conversations), args.requests + 1), 1)
    ]
    cli.probe(through, calls.pop())
    begun = time.monotonic()
    results = through.run(calls)
    return measured(results, time.monotonic() - begun)


def measured(results: Sequence[Result], wall: float) -> dict[str, Any]:
    """Counts, latencies, rates and costs of a load that took `wall` seconds.

    >>> found = measured([Ok({"usage": {"prompt_tokens": 5, "completion_tokens": 20}, "usd": 0.003}, seconds=1.0)] * 4, 2.0)
    >>> found["requests_s"], found["tokens_s"], found["usd_1000"]
    (2.0, 40.0, 3.0)
    """
    answers = [result for result in results if isinstance(result, Ok)]
    reasons = Counter(result.kind for result in results if isinstance(result, Failed))
    summary: dict[str, Any] = {"answered": len(answers), "failed": reasons.total(), "reasons": dict(reasons), "wall": wall}
    if not answers:
        return summary
    rows = [costs.Cost(answer.seconds, wall / len(answers), usd=answer.value.get("usd")) for answer in answers]
    summary |= costs.together(rows) | {"requests_s": len(answers) / wall}
    tokens = [usage["completion_tokens"] for answer in answers if (usage := answer.value.get("usage"))]
    if len(tokens) == len(answers):
        summary["tokens_s"] = sum(tokens) / wall
    return summary


def table(by_system: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table: each system's numbers and, behind those of every other one, how many times the first one's they are."""
    first = next(iter(by_system.values()))
    shown = [name for name in COLUMNS if any(name in summary for summary in by_system.values())]

    def cell(summary: Mapping[str, Any], name: str) -> str:
        if name not in summary:
            return "–"
        if name in _COUNTS:
            return f"{summary[name]:,}"
        times = f" ({summary[name] / first[name]:.2f} x)" if summary is not first and first.get(name) else ""
        return f"{summary[name]:,.4g}{times}"

    lines = [
        ["system", *(COLUMNS[name] for name in shown)],
        *([system, *(cell(summary, name) for name in shown)] for system, summary in by_system.items()),
    ]
    lines.insert(1, ["---"] * (len(shown) + 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bench(args: argparse.Namespace) -> int:
    """Load every system in its turn and print the table; returns the exit code, 1 where a request failed."""
    conversations, endpoints = prompts_of(args.prompts), systems_of(args.system)
    by_system = {to.role: load(to, conversations, args) for to in endpoints}
    print(f"{args.requests} requests to each, {args.concurrency} at once, at most {args.max_tokens} tokens each\n\n{table(by_system)}")
    if args.summary:
        asked = {"requests": args.requests, "concurrency": args.concurrency, "max_tokens": args.max_tokens}
        write_aside({args.summary: json.dumps({**asked, "systems": by_system}, ensure_ascii=False, indent=1).encode()})
    return int(any(summary["failed"] for summary in by_system.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 1 some requests failed, 2 bad input or a dead service, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path, help="rows with messages (.jsonl), or a text with one question a line")
    parser.add_argument(
        "--system", action="append", required=True, metavar="NAME=URL,MODEL", help="repeat; the first is what others are held against"
    )
    parser.add_argument("--requests", type=cli.positive, default=100)
    parser.add_argument("--concurrency", type=cli.positive, default=8)
    parser.add_argument("--max-tokens", type=cli.positive, default=150)
    parser.add_argument("--timeout", type=cli.positive, default=120, help="seconds for one try (default %(default)s)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the numbers as JSON too")
    args = parser.parse_args(argv)
    return cli.run(lambda: bench(args))


if __name__ == "__main__":
    sys.exit(main())
