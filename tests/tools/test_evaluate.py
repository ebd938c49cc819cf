"""evaluate.py against the real RAG service over five documents, with ranks worked out by hand, and against services that fail."""

import json
import math
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from overtake import settings
from overtake.data import tables
from overtake.remote import process
from overtake.retrieval.corpus import Document
from overtake.retrieval.service import KnowledgeBase, create_app
from overtake.tasks.query_rewrite import prompts

DOCUMENTS = [
    Document("sleep", "褪黑素", "褪黑素改善睡眠障碍，缩短入睡时间，睡前半小时服用"),
    Document("skin", "胶原蛋白肽", "胶原蛋白肽改善皮肤松弛与真皮弹性，随餐服用"),
    Document("eye", "叶黄素", "叶黄素保护视网膜黄斑，减轻蓝光损伤，早上服用"),
    Document("bone", "氨基葡萄糖", "氨基葡萄糖滋养关节软骨，减轻关节疼痛，饭后服用"),
    Document("heart", "辅酶", "辅酶保护心肌，减轻疲劳，早上服用"),
]
# Question, gold document, the teacher's rewrite.
ROWS = [
    ("数羊到天亮", "sleep", "褪黑素"),  # the question shares no character with a document, the rewrite a word with the right one only
    ("晒多了心慌", "bone", "服用"),  # 心 stands in heart only; 服用 stands in all
    ("瞧不清", "eye", ""),  # nothing in common, and no rewrite
]
SECOND = round(1 / math.log2(3), 12)  # nDCG of one right document at rank 2


@pytest.fixture(scope="module")
def service():
    """The service on a free port; questions in `.down` get 503, `.asked` counts requests."""
    state = SimpleNamespace(down=set(), asked=0)
    app = create_app({("fivedoctors", "default"): KnowledgeBase.build(DOCUMENTS, {})})

    @app.middleware("http")
    async def outage(request, call_next):
        from fastapi.responses import JSONResponse

        state.asked += 1
        query = json.loads(await request.body())["query"]
        return JSONResponse({"code": 503}, status_code=503) if query in state.down else await call_next(request)

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    state.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield state
    server.should_exit = True
    thread.join(10)


@pytest.fixture(autouse=True)
def answering(fresh, service, monkeypatch):
    service.down.clear()
    monkeypatch.setenv("OVERTAKE_RAG_URL", service.url)
    monkeypatch.setenv("OVERTAKE_RAG_SCORE_THRESHOLD", "0")
    settings.load.cache_clear()
    yield
    process.forget()


@pytest.fixture
def labelled(tmp_path):
    """labelled(rows) -> test.jsonl as convert.py writes it, for (question, gold, rewrite) rows."""

    def labelled(rows=ROWS, **change):
        empty = dict.fromkeys(("rag_profile", "rag_history", "rag_teacher_recall", "rag_teacher_judge", "rag_original_recall"), "")
        lines = [
            {
                "messages": prompts.rewrite_messages("fivedoctors", question),
                "rag_query_id": f"q{i}",
                "rag_query": question,
                "rag_tenant": "fivedoctors",
                "rag_kb": "default",
                "rag_gold": json.dumps([gold]) if gold else "",
                "rag_teacher_rewrite": rewrite,
                **empty,
                **change,
            }
            for i, (question, gold, rewrite) in enumerate(rows)
        ]
        path = tmp_path / "test.jsonl"
        path.write_bytes(tables.json_lines(lines))
        return path

    return labelled


def details(folder, name):
    return {row["rag_query_id"]: row for row in map(json.loads, (folder / f"eval_details_{name}.jsonl").read_text("utf-8").splitlines())}


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def metrics(row):
    return tuple(row.get(name) for name in ("quality", "hit@1", "recall@5", "ndcg@10", "judge"))


