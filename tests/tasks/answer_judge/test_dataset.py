"""Rows to judge through ms-swift's own loader, by the registered name: messages of the judge's prompt, and the reward columns."""

import json

import overtake
import pandas
import pytest
from overtake.tasks.answer_judge import prompts
from overtake.tasks.answer_judge.dataset import to_sample
from overtake.tasks.answer_judge.judgements import read_judgement
from overtake.tasks.answer_judge.rewards.judge_format import JudgeFormat
from overtake.tasks.answer_judge.rewards.judge_verdict import JudgeVerdict
from swift.dataset import load_dataset

ROWS = [
    {"id": "1", "question": "capital of France", "answer": '["Paris", "Lutetia"]', "answer_hat": "It is Paris.", "label": "correct"},
    {"id": "2", "question": "capital of Italy", "answer": "Rome", "answer_hat": "", "label": "错误"},
    {"id": "3", "question": "no label", "answer": "a", "answer_hat": "b", "label": ""},
    {"id": "4", "question": "no reference", "answer": "", "answer_hat": "b", "label": "correct"},
]
GRADED = {
    **{"question": "when", "answer": "1901", "answer_hat": "In 1901, in Bern.", "judge_main": "correct", "judge_secondary": "incorrect"},
    **{"judge_reason": "1901 is right, Bern is not.", "judge_model": "m"},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    overtake.register()


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        pandas.DataFrame(rows).to_excel(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
def test_a_table_of_ones_own_loads_by_the_registered_name(tmp_path, ending):
    path = write(tmp_path / f"rows.{ending}", ROWS)
    found, _ = load_dataset([f"overtake/judge:{path}"], remove_unused_columns=False)
    assert found["judge_id"] == ["1", "2"], "a row without a verdict or a reference answer is no example"
    assert found["judge_answer"] == ['["Paris", "Lutetia"]', '["Rome"]']
    assert found["judge_main"] == ["correct", "incorrect"] and found["judge_answer_hat"] == ["It is Paris.", ""]
    wanted = prompts.judge_messages("capital of France", ["Paris", "Lutetia"], "It is Paris.")
    assert [(one["role"], one["content"]) for one in found[0]["messages"]] == [(one["role"], one["content"]) for one in wanted]


def test_evounas_form_loads_as_it_is(tmp_path):
    row = {"id": "x", "question": "who", "golden_answer": "Ann/Anne", "model": "fid", "answer": "Bob", "judge": False}
    found, _ = load_dataset([f"overtake/judge:{write(tmp_path / 'rows.jsonl', [row])}"], remove_unused_columns=False)
    assert (found[0]["judge_answer"], found[0]["judge_answer_hat"], found[0]["judge_main"]) == ('["Ann", "Anne"]', "Bob", "incorrect")


def test_the_columns_are_those_of_the_rewards(tmp_path):
    found, _ = load_dataset([f"overtake/judge:{write(tmp_path / 'rows.jsonl', ROWS)}"], remove_unused_columns=False)
    columns = {name: list(found[name]) for name in found.column_names if name != "messages"}
    text = "<think>The same city.</think><output>main: correct; secondary: none</output>"
    assert JudgeFormat()([text] * 2, **columns) == [1.0, 1.0]
    assert JudgeVerdict()([text] * 2, **columns) == [1.0, 0.0]
    assert all(isinstance(value, str) for values in columns.values() for value in values)


def test_what_the_judge_tool_wrote_is_an_example_for_sft():
    sample = to_sample(GRADED)
    assert read_judgement(sample["messages"][-1]["content"]) == ("correct", "incorrect", "1901 is right, Bern is not.")
    assert JudgeVerdict()([sample["messages"][-1]["content"]], judge_main=["correct"], judge_secondary=["incorrect"]) == [1.0]


def test_a_reason_that_argues_against_the_human_label_is_never_imitated():
    sample = to_sample({**GRADED, "label": "0"})
    assert [message["role"] for message in sample["messages"]] == ["system", "user"]
    assert sample["judge_main"] == "incorrect"


def test_bad_tables_are_refused_whole(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(ValueError, match="no column holds the generated answer"):
        load_dataset([f"overtake/judge:{path}"])
    path = write(tmp_path / "unlabelled.jsonl", [{"question": "q", "answer": "a", "answer_hat": "b"}])
    with pytest.raises(ValueError, match="no column holds the verdict on the answer: name it label or judge_main"):
        load_dataset([f"overtake/judge:{path}"])
