"""Questions over HTTP to a running service: `python load.py JOB`; JOB.result gets its peak by one and many clients, and p99 at half of it.

Clients are bare keep-alive connections, so that little of the two cores goes to them. The peak is found with every client asking again
as soon as it is answered; half of it is then asked for at fixed times, and a question's time runs from when it was due.
"""

import asyncio
import json
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from texts import questions


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head[9:12])


def requests(task: dict[str, Any]) -> list[bytes]:
    """The bytes of each question's request."""
    encoded = []
    for text in questions(Path(task["corpus"])):
        body = json.dumps({"query": text, "rewritten_query": text, "tenant_id": task["tenant"], "score_threshold": 0}).encode()
        head = f"POST /api/chat/general_rag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        encoded.append(head.encode() + body)
    return encoded


async def peak(task: dict[str, Any], clients: int) -> dict[str, float]:
    """Every client asks again at once."""
    asked, turn, taken = requests(task), count(), []
    connections = [Client(*await asyncio.open_connection("127.0.0.1", task["port"])) for _ in range(clients)]
    begun = time.perf_counter()

    async def work(client: Client) -> None:
        while not taken or time.perf_counter() - begun < task["seconds"]:
            start = time.perf_counter()
            assert await client.ask(asked[next(turn) % len(asked)]) == 200
            taken.append(time.perf_counter() - start)

    await asyncio.gather(*map(work, connections))
    return {"qps": len(taken) / (time.perf_counter() - begun), "p99": 1000 * float(np.quantile(taken, 0.99))}


async def steady(task: dict[str, Any], rate: float, clients: int) -> float:
    """p99 in ms at so many questions a second."""
    asked, taken = requests(task), []
    free: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(clients):
        free.put_nowait(Client(*await asyncio.open_connection("127.0.0.1", task["port"])))
    begun = time.perf_counter()

    async def one(number: int) -> None:
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        client = await free.get()
        assert await client.ask(asked[number % len(asked)]) == 200
        free.put_nowait(client)
        taken.append(time.perf_counter() - due)

    await asyncio.gather(*(one(number) for number in range(1 + int(rate * task["seconds"]))))
    return 1000 * float(np.quantile(taken, 0.99))


async def work(task: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    await peak({**task, "seconds": min(1.0, task["seconds"])}, 4)  # warm
    single, many = await peak(task, 1), await peak(task, task["clients"])
    return {"one": single, "many": many, "half": await steady(task, max(single["qps"], many["qps"]) / 2, task["clients"])}


if __name__ == "__main__":
    job = Path(sys.argv[1])
    result = asyncio.run(work(json.loads(job.read_text(encoding="utf-8"))))
    job.with_suffix(".result").write_text(json.dumps(result), encoding="utf-8")
