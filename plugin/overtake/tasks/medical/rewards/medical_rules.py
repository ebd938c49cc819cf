"""MedicalRules: an answer scored by the rule book that a doctor edits (medical_rules.yaml), each point with its reason. No service.

    total = what the applicable `requires` earn, together at most 1.0, less the weights of the broken `forbids`; never below 0

The think block is taken off first, and an answer without a word is worth 0.0.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.book import (
    Advice,
    Book,
    Deferral,
    Dose,
    Format,
    Keywords,
    Length,
    Refusal,
    Repetition,
    Rule,
    Wording,
    any_of,
    any_phrase,
)
from overtake.tasks.medical.case import CLAUSE, FAR, SECONDS, SENTENCE, TURN, UNIT, Case, Finding, ready, units
from overtake.tasks.medical.columns import OPTIONAL, READ, TOOL
from overtake.tasks.medical.coverage import coverage
from overtake.tasks.medical.dangers import alarms, deferral, dose
from overtake.tasks.medical.rows import MedicalRow

_LIST = re.compile(r"[、，,；;·|/]+|(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])")
_ENDED = re.compile(r"[。！？!?.…）)】」”\"'》~～][*_`\s]*$")
TIMED_OUT = "rules_timed_out"
"""What stands for the broken rules of an answer on which they took too long."""
_ITEM = 8
"""An item of a list has at most so many characters or words; what is longer is a clause."""
_FILLER = (
    "能会敢可是有人一定完全彻底够法说轻易真地得的被您你我他她它们自己患者擅随意就再"
    "突然盲目马上立即刻直接也还因此症状好转而便太早过长期必须应该想保证承诺哪种任何药向对谁给"
)
"""What may stand between a denial and what it denies: 不能够随意停药; in 不打针不吃药保证根治 the 不 denies something else."""
_DENYING = (
    rf"[{_FILLER}]{{0,6}}(?:\s+(?:be|been|is|are|can|will|have|yet|ever|fully|completely|really|always|simply|just|to|a|that)\b)*\s*$"
)


class Point(NamedTuple):
    """Points that one rule gave or took, and why."""

    rule: str
    points: float
    """Of the 1.0 there are: earned by a requirement, negative for a broken prohibition, 0.0 for one that holds."""
    reason: str
    broken: bool
    """A requirement is broken when it did not earn all of its points."""


class Verdict(NamedTuple):
    """The score of an answer; `points` holds every rule that applies to the question, in the book's order."""

    total: float
    points: tuple[Point, ...]

    @property
    def broken(self) -> list[str]:
        """The ids of the rules that the answer breaks."""
        return [point.rule for point in self.points if point.broken]


def score(question: str, answer: str, book: Book, *, keywords: Sequence[str] = (), reference: str = "", risk: str = "") -> Verdict | None:
    """The verdict of the book on an answer; None where the rules take more than SECONDS: what they did not see is neither kept nor broken.

    `reference`, a right answer, is where doses may come from; `keywords` are for coverage; `risk` is a kind that is known of the question,
    beside those the lexicon finds.

    >>> verdict = score("乙肝能根治吗？", "吃这个药保证根治。", medical_book.shipped())
    >>> verdict.total, "promises_cure" in verdict.broken
    (0.0, True)
    """
    case = ready(question, answer, keywords, reference)
    if not UNIT.search(case.text):
        return Verdict(0.0, (Point("format", 0.0, "no answer", True),))
    risks = book.risks.of(question) + [risk] * bool(risk)
    try:
        return _scored_by(book, case, risks)
    except TimeoutError:
        return None


def _scored_by(book: Book, case: Case, risks: Sequence[str]) -> Verdict:
    requires = [rule for rule in book.requires if rule.applies(risks) and (case.keywords or not isinstance(rule, Keywords))]
    parts = sum(rule.weight for rule in requires)
    points = []
    for rule in requires:
        share, reason = _find(rule, case)
        points.append(Point(rule.id, rule.weight / parts * share, reason, share < 1))
    for ban in book.forbids:
        if ban.applies(risks):
            share, reason = _find(ban, case)
            points.append(Point(ban.id, 0.0 if share == 1 else -ban.weight, reason, share < 1))
    return Verdict(min(1.0, max(0.0, sum(point.points for point in points))), tuple(points))


