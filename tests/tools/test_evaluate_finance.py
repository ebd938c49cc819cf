"""evaluate.py --task finance and ablate.py: what each metric counts, worked out by hand; who is left out; what is refused."""

import json

import pytest
from overtake.data.tables import json_lines
from overtake.tasks.finance import prompts

pytestmark = pytest.mark.usefixtures("fresh")
ROWS = [
    ("a", "收入1000万元，增长25%，上年多少？", "800万元", "calculation"),
    ("b", "收入80万元，成本60万元，毛利多少？", "20万元", "calculation"),
    ("c", "常用的估值倍数有哪些？", "市盈率、市净率", "concept"),
]
RIGHT = "<think>1000/1.25</think><answer>800万元</answer>"
HALF = "<think>想</think><answer>市盈率</answer>"


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_bytes(json_lines([dict(zip(("id", "prompt", "gold_answer", "type"), row, strict=True)) for row in ROWS]))
    return path


@pytest.fixture
def answers(tmp_path):
    """answers(name, {id: text}) -> a file of answers."""

    def answers(name, texts):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": key, "output": text} for key, text in texts.items()]))
        return tmp_path / f"{name}.jsonl"

    return answers


def details(folder, name):
    lines = (folder / f"eval_details_{name}.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def means(folder, name):
    return {metric: value["mean"] for metric, value in summary(folder)["means"][name].items()}


def evaluate(run, held_out, out, *options):
    return run("evaluate", held_out, out, "--task", "finance", *options)


def test_each_metric_counts_what_it_says(run, held_out, answers, tmp_path):
    good = answers("good", {"a": RIGHT, "b": "<answer>30万元</answer>", "c": HALF})
    poor = answers("poor", {"a": "800万元", "b": "", "c": "<think>市盈率"})
    out = tmp_path / "eval"
    done = evaluate(run, held_out, out, "--system", f"GRPO={good}", "--system", f"base={poor}", "--against", "GRPO", "--no-judge")
    assert (done.code, done.err) == (0, "")
    found = means(out, "GRPO")
    assert {name: round(value, 6) for name, value in found.items()} == {
        "format": round(2 / 3, 6),  # b has no thought
        "accuracy": 0.5,  # right, wrong, one keyword of two
        "unreadable": 0.0,
        "length": round((len(RIGHT) + len("<answer>30万元</answer>") + len(HALF)) / 3, 6),
        "calculation": 0.5,
        "concept": 0.5,
    }
    assert {name: means(out, "base")[name] for name in ("format", "accuracy", "unreadable")} == {
        "format": 0,
        "accuracy": 0,
        "unreadable": 1,
    }
    row = details(out, "GRPO")["c"]
    assert (row["type"], row["gold_answer"], row["output"], row["accuracy"]) == ("concept", "市盈率、市净率", HALF, 0.5)
    assert summary(out)["differences"]["base"]["accuracy"]["mean"] == 0.5
    assert json.loads((out / "eval_base.json").read_text("utf-8"))["means"]["format"]["mean"] == 0.0
    head, by_type = done.out.split("accuracy by type")
    assert "GRPO - base" in head and "concept" in by_type and "judge" not in done.out


def test_the_judge_gives_the_mean_of_its_criteria_and_an_empty_answer_is_worth_0(run, teacher, held_out, answers, tmp_path):
    good, bad = [True] * 3, [False, True, True]

    def reply(question, body):
        said = json.loads(body["messages"][1]["content"])
        assert said["reference"] in {gold for _, _, gold, _ in ROWS}
        if said["response"] == HALF:
            return "看不懂"
        return json.dumps({"logic": bad, "accuracy": good, "completeness": good, "concision": good, "weakest": "跳了一步"})

    server = teacher(reply)
    out = tmp_path / "eval"
    done = evaluate(run, held_out, out, "--system", f"S={answers('s', {'a': RIGHT, 'b': '', 'c': HALF})}")
    assert done.code == 0, done.err
    rows = details(out, "S")
    assert (rows["a"]["judge"], rows["a"]["judge_logic"], rows["a"]["judge_says"]) == (round((3 + 0.667) / 4, 4), 0.667, "跳了一步")
    assert rows["b"]["judge"] == 0.0 and "judge" not in rows["c"] and rows["c"]["accuracy"] == 0.5
    assert means(out, "S")["judge"] == pytest.approx(round((3 + 0.667) / 4, 4) / 2)
    assert "without a verdict, and in no mean of the judge: {'S': 1}" in done.out
    assert len(server.requests) == 3  # a once, c twice, b not at all
    assert server.requests[0].body["messages"][0]["content"] == prompts.prompt("judge_reasoning")


def test_a_served_model_is_asked_once_with_the_prompt_of_training_and_its_thought_is_kept(run, chat_server, held_out, tmp_path):
    said = {"收入1000": {"text": "<think>想了很久", "finish": "length"}, "收入80": "1</think><answer>20万元</answer>", "常用": (503, {})}
    server = chat_server(lambda question, body: next(answer for words, answer in said.items() if words in question))
    out = tmp_path / "eval"
    done = evaluate(run, held_out, out, "--system", f"S=m@{server.url}/v1", "--no-judge")
    assert done.code == 0, done.err
    rows = details(out, "S")
    assert rows["a"]["output"] == "<think>想了很久" and (rows["a"]["accuracy"], rows["a"]["unreadable"]) == (0.0, 1.0)
    assert (rows["b"]["output"], rows["b"]["accuracy"], rows["b"]["format"]) == ("1</think><answer>20万元</answer>", 1.0, 1.0), (
        "the prompt opened the block"
    )
    assert "accuracy" not in rows["c"] and "not measured, and in no mean: {'S': 1}" in done.out
    asked = [request.body for request in server.requests if "常用" not in request.body["messages"][1]["content"]]
    assert [body["messages"] for body in asked] == [prompts.finance_messages(question) for _, question, _, _ in ROWS[:2]]
    assert {(body["temperature"], body["max_tokens"]) for body in asked} == {(0, 1024)}


def test_a_teachers_file_is_measured_by_its_first_samples_and_what_it_lacks_is_left_out(run, held_out, tmp_path):
    lines = [
        {"id": "a", "teacher_output": RIGHT, "sample": 0},
        {"id": "a", "teacher_output": "1", "sample": 1},
        {"id": "z", "teacher_output": "2"},
    ]
    (tmp_path / "distilled.jsonl").write_bytes(json_lines(lines))
    done = evaluate(run, held_out, tmp_path / "eval", "--system", f"R1={tmp_path / 'distilled.jsonl'}", "--no-judge")
    assert done.code == 0, done.err
    assert details(tmp_path / "eval", "R1")["a"]["accuracy"] == 1.0
    assert summary(tmp_path / "eval")["rows"] == {"R1": 1} and "not measured, and in no mean: {'R1': 2}" in done.out


def test_the_files_own_gold_is_what_raw_problems_are_measured_by(run, answers, tmp_path):
    raw = tmp_path / "raw.jsonl"
    names = ("id", "question", "gold_answer", "type", "source")
    raw.write_bytes(json_lines([dict(zip(names, (*row, "own"), strict=True)) for row in ROWS]))
    done = evaluate(run, raw, tmp_path / "eval", "--system", f"S={answers('s', {'a': RIGHT})}", "--no-judge")
    assert done.code == 0 and details(tmp_path / "eval", "S")["a"]["accuracy"] == 1.0


def test_an_ablation_is_one_table_with_the_differences_of_the_whole(run, held_out, answers, tmp_path):
    systems = {
        "base": {"a": "800", "b": "20", "c": ""},
        "sft": {"a": RIGHT, "b": RIGHT, "c": HALF},
        "grpo": {"a": RIGHT, "b": RIGHT, "c": HALF},
    }
    options = [part for name, texts in systems.items() for part in (f"--{name}", answers(name, texts))]
    done = run("ablate", held_out, tmp_path / "out", "--task", "finance", *options, "--no-judge")
    assert done.code == 0, done.err
    made = json.loads((tmp_path / "out/ablation_summary_finance.json").read_text("utf-8"))
    assert list(made["rows"]) == ["base", "SFT", "SFT+GRPO"] and made["against"] == "SFT+GRPO"
    assert made["differences"]["base"]["format"]["mean"] == 1.0 and made["differences"]["SFT"]["format"]["mean"] == 0.0
    again = run(
        "ablate", held_out, tmp_path / "out", "--task", "finance", *options, "--rules-only", answers("r", systems["sft"]), "--no-judge"
    )
    assert again.code == 0 and "SFT+GRPO - SFT+GRPO rules" in again.out


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ["--system", "best"], "--system best: give NAME=FOLDER or NAME=MODEL@BASE_URL, or NAME=FILE.jsonl of answers"),
        (
            {},
            ["--system", "S=some/model"],
            "some/model is no folder, and no model that could be fetched from the hub (OSError: no network)",
        ),
        ({}, ["--system", "S=absent.jsonl"], "--system S=absent.jsonl: absent.jsonl: no such file"),
        ({}, ["--system", "S={s}", "--against", "T"], "--against T is not among the systems S"),
        ({}, ["--system", "S={test}"], "no column id or no column output; the columns there are id, prompt, gold_answer, type"),
        ({}, ["--system", "S={s}", "judge"], "no judge is set: export OVERTAKE_TEACHER_BASE_URL"),
        (
            {"gold_answer": "……"},
            ["--system", "S={s}"],
            "row 1: gold_answer '……' cannot be graded: correct it or delete the row",
        ),
        ({"id": "b"}, ["--system", "S={s}"], "test.jsonl: row 2: id 'b' stands already in row 1"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(run, held_out, answers, tmp_path, monkeypatch, change, options, message):
    def no_network(name):
        raise OSError("no network")

    monkeypatch.setattr("swift.utils.safe_snapshot_download", no_network)
    rows = [json.loads(line) for line in held_out.read_text("utf-8").splitlines()]
    held_out.write_bytes(json_lines([{**rows[0], **change}, *rows[1:]]))
    places = {"s": answers("s", {"a": RIGHT}), "test": held_out}
    judge = [] if "judge" in options else ["--no-judge"]
    done = evaluate(run, held_out, tmp_path / "eval", *(option.format(**places) for option in options if option != "judge"), *judge)
    assert (done.code, done.out) == (2, "") and done.err.startswith("error: ") and "\n" not in done.err, done.err
    assert message in done.err and not (tmp_path / "eval/summary.json").exists()
