"""Keeping the best draw: by retrieval and judge, above the question itself, never by what was not measured, and nothing asked twice."""

import json

import pytest
from overtake.rewards import reward
from overtake.tasks.query_rewrite import conversations, select

T = [["t", 0.5]]


def row(number=1, **changed):
    """A row of an RL file: the question itself finds 0.2, the teacher's rewrite 0.5."""
    texts = dict.fromkeys(conversations.COLUMNS, "")
    turns = [{"role": "system", "content": "改写"}, {"role": "user", "content": f"问题{number}"}]
    known = {"rag_query_id": f"q{number}", "rag_query": f"问题{number}", "rag_tenant": "fivedoctors", "rag_kb": "default"}
    measured = {"rag_teacher_rewrite": "老师", "rag_teacher_recall": json.dumps(T), "rag_original_recall": '[["o", 0.2]]'}
    return {"messages": turns, **texts, **known, **measured, **changed}


@pytest.fixture
def again(again):
    """A second start forgets what the rewards of one step shared, too."""

    def all_of_it():
        again()
        reward._batches.clear()

    all_of_it()
    return all_of_it


@pytest.fixture(autouse=True)
def first_start(again):
    """Each test is a start of its own."""


@pytest.fixture
def keep(run, tmp_path):
    """keep(rows, draws by query id, *flags) -> what the tool said; the files are rl.jsonl, draws.jsonl, train.jsonl."""

    def write(name, lines):
        (tmp_path / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")

    def keep(rows, draws, *flags):
        write("rl.jsonl", rows)
        turns = {one["rag_query_id"]: one["messages"] for one in rows}
        lines = [
            {"messages": [*turns[name], {"role": "assistant", "content": text}], "dataset": "rl.jsonl", "id": "5f3"}
            for name, texts in draws.items()
            for text in texts
        ]
        write("draws.jsonl", lines)
        return run(select, tmp_path / "rl.jsonl", tmp_path / "draws.jsonl", tmp_path / "train.jsonl", *flags)

    return keep


@pytest.fixture
def written(tmp_path):
    def written(name="train.jsonl"):
        path = tmp_path / name
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else None

    return written


@pytest.fixture
def finds(rag):
    """finds({rewrite: score or HTTP status}) -> the RAG server; what is not named is not found."""

    def finds(scores):
        def recall(sent, body):
            found = scores.get(sent, 0)
            return (found, {"error": "down"}) if found > 1 else [("d", found)] if found else []

        return rag(recall)

    return finds


@pytest.fixture
def judges(teacher):
    """judges({rewrite: points or HTTP status}) -> the judge's server; what is not named is worth 3."""

    def judges(points):
        def reply(question, body):
            found = points.get(question.split("改写：")[1], 3)
            return (found, {"error": "down"}) if found > 5 else json.dumps({"综合得分": found, "评分理由": "好"}, ensure_ascii=False)

        return teacher(reply)

    return judges


def sent(server):
    return [request.body["rewritten_query"] for request in server.requests]


def test_the_draw_that_scores_highest_is_kept_with_every_column(finds, keep, written):
    finds({"好": 0.9, "中": 0.6})
    rows = [row(1, weight=0.5, tags=["a"])]
    said = keep(rows, {"q1": ["中", "<think>\n\n</think>\n\n好", "坏"]}, "--source", "sft/checkpoint-9")
    assert said.code == 0, said.err
    (kept,) = written()
    assert kept["messages"] == [*rows[0]["messages"], {"role": "assistant", "content": "好"}]
    assert {name: kept[name] for name in rows[0] if name != "messages"} == {name: rows[0][name] for name in rows[0] if name != "messages"}
    assert kept["metadata"] == {
        "query_id": "q1",
        "top1_score": 0.9,
        "source": "sft/checkpoint-9",
        "score": pytest.approx((0.40 * 0.833655 + 0.25 * 0.5) / 0.65, abs=1e-5),  # tanh(3 * (.9 - .5)) = .833655, and a win
        "quality": 0.9,
        "teacher_quality": 0.5,
        "original_quality": 0.2,
    }
    assert "1 questions in, 1 kept" in said.out
    assert "mean quality 0.900 (question 0.200, teacher 0.500), 0 of them below the teacher's rewrite" in said.out


def test_the_judge_decides_between_equal_retrievals(finds, judges, keep, written, monkeypatch):
    finds({"甲": 0.9, "乙": 0.9})
    judges({"甲": 2, "乙": 5})
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "1")
    assert keep([row(1, rag_teacher_judge="3")], {"q1": ["甲", "乙"]}).code == 0
    assert written()[0]["messages"][-1]["content"] == "乙"


