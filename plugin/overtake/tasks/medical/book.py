"""The medical rule book and the lexicon of risks: two YAML files that a doctor edits, read strictly. Imports neither torch nor ms-swift."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import regex
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from overtake.reading.normal_forms import for_rules, half_width

RULES = "medical_rules.yaml"
RISKS = "medical_risks.yaml"
_NEAR = 4
"""A word of `not_now` counts when it ends at most so many characters before what it denies."""
_LONGEST = 16
"""How far back such a phrase is looked for."""
_SLOW = 0.05
"""Seconds that a pattern may take on a text made to be slow; whole answers have some hundred such searches."""
_HARD = ("0", "1.", "a", " ", "\n", "的", "一", "，", "a, ")
"""What is repeated to be slow, beside the words of the pattern itself."""
_HARD_LENGTH = 1000
"""Characters of such a text."""
_LEADS = ("", "1", "的")
"""What stands before blanks."""


class BookError(ValueError):
    """A rule or a kind of risk cannot be used; the message names the file, the id and the remedy."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Entry):
    """A question and an answer that a rule must pass or fail; keywords and reference as in a data row."""

    question: str
    answer: str
    keywords: tuple[str, ...] = ()
    reference: str = ""


class Rule(_Entry):
    """Rule of the book; the kinds below add what they need. Fields are explained at the top of medical_rules.yaml."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    zh: str = Field(min_length=1)
    en: str = Field(min_length=1)
    weight: float = Field(gt=0)
    safety: bool = False
    critical: bool = False
    only_for: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    passes: tuple[Example, ...] = Field(min_length=1)
    fails: tuple[Example, ...] = Field(min_length=1)

    def applies(self, risks: Sequence[str]) -> bool:
        """Return whether it is for a question of these kinds of risk."""
        return (not self.only_for or any(risk in self.only_for for risk in risks)) and not any(risk in self.not_for for risk in risks)


class Format(Rule):
    """Demand for no leftover marks, and a finished last sentence."""

    kind: Literal["format"]
    patterns: tuple[str, ...] = Field(min_length=1)


class Length(Rule):
    """Demand for between `least` and `most` characters or words."""

    kind: Literal["length"]
    least: int = Field(ge=1)
    most: int
    none_above: int


class Keywords(Rule):
    """The row's keywords, spoken of in sentences."""

    kind: Literal["keywords"]
    enough: float = Field(gt=0, le=1)


class Advice(Rule):
    """Demand that one of the patterns is said."""

    kind: Literal["advice"]
    patterns: tuple[str, ...] = Field(min_length=1)
    partly: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class Wording(Rule):
    """Prohibition of wording."""

    kind: Literal["wording"]
    patterns: tuple[str, ...] = Field(min_length=1)
    at_least: int = Field(1, ge=1)
    unless: tuple[str, ...] = ()
    not_after: tuple[str, ...] = ()


class Dose(Rule):
    """Amounts of a medicine from nowhere."""

    kind: Literal["dose"]
    patterns: tuple[str, ...] = Field(min_length=1)
    unless: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    medicine: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    not_denied: tuple[str, ...] = ()


class Deferral(Rule):
    """Emergency help that is refused, put off or made conditional."""

    kind: Literal["deferral"]
    calls: tuple[str, ...] = Field(min_length=1)
    care: tuple[str, ...] = Field(min_length=1)
    refuted: tuple[str, ...] = Field(min_length=1)
    later: tuple[str, ...] = Field(min_length=1)
    after: tuple[str, ...] = ()
    conditions: tuple[str, ...] = Field(min_length=1)
    at_once: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


class Repetition(Rule):
    """Padding and lists."""

    kind: Literal["repetition"]
    longest_list: int = Field(ge=2)
    distinct: float = Field(gt=0, le=1)


class Refusal(Rule):
    """Ban on an answer that is nothing but a refusal."""

    kind: Literal["refusal"]
    patterns: tuple[str, ...] = Field(min_length=1)
    least: int = Field(ge=1)


Requirement = Annotated[Format | Length | Keywords | Advice, Field(discriminator="kind")]
Prohibition = Annotated[Wording | Dose | Deferral | Repetition | Refusal, Field(discriminator="kind")]


class _RuleFile(_Entry):
    requires: tuple[Requirement, ...] = Field(min_length=1)
    forbids: tuple[Prohibition, ...]


class RiskExamples(_Entry):
    """Questions that a kind of risk must find, and such that it must not."""

    yes: tuple[str, ...] = Field(min_length=1)
    no: tuple[str, ...] = Field(min_length=1)


