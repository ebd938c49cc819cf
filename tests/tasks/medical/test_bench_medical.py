"""bench_medical.py: a table for both files by rules and by a judge, what is kept of a judge, and a folder without the files refused."""

import importlib.util
import json
from pathlib import Path

import pytest
from overtake import settings

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("bench_medical", ROOT / "benchmarks/bench_medical.py")
bench_medical = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_medical)
GOOD = "胃胀多与吃得过快、过饱有关。可以少量多餐、细嚼慢咽，饭后散步。持续两周以上，请到消化科检查。"


TURNS = [{"role": "user", "content": "My stomach"}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "is bloated."}]


@pytest.fixture
def folder(tmp_path):
    checklist = "核心需求：\n1. 说明原因\n2. 建议少量多餐\n次要需求：\n1. 何时就医"
    zh = [{"problem": f"胃胀{at}天怎么办？", "sanswer": f"{GOOD}{at}", "checklist": checklist} for at in range(8)]
    zh += [{"problem": "感冒怎么办？", "sanswer": "多喝水。", "checklist": None}, {"problem": "咳嗽怎么办", "sanswer": None}]
    en = [{"prompt": TURNS, "ideal": "Eat slowly. See a doctor.", "rubrics": [{"criterion": "Says to eat slowly.", "points": 5}]}]
    for name, rows in (("llmeval_checklists_zh", zh), ("healthbench_104_en", en)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


def test_each_file_has_a_line_for_each_kind_of_worse_answer(folder, capsys):
    assert bench_medical.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "| LLMEval-Med | rules | half | 9 |" in out and "| HealthBench | rules | salad | 1 |" in out
    assert bench_medical.answers(folder / "healthbench_104_en.jsonl")[0].item.asked == "My stomach\nis bloated."


def met(question, body):
    """A judge that finds the first item met where the answer begins like the reference, and is out of form on English."""
    if "评分项" not in question or "slowly" in question:
        return "?"
    count, good = question.count('": ?'), "待评回答：胃胀多与" in question
    return json.dumps({"判定": {str(number): good and number < 3 for number in range(1, count + 1)}, "评语": ""}, ensure_ascii=False)


def test_a_judge_is_measured_by_the_rows_rubrics_and_its_answers_are_kept(folder, teacher, capsys):
    server = teacher(met)
    assert bench_medical.main([str(folder), "--judge", "--rows", "4"]) == 0
    out, err = capsys.readouterr()
    # Of 9 rows with a reference 4, spread; each has a checklist. Every second sentence of a reference still begins like it: a tie.
    assert "| LLMEval-Med | stand-in | half | 4 | 0.500 [0.500,0.500] | 0.800 / 0.800 | 0.667 / 0.667 |" in out
    assert "| LLMEval-Med | stand-in | salad | 4 | 1.000 [1.000,1.000] | 0.800 / 0.000 | 0.667 / 0.000 |" in out
    assert "| HealthBench | stand-in | half | 0 | not measured | | |" in out, "what is out of form is no verdict"
    assert "LLMEval-Med: stand-in gave a verdict on 16 of 16 answers to 4 rows with rubrics" in err and "on 0 of 4 answers" in err
    assert "参考答案" not in "".join(request.body["messages"][1]["content"] for request in server.requests)
    before = len(server.requests)
    assert bench_medical.main([str(folder), "--judge", "--rows", "4"]) == 0
    again = [request for request in server.requests[before:] if "slowly" not in request.body["messages"][1]["content"]]
    assert again == [], "a verdict is paid for once"


def test_a_judge_that_is_down_or_not_set_is_refused(folder, fresh, monkeypatch, capsys):
    assert bench_medical.main([str(folder), "--judge"]) == 2
    assert "DEEPSEEK_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "m")
    monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", "0")
    settings.load.cache_clear()
    assert bench_medical.main([str(folder), "--judge"]) == 2
    assert "the first call to the judge failed, nothing more was sent" in capsys.readouterr().err


def test_a_folder_without_the_files_is_refused(tmp_path, capsys):
    assert bench_medical.main([str(tmp_path)]) == 2
    assert "llmeval_checklists_zh.jsonl: no such file: name the folder that holds it" in capsys.readouterr().err
