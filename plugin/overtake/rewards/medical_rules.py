"""MedicalRules: an answer scored by the rule book that a doctor edits (medical_rules.yaml), each point with its reason. No service.

    total = what the applicable `requires` earn, together at most 1.0, less the weights of the broken `forbids`; never below 0

The think block is taken off first, and an answer without a word is worth 0.0.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from overtake.reading.tags import strip_think
from overtake.rewards import medical_book
from overtake.rewards.measuring import column
from overtake.rewards.medical_book import Advice, Book, Dose, Format, Keywords, Length, Refusal, Repetition, Rule, Wording, any_of, literal
from overtake.trainers import trace
from overtake.trainers.metrics import log_metrics

TOOL = "tools/prepare_medical.py"
"""Makes the columns that the medical rewards read."""
_UNIT = re.compile(r"[\u3400-\u9fff]|[A-Za-z0-9]+(?:['’.-][A-Za-z0-9]+)*")
_SENTENCE = re.compile(r"[。！？!?；;\n]+|\.(?=\s|$)")
_CLAUSE = re.compile(r"[。！？!?；;，,：:\n]+|\.(?=\s|$)")
_LIST = re.compile(r"[、，,；;·|/]+|(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])")
_ENDED = re.compile(r"[。！？!?.…）)】」”\"'》~～：:*|]$")
_ITEM = 8
"""An item of a list has at most so many characters or words; what is longer is a clause."""
_BEFORE = 6
"""Characters before a match in which a word of `not_after` must end."""


class Point(NamedTuple):
    """What one rule gave or took, and why."""

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


class Case(NamedTuple):
    """An answer and what is known of its question, ready for the rules; `text` is the answer in NFKC and lower case."""

    text: str
    question: str
    keywords: tuple[str, ...]
    reference: str


Finding = tuple[float, str]
"""(share of the rule that holds, from 0 to 1; the reason)"""


def score(question: str, answer: str, book: Book, *, keywords: Sequence[str] = (), reference: str = "", risk: str = "") -> Verdict:
    """The verdict of the book on an answer. `reference`, a right answer, is where doses may come from; `keywords` are for coverage;
    `risk` is a kind that is known of the question, beside those the lexicon finds.

    >>> verdict = score("乙肝能根治吗？", "吃这个药保证根治。", medical_book.shipped())
    >>> verdict.total, "promises_cure" in verdict.broken
    (0.0, True)
    """
    text = _plain(strip_think(answer))
    if not _UNIT.search(text):
        return Verdict(0.0, (Point("format", 0.0, "no answer", True),))
    case = Case(text, _plain(question), tuple(_plain(word) for word in keywords if word.strip()), _plain(reference))
    risks = book.risks.of(question) + [risk] * bool(risk)
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


def holds(rule: Rule, example: medical_book.Example) -> bool:
    """Whether an answer fulfils one rule wholly, whatever its question: what the book's examples are tested by."""
    keywords = tuple(map(_plain, example.keywords))
    case = Case(_plain(strip_think(example.answer)), _plain(example.question), keywords, _plain(example.reference))
    return _find(rule, case)[0] == 1


def failing_examples(book: Book) -> list[str]:
    """What the examples of the book and of its lexicon show to be wrong, in words; empty when all hold."""
    found = []
    for rule in book.rules:
        for name, wanted in (("passes", True), ("fails", False)):
            for number, example in enumerate(getattr(rule, name), 1):
                risks = book.risks.of(example.question)
                if not rule.applies(risks):
                    found.append(f"{rule.id}: {name} {number}: the rule does not apply to its question (risks: {risks or 'none'})")
                elif holds(rule, example) != wanted:
                    found.append(
                        f"{rule.id}: {name} {number}: the answer {'breaks' if wanted else 'keeps'} the rule: {example.answer[:60]}"
                    )
    for kind in book.risks.kinds:
        for wanted, questions in ((True, kind.examples.yes), (False, kind.examples.no)):
            for question in questions:
                if (kind.id in book.risks.of(question)) != wanted:
                    found.append(f"{kind.id}: {'not found' if wanted else 'found'} in: {question}")
    return found


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _units(text: str) -> int:
    """Chinese characters and words of other scripts."""
    return len(_UNIT.findall(text))


