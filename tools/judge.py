"""Grade answers with reasons by a judge model, e.g. the small judge that was trained here.

python tools/judge.py answers.xlsx graded.xlsx
python tools/judge.py --task medical --input answers.jsonl --limit 10
"""

import sys
from collections.abc import Sequence

from overtake import cli, tasks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 1 some calls failed, 2 bad input or a dead judge, 130 interrupted."""
    task, args = tasks.choose(argv, "grade", __doc__ or "")
    return cli.run(lambda: int(task.stage("grade").work(args)), args.output)


if __name__ == "__main__":
    sys.exit(main())
