"""Several processes: forked children, the ranks of torchrun, and importers that never call anything."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from .conftest import said


def run(program, *arguments, **how):
    return subprocess.run(
        [sys.executable, *how.pop("flags", ()), "-c", program, *arguments], capture_output=True, text=True, timeout=120, **how
    )


# ---------------------------------------------------------------- fork

FORK = """
import os, sys
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.rag import rag_call, rag_gateway

def ask(text):
    return chat_gateway("teacher").submit([chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10)])

def say(who, *futures):
    for future in futures:
        (result,) = future.result(timeout=60)
        print(who, result.value["text"], result.cached, flush=True)

say("parent", ask("kept"))
under_way = ask("slow")          # the fork happens within this call
while not os.path.exists(sys.argv[1]):
    pass
child = os.fork()
if not child:
    say("child", ask("kept"), ask("new"))
    sys.exit(0)
os.waitpid(child, 0)
open(sys.argv[2], "w").close()   # the slow answer may come
say("parent", under_way, ask("new"), ask("last"))
print(chat_gateway("teacher").meter.calls)
"""


def test_parent_and_child_both_go_on_after_a_fork_within_a_call(service, tmp_path):
    came, go = tmp_path / "came", tmp_path / "go"

    def answer(body):
        text = body["messages"][0]["content"]
        if text == "slow":
            came.touch()
            while not go.exists():
                time.sleep(0.01)
        return said(text)

    service.answer = answer
    ended = run(FORK, came, go)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "parent kept False",
        "child kept True",
        "child new False",
        "parent slow False",
        "parent new True",
        "parent last False",
        "4",
    ]


CHILDREN = """
import os, sys
from overtake.remote.rag import rag_call, rag_gateway
from overtake.remote.gateway import Ok

def ask(text):
    (result,) = rag_gateway().run([rag_call("问", text, "t")])
    assert isinstance(result, Ok), result

ask("before")
children = []
for number in range(6):
    child = os.fork()
    if not child:
        ask(f"child {number}")
        if number % 2:               # a child's child
            if not os.fork():
                ask(f"grandchild {number}")
                os._exit(0)
            os.wait()
        os._exit(0)                  # as a loader's worker ends
    children.append(child)
    ask(f"parent {number}")
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
ask("after")
"""


def test_a_pool_of_forked_workers_keeps_one_cache_and_one_ledger(service, tmp_path):
    ended = run(CHILDREN)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * (2 + 6 + 6 + 3)
    assert len({row["pid"] for row in rows}) == 1 + 6 + 3


# ---------------------------------------------------------------- torchrun

RANK = """
import json, os, sys, time
from pathlib import Path
from overtake.remote.chat import chat_call, chat_gateway, endpoint

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])

def ask(role, *texts):
    return chat_gateway(role).run([chat_call(endpoint(role), [{"role": "user", "content": text}], 10) for text in texts])

def meet(name):
    (folder / f"{name}-{rank}").touch()
    while len(list(folder.glob(f"{name}-*"))) < 2:
        time.sleep(0.01)

if rank == 0:
    assert [result.cached for result in ask("teacher", "common")] == [False]
meet("asked")
shared = [result.cached for result in ask("teacher", "common")]
meet("met")
ask("judge", *(f"slow {rank} {number}" for number in range(8)))
began = time.monotonic()
ask("teacher", *(f"quick {rank} {number}" for number in range(13)))
took = time.monotonic() - began
(folder / f"rank{rank}.json").write_text(json.dumps({"shared": shared, "took": took, "places": chat_gateway("judge").concurrency}))
"""


def test_two_ranks_of_torchrun_share_the_cache_and_each_keeps_its_part_of_the_limits(service, monkeypatch, tmp_path):
    now, most, texts, lock = 0, 0, [], threading.Lock()

    def answer(body):
        nonlocal now, most
        text = body["messages"][0]["content"]
        with lock:
            texts.append(text)
            now += text.startswith("slow")
            most = max(most, now)
        if text.startswith("slow"):
            time.sleep(0.3)
            with lock:
                now -= 1
        return said()

    service.answer = answer
    for name, value in {"JUDGE_BASE_URL": f"{service.url}/v1", "JUDGE_CONCURRENCY": "5", "TEACHER_RPM": "720"}.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", tmp_path / "rank.py", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["shared"] for one in found] == [[True], [True]]
    assert len(texts) == len(set(texts)) == 1 + 2 * (8 + 13)
    assert [one["places"] for one in found] == [3, 2] and most <= 5
    # 6 requests a second each; that it is not faster is no matter of how busy the machine is.
    assert all(one["took"] >= 12 / 6 for one in found)


# ---------------------------------------------------------------- import

IMPORT = """
import sys, threading
events = []
watched = {"socket.__new__", "socket.connect", "sqlite3.connect", "os.mkdir", "subprocess.Popen", "os.fork", "urllib.Request", "os.remove"}

def watch(event, arguments):
    if event in watched or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o1103):  # for writing
        events.append((event, str(arguments)))

sys.addaudithook(watch)
import overtake.remote.rag, overtake.remote.chat, overtake.tasks.query_rewrite.judge
heavy = {"aiohttp", "openai", "httpx", "httpx2", "requests", "torch", "swift", "transformers", "numpy", "pandas"}
print(events, heavy & {name.split(".")[0] for name in sys.modules}, threading.active_count())
"""


def test_importing_costs_nothing(service, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")} | {"HOME": str(home)}
    ended = run(IMPORT, flags=["-B"], env=environment)
    assert (ended.stdout, ended.stderr) == ("[] set() 1\n", "")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "code", ["", "rag_call('问', '改', 't'); chat_call(endpoint('teacher'), [], 10); rag_gateway(); chat_gateway('teacher')"]
)
def test_making_calls_and_gateways_asks_and_writes_nothing(service, tmp_path, code):
    program = f"""
import sys, threading
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.rag import rag_call, rag_gateway
{code}
print(threading.active_count(), {{"aiohttp", "openai"}} & set(sys.modules))
"""
    ended = run(program)
    assert (ended.stdout, ended.stderr) == ("1 set()\n", "")
    assert list(tmp_path.iterdir()) == []
