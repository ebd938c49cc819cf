"""Answers to the judge sample's own questions and verdicts on answers, by rule; with none of a model's understanding.

An answer (prompts/answer_question.txt) is a reference answer in one of the sample's sentences, of every hundred WRONG another fact's; half
of the right ones add the true sentence that the sample has for it. A verdict (prompts/judge_answer.txt) is the one that train.jsonl holds
for this very answer; else main is the rule judge's, and secondary knows only the sentences that the sample says may be added. It never
reads test.jsonl.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml
from overtake.data.tables import read_objects
from overtake.tasks.answer_judge import rule_judge
from overtake.tasks.answer_judge.judgements import Judgement, Value, write_judgement

WRONG = 25
"""Of a hundred answers, those that are another fact's."""

_GRADED = re.compile(r"(?:Question: (?P<question>[^\n]*)\n)?(?P<gold>(?:Reference answer: [^\n]*\n)+)Answer to grade: ?(?P<answer>[^\n]*)")
_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_SAYS: dict[str, str] = {
    "correct": "The answer states it.",
    "incorrect": "The answer states something else.",
    "none": "The answer states nothing.",
}
_ADDS: dict[str, str] = {"correct": "What it adds is true.", "incorrect": "What it adds is false.", "none": "It adds nothing."}


class Grader:
    """Grader by a judge's sample (source.yaml, questions.jsonl, train.jsonl). Raises OSError, ValueError or KeyError for any other."""

    def __init__(self, folder: Path) -> None:
        frames = yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8"))["train"]["frames"]
        self._facts = {row["question"]: row for row in _read(folder / "questions.jsonl")}
        self._frames: dict[str, list[str]] = frames
        self._more = {row["more"] for row in self._facts.values()}
        rows = _read(folder / "train.jsonl")
        self._known: dict[tuple[str, str], tuple[Value, Value]] = {
            (row["question"], row["answer_hat"]): (row["label"], row["label_secondary"] or "none") for row in rows
        }
        # Injections and empty answers have one verdict, whatever was asked.
        self._fixed: dict[str, tuple[Value, Value]] = {
            row["answer_hat"]: ("none", "none") for row in rows if row["made_by"] in ("empty", "injection")
        }

    @property
    def facts(self) -> int:
        """Number of questions it can answer."""
        return len(self._facts)

    def answer(self, question: str) -> str:
        """An answer to one of the sample's questions, right or wrong by a hash of the question; of any other, that it is not known."""
        fact = self._facts.get(question)
        if not fact:
            return "I do not know."
        number = int(hashlib.sha256(question.encode()).hexdigest(), 16)
        like = [known for known in self._facts.values() if known["kind"] == fact["kind"] and known["answer"][0] not in fact["answer"]]
        stated = like[number % len(like)] if like and number % 100 < WRONG else fact
        frames = self._frames[fact["language"]]
        text = frames[number % len(frames)].format(a=stated["answer"][0])
        more = stated is fact and number // 100 % 2
        return f"{text}{'' if fact['language'] == 'zh' else ' '}{fact['more']}" if more else text

    def verdict(self, user: str) -> str:
        """`<think>…</think><output>…</output>` on an answer. Raises ValueError for a message that is not prompts.judge_messages'."""
        match = _GRADED.fullmatch(user.strip())
        if not match:
            raise ValueError("an answer is graded as lines: Question: …, Reference answer: … (one or more) and Answer to grade: …")
        question, answer = (match["question"] or "").strip(), match["answer"].strip()
        gold = [line.removeprefix("Reference answer: ") for line in match["gold"].splitlines()]
        main, secondary = self._known.get((question, answer)) or self._fixed.get(answer) or self._by_rule(question, gold, answer)
        reason = f"Reference: {gold[0]}. {_SAYS[main]} {_ADDS[secondary]}"
        return write_judgement(Judgement(main, secondary, reason))

    def _by_rule(self, question: str, gold: list[str], answer: str) -> tuple[Value, Value]:
        main = rule_judge.judge(question, gold, answer).main
        added = [part.strip() for part in _ENDS.split(answer) if part.strip()][1:]
        secondary: Value = "none" if main == "none" or not added else "correct" if set(added) <= self._more else "incorrect"
        return main, secondary


def _read(path: Path) -> list[dict[str, Any]]:
    return list(read_objects(path))
