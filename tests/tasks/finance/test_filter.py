"""Filtering: what the rules and the judge leave, what is held out, and that a judge who does not answer is no verdict."""

import json
from types import SimpleNamespace

import pytest
from overtake.data.tables import json_lines
from overtake.tasks.finance import filter, prompts

pytestmark = pytest.mark.usefixtures("fresh")
GOOD = {name: [True] * 3 for name in ("logic", "accuracy", "completeness", "concision")}


def problem(number, **change):
    question = f"收入{number}万元，成本{number - 10}万元，毛利多少？"
    made = {"id": f"p{number}", "question": question, "gold_answer": "10万元", "type": "calculation", "source": "own"}
    return {**made, "teacher_output": solution("10万元"), "sample": 0, "teacher_model": "r1", **change}


def solution(answer, thought="相减"):
    return f"<think>\n{thought}\n</think>\n<answer>{answer}</answer>"


def verdict(weakest="无", **criteria):
    return json.dumps({**GOOD, **criteria, "weakest": weakest}, ensure_ascii=False)


ROWS = [problem(number) for number in range(20, 40)]


@pytest.fixture
def sift(run, tmp_path):
    """sift(rows, *options) -> the run, each file's rows by the file's stem, and the statistics."""

    def sift(rows, *options):
        (tmp_path / "distilled.jsonl").write_bytes(json_lines(rows))
        out = tmp_path / "out"
        done = run(filter, tmp_path / "distilled.jsonl", out, *options)
        files = {path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in out.glob("*.jsonl")}
        stats = json.loads((out / "filter_stats.json").read_text("utf-8")) if files else None
        return SimpleNamespace(done=done, stats=stats, **files)

    return sift


def test_the_files_have_the_forms_of_training_and_a_fifth_of_the_problems_is_held_out(sift):
    made = sift(ROWS, "--no-judge")
    assert made.done.code == 0, made.done.err
    assert (len(made.sft), len(made.rl), len(made.test)) == (16, 16, 4)
    row = made.sft[0]
    source = next(one for one in ROWS if one["id"] == row["id"])
    messages = [*prompts.finance_messages(source["question"]), {"role": "assistant", "content": source["teacher_output"]}]
    assert row == {
        "id": source["id"],
        "prompt": source["question"],
        "response": source["teacher_output"],
        "type": "calculation",
        "source": "own",
        "messages": messages,
    }
    assert set(made.rl[0]) == set(made.test[0]) == {"id", "prompt", "gold_answer", "type", "source"}
    assert {row["id"] for row in made.rl} | {row["id"] for row in made.test} == {row["id"] for row in ROWS}
    assert {row["id"] for row in made.rl} == {row["id"] for row in made.sft}
    assert made.stats["files"] == {"sft.jsonl": 16, "rl.jsonl": 16, "test.jsonl": 4, "rejected.jsonl": 0, "unjudged.jsonl": 0}
    assert sift(ROWS, "--no-judge").test == made.test != sift(ROWS, "--no-judge", "--seed", 1).test


def test_the_split_is_drawn_before_the_filter_and_each_type_keeps_its_share(sift):
    words = [
        problem(number, id=f"w{number}", question=f"什么是{sign}？", type="concept", gold_answer="定义", teacher_output=solution("定义"))
        for number, sign in enumerate("甲乙丙丁戊己庚辛壬癸", 50)
    ]
    rows = [*ROWS, *words]
    whole = sift(rows, "--no-judge")
    spoilt = sift([{**row, "teacher_output": solution("11万元")} if row["type"] == "calculation" else row for row in rows], "--no-judge")
    assert spoilt.test == whole.test and spoilt.rl == whole.rl, "a problem that the teacher missed is trained and measured on all the same"
    kinds = [row["type"] for row in whole.test]
    assert (kinds.count("calculation"), kinds.count("concept")) == (4, 2)
    assert {row["type"] for row in spoilt.sft} == {"concept"} and spoilt.stats["problems_without_a_solution"] == 16