def test_a_draw_must_retrieve_better_than_the_question_and_may_stay_below_the_teacher(finds, keep, written):
    finds({"低": 0.2, "中": 0.3})
    said = keep([row(1), row(2)], {"q1": ["低"], "q2": ["低", "中"]})
    assert said.code == 0
    assert [kept["metadata"]["query_id"] for kept in written()] == ["q2"]
    assert written()[0]["metadata"]["score"] < 0
    assert written("train.jsonl.left_out.jsonl") == [{"query_id": "q1", "reason": "no better than the question"}]
    assert "1 no better than the question" in said.out and "1 of them below the teacher's rewrite" in said.out


def test_a_draw_may_be_measured_and_kept_behind_its_question(finds, keep, written):
    """A list of terms alone loses what the user said; behind the question it adds to that. One that says the question stays as it is."""
    server = finds({"问题1 术语": 0.9, "问题 1，术语": 0.6, "术语": 0.95})
    assert keep([row(1)], {"q1": ["术语", "问题 1，术语", "问题1"]}, "--behind").code == 0
    assert written()[0]["messages"][-1]["content"] == "问题1 术语"
    assert set(sent(server)) - {"问题1"} == {"问题 1，术语", "问题1 术语"}, "and not the terms alone; the question is the probe"


def test_what_the_question_itself_finds_is_asked_for_where_the_data_lacks_it(finds, keep, written):
    server = finds({"好": 0.9, "问题1": 0.95, "问题2": 0.3})
    assert keep([row(1, rag_original_recall=""), row(2, rag_original_recall=""), row(3)], {f"q{n}": ["好"] for n in (1, 2, 3)}).code == 0
    assert [(kept["metadata"]["query_id"], kept["metadata"]["original_quality"]) for kept in written()] == [("q2", 0.3), ("q3", 0.2)]
    assert sorted(sent(server)).count("问题3") == 0


def test_an_empty_recall_of_the_question_is_a_measurement(finds, keep, written):
    server = finds({"好": 0.1})
    assert keep([row(1), row(2, rag_original_recall="[]")], {"q2": ["好"]}).code == 0
    assert written()[0]["metadata"]["original_quality"] == 0.0
    assert "问题2" not in sent(server)


def test_gold_labels_are_the_measure_where_there_are_any(finds, keep, written):
    finds({"好": 0.3})
    gold = {"rag_gold": '["d"]', "rag_teacher_recall": '[["t", 0.9]]', "rag_original_recall": '[["o", 0.9]]'}
    assert keep([row(1, **gold)], {"q1": ["好"]}).code == 0
    assert written()[0]["metadata"]["quality"] == pytest.approx(0.6 + 0.4 / 3)  # [1, 0, 0]


def test_copies_and_other_faults_are_counted_and_not_measured(finds, keep, written):
    server = finds({"问题1？": 0.9, "问题2": 0.9, "好\n好": 0.9, "好": 0.6})
    said = keep([row(1), row(2)], {"q1": ["问题1？", "好\n好", "好", "好"], "q2": ["问题2", ""]})
    assert said.code == 0
    assert written()[0]["messages"][-1]["content"] == "好"
    assert written("train.jsonl.left_out.jsonl") == [{"query_id": "q2", "reason": "every draw breaks a rule"}]
    assert "6 draws, 5 distinct: 2 copies of the question, 2 with another fault, 0 not measured" in said.out
    assert sorted(sent(server)) == ["好", "问题1"], "one call finds out whether the service lives: a question as it is"