class Risk(_Entry):
    """A kind of risk and the words that tell it."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    zh: str = Field(min_length=1)
    en: str = Field(min_length=1)
    patient_only: bool = False
    acute: bool = False
    words: tuple[str, ...] = Field(min_length=1)
    patterns: tuple[str, ...] = ()
    examples: RiskExamples

    @cached_property
    def matchers(self) -> tuple[regex.Pattern[str], regex.Pattern[str]]:
        """Words and patterns, each as one expression on lower-case text."""
        return any_of(tuple(map(literal, self.words))), any_of(self.patterns)


class Risks(_Entry):
    """The lexicon of risks."""

    not_now: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    textbook: tuple[str, ...] = ()
    kinds: tuple[Risk, ...] = Field(min_length=1)

    def of(self, question: str) -> list[str]:
        """The kinds of risk of a question, the gravest first.

        >>> lexicon().of("没有胸痛，怀孕5个月能吃布洛芬吗，剂量多大")
        ['pregnancy', 'drug_dose']
        """
        text = half_width(for_rules(question)).casefold()
        textbook, past = (bool(any_of(tuple(map(literal, words))).search(text)) for words in (self.textbook, self.past))
        ids = []
        for kind in self.kinds:
            words, patterns = kind.matchers
            counted = [patterns] if kind.acute and past else [words, patterns]
            if not (kind.patient_only and textbook) and any(self._holds(matcher, text) for matcher in counted):
                ids.append(kind.id)
        return ids

    def _holds(self, matcher: regex.Pattern[str], text: str) -> bool:
        # 不 stands in 不小心 too, so a single character counts only directly before the phrase.
        denied = any_of(tuple(rf"{regex.escape(word)}[^，。,.;；!?]{{0,{_NEAR if len(word) > 1 else 0}}}$" for word in self.not_now))
        return any(not denied.search(text[max(0, match.start() - _LONGEST) : match.start()]) for match in matcher.finditer(text))


@cache
def any_of(patterns: tuple[str, ...]) -> regex.Pattern[str]:
    """One expression for any of the patterns; of none, one that matches nothing."""
    return regex.compile("|".join(f"(?:{pattern})" for pattern in patterns) or "(?!)")


def any_phrase(phrases: tuple[str, ...]) -> regex.Pattern[str]:
    """Any of these phrases, English ones as whole words."""
    return any_of(tuple(map(literal, phrases)))


def literal(word: str) -> str:
    """A phrase as an expression: English ones only as whole words."""
    exact = regex.escape(word.casefold())
    return rf"(?<![a-z0-9]){exact}(?![a-z0-9])" if word.isascii() else exact


@dataclass(frozen=True)
class Book:
    """The rules in force, with the lexicon that tells which of them apply."""

    requires: tuple[Requirement, ...]
    forbids: tuple[Prohibition, ...]
    risks: Risks

    @property
    def rules(self) -> tuple[Requirement | Prohibition, ...]:
        """Rules of both sections, in the file's order."""
        return (*self.requires, *self.forbids)

    @property
    def safety(self) -> frozenset[str]:
        """The ids of the rules that safety is measured by."""
        return frozenset(rule.id for rule in self.rules if rule.safety)

    @property
    def critical(self) -> frozenset[str]:
        """The ids of the rules whose breach caps the reward, whatever else an answer earns."""
        return frozenset(rule.id for rule in self.rules if rule.critical)


def book(rules: Path | None = None, risks: Path | None = None) -> Book:
    """The book of these two files; of the shipped ones where none is named.

    Raises BookError naming the file, the rule and the remedy, and OSError for a file that cannot be read.
    """
    return shipped() if rules is None and risks is None else _book(rules or _shipped(RULES), _lexicon(risks or _shipped(RISKS)))


@cache
def shipped() -> Book:
    """The book in this folder, read once."""
    return _book(_shipped(RULES), lexicon())


@cache
def lexicon() -> Risks:
    """The lexicon of risks in this folder, read once."""
    return _lexicon(_shipped(RISKS))


def _shipped(name: str) -> Path:
    return Path(str(resources.files(__package__).joinpath(name)))


def _lexicon(path: Path) -> Risks:
    lexicon: Risks = _checked(path, Risks, ("kinds",))
    _unique(path, [kind.id for kind in lexicon.kinds], "kinds of risk")
    for kind in lexicon.kinds:
        _compile(path, kind.id, "patterns", kind.patterns)
    return lexicon


def _book(path: Path, risks: Risks) -> Book:
    rule_file: _RuleFile = _checked(path, _RuleFile, ("requires", "forbids"))
    rules = (*rule_file.requires, *rule_file.forbids)
    _unique(path, [rule.id for rule in rules], "rules")
    kind_ids = [kind.id for kind in risks.kinds]
    for rule in rules:
        for name in _PATTERNS:
            _compile(path, rule.id, name, getattr(rule, name, ()))
        for risk in (*rule.only_for, *rule.not_for):
            if risk not in kind_ids:
                raise BookError(
                    f"{path}: rule {rule.id}: {risk!r} is no kind of risk: choose one of {', '.join(kind_ids)}, or add it there"
                )
        if isinstance(rule, Length) and not rule.least <= rule.most < rule.none_above:
            raise BookError(f"{path}: rule {rule.id}: least {rule.least}, most {rule.most}, none_above {rule.none_above}: let them rise")
    for rule in rule_file.forbids:
        if rule.weight > 1:
            raise BookError(f"{path}: rule {rule.id}: weight is {rule.weight:g}: what a broken rule takes off lies between 0 and 1")
    return Book(rule_file.requires, rule_file.forbids, risks)


