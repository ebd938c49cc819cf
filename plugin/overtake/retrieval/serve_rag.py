"""The RAG service as its options ask for it: knowledge bases, models, limits, workers."""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TextIO

from fastapi import FastAPI

from overtake.retrieval import serving, stores
from overtake.retrieval.guard import Limits, add_guard
from overtake.retrieval.service import AT_ONCE, CANDIDATES, create_app


def service(options: argparse.Namespace) -> tuple[FastAPI, str]:
    """The service that the options ask for, and the line to print. Raises ValueError for input that cannot be served."""
    for name in ("candidates", "queue", "max_bytes", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}: give at least 1")
    key, change_key = (serving.key_of(f"--{name}-key-env", getattr(options, f"{name}_key_env")) for name in ("api", "change"))
    if change_key and change_key == key:
        raise ValueError(
            f"--change-key-env {options.change_key_env}: the key is that of --api-key-env: give another, or leave the option out"
        )
    serving.refuse_strangers(options, keyed=bool(key))
    store, alone = stores.Store.of(options), options.workers == 1
    bases = store.load(options.kb) if alone else store.followed(options.kb)
    counts = ", ".join(f"{tenant}/{name} {len(base)} documents" for (tenant, name), base in bases.items())
    beside = [f"found by {base.index.kind}" for base in bases.values() if base.index.kind != "stems"][:1]
    beside += [f"reranked by {model.name}" for model in (store.reranker,) if model is not None]
    log = _log(options.access_log) if options.access_log else None
    at_once = AT_ONCE if any(base.waits for base in bases.values()) else 1
    limits = Limits(-(-options.queue // options.workers), options.max_bytes, key, at_once, change_key)
    app = add_guard(create_app(bases, options.candidates, changes=alone), limits, log)
    return app, "; ".join([f"serving {{url}}: {counts}", *beside])


def _log(path: Path) -> TextIO:
    # A log says who asks when: nobody else's business.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")


def worker(options: argparse.Namespace) -> FastAPI:
    """The app of one of several workers."""
    return service(options)[0]


def work(args: argparse.Namespace) -> int:
    """Serve until a signal ends it; 0 on SIGTERM, 2 for input that cannot be served, 130 on Ctrl-C."""
    return serving.run(args, partial(service, args), args.workers, partial(worker, args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    serving.add_arguments(parser, port=8900)
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="documents scored for each question (default %(default)s)")
    stores.add_engine_arguments(parser)
    parser.add_argument("--workers", type=int, default=1, help="processes that answer; more than one only read (default %(default)s)")
    parser.add_argument("--queue", type=int, default=Limits.queue, help="requests waiting at most (default %(default)s)")
    parser.add_argument("--max-bytes", type=int, default=Limits.body_bytes, help="bytes of a request's body at most (default %(default)s)")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key which requests must bring (default: none asked)")
    parser.add_argument(
        "--change-key-env", metavar="NAME", help="variable that holds the key for changing documents (default: the same key)"
    )
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="one JSON object a request, without its texts (default: none)")