def _find(rule: Rule, case: Case) -> Finding:
    return _CHECKS[type(rule)](rule, case)


def _format(rule: Format, case: Case) -> Finding:
    if found := any_of(rule.patterns).search(case.text):
        return 0.0, f"holds {found[0].strip()[:20]!r}"
    return (1.0, "finished and clean") if _ENDED.search(case.text) else (0.0, "the last sentence has no end")


def _length(rule: Length, case: Case) -> Finding:
    count = _units(case.text)
    if count < rule.least:
        return count / rule.least, f"{count} characters or words, fewer than {rule.least}"
    if count > rule.most:
        return max(0.0, (rule.none_above - count) / (rule.none_above - rule.most)), f"{count} characters or words, more than {rule.most}"
    return 1.0, f"{count} characters or words"


def _keywords(rule: Keywords, case: Case) -> Finding:
    words = tuple(dict.fromkeys(case.keywords))
    said: set[str] = set()
    for sentence in _SENTENCE.split(case.text):
        here = [word for word in words if word in sentence]
        # A sentence says something of its keywords when at least half of it is something else.
        if sum(map(_units, here)) <= _units(sentence) / 2:
            said.update(here)
    share = len(said) / len(words) / rule.enough
    missing = "、".join(word for word in words if word not in said)
    return min(1.0, round(share, 9)), f"speaks of {len(said)} of {len(words)}" + (f", not of {missing}" if missing else "")


def _advice(rule: Advice, case: Case) -> Finding:
    if found := any_of(rule.refuted).search(case.text):
        return 0.0, f"says {found[0]!r}"
    if found := any_of(rule.patterns).search(case.text):
        return 1.0, f"says {found[0]!r}"
    if found := any_of(rule.partly).search(case.text):
        return 0.5, f"says only {found[0]!r}"
    return 0.0, "is silent"


def _wording(rule: Wording, case: Case) -> Finding:
    found = list(dict.fromkeys(match for _, match in _said(rule, case)))
    kinds = {number for number, _ in _said(rule, case)}
    if len(kinds) < rule.at_least:
        return 1.0, f"says {found[0]!r} alone" if found else "says nothing of the kind"
    return 0.0, "says " + ", ".join(map(repr, found[:3]))


def _said(rule: Wording, case: Case) -> Iterator[tuple[int, str]]:
    """(number of the pattern, what it matched) for every match that counts."""
    excused, denied = _phrases(rule.unless), _phrases(rule.not_after)
    for number, pattern in enumerate(rule.patterns):
        for found in re.finditer(pattern, case.text):
            clause = _clause(case.text, found.start(), found.end())
            before = case.text[max(0, found.start() - _BEFORE) : found.start()]
            if not excused.search(clause) and not denied.search(_CLAUSE.split(before)[-1]):
                yield number, found[0]


def _dose(rule: Dose, case: Case) -> Finding:
    known = re.sub(r"\s", "", case.question + "\n" + case.reference)
    excused = _phrases(rule.unless)
    for pattern in rule.patterns:
        for found in re.finditer(pattern, case.text):
            amount = re.sub(r"\s", "", found[0])
            if amount not in known and not excused.search(_clause(case.text, found.start(), found.end())):
                return 0.0, f"says {found[0].strip()!r}, which neither the question nor the reference does"
    return 1.0, "no amount from nowhere"


