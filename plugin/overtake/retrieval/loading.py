"""Documents written into an engine in batches, of which those that are there as they are need no writing."""

import argparse
import sys

from tqdm import tqdm

from overtake.retrieval import stores
from overtake.retrieval.corpus import Document, read_corpus
from overtake.retrieval.engine import Engine, Unavailable


def load(engine: Engine, documents: list[Document], batch: int, name: str) -> int:
    """Write the documents that the engine does not hold as they are; how many were written."""
    count = 0
    with tqdm(total=len(documents), desc=name, unit="doc") as bar:
        for start in range(0, len(documents), batch):
            part = documents[start : start + batch]
            present = set(engine.get({document.id for document in part}))
            new = [document for document in part if document not in present]
            if new:
                engine.change(new)
            count += len(new)
            bar.update(len(part))
    return count


def work(args: argparse.Namespace) -> int:
    """Load every knowledge base; 0 done, 1 the engine or the model went away, 2 bad input, 130 interrupted."""
    try:
        if args.engine == "embedded" and args.data is None:
            raise ValueError("nowhere to load into: give --data FOLDER, or --engine qdrant with --url")
        if args.batch < 1:
            raise ValueError(f"--batch is {args.batch}: give at least 1")
        store = stores.Store.of(args)
        bases = [(key, read_corpus(path)) for key, path in map(stores.named, args.kb)]
        for key, documents in bases:
            engine = store.engine(key, [])
            count = load(engine, documents, args.batch, "/".join(key))
            engine.close()
            print(f"{'/'.join(key)}: {count} written, {len(documents) - count} there already, {len(engine)} in all", flush=True)
    except Unavailable as error:
        print(f"error: {error}; run it again to go on", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("kb", nargs="+", metavar="KB", help="PATH, tenant=PATH or tenant/kb=PATH")
    stores.add_engine_arguments(parser)
    parser.add_argument("--batch", type=int, default=500, help="documents in one change (default %(default)s)")
