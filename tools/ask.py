"""Put one question to a served model, with the prompt of training; --task names what it answers.

    python tools/ask.py "脸上松松垮垮的，一天吃多少？" --tenant fivedoctors --model query-rewrite --base-url http://127.0.0.1:8000/v1
    python tools/ask.py "收入1000万元，比上年增长25%，上年收入多少？" --task finance

A key, where the model asks for one, is read from OVERTAKE_STUDENT_API_KEY, or OVERTAKE_STUDENT_API_KEYS (ADDRESS=KEY, apart by blanks).
"""

import argparse
import sys
from collections.abc import Sequence

from overtake import cli, tasks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every task."""
    parser.add_argument("question")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input or a dead service, 130 interrupted."""
    task, args = tasks.choose(argv, "ask", __doc__ or "", add_arguments)
    return cli.run(lambda: int(task.stage("ask").work(args)))


if __name__ == "__main__":
    sys.exit(main())
