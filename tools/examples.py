"""Show a gain, a tie and a loss out of the held-out rows that tools/evaluate.py compared: question, answers, what they found.

    python tools/examples.py output/query_rewrite/eval --system GRPO --against copy --corpus datasets/query_rewrite/fivedoctors

Each is the middle one of its kind, neither the best nor the worst there is; the first line says how many rows of each there are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, tasks
from overtake.data.tables import BadInput
from overtake.evaluation import examples
from overtake.evaluation.summaries import task_of
from overtake.retrieval.corpus import read_corpus


def work(args: argparse.Namespace) -> int:
    """Print; 0 done. Raises BadInput."""
    file = args.eval / "summary.json"
    if not file.is_file():
        raise BadInput(f"{file} does not exist: name the output folder of tools/evaluate.py")
    summary = json.loads(file.read_text(encoding="utf-8"))
    task = task_of(summary, list(tasks.known().values()))
    for option, name in (("--system", args.system), ("--against", args.against)):
        if name not in summary["means"]:
            raise BadInput(f"{option} {name} is none of the systems {', '.join(summary['means'])}")
    try:
        titles = {document.id: document.title or document.text[:40] for document in read_corpus(args.corpus)} if args.corpus else {}
    except ValueError as error:
        raise BadInput(str(error)) from None
    details = examples.read_details(args.eval, [args.system, args.against], task)
    measure = examples.main_measure(list(summary["means"][args.system]), task)
    print(examples.one_of_each(examples.outcomes(details, args.system, args.against, measure, task), args.system, args.against, titles))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("eval", type=Path, help="folder that tools/evaluate.py wrote")
    parser.add_argument("--system", required=True, help="the system that gains and loses")
    parser.add_argument("--against", required=True, help="the system that it is held against")
    parser.add_argument("--corpus", type=Path, help="knowledge base whose titles stand beside the documents' names")
    parser.add_argument("--task", type=tasks.named, help="the file of your own task, where the rows are of one")
    args = parser.parse_args(argv)
    return cli.run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
