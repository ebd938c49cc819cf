"""Judge: verdicts on generated answers against known ones, main and secondary apart, as the rewards read them.

    python tools/evaluate.py test.jsonl out/eval --task judge --system base=Qwen/Qwen2.5-1.5B-Instruct \\
        --system SFT=out/sft/checkpoint-60 --system GRPO=out/grpo/checkpoint-200 --system constant --system substring --against GRPO

`constant` says of every answer what is right most often on these rows; `substring` calls correct what holds a reference answer.
The rows hold a verdict (`label`, `label_secondary`, or what tools/generate.py writes). `main` and `secondary` are the shares of right
verdicts, an unreadable one counting as wrong; `format` is the share in form with a reason before the verdict, `readable` with or without;
`passed` the share of wrong answers that were called correct. tools/calibrate.py says more of one judge.
"""

import argparse
from collections import Counter
from collections.abc import Sequence

from overtake.data.tables import BadInput, cell
from overtake.evaluation.comparing import Answers, Scores
from overtake.task import Row
from overtake.tasks.answer_judge import prompts
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.answer_judge.agreement import substring
from overtake.tasks.answer_judge.columns import JUDGE_ID
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement, write_judgement
from overtake.tasks.answer_judge.rewards import judge_format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task: none; verdicts are compared, nobody is asked."""
    parser.set_defaults(judge=False)


def read(args: argparse.Namespace) -> list[Row]:
    """The rows with a known main verdict, each with an id of its own and what the two simplest judges say of it."""
    with_verdict = [row for row in judged.read(args.test) if row.main]
    if not with_verdict:
        raise BadInput(f"{args.test}: no row has a known verdict: fill the column {' or '.join(judged.LABEL)}")
    main = Counter(row.main for row in with_verdict if row.main).most_common(1)[0][0]
    secondary = (Counter(row.secondary for row in with_verdict if row.secondary).most_common(1) or [("none", 0)])[0][0]
    constant = write_judgement(Judgement(main, secondary, "The most frequent verdict."))
    rows = [
        {
            JUDGE_ID: row.id,
            "question": row.question,
            "answer": cell(list(row.gold)),
            "answer_hat": row.answer_hat,
            "main": row.main or "",
            "secondary": row.secondary or "",
            "constant": constant,
            "substring": write_judgement(Judgement(judgement.main, secondary, "Whether a reference answer stands in it.")),
        }
        for row, judgement in zip(with_verdict, substring(with_verdict), strict=True)
    ]
    ids: set[str] = set()
    for row in rows:
        if row[JUDGE_ID] in ids:
            raise BadInput(f"{args.test}: id {row[JUDGE_ID]!r} stands twice: correct it or delete the row")
        ids.add(row[JUDGE_ID])
    return rows


def messages(row: Row) -> list[dict[str, str]]:
    """The prompt of training."""
    return prompts.judge_messages(row["question"], judged.alternatives(row["answer"]), row["answer_hat"])


def measure(name: str, answers: Answers, rows: Sequence[Row], args: argparse.Namespace) -> Scores:
    """Measure of each verdict; `secondary` where the row knows it, `passed` where the answer is not correct."""
    scores: Scores = {}
    for row in rows:
        text = answers[row[JUDGE_ID]]
        if text is None:
            continue
        judgement = _read(text)
        scores[row[JUDGE_ID]] = {
            "main": float(judgement is not None and judgement.main == row["main"]),
            "format": judge_format.score(text),
            "readable": float(judgement is not None),
        }
        if row["secondary"]:
            scores[row[JUDGE_ID]]["secondary"] = float(judgement is not None and judgement.secondary == row["secondary"])
        if row["main"] != "correct":
            scores[row[JUDGE_ID]]["passed"] = float(judgement is not None and judgement.main == "correct")
    return scores


def _read(text: str) -> Judgement | None:
    try:
        return read_judgement(text)
    except ValueError:
        return None
