"""Job of one measured process, and its clock: wall and CPU between two marks, and what the server counted meanwhile."""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

SYSTEM = (
    "你是健康知识库的检索改写助手。请把用户的口语问题改写成一条能检索到答案的查询：保留全部意图，使用专业术语，简短、单行、不解释。" * 3
)


@dataclass
class Job:
    """One process's work."""

    name: str
    url: str
    folder: str
    """Of its own, empty."""
    calls: int
    concurrency: int = 64
    served: dict[str, float] = field(default_factory=dict)
    """What the server is set to besides the concurrency: seed, rag, chat, jitter, rate (server.py)."""
    result: dict[str, Any] = field(default_factory=lambda: {"done": 0})
    """Filled while it works: calls that were answered (`done`), seconds of `wall` and `cpu`, and the server's counts as `server`."""

    @property
    def texts(self) -> list[str]:
        """One question for each call, all different."""
        return [f"第{number}问：脸上松松垮垮的，晚上也睡不好，这个一天吃多少才合适" for number in range(self.calls)]

    def retrieval(self, text: str) -> dict[str, Any]:
        """The body of a retrieval."""
        return {"query": text, "rewritten_query": text, "tenant_id": "bench", "kb_name": "default", "top_k": 5, "score_threshold": 0.5}

    def messages(self, text: str) -> list[dict[str, str]]:
        """The conversation of a chat call."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Count what happens inside, from a server that begins anew."""
        self.ask_server("/reset?" + urlencode({**self.served, "concurrency": self.concurrency}))
        cpu, begun = _cpu_seconds(), time.perf_counter()
        yield
        self.result |= {"wall": time.perf_counter() - begun, "cpu": _cpu_seconds() - cpu, "server": self.ask_server("/stats")}

    def ask_server(self, target: str) -> Any:
        """Return what the server says of its own."""
        with urlopen(self.url + target, timeout=60) as response:
            return json.load(response)


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def work(known: dict[str, Callable[[Job], None]]) -> None:
    """`python FILE JOB_FILE`: do the job that stands there as JSON, by its name, and write its result beside it."""
    path = Path(sys.argv[1])
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    known[job.name](job)
    path.with_suffix(".result").write_text(json.dumps(job.result), encoding="utf-8")
