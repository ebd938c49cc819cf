"""generate.py --task finance: what a teacher's solution becomes, n samples that are n calls, and what an interruption costs."""

import json
import time

import pytest
from overtake.data.tables import json_lines
from overtake.tasks.finance import prompts

pytestmark = pytest.mark.usefixtures("fresh")
ROWS = [
    {
        "id": "a",
        "question": "2023年收入1000万元，比上年增长25%，2022年收入多少？",
        "gold_answer": "800万元",
        "type": "calculation",
        "source": "own",
    },
    {"id": "b", "question": "什么是市盈率？", "gold_answer": "股价与每股收益之比", "type": "concept", "source": "own"},
]
SOLVED = "<think>\n1000/1.25\n</think>\n<answer>800万元</answer>"


@pytest.fixture
def raw(tmp_path):
    def raw(rows=ROWS):
        (tmp_path / "raw.jsonl").write_bytes(json_lines(rows))
        return tmp_path / "raw.jsonl"

    return raw


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def with_reasoning(reasoning, text, name="reasoning_content"):
    message = {"role": "assistant", "content": text, name: reasoning}
    usage = {"prompt_tokens": 10, "completion_tokens": 10}
    return 200, {"model": "r1", "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage}


def distil(run, raw, tmp_path, *options):
    done = run("generate", raw, tmp_path / "distilled.jsonl", "--task", "finance", *options)
    return done, lines(tmp_path / "distilled.jsonl") if (tmp_path / "distilled.jsonl").exists() else []


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_told_apart_is_put_into_the_think_block(run, teacher, raw, tmp_path, name):
    server = teacher(lambda question, body: with_reasoning("1000/1.25", "<answer>800万元</answer>", name))
    done, rows = distil(run, raw(), tmp_path)
    assert done.code == 0, done.err
    assert rows[0] == {**ROWS[0], "teacher_output": SOLVED, "sample": 0, "teacher_model": "r1"}
    assert [request.body["messages"] for request in server.requests] == [prompts.finance_messages(row["question"]) for row in ROWS]
    assert {(request.body["max_tokens"], request.body["temperature"]) for request in server.requests} == {(4096, 0.6)}
    assert "2 rows in, 2 solutions of 2 problems (0 from cache), 0 rejected, 0 failed; paid 40 tokens, no price known" in done.out


def test_a_local_teacher_writes_the_tags_itself(run, teacher, raw, tmp_path):
    teacher(lambda question, body: "1000/1.25</think>\n\n<answer>800万元</answer>")
    _, rows = distil(run, raw(), tmp_path)
    assert {row["teacher_output"] for row in rows} == {SOLVED}


def test_samples_are_calls_of_their_own_and_two_more_ask_for_two(run, again, teacher, raw, tmp_path):
    count = iter(range(100))
    server = teacher(lambda question, body: f"<think>{next(count)}</think><answer>x</answer>")
    _, two = distil(run, raw(), tmp_path, "--samples", 2, "--concurrency", 1)
    assert [(row["id"], row["sample"]) for row in two] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert len({row["teacher_output"] for row in two}) == 4 and len(server.requests) == 4
    again()
    done, four = distil(run, raw(), tmp_path, "--samples", 4, "--concurrency", 1)
    assert "8 solutions of 2 problems (4 from cache)" in done.out and len(server.requests) == 8
    assert [row for row in four if row["sample"] < 2] == two


def test_a_failed_call_is_no_row_and_is_all_that_is_asked_again(run, again, teacher, raw, tmp_path):
    answers = {ROWS[1]["question"]: "<think>没想完"}
    server = teacher(lambda question, body: answers.get(question, SOLVED))
    done, rows = distil(run, raw(), tmp_path)
    assert done.code == 1 and [row["id"] for row in rows] == ["a"]
    (failed,) = lines(tmp_path / "distilled.jsonl.failed.jsonl")
    assert (failed["id"], failed["sample"]) == ("b", 0) and "empty text" in failed["reason"]
    answers.clear()
    again()
    done, rows = distil(run, raw(), tmp_path)
    assert done.code == 0 and [row["id"] for row in rows] == ["a", "b"] and len(server.requests) == 3
    assert not (tmp_path / "distilled.jsonl.failed.jsonl").exists()


def test_every_text_is_a_row_even_out_of_form(run, teacher, raw, tmp_path):
    teacher(lambda question, body: "800")
    _, rows = distil(run, raw(), tmp_path)
    assert {row["teacher_output"] for row in rows} == {"800"}


def test_rows_that_cannot_be_asked_are_listed(run, teacher, raw, tmp_path):
    server = teacher(lambda question, body: SOLVED)
    bad = [
        {**ROWS[0], "id": "c", "question": " "},
        {**ROWS[0], "id": "d", "gold_answer": ""},
        {**ROWS[0], "id": "e", "type": "sums"},
        {**ROWS[0]},
    ]
    done, rows = distil(run, raw([*ROWS, *bad]), tmp_path)
    assert done.code == 0 and [row["id"] for row in rows] == ["a", "b"] and len(server.requests) == 2
    assert [(row["row"], row["reason"]) for row in lines(tmp_path / "distilled.jsonl.rejected.jsonl")] == [
        (3, "the question is blank"),
        (4, "the gold answer is blank"),
        (5, "the type is 'sums', none of calculation, concept, analysis, reasoning"),
        (6, "id 'a' stands already in row 1"),
    ]


def test_a_batch_is_written_and_read_with_a_line_for_each_sample(run, again, teacher, raw, tmp_path):
    server = teacher(lambda question, body: SOLVED)
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    done, _ = distil(run, raw(), tmp_path, "--samples", 2, "--batch-write", requests)
    assert done.code == 0 and "2 problems to solve 2 times, 0 answered already, 4 requests in" in done.out and server.requests == []
    said = with_reasoning("1000/1.25", "<answer>800万元</answer>")[1]
    made = [{"custom_id": line["custom_id"], "response": {"status_code": 200, "body": said}, "error": None} for line in lines(requests)]
    results.write_bytes(json_lines(made))
    again()
    done, rows = distil(run, raw(), tmp_path, "--samples", 2, "--batch-read", results)
    assert done.code == 0 and [row["teacher_output"] for row in rows] == [SOLVED] * 4 and server.requests == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"question": "x"}], [], "no column id, gold_answer, type, source: give the file that tools/prepare_finance.py writes"),
        ([{**ROWS[0], "question": ""}], [], "none of 1 rows can be asked; row 1: the question is blank"),
        (ROWS, ["--batch-write", "r.csv"], "--batch-write r.csv: batch services take .jsonl only"),
    ],
)
def test_bad_input_is_one_line_and_costs_nothing(run, teacher, raw, tmp_path, rows, options, message):
    server = teacher()
    done, made = distil(run, raw(rows), tmp_path, *options)
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err and message in done.err, done.err
    assert made == [] and server.requests == []


