"""The page as a person meets it: tools/page.py as a process, the system's Chromium, services that answer, are slow, are down."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "脸松松垮垮的吃啥"
HOSTILE = "<img src=x onerror='window.pwned=1'> ${window.pwned=2} {{constructor}} </p><script>window.pwned=3</script>"
KEYS = {
    "OVERTAKE_TEACHER_API_KEY": "teacher-secret-1",
    "OVERTAKE_STUDENT_API_KEY": "student-secret-2",
    "OVERTAKE_RAG_API_KEY": "rag-secret-3",
}
WAIT = 120_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


SAYS = {
    "rewriter": "胶原蛋白肽 用法用量",
    "slow": "虾青素 用法用量",
    "finance": "<think>1000/1.25 = 800</think><answer>800 万元</answer>",
    "judge": "<think>参考答案是 1901 年，回答也说 1901 年。</think><output>main: correct; secondary: none</output>",
    "medical": "<think>想一想</think>吃这个药保证根治，放心。",
    "teacher": "改写：胶原蛋白肽 皮肤松弛",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, serve_module):
    """The page's process and the services behind it; `.hold` keeps the slow model from answering until it is set."""
    place, hold = tmp_path_factory.mktemp("page"), threading.Event()

    def chat(body):
        if body["model"] == "slow":
            hold.wait(60)
        verdict = "评分" in body["messages"][0]["content"] and body["model"] == "teacher"
        text = '{"综合得分": 4, "评分理由": "术语准确"}' if verdict else SAYS[body["model"]]
        if "\n评分项：" in body["messages"][-1]["content"]:
            text = '{"判定": {"1": false, "2": true}, "评语": "许诺了治愈"}'
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice], "usage": usage}

    def rag(body):
        documents = {
            "胶原蛋白肽": ("skin", f"胶原蛋白肽 {HOSTILE}", 0.83),
            "虾青素": ("algae", "虾青素", 0.7),
            "脸": ("face", "脸部护理", 0.6),
        }
        found = [hit for word, hit in documents.items() if word in body["rewritten_query"]] + [("low", "别的", 0.2)]
        recall = [
            {"doc_id": name, "title": title, "reranker_score": score} for name, title, score in found if score >= body["score_threshold"]
        ]
        return 200, {"data": {"recall": recall}}

    chat_url, rag_url = serve_module(chat).url, serve_module(rag).url
    evaluation = place / "eval"
    evaluation.mkdir()
    for name, qualities in {"copy": [0.5] * 20, "SFT": [*[0.5] * 16, 0.9, 0.9, 0.9, 0.1]}.items():
        lines = [
            {"rag_query_id": f"q{at}", "query": f"第{at}个问题", "rewrite": "x", "quality": value} for at, value in enumerate(qualities)
        ]
        (evaluation / f"eval_details_{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "task": "query_rewrite",
        "against": "SFT",
        "systems": {"copy": "copy", "SFT": "x"},
        "means": {"copy": {"quality": 0}, "SFT": {"quality": 0}},
    }
    (evaluation / "summary.json").write_text(json.dumps(summary))
    temporary = place / "tmp"
    temporary.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"OVERTAKE_RAG_URL": rag_url, "OVERTAKE_TEACHER_BASE_URL": f"{chat_url}/v1", "OVERTAKE_TEACHER_MODEL": "teacher", **KEYS}
    models = ["SFT=rewriter", "RL=slow", "finance:RL=finance", "judge:GRPO=judge", "medical:SFT=medical"]
    systems = [part for model in models for part in ("--system", f"{model}@{chat_url}/v1")]
    # Nobody listens on this port, which is held.
    down = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    down.server_close()
    systems += ["--system", f"medical:gone=x@http://127.0.0.1:{down.server_address[1]}/v1"]
    env |= {"OVERTAKE_STUDENT_API_KEYS": f"{chat_url}/v1={KEYS['OVERTAKE_STUDENT_API_KEY']}", "TMPDIR": str(temporary)}
    del env["OVERTAKE_STUDENT_API_KEY"]
    ready = place / "url"
    words = [sys.executable, str(ROOT / "tools/page.py"), "--port", "0", "--ready-file", str(ready), "--eval", str(evaluation), *systems]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=log, stderr=log)
    end = time.monotonic() + 120
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < end, (place / "log").read_text()
        time.sleep(0.05)
    yield SimpleNamespace(url=ready.read_text(), hold=hold, process=process, temporary=temporary, place=place)
    hold.set()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert list(temporary.iterdir()) == [], "the page leaves nothing behind"


