"""Serve knowledge bases over HTTP: POST /api/chat/general_rag, POST /api/documents, GET /health, GET /openapi.json, GET /metrics.

    python tools/serve_rag.py datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla --port 8900
    python tools/serve_rag.py fivedoctors=kb/health fivedoctors/faq=kb/faq.jsonl

Each KB is a folder (corpus.jsonl and, if there is one, lexicon.tsv) or a .jsonl file, as PATH, tenant=PATH or tenant/kb=PATH. Without a
tenant, the folder's or the file's own name is the tenant; without a kb, it is "default". A request that finds --queue others waiting is
refused with 503 and Retry-After; --api-key-env asks for a bearer token. Ends with 0 on SIGTERM, once what is under way is answered, and
130 on Ctrl-C.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from overtake.retrieval import serving
from overtake.retrieval.guard import Guard, Limits
from overtake.retrieval.service import CANDIDATES, create_app


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it; 2 for input that cannot be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serving.add_arguments(parser, port=8900)
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="documents scored for each question (default %(default)s)")
    serving.add_engine_arguments(parser)
    parser.add_argument("--queue", type=int, default=Limits.queue, help="requests waiting at most (default %(default)s)")
    parser.add_argument("--max-bytes", type=int, default=Limits.body_bytes, help="bytes of a request's body at most (default %(default)s)")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key which requests must bring (default: none asked)")
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="one JSON object a request, without its texts (default: none)")
    options = parser.parse_args(argv)

    def make(stack: ExitStack) -> tuple[Guard, str]:
        if options.candidates < 1:
            raise ValueError(f"--candidates is {options.candidates}: give at least 1")
        for name in ("queue", "max_bytes"):
            if getattr(options, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}: give at least 1")
        key = os.environ.get(options.api_key_env, "") if options.api_key_env else ""
        if options.api_key_env and not key:
            raise ValueError(f"--api-key-env {options.api_key_env}: the variable is not set: export it or leave the option out")
        keep, client = options.data, serving.qdrant(options)
        if client is not None:
            bases = serving.load(options.kb, lambda key, path: serving.open_remote(client, key, path))
        else:
            bases = serving.load(options.kb, None if keep is None else lambda key, path: serving.open_stored(keep, key, path))
        counts = ", ".join(f"{tenant}/{name} {len(base)} documents" for (tenant, name), base in bases.items())
        log = stack.enter_context(options.access_log.open("a", encoding="utf-8")) if options.access_log else None
        guarded = Guard(create_app(bases, options.candidates), Limits(options.queue, options.max_bytes, key), log)
        return guarded, f"serving {{url}}: {counts}"

    with ExitStack() as stack:
        return serving.run(options, lambda: make(stack))


if __name__ == "__main__":
    sys.exit(main())
