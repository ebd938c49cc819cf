"""Serve knowledge bases over HTTP: POST /api/chat/general_rag, POST /api/documents, GET /health, GET /openapi.json, GET /metrics.

    python tools/serve_rag.py datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla --port 8900
    python tools/serve_rag.py fivedoctors=kb/health fivedoctors/faq=kb/faq.jsonl

Each KB is a folder (corpus.jsonl and, if there is one, lexicon.tsv) or a .jsonl file, as PATH, tenant=PATH or tenant/kb=PATH. Without a
tenant, the folder's or the file's own name is the tenant; without a kb, it is "default". A request that finds --queue others waiting is
refused with 503 and Retry-After; --api-key-env asks for a bearer token. OVERTAKE_EMBEDDING_* and OVERTAKE_RERANKER_* name models that stand
beside the words. Several --workers read only; they follow a --data folder that another process changes. Ends with 0 on SIGTERM, once what
is under way is answered, and 130 on Ctrl-C.
"""

import sys
from functools import partial

from overtake import cli
from overtake.retrieval import serve_rag

main = partial(cli.main, serve_rag, __doc__)

if __name__ == "__main__":
    sys.exit(main())