@pytest.fixture
def visit(chromium, world):
    """visit(**context) -> the page, open. At the end: nothing was asked outside, nothing complained, no key came to the browser."""
    contexts, asked, complaints, bodies = [], [], [], []

    def keep(response):
        if "/gradio_api/" in response.url or response.url.rstrip("/") == world.url:
            try:
                bodies.append(response.text())
            except Exception:  # noqa: BLE001 - a stream that is still open has no body yet
                return

    def visit(locale="zh-CN", width=1200):
        contexts.append(chromium.new_context(locale=locale, viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", keep)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(world.url, wait_until="load")
        page.get_by_label("问题" if locale.startswith("zh") else "Question", exact=True).first.wait_for()
        return page

    yield visit
    shown = "".join(page.content() for context in contexts for page in context.pages)
    pwned = [page.evaluate("window.pwned") for context in contexts for page in context.pages]
    for context in contexts:
        context.close()
    outside = [url for url in asked if not url.startswith((world.url, "data:", "blob:"))]
    assert (len(asked) > 0, outside, complaints) == (True, [], [])
    assert pwned == [None] * len(pwned), "what was typed or found ran as a script"
    assert [key for key in KEYS.values() if key in shown or any(key in body for body in bodies)] == []


def panel(page):
    """The tab that is open."""
    return page.locator("[role=tabpanel]:visible")


def ask(page, question, label="问题", button="提问"):
    panel(page).get_by_label(label, exact=True).fill(question)
    panel(page).get_by_role("button", name=button, exact=True).click()


def card(page, name):
    return panel(page).locator(".card", has=page.get_by_role("heading", name=name, exact=True))


def picture(page, world, name):
    page.screenshot(path=world.place / f"{name}.png", full_page=True)
    wide, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window, f"{name}: {wide} pixels wide in a window of {window}"


def test_a_question_is_answered_side_by_side_a_slow_model_keeps_nobody_waiting_and_the_language_changes(visit, world):
    page = visit()
    world.hold.clear()
    ask(page, f"{QUESTION} {HOSTILE}")
    sft = card(page, "SFT")
    sft.get_by_text("新增").wait_for()
    assert card(page, "RL").get_by_text("等待回答").is_visible(), "the others are shown while one is waited for"
    assert HOSTILE in sft.inner_text() and f"胶原蛋白肽 {HOSTILE} (skin)" in sft.inner_text(), "a title is text and nothing else"
    assert "0.83" in sft.inner_text() and re.search(r"\d\.\d\d s", sft.inner_text())
    assert "另有 1 篇低于阈值 0.5" in sft.inner_text() and "face" in sft.inner_text(), "cut off; no longer found"
    assert "胶原蛋白肽 皮肤松弛" in card(page, "teacher").inner_text() and "改写：" not in card(page, "teacher").inner_text()
    assert HOSTILE in card(page, "原问题").inner_text()
    world.hold.set()
    card(page, "RL").get_by_text("虾青素 (algae)").or_(card(page, "RL").get_by_text("虾青素").last).wait_for()
    picture(page, world, "rewriting_zh_1200")
    panel(page).get_by_role("button", name="请评审打分").click()
    sft.get_by_text("4 / 5").wait_for()
    assert "术语准确" in sft.inner_text()
    page.get_by_label("English").check()
    panel(page).get_by_role("button", name="Ask", exact=True).wait_for()
    assert page.get_by_role("tab", name="Query rewriting").is_visible()
    assert card(page, "the question as it is").is_visible() and "4 of 5" in sft.inner_text() and "新增" not in sft.inner_text()
    assert panel(page).get_by_label("Question", exact=True).input_value().startswith(QUESTION), "what was typed stays"
    picture(page, world, "rewriting_en_1200")
    typed = [path for path in world.temporary.rglob("*") if path.is_file() and QUESTION.encode() in path.read_bytes()]
    assert typed == [], "nothing that is typed is stored"


def test_on_a_phone_by_the_keyboard_alone_in_the_browsers_language(visit, world):
    world.hold.set()
    page = visit(locale="en-US", width=390)
    question = panel(page).get_by_label("Question", exact=True)
    for _ in range(20):
        page.keyboard.press("Tab")
        if question.evaluate("field => field === document.activeElement"):
            break
    page.keyboard.type("face", delay=0)
    page.keyboard.press("Shift+Enter")
    card(page, "SFT").get_by_text("new", exact=False).first.wait_for()
    card(page, "RL").get_by_text("虾青素").first.wait_for()
    picture(page, world, "rewriting_en_390")
    question.fill("   ")
    page.keyboard.press("Shift+Enter")
    panel(page).get_by_text("Write a question first.").wait_for()


def test_examples_are_held_out_rows_in_their_shares_and_fill_the_question(visit):
    page = visit()
    assert "SFT 对 copy，留出 20 行：3 更好，16 一样，1 更差" in panel(page).inner_text()
    panel(page).get_by_label("留出集里的问题").click()
    labels = page.get_by_role("option").all_inner_texts()
    signs = [next(sign for sign in "▲=▼" if sign in label) for label in labels]
    assert (signs.count("▲"), signs.count("="), signs.count("▼")) == (2, 9, 1)
    page.get_by_role("option").filter(has_text="▼").click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(field => field.value === '第19个问题')")


def test_each_other_tab_shows_what_its_task_is_about_and_a_dead_service_is_said(visit, world):
    page = visit()
    page.get_by_role("tab", name="金融推理").click()
    panel(page).get_by_label("标准答案（可空）").fill("800万元")
    ask(page, "收入1000万元，比上年增长25%，上年收入多少？")
    finance = card(page, "RL")
    finance.get_by_text("按数值读取").wait_for()
    assert "8000000 CNY" in finance.inner_text() and "正确：100%" in finance.inner_text()
    assert not finance.get_by_text("1000/1.25 = 800").is_visible()
    finance.get_by_text("推理过程").click()
    assert finance.get_by_text("1000/1.25 = 800").is_visible()
    picture(page, world, "finance_zh_1200")

    page.get_by_role("tab", name="答案裁判").click()
    panel(page).get_by_label("参考答案").fill("1901 年")
    panel(page).get_by_label("待判答案").fill("成立于 1901 年 <b>")
    ask(page, "哪一年成立？")
    judge = card(page, "GRPO")
    judge.get_by_text("主要答案：正确").wait_for()
    assert "1901 年" in judge.locator("mark").all_inner_texts() and "成立于 1901 年 <b>" in judge.inner_text()
    picture(page, world, "judge_zh_1200")

    page.get_by_role("tab", name="医学问答").click()
    assert "不可给患者看" in panel(page).inner_text()
    panel(page).get_by_label("评分项").fill("[+5] 说明何时就医\n[-8] 许诺治愈")
    ask(page, "乙肝能根治吗？")
    medical = card(page, "SFT")
    medical.get_by_text("不许诺治愈").wait_for()
    assert medical.locator("mark").all_inner_texts() == ["保证根治"]
    assert "违反的规则" in medical.inner_text() and "规则得分" in medical.inner_text()
    assert "说了“保证根治”" in medical.inner_text() and "says" not in medical.inner_text()
    gone = card(page, "gone").get_by_role("alert")
    gone.wait_for()
    assert "失败" in gone.inner_text() and "nobody listens at 127.0.0.1" in gone.inner_text()
    panel(page).get_by_role("button", name="请评审打分").click()
    medical.get_by_text("-8 分，犯了此过错").wait_for()
    assert "+5 分，没有做到" in medical.inner_text() and "许诺了治愈" in medical.inner_text()
    picture(page, world, "medical_zh_1200")
    page.set_viewport_size({"width": 390, "height": 844})
    picture(page, world, "medical_zh_390")


def test_other_pages_may_neither_frame_nor_feed_it(world):
    import httpx

    policy = httpx.get(world.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
    httpx.post(f"{world.url}/gradio_api/upload", files={"files": ("a.txt", b"typed text that would stay")})
    assert [path for path in world.temporary.rglob("*") if path.is_file() and b"typed text" in path.read_bytes()] == []
