"""What there is to see of a medical answer: the answer with what rules found in it marked, every rule that applies, the thought folded."""

import re

from overtake.cli import Abort
from overtake.reading.normal_forms import half_width
from overtake.reading.tags import split_think
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import Line, Part, Row
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.book import Book, Rule
from overtake.tasks.medical.columns import ID
from overtake.tasks.medical.judge import MEDICAL_PARTS, medical_judge_call, medical_verdict
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rewards.medical_rules import Point
from overtake.tasks.medical.rows import MedicalRow

_QUOTED = re.compile(r"'((?:[^'\\]|\\.)+)'|\"((?:[^\"\\]|\\.)+)\"")


def parts(row: Row, answer: str) -> list[Part]:
    """Answer, rule findings, score and thought."""
    thought, text = (part.strip() for part in split_think(answer))
    verdict = medical_rules.verdict(MedicalRow.from_columns({ID: "page", **row}), answer)
    if verdict is None:
        told = (Line("", "the rules took too long on this answer: no verdict", "规则在这条回答上超时：没有结论"),)
        return [Part("Answer", "回答", text), Part("Rules", "规则", lines=told), Part("Thought", "思考过程", thought, folded=True)]
    book = medical_book.shipped()
    rules = {rule.id: rule for rule in book.rules}
    broken, kept = ([_line(point, rules[point.rule], book) for point in verdict.points if point.broken == of] for of in (True, False))
    score = Line("", f"rule score {verdict.total:.2f} of 1", f"规则得分 {verdict.total:.2f} / 1")
    return [
        Part("Answer", "回答", text, places(text, [point for point in verdict.points if point.broken])),
        Part("Broken rules", "违反的规则", lines=(score, *broken)),
        Part("Rules that hold", "符合的规则", lines=tuple(kept), folded=True),
        Part("Thought", "思考过程", thought, folded=True),
    ]


def _line(point: Point, rule: Rule, book: Book) -> Line:
    notes = [f"{point.points:+.2f}"] if point.points else []
    en = "; ".join([rule.en.rstrip("."), *(["safety"] if point.rule in book.safety else []), *notes])
    zh = "；".join([rule.zh.rstrip("。"), *(["安全"] if point.rule in book.safety else []), *notes])
    return Line(point.reason, en, zh, not point.broken)


def judge(row: Row, answer: str) -> list[Part]:
    """The teacher's checklist. Raises Abort, SettingsError."""
    text = split_think(answer)[1].strip()
    (result,) = chat.chat_gateway("judge").run([medical_judge_call(MedicalRow.from_columns(row), text)])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    verdict = medical_verdict(result.value)
    lines = [
        Line("", f"{part}: {sum(items)} of {len(items)}", f"{MEDICAL_PARTS[part]}：{sum(items)} / {len(items)}", all(items))
        for part, items in verdict.items.items()
    ]
    return [Part("Judge", "评审", lines=(Line(verdict.reason, f"{verdict.score:.2f} of 1", f"{verdict.score:.2f} / 1"), *lines))]


def places(text: str, points: list[Point]) -> tuple[tuple[int, int], ...]:
    """Where the words stand that broken rules quote; in order, none within another.

    >>> places("保证根治，放心", [Point("promises_cure", -0.5, "says '保证根治'", True)])
    ((0, 4),)
    """
    plain = half_width(text).casefold()
    quoted = {(first or second).strip() for point in points for first, second in _QUOTED.findall(point.reason)} - {""}
    if len(plain) != len(text) or not quoted:
        return ()
    pattern = "|".join(map(re.escape, sorted(quoted, key=len, reverse=True)))
    return tuple(match.span() for match in re.finditer(pattern, plain))
