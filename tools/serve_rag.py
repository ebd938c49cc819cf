"""Serve knowledge bases over HTTP: POST /api/chat/general_rag, POST /api/documents, GET /health, GET /openapi.json, GET /metrics.

    python tools/serve_rag.py datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla --port 8900
    python tools/serve_rag.py fivedoctors=kb/health fivedoctors/faq=kb/faq.jsonl

Each KB is a folder (corpus.jsonl and, if there is one, lexicon.tsv) or a .jsonl file, as PATH, tenant=PATH or tenant/kb=PATH. Without a
tenant, the folder's or the file's own name is the tenant; without a kb, it is "default". A request that finds --queue others waiting is
refused with 503 and Retry-After; --api-key-env asks for a bearer token. OVERTAKE_EMBEDDING_* and OVERTAKE_RERANKER_* name models that stand
beside the words. Several --workers read only; they follow a --data folder that another process changes. Ends with 0 on SIGTERM, once what
is under way is answered, and 130 on Ctrl-C.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from overtake import settings
from overtake.retrieval import serving, stores
from overtake.retrieval.guard import Guard, Limits
from overtake.retrieval.service import AT_ONCE, CANDIDATES, create_app


def make(options: argparse.Namespace) -> tuple[Guard, str]:
    """The service that the options ask for, and the line to print. Raises ValueError for input that cannot be served."""
    for name in ("candidates", "queue", "max_bytes", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}: give at least 1")
    key = settings.api_key(options.api_key_env) if options.api_key_env else ""
    if options.api_key_env and not key:
        raise ValueError(f"--api-key-env {options.api_key_env}: the variable is not set: export it or leave the option out")
    store, alone = stores.Store.of(options), options.workers == 1
    bases = store.load(options.kb) if alone else store.followed(options.kb)
    counts = ", ".join(f"{tenant}/{name} {len(base)} documents" for (tenant, name), base in bases.items())
    beside = [f"found by {base.index.kind}" for base in bases.values() if base.index.kind != "words"][:1]
    beside += [f"reranked by {one.name}" for one in (store.reranker,) if one is not None]
    log = options.access_log.open("a", encoding="utf-8") if options.access_log else None
    at_once = AT_ONCE if any(base.waits for base in bases.values()) else 1
    limits = Limits(-(-options.queue // options.workers), options.max_bytes, key, at_once)
    app = Guard(create_app(bases, options.candidates, changes=alone), limits, log)
    return app, "; ".join([f"serving {{url}}: {counts}", *beside])


def remake(options: argparse.Namespace) -> Guard:
    """A worker's app."""
    return make(options)[0]


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it; 2 for input that cannot be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serving.add_arguments(parser, port=8900)
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="documents scored for each question (default %(default)s)")
    stores.add_engine_arguments(parser)
    parser.add_argument("--workers", type=int, default=1, help="processes that answer; more than one only read (default %(default)s)")
    parser.add_argument("--queue", type=int, default=Limits.queue, help="requests waiting at most (default %(default)s)")
    parser.add_argument("--max-bytes", type=int, default=Limits.body_bytes, help="bytes of a request's body at most (default %(default)s)")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key which requests must bring (default: none asked)")
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="one JSON object a request, without its texts (default: none)")
    options = parser.parse_args(argv)
    return serving.run(options, partial(make, options), options.workers, partial(remake, options))


if __name__ == "__main__":
    sys.exit(main())
