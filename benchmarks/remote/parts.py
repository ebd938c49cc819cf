"""Our own paths over the gateway: a reward step against the service, the same step on a warm cache, memory over many calls.

`python benchmarks/remote/parts.py JOB_FILE`. Of a reward step the call of RagCompetition is timed, as GRPO makes it: reading the columns,
asking or looking up, scoring. Each step has completions, and a trainer's step, of its own, so nothing that lives for one step helps.
"""

import gc
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from job import Job, work

_GROUP = 8
_BATCH = 500
_EARLY = 10
"""Memory is first read when a tenth of the calls is done."""


def columns(step: int, completions: int) -> dict[str, Any]:
    """GRPO's call for groups of 8 with all that the data can hold, so that each completion takes one retrieval and one verdict."""
    from overtake.remote.rag import Hit
    from overtake.tasks.query_rewrite.rows import COLUMNS, RewriteRow

    numbers = range(completions)
    groups = [number // _GROUP for number in numbers]
    recall = tuple(Hit(f"d{rank}", round(0.9 - 0.1 * rank, 1)) for rank in range(5))
    known = {"teacher_rewrite": "胶原蛋白肽 推荐用量", "teacher_recall": recall, "teacher_judge": 4.0}
    questions = {group: f"脸上松松垮垮的，第{step}步第{group}问，一天吃多少" for group in groups}
    rows = {group: RewriteRow(f"q{step}-{group}", text, "bench", **known).to_columns() for group, text in questions.items()}
    return {
        "completions": [f"皮肤松弛 抗衰老 胶原蛋白肽 推荐用量 {step}-{number}" for number in numbers],
        "trainer_state": SimpleNamespace(global_step=step, max_steps=100),
        "prompt_id": [f"p{step}-{group}" for group in groups],
        "request_id": [f"r{step}-{number}" for number in numbers],
        "dataset": ["train.jsonl"] * completions,
        **{name: [rows[group][name] for group in groups] for name in COLUMNS},
    }


def steps(job: Job) -> None:
    """Seven reward steps after one that opens the connections: their seconds, and for each what the server drew."""
    from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition

    reward = RagCompetition(SimpleNamespace(num_generations=_GROUP))
    batches = [columns(step, job.calls) for step in range(8)]
    job.result["steps"] = []
    for step in batches:
        with job.timed():
            scores = reward(**step)
        job.result["done"] += sum(score is not None for score in scores)
        job.result["steps"].append({name: job.result[name] for name in ("wall", "server")})
    del job.result["steps"][0]


def warm_steps(job: Job) -> None:
    """The steps of `steps` over again, in this process for the first time: seconds of each; the server should not be asked at all."""
    from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition

    reward = RagCompetition(SimpleNamespace(num_generations=_GROUP))
    batches = [columns(step, job.calls) for step in range(8)]
    job.result["walls"] = []
    with job.timed():
        for step in batches:
            begun = time.perf_counter()
            scores = reward(**step)
            job.result["walls"].append(time.perf_counter() - begun)
            job.result["done"] += sum(score is not None for score in scores)


def memory(job: Job) -> None:
    """Megabytes resident when a tenth of the retrievals is done, and when all are."""
    from overtake.remote.gateway import Ok
    from overtake.remote.rag import rag_call, rag_gateway

    gateway = rag_gateway()
    with job.timed():
        for start in range(0, job.calls, _BATCH):
            texts = [f"第{number}问" for number in range(start, min(start + _BATCH, job.calls))]
            results = gateway.run([rag_call(text, text, "bench") for text in texts])
            job.result["done"] += sum(isinstance(result, Ok) for result in results)
            if start < job.calls // _EARLY <= start + _BATCH:
                job.result["mb_early"] = _resident()
    job.result["mb_end"] = _resident()


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    work({part.__name__: part for part in (steps, warm_steps, memory)})
