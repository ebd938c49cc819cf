"""Parts that the programs share which serve knowledge bases: arguments, the listening socket, several processes, the ready file, the
end."""

import argparse
import asyncio
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from overtake import settings

ENDING_SECONDS = 30
"""For requests under way when the end is asked for; a client that stalls longer is cut off."""

HEAD_SECONDS = 10.0
"""For a request's line and headers; a connection that brings none is closed."""
HEAD_BYTES = 2**16
"""Of a request's line and headers at most."""
ANSWER_SECONDS = 30.0
"""For a client to take what it was sent; one that does not is cut off."""


class Connection(HttpToolsProtocol):
    """A connection that may neither idle nor stall, and whose answer is sent only when the client has taken all of it.

    uvicorn itself bounds only the time between two requests: a client that sends half a head, or reads nothing, would stay for ever.
    """

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)
        self._head = self.loop.call_later(HEAD_SECONDS, self._end_unasked)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if self._answering():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.transport.abort()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._end_unasked)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._head, self._head_bytes = _cancelled(self._head), 0
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent."""
        super().pause_writing()
        self._stall = _cancelled(self._stall) or self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has taken all."""
        self._stall = _cancelled(self._stall)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._head, self._stall = _cancelled(self._head), _cancelled(self._stall)
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end_unasked(self) -> None:
        self._head = None
        if not self._answering():
            self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer in the place of one, which is cancelled."""
    if timer is not None:
        timer.cancel()
    return None


class _Server(uvicorn.Server):
    """Says that it is ready once it accepts requests."""

    announce: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()


class _Workers(Multiprocess):
    """uvicorn's own supervisor of workers, which replaces one that dies; says that it is ready once all of them are.

    `uvicorn.run(workers=N)` does not: it announces before any worker listens, keeps the port open to clients while the last ones end,
    and exits with 0 on Ctrl-C.
    """

    announce: Callable[[], None]
    interrupted = False

    def init_processes(self) -> None:
        super().init_processes()
        for process in self.processes:
            while not self.should_exit.is_set() and process.process.is_alive() and not process.is_ready(timeout=1):
                self.handle_signals()
                time.sleep(0.05)
        if not self.should_exit.is_set() and all(process.process.is_alive() for process in self.processes):
            self.announce()

    def keep_subprocess_alive(self) -> None:
        before = [process.pid for process in self.processes]
        super().keep_subprocess_alive()
        for pid in {*before} - {process.pid for process in self.processes}:
            mark_process_dead(pid, os.environ["PROMETHEUS_MULTIPROC_DIR"])  # or its queue would be counted for ever

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()  # or new connections would wait for nobody
        super().terminate_all()

    def handle_int(self) -> None:
        self.interrupted = True
        super().handle_int()


def add_arguments(parser: argparse.ArgumentParser, port: int, bases: str = "+") -> None:
    """Add KB... and the address; `bases` is how many KB there must be, as argparse says it."""
    parser.add_argument("kb", nargs=bases, metavar="KB", help="PATH, tenant=PATH or tenant/kb=PATH")
    add_address(parser, port)


def add_address(parser: argparse.ArgumentParser, port: int) -> None:
    """Add --host, --open, --port and --ready-file."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine only)")
    parser.add_argument("--open", action="store_true", help="serve other machines without a key: whoever reaches the port is let in")
    parser.add_argument("--port", type=int, default=port, help="port to listen on; 0 picks a free one (default %(default)s)")
    parser.add_argument("--ready-file", type=Path, help="file that gets the URL once requests are accepted")


def key_of(option: str, variable: str | None) -> str:
    """The key in the variable that an option names; "" where it names none. Raises ValueError when the variable is not set."""
    key = settings.api_key(variable) if variable else ""
    if variable and not key:
        raise ValueError(f"{option} {variable}: the variable is not set: export it or leave the option out")
    return key


def refuse_strangers(options: argparse.Namespace, keyed: bool) -> None:
    """Raise ValueError where other machines could reach what no key guards, unless --open says that it is meant."""
    if not (keyed or options.open or is_loopback(options.host)):
        remedy = "name the variable that holds one with --api-key-env, or say with --open that it is meant"
        raise ValueError(f"--host {options.host} lets other machines in and no key is asked for: {remedy}")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address; a name counts by all of its addresses, one that has none is left to listening.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    try:
        reached = {info[4][0] for info in socket.getaddrinfo(host or None, 0, flags=socket.AI_PASSIVE)}
    except (OSError, UnicodeError):
        return True
    addresses = [ipaddress.ip_address(str(address).partition("%")[0]) for address in reached]
    return all((getattr(address, "ipv4_mapped", None) or address).is_loopback for address in addresses)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError when the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ValueError(f"cannot listen on {host} port {port} ({reason}): free it or give another --port (0: any free one)") from None


def run(options: argparse.Namespace, make: Callable[[], tuple[Any, str]], workers: int = 1, remake: Callable[[], Any] | None = None) -> int:
    """Serve until a signal ends it: 0 on SIGTERM, 130 on Ctrl-C, 2 for input that cannot be served.

    `make` reads what is to be served: (the app, the line to print, in which {url} is replaced); it raises ValueError for bad input.
    With more than one worker it does so to see that all is in order, and `remake`, which must be picklable, makes each worker's app.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if options.ready_file is not None and not options.ready_file.parent.is_dir():
            raise ValueError(f"--ready-file {options.ready_file}: {options.ready_file.parent} is no folder: make it first")
        app, line = make()
        listening = listen(options.host, options.port)
        if remake is None or workers == 1:
            return _serve(app, line, listening, options)
        del app
        return _serve_by_workers(remake, line, listening, options, workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _config(app: Any, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(app, http=Connection, log_level="warning", access_log=False, timeout_graceful_shutdown=ENDING_SECONDS, **more)


def _serve(app: Any, line: str, listening: socket.socket, options: argparse.Namespace) -> int:
    with _announced(line, listening, options) as announce:
        server = _Server(_config(app))
        server.announce = announce
        server.run(sockets=[listening])
    return 0


def _serve_by_workers(remake: Callable[[], Any], line: str, listening: socket.socket, options: argparse.Namespace, workers: int) -> int:
    with tempfile.TemporaryDirectory(prefix="overtake_metrics_") as counts, _announced(line, listening, options) as announce:
        # Where prometheus_client finds this name at its import, the counts of all processes are kept in files and added up.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        supervisor = _Workers(_config(partial(_worker_app, remake), factory=True, workers=workers), [listening])
        supervisor.announce = announce
        supervisor.run()
    if supervisor.interrupted:
        return 130
    return 2 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0


def _worker_app(remake: Callable[[], Any]) -> Any:
    # A supervisor that was killed ends nobody: its workers would keep the port.
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    try:
        return remake()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(STARTUP_FAILURE)


def _end_with(parent: Any) -> None:
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _announced(line: str, listening: socket.socket, options: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """What says that requests are accepted: the ready file, which goes when serving ends, and the line."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    url, file = f"http://{host}:{listening.getsockname()[1]}", options.ready_file

    def announce() -> None:
        if file is not None:
            aside = file.with_name(f"{file.name}.part")
            aside.write_text(url, encoding="utf-8")
            aside.replace(file)
        print(line.replace("{url}", url), flush=True)

    try:
        if file is not None:
            file.unlink(missing_ok=True)
        yield announce
    finally:
        if file is not None:
            file.unlink(missing_ok=True)
        listening.close()
