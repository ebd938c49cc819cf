"""The blind comparison as a person meets it: the system's Chromium, keyboard alone, two raters, and a start after a kill."""

import json
import threading
import time
from types import SimpleNamespace

import pytest
from overtake import tasks
from overtake.evaluation import preferences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOSTILE = "<img src=x onerror='window.pwned=1'></p><script>window.pwned=2</script>"
WAIT = 120_000


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Comparisons of two tasks, six and two questions, whose candidates betray themselves in every answer but to the reader of names."""
    folder = tmp_path_factory.mktemp("blind")
    from overtake.page.blind import Asked

    found = []
    for name, field, question, count in (("query_rewrite", "rewrite", "query", 6), ("medical", "answer", "question", 2)):
        task, place = tasks.known()[name], folder / name
        key = next(shown for shown, column in task.evaluation.shown.items() if column == task.evaluation.id)
        place.mkdir()
        for system in ("Alpha", "Beta"):
            lines = [{key: f"q{at}", question: f"第{at}问 {HOSTILE}", field: f"{system[0]}答{at} {HOSTILE}"} for at in range(count)]
            if name == "query_rewrite":
                lines = [line | {"profile": "孕妇", "gold": ["文档7"]} for line in lines]
            (place / f"eval_details_{system}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        means = {system: {task.measures()[0]: 0.5} for system in ("Alpha", "Beta")}
        (place / "summary.json").write_text(json.dumps({"task": task.called, "against": "Alpha", "means": means}))
        found.append(Asked(preferences.comparison(place, task), place / "preferences.jsonl"))
    return found


@pytest.fixture(scope="module")
def serve_page(asked):
    """serve_page() -> a page over the comparisons, its address; another call is another start."""
    import uvicorn
    from overtake.page import blind

    servers = []

    def serve_page():
        server = uvicorn.Server(uvicorn.Config(blind.app(asked), host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield serve_page
    for server, thread in servers:
        server.should_exit = server.force_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def served(serve_page):
    return serve_page()


@pytest.fixture
def visit(chromium):
    """visit(address, locale) -> a page; at the end nobody outside was asked, and nothing shown or sent named a candidate."""
    contexts, outside, bodies = [], [], []

    def keep(response):
        try:
            bodies.append(response.text() if "javascript" not in response.headers.get("content-type", "") else "")
        except Exception:  # noqa: BLE001 - a stream that is still open has no body yet
            return

    def visit(url, locale="zh-CN"):
        contexts.append(chromium.new_context(locale=locale, viewport={"width": 1000, "height": 800}))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: outside.append(request.url) if not request.url.startswith((url, "data:", "blob:")) else None)
        page.on("response", keep)
        page.goto(url, wait_until="load")
        page.get_by_label("您的名字" if locale.startswith("zh") else "Your name").wait_for()
        return page

    yield visit
    shown = [page.content() for context in contexts for page in context.pages]
    assert [page.evaluate("window.pwned") for context in contexts for page in context.pages] == [None] * len(shown)
    for context in contexts:
        context.close()
    assert outside == [] and bodies and not any(name in text for text in (*shown, *bodies) for name in ("Alpha", "Beta"))


def told(page, at):
    """What is on the screen, once the question of this number is."""
    page.get_by_text(f"第 {at} 题").or_(page.get_by_text(f"question {at} of")).locator("visible=true").first.wait_for()
    left, right = (page.locator(".cards .card").nth(place).inner_text() for place in (0, 1))
    return SimpleNamespace(question=page.locator("[data-question]").get_attribute("data-question"), left=left, right=right)


def test_two_raters_choose_by_the_keyboard_alone_and_go_on_after_a_kill(visit, served, serve_page, asked):
    page, log = visit(served), asked[0].log
    page.get_by_role("button", name="开始").click()
    page.get_by_text("请先写下名字").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('input[type=text], textarea') && !document.activeElement.closest('.wrap-inner')"):
            break
    page.keyboard.type("anna 1234")  # digits within a name choose nothing
    page.keyboard.press("Enter")
    seen = []
    for at, key in ((1, "1"), (2, "2"), (3, "3")):
        seen.append(told(page, at))
        assert HOSTILE in seen[-1].left and "孕妇" in page.locator("[data-question]").inner_text()
        assert not page.get_by_text("文档7").is_visible()
        page.keyboard.press(key)
    told(page, 4)
    page.keyboard.press("0")
    assert told(page, 3) == seen[2], "taken back, it stands as it stood"
    page.keyboard.press("4")
    told(page, 4)
    lines = list(preferences.standing(preferences.read(log)).values())
    assert [(line["question"], line["rater"], line["choice"]) for line in lines] == [
        (one.question, "anna 1234", choice) for one, choice in zip(seen, ("left", "tie", "both bad"), strict=True)
    ]
    assert all(line["left"][0] == one.left.split("\n")[-1].strip()[0] for line, one in zip(lines, seen, strict=True))

    # A kill in the midst of a line; the same name goes on at the fourth question, another begins at the first one, in English.
    log.write_bytes(log.read_bytes() + b'{"task": "query_re')
    url = serve_page()
    again, other = visit(url), visit(url, "en-US")
    again.get_by_label("您的名字").fill("anna 1234")
    again.keyboard.press("Enter")
    fourth = told(again, 4)
    assert fourth.question not in [one.question for one in seen]
    again.keyboard.press("1")
    told(again, 5)
    again.keyboard.press("3")
    told(again, 6)
    again.keyboard.press("1")
    again.get_by_text("6 道题都做完了").wait_for()
    assert again.get_by_role("button", name="左边更好").is_disabled()
    other.get_by_label("Your name").fill("bo")
    other.keyboard.press("Enter")
    assert told(other, 1).question == seen[0].question
    other.get_by_role("button", name="Right is better").click()
    told(other, 2)
    other.get_by_label("中文").check()
    other.get_by_role("button", name="都不好").wait_for()
    (result,) = preferences.win_rates(preferences.read(log))
    assert (result.questions, result.raters, [pair.questions for pair in result.agreements]) == (6, 2, [1])


def test_another_task_is_chosen_at_the_top(visit, served, asked):
    page, log = visit(served), asked[1].log
    page.get_by_label("任务").click()
    page.get_by_role("option", name="医学问答").click()
    page.get_by_label("您的名字").fill("anna")
    page.keyboard.press("Enter")
    told(page, 1)
    assert page.get_by_text("第 1 题，共 2 题").is_visible()
    page.evaluate("for (const id of ['left', 'right']) document.getElementById(id).click()")
    told(page, 2)
    page.wait_for_timeout(300)
    assert len(preferences.read(log)) == 1, "two presses at once judge what was seen, and nothing after it"
