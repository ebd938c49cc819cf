"""The misbehaving server as a process of its own, and our side started afresh with settings that name it."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import pytest
from overtake import settings
from overtake.remote import process
from overtake.rewards import reward

SERVER = Path(__file__).with_name("server.py")

# What the gateway is to call each fate; `ok` and `half_pair` are no faults.
KINDS = {
    **dict.fromkeys(("hang", "drip", "drip_head"), "timeout"),
    **dict.fromkeys(("close", "cut", "reset", "reset_half"), "connection"),
    **dict.fromkeys(("flood", "flood_told", "bomb"), "too_large"),
    **dict.fromkeys(("html", "bad_json", "binary", "deep", "wrong_form"), "malformed"),
    "error_inside": "error_inside",
    "redirect": "http_302",
    "empty": "unusable",
    **dict.fromkeys(("length", "max_tokens", "filtered"), "unusable"),
    **dict.fromkeys(("abort", "no_success"), "error_inside"),
    "quota": "http_429",
}


class Chaos:
    """One running server. `log()` holds a row for each request: who asked what, the fate it met, when, and how it ended."""

    def __init__(self, folder, plan):
        ready = folder / f"ready-{time.monotonic_ns()}"
        command = [sys.executable, "-I", SERVER, "--ready-file", ready, "--plan", json.dumps(plan)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not ready.exists():
            assert self.process.poll() is None, "the server did not start"
            time.sleep(0.01)
        self.url = ready.read_text()

    def _ask(self, path):
        with urlopen(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def log(self):
        return self._ask("/log")

    def when(self, requests):
        """Wait until so many requests have come in, 120 s at most."""
        self._ask(f"/when?requests={requests}")

    def reset(self):
        self._ask("/reset")

    @staticmethod
    def kind(row):
        """The gateway's word for what a request of the log met; None for a good answer."""
        if row["fate"] in ("ok", "half_pair"):
            # On a machine that is too busy a good answer may come too late.
            return "timeout" if row["end"] == "left" else None
        return KINDS.get(row["fate"]) or f"http_{row['fate'].split()[0]}"

    def dealt(self, path=""):
        """How many faults of each kind were dealt to requests for this path."""
        kinds = Counter(self.kind(row) for row in self.log() if row["path"].startswith(path))
        kinds.pop(None, None)
        return kinds

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def chaos(tmp_path):
    """chaos(latency=0.02, mix={"503": 0.2}) -> a running server with that plan."""
    started = []

    def chaos(**plan):
        started.append(Chaos(tmp_path, plan))
        return started[-1]

    yield chaos
    for one in started:
        one.end()


def _forget():
    process.forget()
    settings.load.cache_clear()
    reward._batches.clear()


@pytest.fixture
def use(monkeypatch, tmp_path):
    """use(server, RAG_TIMEOUT=1) -> the settings as an environment: the server is RAG service and teacher, the rest as given.

    The process starts afresh: gateways, clients and settings are forgotten, and each server has a cache of its own.
    """
    for name in [name for name in os.environ if name.startswith("OVERTAKE_")]:
        monkeypatch.delenv(name)

    def use(server, **others):
        url = server if isinstance(server, str) else server.url
        chosen = {
            "RAG_URL": url,
            "TEACHER_BASE_URL": f"{url}/v1",
            "TEACHER_MODEL": "m",
            "TEACHER_API_KEY": "first",
            "CACHE_DIR": tmp_path / f"cache-{url.rpartition(':')[2]}",
            **others,
        }
        for name, value in chosen.items():
            monkeypatch.setenv(f"OVERTAKE_{name}", str(value))
        _forget()
        return {name: value for name, value in os.environ.items() if name.startswith("OVERTAKE_")}

    yield use
    _forget()


@pytest.fixture
def ledger():
    """ledger(folder) -> the rows of the ledger in a cache folder, and how many faults of each kind they tell of."""

    def ledger(folder):
        rows = [json.loads(line) for line in (Path(folder) / "ledger.jsonl").read_text("utf-8").splitlines()]
        return rows, sum((Counter(row.get("faults")) for row in rows), Counter())

    return ledger
