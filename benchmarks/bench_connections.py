"""Hold connections of the RAG service open, idle and slow, and see what its questions take beside: seconds, memory, what becomes of them.

    python benchmarks/bench_connections.py                      # 10,000 that say nothing, 512 that send a body and never end it

Starts serve_rag.py on the fivedoctors sample. A question is asked alone, beside the idle connections, beside both kinds, and after the
service has closed them. Needs as many file descriptors here and there: `ulimit -n` is raised to what the machine allows.
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from overtake.cli import positive, run
from overtake.data.tables import BadInput

ROOT = Path(__file__).resolve().parents[1]
_PATH = "/api/chat/general_rag"
_HALF = f"POST {_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{{".encode()
_ASKED = 20


def raise_limit(wanted: int) -> None:
    """Allow so many file descriptors. Raises BadInput where the machine does not."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        raise BadInput(f"{wanted} file descriptors are needed and {most} allowed: raise `ulimit -Hn`, or ask for fewer connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def ask(port: int) -> float:
    """Seconds that a question takes; raises what urllib raises where it is not answered."""
    body = json.dumps({"query": "胶原蛋白", "tenant_id": "fivedoctors"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{_PATH}", body, {"Content-Type": "application/json"})
    begun = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["data"]["recall"]
    return time.monotonic() - begun


def ended(connections: Sequence[socket.socket], seconds: float) -> Counter[str]:
    """What the service says on each of these until it closes it: an HTTP status, "closed" without a word, or "open"."""
    until, outcomes = time.monotonic() + seconds, Counter[str]()
    for connection in connections:
        connection.settimeout(max(0.05, until - time.monotonic()))
        try:
            words = connection.recv(64)
            outcomes[words.split()[1].decode() if words else "closed"] += 1
        except ConnectionResetError:
            outcomes["closed"] += 1
        except TimeoutError:
            outcomes["open"] += 1
    return outcomes


def work(args: argparse.Namespace) -> int:
    """Measure and print a line for each state; 0."""
    raise_limit(args.idle + args.slow + 500)
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "url"
        words = [sys.executable, str(ROOT / "tools/serve_rag.py"), str(ROOT / "datasets/query_rewrite/fivedoctors")]
        service = subprocess.Popen([*words, "--port", "0", "--ready-file", str(ready)], stdout=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if service.poll() is not None:
                    raise BadInput(f"{words[1]} ended with {service.returncode}")
                time.sleep(0.05)
            port = int(ready.read_text().rpartition(":")[2])

            def say(state: str) -> None:
                took = [ask(port) for _ in range(_ASKED)]
                megabytes = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20
                print(f"{state:34} {1000 * median(took):6.1f} ms, at most {1000 * max(took):6.1f} ms, {megabytes} MB", flush=True)

            say("alone")
            begun = time.monotonic()
            idle = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(args.idle)]
            say(f"beside {args.idle:,} idle")
            slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(args.slow)]
            for connection in slow:
                connection.sendall(_HALF)
            say(f"beside {args.idle:,} idle, {args.slow} slow")
            for name, connections in (("slow", slow), ("idle", idle)):
                summary = ", ".join(f"{count:,} {how}" for how, count in ended(connections, 60).most_common())
                print(f"the {name} ones: {summary}, {time.monotonic() - begun:.0f} s after the first was opened")
            say("after them")
        finally:
            service.terminate()
            service.wait()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 measured, 2 where it could not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--idle", type=positive, default=10_000, help="connections that say nothing (default %(default)s)")
    parser.add_argument("--slow", type=positive, default=512, help="connections whose body never ends (default %(default)s)")
    args = parser.parse_args(argv)
    return run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