def test_the_help_of_a_task_shows_its_own_options(run, capsys):
    for task, own, other in (("finance", "--samples", "--tenant"), ("query_rewrite", "--tenant", "--samples")):
        with pytest.raises(SystemExit):
            run("generate", "--task", task, "--help")
        said = capsys.readouterr().out.split("usage: ")[-1]
        options = said[said.index("options:") :]
        assert own in options and other not in options and "--batch-write" in options


def test_killed_half_way_and_started_again_no_sample_is_paid_twice(start, teacher, raw, tmp_path):
    rows, at_once = 20, 4
    path = raw([{**ROWS[0], "id": f"p{number}", "question": f"收入{number}万元，成本1万元，毛利多少？"} for number in range(rows)])
    server = teacher(lambda question, body: time.sleep(0.05) or SOLVED)
    command = ("generate", path, tmp_path / "distilled.jsonl", "--task", "finance", "--samples", 2, "--concurrency", at_once)
    first = start(*command)
    end = time.monotonic() + 60
    while len(server.requests) < rows:
        assert first.poll() is None and time.monotonic() < end, first.communicate()
        time.sleep(0.005)
    first.kill()
    first.communicate()
    assert not (tmp_path / "distilled.jsonl").exists()
    second = start(*command)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert 2 * rows <= len(server.requests) <= 2 * rows + at_once
    assert [(row["id"], row["sample"]) for row in lines(tmp_path / "distilled.jsonl")] == [
        (f"p{n}", k) for n in range(rows) for k in range(2)
    ]