def test_a_question_without_a_draw_is_listed(finds, keep, written):
    finds({"好": 0.9})
    said = keep([row(1), row(2)], {"q1": ["好"]})
    assert said.code == 0 and "1 without a draw" in said.out
    assert written("train.jsonl.left_out.jsonl") == [{"query_id": "q2", "reason": "no draw"}]


def test_the_best_of_the_measured_is_kept_and_the_rest_is_asked_again(finds, keep, written, again):
    known = {"中": 0.6, "断": 503, "问题2": 0.2}
    server = finds(known)
    rows, draws = [row(1), row(2), row(3, rag_original_recall="")], {"q1": ["断", "中"], "q2": ["断"], "q3": ["中"]}
    known["问题3"] = 503
    said = keep(rows, draws)
    assert said.code == 1 and "run the same command again" in said.err
    assert [(kept["metadata"]["query_id"], kept["messages"][-1]["content"]) for kept in written()] == [("q1", "中")]
    assert written("train.jsonl.left_out.jsonl") == [
        {"query_id": "q2", "reason": "not measured"},
        {"query_id": "q3", "reason": "not measured"},
    ]
    assert "2 not measured, 0 by the rules" in said.out and "0 with another fault, 2 not measured" in said.out

    again()
    known.update({"断": 0.9, "问题3": 0.1})
    before = len(server.requests)
    assert keep(rows, draws).code == 0
    assert sorted(sent(server)[before:]) == ["断", "断", "问题3"], "only what failed; 断 belongs to two questions"
    assert [kept["messages"][-1]["content"] for kept in written()] == ["断", "断", "中"]
    assert written("train.jsonl.left_out.jsonl") is None


def test_a_question_of_which_no_verdict_came_is_kept_by_retrieval_and_the_run_says_so(finds, judges, keep, written, monkeypatch):
    finds({"甲": 0.9, "乙": 0.8})
    judges({"甲": 503, "乙": 503})
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "1")
    said = keep([row(1, rag_teacher_judge="3")], {"q1": ["甲", "乙"]})
    assert said.code == 1
    assert "3 verdicts (0 from cache), 2 of them failed" in said.out
    assert written()[0]["messages"][-1]["content"] == "甲"


def test_an_outage_stops_with_nothing_written_and_costs_nothing_twice(finds, keep, written, again):
    names = [f"改{number}" for number in range(12)]
    known = {name: 0.6 if number < 5 else 503 for number, name in enumerate(names)}
    server = finds(known)
    rows, draws = [row(1)], {"q1": names}
    said = keep(rows, draws)
    assert said.code == 2 and written() is None
    assert said.err.startswith("error: 7 of 12 retrievals of this batch failed") and "sampling by the same command" in said.err

    again()
    known.update(dict.fromkeys(names[5:], 0.7))
    before = len(server.requests)
    assert keep(rows, draws).code == 0
    assert sorted(sent(server)[before:]) == sorted(names[5:])


def test_rows_whose_draws_all_earn_the_same_are_left_out_on_request(finds, keep, written, tmp_path):
    finds({"甲好": 0.9, "乙好": 0.9, "丙差": 0.1, "丁坏": 503})
    rows = [row(number, more="stays") for number in range(1, 7)]
    draws = {
        "q1": ["甲好", "乙好"] * 4,  # equal throughout
        "q2": ["甲好"] * 7 + ["丙差"],
        "q3": ["甲好"] * 7,  # too few to tell
        "q4": ["甲好"] * 7 + ["丁坏"],  # not measured, so not equal
        "q5": ["甲好"] * 7 + ["问题5"],  # a copy breaks a rule and earns less
    }
    done = keep(rows, draws, "--selected", tmp_path / "rl.selected.jsonl")
    assert written("rl.selected.jsonl") == [one for one in rows if one["rag_query_id"] != "q1"]
    assert "1 of 6 questions left out of which every draw earns the same (2 have fewer than 8 draws and stay)" in done.out
    assert len(written("rl.jsonl")) == 6, "the file of all rows stays"


