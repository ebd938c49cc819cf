"""A table of questions and answers by the registered name, through ms-swift's own loader."""

import overtake
import pytest
from overtake.data import tables
from swift.dataset import load_dataset

ROWS = [
    {"question": "胃胀两天了怎么办", "answer": "少量多餐。", "think": "像消化不良"},
    {"question": "感冒几天能好呀", "answer": "一周左右。", "think": ""},
    {"question": "这一行没有回答", "answer": "", "think": ""},
]


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    overtake.register()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
def test_a_table_becomes_messages_and_reward_columns(tmp_path, ending):
    tables.write_rows(tmp_path / f"rows.{ending}", ROWS)
    found, _ = load_dataset([f"overtake/medical:{tmp_path / f'rows.{ending}'}"], remove_unused_columns=False)
    assert found["med_question"] == ["胃胀两天了怎么办", "感冒几天能好呀"], "a row without an answer is no example"
    assert [turn["role"] for turn in found[0]["messages"]] == ["system", "user", "assistant"]
    assert found[0]["messages"][2]["content"] == "<think>\n像消化不良\n</think>\n\n少量多餐。"
    assert found["med_reference"][1] == "一周左右。"


def test_a_table_without_answers_is_refused_whole(tmp_path):
    tables.write_rows(tmp_path / "rows.jsonl", [{"question": "胃胀两天了怎么办", "reply": "少量多餐。"}])
    with pytest.raises(ValueError, match="no column answer: there are question, reply"):
        load_dataset([f"overtake/medical:{tmp_path / 'rows.jsonl'}"])
