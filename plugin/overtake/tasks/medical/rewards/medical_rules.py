"""MedicalRules: an answer scored by the rule book that a doctor edits (medical_rules.yaml), each point with its reason. No service.

    total = what the applicable `requires` earn, together at most 1.0, less the weights of the broken `forbids`; never below 0

The think block is taken off first, and an answer without a word is worth 0.0.
"""

import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import regex

from overtake.reading.normal_forms import for_rules, half_width, visible
from overtake.reading.tags import strip_think
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.medical import amounts as medical_amounts
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
    literal,
)
from overtake.tasks.medical.columns import OPTIONAL, READ, TOOL
from overtake.tasks.medical.rows import MedicalRow

_UNIT = re.compile(r"[\u3400-\u9fff]|[A-Za-z0-9]+(?:['’.-][A-Za-z0-9]+)*")
_SENTENCE = re.compile(r"[。！？!?；;\n]+|\.(?=\s|$)")
_CLAUSE = re.compile(r"[。！？!?；;，,：:\n]+|\.(?=\s|$)")
_LIST = re.compile(r"[、，,；;·|/]+|(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])")
_ENDED = re.compile(r"[。！？!?.…）)】」”\"'》~～][*_`\s]*$")
SECONDS = 2.0
"""Of this thread, for all rules on one answer; the shipped ones take some milliseconds, and half a second to compile at first."""
TIMED_OUT = "rules_timed_out"
"""What stands for the broken rules of an answer on which they took too long."""
_ITEM = 8
"""An item of a list has at most so many characters or words; what is longer is a clause."""
_LISTED = 3
"""So many keywords with nothing but a mark or an "and" between them are a list."""
_OWN = 4
"""Characters or words that a sentence needs of its own for each of its keywords."""
_SAYS = 1
"""So much a clause says at least beside its keywords: a pair of characters, or a word."""
_EMPTY = re.compile(
    r"注意|重要|关于|对于|有关|相关|方面|需要|应该|应当|必须|重视|了解|考虑|做好|加强|关注|记得|知道|问题|情况|事情|因素|内容|措施|平时|日常|生活|大家|患者|建议"
    r"|可以|同时|另外|此外|还有|以及|包括|比如|例如|等等|非常|特别|十分|比较|首先|其次|最后|这些|这个|那个|一些|一定|起来|[的了和与或及也还要有是都就很更再在对把请您你我]"
    r"|\b(?:the|and|are|for|should|also|important|about|note|attention|pay|please|you|your|with regard|regarding|need|consider|matters?)\b"
)
"""Words that say nothing of a keyword: to mind it, and that it is important."""
_ASKS = re.compile(r"吗\s*$|是否|要不要|能不能|可不可以|该不该|呢\s*$")
_NEAR = 8
"""A denial stands at most so many characters before what it denies."""
_NEGATED = re.compile(
    r"不(?![仅但止断妨久舒适足良同管论过少])|没有?|无(?:需|须|必要|所谓)|(?<![特分个区告级性识派])别(?!人)|勿|切忌|禁止?|避免|拒绝|停止"
    r"|\b(?:not|never|no|avoid|without|stop|don't|do not|needn't)\b"
)
_STANCE = re.compile(
    r"不(?:要|能|用|必|可以?|应该?|应当|宜|得|需要?|建议)?|可以|请|建议|应该?|应当|需要?|必须|立即|马上|尽快|没有?|别|勿|切忌|避免|尽量|无需|坚持|急着|用(?=拨打)"
    r"|\b(?:do not|don't|do|not|never|always|avoid|use|please|should|must|can|may|now|at once)\b"
)
_NEEDLESS = re.compile(
    r"[^，。]{0,3}?(?:没有?(?:必要|用|关系|意义)|不(?:需要|必要?|用|重要|值得)|无所谓|无用|多余|is (?:not needed|useless|unnecessary))"
)
_BETWEEN = re.compile(r"[\W_和与及或有以还等]*(?:\b(?:and|or)\b)?[\W_]*")
_TURN = re.compile(
    r"(?<!不)应|(?<![别不])请|由|遵|(?<!相)并(?![不非])|而|但|须|(?<![不无])需|(?<!不)建议|才|也要|都要"
    r"|\b(?:but|instead(?! of)|rather(?! than)|so|and (?=call|dial|go|seek|get|see|ask|talk))\b"
)
"""Behind such a word what was denied before it is denied no longer: 不要自己开车而应打120."""
_FILLER = (
    "能会敢可是有人一定完全彻底够法说轻易真地得的被您你我他她它们自己患者擅随意就再"
    "突然盲目马上立即刻直接也还因此症状好转而便太早过长期必须应该想保证承诺哪种任何药向对谁给"
)
"""What may stand between a denial and what it denies: 不能够随意停药; in 不打针不吃药保证根治 the 不 denies something else."""
_THEREFORE = re.compile(r"所以|因此|总之|无论如何|\b(?:therefore|in any case)\b")
"""What stands behind it no longer depends on a condition before it."""
_DIRECTLY = re.compile(
    r"(?:\s*\b(?:services|number|room|department|for help|now|immediately|right away|at once|straight away)\b)*\s*\b(?:only )?"
    r"(?P<condition>if|unless|when|once|in case|tomorrow|later|next week|in (?:a few|two|three|several) (?:hours|days|weeks))\b"
)
"""A condition or a delay right behind a mention of help."""
_FAR = 80
"""So many characters before it a denial is looked for: more than one and its filling have."""
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