def test_copy_and_teacher_score_what_their_words_find(run, service, labelled, tmp_path):
    rows = [*ROWS[:1], ("晒多了心慌", "heart", "关节软骨"), ROWS[2], ("饭后", "sleep", "睡前 服用")]
    done = run("evaluate", labelled(rows), tmp_path / "eval", "--system", "copy", "--system", "teacher", "--against", "teacher")
    assert (done.code, done.err) == (0, "")
    none, all_right = (0.0, 0.0, 0.0, 0.0, None), (pytest.approx(0.6 + 0.4 / 3), 1.0, 1.0, 1.0, None)
    copy, teacher = details(tmp_path / "eval", "copy"), details(tmp_path / "eval", "teacher")
    assert {key: metrics(row) for key, row in copy.items()} == {"q0": none, "q1": all_right, "q2": none, "q3": none}
    assert {key: metrics(row) for key, row in teacher.items()} == {"q0": all_right, "q1": none, "q2": none, "q3": all_right}
    assert [row["rewrite"] for row in teacher.values()] == ["褪黑素", "关节软骨", "", "睡前 服用"]
    found = summary(tmp_path / "eval")
    assert found["rows"] == {"copy": 4, "teacher": 4}
    assert [found["means"][name]["ndcg@10"]["mean"] for name in ("copy", "teacher")] == [0.25, 0.5]
    assert found["differences"]["copy"]["hit@1"]["mean"] == 0.25  # (1 - 1 + 0 + 1) / 4
    assert found["differences"]["copy"]["hit@1"]["low"] < 0 < found["differences"]["copy"]["hit@1"]["high"]
    assert "judge" not in found["means"]["teacher"]  # nobody was asked, not even for the empty rewrite
    assert "judge" not in done.out and "teacher - copy" in done.out


def test_a_rewrite_is_measured_fused_and_with_the_question_to_fall_back_on(run, service, labelled, tmp_path):
    # The question finds eye, which is right; its rewrite finds sleep, which the question does not think of.
    rows = [*ROWS, ("蓝光损伤", "eye", "睡前服用")]
    systems = ("fused:teacher", "copy", "teacher", "fallback:teacher")
    done = run("evaluate", labelled(rows), tmp_path / "eval", *(part for name in systems for part in ("--system", name)))
    assert (done.code, done.err) == (0, "")
    as_it_is, fused, fallback = (details(tmp_path / "eval", name) for name in ("teacher", "fused_teacher", "fallback_teacher"))
    assert [row["rag_query_id"] for row in fused.values()] == [row["rag_query_id"] for row in as_it_is.values()]
    assert [row["rewrite"] for row in fused.values()] == ["褪黑素", "服用", "", "睡前服用"]
    assert (as_it_is["q3"]["hit@1"], as_it_is["q3"]["retrieved"][0]) == (0.0, "sleep")
    assert (fallback["q3"]["hit@1"], fallback["q3"]["fell_back"]) == (1.0, "disagreement")
    assert (fallback["q0"]["hit@1"], "fell_back" in fallback["q0"]) == (1.0, False)
    assert (fused["q2"]["unreadable"], fused["q2"]["quality"]) == (1.0, 0.0), "without a rewrite there is the question, which finds nothing"
    assert set(fused["q3"]["retrieved"]) >= {"eye", "sleep"}
    found = summary(tmp_path / "eval")
    assert list(found["means"]) == list(systems)
    shares = found["shares"]
    assert (shares["base"], shares["measure"]) == ("copy", "quality")
    assert shares["systems"]["teacher"] == {"rows": 4, "better": 0.25, "same": 0.5, "worse": 0.25}
    assert shares["systems"]["fallback:teacher"] == {"rows": 4, "better": 0.25, "same": 0.75, "worse": 0.0}
    assert "quality against copy" in done.out
    assert [row["candidate"] for row in found["headline"]["rows"]] == ["teacher"]


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        (["fused:SFT", "copy"], "--system fused:SFT: SFT is none of the systems fused:SFT, copy: name it with --system, too"),
        (["copy", "fused:copy=x.jsonl"], "--system fused:copy=x.jsonl: give fused:NAME once"),
    ],
)
def test_a_way_needs_a_system_that_is_named(run, labelled, tmp_path, systems, message):
    done = run("evaluate", labelled(), tmp_path / "eval", *(part for name in systems for part in ("--system", name)))
    assert (done.code, done.out) == (2, "") and message in done.err


