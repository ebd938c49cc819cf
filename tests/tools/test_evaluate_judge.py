"""evaluate.py --task judge: main and secondary apart, form, what can be read, what is let pass."""

import json

import pytest
from overtake.data.tables import json_lines

pytestmark = pytest.mark.usefixtures("fresh")
ROWS = [
    {
        "id": "a",
        "question": "capital of France",
        "answer": ["Paris"],
        "answer_hat": "Paris.",
        "label": "correct",
        "label_secondary": "none",
    },
    {"id": "b", "question": "capital of France", "answer": ["Paris"], "answer_hat": "Rome.", "label": "incorrect", "label_secondary": ""},
]


def verdict(main, secondary, think="<think>so</think>"):
    return f"{think}<output>main: {main}; secondary: {secondary}</output>"


@pytest.fixture
def measured(run, tmp_path):
    def measured(**systems):
        (tmp_path / "test.jsonl").write_bytes(json_lines(ROWS))
        words = []
        for name, texts in systems.items():
            (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": at, "verdict": text} for at, text in texts.items()]))
            words += ["--system", f"{name}={tmp_path / name}.jsonl"]
        done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", *words)
        assert done.code == 0, done.err
        summary = json.loads((tmp_path / "eval/summary.json").read_text("utf-8"))
        return {name: {metric: one["mean"] for metric, one in means.items()} for name, means in summary["means"].items()}

    return measured


def test_each_part_is_measured_on_the_rows_that_know_it(measured):
    found = measured(
        good={"a": verdict("correct", "none"), "b": verdict("incorrect", "none")},
        lax={"a": verdict("correct", "correct"), "b": verdict("correct", "none")},
        terse={"a": verdict("correct", "none", think=""), "b": "incorrect"},
    )
    assert found["good"] == {"main": 1.0, "secondary": 1.0, "format": 1.0, "readable": 1.0, "passed": 0.0}
    assert found["lax"] == {"main": 0.5, "secondary": 0.0, "format": 1.0, "readable": 1.0, "passed": 1.0}
    assert found["terse"] == {"main": 0.5, "secondary": 1.0, "format": 0.0, "readable": 0.5, "passed": 0.0}


def test_rows_without_a_known_verdict_are_refused(run, tmp_path):
    (tmp_path / "test.jsonl").write_bytes(json_lines([{**row, "label": ""} for row in ROWS]))
    (tmp_path / "x.jsonl").write_bytes(json_lines([{"id": "a", "verdict": "x"}]))
    done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", "--system", f"x={tmp_path / 'x.jsonl'}")
    assert done.code == 2 and "no row has a known verdict: fill the column label" in done.err
