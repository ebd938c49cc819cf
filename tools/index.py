"""Load knowledge bases into the engine that `serve_rag.py` serves them from, in batches; run again, it goes on where it stopped.

    python tools/index.py fivedoctors=my_kb --data kept
    python tools/index.py fivedoctors=my_kb --engine qdrant --url http://localhost:6333

Documents that are there already, word for word, are passed over; those that differ are replaced, and none is deleted. Vectors are written
with them where OVERTAKE_EMBEDDING_* names a model. Exit codes: 0 done, 1 the engine or the model went away (run it again), 2 bad input,
130 interrupted.
"""

import argparse
import sys

from overtake.retrieval import stores
from overtake.retrieval.corpus import Document, read_corpus
from overtake.retrieval.engine import Engine, Unavailable
from tqdm import tqdm


def load(engine: Engine, documents: list[Document], batch: int, name: str) -> int:
    """Write the documents that the engine does not hold as they are; how many were written."""
    written = 0
    with tqdm(total=len(documents), desc=name, unit="doc") as bar:
        for start in range(0, len(documents), batch):
            part = documents[start : start + batch]
            held = set(engine.get({document.id for document in part}))
            new = [document for document in part if document not in held]
            if new:
                engine.change(new)
            written += len(new)
            bar.update(len(part))
    return written


def main(argv: list[str] | None = None) -> int:
    """Load every knowledge base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kb", nargs="+", metavar="KB", help="PATH, tenant=PATH or tenant/kb=PATH")
    stores.add_engine_arguments(parser)
    parser.add_argument("--batch", type=int, default=500, help="documents in one change (default %(default)s)")
    options = parser.parse_args(argv)
    try:
        if options.engine == "embedded" and options.data is None:
            raise ValueError("nowhere to load into: give --data FOLDER, or --engine qdrant with --url")
        if options.batch < 1:
            raise ValueError(f"--batch is {options.batch}: give at least 1")
        store = stores.Store.of(options)
        read = [(key, read_corpus(path)) for key, path in map(stores.named, options.kb)]
        for key, documents in read:
            engine = store.engine(key, [])
            written = load(engine, documents, options.batch, "/".join(key))
            engine.close()
            print(f"{'/'.join(key)}: {written} written, {len(documents) - written} there already, {len(engine)} in all", flush=True)
    except Unavailable as error:
        print(f"error: {error}; run it again to go on", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
