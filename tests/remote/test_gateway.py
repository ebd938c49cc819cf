"""The end of a process that made remote calls: quick, silent, with its clients closed."""

import subprocess
import sys
import time

import pytest
from overtake.remote import process

from .conftest import said

CALLS = """
import atexit, gc, os, sys, time

@atexit.register  # before the gateway's, so it runs after
def last():
    import aiohttp
    if os.getpid() == parent:
        # by type(), since the openai package holds proxies that import half of it when their class is asked for
        left = [one for one in gc.get_objects() if issubclass(type(one), aiohttp.ClientSession) and not one.closed]
        print(began, len(left))

parent, began = os.getpid(), 0.0
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Call, Ok
from overtake.remote.process import client
from overtake.remote.rag import rag_call, rag_gateway

def rag(text):
    return rag_gateway().submit([rag_call("问", text, "t")])

def chat(text):
    return chat_gateway("teacher").submit([chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 100)])

assert all(isinstance(result, Ok) for future in (rag("改"), chat("问")) for result in future.result())
"""

BLOCKED = """
async def block():
    time.sleep(60)
chat_gateway("blocked").submit([Call({}, block)])
time.sleep(0.5)
"""

BROKEN = """
class Broken:
    def close(self):
        raise RuntimeError("no")
client("broken", Broken)
"""

FORK = """
child = os.fork()
if not child:
    assert isinstance(rag("子").result()[0], Ok)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""

IDLE_FORK = """
child = os.fork()
if not child:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert isinstance(rag("父").result()[0], Ok)
"""


@pytest.mark.parametrize(
    ("code", "left"),
    [
        pytest.param("", 0, id="calls that are done"),
        pytest.param("chat('慢'); time.sleep(0.5)", 0, id="a call under way"),
        # Its client belongs to a loop that is busy; waiting for it is given up.
        pytest.param(BLOCKED, 1, id="a loop that does not answer"),
        pytest.param(BROKEN, 0, id="a client that cannot be closed"),
        pytest.param(FORK, 0, id="a forked child that calls"),
        pytest.param(IDLE_FORK, 0, id="a forked child that does not"),
    ],
)
def test_a_process_ends_soon_and_silently_with_its_clients_closed(service, code, left):
    service.answer = lambda body: said() if body["messages"][0]["content"] != "慢" else (time.sleep(30), said())[1]
    program = f"{CALLS}\n{code}\nbegan = time.monotonic()\nsys.exit(3)"
    ended = subprocess.run([sys.executable, "-W", "default::ResourceWarning", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (3, "")
    began, sessions = ended.stdout.split()
    assert int(sessions) == left
    assert len(service.limits) == 1 + code.count("chat("), "what is given up is not asked for, and billed, again"
    assert time.monotonic() - float(began) < 10


def test_the_clients_are_closed_in_whatever_way_they_close(service):
    closed = []

    class Aclose:
        async def aclose(self):
            closed.append("aclose")

        def close(self):
            closed.append("never")

    class Close:
        def close(self):
            closed.append("close")

    process.loop()
    for make in (Aclose, Close, object):
        process.client(make.__name__, make)
    process._close_clients()
    assert closed == ["aclose", "close"]
    process._close_clients()
    assert closed == ["aclose", "close"], "a client is closed once"
