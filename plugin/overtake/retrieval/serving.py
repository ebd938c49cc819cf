"""What the programs that serve knowledge bases share: their arguments, the listening socket, the ready file, the end."""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from qdrant_client import QdrantClient

from overtake.retrieval.corpus import read_corpus
from overtake.retrieval.engine import Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.qdrant import QdrantIndex
from overtake.retrieval.service import KnowledgeBase, lexicon_of

ENDING_SECONDS = 30
"""For requests under way when the end is asked for; a client that stalls longer is cut off."""

Key = tuple[str, str]
"""(tenant, kb): the name of a knowledge base."""


class _Server(uvicorn.Server):
    """Says that it is ready once it accepts requests."""

    line = ""
    url = ""
    ready_file: Path | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.ready_file is not None:
            aside = self.ready_file.with_name(f"{self.ready_file.name}.part")
            aside.write_text(self.url, encoding="utf-8")
            aside.replace(self.ready_file)
        print(self.line, flush=True)


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


def open_stored(data: Path, key: Key, path: Path) -> KnowledgeBase:
    """The knowledge base that `data` keeps, made from `path`'s corpus.jsonl when it is not there yet; the lexicon is always `path`'s.

    Nobody else can change it until it is closed or this process ends. Raises ValueError for a bad file, and where another process holds it.
    """
    folder = stored(data, key)
    index = Index.open(folder) if folder.exists() else Index.build(read_corpus(path), folder)
    index.change()
    return KnowledgeBase(index, lexicon_of(path))


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--data, --engine and --url: where documents are kept."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keeps documents and their changes, embedded engine")
    parser.add_argument("--engine", choices=("embedded", "qdrant"), default="embedded", help="what finds documents (default %(default)s)")
    parser.add_argument("--url", help="Qdrant's address; its key is read from QDRANT_API_KEY")


def qdrant(options: argparse.Namespace) -> QdrantClient | None:
    """The client that the engine's options ask for; None for the embedded engine. Raises ValueError for options that contradict."""
    if options.engine == "embedded":
        if options.url:
            raise ValueError(f"--url {options.url}: it goes with --engine qdrant")
        return None
    if not options.url or options.data is not None:
        raise ValueError("--engine qdrant: give --url, and no --data")
    return QdrantClient(url=options.url, api_key=os.environ.get("QDRANT_API_KEY") or None, check_compatibility=False)


def open_remote(client: QdrantClient, key: Key, path: Path) -> KnowledgeBase:
    """The knowledge base that Qdrant keeps, with `path`'s lexicon. Raises ValueError when it is empty or Qdrant does not answer."""
    try:
        base = KnowledgeBase(QdrantIndex(client, key), lexicon_of(path))
        if not len(base):
            raise ValueError(f"{'/'.join(key)}: no documents in Qdrant: load them with tools/index.py first")
    except Unavailable as error:
        raise ValueError(str(error)) from None
    return base


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError when the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ValueError(f"cannot listen on {host} port {port} ({reason}): free it or give another --port (0: any free one)") from None


def run(options: argparse.Namespace, make: Callable[[], tuple[Any, str]]) -> int:
    """Serve until a signal ends it: 0 on SIGTERM, 130 on Ctrl-C, 2 for input that cannot be served.

    `make` reads what is to be served: (the app, the line to print, in which {url} is replaced); it raises ValueError for bad input.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if options.ready_file is not None and not options.ready_file.parent.is_dir():
            raise ValueError(f"--ready-file {options.ready_file}: {options.ready_file.parent} is no folder: make it first")
        app, line = make()
        listening = listen(options.host, options.port)
        return _serve(app, line, listening, options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _serve(app: Any, line: str, listening: socket.socket, options: argparse.Namespace) -> int:
    server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=ENDING_SECONDS))
    host = f"[{options.host}]" if ":" in options.host else options.host
    server.url = f"http://{host}:{listening.getsockname()[1]}"
    server.line = line.replace("{url}", server.url)
    server.ready_file = options.ready_file
    try:
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        server.run(sockets=[listening])
    finally:
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        listening.close()
    return 0