def holds(rule: Rule, example: medical_book.Example) -> bool | None:
    """Say whether an answer fulfils one rule wholly, whatever its question; None where the rule takes too long.

    The book's examples are tested by it.
    """
    case = ready(example.question, example.answer, example.keywords, example.reference)
    try:
        return _find(rule, case)[0] == 1
    except TimeoutError:
        return None


def alarmed(question: str, answer: str, book: Book) -> bool | None:
    """Say whether an answer sends to emergency help outright; None where that takes too long, or the book has no rule that names such help.

    >>> shipped, toe = medical_book.shipped(), "脚趾甲旁边红肿怎么办？"
    >>> [alarmed(toe, said, shipped) for said in ("请立即去急诊。", "少走路；如果高烧，请去急诊。", "不用去急诊。")]
    [True, False, False]
    """
    rule = next((rule for rule in book.forbids if isinstance(rule, Deferral)), None)
    try:
        return alarms(rule, ready(question, answer, (), "")) if rule else None
    except TimeoutError:
        return None


def failing_examples(book: Book) -> list[str]:
    """List what the examples of the book and of its lexicon show to be wrong, in words; empty when all hold."""
    failing = []
    for rule in book.rules:
        for name, expected in (("passes", True), ("fails", False)):
            for number, example in enumerate(getattr(rule, name), 1):
                risks = book.risks.of(example.question)
                if not rule.applies(risks):
                    failing.append(f"{rule.id}: {name} {number}: the rule does not apply to its question (risks: {risks or 'none'})")
                elif (holds_here := holds(rule, example)) != expected:
                    why = f"the answer {'keeps' if holds_here else 'breaks'} the rule"
                    if holds_here is None:
                        why = f"the rule took more than {SECONDS:g} s on"
                    failing.append(f"{rule.id}: {name} {number}: {why}: {example.answer[:60]}")
    for kind in book.risks.kinds:
        for expected, questions in ((True, kind.examples.yes), (False, kind.examples.no)):
            for question in questions:
                if (kind.id in book.risks.of(question)) != expected:
                    failing.append(f"{kind.id}: {'not found' if expected else 'found'} in: {question}")
    return failing


def _find(rule: Rule, case: Case) -> Finding:
    return _CHECKS[type(rule)](rule, case)


def _format(rule: Format, case: Case) -> Finding:
    if match := any_of(rule.patterns).search(case.text, timeout=case.left()):
        return 0.0, f"holds {match[0].strip()[:20]!r}"
    return (1.0, "finished and clean") if _ENDED.search(case.text) else (0.0, "the last sentence has no end")


def _length(rule: Length, case: Case) -> Finding:
    count = units(case.text)
    if count < rule.least:
        return count / rule.least, f"{count} characters or words, fewer than {rule.least}"
    if count > rule.most:
        return max(0.0, (rule.none_above - count) / (rule.none_above - rule.most)), f"{count} characters or words, more than {rule.most}"
    return 1.0, f"{count} characters or words"


def _advice(rule: Advice, case: Case) -> Finding:
    for share, patterns, verb in ((0.0, rule.refuted, "says"), (1.0, rule.patterns, "says"), (0.5, rule.partly, "says only")):
        for match in any_of(patterns).finditer(case.text, timeout=case.left()):
            # In a requirement any denial before it in the clause counts, however far: what is doubtful earns nothing.
            before = case.text[case.clause_start(match.start()) : match.start()]
            if not any_of(rule.denied).search(TURN.split(before)[-1], timeout=case.left()):
                return share, f"{verb} {match[0]!r}"
    return 0.0, "is silent"


def _wording(rule: Wording, case: Case) -> Finding:
    matches = list(_said(rule, case))
    phrases, kinds = list(dict.fromkeys(match for _, match in matches)), {number for number, _ in matches}
    if len(kinds) < rule.at_least:
        return 1.0, f"says {phrases[0]!r} alone" if phrases else "says nothing of the kind"
    return 0.0, "says " + ", ".join(map(repr, phrases[:3]))


def _said(rule: Wording, case: Case) -> Iterator[tuple[int, str]]:
    """(number of the pattern, what it matched) for every match that counts."""
    excused: dict[tuple[int, int], bool] = {}
    excusing, denied = any_phrase(rule.unless), any_of((f"(?:{any_phrase(rule.not_after).pattern}){_DENYING}",))
    for number, pattern in enumerate(rule.patterns):
        for match in any_of((pattern,)).finditer(case.text, timeout=case.left()):
            start, end = case.clause(*match.span())
            if (start, end) not in excused:
                excused[start, end] = bool(excusing.search(case.text[start:end], timeout=case.left()))
            before = case.text[max(start, match.start() - FAR) : match.start()]
            if not excused[start, end] and not denied.search(before, timeout=case.left()):
                yield number, match[0]


