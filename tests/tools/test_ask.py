"""ask.py against a model and a retriever on real ports, and one line for each that is dead."""

import pytest
from overtake import settings
from overtake.tasks.query_rewrite import prompts

pytestmark = pytest.mark.usefixtures("fresh")
QUESTION = "脸垮了吃啥"


@pytest.fixture
def ask(run):
    def ask(base_url, *arguments, tenant="fivedoctors"):
        return run("ask", QUESTION, "--tenant", tenant, "--model", "m", "--base-url", base_url, *arguments)

    return ask


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def test_the_rewrite_and_both_recall_lists_are_printed(ask, chat_server, rag, monkeypatch):
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEY", "student-key-1")
    model = chat_server(lambda question, body: "<think>想</think>胶原蛋白肽")
    service = rag(lambda sent, body: [("gold", 0.92), ("other", 0.5)] if sent == "胶原蛋白肽" else [])
    done = ask(f"{model.url}/v1", "--profile", "四十岁", "--history", "问过价格")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"question: {QUESTION}",
        "rewrite:  胶原蛋白肽",
        "the question finds: nothing",
        "the rewrite finds: gold (0.92), other (0.50)",
    ]
    (asked,) = model.requests
    assert asked.body["messages"] == prompts.rewrite_messages("fivedoctors", QUESTION, "四十岁", "问过价格")
    assert (asked.key, asked.body["temperature"], asked.body["model"]) == ("Bearer student-key-1", 0, "m")
    assert [(call.body["query"], call.body["rewritten_query"], call.body["kb_name"]) for call in service.requests] == [
        *[(QUESTION, QUESTION, "default")] * 2,
        *[(QUESTION, "胶原蛋白肽", "default")] * 2,
    ]


def test_what_the_threshold_cuts_off_is_counted(ask, chat_server, rag):
    model = chat_server(lambda question, body: "胶原蛋白肽")
    hits = [("gold", 0.6), ("other", 0.4), ("third", 0.1)]
    rag(lambda sent, body: [hit for hit in hits[sent == QUESTION :] if hit[1] >= body["score_threshold"]])
    done = ask(f"{model.url}/v1")
    assert done.out.splitlines()[2:] == [
        "the question finds: nothing; 2 more below OVERTAKE_RAG_SCORE_THRESHOLD=0.5",
        "the rewrite finds: gold (0.60); 2 more below OVERTAKE_RAG_SCORE_THRESHOLD=0.5",
    ]


def one_line(done, *words):
    assert done.code == 2
    assert done.err.startswith("error: ") and "\n" not in done.err
    assert all(word in done.err for word in words), done.err


def test_a_dead_model_is_one_line(ask, rag, nobody):
    service = rag(lambda sent, body: [])
    one_line(ask(f"{nobody}/v1"), "the first call to the student failed")
    assert service.requests == []


def test_a_model_that_refuses_the_name_or_says_nothing_is_one_line(ask, chat_server, rag):
    rag(lambda sent, body: [])
    refusing = chat_server(lambda question, body: (404, {"error": {"message": "no model m"}}))
    one_line(ask(f"{refusing.url}/v1"), "HTTP 404", "no model m")
    silent = chat_server(lambda question, body: "")
    one_line(ask(f"{silent.url}/v1"), "m at", "no rewrite")


def test_a_dead_retriever_is_one_line(ask, chat_server, nobody, monkeypatch):
    model = chat_server(lambda question, body: "胶原蛋白肽")
    monkeypatch.setenv("OVERTAKE_RAG_URL", nobody)
    settings.load.cache_clear()
    one_line(ask(f"{model.url}/v1"), "rag: ", "Connect")


def test_no_retriever_and_an_unknown_tenant_are_said_before_the_model_is_asked(ask, chat_server, rag):
    model = chat_server(lambda question, body: "胶原蛋白肽")
    one_line(ask(f"{model.url}/v1"), "OVERTAKE_RAG_URL")
    rag(lambda sent, body: [])
    one_line(ask(f"{model.url}/v1", tenant="nobody"), "rewrite_nobody", "rewrite_fivedoctors")
    assert model.requests == []


@pytest.mark.parametrize(
    ("task", "options", "says", "seen"),
    [
        (
            "judge",
            ["--answer", "1901", "--answer-hat", "Founded in 1901."],
            "<think>Both say 1901.</think><output>main: correct; secondary: none</output>",
            ["Verdict:", "  main answer: correct", "  everything else: none"],
        ),
        ("finance", [], "<think>1000/1.25</think><answer>800 万元</answer>", ["How it was read:", "  8000000 CNY read as a number"]),
        ("medical", [], "<think>想</think>吃这个药保证根治，放心。", ["Broken rules:", "  rule score 0.00 of 1"]),
    ],
)
def test_every_other_task_prints_the_answer_and_what_there_is_to_see_of_it(run, chat_server, task, options, says, seen):
    model = chat_server(lambda question, body: says)
    done = run("ask", "乙肝能根治吗？", "--task", task, "--base-url", f"{model.url}/v1", *options)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == ["question: 乙肝能根治吗？", says]
    assert [line for line in done.out.splitlines() if line in seen] == seen