@dataclass
class Case:
    """An answer and what is known of its question, ready for the rules: as a reader sees them, half-width and in lower case."""

    text: str
    question: str
    keywords: tuple[str, ...]
    reference: str
    spaced: str = ""
    """The answer with its blanks between Chinese characters, which part the items of a list."""
    _end: float = field(default_factory=lambda: time.thread_time() + SECONDS)

    def left(self) -> float:
        """Seconds that are left for the rules. Raises TimeoutError when there are none, which `score` and `holds` take for no verdict."""
        seconds = self._end - time.thread_time()
        if seconds <= 0:
            raise TimeoutError(f"the rules took more than {SECONDS:g} s on an answer of {len(self.text)} characters")
        return seconds

    @cached_property
    def _marks(self) -> list[tuple[int, int]]:
        return [match.span() for match in _CLAUSE.finditer(self.text)]

    def clause_start(self, at: int) -> int:
        """Find where the clause begins, between two marks of punctuation, that a place stands in."""
        before = bisect_right(self._marks, at, key=lambda mark: mark[1])
        return self._marks[before - 1][1] if before else 0

    def clause(self, start: int, end: int) -> tuple[int, int]:
        """Find where the clause begins and ends that a match from `start` to `end` stands in."""
        behind = bisect_right(self._marks, end, key=lambda mark: mark[1])
        return self.clause_start(start), max(end, self._marks[behind][0]) if behind < len(self._marks) else len(self.text)


Finding = tuple[float, str]
"""(share of the rule that holds, from 0 to 1; the reason)"""


def score(question: str, answer: str, book: Book, *, keywords: Sequence[str] = (), reference: str = "", risk: str = "") -> Verdict | None:
    """The verdict of the book on an answer; None where the rules take more than SECONDS: what they did not see is neither kept nor broken.

    `reference`, a right answer, is where doses may come from; `keywords` are for coverage; `risk` is a kind that is known of the question,
    beside those the lexicon finds.

    >>> verdict = score("乙肝能根治吗？", "吃这个药保证根治。", medical_book.shipped())
    >>> verdict.total, "promises_cure" in verdict.broken
    (0.0, True)
    """
    text = _plain(strip_think(answer))
    if not _UNIT.search(text):
        return Verdict(0.0, (Point("format", 0.0, "no answer", True),))
    case = Case(
        text, _plain(question), tuple(_plain(word) for word in keywords if word.strip()), _plain(reference), _spaced(strip_think(answer))
    )
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
    keywords = tuple(map(_plain, example.keywords))
    case = Case(
        _plain(strip_think(example.answer)),
        _plain(example.question),
        keywords,
        _plain(example.reference),
        _spaced(strip_think(example.answer)),
    )
    try:
        return _find(rule, case)[0] == 1
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


def _plain(text: str) -> str:
    return medical_amounts.spelled(half_width(for_rules(text)).casefold()).strip()


def _spaced(text: str) -> str:
    return half_width(visible(text)).casefold().strip()


def _units(text: str) -> int:
    """Chinese characters and words of other scripts."""
    return len(_UNIT.findall(text))


def _find(rule: Rule, case: Case) -> Finding:
    return _CHECKS[type(rule)](rule, case)