def _checked(path: Path, model: type[BaseModel], lists: Sequence[str]) -> Any:
    try:
        # All is text to this loader, so that the word "no" in a list stays a word.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise BookError(f"{path}: not readable as YAML{where}: mind the indents, and put text with a colon or # in quotes") from None
    if not isinstance(content, dict):
        raise BookError(f"{path}: holds no {' and '.join(lists)}: see the shipped file for their form")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise BookError(f"{path}: " + "; ".join(_words(item, content) for item in error.errors()[:3])) from None


def _words(item: Any, content: dict[str, Any]) -> str:
    """What is wrong with which entry, and what to do."""
    section, *rest = item["loc"]
    number = rest[0] if rest else 0
    # Below requires and forbids pydantic puts the kind between the entry and its field.
    fields = rest[2:] if section in _KINDS else rest[1:]
    entries = content.get(section)
    entry = entries[number] if isinstance(entries, list) and isinstance(number, int) and number < len(entries) else {}
    who = (
        f"{'rule' if section in _KINDS else 'kind'} {entry['id']}" if isinstance(entry, dict) and entry.get("id") else f"{section} {number}"
    )
    name, problem = ".".join(map(str, fields)) or str(section), item["type"]
    if problem.startswith("union_tag"):
        kind = entry.get("kind") if isinstance(entry, dict) else None
        return f"{who}: kind {kind!r} is unknown: under {section} write one of {', '.join(_KINDS[section])}"
    if name.split(".")[0] in ("passes", "fails", "examples") and problem in ("missing", "too_short"):
        return f"{who}: no example under {name}: add one, for the examples are the test"
    if problem == "missing":
        return f"{who}: {name} is missing: add it"
    if problem == "extra_forbidden":
        return f"{who}: {name} is no field of this kind: correct its name or delete it"
    return f"{who}: {name} is {str(item['input'])[:60]!r}: {item['msg']}: correct it"


_PATTERNS = (
    *("patterns", "partly", "refuted", "denied"),
    *("things", "medicine", "not_denied", "calls", "care", "later", "after", "conditions", "at_once"),
)
"""Fields that hold regular expressions."""
_KINDS = {"requires": ("format", "length", "keywords", "advice"), "forbids": ("wording", "dose", "deferral", "repetition", "refusal")}


def _unique(path: Path, ids: Sequence[str], what: str) -> None:
    if twice := [name for index, name in enumerate(ids) if name in ids[:index]]:
        raise BookError(f"{path}: two {what} have the id {twice[0]}: rename one")


def _compile(path: Path, who: str, name: str, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        try:
            slow = _slow_on(regex.compile(pattern))
        except regex.error as error:
            raise BookError(f"{path}: rule {who}: {name}: {pattern!r} is no regular expression ({error}): correct it") from None
        if slow:
            where = f"{path}:{_line(path, who, pattern)}"
            remedy = "let no two repetitions (*, +) match the same text one behind the other, and bound them, as in {0,8}"
            fault = f"takes over {1000 * _SLOW:.0f} ms on {_HARD_LENGTH} characters that begin {slow!r}"
            raise BookError(f"{where}: rule {who}: {name}: {pattern!r} {fault}: {remedy}")


def _slow_on(pattern: regex.Pattern[str]) -> str:
    """What a pattern is slow on when it is repeated; "" for a pattern that is not."""
    pieces = dict.fromkeys(regex.findall(r"[\w\s]{1,12}", regex.sub(r"\\.|\{[^}]*\}", "", pattern.pattern)))
    # What ends such a text breaks the repetition, and holds what the pattern may look for before it begins.
    end = "\x01" + "\x01".join(pieces)
    texts = [unit * (_HARD_LENGTH // len(unit)) for unit in (*_HARD, *list(pieces)[:4])] + [lead + " " * _HARD_LENGTH for lead in _LEADS]
    return next((text[:8] for text in texts if all(_is_slow(pattern, text + end) for _ in range(3))), "")


def _is_slow(pattern: regex.Pattern[str], text: str) -> bool:
    begun = time.thread_time()  # of this thread: a busy machine makes no pattern slow
    try:
        for _ in pattern.finditer(text, timeout=20 * _SLOW):
            if time.thread_time() - begun > _SLOW:
                return True
    except TimeoutError:
        return True
    return time.thread_time() - begun > _SLOW


def _line(path: Path, who: str, pattern: str) -> int:
    """The line of the file on which a rule's pattern begins."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    entries = [entry for _, listed in root.value if isinstance(listed, yaml.SequenceNode) for entry in listed.value]
    (rule,) = [entry for entry in entries if any((key.value, value.value) == ("id", who) for key, value in entry.value)]
    listed = [node for _, value in rule.value if isinstance(value, yaml.SequenceNode) for node in value.value]
    return next(node.start_mark.line + 1 for node in listed if node.value == pattern)
