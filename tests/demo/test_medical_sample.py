"""The medical sample: enough of everything, closed labels, no question twice, and no answer that names a dose or makes a promise."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from rapidfuzz import fuzz, process

FOLDER = Path(__file__).parents[2] / "datasets/medical"
RISKS = {"emergency", "pregnancy", "infant", "self_harm", "drug_dose", "drug_interaction", "stopping_medication"}
OWED = {"urgent_care", "hotline", "no_dose", "refer", "answer_plainly"}
TRICKS = {"", "pressure", "false_premise", "injection"}
ALIKE = 80
# An amount of a medicine, in figures or in Chinese numerals.
DOSE = re.compile(
    r"(?:\d+(?:\.\d+)?|[半一二两三四五六七八九十百几]+)\s*(?:毫克|微克|毫升|克|片|粒|颗|丸|滴|支|袋|单位)"
    r"|\d+(?:\.\d+)?\s*(?:mg|mcg|µg|g|ml|iu)\b"
    r"|\b(?:\d+|one|two|three|four|half an?)\s+(?:tablet|pill|capsule|drop|unit|spoon)",
    re.IGNORECASE,
)
PROMISE = re.compile(r"保证|根治|包治|治愈|痊愈|百分之百|100\s*%|放心|guarantee|\bcure[sd]?\b|completely safe", re.IGNORECASE)


def read(name):
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


QUESTIONS, RED_TEAM = read("questions.jsonl"), read("red_team.jsonl")


def english(row):
    return row["id"].split("-")[1] == "en"


def doses(row):
    """The amounts that the answer names and the question does not."""
    return [found[0] for found in DOSE.finditer(row["answer"]) if found[0] not in row["question"]]


def alike(texts):
    """Pairs of texts that say nearly the same, by the closer of two measures."""
    scores = [process.cdist(texts, texts, scorer=scorer, score_cutoff=ALIKE) for scorer in (fuzz.ratio, fuzz.token_set_ratio)]
    return [(a, b) for i, a in enumerate(texts) for j, b in enumerate(texts[:i]) if any(score[i, j] >= ALIKE for score in scores)]


def test_there_are_enough_questions_in_both_languages():
    assert len(QUESTIONS) >= 220
    assert len(RED_TEAM) >= 64
    assert sum(map(english, QUESTIONS)) >= 30
    assert sum(map(english, RED_TEAM)) >= 15


def test_every_row_has_the_fields_that_the_readme_names_and_all_are_filled():
    for row in QUESTIONS:
        assert list(row) in (
            ["id", "question", "answer", "keywords", "department", "risk"],
            ["id", "question", "answer", "reasoning", "keywords", "department", "risk"],
        )
        assert all(row[name] == row[name].strip() != "" for name in row.keys() - {"keywords", "risk"}), row["id"]
    for row in RED_TEAM:
        assert list(row) == ["id", "question", "risk", "owed", "trick"]
        assert row["question"] == row["question"].strip() != ""


def test_ids_are_unique_and_say_the_language():
    ids = [row["id"] for row in QUESTIONS + RED_TEAM]
    assert len(set(ids)) == len(ids)
    assert [key for key in ids if not re.fullmatch(r"(med|red)-(zh|en)-\d{3}", key)] == []
    han = re.compile(r"[\u4e00-\u9fff]")
    assert [row["id"] for row in QUESTIONS + RED_TEAM if english(row) == bool(han.search(row["question"]))] == []


def test_rows_with_and_without_reasoning_occur():
    with_reasoning = sum("reasoning" in row for row in QUESTIONS)
    assert len(QUESTIONS) / 2 <= with_reasoning <= len(QUESTIONS) - 50


def test_departments_are_many_and_none_stands_alone():
    count = Counter(row["department"] for row in QUESTIONS)
    assert len(count) >= 14
    assert min(count.values()) >= 2


def test_labels_come_from_closed_lists():
    assert {row["risk"] for row in QUESTIONS} == RISKS | {""}
    assert {row["risk"] for row in RED_TEAM} == RISKS
    assert {row["owed"] for row in RED_TEAM} == OWED
    assert {row["trick"] for row in RED_TEAM} == TRICKS


def test_every_risk_occurs_often_enough():
    questions = Counter(row["risk"] for row in QUESTIONS if row["risk"])
    assert min(questions.values()) >= 5
    assert 0.25 <= questions.total() / len(QUESTIONS) <= 0.4
    red = Counter(row["risk"] for row in RED_TEAM)
    assert max(red.values()) - min(red.values()) <= 3


def test_the_red_team_asks_harmless_questions_of_every_risk_and_presses_in_every_way():
    harmless = Counter(row["risk"] for row in RED_TEAM if row["owed"] == "answer_plainly")
    assert harmless.total() >= 12
    assert set(harmless) == RISKS
    assert min(Counter(row["trick"] for row in RED_TEAM).values()) >= 6
    assert {row["trick"] for row in RED_TEAM if row["owed"] == "answer_plainly"} == {""}


def test_no_two_questions_are_nearly_the_same():
    assert alike([row["question"] for row in QUESTIONS + RED_TEAM]) == []


def test_answers_have_their_length():
    chinese = [len(row["answer"]) for row in QUESTIONS if not english(row)]
    words = [len(row["answer"].split()) for row in QUESTIONS if english(row)]
    assert 60 <= min(chinese) <= max(chinese) <= 220
    assert 40 <= min(words) <= max(words) <= 90


def test_keywords_stand_in_the_answer():
    assert [row["id"] for row in QUESTIONS if not 2 <= len(set(row["keywords"])) == len(row["keywords"]) <= 5] == []
    assert [(row["id"], word) for row in QUESTIONS for word in row["keywords"] if word not in row["answer"]] == []


def test_no_answer_names_a_dose():
    assert [(row["id"], doses(row)) for row in QUESTIONS if doses(row)] == []


def test_no_answer_makes_a_promise():
    told = [(row["id"], row["answer"] + row.get("reasoning", "")) for row in QUESTIONS]
    assert [(key, found[0]) for key, text in told if (found := PROMISE.search(text))] == []


def test_an_answer_to_a_high_risk_question_sends_to_somebody_who_can_help():
    # What each risk owes at least; an answer that only explains would be a bad example to train on.
    owed = {"emergency": "120|急诊|emergency|ambulance|急救", "self_harm": "12356|120|crisis line"}
    other = "医生|药师|就医|急诊|医院|门诊|儿科|看医|医护|doctor|pharmacist|emergency|midwife|maternity|prescriber|urgent|hospital"
    silent = [row["id"] for row in QUESTIONS if row["risk"] and not re.search(owed.get(row["risk"], other), row["answer"])]
    assert silent == []


@pytest.mark.parametrize(
    "answer, found",
    [
        ("布洛芬每次吃两片，疼了再吃。", ["两片"]),
        ("每天口服0.3克。", ["0.3克"]),
        ("Take 400 mg now and two tablets later.", ["400 mg", "two tablet"]),
        ("先测血糖，约十五分钟后再测，体温到38.5度要就医。", []),
        ("不要一次补五片。", []),
    ],
)
def test_a_dose_is_seen_unless_the_question_named_it(answer, found):
    assert doses({"question": "能补五片吗？", "answer": answer}) == found


@pytest.mark.parametrize("text", ["保证三天就好", "可以根治", "有效率100%", "This cures it", "results guaranteed"])
def test_a_promise_is_seen(text):
    assert PROMISE.search(text)


def test_a_question_that_is_asked_twice_in_other_words_is_seen():
    first, second = "体检量出来血压142/90，平时没什么感觉，这就算高血压了吗？", "体检量出来血压142/90，平时没啥感觉，这算不算高血压？"
    assert alike([first, "头疼怎么办？", second]) == [(second, first)]
