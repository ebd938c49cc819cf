"""RL rows as `swift sample` needs them: through ms-swift's own loader, an answer behind each prompt and no row dropped."""

import json

import overtake
import pytest
from overtake.rewards import sampling
from overtake.tasks.query_rewrite import conversations
from swift.dataset import load_dataset


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sampling, "_rows", {})
    overtake.register()


@pytest.fixture
def rows(tmp_path):
    """Eleven prompt-only rows; their file is rl.jsonl."""
    texts = dict.fromkeys(conversations.COLUMNS, "")
    made = [
        {
            "messages": [{"role": "system", "content": "改写"}, {"role": "user", "content": f"问题{number}"}],
            **texts,
            "rag_query_id": f"q{number}",
            "rag_query": f"问题{number}",
            "rag_teacher_rewrite": f"术语{number}",
        }
        for number in range(11)
    ]
    (tmp_path / "rl.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    return made


def test_the_teachers_rewrite_stands_where_ms_swift_wants_an_answer(rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("overtake/sample:rl.jsonl", f"overtake/sample:{tmp_path}/rl.jsonl"):
        found, _ = load_dataset([name])
        answers = [{"role": "assistant", "content": row["rag_teacher_rewrite"]} for row in rows]
        assert found["messages"] == [[*row["messages"], answer] for row, answer in zip(rows, answers, strict=True)]
        assert list(found["chat_template_kwargs"]) == [{"enable_thinking": False}] * 11  # as the task says, whatever engine draws


def test_the_rewards_find_every_row_again(rows, tmp_path):
    found, _ = load_dataset([f"overtake/sample:{tmp_path}/rl.jsonl"])
    kept = [sampling._rows[sampling.key(messages)] for messages in found["messages"]]
    assert kept == [(row["rag_query_id"], conversations.cells(row)) for row in rows]


def test_a_number_behind_the_name_fills_the_last_batch_with_rows_again(rows, tmp_path):
    found, _ = load_dataset([f"overtake/sample:{tmp_path}/rl.jsonl#12"], shuffle=True)
    drawn = [messages[1]["content"] for messages in found["messages"]]
    assert len(drawn) == 12 and set(drawn) == {row["rag_query"] for row in rows}


def test_an_answer_that_is_there_gives_way_to_the_teachers(rows, tmp_path):
    rows[0]["messages"].append({"role": "assistant", "content": "旧"})
    (tmp_path / "rl.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    found, _ = load_dataset([f"overtake/sample:{tmp_path}/rl.jsonl"])
    assert [turn["content"] for turn in found["messages"][0]] == ["改写", "问题0", "术语0"]


def test_rows_out_of_form_are_refused_and_not_dropped(rows, tmp_path):
    (tmp_path / "rl.jsonl").write_text(json.dumps({**rows[0], "rag_kb": None}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: rag_kb is None, no text"):
        load_dataset([f"overtake/sample:{tmp_path}/rl.jsonl"])
    with pytest.raises(ValueError, match=r"absent\.jsonl: no such file"):
        load_dataset([f"overtake/sample:{tmp_path}/absent.jsonl"])