def test_the_rules_leave_out_by_form_and_by_answer_and_say_which(sift):
    broken = {
        "20": solution("11万元"),
        "21": "<answer>10万元</answer>",
        "22": solution("10万元") + "多余",
        "23": solution("10万元或11万元"),
        "24": solution("100,000元"),
    }
    rows = [{**row, "teacher_output": broken.get(row["id"][1:], row["teacher_output"])} for row in ROWS]
    made = sift(rows, "--no-judge", "--test-share", 0)
    assert {row["id"]: row["reason"] for row in made.rejected} == {
        "p20": "answer wrong",
        "p21": "tags incomplete or out of order",
        "p22": "tags incomplete or out of order",
        "p23": "answer wrong",
    }
    assert made.stats["rejected"] == {"answer wrong": 2, "tags incomplete or out of order": 2} and made.test == []
    assert made.stats["types"] == {"calculation": {"filtered": 20, "unjudged": 0, "kept": 16, "rejected": made.stats["rejected"]}}
    assert "of 20 solutions 16 pass the rules, 16 in all, for the judge was not asked, 16 kept for SFT" in made.done.out


def test_the_weakest_criterion_decides_and_is_shown(sift, teacher):
    said = {
        "收入20万元": verdict(accuracy=[True, False, False], weakest="税率用错"),
        "收入21万元": verdict(logic=[True, True, False], concision=[False, True, True]),
        "收入22万元": verdict(concision=[False, False, False], accuracy=[True, False, False], weakest="啰嗦"),
    }
    server = teacher(lambda question, body: next((text for words, text in said.items() if words in question), verdict()))
    made = sift(ROWS, "--test-share", 0)
    assert made.done.code == 0, made.done.err
    assert [(row["id"], row["reason"], row["weakest"], row["judge"]) for row in made.rejected] == [
        ("p20", "judge: accuracy", "accuracy", "税率用错"),
        ("p22", "judge: concision", "concision", "啰嗦"),
    ]
    assert made.rejected[0]["criteria"] == {"logic": 1.0, "accuracy": 0.333, "completeness": 1.0, "concision": 1.0}
    assert "p21" in {row["id"] for row in made.sft}, "two of three checks are enough"
    assert made.stats["criteria"]["accuracy"] == {"mean": pytest.approx((18 + 2 * 0.333) / 20, abs=1e-4), "weakest_of": 1}
    assert made.stats["criteria"]["logic"]["weakest_of"] == 1 and made.stats["criteria"]["completeness"]["weakest_of"] == 0
    asked = server.requests[0].body["messages"]
    assert asked[0]["content"] == prompts.prompt("judge_reasoning")
    assert json.loads(asked[1]["content"]) == {
        "question": ROWS[0]["question"],
        "reference": "10万元",
        "response": ROWS[0]["teacher_output"],
    }


def test_what_breaks_a_rule_or_is_held_out_is_not_paid_for(sift, teacher):
    server = teacher(lambda question, body: verdict())
    sift([{**row, "teacher_output": "10万元"} if row["id"] < "p30" else row for row in ROWS])
    assert 0 < len(server.requests) < 10
    assert all("10万元</answer>" in json.loads(request.body["messages"][1]["content"])["response"] for request in server.requests)


def test_a_judge_that_does_not_answer_is_no_verdict_and_is_all_that_is_asked_again(sift, teacher, again):
    down = {"收入25万元": (400, {"error": {"message": "content filter"}}), "收入26万元": "我看不错"}
    server = teacher(lambda question, body: next((answer for words, answer in down.items() if words in question), verdict()))
    made = sift(ROWS, "--test-share", 0)
    assert made.done.code == 1 and "2 solutions have no verdict" in made.done.err
    assert [row["id"] for row in made.unjudged] == ["p25", "p26"] and "no usable verdict on an answer" in made.unjudged[1]["reason"]
    assert made.rejected == [] and made.stats["unjudged"] == 2 and len(made.sft) == 18
    assert {row["id"] for row in made.rl} == {row["id"] for row in ROWS}
    down.clear()
    again()
    before = len(server.requests)
    made = sift(ROWS, "--test-share", 0)
    assert made.done.code == 0 and made.unjudged == [] and len(made.sft) == 20 and len(server.requests) == before + 2