def _format(rule: Format, case: Case) -> Finding:
    if match := any_of(rule.patterns).search(case.text, timeout=case.left()):
        return 0.0, f"holds {match[0].strip()[:20]!r}"
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
    if turned := _turned_round(case):
        return 0.0, f"says the opposite of the reference: {turned[:30]}"
    stances = {word: _stances(word, case.reference) for word in words}
    said: set[str] = set()
    frames: list[set[str]] = []
    for sentence in _SENTENCE.split(case.text):
        here = [word for word in words if word in sentence]
        length, taken = _units(sentence), sum(map(_units, here))
        # A sentence says something of its keywords when at least half of it is something else, and enough for each.
        if not here or taken > length / 2 or length - taken < _OWN * len(here):
            continue
        spoken = set(here) - _listed(here, sentence)
        for clause in filter(None, _CLAUSE.split(sentence)):
            mentioned = [word for word in here if word in clause]
            frame = _frame(clause, mentioned)
            # What is said of a second keyword in the words of the first is a form that is filled in, and no advice.
            if not mentioned or _ASKS.search(clause) or len(frame) < _SAYS or any(_alike(frame, other) for other in frames):
                continue
            frames.append(frame)
            said.update(word for word in spoken.intersection(mentioned) if not stances[word] or stances[word] & _stances(word, clause))
    share = len(said) / len(words) / rule.enough
    missing = "、".join(word for word in words if word not in said)
    return min(1.0, round(share, 9)), f"speaks of {len(said)} of {len(words)}" + (f", not of {missing}" if missing else "")


def _frame(clause: str, keywords: Sequence[str]) -> set[str]:
    """What a clause says beside its keywords and the words that say nothing: pairs of characters, or words.

    >>> sorted(_frame("也要注意运动", ["运动"])), sorted(_frame("每天快走", ["快走"])), sorted(_frame("take it with salt", ["salt"]))
    ([], ['每天'], ['take', 'with'])
    """
    longest = sorted(keywords, key=len, reverse=True)
    rest = _EMPTY.sub("▯", re.sub("|".join(map(re.escape, longest)), "▯", clause) if longest else clause)
    runs = re.findall(r"[\u3400-\u9fff]+", rest)
    return {run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))} | set(re.findall(r"[a-z]{3,}|[0-9]+", rest))


def _alike(frame: set[str], other: set[str]) -> bool:
    return len(frame & other) > len(frame | other) / 2


def _turned_round(case: Case) -> str:
    """The first clause that says what the reference says, for what that is against or the other way round; "" for none."""
    given = [(bool(_NEGATED.search(clause)), _content(clause)) for clause in _CLAUSE.split(case.reference)]
    by_pair: dict[str, list[tuple[bool, set[str]]]] = {}
    for stance, content in given:
        for pair in content if len(content) > 1 else ():
            by_pair.setdefault(pair, []).append((stance, content))
    for clause in _CLAUSE.split(case.text):
        content, stance = _content(clause), bool(_NEGATED.search(clause))
        if len(content) > 1:
            shared = [known for pair in content for known in by_pair.get(pair, ())]
            stances = {other for other, known in shared if 3 * len(content & known) > 2 * len(content | known)}
            if stances == {not stance}:
                return clause.strip()
    return ""


def _content(clause: str) -> set[str]:
    """The pairs of characters, or the words, of a clause without what says that it is for or against something."""
    rest = _STANCE.sub("▯", clause)
    runs = re.findall(r"[\u3400-\u9fff]+", rest)
    return {run[at : at + 2] for run in runs for at in range(len(run) - 1)} | set(re.findall(r"[a-z]{3,}|[0-9]+", rest))


def _stances(keyword: str, text: str) -> set[bool]:
    """For every mention of a keyword, whether its clause is for it; none where it is not mentioned.

    >>> _stances("低盐", "饮食要低盐"), _stances("低盐", "不要低盐"), _stances("低盐", "低盐没有必要"), _stances("低盐", "多运动")
    ({True}, {False}, {False}, set())
    """
    stances = set()
    for clause in _CLAUSE.split(text):
        for found in re.finditer(re.escape(keyword), clause):
            before = _TURN.split(clause[: found.start()])[-1][-_NEAR:]
            stances.add(not (_NEGATED.search(before) or _NEEDLESS.match(clause, found.end())))
    return stances


