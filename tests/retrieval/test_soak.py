"""200,000 questions while documents change, against the service as a process: every answer is right, and its memory stays flat."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "datasets" / "query_rewrite" / "fivedoctors"
REQUESTS = 200_000
CLIENTS = 8
QUESTIONS_A_CHANGE = 100
NEW = 5
"""Documents of a change; so the cache of 4,096 documents is full before half of the questions are asked."""
CACHES_MB, FLAT_MB = 40, 4
"""From the first tenth to the last, and over the last four."""


@pytest.fixture
def service(tmp_path):
    """(its process, its port)."""
    ready, log = tmp_path / "url", tmp_path / "access.jsonl"
    command = [sys.executable, ROOT / "tools/serve_rag.py", SAMPLE, "--port", 0, "--ready-file", ready, "--data", tmp_path / "data"]
    process = subprocess.Popen([str(part) for part in [*command, "--access-log", log]], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    yield process, int(ready.read_text().rpartition(":")[2]), log
    process.kill()
    process.wait()


async def connect(port):
    """ask(path, fields) -> (status, answer), over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(path, **fields):
        body = json.dumps({"tenant_id": "fivedoctors", **fields}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(answer[9:12]), json.loads(await reader.readexactly(length))

    return ask


async def soak(pid, port, questions):
    """(faults, MB of each hundredth, changes made)."""
    faults, memory, done, asked, changes = [], [], count(), 0, 0

    async def question():
        nonlocal asked
        ask, rng = await connect(port), random.Random(0)
        while (number := next(done)) < REQUESTS:
            # Every third question is one that was never asked before, so that no cache could hold all.
            text = rng.choice(questions) + (f" {number}" if number % 3 == 0 else "")
            status, answer = await ask("/api/chat/general_rag", query=text, rewritten_query=text, score_threshold=0)
            if status != 200 or not answer["data"]["recall"]:
                faults.append((status, text, answer))
            asked += 1
            if number % (REQUESTS // 100) == 0:
                memory.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)

    async def change():
        nonlocal changes
        ask = await connect(port)
        while changes < REQUESTS // QUESTIONS_A_CHANGE:
            while asked < QUESTIONS_A_CHANGE * changes:
                await asyncio.sleep(0.001)
            word = f"soak{changes}"
            new = [{"id": f"n{(changes + place) % 50}", "text": f"{word} 新到货 {place}"} for place in range(NEW)]
            status, answer = await ask("/api/documents", documents=new, delete=[f"n{(changes + 25) % 50}"])
            seen = await ask("/api/chat/general_rag", query=word, rewritten_query=word, score_threshold=0)
            found = {hit["content"] for hit in seen[1]["data"]["recall"]} if seen[0] == 200 else set()
            if status != 200 or not {one["text"] for one in new} <= found:
                faults.append((status, word, answer, seen))
            changes += 1

    asking = [asyncio.create_task(question()) for _ in range(CLIENTS)]
    await asyncio.gather(*asking, change())
    return faults, memory, changes


@pytest.mark.slow
@pytest.mark.release
def test_200000_questions_with_documents_changing_bring_no_error_and_no_growth(service):
    process, port, log = service
    questions = [json.loads(line)["text"] for line in (SAMPLE / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    begun = time.monotonic()
    faults, memory, changes = asyncio.run(soak(process.pid, port, questions))
    tenths = [fmean(memory[start : start + 10]) for start in range(0, 100, 10)]
    taken, shown = time.monotonic() - begun, [round(one, 1) for one in tenths]
    print(f"\n{REQUESTS:,} questions and {changes:,} changes in {taken:.0f} s; MB by tenths {shown}")
    assert faults == []
    assert tenths[-1] - tenths[0] < CACHES_MB
    assert tenths[-1] - tenths[-4] < FLAT_MB
    process.terminate()
    assert process.wait(timeout=40) == 0
    with log.open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == REQUESTS + 2 * changes
