"""generate.py --task judge: who answers, who grades, which verdicts become rows, and what the student gets to see of them."""

import json

import pytest
from overtake.data.tables import json_lines
from overtake.tasks.answer_judge import prompts
from overtake.tasks.answer_judge.dataset import to_sample

pytestmark = pytest.mark.usefixtures("fresh")
QUESTIONS = [
    {"id": "a", "question": "What is the capital of France?", "answer": ["Paris"]},
    {"id": "b", "question": "What is the capital of Italy?", "answer": ["Rome", "Roma"]},
]
RIGHT = "<think>It is the same city.</think><output>main: correct; secondary: none</output>"
WRONG = "<think>It is another city.</think><output>main: incorrect; secondary: none</output>"
SAID = {"What is the capital of France?": "It is Paris.", "What is the capital of Italy?": "It is Milan."}


@pytest.fixture
def given(tmp_path):
    def given(rows):
        (tmp_path / "in.jsonl").write_bytes(json_lines(rows))
        return tmp_path / "in.jsonl"

    return given


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def reply(question, body):
    return SAID.get(question) or (RIGHT if question.endswith(("It is Paris.", "It is Rome.")) else WRONG)


def generate(run, path, tmp_path, *options):
    done = run("generate", path, tmp_path / "out.jsonl", "--task", "judge", *options)
    return done, lines(tmp_path / "out.jsonl")


def test_a_light_model_answers_and_the_teacher_grades(run, teacher, given, tmp_path):
    server = teacher(reply)
    done, rows = generate(run, given(QUESTIONS), tmp_path, "--light", "small-1")
    assert done.code == 0, done.err
    assert [(row["id"], row["answer_hat"], row["made_by"], row["judge_main"]) for row in rows] == [
        ("a", "It is Paris.", "small-1", "correct"),
        ("b", "It is Milan.", "small-1", "incorrect"),
    ]
    assert [request.body["model"] for request in server.requests] == ["small-1", "small-1", "stand-in", "stand-in"]
    assert "2 answers by the light model, 2 answers graded (0 from cache): 2 rows" in done.out
    assert "judge_main: 1 correct (50%), 1 incorrect (50%), 0 none (0%)" in done.out
    sample = to_sample(rows[1])
    assert sample["messages"][:2] == prompts.judge_messages(QUESTIONS[1]["question"], ["Rome", "Roma"], "It is Milan.")
    assert sample["messages"][2] == {"role": "assistant", "content": WRONG}


def test_running_again_asks_nothing_again(run, again, teacher, given, tmp_path):
    server = teacher(reply)
    _, rows = generate(run, given(QUESTIONS), tmp_path, "--light", "small-1")
    again()
    done, same = generate(run, given(QUESTIONS), tmp_path, "--light", "small-1")
    assert (same, len(server.requests)) == (rows, 4) and "(2 from cache)" in done.out


def test_without_a_light_model_what_has_no_answer_is_refused_before_a_call(run, teacher, given, tmp_path):
    server = teacher(reply)
    done, rows = generate(run, given(QUESTIONS), tmp_path)
    assert done.code == 2 and "2 rows have no answer_hat: name the model that answers them with --light MODEL" in done.err
    assert (rows, server.requests) == ([], [])


def test_a_verdict_against_a_label_or_sure_rules_is_no_row(run, teacher, given, tmp_path):
    teacher(lambda question, body: RIGHT)
    rows = [
        {**QUESTIONS[0], "answer_hat": "It is Paris.", "label": "correct", "label_secondary": "none"},
        {**QUESTIONS[0], "id": "c", "answer_hat": "It is Lyon.", "label": "incorrect"},
        {**QUESTIONS[0], "id": "d", "answer_hat": "Paris.", "label": "correct", "label_secondary": "correct"},
        {**QUESTIONS[1], "id": "e", "answer_hat": "", "label": "none"},
    ]
    done, kept = generate(run, given(rows), tmp_path)
    assert [row["id"] for row in kept] == ["a"]
    disagreed = lines(tmp_path / "out.jsonl.disagreed.jsonl")
    assert [(row["id"], row["disagreement"]) for row in disagreed] == [
        ("c", "main is correct, known to be incorrect"),
        ("d", "secondary is none, known to be correct"),
        ("e", "main is correct, known to be none"),
    ]
    assert "3 disagreed" in done.out