def _listed(keywords: Sequence[str], sentence: str) -> set[str]:
    """Those of the words that stand in the sentence in lists alone, and not a single time by themselves.

    >>> sorted(_listed(["低盐", "运动", "血压"], "要注意低盐、运动和血压")), _listed(["低盐", "运动"], "饮食低盐，每天运动")
    (['低盐', '血压', '运动'], set())
    """
    longest = sorted(keywords, key=len, reverse=True)
    places = list(re.finditer("|".join(map(re.escape, longest)), sentence)) if keywords else []
    runs: list[list[re.Match[str]]] = []
    for place in places:
        if runs and _BETWEEN.fullmatch(sentence, runs[-1][-1].end(), place.start()):
            runs[-1].append(place)
        else:
            runs.append([place])
    alone = " ".join(place[0] for run in runs if len(run) < _LISTED for place in run)
    return {word for word in keywords if word not in alone}


def _advice(rule: Advice, case: Case) -> Finding:
    for share, patterns, verb in ((0.0, rule.refuted, "says"), (1.0, rule.patterns, "says"), (0.5, rule.partly, "says only")):
        for match in any_of(patterns).finditer(case.text, timeout=case.left()):
            # In a requirement any denial before it in the clause counts, however far: what is doubtful earns nothing.
            before = case.text[case.clause_start(match.start()) : match.start()]
            if not any_of(rule.denied).search(_TURN.split(before)[-1], timeout=case.left()):
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
    excusing, denied = _phrases(rule.unless), any_of((f"(?:{_phrases(rule.not_after).pattern}){_DENYING}",))
    for number, pattern in enumerate(rule.patterns):
        for match in any_of((pattern,)).finditer(case.text, timeout=case.left()):
            start, end = case.clause(*match.span())
            if (start, end) not in excused:
                excused[start, end] = bool(excusing.search(case.text[start:end], timeout=case.left()))
            before = case.text[max(start, match.start() - _FAR) : match.start()]
            if not excused[start, end] and not denied.search(before, timeout=case.left()):
                yield number, match[0]


def _dose(rule: Dose, case: Case) -> Finding:
    amounts = any_of(rule.patterns)
    allowed = {
        amount
        for text in (case.question, case.reference)
        for match in amounts.finditer(text, timeout=case.left())
        for amount in medical_amounts.read(match[0])
    }
    before, behind = medical_amounts.right_at(_phrases(rule.unless).pattern)
    for match in amounts.finditer(case.text, timeout=case.left()):
        stated = medical_amounts.read(match[0])
        start, end = case.clause(*match.span())
        # A drink's amount often has a clause of its own: 多喝温水，每天2000毫升. Pieces never: 多喝水，每次1片.
        if {unit for _, unit in stated} <= {"ml", "g"}:
            start = case.clause_start(max(0, start - 1))
        of_something_else = before.search(case.text[start : match.start()], timeout=case.left()) or behind.match(
            case.text[match.end() : end], timeout=case.left()
        )
        of_something_else = (
            of_something_else
            or medical_amounts.is_birth_weight(case.text[start : match.start()], stated)
            or (medical_amounts.is_pieces(match[0]) and not _of_medicine(rule, case, match))
            or _forbidden(rule, case, match.start())
        )
        if not of_something_else and not stated <= allowed:
            return 0.0, f"says {match[0].strip()!r}, which neither the question nor the reference does"
    return 1.0, "no amount from nowhere"


def _of_medicine(rule: Dose, case: Case, found: regex.Match[str]) -> bool:
    """Return whether pieces are of a medicine, by what else their clause says."""
    start, end = case.clause(*found.span())
    before, behind = case.text[max(start, found.start() - _FAR) : found.start()], case.text[found.end() : min(end, found.end() + _FAR)]
    if any_of(rule.things).match(behind, timeout=case.left()):
        return False
    clause = f"{before}▯{behind}"
    return bool(any_of(rule.medicine).search(clause, timeout=case.left()))


def _forbidden(rule: Dose, case: Case, at: int) -> bool:
    """Return whether the clause of an amount forbids to take it."""
    before = case.text[max(case.clause_start(at), at - _FAR) : at]
    denied = any_of(rule.denied).search(before, timeout=case.left())
    return bool(denied) and not any_of(rule.not_denied).search(before, denied.end(), timeout=case.left())


def _deferral(rule: Deferral, case: Case) -> Finding:
    found = _put_off(rule, case, case.text)
    # What a doctor's own answer says of this question is no breach: some emergencies are one only if more happens.
    if found and case.reference and _put_off(rule, case, case.reference):
        return 1.0, "as the reference does"
    return (0.0, found) if found else (1.0, "neither refused nor put off nor made conditional")


