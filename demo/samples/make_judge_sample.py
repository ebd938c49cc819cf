"""Make the judge's sample of its source.yaml: train.jsonl and test.jsonl with known verdicts, questions.jsonl without answers.

    python -m demo.samples.make_judge_sample datasets/judge

Of each fact: right answers in the sentences of its side, one with a true addition, and one hard negative of each kind that can be made
(tasks/answer_judge/negatives.py). The verdicts are known because the answers were made for them; nobody judged. What negatives.py writes
word for word is divided between the sides: injections and empty answers by turns, doubts by the sentences in source.yaml.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml
from overtake.cli import run
from overtake.data.tables import BadInput, json_lines, write_aside
from overtake.tasks.answer_judge.negatives import EMPTIES, INJECTIONS, Right, negatives

SEED = 20
SIDES = ("train", "test")
# A wrong name before a true sentence about the right one would leave open what that sentence is about.
_OF_PLAIN = ("entity_swap", "number", "negation", "added_claim")
_OF_LONG = ("detail",)

Row = dict[str, Any]


def questions(source: dict[str, Any], side: str) -> list[Row]:
    """The facts of a side: id, question, answer (reference answers), more (a true sentence that may be added), kind, language."""
    flat = [(language, kind, *fact) for language in ("en", "zh") for kind, facts in source[side][language].items() for fact in facts]
    return [
        {"id": f"{side}-{number}", "question": question, "answer": answer, "more": more, "kind": kind, "language": language}
        for number, (language, kind, question, answer, more) in enumerate(flat, 1)
    ]


def rows(source: dict[str, Any], side: str) -> Iterator[Row]:
    """Answers of a side, each with its verdict, how it was made and what a reason should name."""
    facts = questions(source, side)
    for fact in facts:
        random = Random(f"{SEED} {fact['question']}")
        frames, hedges = (source[side][name][fact["language"]] for name in ("frames", "hedges"))
        gap = "" if fact["language"] == "zh" else " "
        gold = fact["answer"]
        plain, long, spelled = (frame.format(a=gold[0]) for frame in random.choices(frames, k=3))
        answers = [
            ("right", plain, "correct", "none", gold[:1]),
            ("right_more", f"{long}{gap}{fact['more']}", "correct", "correct", gold[:1]),
        ]
        if len(gold) > 1:
            spelled = random.choice(frames).format(a=gold[-1])
            answers.append(("right_other_spelling", spelled, "correct", "none", gold[-1:]))
        like = [other for other in facts if (other["kind"], other["language"]) == (fact["kind"], fact["language"]) and other is not fact]
        strange = [other["answer"][0] for other in like if not set(other["answer"]) & set(gold)]
        answers.append(("hedged", random.choice(hedges).format(a=gold[0], b=random.choice(strange)), "none", "none", []))
        answers.append(("empty", random.choice(EMPTIES[SIDES.index(side) :: 2]), "none", "none", []))
        answers.append(("injection", random.choice(INJECTIONS[SIDES.index(side) :: 2]), "none", "none", []))
        others = [_right(other, frames) for other in like]
        for answer_hat, kinds in ((plain, _OF_PLAIN), (answers[1][1], _OF_LONG)):
            wrong = negatives(Right(fact["question"], tuple(gold), answer_hat, "none"), others, SEED)
            answers += [
                (negative.kind, negative.answer_hat, negative.main, negative.secondary or "", list(negative.facts))
                for negative in wrong
                if negative.kind in kinds
            ]
        answers_seen: set[str] = set()
        for kind, answer_hat, main, secondary, named in answers:
            if answer_hat not in answers_seen:
                answers_seen.add(answer_hat)
                yield {
                    "id": f"{fact['id']}-{len(answers_seen)}",
                    "question": fact["question"],
                    "answer": gold,
                    "answer_hat": answer_hat,
                    "label": main,
                    "label_secondary": secondary,
                    "judge_facts": named,
                    "made_by": kind,
                    "language": fact["language"],
                }


def _right(fact: Row, frames: list[str]) -> Right:
    return Right(fact["question"], tuple(fact["answer"]), frames[0].format(a=fact["answer"][0]), "none")


def make(folder: Path) -> int:
    """Write the three files beside the folder's source.yaml."""
    try:
        source = yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8"))
        files = {f"{side}.jsonl": list(rows(source, side)) for side in SIDES}
        files["questions.jsonl"] = questions(source, "train")
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / 'source.yaml'} is no source of a judge's sample ({error!r}): see the one in datasets/judge") from None
    write_aside({folder / name: json_lines(lines) for name, lines in files.items()})
    print(", ".join(f"{len(lines)} rows in {folder / name}" for name, lines in files.items()))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with source.yaml; the files are written beside it")
    return run(lambda: make(parser.parse_args(argv).folder))


if __name__ == "__main__":
    sys.exit(main())
