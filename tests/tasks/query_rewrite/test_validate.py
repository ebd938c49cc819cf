"""Validating against a real server: rewrite and original measured alike, labels, the judge, and outages that never become zeros."""

import errno
import json
import threading
from pathlib import Path

import pytest
from overtake.data import tables
from overtake.data.tables import read_rows, write_rows
from overtake.remote.gateway import ATTEMPTS, Failed, Ok
from overtake.tasks.query_rewrite import judge as judging
from overtake.tasks.query_rewrite import prompts, validate

pytestmark = pytest.mark.usefixtures("fresh")

ROWS = [
    {"query_id": "q1", "original_query": "皮肤松怎么办", "rewritten_query": "胶原蛋白肽 作用", "tenant_id": "fivedoctors"},
    {"query_id": "q2", "original_query": "眼睛干", "rewritten_query": "虾青素 适宜人群", "tenant_id": "fivedoctors"},
    {"query_id": "q3", "original_query": "怎么吃", "rewritten_query": "胶原蛋白肽 食用方法", "tenant_id": "fivedoctors"},
]
RECALL = {
    "胶原蛋白肽 作用": [("d1", 0.9), ("d2", 0.6), ("d3", 0.3)],
    "皮肤松怎么办": [("d2", 0.7)],
    "虾青素 适宜人群": [("d4", 0.8), ("d5", 0.8)],
    "眼睛干": [("d4", 0.8), ("d5", 0.8)],
    "胶原蛋白肽 食用方法": [],
    "怎么吃": [("d6", 0.5), ("d7", 0.5), ("d8", 0.5)],
}


@pytest.fixture
def sheet(tmp_path):
    write_rows(tmp_path / "in.xlsx", [{**row, "teacher_model": "t", "备注": "x"} for row in ROWS])
    return tmp_path / "in.xlsx"


@pytest.fixture
def qrels(tmp_path):
    folder = tmp_path / "kb"
    (folder / "qrels").mkdir(parents=True)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td9\t1\nq1\td1\t0\n")
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nother\td1\t1\n")
    return folder