def test_a_service_that_knows_no_modes_is_not_measured(run, rag, labelled, tmp_path):
    asked = rag(lambda sent, body: [("sleep", 0.9)])
    done = run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", "--system", "teacher", "--system", "fused:teacher")
    assert done.code == 2
    assert "does not say as data.mode that the rewrite was used fused" in done.err
    assert [call.body.get("mode") for call in asked.requests] == [None, "fused"], "nobody else sends a mode"


def test_a_right_document_at_rank_two_is_worth_its_discount(run, rag, labelled, tmp_path):
    rag(lambda sent, body: [("eye", 0.9), ("sleep", 0.8), ("bone", 0.1)])
    run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", "--system", "copy")
    assert metrics(details(tmp_path / "eval", "copy")["q0"]) == (pytest.approx(0.4 / 3), 0.0, 1.0, pytest.approx(SECOND), None)


def test_ten_documents_are_asked_for_with_the_question_beside_the_rewrite(run, rag, labelled, tmp_path):
    service = rag(lambda sent, body: [])
    run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", "--system", "teacher")
    (asked,) = service.requests
    assert (asked.body["query"], asked.body["rewritten_query"], asked.body["top_k"]) == ("数羊到天亮", "褪黑素", 10)
    assert metrics(details(tmp_path / "eval", "teacher")["q0"])[:4] == (0.0, 0.0, 0.0, 0.0)  # an empty list is a measurement


def test_an_outage_leaves_its_rows_out_and_says_so(run, service, labelled, tmp_path):
    service.down.add("晒多了心慌")
    done = run("evaluate", labelled(), tmp_path / "eval", "--system", "teacher", "--system", "copy", "--against", "teacher")
    assert done.code == 0
    assert metrics(details(tmp_path / "eval", "teacher")["q1"]) == (None,) * 5
    found = summary(tmp_path / "eval")
    assert found["rows"] == {"teacher": 2, "copy": 2}
    assert found["means"]["teacher"]["hit@1"]["mean"] == 0.5
    assert found["failed"] == {"teacher": pytest.approx(1 / 3), "copy": pytest.approx(1 / 3)} and "33.3%" in done.out
    assert "not measured, and in no mean: {'teacher': 1, 'copy': 1}" in done.out


