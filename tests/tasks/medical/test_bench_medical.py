"""bench_medical.py: a table for both files, rows without a reference left out, and a folder without them refused."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("bench_medical", ROOT / "benchmarks/bench_medical.py")
bench_medical = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_medical)
GOOD = "胃胀多与吃得过快、过饱有关。可以少量多餐、细嚼慢咽，饭后散步。持续两周以上，请到消化科检查。"


def test_each_file_has_a_line_for_each_kind_of_worse_answer(tmp_path, capsys):
    zh = [
        {"problem": "胃胀怎么办？", "sanswer": GOOD},
        {"problem": "感冒怎么办？", "sanswer": "多喝水。"},
        {"problem": "问", "sanswer": None},
    ]
    turns = [{"role": "user", "content": "My stomach"}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "is bloated."}]
    for name, rows in (("llmeval_checklists_zh", zh), ("healthbench_104_en", [{"prompt": turns, "ideal": "Eat slowly. See a doctor."}])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert bench_medical.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| LLMEval-Med | 2 | half |" in out and "| HealthBench | 1 | salad |" in out
    assert bench_medical.pairs(tmp_path / "healthbench_104_en.jsonl")[0][0] == "My stomach\nis bloated."


def test_a_folder_without_the_files_is_refused(tmp_path, capsys):
    assert bench_medical.main([str(tmp_path)]) == 2
    assert "llmeval_checklists_zh.jsonl: no such file: name the folder that holds it" in capsys.readouterr().err
