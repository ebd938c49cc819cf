"""State of one process for its remote calls: one event loop in a daemon thread, and clients, each made once.

ms-swift makes a new loop at every step, which breaks clients and semaphores bound to the old one; this loop
lives as long as the process. A forked child makes everything afresh.
"""

import asyncio
import atexit
import contextlib
import ctypes
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_CLOSING_SECONDS = 2.0

T = TypeVar("T")

_of_process: dict[str, Any] = {}
_guard = threading.Lock()


def once(name: str, make: Callable[[], T]) -> T:
    """Make `name` once in this process; a forked child makes its own, since threads and sockets do not survive a fork."""
    with _guard:
        if _of_process.get("pid") != os.getpid():
            _of_process.clear()
            _of_process["pid"] = os.getpid()
        if name not in _of_process:
            _of_process[name] = make()
        return _of_process[name]


def _leave_to_parent() -> None:
    """In a forked child: start afresh and never free what was the parent's.

    A freed aiohttp client closes its connections, which takes them off the epoll that parent and child share: the parent would wait
    for answers that it is never told of.
    """
    global _guard, _of_process
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_of_process))
    _guard, _of_process = threading.Lock(), {}


os.register_at_fork(after_in_child=_leave_to_parent)


def loop() -> asyncio.AbstractEventLoop:
    """The loop that all remote calls of this process run on."""

    def start() -> asyncio.AbstractEventLoop:
        new_loop = asyncio.new_event_loop()

        def run() -> None:
            try:
                new_loop.run_forever()
            finally:
                new_loop.close()

        threading.Thread(target=run, name="overtake-gateway", daemon=True).start()
        return new_loop

    return once("loop", start)


def client(name: str, make: Callable[[], T]) -> T:
    """A client object kept for the life of the process. To be called inside `Call.send`, so that it is made on the gateway's loop.

    At exit its `aclose()`, else its `close()`, is called on that loop.
    """
    return once(f"client-{name}", make)


def _close_clients() -> None:
    """End what is under way and close the clients, within _CLOSING_SECONDS; aiohttp prints complaints about sessions left open.

    A client that has more to do says so by its `closing_seconds`, such as a store with answers that are in memory alone.
    """
    resources = dict(_of_process)  # no lock: whoever holds it may never return
    if resources.get("pid") != os.getpid() or "loop" not in resources:
        return  # nothing was called here; a forked child has no thread that runs its parent's loop

    async def close() -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSING_SECONDS / 2)
        for name, resource in resources.items():
            closing = getattr(resource, "aclose", None) or getattr(resource, "close", None)
            if name.startswith("client-") and closing:
                _of_process.pop(name, None)
                with contextlib.suppress(Exception):
                    closed = closing()
                    if inspect.isawaitable(closed):
                        await closed

    more = sum(getattr(resource, "closing_seconds", 0.0) for name, resource in resources.items() if name.startswith("client-"))
    with contextlib.suppress(Exception, KeyboardInterrupt):
        asyncio.run_coroutine_threadsafe(close(), resources["loop"]).result(_CLOSING_SECONDS + more)


atexit.register(_close_clients)


def forget() -> None:
    """Close the clients, end the loop and remember nothing, as a process that has called nobody yet; for tests."""
    _close_clients()
    old_loop = _of_process.get("loop")
    _of_process.clear()
    if old_loop is not None:
        old_loop.call_soon_threadsafe(old_loop.stop)
