"""Turn what a teacher answered into training, validation and held-out files; --task names whose rows they are.

python tools/convert.py validated.xlsx data/ --require-gain
python tools/convert.py answered.jsonl data/ --task my_task.py
"""

import sys
from collections.abc import Sequence

from overtake import cli, tasks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    task, args = tasks.choose(argv, "convert", __doc__ or "")
    return cli.run(lambda: int(task.stage("convert").work(args)))


if __name__ == "__main__":
    sys.exit(main())
