"""The mock teacher as a process: start, ask, end, and refusals that are one line."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from overtake.tasks.query_rewrite import prompts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kb(tmp_path):
    folder = tmp_path / "fivedoctors"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "title": "褪黑素", "text": "改善睡眠障碍"}\n', encoding="utf-8")
    (folder / "lexicon.tsv").write_text("数羊\t睡眠障碍\n", encoding="utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "数羊到天亮"}\n{"_id": "q2", "text": "躺着发呆"}\n', encoding="utf-8")
    (folder / "qrels.tsv").write_text("q1\ta\t1\nq2\ta\t1\n")
    return folder


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "demo.serve_teacher", *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )


@pytest.fixture
def start(start_tool):
    return partial(start_tool, "serve_teacher")


def rewrite(url, tenant, question, key=""):
    body = {"model": "overtake-stand-in", "messages": prompts.rewrite_messages(tenant, question)}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers), timeout=10
    ) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def test_it_answers_when_ready_says_what_it_is_and_ends_with_0_on_sigterm(start, kb):
    process, url, ready = start(kb)
    assert rewrite(url, "fivedoctors", "数羊到天亮") == "睡眠障碍"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert not ready.exists()
    assert out == (
        f"serving {url}/v1: overtake-stand-in, no model but a mock teacher (rewrites picked by retrieval, verdicts by rules)\n"
        "  fivedoctors: 1 documents, 1 lexicon entries, 0 labelled questions"
        " (its qrels.tsv is not used: name the held-out ids with --hold-out)\n"
    )


def test_held_out_questions_are_no_labels_and_default_serves_any_folder(start, kb, tmp_path):
    (tmp_path / "ids.txt").write_text("q2\n")
    process, url, _ = start(f"default={kb}", "--hold-out", tmp_path / "ids.txt", "--api-key-env", "KEY", KEY="s3")
    assert rewrite(url, "default", "数羊到天亮", "s3") == "睡眠障碍"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        rewrite(url, "default", "数羊到天亮", "other")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert "default: 1 documents, 1 lexicon entries, 1 labelled questions\n" in out


def test_a_busy_port_is_an_error_and_no_other_port_is_taken(kb):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(kb, "--port", port)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"error: cannot listen on 127.0.0.1 port {port} (Address already in use): free it or give another --port (0: any free one)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nowhere"], "nowhere: no such file", id="a folder that is not there"),
        pytest.param(["t={kb}", "t/faq={kb}"], "tenant 't' has two knowledge bases", id="two of a tenant"),
        pytest.param(["{kb}", "--judge-tenant", "x"], "judge tenant 'x': there are fivedoctors", id="an unknown judge"),
        pytest.param(["{kb}", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY: the variable is not set", id="no key"),
        pytest.param(["{kb}", "--hold-out", "{kb}/none"], "No such file", id="no file of ids"),
        pytest.param(["{kb}", "--hold-out", "{kb}/corpus.jsonl"], "is the id of no question", id="other ids"),
        pytest.param(["{kb}", "--hold-out", "{kb}/empty"], "no id in it", id="no ids"),
        pytest.param(["{kb}", "--ready-file", "{kb}/no/url"], "make it first", id="a ready file in no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(kb, run, arguments, message):
    (kb / "empty").write_text("\n")
    ended = run("serve_teacher", *(argument.format(kb=kb) for argument in arguments))
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert "\n" not in ended.err
