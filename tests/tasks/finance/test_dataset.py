"""Finance rows through ms-swift's own loader, without a network: the files of the tools, tables of one's own, the hub's data."""

import json

import overtake
import pandas
import pytest
from overtake.tasks.finance import prompts
from overtake.tasks.finance.dataset import to_sample
from swift.dataset import load_dataset

QUESTION = "2023年收入1000万元，比上年增长25%，2022年收入多少？"
SOLUTION = "<think>\n1000/1.25\n</think>\n<answer>800万元</answer>"
RAW = {"id": "a", "question": QUESTION, "gold_answer": "800万元", "type": "calculation", "source": "own"}
RL = {"id": "a", "prompt": QUESTION, "gold_answer": "800万元", "type": "calculation", "source": "own"}
SFT = {"id": "a", "prompt": QUESTION, "response": SOLUTION, "type": "calculation", "source": "own"}
COLUMNS = {"fin_id": "a", "fin_question": QUESTION, "fin_gold": "800万元", "fin_type": "calculation", "fin_source": "own"}


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    overtake.register()


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turns(row):
    return [(message["role"], message["content"]) for message in row["messages"]]


@pytest.mark.parametrize(
    ("row", "solution"),
    [(RAW, ""), (RL, ""), (SFT, SOLUTION), ({**RAW, "teacher_output": SOLUTION, "sample": 1}, SOLUTION)],
    ids=["raw", "rl", "sft", "distilled"],
)
def test_every_file_of_the_tools_has_the_prompt_of_training_and_the_reward_columns(row, solution):
    sample = to_sample(row)
    asked = [(message["role"], message["content"]) for message in prompts.finance_messages(QUESTION)]
    assert turns(sample) == asked + ([("assistant", solution)] if solution else [])
    assert {name: value for name, value in sample.items() if name != "messages"} == COLUMNS


def test_a_plain_gold_answer_is_nothing_to_learn_and_a_blank_row_is_none():
    assert [message["role"] for message in to_sample({"问题": "什么是久期？", "answer": "回收时间"})["messages"]] == ["system", "user"]
    assert to_sample({**RAW, "question": " "}) is None and to_sample({**RAW, "gold_answer": float("nan")}) is None


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
def test_a_table_loads_by_the_registered_name(tmp_path, ending):
    rows = [RL, {**RL, "id": "b", "prompt": ""}, {**RL, "id": "c", "gold_answer": "900万元"}]
    path, table = tmp_path / f"rl.{ending}", pandas.DataFrame(rows)
    makers = {"jsonl": lambda: write(path, rows), "csv": lambda: table.to_csv(path), "xlsx": lambda: table.to_excel(path)}
    makers[ending]()
    found, _ = load_dataset([f"overtake/finance:{path}"], remove_unused_columns=False)
    assert (found["fin_id"], found["fin_gold"]) == (["a", "c"], ["800万元", "900万元"])
    assert {name: found[0][name] for name in COLUMNS} == COLUMNS
    trained, _ = load_dataset([f"overtake/finance:{path}#1"])
    assert len(trained) == 1 and "fin_id" not in trained.column_names


def test_bad_tables_are_refused_whole(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"column": "x"}])
    with pytest.raises(ValueError, match="no column question"):
        load_dataset([f"overtake/finance:{path}"])
    with pytest.raises(ValueError, match=r"overtake/finance:<file> names absent\.jsonl, which is no file"):
        load_dataset(["overtake/finance:absent.jsonl"])


@pytest.mark.parametrize(
    ("name", "hub", "fetched"), [("overtake/finance", "ms", "tongyi_dianjin"), ("hf::overtake/finance", "hf", "DianJin")]
)
def test_the_hubs_data_loads_by_the_name_alone(tmp_path, monkeypatch, name, hub, fetched):
    asked = []
    (tmp_path / "mcq.json").write_text(json.dumps([{"instruction": QUESTION, "output": SOLUTION}], ensure_ascii=False), "utf-8")
    (tmp_path / "qa.json").write_text(json.dumps([{"instruction": "What is EBIT?", "input": "", "output": "earnings"}]), "utf-8")
    monkeypatch.setattr("overtake.data.hub.fetch", lambda one: asked.append(one) or tmp_path)
    found, _ = load_dataset([name], remove_unused_columns=False)
    assert asked == [f"{hub}::{fetched}/DianJin-R1-Data"]
    assert (found["fin_gold"], found["fin_source"]) == (["800万元", "earnings"], ["mcq", "qa"])
    assert [len(messages) for messages in found["messages"]] == [3, 2]


def test_a_sft_row_trains_as_it_is_with_the_same_messages(tmp_path):
    """ms-swift takes `messages` and nothing else of the row; so the file needs no registered name."""
    row = {**SFT, "messages": [*prompts.finance_messages(QUESTION), {"role": "assistant", "content": SOLUTION}]}
    plain, _ = load_dataset([str(write(tmp_path / "sft.jsonl", [row]))])
    named, _ = load_dataset([f"overtake/finance:{tmp_path / 'sft.jsonl'}"])
    assert turns(plain[0]) == turns(named[0]) == turns(row)


@pytest.mark.parametrize(("folder", "rows", "count"), [("C#题库", "", 3), ("C#题库", "#2", 2), ("#1", "", 3), ("a#2#", "#1", 1)])
def test_f68_a_sign_in_a_folders_name_is_no_number_of_rows(tmp_path, folder, rows, count):
    (tmp_path / folder).mkdir()
    path = write(tmp_path / folder / "rl.jsonl", [{**RL, "id": name} for name in "abc"])
    found, _ = load_dataset([f"overtake/finance:{path}{rows}"], remove_unused_columns=False, shuffle=False)
    assert found["fin_gold"] == ["800万元"] * count
