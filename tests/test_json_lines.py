"""Lines of JSON end at newlines: whatever a text holds, what was written is read, by every reader of the project."""

import ast
import json
from pathlib import Path

import pytest
from overtake.evaluation import comparing, curves, examples, report
from overtake.rewards import trace

ROOT = Path(__file__).parents[1]
TEXT = "一\u2028二\u2029三\u0085四\x0b五\x0c六\x1c七\x1d八\x1e九"
"""All that `str.splitlines` takes for an end of line and JSON leaves in a text as it is."""


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_a_log_of_training_is_read_whole(tmp_path):
    lines(tmp_path / "logging.jsonl", {"reward": 0.5, "words": TEXT}, {"reward": 1.0})
    assert [row["reward"] for row in curves.read_log(tmp_path)] == [0.5, 1.0]


def test_alarms_are_read_whole(tmp_path):
    lines(tmp_path / "alarms.jsonl", {"words": TEXT})
    assert report._alarms(tmp_path) == [{"words": TEXT}]


def test_answers_of_an_earlier_start_are_found_again(tmp_path):
    from types import SimpleNamespace

    file = lines(tmp_path / "answers.jsonl", {"identity": "i", "id": "1", "answer": TEXT}, {"identity": "i", "id": "2", "answer": "b"})
    found = comparing._kept(SimpleNamespace(evaluation=SimpleNamespace(id="id")), file, "i")
    assert {key: line["answer"] for key, line in found.items()} == {"1": TEXT, "2": "b"}


def test_details_of_an_evaluation_are_read_whole(tmp_path):
    from types import SimpleNamespace

    lines(tmp_path / "eval_details_A_B.jsonl", {"shown": "1", "text": TEXT})
    found = examples.read_details(tmp_path, ["A B"], SimpleNamespace(evaluation=SimpleNamespace(id="id", shown={"shown": "id"})))
    assert found == {"A B": {"1": {"shown": "1", "text": TEXT}}}


def test_a_trace_is_read_whole_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "trace.jsonl"
    sample = {"run": "r", "step": 1, "mode": "train", "sample": 0, "rewrite": TEXT}
    path.touch(0o644)
    trace.append(path, [sample])
    assert trace.read(path).samples == [sample]
    assert path.stat().st_mode & 0o777 == 0o600


def sources():
    return [path for folder in ("plugin", "tools", "demo", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_no_reader_of_json_cuts_a_text_where_json_does_not():
    found = []
    texts = {path: path.read_text("utf-8") for path in sources()}
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)) if "splitlines" in text and "loads" in text else ():
            # A loop over what splitlines gives, whose body or element reads JSON.
            if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.SetComp | ast.For):
                source = node.iter if isinstance(node, ast.For) else node.generators[0].iter
                if "splitlines" in ast.unparse(source) and "loads" in ast.unparse(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_the_search_finds_what_there_is():
    assert len(sources()) > 100


@pytest.mark.parametrize("half", ["\ud83d", "\udc00", "a\ud800b"])
def test_half_a_surrogate_pair_in_a_trace_costs_no_line(tmp_path, half):
    path = tmp_path / "trace.jsonl"
    trace.append(path, [{"run": "r", "step": 1, "mode": "train", "sample": 0, "rewrite": half}])
    assert len(trace.read(path).samples) == 1