def test_a_row_that_one_system_lacks_counts_in_no_difference(run, rag, labelled, tmp_path):
    rag(lambda sent, body: (503, {}) if sent == "服用" else [(gold, 1.0) for question, gold, _ in ROWS if question == body["query"]])
    run("evaluate", labelled(ROWS[:2]), tmp_path / "eval", "--system", "copy", "--system", "teacher", "--against", "teacher")
    found = summary(tmp_path / "eval")
    assert found["rows"] == {"copy": 2, "teacher": 1}
    assert found["differences"]["copy"]["hit@1"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_a_dead_retriever_is_one_line(run, labelled, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setenv("OVERTAKE_RAG_URL", f"http://127.0.0.1:{held.getsockname()[1]}")
    settings.load.cache_clear()
    done = run("evaluate", labelled(), tmp_path / "eval", "--system", "copy")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 0)
    assert "error: the first call to the rag failed" in done.err
    assert not (tmp_path / "eval/summary.json").exists()


@pytest.mark.parametrize(
    ("recall", "message"),
    [
        pytest.param([("eye", 0.9), ("eye", 0.8)], "a document stands twice", id="a document twice"),
        pytest.param([(None, 0.9)], "holds no doc_id, by which a row with gold labels is measured", id="no names"),
    ],
)
def test_a_recall_that_cannot_be_compared_with_labels_is_one_line(run, rag, labelled, tmp_path, recall, message):
    rag(lambda sent, body: recall)
    done = run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", "--system", "copy")
    assert (done.code, done.err.count("\n")) == (2, 0)
    assert message in done.err


# ---------------------------------------------------------------- models


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A model folder that tiny_model.py makes of the five documents, untrained."""
    import importlib.util
    from pathlib import Path

    folder = tmp_path_factory.mktemp("student")
    documents = [{"_id": one.id, "title": one.title, "text": one.text} for one in DOCUMENTS]
    (folder / "corpus.jsonl").write_bytes(tables.json_lines(documents))
    spec = importlib.util.spec_from_file_location("tiny_model_made", Path(__file__).parents[2] / "demo/tiny_students/tiny_model.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main([str(folder / "model"), "--corpus", str(folder), "--steps", "0", "--width", "32"]) == 0
    return folder / "model"


def test_a_model_is_asked_once_and_again_when_its_weights_or_the_rows_change(run, labelled, student, tmp_path, monkeypatch):
    from overtake.evaluation import students

    asked = []
    greedy = students.from_folder

    def short(folder, rows, limit, thinking, tell):
        assert (limit, set(thinking)) == (150, {False})
        asked.append(len(rows))
        return greedy(folder, rows, 8, tell=tell)  # untrained, it never ends by itself

    monkeypatch.setattr(students, "from_folder", short)

    def evaluate(path=None):
        done = run("evaluate", path or labelled(), tmp_path / "eval", "--system", f"S={student}", "--system", "copy", "--against", "S")
        assert done.code == 0, done.err
        found = summary(tmp_path / "eval")
        assert found["costs"]["S"].keys() == {"latency_median", "latency_p95", "tokens"}  # nothing says what its hardware costs
        assert found["costs"]["copy"] == {}
        return (tmp_path / "eval/answers_S.jsonl").read_bytes(), {**found, "costs": {}}

    first = evaluate()
    rows = [json.loads(line) for line in first[0].splitlines()]
    assert [row["rag_query_id"] for row in rows] == ["q0", "q1", "q2"]
    assert {row["rag_query_id"]: row["rewrite"] for row in details(tmp_path / "eval", "S").values()} == {
        row["rag_query_id"]: row["rewrite"] for row in rows
    }
    conversations = [prompts.rewrite_messages("fivedoctors", question) for question, _, _ in ROWS]
    assert [row["rewrite"] for row in rows] == greedy(student, conversations, 8)
    assert evaluate() == first and asked == [3]
    later = (student / "model.safetensors").stat().st_mtime + 5
    os.utime(student / "model.safetensors", (later, later))
    assert evaluate()[1] == first[1] and asked == [3, 3]
    evaluate(labelled(rag_profile="四十岁"))  # the same questions in other prompts
    assert asked == [3, 3, 3]
    evaluate(labelled(ROWS[:2]))
    assert asked == [3, 3, 3, 2]


def test_a_model_that_was_interrupted_goes_on_behind_its_last_whole_batch(run, labelled, student, tmp_path, monkeypatch):
    from overtake.evaluation import students

    monkeypatch.setattr(students, "BATCH", 2)
    greedy, asked = students.from_folder, []

    def interrupted(folder, rows, limit, thinking, tell):
        asked.append(len(rows))

        def once(found):
            tell(found)
            if len(asked) == 1:
                raise KeyboardInterrupt

        return greedy(folder, rows, 8, thinking, once)

    monkeypatch.setattr(students, "from_folder", interrupted)
    asking = ("evaluate", labelled(), tmp_path / "eval", "--system", f"S={student}")
    assert run(*asking).code == 130
    assert run(*asking).code == 0
    assert asked == [3, 1]
    assert [row["rag_query_id"] for row in tables.read_rows(tmp_path / "eval/answers_S.jsonl")] == ["q0", "q1", "q2"]


def test_copies_and_empty_rewrites_are_shares_of_their_own(run, service, labelled, tmp_path):
    done = run("evaluate", labelled(), tmp_path / "eval", "--system", "copy", "--system", "teacher")
    assert done.code == 0, done.err
    means = summary(tmp_path / "eval")["means"]
    assert [(means[name]["copy"]["mean"], means[name]["unreadable"]["mean"]) for name in ("copy", "teacher")] == [
        (1.0, 0.0),
        (0.0, pytest.approx(1 / 3)),
    ]


def test_a_folder_without_a_model_is_one_line(run, labelled, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("evaluate", labelled(), tmp_path / "eval", "--system", f"S={tmp_path / 'empty'}")
    assert (done.code, done.err.count("\n")) == (2, 0)
    assert "holds neither config.json nor adapter_config.json" in done.err


def test_a_served_model_is_asked_with_its_own_key_and_the_prompt_of_training(run, chat_server, labelled, tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEY", "student-key-1")
    server = chat_server(lambda question, body: "褪黑素" if question == "数羊到天亮" else "氨基葡萄糖")
    done = run("evaluate", labelled(ROWS[:2]), tmp_path / "eval", "--system", f"S 1=m@{server.url}/v1")
    assert done.code == 0, done.err
    assert [metrics(row)[1] for row in details(tmp_path / "eval", "S_1").values()] == [1.0, 1.0]
    assert {call.key for call in server.requests} == {"Bearer student-key-1"}
    bodies = [call.body for call in server.requests]
    assert [body["messages"] for body in bodies] == [prompts.rewrite_messages("fivedoctors", question) for question, _, _ in ROWS[:2]]
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in bodies} == {("m", 0, 150)}
    for file in (tmp_path / "eval").iterdir():
        assert b"student-key-1" not in file.read_bytes()


def test_compared_models_at_two_addresses_are_sent_their_own_keys(run, chat_server, labelled, tmp_path, monkeypatch):
    servers = [chat_server(lambda question, body: "褪黑素") for _ in range(3)]
    systems = [word for at, server in enumerate(servers) for word in ("--system", f"S{at}=m@{server.url}/v1")]
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEY", "student-key-0")
    refused = run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", *systems)
    assert refused.code == 2 and "OVERTAKE_STUDENT_API_KEY is the key of one address, and 3 are asked" in refused.err
    assert not any(server.requests for server in servers) and not (tmp_path / "eval").exists()
    monkeypatch.delenv("OVERTAKE_STUDENT_API_KEY")
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEYS", f"{servers[0].url}/v1=student-key-1 {servers[1].url}=student-key-2")
    done = run("evaluate", labelled(ROWS[:1]), tmp_path / "eval", *systems)
    assert done.code == 0, done.err
    assert [[call.key for call in server.requests] for server in servers] == [["Bearer student-key-1"], ["Bearer student-key-2"], [""]]
    assert not any(b"student-key" in file.read_bytes() for file in (tmp_path / "eval").iterdir())


def test_a_model_that_does_not_answer_is_left_out_and_one_that_says_nothing_scores_0(run, chat_server, labelled, tmp_path, again):
    answers = {"数羊到天亮": "褪黑素", "晒多了心慌": (503, {}), "瞧不清": ""}
    server = chat_server(lambda question, body: answers[question])

    def evaluate():
        done = run("evaluate", labelled(), tmp_path / "eval", "--system", f"S=m@{server.url}/v1")
        assert done.code == 0, done.err
        return done, {key: metrics(row)[1] for key, row in details(tmp_path / "eval", "S").items()}

    done, hits = evaluate()
    assert hits == {"q0": 1.0, "q1": None, "q2": 0.0}
    assert "not measured, and in no mean: {'S': 1}" in done.out
    again()
    answers["晒多了心慌"] = "氨基葡萄糖"
    _, hits = evaluate()
    assert hits == {"q0": 1.0, "q1": 1.0, "q2": 0.0}


def test_a_dead_endpoint_is_one_line(run, labelled, chat_server, tmp_path):
    server = chat_server(lambda question, body: (401, {"error": {"message": "bad key"}}))
    done = run("evaluate", labelled(), tmp_path / "eval", "--system", f"S=m@{server.url}/v1")
    assert (done.code, done.err.count("\n")) == (2, 0)
    assert "the first call to the student failed" in done.err and "HTTP 401" in done.err
    assert len(server.requests) == 1


def test_the_judge_scores_each_rewrite_and_an_empty_one_is_worth_0(run, teacher, labelled, tmp_path):
    server = teacher(lambda question, body: json.dumps({"综合得分": 4 if "改写：褪黑素" in question else 1, "评分理由": "好"}))
    table = labelled(rag_profile="孕妇", rag_history="上次问过叶酸")
    done = run("evaluate", table, tmp_path / "eval", "--system", "teacher", "--judge")
    assert done.code == 0, done.err
    assert [metrics(row)[4] for row in details(tmp_path / "eval", "teacher").values()] == [4.0, 1.0, 0.0]
    assert summary(tmp_path / "eval")["means"]["teacher"]["judge"]["mean"] == pytest.approx(5 / 3)
    seen = {request.body["messages"][1]["content"] for request in server.requests}
    context = "用户画像：孕妇\n历史摘要：上次问过叶酸"
    assert seen == {f"原始问题：数羊到天亮\n{context}\n改写：褪黑素", f"原始问题：晒多了心慌\n{context}\n改写：服用"}


# ---------------------------------------------------------------- refusals

REFUSED = [
    pytest.param(["--system", "best"], "--system best: give copy, teacher, NAME=FOLDER or NAME=MODEL@BASE_URL", id="an unknown system"),
    pytest.param(["--system", "S=nowhere"], "--system S=nowhere: nowhere is no folder", id="no folder"),
    pytest.param(["--system", "=nowhere"], "--system =nowhere: give", id="no name"),
    pytest.param(["--system", "copy", "--system", "copy=teacher"], "copy stands twice", id="a name twice"),
    pytest.param(["--system", "copy", "--against", "GRPO"], "--against GRPO is not among the systems copy", id="--against an unknown one"),
    pytest.param(["--system", "copy", "--judge"], "no judge is set: export OVERTAKE_TEACHER_BASE_URL", id="a judge that is not set"),
]


def refused(done, message, folder):
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 0)
    assert done.err.startswith("error: ") and message in done.err
    assert not folder.exists()


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_compared_is_one_line_and_exit_2(run, labelled, tmp_path, arguments, message):
    refused(run("evaluate", labelled(), tmp_path / "eval", *arguments), message, tmp_path / "eval")


def test_rows_that_cannot_be_measured_are_refused(run, service, labelled, tmp_path):
    rows = [ROWS[0], ("没标", "", "词")]
    before = service.asked
    done = run("evaluate", labelled(rows), tmp_path / "eval", "--system", "copy")
    refused(done, "1 of 2 rows have no gold labels (first: q1)", tmp_path / "eval")
    path = labelled()
    lines = [{key: value for key, value in json.loads(line).items() if key != "rag_gold"} for line in path.read_text("utf-8").splitlines()]
    path.write_bytes(tables.json_lines(lines))
    refused(run("evaluate", path, tmp_path / "eval", "--system", "copy"), "no column rag_gold", tmp_path / "eval")
    refused(run("evaluate", tmp_path / "none.jsonl", tmp_path / "eval", "--system", "copy"), "none.jsonl: no such file", tmp_path / "eval")
    assert service.asked == before


def test_no_service_is_said_before_anything_is_rewritten(run, labelled, tmp_path, monkeypatch):
    monkeypatch.delenv("OVERTAKE_RAG_URL")
    settings.load.cache_clear()
    refused(run("evaluate", labelled(), tmp_path / "eval", "--system", "copy"), "no RAG service is set", tmp_path / "eval")


def test_without_gold_labels_the_rerankers_scores_are_the_measure(run, rag, labelled, tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_RAG_SCORE_THRESHOLD", "0.25")
    settings.load.cache_clear()
    service = rag(lambda sent, body: [("a", 0.9), ("b", 0.6), ("c", 0.3)] if sent == "褪黑素" else [])
    done = run(
        "evaluate",
        labelled([("数羊到天亮", "", "褪黑素")]),
        tmp_path / "eval",
        "--system",
        "teacher",
        "--system",
        "copy",
        "--against",
        "teacher",
    )
    assert (done.code, done.err) == (0, "")
    found = summary(tmp_path / "eval")["means"]
    assert found["teacher"]["quality"]["mean"] == pytest.approx(0.6 * 0.9 + 0.4 * 0.6)  # mean of .9, .6, .3 is .6
    assert (found["teacher"]["top1"]["mean"], found["copy"]["top1"]["mean"]) == (0.9, 0.0)
    assert "hit@1" not in found["teacher"] and "hit@1" not in done.out
    assert {request.body["score_threshold"] for request in service.requests} == {0.25}
