"""Measure what our rewards add to a GRPO step: against the same step with a constant reward, in one run whose steps alternate.

    python benchmarks/bench_grpo.py
    python benchmarks/bench_grpo.py --model my/model --completions 16 -- --model_type qwen3 --template qwen3 --max_completion_length 150

One real run of recipes/grpo_rag.sh. In each round there is one step of every kind, in an order drawn by --seed:

    constant  both rewards give 0.0 and ask nobody
    local     rag_competition and rewrite_rules on services of this machine, started and warmed up before: serve_rag.py for retrieval,
              the mock teacher of serve_teacher.py as judge of the usual share of the groups
    slow      the same rewards on a service that answers retrieval and judge after 200 ms each

A step lasts from its beginning to the beginning of the next, logging included. Completions are sampled anew each step, so the cache
answers nothing; no end token is sampled, so all have the full length (with vLLM they end by themselves); the learning rate is 0.
Before each step, and not measured, the services are asked once, so that connections are open as after a step of the same kind.
Without --model the student is the quickstart's in shape, with random weights, and PROFILE=cpu: then step and services share the
cores, and a step is so short that it is the hardest case. What stands behind `--` goes to the recipe.

Prints a table in Markdown, each ratio or difference as the median over the rounds' pairs with its 95 % bootstrap interval, and whether
it is under the target. A benchmark: exit code 0 whatever it finds, 2 when it could not be measured.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from overtake import settings
from overtake.cli import Abort, positive, run
from overtake.data.tables import BadInput, json_lines
from overtake.remote.rag import Hit
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.retrieval.service import KnowledgeBase
from overtake.tasks.query_rewrite import prompts
from overtake.tasks.query_rewrite.rows import RewriteRow
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "datasets/query_rewrite/fivedoctors"
KINDS = ("constant", "local", "slow")
GROUP = 8
ROUND_SECONDS = 0.2
"""What the slow service takes, and so a service round."""
MOST_RATIO, MOST_ROUNDS = 1.05, 1.0
"""The targets: a step on local services against a constant one, and the rounds that a slow service may add."""
RESAMPLES = 10_000
MOST_RANKS = 64


# ---------------------------------------------------------------- statistics


class Estimate(NamedTuple):
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float

    def against(self, target: float) -> str:
        """Return whether it is at most `target`: "PASS" or "over", or "undecided" while the interval holds the target.

        >>> Estimate(1.04, 1.03, 1.05).against(1.05), Estimate(1.06, 1.04, 1.08).against(1.05)
        ('PASS', 'undecided')
        """
        return "PASS" if self.high <= target else "over" if self.low > target else "undecided"


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The median of `values` with its 95 % percentile bootstrap interval over 10,000 resamples (Efron 1979).

    >>> estimate([1.0, 1.0, 1.0])
    Estimate(median=1.0, low=1.0, high=1.0)
    """
    import numpy as np

    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).choice(sample, (RESAMPLES, len(sample)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Estimate(float(np.median(sample)), float(low), float(high))


def order(warmup: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """The steps of a run: {"round", "kind"}, each kind once a round in random order; rounds of the warm-up count from below 0 to -1.

    >>> [step["round"] for step in order(1, 1, seed=0)]
    [-1, -1, -1, 0, 0, 0]
    """
    drawn = random.Random(seed)
    return [{"round": number, "kind": kind} for number in range(-warmup, rounds) for kind in drawn.sample(KINDS, len(KINDS))]


def by_kind(steps: Sequence[Mapping[str, Any]], field: str = "seconds") -> dict[str, list[float]]:
    """A field of the measured steps by kind, in the order of rounds, so that equal places are of the same round."""
    measured = sorted((step for step in steps if step["round"] >= 0), key=lambda step: step["round"])
    return {kind: [step[field] for step in measured if step["kind"] == kind] for kind in KINDS}


def report(steps: Sequence[Mapping[str, Any]]) -> str:
    """The table and a line for each target."""
    import numpy as np

    def pairs(of: Callable[[float, float], float], kind: str, to: str) -> Estimate:
        return estimate([of(ours, other) for ours, other in zip(seconds[kind], seconds[to], strict=True)])

    def show(shown: Estimate, form: str) -> str:
        return f"{shown.median:{form}} [{shown.low:{form}}, {shown.high:{form}}]"

    seconds, rewards = by_kind(steps), by_kind(steps, "reward_seconds")
    rag, judge = by_kind(steps, "rag"), by_kind(steps, "judge")
    titles = {"constant": "constant", "local": "ours, local services", "slow": f"ours, services of {ROUND_SECONDS * 1000:g} ms"}
    lines = [
        "| reward | step, s | in rewards, s | RAG calls | judge calls | x constant | - constant, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        cells = [titles[kind], f"{np.median(seconds[kind]):.3f}", f"{np.median(rewards[kind]):.3f}"]
        cells += [f"{np.mean(rag[kind]):.1f}", f"{np.mean(judge[kind]):.1f}"]
        ratio, more = pairs(lambda ours, other: ours / other, kind, "constant"), pairs(lambda ours, other: ours - other, kind, "constant")
        cells += ["1", "0"] if kind == "constant" else [show(ratio, ".3f"), show(more, "+.3f")]
        lines.append(f"| {' | '.join(cells)} |")
    ratio = pairs(lambda ours, other: ours / other, "local", "constant")
    words = f"local services make a step {show(ratio, '.3f')} times as long; target at most {MOST_RATIO:g}"
    lines += ["", f"{ratio.against(MOST_RATIO)}: {words}"]
    share = estimate([spent / (whole - spent) for spent, whole in zip(rewards["local"], seconds["local"], strict=True)])
    lines.append(f"inside the rewards on local services, waiting included: {show(share, '.3f')} of the rest of the same step")
    for to, name in (("local", "on local services"), ("constant", "with a constant reward")):
        rounds = pairs(lambda ours, other: (ours - other) / ROUND_SECONDS, "slow", to)
        words = f"services of {ROUND_SECONDS * 1000:g} ms add {show(rounds, '.2f')} rounds to a step {name}; target at most {MOST_ROUNDS:g}"
        lines.append(f"{rounds.against(MOST_ROUNDS)}: {words}")
    return "\n".join(lines)


# ---------------------------------------------------------------- inside the training process

PLUGIN = """\
import sys

sys.path.insert(0, {tools!r})
import bench_grpo

bench_grpo.register({folder!r})
"""

_now = SimpleNamespace(kind="constant", reward_seconds=0.0)


def register(folder: str) -> None:
    """Put the alternating rewards in the place of ours, and the clock beside them; called by the plugin that `measure` writes."""
    import overtake
    from swift.callbacks import callbacks_map
    from swift.rewards import orms

    overtake.register()
    for name in ("rag_competition", "rewrite_rules"):
        # What is registered imports its class when it is called, and is none itself.
        orms[name] = alternating(type(orms[name](args=None)))
    callbacks_map["bench_grpo"] = lambda args, trainer: clock(Path(folder), trainer)


def alternating(reward: type) -> type:
    """The reward, of the same name, which in constant steps gives 0.0 and else counts its seconds, without those that it waits in the
    background."""

    def start(self: Any, completions: Sequence[str], **columns: Any) -> None:
        if _now.kind != "constant" and hasattr(reward, "start"):
            begun = time.perf_counter()
            reward.start(self, completions, **columns)
            _now.reward_seconds += time.perf_counter() - begun

    def call(self: Any, completions: Sequence[str], **columns: Any) -> Any:
        if _now.kind == "constant":
            return [0.0] * len(completions)
        begun = time.perf_counter()
        try:
            return reward.__call__(self, completions, **columns)
        finally:
            _now.reward_seconds += time.perf_counter() - begun

    return type(reward.__name__, (reward,), {"__call__": call, "start": start})


def clock(folder: Path, trainer: Any) -> Any:
    """The callback that sets each step's kind as plan.json says, and writes what it took into steps.jsonl."""
    from overtake.remote import rag
    from overtake.tasks.query_rewrite import judge as judging
    from transformers import TrainerCallback

    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))

    def counts() -> dict[str, int]:
        doors = {"rag": rag.rag_gateway().meter, "judge": judging.judge_gateway().meter}
        counted = {name: meter.requests for name, meter in doors.items()}
        kept = sum(meter.cached for meter in doors.values())
        return counted | {"cached": kept, "failed": sum(meter.failed.total() + meter.faults.total() for meter in doors.values())}

    class Clock(TrainerCallback):
        step: dict[str, Any] | None = None
        before: Mapping[str, int]
        begun = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not args.use_vllm:
                trainer.engine.generation_config.suppress_tokens = trainer.processing_class.all_special_ids

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ended = time.perf_counter()
            if self.step and state.is_world_process_zero:
                spent = {name: count - self.before[name] for name, count in counts().items()}
                row = {**self.step, "seconds": ended - self.begun, "reward_seconds": _now.reward_seconds, **spent}
                with (folder / "steps.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            steps = plan["steps"]
            # One step more than is measured, whose beginning is the end of the last.
            self.step = steps[state.global_step] if state.global_step < len(steps) else None
            _now.kind, _now.reward_seconds = self.step["kind"] if self.step else "constant", 0.0
            # The gateways stay, with what they know of their service; only where the next calls go to changes.
            os.environ.update(plan["services"][_now.kind])
            settings.load.cache_clear()
            open_connections(plan["completions"])
            self.before = counts()
            self.begun = time.perf_counter()

    return Clock()


def open_connections(count: int) -> None:
    """Ask the services as many calls at once as a step of `count` completions does, none of them kept. Raises Abort when one fails."""
    from overtake.remote import rag
    from overtake.remote.gateway import Failed
    from overtake.tasks.query_rewrite import judge as judging

    asked = [rag.rag_call("预热", f"预热 {number}", SAMPLE.name) for number in range(count)]
    judged = [judging.judge_call("预热", f"预热 {number}") for number in range(round(count * settings.load().judge_share))]
    doors = ((rag.rag_gateway(), asked), (judging.judge_gateway(), judged))
    under_way = [door.submit([replace(call, cached=False) for call in calls]) for door, calls in doors]
    for result in (result for future in under_way for result in future.result()):
        if isinstance(result, Failed):
            raise Abort(result.reason)


# ---------------------------------------------------------------- services and data


def serve_slowly(ready_file: str) -> None:
    """Serve both interfaces with one answer each, `ROUND_SECONDS` after the request came; the URL goes to `ready_file`."""
    from aiohttp import web

    recall = [{"doc_id": f"d{place}", "reranker_score": 0.6 - place / 100} for place in range(5)]
    recall_list = {"code": 0, "message": "ok", "data": {"recall": recall}}
    message = {"role": "assistant", "content": json.dumps({"综合得分": 3.0, "评分理由": "保留要点2/3"}, ensure_ascii=False)}
    usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    judged = {"model": "slow", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    def answering(value: object) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.Response:
            due = time.monotonic() + ROUND_SECONDS
            await request.read()
            await asyncio.sleep(due - time.monotonic())
            return web.json_response(value)

        return answer

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/api/chat/general_rag", answering(recall_list))
        app.router.add_post("/v1/chat/completions", answering(judged))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
        aside = Path(f"{ready_file}.part")
        aside.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}", encoding="utf-8")
        aside.replace(ready_file)
        await asyncio.Event().wait()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(serve())


@contextmanager
def service(folder: Path, name: str, command: Sequence[str]) -> Iterator[str]:
    """A service while the context lasts; gives its URL, which the command writes into the file that stands last in it."""
    ready, log = folder / f"{name}.url", folder / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen([*command, str(ready)], stdout=file, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            if ready.exists():
                break
            if process.poll() is not None:
                raise Abort(f"the {name} service did not start: {log.read_text('utf-8')[-300:]}")
            time.sleep(0.1)
        else:
            raise Abort(f"the {name} service was not ready within a minute")
        yield ready.read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait()


def rows() -> Iterator[dict[str, Any]]:
    """Training rows of the sample's labelled questions, as tools/convert.py writes them; the teacher is the service's own rewrite."""
    base, queries, tenant = KnowledgeBase.load(SAMPLE), read_queries(SAMPLE), SAMPLE.name
    for key, labels in read_qrels(SAMPLE, "train").items():
        question = queries[key]["text"]
        row = RewriteRow(
            key,
            question,
            tenant,
            gold=tuple(labels),
            teacher_rewrite=base.own_rewrite(question),
            teacher_recall=tuple(Hit(hit.doc_id, hit.reranker_score) for hit in base.retrieve(question, None, score_threshold=0.0)),
            teacher_judge=2.5,
        )
        yield {"messages": prompts.rewrite_messages(tenant, question), **row.to_columns()}


# ---------------------------------------------------------------- the run


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Services, data, model and the training run; returns its steps. Raises Abort when they could not be measured."""
    tool, python = str(Path(__file__).parent), sys.executable
    steps = order(options.warmup, options.rounds, options.seed)
    (folder / "rows.jsonl").write_bytes(json_lines(rows()))
    (folder / "plugin.py").write_text(PLUGIN.format(tools=tool, folder=str(folder)), encoding="utf-8")
    # Settings from outside would be measured with; the others say where Python and GPUs are.
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"PATH": f"{Path(python).parent}:{env['PATH']}", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    env |= {"SFT_ADAPTER": "none", "DATASET": str(folder / "rows.jsonl"), "OUTPUT_DIR": str(folder / "run")}
    env |= {"OVERTAKE_CACHE_DIR": str(folder / "cache"), "OVERTAKE_OUTAGE_PATIENCE": "10"}
    # A place for every call of a step, however many ranks share them.
    env |= dict.fromkeys(("OVERTAKE_RAG_CONCURRENCY", "OVERTAKE_TEACHER_CONCURRENCY"), str(options.completions * MOST_RANKS))
    flags = ["--external_plugins", str(folder / "plugin.py"), "--callbacks", "overtake_metrics", "bench_grpo"]
    flags += ["--per_device_train_batch_size", str(options.completions), "--gradient_accumulation_steps", "1"]
    flags += ["--max_steps", str(len(steps) + 1), "--learning_rate", "0", "--temperature", "1.0", "--top_p", "1.0"]
    flags += ["--max_completion_length", "24", "--max_length", "512", "--truncation_strategy", "left"]
    flags += ["--eval_strategy", "no", "--save_strategy", "no"]
    model = options.model
    if not model:
        model = str(folder / "model")
        student = [python, "-m", "demo.tiny_students.tiny_model", model, "--corpus", str(SAMPLE), "--tenant", SAMPLE.name, "--steps", "0"]
        subprocess.run(student, check=True, stdout=sys.stderr)
        env = {"PROFILE": "cpu"} | env
        flags += ["--model_type", "qwen3", "--template", "qwen3"]
    with ExitStack() as stack:
        serve = [f"{SAMPLE}", "--port", "0", "--ready-file"]
        local = stack.enter_context(service(folder, "rag", [python, str(ROOT / "tools/serve_rag.py"), *serve]))
        judge = stack.enter_context(service(folder, "judge", [python, "-m", "demo.serve_teacher", *serve]))
        code = f"import sys; sys.path.insert(0, {tool!r}); import bench_grpo; bench_grpo.serve_slowly(sys.argv[1])"
        slow = stack.enter_context(service(folder, "slow", [python, "-c", code]))
        services = {kind: addresses(slow, slow) if kind == "slow" else addresses(local, judge) for kind in KINDS}
        (folder / "plan.json").write_text(
            json.dumps({"steps": steps, "services": services, "completions": options.completions}), encoding="utf-8"
        )
        recipe = ["bash", str(ROOT / "recipes/grpo_rag.sh"), *flags, *options.flags]
        train(recipe, env | services["constant"] | {"MODEL": model}, folder, len(steps))
    recorded = read_lines(folder / "steps.jsonl")
    failed = sum(step["failed"] for step in recorded)
    if failed:
        raise Abort(f"{failed} calls failed, so steps are longer than they need be: see cache/ledger.jsonl (keep it with --out)")
    return recorded


def addresses(rag: str, judge: str) -> dict[str, str]:
    """The settings that name these services."""
    return {"OVERTAKE_RAG_URL": rag, "OVERTAKE_TEACHER_BASE_URL": f"{judge}/v1", "OVERTAKE_TEACHER_MODEL": "overtake-stand-in"}


def train(command: Sequence[str], env: Mapping[str, str], folder: Path, steps: int) -> None:
    """Run the recipe to its end, with progress on standard error. Raises Abort with its last words when it fails."""
    log, done = folder / "train.log", folder / "steps.jsonl"
    with log.open("w") as file, tqdm(total=steps, desc="training", unit="step", file=sys.stderr) as bar:
        process = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(1)
                bar.update(len(read_lines(done)) - bar.n)
            bar.update(len(read_lines(done)) - bar.n)
        finally:
            process.terminate()  # the recipe ends its whole group on it
            process.wait()
    if process.returncode:
        last = " ".join(log.read_text("utf-8", errors="replace")[-600:].split())
        raise Abort(f"the training run failed with status {process.returncode}: {last}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, none while there is no file; a line that is still being written is left out."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def conditions(options: argparse.Namespace, folder: Path, steps: Sequence[Mapping[str, Any]], load: float) -> str:
    """Return what was measured and where: model, completions, their length, cores, how busy the machine was."""
    logged = [line for line in read_lines(folder / "run/logging.jsonl") if "completions/mean_length" in line]
    shortest = min(line.get("completions/min_length", 0) for line in logged)
    longest = max(line.get("completions/max_length", 0) for line in logged)
    model = options.model or "the quickstart's student (random weights)"
    cached = sum(step["cached"] for step in steps)
    return (
        f"{model}, {options.completions} completions of {shortest:g} to {longest:g} tokens a step and process; {options.rounds} rounds, "
        f"{cached} calls answered from the cache\n{os.cpu_count()} cores, load {load:.1f} before it began: others' work, if any"
    )


def bench(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.completions % GROUP:
        raise BadInput(f"--completions is {options.completions}: give a multiple of {GROUP}, whole groups")
    if options.out and options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise BadInput(f"{options.out} is there already: choose another folder or remove it")
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = (options.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench_grpo_")))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        steps = measure(options, folder)
        print(conditions(options, folder, steps, load), report(steps), sep="\n\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub name or folder (default: a tiny one is made)")
    parser.add_argument("--completions", type=positive, default=64, help="of a step and process, whole groups of 8 (default %(default)s)")
    parser.add_argument("--rounds", type=positive, default=30, help="measured steps of each kind (default %(default)s)")
    parser.add_argument("--warmup", type=positive, default=3, help="rounds before them that are not measured (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of steps (default %(default)s)")
    parser.add_argument("--out", type=Path, help="new folder that keeps steps.jsonl, ledger and logs (default: nothing is kept)")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="for the recipe, e.g. -- --max_completion_length 150")
    options = parser.parse_args(argv)
    return run(lambda: bench(options))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # services and run end with this process
    sys.exit(main())
