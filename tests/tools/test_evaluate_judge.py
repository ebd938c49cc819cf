"""evaluate.py and ablate.py --task judge: main and secondary apart, form, what can be read, what is let pass, what each stage adds."""

import json
import threading
import time

import pytest
from overtake.data.tables import json_lines

pytestmark = pytest.mark.usefixtures("fresh")
ROWS = [
    {
        "id": "a",
        "question": "capital of France",
        "answer": ["Paris"],
        "answer_hat": "Paris.",
        "label": "correct",
        "label_secondary": "none",
    },
    {"id": "b", "question": "capital of France", "answer": ["Paris"], "answer_hat": "Rome.", "label": "incorrect", "label_secondary": ""},
]


def verdict(main, secondary, think="<think>so</think>"):
    return f"{think}<output>main: {main}; secondary: {secondary}</output>"


@pytest.fixture
def measured(run, tmp_path):
    def measured(**systems):
        (tmp_path / "test.jsonl").write_bytes(json_lines(ROWS))
        words = []
        for name, texts in systems.items():
            (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": at, "verdict": text} for at, text in texts.items()]))
            words += ["--system", f"{name}={tmp_path / name}.jsonl"]
        done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", *words)
        assert done.code == 0, done.err
        summary = json.loads((tmp_path / "eval/summary.json").read_text("utf-8"))
        return {name: {metric: one["mean"] for metric, one in means.items()} for name, means in summary["means"].items()}

    return measured


def test_each_part_is_measured_on_the_rows_that_know_it(measured):
    found = measured(
        good={"a": verdict("correct", "none"), "b": verdict("incorrect", "none")},
        lax={"a": verdict("correct", "correct"), "b": verdict("correct", "none")},
        terse={"a": verdict("correct", "none", think=""), "b": "incorrect"},
    )
    assert found["good"] == {"main": 1.0, "secondary": 1.0, "format": 1.0, "readable": 1.0, "passed": 0.0}
    assert found["lax"] == {"main": 0.5, "secondary": 0.0, "format": 1.0, "readable": 1.0, "passed": 1.0}
    assert found["terse"] == {"main": 0.5, "secondary": 1.0, "format": 0.0, "readable": 0.5, "passed": 0.0}


def test_rows_without_a_known_verdict_are_refused(run, tmp_path):
    (tmp_path / "test.jsonl").write_bytes(json_lines([{**row, "label": ""} for row in ROWS]))
    (tmp_path / "x.jsonl").write_bytes(json_lines([{"id": "a", "verdict": "x"}]))
    done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", "--system", f"x={tmp_path / 'x.jsonl'}")
    assert done.code == 2 and "no row has a known verdict: fill the column label" in done.err


MANY = [{**ROWS[0], "id": str(at), "question": f"question {at}"} for at in range(60)]


def asked(request):
    return next(row["id"] for row in reversed(MANY) if row["question"] in str(request.body["messages"]))


def test_what_a_served_model_takes_is_told_by_price_or_by_the_hours_of_its_hardware(run, chat_server, tmp_path, monkeypatch):
    server = chat_server(lambda question, body: {"text": verdict("correct", "none"), "tokens": (100, 10)})
    (tmp_path / "test.jsonl").write_bytes(json_lines(ROWS))
    monkeypatch.setenv("OVERTAKE_GPU_HOUR_USD", "3600")
    systems = ("--system", f"priced=gpt-5-mini@{server.url}/v1", "--system", f"own=m@{server.url}/v1")
    done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", *systems)
    assert done.code == 0, done.err
    costs = json.loads((tmp_path / "eval/summary.json").read_text("utf-8"))["costs"]
    assert costs["priced"]["usd_1000"] == pytest.approx(1000 * (100 * 0.25 + 10 * 2.0) / 1e6)
    assert costs["priced"]["tokens"] == costs["own"]["tokens"] == 110
    rows = [json.loads(line) for line in (tmp_path / "eval/eval_details_own.jsonl").read_text("utf-8").splitlines()]
    assert costs["own"]["gpu_usd_1000"] == pytest.approx(1000 * sum(row["busy"] for row in rows) / 2)  # a USD a second
    assert "usd_1000" not in costs["own"] and "gpu_usd_1000" not in costs["priced"]
    assert "GPU USD per 1,000" in done.out


def test_an_evaluation_that_was_killed_goes_on_to_the_same_summary(run, start, chat_server, tmp_path):
    go_on = threading.Event()

    def answer(question, body):
        if len(server.requests) > 30:
            go_on.wait(60)
        return verdict("correct" if len(question) % 2 else "incorrect", "none")

    server = chat_server(answer)
    (tmp_path / "test.jsonl").write_bytes(json_lines(MANY))

    def arguments(out):
        return ("evaluate", tmp_path / "test.jsonl", tmp_path / out, "--task", "judge", "--system", f"S=m@{server.url}/v1")

    process, file = start(*arguments("killed")), tmp_path / "killed/answers_S.jsonl"
    until = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") < 25:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {json.loads(line)["judge_id"] for line in file.read_text("utf-8").splitlines()}
    with file.open("ab") as stream:
        stream.write(b'{"identity": "broken o')  # as a kill in the midst of a line leaves it
    before = len(server.requests)
    go_on.set()
    assert run(*arguments("killed")).code == 0
    assert {asked(request) for request in server.requests[before:]} == {row["id"] for row in MANY} - kept
    assert run(*arguments("whole")).code == 0
    killed, whole = (json.loads((tmp_path / out / "summary.json").read_text("utf-8")) | {"costs": {}} for out in ("killed", "whole"))
    assert killed == whole and killed["rows"] == {"S": 60}


def test_the_simplest_judges_stand_beside_the_models(run, tmp_path):
    other = {**ROWS[0], "id": "c", "answer_hat": "It is PARIS or Rome.", "label": "none"}
    (tmp_path / "test.jsonl").write_bytes(json_lines([*ROWS, {**ROWS[1], "id": "d", "label_secondary": "incorrect"}, other]))
    done = run("evaluate", tmp_path / "test.jsonl", tmp_path / "eval", "--task", "judge", "--system", "constant", "--system", "substring")
    assert done.code == 0, done.err
    means = json.loads((tmp_path / "eval/summary.json").read_text("utf-8"))["means"]
    found = {name: {metric: one["mean"] for metric, one in measures.items()} for name, measures in means.items()}
    # incorrect and none are the most frequent verdicts, of two and of three rows that say one.
    assert found["constant"] == {"main": 0.5, "secondary": pytest.approx(2 / 3), "format": 1.0, "readable": 1.0, "passed": 0.0}
    assert found["substring"] == {
        "main": 0.75,
        "secondary": pytest.approx(2 / 3),
        "format": 1.0,
        "readable": 1.0,
        "passed": pytest.approx(1 / 3),
    }


def test_ablate_says_what_each_stage_adds_to_the_verdicts(run, tmp_path):
    (tmp_path / "test.jsonl").write_bytes(json_lines(ROWS))
    stages = {
        "base": {"a": "it is right", "b": "it is not"},
        "sft": {"a": verdict("correct", "none"), "b": verdict("correct", "none")},
        "grpo": {"a": verdict("correct", "none"), "b": verdict("incorrect", "none")},
    }
    options = []
    for name, texts in stages.items():
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": at, "verdict": text} for at, text in texts.items()]))
        options += [f"--{name}", tmp_path / f"{name}.jsonl"]
    done = run("ablate", tmp_path / "test.jsonl", tmp_path / "out", "--task", "judge", *options)
    assert done.code == 0, done.err
    made = json.loads((tmp_path / "out/ablation_summary_judge.json").read_text("utf-8"))
    assert {name: means["main"]["mean"] for name, means in made["means"].items()} == {"base": 0.0, "SFT": 0.5, "SFT+GRPO": 1.0}
    assert (made["differences"]["SFT"]["main"]["mean"], made["differences"]["base"]["readable"]["mean"]) == (0.5, 1.0)