def test_sure_rules_stand_against_a_verdict_where_there_is_no_label(run, teacher, given, tmp_path):
    teacher(lambda question, body: WRONG)
    _, kept = generate(run, given([{**QUESTIONS[0], "answer_hat": "It is Paris."}]), tmp_path)
    assert kept == []
    (row,) = lines(tmp_path / "out.jsonl.disagreed.jsonl")
    assert row["disagreement"] == "main is incorrect, by the rules (exact) correct"


def test_negatives_are_graded_too_and_held_to_what_they_were_made_for(run, teacher, given, tmp_path):
    teacher(reply)
    rows = [{**row, "answer_hat": f"It is {row['answer'][0]}."} for row in QUESTIONS]
    _, kept = generate(run, given(rows), tmp_path, "--negatives")
    swapped = [row for row in kept if row["made_by"] == "entity_swap"]
    assert {row["judge_main"] for row in kept if row["made_by"] == "given"} == {"correct"}
    assert {row["judge_main"] for row in kept if row["made_by"] == "negation"} == {"incorrect"}
    # The swap says "It is Rome." of France; this teacher only reads the answer, so its verdict does not hold.
    assert swapped == [] and "entity_swap" in {row["made_by"] for row in lines(tmp_path / "out.jsonl.disagreed.jsonl")}
    assert len({row["id"] for row in kept}) == len(kept)


def test_balance_leaves_rows_of_the_frequent_verdict_out_and_counts_them(run, teacher, given, tmp_path):
    teacher(reply)
    rows = [{**QUESTIONS[0], "id": f"r{n}", "question": f"{n}: capital of France?", "answer_hat": "It is Paris."} for n in range(4)]
    rows.append({**QUESTIONS[0], "id": "w", "answer_hat": "It is Lyon."})
    done, kept = generate(run, given(rows), tmp_path, "--balance", "2")
    assert sorted(row["judge_main"] for row in kept) == ["correct", "correct", "incorrect"]
    assert "3 rows, 2 left out for balance" in done.out


def test_an_unreadable_verdict_is_a_failure_and_never_a_row(run, teacher, given, tmp_path):
    teacher(lambda question, body: "correct, I think")
    done, kept = generate(run, given([{**QUESTIONS[0], "answer_hat": "It is Paris."}]), tmp_path)
    assert (done.code, kept) == (1, [])
    assert "no usable verdict" in lines(tmp_path / "out.jsonl.failed.jsonl")[0]["reason"]


FLASH = [{"id": f"q{at}", "question": f"What is {at} + {at}?", "golden_answers": [str(2 * at)] if at % 5 else []} for at in range(1, 41)]


def test_wiki_qa_is_had_by_its_hubs_name_and_questions_are_held_out(run, teacher, given, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("overtake.tasks.answer_judge.wiki_qa.fetch", lambda *where: asked.append(where) or given(FLASH))
    teacher(lambda question, body: RIGHT if "待评" in question or "\n" in question else f"It is {2 * int(question.split()[2])}.")
    options = ("--task", "judge", "--light", "small", "--negatives", "--hold-out", "8")
    done = run("generate", "hhjinjiajie/FlashRAG_Dataset", tmp_path / "out.jsonl", *options)
    assert asked == [("train", "ms")], done.err
    test, train = lines(tmp_path / "out.test.jsonl"), lines(tmp_path / "out.jsonl")
    assert 0 < len(test) <= 8 and len({row["question"] for row in test}) == len(test), done.out
    assert not {row["question"] for row in test} & {row["question"] for row in train}
    assert {row["made_by"] for row in test} == {"small"} and f"held out: {len(test)} in" in done.out
    assert "8 rejected" in done.out, "those without an answer"


def test_of_few_questions_a_quarter_at_most_is_held_out_and_always_the_same():
    from overtake.tasks.answer_judge.generate import held_out

    rows = [{"question": f"q{at}"} for at in range(40)]
    assert len(held_out(rows, 100)) == 10 and held_out(rows, 0) == frozenset()
    assert held_out(rows, 8) == held_out(rows[::-1], 8) and len(held_out(rows * 2, 8)) == 8