def _repetition(rule: Repetition, case: Case) -> Finding:
    sentences = [re.sub(r"[\W_]", "", sentence) for sentence in _SENTENCE.split(case.text)]
    seen: set[str] = set()
    for sentence in sentences:
        if len(sentence) >= 8 and sentence in seen:
            return 0.0, f"says twice: {sentence[:20]}"
        seen.add(sentence)
    for sentence in _SENTENCE.split(case.text):
        run = 0
        for item in _LIST.split(sentence):
            run = run + 1 if 0 < _units(item) <= _ITEM and "(" not in item else 0
            if run > rule.longest_list:
                return 0.0, f"lists more than {rule.longest_list} items"
    units = _UNIT.findall(case.text)
    runs = [tuple(units[i : i + 4]) for i in range(len(units) - 3)]
    share = len(set(runs)) / len(runs) if len(runs) >= 60 else 1.0
    return (1.0, "no padding") if share >= rule.distinct else (0.0, f"only {share:.0%} of it is new")


def _refusal(rule: Refusal, case: Case) -> Finding:
    refuses, rest = "", 0
    for sentence in _CLAUSE.split(case.text):
        if found := any_of(rule.patterns).search(sentence.strip()):
            refuses = refuses or found[0]
        else:
            rest += _units(sentence)
    if refuses and rest < rule.least:
        return 0.0, f"says {refuses!r} and {rest} characters of anything else"
    return 1.0, "answers"


_CHECKS: dict[type[Rule], Callable[[Any, Case], Finding]] = {
    Format: _format,
    Length: _length,
    Keywords: _keywords,
    Advice: _advice,
    Wording: _wording,
    Dose: _dose,
    Repetition: _repetition,
    Refusal: _refusal,
}


def _phrases(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these phrases, English ones as whole words."""
    return any_of(tuple(map(literal, phrases)))


def _clause(text: str, start: int, end: int) -> str:
    """The clause, between two marks of punctuation, that a match stands in."""
    before = [found.end() for found in _CLAUSE.finditer(text, 0, start)]
    after = _CLAUSE.search(text, end)
    return text[before[-1] if before else 0 : after.start() if after else len(text)]


def read_keywords(cell: str, med_id: str) -> tuple[str, ...]:
    """The keywords in a cell of the column med_keywords, a JSON list or nothing.

    Raises ValueError naming the row.
    """
    try:
        found = json.loads(cell) if cell else []
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(
            f"med_keywords of {med_id!r} is {cell[:60]!r}, no JSON list of words: make the files with tools/prepare_medical.py"
        )
    return tuple(found)


def verdicts(completions: Sequence[str], columns: dict[str, Any]) -> list[Verdict]:
    """The book's verdict on each completion, by the columns med_question, med_keywords, med_reference and med_risk."""
    names = ("id", "question", "keywords", "reference", "risk")
    read = [["" if value is None else str(value) for value in column(columns, f"med_{name}", len(completions), TOOL)] for name in names]
    book = medical_book.shipped()
    return [
        score(question, completion, book, keywords=read_keywords(words, med_id), reference=reference, risk=risk)
        for completion, med_id, question, words, reference, risk in zip(completions, *read, strict=True)
    ]


def log_verdicts(found: Sequence[Verdict]) -> None:
    """Log the mean total, the share that is safe and the share that breaks each rule, and keep the points in the trace."""
    book = medical_book.shipped()
    log_metrics(
        {
            "medical/rules": [verdict.total for verdict in found],
            "medical/safe": [float(not book.safety & set(verdict.broken)) for verdict in found],
            **{f"medical/broken/{rule.id}": [float(rule.id in verdict.broken) for verdict in found] for rule in book.rules},
        }
    )
    if trace.wanted():
        trace.note(
            {
                "rules": [verdict.total for verdict in found],
                "rule_points": [[[point.rule, round(point.points, 4), point.reason] for point in verdict.points] for verdict in found],
            }
        )


class MedicalRules:
    """The book alone as a reward, in [0, 1]."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """One score for each completion; never None, since nothing can fail."""
        found = verdicts(completions, columns)
        log_verdicts(found)
        return [verdict.total for verdict in found]
