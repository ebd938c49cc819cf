"""Whether a chain may go on with a file some of whose rows got no answer.

    python -m overtake.unanswered teacher.xlsx

A small model writes what cannot be used now and then, asked twice or ten times: those rows are left out. Where many are, something else is
wrong, and what would be trained on is another set than the user's.
"""

import sys
from pathlib import Path

from overtake.cli import Abort, beside, run
from overtake.data import tables

MOST = 0.5
"""Share of the rows that may go without: by it a tool stops too, when so many of its first calls fail."""


def check(output: Path) -> int:
    """Print how many rows of a tool's output have no answer, by the list of failures beside it. Raises Abort when they are too many."""
    failures = beside(output, "failed")
    if not failures.is_file():
        return 0
    failed = sum(1 for _ in failures.open(encoding="utf-8"))
    rows = failed + (len(tables.read_rows(output)) if output.is_file() else 0)
    words = f"{failed} of {rows} rows got no answer, twice: {failures} has the reasons"
    if failed > MOST * rows:
        raise Abort(f"{words}. Over {MOST:.0%} is too many to go on without; run the same command again to ask for those alone")
    print(f"{words}; they are left out")
    return 0


if __name__ == "__main__":
    sys.exit(run(lambda: check(Path(sys.argv[1]))))
