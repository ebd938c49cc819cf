"""Knowledge bases that a program serves or loads, and where their documents are kept: memory, a folder, Qdrant."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from overtake.retrieval import models
from overtake.retrieval.corpus import Document, read_corpus
from overtake.retrieval.dense import Encoder, HybridIndex
from overtake.retrieval.engine import Engine, Unavailable
from overtake.retrieval.index import Index
from overtake.retrieval.service import KnowledgeBase, lexicon_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient  # seconds of import that the embedded engine need not pay

FOLLOW_SECONDS = 1.0
"""Between two looks at a folder that another process changes."""

Key = tuple[str, str]
"""(tenant, kb): the name of a knowledge base."""


def named(argument: str) -> tuple[Key, Path]:
    """Return ((tenant, kb), path) of one KB argument. Raises ValueError when a part is blank.

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


def load(arguments: list[str], read_base: Callable[[Key, Path], KnowledgeBase] | None = None) -> dict[Key, KnowledgeBase]:
    """The knowledge bases, read into memory or by `read_base`. Raises ValueError for a bad file and for a name that stands twice."""
    bases: dict[Key, KnowledgeBase] = {}
    for argument in arguments:
        key, path = named(argument)
        if key in bases:
            raise ValueError(f"{argument!r}: {'/'.join(key)} stands twice: give each its own name as tenant/kb=PATH")
        bases[key] = KnowledgeBase.load(path) if read_base is None else read_base(key, path)
    return bases


def stored(data: Path, key: Key) -> Path:
    """The folder that keeps a knowledge base's documents.

    >>> stored(Path("data"), ("../shop", "faq"))
    PosixPath('data/..%2Fshop@faq')
    """
    return data / "@".join(quote(part, safe="") for part in key)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --data, --engine and --url: where documents are kept."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keeps documents and their changes, embedded engine")
    parser.add_argument("--engine", choices=("embedded", "qdrant"), default="embedded", help="what finds documents (default %(default)s)")
    parser.add_argument("--url", help="Qdrant's address; its key is read from QDRANT_API_KEY")


@dataclass(frozen=True)
class Store:
    """Place where documents are kept, and the models beside them, as the options and the settings say."""

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
            try:
                from qdrant_client import QdrantClient
            except ImportError as error:
                raise ValueError(f"--engine qdrant needs qdrant-client ({error}): pip install -e '.[qdrant]'") from None
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
        """Load the `base` of each KB argument. Raises ValueError as it does, and for a name that stands twice."""
        return load(arguments, lambda key, path: self.base(key, path, changes))

    def followed(self, arguments: list[str]) -> dict[Key, KnowledgeBase]:
        """Load bases for a process that changes nothing: what another changes in a folder is read anew within seconds, for ever."""
        if self.data is None:
            return self.load(arguments, changes=False)
        places = {key: (path, stored(self.data, key) / "meta.json") for key, path in map(named, arguments)}
        states = {key: _state(file) for key, (_, file) in places.items()}  # before they are read, so that no change falls between
        bases = self.load(arguments, changes=False)

        def watch() -> None:
            while True:
                time.sleep(FOLLOW_SECONDS)
                for key, (path, file) in places.items():
                    state = _state(file)
                    if state == states[key]:
                        continue
                    try:
                        bases[key] = self.base(key, path, changes=False)
                        states[key] = state
                    except (ValueError, OSError) as error:
                        print(f"error: {'/'.join(key)} changed and could not be read, the old state is served: {error}", file=sys.stderr)

        threading.Thread(target=watch, name="overtake-follow", daemon=True).start()
        return bases


def _state(file: Path) -> tuple[int, int] | None:
    """What changes with every commit: tantivy writes this file anew and renames it."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns
