"""What the programs that serve knowledge bases share: their arguments, the listening socket, the ready file, the end."""

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from overtake.retrieval import models
from overtake.retrieval.corpus import Document, read_corpus
from overtake.retrieval.dense import Encoder, HybridIndex
from overtake.retrieval.engine import Engine, Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.service import KnowledgeBase, lexicon_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient  # seconds of import that the embedded engine need not pay

ENDING_SECONDS = 30
"""For requests under way when the end is asked for; a client that stalls longer is cut off."""

FOLLOW_SECONDS = 1.0
"""Between two looks at a folder that another process changes."""

Key = tuple[str, str]
"""(tenant, kb): the name of a knowledge base."""


class _Server(uvicorn.Server):
    """Says that it is ready once it accepts requests."""

    announce: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()


class _Workers(Multiprocess):
    """Says that it is ready once all of its processes are; a process that dies is replaced."""

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
        for one in self.sockets:
            one.close()  # or new connections would wait for nobody
        super().terminate_all()

    def handle_int(self) -> None:
        self.interrupted = True
        super().handle_int()


def add_arguments(parser: argparse.ArgumentParser, port: int, bases: str = "+") -> None:
    """KB..., --host, --port and --ready-file; `bases` is how many KB there must be, as argparse says it."""
    parser.add_argument("kb", nargs=bases, metavar="KB", help="PATH, tenant=PATH or tenant/kb=PATH")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine only)")
    parser.add_argument("--port", type=int, default=port, help="port to listen on; 0 picks a free one (default %(default)s)")
    parser.add_argument("--ready-file", type=Path, help="file that gets the URL once requests are accepted")


def named(argument: str) -> tuple[Key, Path]:
    """((tenant, kb), path) of one KB argument. Raises ValueError when a part is blank.

    >>> named("shop/faq=kb/faq.jsonl")
    (('shop', 'faq'), PosixPath('kb/faq.jsonl'))
    """
    name, equals, place = argument.partition("=")
    if not equals or Path(argument).exists():
        path = Path(argument).resolve()
        return (path.name if path.is_dir() else path.stem, "default"), Path(argument)
    tenant, slash, kb = name.partition("/")
    if not (tenant and place) or (slash and not kb):
        raise ValueError(f"{argument!r}: write PATH, tenant=PATH or tenant/kb=PATH")
    return (tenant, kb or "default"), Path(place)


def load(arguments: list[str], read: Callable[[Key, Path], KnowledgeBase] | None = None) -> dict[Key, KnowledgeBase]:
    """The knowledge bases, read into memory or by `read`. Raises ValueError for a bad file and for a name that stands twice."""
    bases: dict[Key, KnowledgeBase] = {}
    for argument in arguments:
        key, path = named(argument)
        if key in bases:
            raise ValueError(f"{argument!r}: {'/'.join(key)} stands twice: give each its own name as tenant/kb=PATH")
        bases[key] = KnowledgeBase.load(path) if read is None else read(key, path)
    return bases


def stored(data: Path, key: Key) -> Path:
    """The folder that keeps a knowledge base's documents.

    >>> stored(Path("data"), ("../shop", "faq"))
    PosixPath('data/..%2Fshop@faq')
    """
    return data / "@".join(quote(part, safe="") for part in key)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--data, --engine and --url: where documents are kept."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keeps documents and their changes, embedded engine")
    parser.add_argument("--engine", choices=("embedded", "qdrant"), default="embedded", help="what finds documents (default %(default)s)")
    parser.add_argument("--url", help="Qdrant's address; its key is read from QDRANT_API_KEY")


@dataclass(frozen=True)
class Store:
    """Where documents are kept, and the models beside them, as the options and the settings say."""

    data: Path | None
    client: "QdrantClient | None"
    encoder: Encoder | None
    reranker: models.RemoteReranker | models.LocalReranker | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Store":
        """Raises ValueError for options that contradict each other and for a model that cannot be read."""
        if options.engine == "embedded" and options.url:
            raise ValueError(f"--url {options.url}: it goes with --engine qdrant")
        if options.engine == "qdrant" and (not options.url or options.data is not None):
            raise ValueError("--engine qdrant: give --url, and no --data")
        client = None
        if options.engine == "qdrant":
            from qdrant_client import QdrantClient

            client = QdrantClient(url=options.url, api_key=os.environ.get("QDRANT_API_KEY") or None, check_compatibility=False)
        return cls(options.data, client, models.encoder(), models.reranker())

    def engine(self, key: Key, first: list[Document]) -> Engine:
        """The engine that keeps the documents of a knowledge base; a folder that is not there yet is made of `first`.

        Raises ValueError for a folder of another form or model, Unavailable where Qdrant or the encoder does not answer.
        """
        if self.client is not None:
            from overtake.retrieval.qdrant import QdrantIndex

            return QdrantIndex(self.client, key, self.encoder)
        assert self.data is not None
        folder = stored(self.data, key)
        if folder.exists():
            return Index.open(folder) if self.encoder is None else HybridIndex(Index.open(folder), self.encoder)
        return Index.build(first, folder) if self.encoder is None else HybridIndex.build(first, self.encoder, folder)

    def base(self, key: Key, path: Path, changes: bool = True) -> KnowledgeBase:
        """The knowledge base under a name, with `path`'s lexicon: kept where there is --data or Qdrant, else read from `path` into memory.

        `changes`: nobody else can change a folder until it is closed or this process ends.
        Raises ValueError for a bad file, a folder that another process changes, an empty Qdrant, and for whatever does not answer.
        """
        try:
            if self.client is None and self.data is None:
                return KnowledgeBase.load(path, self.reranker, self.encoder)
            there = self.data is None or stored(self.data, key).exists()
            engine = self.engine(key, [] if there else read_corpus(path))
            if self.client is not None and not len(engine):
                raise ValueError(f"{'/'.join(key)}: no documents in Qdrant: load them with tools/index.py first")
            if self.data is not None and changes:
                engine.change()
            return KnowledgeBase(engine, lexicon_of(path), self.reranker)
        except Unavailable as error:
            raise ValueError(str(error)) from None

    def load(self, arguments: list[str], changes: bool = True) -> dict[Key, KnowledgeBase]:
        """`base` of each KB argument. Raises ValueError as it does, and for a name that stands twice."""
        return load(arguments, lambda key, path: self.base(key, path, changes))

    def followed(self, arguments: list[str]) -> dict[Key, KnowledgeBase]:
        """`load` for a process that changes nothing: what another process changes in a folder is read anew within seconds, for ever."""
        if self.data is None:
            return self.load(arguments, changes=False)
        places = {key: (path, stored(self.data, key) / "meta.json") for key, path in map(named, arguments)}
        seen = {key: _state(file) for key, (_, file) in places.items()}  # before they are read, so that no change falls between
        bases = self.load(arguments, changes=False)

        def watch() -> None:
            while True:
                time.sleep(FOLLOW_SECONDS)
                for key, (path, file) in places.items():
                    state = _state(file)
                    if state == seen[key]:
                        continue
                    try:
                        bases[key] = self.base(key, path, changes=False)
                        seen[key] = state
                    except (ValueError, OSError) as error:
                        print(f"error: {'/'.join(key)} changed and could not be read, the old state is served: {error}", file=sys.stderr)

        threading.Thread(target=watch, name="overtake-follow", daemon=True).start()
        return bases


def _state(file: Path) -> tuple[int, int] | None:
    """What changes with every commit: tantivy writes this file anew and renames it."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


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
    return uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=ENDING_SECONDS, **more)


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
