"""bench_judge_group.py: both ways of judging on a run's last groups, tokens, how alike they order, and files that do not fit together."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from overtake.tasks.query_rewrite.rows import RewriteRow

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("bench_judge_group", ROOT / "benchmarks/bench_judge_group.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def sample(step, number, query_id, rewrite):
    return {"run": "r", "step": step, "mode": "train", "sample": number, "query_id": query_id, "rewrite": rewrite}


@pytest.fixture
def files(tmp_path):
    """Two questions: of the first, two groups of which the later counts; a sample without words counts for nothing."""
    samples = [sample(1, at, "q1", text) for at, text in enumerate(["早", "旧"])]
    samples += [sample(2, at, "q1", text) for at, text in enumerate(["二", "四", "四", ""])]
    samples += [sample(3, at, "q2", text) for at, text in enumerate(["一", "三"])]
    trace, data = tmp_path / "trace.jsonl", tmp_path / "rl_train.jsonl"
    trace.write_text("\n".join(json.dumps(line) for line in [{"run": "r"}, *samples]))
    rows = [RewriteRow(name, f"问{name}", "fivedoctors", teacher_rewrite="五").to_columns() for name in ("q1", "q2")]
    data.write_text("\n".join(map(json.dumps, rows)))
    return [str(trace), str(data)]


POINTS = {text: points for points, text in enumerate("零一二三四五")}


def judge(together, single=POINTS):
    """A judge that gives a rewrite the points of `single` in a call of its own, and those of `together` in one call for all."""

    def reply(question, body):
        shown = re.findall(r"^改写(\d+)：(.*)$", body["messages"][-1]["content"], re.MULTILINE)
        if not shown:
            return json.dumps({"综合得分": single[question.split("改写：")[1]], "评分理由": "理"})
        each = [{"编号": int(number), "综合得分": together[text], "评分理由": "理"} for number, text in shown if together[text] is not None]
        return json.dumps({"评分": each})

    return reply


def test_the_last_groups_are_judged_both_ways_and_orders_are_compared(files, teacher, capsys):
    # Of q1 (二 四 五) one call orders all alike but ties two; of q2 (一 三 五) it turns one pair of three round.
    server = teacher(judge({"二": 1, "四": 4, "五": 4, "一": 3, "三": 1}))
    assert bench.main(files) == 0
    out = capsys.readouterr().out
    assert "stand-in, 6 rewrites of 2 questions" in out
    assert re.search(r"\| a call for each \| 6 \| 6 of 6 \| \d+ \+ \d+ \| 3\.33 \|", out)  # 2 4 5 1 3 5
    assert re.search(r"\| one call for all \| 2 \| 6 of 6 \| \d+ \+ \d+ \| 2\.83 \|", out)  # 1 4 4 3 1 4
    assert "order alike: 0.750 [" in out and "(2 of 2 questions" in out  # (2.5 / 3 + 2 / 3) / 2
    before = len(server.requests)
    assert before == 8 and bench.main(files) == 0
    assert len(server.requests) == before, "a verdict is paid for once"


def test_a_call_that_leaves_a_rewrite_out_judges_none_of_them(files, teacher, capsys):
    teacher(judge({"二": 1, "四": 4, "五": 4, "一": 3, "三": None}))
    assert bench.main(files) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| one call for all \| 2 \| 3 of 6 \| ", out) and "(1 of 1 questions" in out


def test_a_judge_that_tells_nothing_apart_is_not_measured(files, teacher, capsys):
    teacher(judge(dict.fromkeys("一二三四五", 5), single=dict.fromkeys("一二三四五", 5)))
    assert bench.main(files) == 0
    out = capsys.readouterr().out
    assert "order alike: not measured: single calls tell no two rewrites of a question apart (0 of 2 questions" in out


def test_data_of_another_run_is_refused(files, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(RewriteRow("q9", "问", "fivedoctors", teacher_rewrite="五").to_columns()))
    assert bench.main([files[0], str(other)]) == 2
    assert f"{other} holds no teacher's rewrite of a question in {files[0]}" in capsys.readouterr().err


def test_a_row_out_of_form_and_another_tasks_trace_are_one_error(files, tmp_path, capsys):
    row = RewriteRow("q1", "问", "fivedoctors", teacher_rewrite="五").to_columns() | {"rag_teacher_judge": "much"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(row))
    assert bench.main([files[0], str(tmp_path / "odd.jsonl")]) == 2
    assert "odd.jsonl: rag_teacher_judge of 'q1' is 'much'" in capsys.readouterr().err
    (tmp_path / "finance.jsonl").write_text('{"run": "r"}\n{"run": "r", "step": 1, "mode": "train", "sample": 0}\n')
    assert bench.main([str(tmp_path / "finance.jsonl"), files[1]]) == 2
    assert "holds no teacher's rewrite of a question in" in capsys.readouterr().err