def test_a_dead_judge_writes_nothing(sift, teacher):
    teacher(lambda question, body: (401, {"error": {"message": "bad key"}}))
    made = sift(ROWS)
    assert made.done.code == 2 and "the first call to the judge failed" in made.done.err and made.stats is None


def test_the_best_of_a_problems_solutions_are_kept_and_no_more_than_asked_for(sift, teacher):
    thoughts = ["一步一步地相减", "相减", "先加后减", "啊"]
    rows = [problem(20, sample=sample, teacher_output=solution("10万元", thought)) for sample, thought in enumerate(thoughts)]
    said = {"先加后减": verdict(logic=[True, True, False]), "啊": verdict(logic=[False] * 3)}
    teacher(lambda question, body: next((text for words, text in said.items() if words in question), verdict()))
    rows += ROWS[1:]
    made = sift(rows, "--test-share", 0, "--most", 3)
    kept = [row["response"] for row in made.sft if row["id"] == "p20"]
    assert kept == [solution("10万元", thought) for thought in ("相减", "一步一步地相减", "先加后减")]
    made = sift(rows, "--test-share", 0)
    assert [row["response"] for row in made.sft if row["id"] == "p20"] == [solution("10万元")]
    assert [row["id"] for row in made.rl].count("p20") == 1


def test_a_problem_too_near_to_a_held_out_one_is_not_trained_on(sift):
    table = "收入100亿元，成本60亿元，费用20亿元，税率25%，净资产400亿元，总资产900亿元。"
    rows = [problem(90 + n, question=f"{table}{name}率是多少？") for n, name in enumerate(("毛利", "净利", "费用", "负债", "权益"))]
    made = sift([*ROWS, *rows], "--no-judge", "--test-share", 0.4)
    near = set(made.stats["left_out_near_a_held_out_problem"])
    sides = [{row["id"] for row in side} & {row["id"] for row in rows} for side in (made.rl, made.test)]
    assert sides[0] == set() and sides[1] and near == {row["id"] for row in rows} - sides[1]
    assert not near & {row["id"] for row in [*made.sft, *made.rl]}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"id": "a", "question": "x"}],
            [],
            "no column gold_answer, type, source, teacher_output, sample: give the file",
        ),
        (
            [problem(20), problem(20)],
            [],
            "row 2: id sample 'p20 0' stands already in row 1: make the file with",
        ),
        ([problem(20, type="sums")], [], "row 1: the type is 'sums', none of calculation, concept, analysis, reasoning"),
        ([problem(20, gold_answer="……")], [], "row 1: gold_answer '……' cannot be graded: correct it or delete the row"),
        (ROWS, ["--test-share", "1"], "--test-share 1: give a share below 1"),
        (ROWS, ["--least", "2"], "--least 2: give a share from 0 to 1"),
        (ROWS[:1], ["--no-judge"], "1 problems with --test-share 0.2 leave 0 to hold out and 1 to train on"),
        (ROWS, [], "no judge is set: export OVERTAKE_TEACHER_BASE_URL"),
        ([{**row, "teacher_output": "10"} for row in ROWS], ["--no-judge"], "no solution passes (16 tags incomplete or out of order)"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(sift, rows, options, message):
    made = sift(rows, *options)
    assert made.done.code == 2 and made.done.err.startswith("error: ") and "\n" not in made.done.err, made.done.err
    assert message in made.done.err and made.stats is None
