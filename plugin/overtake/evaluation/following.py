"""The page of runs while they train: served on this machine alone, made anew when a log has grown, until all of them have ended."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from overtake import settings
from overtake.data.tables import BadInput
from overtake.evaluation import report
from overtake.evaluation.curves import read_log
from overtake.task import Task

RENEW = 10
"""Seconds between two looks at the logs, and between two of the browser's."""
_SAMPLES = 4
_END_OF_TRACE = 256 * 1024
_HERE = ("127.0.0.1", "localhost")
_WAITING = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}"><link rel="icon" href="data:,"><title>Overtake</title></head>
<body><p>No run has logged two steps yet. 还没有训练记录到两步。</p></body></html>"""


def follow(out: Path, runs: Sequence[str], evaluation: Path | None, tasks: Sequence[Task], port: int = 0) -> int:
    """Serve the page of runs (each NAME=FOLDER) on 127.0.0.1 until all have ended, then write it to `out`; port 0: a free one.

    Raises BadInput for a folder that is not there, and OSError for a port that is taken.
    """
    folders = report.parse(runs)
    for name, folder in folders.items():
        if not folder.is_dir():
            raise BadInput(f"--run {name}={folder}: no such folder: give the output folder of a training that has begun")
    live = _Live(_WAITING.format(seconds=RENEW))
    with ThreadingHTTPServer(("127.0.0.1", port), _handler(lambda: live.page)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}/ is renewed every {RENEW} s and ends with the run", flush=True)
        try:
            while not all(map(ended, folders.values())):
                live.renew(folders, evaluation, tasks)
                time.sleep(RENEW)
            written = report.write(out, runs, evaluation, tasks)
            # An open page comes once more for the last one, which asks for no other.
            live.page = out.read_text(encoding="utf-8")
            time.sleep(2 * RENEW)
        finally:
            server.shutdown()
    return written


def ended(folder: Path) -> bool:
    """Return whether a run's log ends with what is logged behind the last step."""
    try:
        rows = read_log(folder)
    except BadInput:
        return False
    return any("train_runtime" in row for row in rows[-2:])


def last_samples(folder: Path, count: int = _SAMPLES) -> list[dict[str, Any]]:
    """Return the last samples that a run has traced, newest first: {"step", "completion", "parts" (each part of the reward), "total"}."""
    file = folder / "trace.jsonl"
    if not file.is_file():
        return []
    with file.open("rb") as trace:
        trace.seek(max(0, file.stat().st_size - _END_OF_TRACE))
        lines = trace.read().split(b"\n")
    samples: list[dict[str, Any]] = []
    for line in reversed(lines[:-1]):  # what stands behind the last newline is still being written
        try:
            row = json.loads(line)
        except ValueError:
            break  # the first line of the part is half of one
        if "completion" in row:
            parts = {**row.get("rewards", {}), **row.get("parts", {})}
            samples.append({"step": row.get("step"), "completion": row["completion"], "parts": parts, "total": row.get("total")})
        if len(samples) == count:
            break
    return samples


class _Live:
    """The page as it is now."""

    def __init__(self, page: str) -> None:
        self.page = page
        self._seen: list[int] = []

    def renew(self, runs: Mapping[str, Path], evaluation: Path | None, tasks: Sequence[Task]) -> None:
        """Make the page anew where a file of a run has changed; the old one stays while a log cannot be read or holds too little."""
        files = [folder / name for folder in runs.values() for name in ("logging.jsonl", "alarms.jsonl", "trace.jsonl")]
        now = [file.stat().st_mtime_ns if file.is_file() else 0 for file in files]
        if now == self._seen:
            return
        samples = {name: last_samples(folder) for name, folder in runs.items()}
        try:
            self.page = report.page(runs, evaluation, tasks, report.Live(RENEW, samples, settings.load().budget_hard))
        except BadInput:
            return
        self._seen = now


def _handler(current: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    """Return the handler that answers / with the current page, to a browser of this machine alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another site's page, whose name was made to lead here, is not answered.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            status = 403 if host not in _HERE else 404 if self.path.partition("?")[0] != "/" else 200
            body = current().encode() if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each request."""

    return Handler