def failed(path):
    file = Path(f"{path}.failed.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("cache", "kb"))


def recall_of(sent, body):
    return RECALL[sent]


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_rewrite_and_original_are_both_retrieved_and_scored(run, rag, sheet, tmp_path, suffix):
    server = rag(recall_of)
    out = tmp_path / f"out{suffix}"
    done = run(validate, sheet, out)
    assert done.code == 0, done.err
    one, same, worse = read_rows(out)
    assert one == {
        **ROWS[0],
        "teacher_model": "t",
        "备注": "x",
        "kb_name": "default",
        "recall_count": "3",
        "top1_score": "0.9",
        "success": "true",
        "recall": '[["d1", 0.9], ["d2", 0.6], ["d3", 0.3]]',
        "original_recall_count": "1",
        "original_top1_score": "0.7",
        "original_recall": '[["d2", 0.7]]',
        "quality": "0.78",  # 0.6 * 0.9 + 0.4 * 0.6
        "original_quality": "0.7",
        "gain": "0.08",
        "gold": "",
        "basis": "reranker",
    }
    assert (same["gain"], same["quality"]) == ("0", "0.8")
    # An honest zero: the service answered that it recalls nothing.
    assert (worse["recall_count"], worse["top1_score"], worse["success"], worse["recall"], worse["gain"]) == (
        "0",
        "0",
        "false",
        "[]",
        "-0.5",
    )
    assert "success 66.7%, mean top-1 0.567 (original 0.667), mean gain -0.140: better 33.3%, same 33.3%, worse 33.3%" in done.out
    assert "3 rows in, 3 measured, 0 failures, 6 retrievals (0 from cache)" in done.out
    sent = {(request.body["query"], request.body["rewritten_query"]) for request in server.requests}
    assert sent == {(row["original_query"], row[name]) for row in ROWS for name in ("original_query", "rewritten_query")}
    expected = {"tenant_id": "fivedoctors", "kb_name": "default", "top_k": 5, "score_threshold": 0.5}
    assert all(expected.items() <= request.body.items() for request in server.requests)


def test_labels_replace_the_rerankers_scores(run, rag, sheet, qrels, tmp_path):
    rag(recall_of)
    assert run(validate, sheet, tmp_path / "out.csv", "--qrels", qrels, "--kb-name", "shop").code == 0
    one, two, _ = read_rows(tmp_path / "out.csv")
    assert json.loads(one["recall"]) == [["d1", 0.0], ["d2", 1.0], ["d3", 0.0]]
    assert (one["basis"], one["gold"], one["top1_score"], one["success"]) == ("gold", '["d2", "d9"]', "0", "true")
    assert float(one["quality"]) == pytest.approx(0.4 / 3)
    # One document was recalled, and the list shows one; its quality is that of [1, 0, 0]: 0.6 + 0.4 / 3.
    assert (one["original_top1_score"], json.loads(one["original_recall"])) == ("1", [["d2", 1.0]])
    assert float(one["original_quality"]) == pytest.approx(0.6 + 0.4 / 3)
    assert float(one["gain"]) == pytest.approx(-0.6)
    assert (two["basis"], two["gold"], two["top1_score"], two["kb_name"]) == ("reranker", "", "0.8", "shop")


@pytest.mark.parametrize("place", ["qrels/test.tsv", "qrels.tsv"])
def test_labels_may_be_one_file(run, rag, sheet, qrels, tmp_path, place):
    if place == "qrels.tsv":
        (qrels / "qrels" / "test.tsv").rename(qrels / place)
    rag(recall_of)
    assert run(validate, sheet, tmp_path / "out.csv", "--qrels", qrels / place).code == 0
    assert [row["basis"] for row in read_rows(tmp_path / "out.csv")] == ["gold", "reranker", "reranker"]


def test_labels_need_document_names(run, rag, sheet, qrels, tmp_path):
    rag(lambda sent, body: (200, {"data": {"recall": [{"reranker_score": 0.9}]}}))
    done = run(validate, sheet, tmp_path / "out.csv", "--qrels", qrels)
    assert done.code == 1
    assert [row["query_id"] for row in read_rows(tmp_path / "out.csv")] == ["q2", "q3"]
    (row,) = failed(tmp_path / "out.csv")
    assert row["query_id"] == "q1" and "no doc_id" in row["reason"]


@pytest.mark.parametrize(
    "fault",
    [
        (500, {}),
        (422, {"detail": "bad"}),
        (200, {"data": None}),
        (200, {"code": 1, "data": {}}),
        (200, {"data": {"recall": [{"doc_id": "a"}]}}),
    ],
)
def test_an_outage_is_never_a_zero(run, again, rag, sheet, tmp_path, fault):
    broken = [True]
    server = rag(lambda sent, body: fault if broken and sent == "虾青素 适宜人群" else RECALL[sent])
    done = run(validate, sheet, tmp_path / "out.csv")
    assert done.code == 1 and "run the same command again" in done.err
    assert [row["query_id"] for row in read_rows(tmp_path / "out.csv")] == ["q1", "q3"]
    (row,) = failed(tmp_path / "out.csv")
    assert (row["query_id"], row["part"]) == ("q2", "retrieval") and row["reason"].startswith("rewrite: rag: ")

    broken.clear()
    again()
    before = len(server.requests)
    assert run(validate, sheet, tmp_path / "out.csv").code == 0
    assert len(server.requests) == before + 1  # what was measured is not asked again
    assert len(read_rows(tmp_path / "out.csv")) == 3 and left(tmp_path) == ["in.xlsx", "out.csv"]


def test_a_dead_service_is_one_line_and_nothing_is_written(run, rag, sheet, tmp_path, monkeypatch):
    server = rag(lambda sent, body: (503, {}))
    done = run(validate, sheet, tmp_path / "out.csv")
    assert done.code == 2 and "\n" not in done.err and "the first call to the rag failed, nothing more was sent: rag: HTTP 503" in done.err
    assert len(server.requests) == ATTEMPTS and left(tmp_path) == ["in.xlsx"]


def test_no_service_set_is_said(run, sheet, tmp_path):
    done = run(validate, sheet, tmp_path / "out.csv")
    assert done.code == 2 and done.err.startswith("error: no RAG service is set: export OVERTAKE_RAG_URL")


def verdict_for(question, body):
    assert body["messages"][0]["content"] == prompts.prompt("judge_rewrite")
    score = {"胶原蛋白肽 作用": 4.5, "虾青素 适宜人群": 3}.get(question.split("改写：")[1], 0)
    return json.dumps({"综合得分": score, "评分理由": "理由"}, ensure_ascii=False)


def test_the_judge_scores_every_rewrite(run, rag, teacher, sheet, tmp_path):
    rag(recall_of)
    server = teacher(verdict_for)
    done = run(validate, sheet, tmp_path / "out.xlsx", "--judge")
    assert done.code == 0 and "judge 2.50 of 5 on 3" in done.out
    assert [(row["judge_score"], row["judge_reason"]) for row in read_rows(tmp_path / "out.xlsx")] == [
        ("4.5", "理由"),
        ("3", "理由"),
        ("0", "理由"),
    ]
    assert "原始问题：皮肤松怎么办\n改写：胶原蛋白肽 作用" in {request.body["messages"][1]["content"] for request in server.requests}


def many(tmp_path, count):
    """A sheet of rewrites that retrieve the better the lower their number is."""
    same = {"tenant_id": "default", "teacher_model": "t"}
    rows = [{"query_id": f"q{i}", "original_query": f"第{i}个问题", "rewritten_query": f"术语 {i}", **same} for i in range(count)]
    write_rows(tmp_path / "many.jsonl", rows)
    return tmp_path / "many.jsonl"


def recall_by_number(sent, body):
    return [("d", 1.0 - int(sent.split()[1]) / 1000 if sent.startswith("术语") else 0.1)]


def judging_by(of_rewrite, of_copy):
    """A judge that gives points to a rewrite by its number, and the same to every copy."""

    def verdict(question, body):
        rewrite = question.split("改写：")[1]
        points = of_rewrite(int(rewrite.split()[1]) / 100) if rewrite.startswith("术语") else of_copy
        return json.dumps({"综合得分": points, "评分理由": "好"}, ensure_ascii=False)

    return verdict


@pytest.mark.parametrize(
    ("of_rewrite", "of_copy", "why"),
    [
        pytest.param(lambda number: 5, 4, ["1 distinct verdict in 100", "gain in retrieval 0.00"], id="one for all"),
        pytest.param(lambda number: 5 - number, 5, ["copies of the question get 5.00"], id="pays copies"),
        pytest.param(lambda number: number, 0, ["gain in retrieval -1.00"], id="contradicts retrieval"),
    ],
)
def test_a_worthless_judge_is_named_and_not_paid_for_all_rows(run, rag, teacher, tmp_path, of_rewrite, of_copy, why):
    rag(recall_by_number)
    service = teacher(judging_by(of_rewrite, of_copy))
    done = run(validate, many(tmp_path, 200), tmp_path / "out.jsonl", "--judge")
    assert done.code == 0
    assert "the judge stand-in is worthless and left out" in done.err
    assert all(words in done.err for words in why), done.err
    assert {row["judge_score"] for row in read_rows(tmp_path / "out.jsonl")} == {""}
    assert len(service.requests) == 150


def test_a_judge_that_agrees_with_retrieval_is_paid(run, rag, teacher, tmp_path):
    rag(recall_by_number)
    service = teacher(judging_by(lambda number: 5 - number, 1))
    done = run(validate, many(tmp_path, 200), tmp_path / "out.jsonl", "--judge")
    assert (done.code, "worthless" in done.err) == (0, False)
    assert float(read_rows(tmp_path / "out.jsonl")[199]["judge_score"]) == 3.01
    assert len(service.requests) == 250  # the verdicts of the pilot are not paid twice


def test_the_judge_of_the_sheet_sees_profile_and_history(run, rag, teacher, tmp_path):
    rag(recall_of)
    server = teacher(verdict_for)
    write_rows(tmp_path / "in.csv", [{**ROWS[0], "user_profile": "孕妇", "history_summary": "上次问过叶酸"}])
    assert run(validate, tmp_path / "in.csv", tmp_path / "out.csv", "--judge").code == 0
    (request,) = server.requests
    lines = "原始问题：皮肤松怎么办\n用户画像：孕妇\n历史摘要：上次问过叶酸\n改写：胶原蛋白肽 作用"
    assert request.body["messages"][1]["content"] == lines


def test_an_unreadable_verdict_is_asked_once_more_and_then_blank(run, rag, teacher, sheet, tmp_path):
    rag(recall_of)
    server = teacher(lambda question, body: "我觉得很好" if "虾青素" in question else verdict_for(question, body))
    done = run(validate, sheet, tmp_path / "out.csv", "--judge")
    assert done.code == 1
    assert [row["judge_score"] for row in read_rows(tmp_path / "out.csv")] == ["4.5", "", "0"]
    (row,) = failed(tmp_path / "out.csv")
    assert (row["query_id"], row["part"]) == ("q2", "judge") and "我觉得很好" in row["reason"]
    assert len(server.requests) == 4


def test_judge_call_is_what_rewards_rely_on(teacher):
    answers = iter(["不是 JSON", '{"综合得分": 4, "评分理由": "好"}', "不是 JSON", "还不是"])
    teacher(lambda question, body: {"text": next(answers), "tokens": (10, 1)}, model="gpt-5-mini")
    to = judging.judge_gateway()
    (good,) = to.run([judging.judge_call("问", "改")])
    assert isinstance(good, Ok)
    assert good.value == {
        "score": 4.0,
        "reason": "好",
        "usage": {"prompt_tokens": 20, "completion_tokens": 2},
        "usd": pytest.approx(9e-6),
        "model": "stand-in",
    }
    assert judging.verdict(good.value) == judging.Verdict(4.0, "好")
    (bad,) = to.run([judging.judge_call("问", "另一个改")])
    assert isinstance(bad, Failed) and bad.outage is False and "no usable verdict on a rewrite" in bad.reason
    assert to.meter.tokens == 44  # useless verdicts are billed too


def compared(count, second, usd=("0.002", "0.0005")):
    """A sheet of two teachers: the first finds 0.5, the second `second` of a row's number."""
    about = {"tenant_id": "fivedoctors", "user_profile": "孕妇", "history_summary": ""}
    return [
        {**about, "query_id": f"q{at}", "original_query": f"问{at}", "rewritten_query": f"甲{at}", "teacher_model": "gpt-5"}
        | {"teacher_usd": usd[0], "compare_rewritten_query": second(at), "compare_teacher_model": "deepseek", "compare_teacher_usd": usd[1]}
        for at in range(count)
    ]


def test_two_teachers_are_compared_by_what_their_rewrites_find(run, rag, teacher, tmp_path):
    scores = {"甲": 0.5, "乙": 0.75, "问": 0.1}
    rag(lambda sent, body: [("d", scores[sent[0]])])
    points = {"甲": 4.5, "乙": 4.0}
    judge = teacher(lambda question, body: json.dumps({"综合得分": points[question.split("改写：")[1][0]], "评分理由": "好"}))
    write_rows(tmp_path / "in.csv", compared(4, lambda at: f"乙{at}" if at else ""))
    done = run(validate, tmp_path / "in.csv", tmp_path / "out.csv", "--judge")
    assert done.code == 0, done.err
    rows = read_rows(tmp_path / "out.csv")
    assert [row["query_id"] for row in rows] == ["q1", "q2", "q3"], "a row that one teacher has not rewritten says nothing of both"
    assert (rows[0]["quality"], rows[0]["compare_quality"], rows[0]["judge_score"], rows[0]["compare_judge_score"]) == (
        "0.5",
        "0.75",
        "4.5",
        "4",
    )
    assert {"用户画像：孕妇" in request.body["messages"][1]["content"] for request in judge.requests} == {True}
    assert done.out.splitlines()[-1] == (
        "take deepseek: retrieval quality -0.250 [-0.250, -0.250] on 3 rows, gpt-5 less deepseek; "
        "USD per 1,000 rewrites: gpt-5 2.00, deepseek 0.50"
    )


def test_of_two_teachers_that_find_as_much_the_cheaper_is_taken_and_without_a_price_neither(run, rag, tmp_path):
    rag(lambda sent, body: [("d", 0.5)])
    for usd, words in (
        (("0.002", "0.0005"), "take deepseek, the cheaper: no difference shown"),
        (("0.002", ""), "take either, or compare more rows: no"),
    ):
        write_rows(tmp_path / "in.csv", compared(3, lambda at: f"乙{at}", usd))
        done = run(validate, tmp_path / "in.csv", tmp_path / "out.csv")
        assert done.out.splitlines()[-1].startswith(words), done.out


BAD = [
    ([{"original_query": "a"}], [], "no column query_id, rewritten_query, tenant_id: give the sheet that tools/generate.py writes"),
    ([{**ROWS[0], "rewritten_query": " "}], [], "row 2: rewritten_query is blank"),
    ([ROWS[0], ROWS[1] | {"query_id": "q1"}], [], "row 3: query_id 'q1' stands already in row 2"),
    (ROWS[1:], ["--qrels", "kb"], "labels none of the 2 rows, e.g. query_id 'q2'"),
    (ROWS, ["--qrels", "nowhere"], "--qrels"),
    (ROWS, ["--judge"], "no judge is set"),
    ([{**ROWS[0], "compare_rewritten_query": ""}], [], "no row has a rewrite of both teachers"),
    ([{**ROWS[0], "备注": "长" * 50_000}], [], "out.xlsx: row 2, column 备注: 50,000 characters"),
]


@pytest.mark.parametrize(("table", "options", "message"), BAD)
def test_bad_input_is_one_line_and_costs_nothing(run, rag, qrels, tmp_path, table, options, message):
    server = rag(recall_of)
    write_rows(tmp_path / "in.csv", table)
    places = [tmp_path / option if option in ("kb", "nowhere") else option for option in options]
    done = run(validate, tmp_path / "in.csv", tmp_path / "out.xlsx", *places)
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err and message in done.err, done.err
    assert server.requests == [] and left(tmp_path) == ["in.csv"]


def test_full_disk_is_one_line_and_nothing_half_written(run, rag, sheet, tmp_path, monkeypatch):
    rag(recall_of)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.os, "fsync", full)
    done = run(validate, sheet, tmp_path / "out.xlsx")
    assert done.code == 2 and "No space left on device" in done.err and "\n" not in done.err
    assert left(tmp_path) == ["in.xlsx"]


def test_concurrency_is_bounded(run, rag, tmp_path):
    now, most, lock = [], [], threading.Lock()

    def recall(sent, body):
        with lock:
            now.append(1)
            most.append(len(now))
        threading.Event().wait(0.02)
        with lock:
            now.pop()
        return [("d", 0.9)]

    rag(recall)
    write_rows(tmp_path / "in.csv", [{**ROWS[0], "query_id": str(i), "original_query": f"q{i}"} for i in range(20)])
    assert run(validate, tmp_path / "in.csv", tmp_path / "out.csv", "--concurrency", 3).code == 0
    assert max(most) == 3
