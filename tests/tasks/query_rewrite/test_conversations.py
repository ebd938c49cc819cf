"""Rows by their conversation: found with and without an answer, with all of their columns, and refused where two could be meant."""

import json

import pytest
from overtake.data.tables import BadInput
from overtake.tasks.query_rewrite import conversations


def row(number=1, **changed):
    texts = dict.fromkeys(conversations.COLUMNS, "")
    turns = [{"role": "system", "content": "改写"}, {"role": "user", "content": f"问题{number}"}]
    return {"messages": turns, **texts, "rag_query_id": f"q{number}", "rag_query": f"问题{number}", **changed}


def written(path, rows):
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def test_a_row_is_found_by_its_conversation_with_every_column_as_it_was(tmp_path):
    rows = [row(1, weight=0.5, tags=["a"]), row(2)]
    found = conversations.read(written(tmp_path / "rl.jsonl", rows))
    assert list(found.values()) == rows
    asked = [*rows[0]["messages"], {"role": "assistant", "content": "改写后"}]
    assert found[conversations.key(rows[0]["messages"])] is found[conversations.key(asked)]
    assert conversations.key(rows[1]["messages"]) != conversations.key(asked)


def test_a_group_is_the_completions_on_one_row():
    columns = conversations.columns([row(1), row(1), row(2)])
    assert columns["rag_query_id"] == ["q1", "q1", "q2"]
    first, second, other = columns["prompt_id"]
    assert first == second != other


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([row(1), row(1, rag_query_id="q9")], r"line 2: 'q9' and 'q1' are one conversation.*delete one", id="a twin"),
        pytest.param([{**row(1), "messages": "问题"}], r"line 1: messages is '问题', no list of turns", id="no turns"),
        pytest.param([row(1), row(2, rag_gold=["d1"])], r"line 2: rag_gold is \['d1'\], no text", id="a column that is no text"),
        pytest.param([row(1, rag_query=" ")], r"line 1: rag_query is blank", id="no question"),
        pytest.param([{"messages": []}], r"no column rag_query_id, rag_query", id="no columns"),
    ],
)
def test_rows_out_of_form_are_refused_as_a_whole(tmp_path, rows, words):
    with pytest.raises(BadInput, match=words):
        conversations.read(written(tmp_path / "rl.jsonl", rows))


def test_only_jsonl_holds_conversations(tmp_path):
    with pytest.raises(BadInput, match=r"rl\.csv: rows to sample on are a \.jsonl file"):
        conversations.read(tmp_path / "rl.csv")
