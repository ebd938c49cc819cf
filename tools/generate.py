"""Let a teacher write for each row of a file what a student is to learn; --task names what that is.

    python tools/generate.py questions.xlsx rewrites.xlsx --tenant fivedoctors
    python tools/generate.py raw.jsonl distilled.jsonl --task finance --samples 4
    python tools/generate.py --task finance --help

Tables are .xlsx, .csv or .jsonl. Beside OUTPUT stand OUTPUT.rejected.jsonl (rows that cannot be asked) and OUTPUT.failed.jsonl
(calls that brought nothing usable): neither is ever a row. Run again to retry just those: answers are kept on disk.

At half the price, through a provider's batch API (or `vllm run-batch`); what is kept already is not sent, and kept answers merge:
    the same command with --batch-write requests.jsonl, then with --batch-read results.jsonl
"""

import sys
from collections.abc import Sequence

from overtake import cli, tasks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 1 some calls failed, 2 bad input or a dead teacher, 130 interrupted."""
    task, args = tasks.choose(argv, "generate", __doc__ or "")
    return cli.run(lambda: int(task.stage("generate").work(args)), args.output)


if __name__ == "__main__":
    sys.exit(main())
