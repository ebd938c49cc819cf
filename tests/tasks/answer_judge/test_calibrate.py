"""Calibrating a judge: the rules, a served judge and a model in a folder, on the same labelled rows; an outage is no abstention."""

import json

import pytest
from overtake import settings
from overtake.data.tables import write_rows
from overtake.evaluation import students
from overtake.tasks.answer_judge import calibrate

pytestmark = pytest.mark.usefixtures("fresh")

ROWS = [
    {"question": f"capital of {land}", "golden_answer": gold, "model": model, "answer": answer, "judge": label}
    for land, gold, model, answer, label in (
        ("France", "Paris/Lutetia", "m1", "It is Paris.", True),
        ("Italy", "Rome", "m1", "It is Milan.", False),
        ("Spain", "Madrid", "m2", "Mádrid", True),
        ("Japan", "Tokyo", "m2", "I do not know.", False),
    )
]
GOLD = {"France": "Paris", "Italy": "Rome", "Spain": "Mádrid", "Japan": "Tokyo"}


def verdict(user):
    land = next(land for land in GOLD if land in user)
    said = "correct" if GOLD[land] in user.split("Answer to grade: ")[1] else "incorrect"
    return f"<think>Compared.</think><output>main: {said}; secondary: none</output>"


@pytest.fixture
def rows(tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def judge(chat_server, monkeypatch):
    def judge(reply):
        server = chat_server(reply)
        monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "small")
        settings.load.cache_clear()
        return server

    return judge


def test_the_rules_are_compared_with_people_and_with_the_substring(run, rows, tmp_path):
    done = run(calibrate, rows, "--judge", "rules", "--summary", tmp_path / "found.json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["accuracy"] == {"mean": 1.0, "low": 1.0, "high": 1.0} and found["kappa"]["mean"] == 1.0
    assert found["substring"]["accuracy"]["mean"] == 0.75 and found["difference"]["accuracy"]["mean"] == 0.25
    assert found["confusion"]["incorrect"] == {"correct": 0, "incorrect": 1, "none": 1, "abstained": 0}
    assert set(found["by_model"]) == {"m1", "m2"} and found["probes"]["order"]["rows"] == 1
    assert found["probes"]["length"]["to_correct"]["mean"] == found["probes"]["shuffled"]["found_correct"]["mean"] == 0.0
    lines = done.out.splitlines()
    assert any(line.startswith("rules") and "1.000 [1.000,1.000]" in line for line in lines)
    assert any(line.startswith("model m2") for line in lines) and any(line.startswith("probe injection: 2 rows") for line in lines)


def test_an_endpoint_is_calibrated_the_same_way_and_its_unreadable_verdicts_are_abstentions(run, judge, rows, tmp_path):
    server = judge(lambda user, body: "no idea" if "Japan" in user else verdict(user))
    done = run(calibrate, rows, "--judge", "endpoint", "--no-probes", "--summary", tmp_path / "found.json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert (found["abstained"]["mean"], found["accuracy"]["mean"]) == (0.25, 1.0)
    assert found["confusion"]["incorrect"]["abstained"] == 1 and "probes" not in found
    assert len(server.requests) == 5, "an unreadable verdict is asked for once more"


def test_an_outage_is_no_opinion_of_the_judge(run, judge, rows, monkeypatch):
    judge(lambda user, body: (400, {"error": "too busy"}) if "Japan" in user else verdict(user))
    done = run(calibrate, rows, "--judge", "endpoint", "--no-probes")
    assert done.code == 2 and "1 of 4 verdicts could not be had" in done.err and "rows" not in done.out


def test_a_model_in_a_folder_is_asked_with_the_prompt_of_training(run, rows, tmp_path, monkeypatch):
    asked = []

    def from_folder(folder, conversations, limit, thinking):
        asked.extend(conversations)
        assert thinking == [True] * len(conversations) and limit == 1024
        return ["<think>" if "Japan" in talk[1]["content"] else verdict(talk[1]["content"]) for talk in conversations]

    monkeypatch.setattr(students, "from_folder", from_folder)
    (tmp_path / "model").mkdir()
    done = run(calibrate, rows, "--judge", tmp_path / "model", "--no-probes")
    assert done.code == 0 and len(asked) == 4 and "Reference answer: Lutetia" in asked[0][1]["content"]
    assert " 0.250" in next(line for line in done.out.splitlines() if line.startswith(str(tmp_path / "model")[:27]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--judge", "gpt-5"), "--judge gpt-5: say rules, endpoint (OVERTAKE_JUDGE_*), or the folder of a model"),
        (("--judge", "rules", "--summary", "found.txt"), "--summary found.txt: name a .json file"),
    ],
)
def test_bad_arguments_are_one_line(run, rows, arguments, words):
    done = run(calibrate, rows, *arguments)
    assert done.code == 2 and words in done.err


def test_rows_without_a_human_verdict_are_refused(run, tmp_path):
    write_rows(tmp_path / "rows.csv", [{"question": "q", "answer": "a", "answer_hat": "a"}])
    done = run(calibrate, tmp_path / "rows.csv", "--judge", "rules")
    assert done.code == 2 and "no row has a human verdict: fill the column label or judge" in done.err


def test_a_pilot_draws_the_same_rows_each_time(run, rows):
    first, second = (run(calibrate, rows, "--judge", "rules", "--limit", 2, "--no-probes").out for _ in range(2))
    assert first == second and " 2 " in first.splitlines()[2]
