"""Rows through ms-swift's own loader, without a network: converted files as they are, tables by the registered name."""

import json

import overtake
import pandas
import pytest
from overtake.tasks.query_rewrite.dataset import to_sample
from swift.dataset import load_dataset

ROW = {
    "original_query": "皮肤没弹性吃啥",
    "rewritten_query": "胶原蛋白肽 皮肤弹性 功效",
    "user_profile": "45岁女性",
    "history_summary": "",
    "tenant_id": "fivedoctors",
}


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    overtake.register()


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_row_becomes_the_teachers_own_prompt_and_the_reward_columns():
    sample = to_sample({**ROW, "user_profile": float("nan")})
    system, user, assistant = sample["messages"]
    assert "保健品" in system["content"]
    assert user["content"] == ROW["original_query"], "an empty profile leaves no trace"
    assert assistant["content"] == sample["rag_teacher_rewrite"] == ROW["rewritten_query"]
    assert all(isinstance(value, str) for name, value in sample.items() if name != "messages")
    assert "45岁女性" in to_sample(ROW)["messages"][1]["content"]


def test_the_same_question_of_another_user_is_another_query():
    assert to_sample(ROW)["rag_query_id"] == to_sample(dict(ROW))["rag_query_id"]
    assert to_sample(ROW)["rag_query_id"] != to_sample({**ROW, "user_profile": "孕妇"})["rag_query_id"]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
def test_a_table_loads_by_the_registered_name(tmp_path, monkeypatch, ending):
    rows = [ROW, {**ROW, "rewritten_query": ""}, {**ROW, "original_query": "睡不着"}]
    path = tmp_path / f"rewrites.{ending}"
    table = pandas.DataFrame(rows)
    {"jsonl": lambda: write(path, rows), "csv": lambda: table.to_csv(path, index=False), "xlsx": lambda: table.to_excel(path, index=False)}[
        ending
    ]()
    found, _ = load_dataset([f"overtake/query_rewrite:{path}"], remove_unused_columns=False)
    assert found["rag_query"] == ["皮肤没弹性吃啥", "睡不着"], "a row without a rewrite is no example"
    assert [message["role"] for message in found[0]["messages"]] == ["system", "user", "assistant"]
    monkeypatch.chdir(tmp_path)
    trained, _ = load_dataset([f"overtake/query_rewrite:rewrites.{ending}#1"])
    assert len(trained) == 1 and "rag_query" not in trained.column_names


def test_columns_can_be_renamed(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{**{name: text for name, text in ROW.items() if name != "original_query"}, "问题": "睡不着"}])
    found, _ = load_dataset([f"overtake/query_rewrite:{path}"], columns={"问题": "original_query"}, remove_unused_columns=False)
    assert found["rag_query"] == ["睡不着"]


def test_bad_tables_are_refused_whole(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "睡不着", "rewritten_query": "失眠"}])
    with pytest.raises(ValueError, match="no column original_query, tenant_id"):
        load_dataset([f"overtake/query_rewrite:{path}"])
    with pytest.raises(ValueError, match=r"absent\.jsonl, which is no file"):
        load_dataset(["overtake/query_rewrite:absent.jsonl"])
    with pytest.raises(ValueError, match="no file"):
        load_dataset(["overtake/query_rewrite"])
    path = write(tmp_path / "other.jsonl", [{**ROW, "tenant_id": "nobody"}])
    with pytest.raises(ValueError, match="no prompt 'rewrite_nobody'"):
        load_dataset([f"overtake/query_rewrite:{path}"], strict=True)


def test_a_converted_file_needs_no_registration(tmp_path):
    """ms-swift passes messages and our prefixed columns through; GRPO keeps them (remove_unused_columns false), SFT drops them."""
    sample = to_sample(ROW)
    prompt_only = {**sample, "messages": sample["messages"][:2], "rag_gold": '["d1"]', "rag_teacher_recall": '[["d1", 0.8]]'}
    path = write(tmp_path / "rl_train.jsonl", [prompt_only, {**prompt_only, "rag_gold": ""}])
    found, _ = load_dataset([str(path)], remove_unused_columns=False)
    row = found[0]
    assert {name: row[name] for name in prompt_only if name != "messages"} == {n: v for n, v in prompt_only.items() if n != "messages"}
    assert [(message["role"], message["content"]) for message in row["messages"]] == [
        (message["role"], message["content"]) for message in prompt_only["messages"]
    ]
    trained, _ = load_dataset([str(path)])
    assert not any(name.startswith("rag_") for name in trained.column_names)
