"""The book that a doctor edits: its own examples, and what an edit that cannot be used is answered with."""

import pytest
import yaml
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.book import BookError
from overtake.tasks.medical.rewards.medical_rules import failing_examples, holds

BOOK = medical_book.shipped()
EXAMPLES = [
    pytest.param(rule, example, wanted, id=f"{rule.id}-{'passes' if wanted else 'fails'}-{number}")
    for rule in BOOK.rules
    for wanted, examples in ((True, rule.passes), (False, rule.fails))
    for number, example in enumerate(examples, 1)
]
QUESTIONS = [
    pytest.param(kind.id, question, wanted, id=f"{kind.id}-{'yes' if wanted else 'no'}-{number}")
    for kind in BOOK.risks.kinds
    for wanted, questions in ((True, kind.examples.yes), (False, kind.examples.no))
    for number, question in enumerate(questions, 1)
]


@pytest.mark.parametrize(("rule", "example", "wanted"), EXAMPLES)
def test_the_rules_own_examples_pass_and_fail_as_they_say(rule, example, wanted):
    assert rule.applies(BOOK.risks.of(example.question)), "the rule is not for this question"
    assert holds(rule, example) is wanted


@pytest.mark.parametrize(("kind", "question", "wanted"), QUESTIONS)
def test_the_lexicon_finds_its_own_examples(kind, question, wanted):
    assert (kind in BOOK.risks.of(question)) is wanted


def test_the_issues_kinds_of_risk_and_rules_are_there():
    kinds = {kind.id for kind in BOOK.risks.kinds}
    assert kinds >= {"emergency", "pregnancy", "infant", "self_harm", "drug_dose", "drug_interaction", "stopping_medication"}
    rules = {rule.id for rule in BOOK.rules}
    assert rules >= {"format", "length", "keywords", "stuffing", "urgent_care", "invented_dose", "promises_cure", "certain_diagnosis"}
    assert {"useless_refusal", "declines_illicit"} <= rules, "no refusal where none is owed, and one where it is"


def test_a_phrase_that_is_denied_or_past_is_no_emergency_now():
    assert BOOK.risks.of("没有胸痛，也没有呼吸困难") == []
    assert BOOK.risks.of("前段时间脑梗出院了，平时吃什么好") == []
    assert BOOK.risks.of("父亲去年心梗过，现在突然胸口剧痛") == ["emergency"], "an acute pattern counts whatever went before"
    assert BOOK.risks.of("我妈不小心过量吃了降压药")[0] == "drug_dose", "不 in 不小心 denies nothing"


@pytest.fixture
def edited(tmp_path):
    """edited(change) -> the path of a copy of the shipped rules after `change(rules by id, whole file)`."""

    def edited(change, name=medical_book.RULES):
        path = tmp_path / name
        found = yaml.load(medical_book._shipped(name).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        by_id = {one["id"]: one for section in ("requires", "forbids", "kinds") for one in found.get(section, [])}
        change(by_id, found)
        path.write_text(yaml.safe_dump(found, allow_unicode=True), encoding="utf-8")
        return path

    return edited


EDITS = [
    (
        lambda rules, _: rules["length"].update(kind="size"),
        r"rule length: kind 'size' is unknown: under requires write one of format",
    ),
    (lambda rules, _: rules["invented_dose"].pop("kind"), r"rule invented_dose: kind None is unknown: under forbids write"),
    (lambda rules, _: rules["promises_cure"].pop("fails"), r"rule promises_cure: no example under fails: add one"),
    (lambda rules, _: rules["promises_cure"].update(passes=[]), r"rule promises_cure: no example under passes: add one"),
    (
        lambda rules, _: rules["urgent_care"]["patterns"].append("(急诊"),
        r"rule urgent_care: patterns: '\(急诊' is no regular .*correct it",
    ),
    (
        lambda rules, _: rules["urgent_care"].update(only_for=["emergencies"]),
        r"rule urgent_care: 'emergencies' is no kind of risk: choose",
    ),
    (lambda rules, _: rules["length"].update(weight="viel"), r"rule length: weight is 'viel'"),
    (lambda rules, _: rules["promises_cure"].update(weight="3"), r"rule promises_cure: weight is 3: .* between 0 and 1"),
    (lambda rules, _: rules["length"].update(leest="3"), r"rule length: leest is no field of this kind: correct its name"),
    (lambda rules, _: rules["length"].update(most="20"), r"rule length: least 40, most 20, none_above 1600: let them rise"),
    (lambda rules, _: rules["format"].pop("zh"), r"rule format: zh is missing: add it"),
    (lambda rules, _: rules["format"].update(id="length"), r"two rules have the id length: rename one"),
    (lambda _, whole: whole.pop("forbids"), r"forbids 0: forbids is missing: add it"),
]


@pytest.mark.parametrize(("change", "words"), EDITS)
def test_an_unusable_rule_is_answered_with_file_rule_and_remedy(edited, change, words):
    path = edited(change)
    with pytest.raises(BookError, match=words) as refusal:
        medical_book.book(rules=path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_an_unusable_lexicon_is_answered_likewise(edited, tmp_path):
    path = edited(lambda kinds, _: kinds["infant"]["patterns"].append("["), medical_book.RISKS)
    with pytest.raises(BookError, match=r"medical_risks.yaml: rule infant: patterns: '\[' is no regular expression"):
        medical_book.book(risks=path)
    path.write_text("kinds: [\n", encoding="utf-8")
    with pytest.raises(BookError, match=r"not readable as YAML at line \d"):
        medical_book.book(risks=path)
    path.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(BookError, match="holds no kinds"):
        medical_book.book(risks=path)


def test_a_false_example_is_found_and_named(edited):
    path = edited(lambda rules, _: rules["promises_cure"]["passes"].append({"question": "能好吗", "answer": "保证治好。"}))
    last = len(next(rule for rule in BOOK.rules if rule.id == "promises_cure").passes) + 1
    assert failing_examples(medical_book.book(rules=path)) == [f"promises_cure: passes {last}: the answer breaks the rule: 保证治好。"]


def test_a_plain_word_no_stays_a_word():
    wording = next(rule for rule in BOOK.forbids if rule.id == "promises_cure")
    assert "no" in wording.not_after, "YAML would make false of it"


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"(a+)+$", id="exponential"),
        pytest.param(r"[0-9]+\s*[0-9]*\s*[0-9]+mg", id="cubic in digits"),
        pytest.param(r"[1一](\s|\s\s)*x", id="exponential in blanks behind a number"),
        pytest.param(r"(剧痛|痛)*(剧|痛)*(痛)*(痛)*止", id="of the pattern's own words"),
    ],
)
def test_a_slow_pattern_is_refused_by_rule_and_line(edited, pattern):
    path = edited(lambda rules, _: rules["promises_cure"].__setitem__("patterns", ["保证根治", pattern]))
    with pytest.raises(BookError, match="takes over 50 ms on 1000 characters") as error:
        medical_book.book(path)
    line = next(at for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if pattern in line)
    assert str(error.value).startswith(f"{path}:{line}: rule promises_cure: patterns: ")
