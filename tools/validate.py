"""Measure on live services what training will go by; --task names what that is.

python tools/validate.py rewrites.xlsx validated.xlsx --judge
python tools/validate.py output/medical/data/train.jsonl output/medical/judge_worth.json --task medical
"""

import sys
from collections.abc import Sequence

from overtake import cli, tasks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 1 some calls failed, 2 bad input or a dead service, 130 interrupted."""
    task, args = tasks.choose(argv, "validate", __doc__ or "")
    return cli.run(lambda: int(task.stage("validate").work(args)), args.output)


if __name__ == "__main__":
    sys.exit(main())