def test_draws_of_which_the_verdicts_failed_are_not_called_equal(finds, judges, keep, written, tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "1")
    finds({"甲好": 0.9, "乙好": 0.9})
    judges({"甲好": 503, "乙好": 503})
    rows = [row(1, rag_teacher_judge="3"), row(2)]  # of the second no verdict is asked for
    draws = {name: ["甲好", "乙好"] * 4 for name in ("q1", "q2")}
    keep(rows, draws, "--selected", tmp_path / "rl.selected.jsonl")
    assert written("rl.selected.jsonl") == rows[:1]


def test_nothing_kept_is_said_and_no_old_set_is_touched(finds, keep, written, tmp_path):
    finds({"低": 0.1})
    (tmp_path / "train.jsonl").write_text('{"old": 1}\n')
    said = keep([row(1)], {"q1": ["低"]})
    assert said.code == 2 and "none of 1 questions has a draw that retrieves better than itself" in said.err
    assert written() == [{"old": 1}]


def test_a_check_asks_each_service_once_and_needs_no_draws(finds, judges, run, keep, tmp_path, written, monkeypatch):
    retriever, judge = finds({}), judges({})
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "1")
    rows = [row(number, rag_teacher_judge="3") for number in range(1, 4)]
    assert keep(rows, {}, "--check").code == 0
    (tmp_path / "draws.jsonl").unlink()
    assert run(select, tmp_path / "rl.jsonl", tmp_path / "draws.jsonl", tmp_path / "train.jsonl", "--check").code == 0
    assert (sent(retriever), len(judge.requests)) == (["问题1"], 1)
    assert written() is None


REFUSED = [
    pytest.param({"rag_original_recall": "0.2"}, r"rag_original_recall of 'q1' is no JSON list: '0.2'", id="the question's recall"),
    pytest.param({"rag_gold": "d1"}, r"rag_gold of 'q1' is no JSON list", id="the labels"),
    pytest.param({"rag_teacher_judge": "9"}, r"rag_teacher_judge of 'q1' is '9'", id="the teacher's points"),
    pytest.param({"rag_teacher_recall": "", "rag_teacher_rewrite": ""}, r"q1: neither rag_teacher_recall nor", id="no baseline"),
]


@pytest.mark.parametrize(("changed", "words"), REFUSED)
def test_rows_out_of_form_are_refused_before_anything_is_asked(finds, keep, written, changed, words):
    server = finds({"好": 0.9})
    said = keep([row(1, **changed)], {"q1": ["好"]})
    assert (said.code, written(), server.requests) == (2, None, [])
    assert said.err.startswith("error: ") and words in said.err


def test_a_dead_service_is_one_error(fresh, keep, monkeypatch):
    monkeypatch.setenv("OVERTAKE_RAG_URL", "http://127.0.0.1:9")
    said = keep([row(1)], {"q1": ["好"]})
    assert said.code == 2 and "the first call to the rag failed, nothing more was sent" in said.err


def test_draws_on_other_rows_and_broken_lines_are_refused(finds, keep, run, tmp_path, written):
    finds({"好": 0.9})
    assert keep([row(1)], {"q1": ["好"]}).code == 0
    paths = [tmp_path / name for name in ("rl.jsonl", "draws.jsonl", "other.jsonl")]
    good = paths[1].read_text("utf-8")
    for text, words in (
        (good.replace("问题1", "别的"), "line 1 was drawn on a conversation that is none of the rows"),
        (good + good[:40], "line 2: "),
        ('{"messages": [{"role": "user", "content": "问题1"}]}\n', "line 1 ends in no assistant turn"),
    ):
        paths[1].write_text(text, encoding="utf-8")
        said = run(select, *paths)
        assert said.code == 2 and words in said.err
    paths[1].unlink()
    said = run(select, *paths)
    assert said.code == 2 and "no such file: draw with recipes/sample_rag.sh" in said.err
    assert written("other.jsonl") is None
