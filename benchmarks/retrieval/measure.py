"""One engine at one size in a process of its own: `python measure.py JOB`, where JOB is a JSON file; JOB.result gets what was found."""

import json
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from overtake.retrieval.index import words

sys.path.insert(0, str(Path(__file__).parent))
from engines import ENGINES
from texts import documents, questions


def resident() -> float:
    """This process's memory in MB, and that of the processes it has started (milvus-lite has a server)."""
    import psutil

    here = psutil.Process()
    return sum(process.memory_info().rss for process in (here, *here.children(recursive=True))) / 2**20


def ask(engine: Any, asked: list[Any], seconds: float, threads: int) -> dict[str, float]:
    """Questions a second and the milliseconds of the slowest in a hundred, from so many threads at once."""
    taken: list[list[float]] = [[] for _ in range(threads)]
    turn, begun = count(), time.perf_counter()

    def work(mine: list[float]) -> None:
        while not mine or time.perf_counter() - begun < seconds:
            question = asked[next(turn) % len(asked)]
            start = time.perf_counter()
            engine.search(question)
            mine.append(time.perf_counter() - start)

    if threads == 1:
        work(taken[0])
    else:
        running = [threading.Thread(target=work, args=(mine,)) for mine in taken]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    wall = time.perf_counter() - begun
    every = np.concatenate([np.array(mine) for mine in taken])
    return {"qps": len(every) / wall, "p50": 1000 * float(np.quantile(every, 0.5)), "p99": 1000 * float(np.quantile(every, 0.99))}


def main(job: Path) -> None:
    """Measure what the job says."""
    task = json.loads(job.read_text(encoding="utf-8"))
    corpus, asked = documents(Path(task["corpus"]), task["size"]), questions(Path(task["corpus"]))
    kind = ENGINES[task["engine"]][0]
    with tempfile.TemporaryDirectory(dir=job.parent) as folder:
        words("预热")  # its dictionary is loaded at the first word, and is in everybody's memory
        engine, before, start = kind(Path(folder)), resident(), time.perf_counter()
        engine.build(corpus)
        result: dict[str, Any] = {"index": time.perf_counter() - start, "memory": resident() - before}
        ready = asked if kind.cuts else [words(question) for question in asked]
        for question in ready[:20]:
            engine.search(question)
        result["one"] = ask(engine, ready, task["seconds"], 1)
        result["many"] = ask(engine, ready, task["seconds"], task["threads"])
        if hasattr(engine, "add"):
            start = time.perf_counter()
            engine.add([(f"new{number}", text) for number, (_, text) in enumerate(corpus[:100])])
            result["add"] = time.perf_counter() - start
    start = time.perf_counter()
    for question in asked:
        words(question)
    result["cut"] = 1000 * (time.perf_counter() - start) / len(asked)
    job.with_suffix(".result").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