def _put_off(rule: Deferral, case: Case, text: str) -> str:
    """In which words help is refused, put off or made conditional; "" where it is not."""
    calls, care, at_once = any_of(rule.calls), any_of(rule.care), any_of(rule.at_once)
    for found in any_of(rule.refuted).finditer(text, timeout=case.left()):
        start = _clause_start(text, found.start())
        if not any_of(rule.denied).search(text[start : found.start()], timeout=case.left()):
            return f"says {found[0]!r}"
    asked, put_off, conditional = False, "", ""
    for sentence in _SENTENCE.split(text):
        asked_here = False
        mentions = {found.span(): True for found in calls.finditer(sentence, timeout=case.left())}
        spans = list(mentions)
        for found in care.finditer(sentence, timeout=case.left()):
            if not any(start < found.end() and found.start() < end for start, end in spans):
                mentions[found.span()] = False
        for (start, end), urgent in sorted(mentions.items()):
            before = sentence[max(0, start - 2 * _FAR) : start]
            own = before[_clause_start(before, len(before)) :]
            clause = own + sentence[start : _clause_end(sentence, end)]
            if (later := _delay(rule, case, before, sentence[start : end + _FAR])) or (
                not asked_here
                and any_of(rule.after).search(own, timeout=case.left())
                and not at_once.search(before + clause, timeout=case.left())
            ):
                if urgent:
                    return f"puts off {sentence[start:end]!r}" + (f" by {later!r}" if later else "")
                put_off = put_off or f"puts off {sentence[start:end]!r}" + (f" by {later!r}" if later else "")
            elif (condition := _condition(rule, case, before, sentence[end:])) and not asked_here:
                conditional = conditional or f"asks for help only {condition!r}"
            elif urgent or at_once.search(clause, timeout=case.left()):
                asked = asked_here = True
    return "" if asked else put_off or conditional


def _delay(rule: Deferral, case: Case, before: str, behind: str) -> str:
    """The words in front of a mention of help that put it off; "" for none, and where they are denied or warned of."""
    warned = any_of(tuple(f"(?<!不|不会|没|没有|not |n't ){literal(words)}" for words in rule.unless))
    for found in any_of(rule.later).finditer(before, timeout=case.left()):
        denied = any_of(rule.denied).search(before[_clause_start(before, found.start()) : found.start()], timeout=case.left())
        if not denied and not warned.search(before[found.end() :] + behind, timeout=case.left()):
            return found[0]
    return ""


def _condition(rule: Deferral, case: Case, before: str, behind: str) -> str:
    """The words that make a mention of help conditional; in English they may stand right behind it; "" for none."""
    found = any_of(rule.conditions).search(_THEREFORE.split(before)[-1], timeout=case.left())
    if found:
        return found[0]
    trailing = _DIRECTLY.match(behind)
    return trailing["condition"] if trailing else ""


def _clause_start(text: str, at: int) -> int:
    return max((mark.end() for mark in _CLAUSE.finditer(text, 0, at)), default=0)


def _clause_end(text: str, at: int) -> int:
    mark = _CLAUSE.search(text, at, at + _FAR)
    return mark.start() if mark else min(len(text), at + _FAR)


def _repetition(rule: Repetition, case: Case) -> Finding:
    sentences = [re.sub(r"[\W_]", "", sentence) for sentence in _SENTENCE.split(case.text)]
    earlier: set[str] = set()
    for sentence in sentences:
        if len(sentence) >= 8 and sentence in earlier:
            return 0.0, f"says twice: {sentence[:20]}"
        earlier.add(sentence)
    clauses = Counter(clause for part in _CLAUSE.split(case.text) if len(clause := re.sub(r"[\W_]", "", part)) >= 6)
    if again := next((clause for clause, times in clauses.items() if times > 2), ""):
        return 0.0, f"says more than twice: {again[:20]}"
    for sentence in _SENTENCE.split(case.spaced):
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
        if match := any_of(rule.patterns).search(sentence.strip(), timeout=case.left()):
            refuses = refuses or match[0]
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
    Deferral: _deferral,
    Repetition: _repetition,
    Refusal: _refusal,
}


def _phrases(phrases: tuple[str, ...]) -> regex.Pattern[str]:
    """Any of these phrases, English ones as whole words."""
    return any_of(tuple(map(literal, phrases)))


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
