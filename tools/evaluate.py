"""Compare systems on held-out rows: same rows for all, paired 95 % intervals; --task names what they do.

    python tools/evaluate.py test.jsonl out/eval --system copy --system teacher --system SFT=out/sft/checkpoint-90 --against SFT
    python tools/evaluate.py test.jsonl out/eval --task finance --system SFT=out/sft/checkpoint-90 --system R1=distilled.jsonl --no-judge
    python tools/evaluate.py --preferences out/eval/preferences.jsonl      # which answers people prefer (recipes/page.sh --blind)

A system is NAME=FOLDER (a model or adapter folder), NAME=MODEL@BASE_URL (an OpenAI-compatible endpoint, key in
OVERTAKE_STUDENT_API_KEY; at several addresses OVERTAKE_STUDENT_API_KEYS='http://HOST:PORT/v1=KEY https://OTHER/v1=KEY') or
NAME=FILE.jsonl (answers by id), and what a task has of its own. Writes answers_<NAME>.jsonl, eval_details_<NAME>.jsonl,
eval_<NAME>.json and summary.json. Answers that are there are used again unless the model or the rows changed,
so an evaluation that was interrupted, or killed, goes on where it was.
"""

import sys
from collections.abc import Sequence

from overtake import cli, tasks
from overtake.evaluation import comparing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input or a dead service, 130 interrupted."""
    task, args = tasks.choose(argv, "evaluate", __doc__ or "", comparing.add_arguments)
    return cli.run(lambda: comparing.evaluate(task, args), args.out)


if __name__ == "__main__":
    sys.exit(main())
