"""doctor.py: its table, JSON and exit codes, the flags behind --, and that recipes ask it before they start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from overtake.tasks.query_rewrite import attacks as rewrite_attacks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def doctor(fresh, monkeypatch, capsys):
    """doctor(*words) -> (exit code, output, errors), on the cpu profile."""
    monkeypatch.setenv("PROFILE", "cpu")
    sys.path.insert(0, str(ROOT / "tools"))
    import doctor as tool

    sys.path.pop(0)
    # The tool sets these for its process.
    for name in ("OVERTAKE_JUDGE_SHARE", "OVERTAKE_FINANCE_JUDGE_SHARE"):
        monkeypatch.setenv(name, "0")

    def doctor(*words):
        code = tool.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return doctor


def test_the_shipped_rewards_of_the_judge_resist(doctor):
    code, said, _ = doctor("--task", "judge", "--only-attacks", "--rows", "24")
    assert code == 0
    assert "honest" in said and "judge_verdict" in said and "error" not in said


def test_a_hackable_choice_of_rewards_is_caught(doctor):
    code, said, _ = doctor("--task", "judge", "--only-attacks", "--rows", "24", "--json", "--", "--reward_funcs", "judge_format")
    assert code == 2, "two weights of the recipe for one reward"
    flags = ("--reward_funcs", "judge_format", "--reward_weights", "1")
    code, said, _ = doctor("--task", "judge", "--only-attacks", "--rows", "24", "--json", "--", *flags)
    assert code == 1
    wrong = [one["what"] for one in json.loads(said)["findings"] if one["level"] == "error"]
    assert "attack: always correct" in wrong


RAG_ROW = {
    "rag_query_id": "q{}",
    "rag_query": "脸上皮肤往下垮吃啥好{}",
    "rag_tenant": "t",
    "rag_kb": "default",
    "rag_profile": "",
    "rag_history": "",
    "rag_gold": '["d"]',
    "rag_teacher_rewrite": "胶原蛋白肽 皮肤松弛 {}",
    "rag_teacher_recall": "[]",
    "rag_teacher_judge": "4",
}


def test_a_copy_that_retrieves_better_than_the_teacher_is_paid_without_the_rules_and_not_with_them(doctor, serve, monkeypatch, tmp_path):
    def answer(body):
        found = body["rewritten_query"] == body["query"]
        return 200, {"data": {"recall": [{"doc_id": "d" if found else "other", "reranker_score": 0.5}]}}

    monkeypatch.setenv("OVERTAKE_RAG_URL", serve(answer).url)
    rows = [{name: value.replace("{}", str(at)) for name, value in RAG_ROW.items()} for at in range(4)]
    file = tmp_path / "rl_train.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def said(*flags):
        words = ("--task", "query_rewrite", "--only-attacks", "--no-judge", "--json", "--data", file, "--", *flags)
        _, out, _ = doctor(*words)
        return {one["what"]: one["level"] for one in json.loads(out)["findings"]}

    assert said("--reward_funcs", "rag_competition", "--reward_weights", "1")["attack: copied"] == "error"
    assert said("--reward_weights", "1", "2")["attack: copied"] == "ok"


def test_a_rewrite_that_retrieves_nothing_labelled_is_no_example_of_a_good_answer(tmp_path):
    """Of a small teacher's rewrites most retrieve nothing, and then every attack earned as much as an honest answer."""

    def ids(*recalls, gold='["d"]'):
        rows = [{**RAG_ROW, "rag_query_id": f"q{at}", "rag_teacher_recall": recall, "rag_gold": gold} for at, recall in enumerate(recalls)]
        file = tmp_path / "rl_train.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return [row["rag_query_id"] for row in rewrite_attacks.rows(file)]

    assert ids('[["d", 0.1]]', '[["e", 0.9]]', "[]", '[["e", 0.9], ["d", 0.2]]') == ["q0", "q3"]
    assert ids('[["e", 0.9]]', "[]") == ["q0", "q1"], "none retrieves: the findings on honest answers say it"
    assert ids('[["e", 0.9]]', "[]", gold="") == ["q0", "q1"], "without labels the reranker's score is the only opinion"


def test_bad_input_is_one_line(doctor, tmp_path):
    code, _, errors = doctor("--task", "finance", "--data", tmp_path / "none.jsonl")
    assert code == 2 and errors.startswith("error: ") and errors.count("\n") == 1


def test_a_recipe_asks_the_doctor_before_it_starts(tmp_path):
    # What stands in for swift would leave a mark.
    (tmp_path / "swift").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    (tmp_path / "swift").chmod(0o755)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}", encoding="utf-8")
    turns = [{"role": "user", "content": "问"}]
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": turns}, ensure_ascii=False) + "\n", encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")} | {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        **{"PROFILE": "cpu", "MODEL": str(tmp_path / "model"), "OUTPUT_DIR": str(tmp_path / "out")},
        "DATASET": str(tmp_path / "train.jsonl"),
    }
    recipe = ["bash", str(ROOT / "recipes/sft_qwen32b.sh")]
    refused = subprocess.run(recipe, env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and not (tmp_path / "started").exists()
    assert "1 of 1 rows end in no answer" in refused.stderr and "DOCTOR=0" in refused.stderr
    subprocess.run(recipe, env=env | {"DOCTOR": "0"}, capture_output=True, check=True)
    assert (tmp_path / "started").exists()


def test_the_fast_part_imports_no_torch_and_opens_no_connection(tmp_path):
    command = subprocess.run(
        ["bash", str(ROOT / "recipes/grpo_judge.sh")],
        env={**os.environ, "DRY_RUN": "1", "PROFILE": "cpu", "DATASET": str(ROOT / "datasets/judge/train.jsonl")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    program = (
        "import io, runpy, socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        f"sys.stdin, sys.argv = io.StringIO({command!r}), ['doctor', '--fast']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'tools/doctor.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, [name for name in ('torch', 'swift', 'transformers') if name in sys.modules])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "plugin")}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0 []", said.stderr


def test_the_gold_documents_title_is_shown_as_an_attack_with_what_it_means(doctor, serve, monkeypatch, tmp_path):
    def answer(body):
        by_title = body["rewritten_query"] == "胶原蛋白肽说明书"
        found = [("other", "别的"), ("d", "胶原蛋白肽说明书")][:: -1 if by_title else 1]
        return 200, {"data": {"recall": [{"doc_id": name, "title": title, "reranker_score": 0.5} for name, title in found]}}

    monkeypatch.setenv("OVERTAKE_RAG_URL", serve(answer).url)

    def findings(**changed):
        rows = [{name: value.replace("{}", str(at)) for name, value in {**RAG_ROW, **changed}.items()} for at in range(4)]
        file = tmp_path / "rl_train.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        words = ("--task", "query_rewrite", "--only-attacks", "--no-judge", "--json", "--data", file)
        _, out, _ = doctor(*words)
        return {one["what"]: one for one in json.loads(out)["findings"]}

    title = findings(rag_gold='["d"]')["attack: gold document's title"]
    assert title["level"] == "warning" and "hold_out.py --documents" in title["remedy"] and "paid by rag_competition" in title["value"]
    assert "attack: gold document's title" not in findings(rag_gold="")