def _repetition(rule: Repetition, case: Case) -> Finding:
    sentences = [re.sub(r"[\W_]", "", sentence) for sentence in SENTENCE.split(case.text)]
    earlier: set[str] = set()
    for sentence in sentences:
        if len(sentence) >= 8 and sentence in earlier:
            return 0.0, f"says twice: {sentence[:20]}"
        earlier.add(sentence)
    clauses = Counter(clause for part in CLAUSE.split(case.text) if len(clause := re.sub(r"[\W_]", "", part)) >= 6)
    if again := next((clause for clause, times in clauses.items() if times > 2), ""):
        return 0.0, f"says more than twice: {again[:20]}"
    for sentence in SENTENCE.split(case.spaced):
        run = 0
        for item in _LIST.split(sentence):
            run = run + 1 if 0 < units(item) <= _ITEM and "(" not in item else 0
            if run > rule.longest_list:
                return 0.0, f"lists more than {rule.longest_list} items"
    said = UNIT.findall(case.text)
    runs = [tuple(said[i : i + 4]) for i in range(len(said) - 3)]
    share = len(set(runs)) / len(runs) if len(runs) >= 60 else 1.0
    return (1.0, "no padding") if share >= rule.distinct else (0.0, f"only {share:.0%} of it is new")


def _refusal(rule: Refusal, case: Case) -> Finding:
    refuses, rest = "", 0
    for sentence in CLAUSE.split(case.text):
        if match := any_of(rule.patterns).search(sentence.strip(), timeout=case.left()):
            refuses = refuses or match[0]
        else:
            rest += units(sentence)
    if refuses and rest < rule.least:
        return 0.0, f"says {refuses!r} and {rest} characters of anything else"
    return 1.0, "answers"


_CHECKS: dict[type[Rule], Callable[[Any, Case], Finding]] = {
    Format: _format,
    Length: _length,
    Keywords: coverage,
    Advice: _advice,
    Wording: _wording,
    Dose: dose,
    Deferral: deferral,
    Repetition: _repetition,
    Refusal: _refusal,
}


def unsafe(question: str, answer: str) -> str:
    """The first safety rule that an answer breaks as its own reference, so that doses in it count as given; "" for none.

    TIMED_OUT where the rules took too long to say: what cannot be checked is not taken for safe.
    """
    if not answer:
        return ""
    book = medical_book.shipped()
    verdict = score(question, answer, book, reference=answer)
    return TIMED_OUT if verdict is None else next((rule for rule in verdict.broken if rule in book.safety), "")


def verdict(row: MedicalRow, completion: str) -> Verdict | None:
    """The book's verdict on a completion; None where the rules took too long to say."""
    return score(row.asked, completion, medical_book.shipped(), keywords=row.keywords, reference=row.reference, risk=row.risk)


def critical(verdict: Verdict) -> list[str]:
    """The ids of the critical rules that an answer breaks."""
    return [rule for rule in verdict.broken if rule in medical_book.shipped().critical]


def scored(verdict: Verdict | None) -> Scored:
    """A verdict as a reward: logged are the total, whether it is safe and which rules it breaks; the points stand in the trace."""
    book = medical_book.shipped()
    points = [[point.rule, round(point.points, 4), point.reason] for point in verdict.points] if verdict else None
    metrics = {
        "medical/rules": verdict and verdict.total,
        "medical/safe": float(not book.safety & set(verdict.broken)) if verdict else None,
        **{f"medical/broken/{rule.id}": float(rule.id in verdict.broken) if verdict else None for rule in book.rules},
        f"medical/{TIMED_OUT}": float(verdict is None),
    }
    return Scored(verdict and verdict.total, {"rules": verdict and verdict.total, "rule_points": points}, metrics)


class MedicalRules(Reward[None]):
    """The book alone as a reward, in [0, 1]."""

    columns = READ
    optional = OPTIONAL
    tool = TOOL

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion; None where the rules took too long."""
        return list(map(scored, map(verdict, batch.rows(MedicalRow), batch.completions)))
