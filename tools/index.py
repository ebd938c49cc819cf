"""Load knowledge bases into the engine that `serve_rag.py` serves them from, in batches; run again, it goes on where it stopped.

    python tools/index.py fivedoctors=my_kb --data kept
    python tools/index.py fivedoctors=my_kb --engine qdrant --url http://localhost:6333

Documents that are there already, word for word, are passed over; those that differ are replaced, and none is deleted. Vectors are written
with them where OVERTAKE_EMBEDDING_* names a model. Exit codes: 0 done, 1 the engine or the model went away (run it again), 2 bad input,
130 interrupted.
"""

import sys
from functools import partial

from overtake import cli
from overtake.retrieval import loading

main = partial(cli.main, loading, __doc__)

if __name__ == "__main__":
    sys.exit(main())
