"""Serve knowledge bases over HTTP: POST /api/chat/general_rag, GET /health, GET /openapi.json.

    python tools/serve_rag.py datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla --port 8900
    python tools/serve_rag.py fivedoctors=kb/health fivedoctors/faq=kb/faq.jsonl

Each KB is a folder (corpus.jsonl and, if there is one, lexicon.tsv) or a .jsonl file, as PATH, tenant=PATH or tenant/kb=PATH. Without a
tenant, the folder's or the file's own name is the tenant; without a kb, it is "default". Ends with 0 on SIGTERM and 130 on Ctrl-C.
"""

import argparse
import sys

from fastapi import FastAPI
from overtake.retrieval import serving
from overtake.retrieval.service import CANDIDATES, create_app


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it; 2 for input that cannot be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serving.add_arguments(parser, port=8900)
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="documents scored for each question (default %(default)s)")
    options = parser.parse_args(argv)

    def make() -> tuple[FastAPI, str]:
        if options.candidates < 1:
            raise ValueError(f"--candidates is {options.candidates}: give at least 1")
        bases = serving.load(options.kb)
        counts = ", ".join(f"{tenant}/{name} {len(base.documents)} documents" for (tenant, name), base in bases.items())
        return create_app(bases, options.candidates), f"serving {{url}}: {counts}"

    return serving.run(options, make)


if __name__ == "__main__":
    sys.exit(main())
