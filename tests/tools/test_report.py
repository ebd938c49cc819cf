"""report.py: a page that says first whether a run is over-trained and fetches nothing; the same in a real browser."""

import io
import json
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from overtake.evaluation.comparing import summarise
from PIL import Image, ImageStat

STEPS = 60
PHONE = {"width": 390, "height": 844}


class Page(HTMLParser):
    """The texts of a page in one language, its curves, and what it would fetch."""

    def __init__(self, text, language="en"):
        super().__init__()
        self.words, self.curves, self.fetched = [], 0, []
        self._hidden = {"en": "zh", "zh": "en"}[language]
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.curves += tag == "svg"
        self.fetched += [given[name] for name in ("src", "href") if name in given and not given[name].startswith(("#", "data:"))]
        self.fetched += ["script"] * (tag == "script")
        if tag in ("span", "a"):
            self._open.append(given.get("lang"))

    def handle_endtag(self, tag):
        if tag in ("span", "a"):
            self._open.pop()

    def handle_data(self, data):
        if data.strip() and self._hidden not in self._open:
            self.words.append(data.strip())

    @property
    def said(self):
        return " ".join(self.words)


def write_log(folder, rows, **arguments):
    folder.mkdir()
    lines = [{"global_step/max_steps": f"{step}/{len(rows)}", **row} for step, row in enumerate(rows, 1)]
    lines.append({"train_runtime": 61.0, "global_step/max_steps": f"{len(rows)}/{len(rows)}"})
    (folder / "logging.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    if arguments:
        (folder / "args.json").write_text(json.dumps(arguments))
    return folder


def curves(overtrained):
    """Rows as GRPO logs them, held-out evaluation every 10 steps: of a run that learns the task, or of one that learns its reward."""
    draw = random.Random(7)
    rows = []
    for step in range(STEPS):
        done = step / (STEPS - 1)
        cheated = done if overtrained else 0.0
        wanted = {
            "reward": -0.1 + 0.6 * done,
            "kl": 0.1 * done + 2 * cheated**2,
            "completions/mean_length": 12 + 2 * done + 30 * cheated,
            "completions/clipped_ratio": 0.4 * cheated,
            "rewrite/copy": 0.02 + 0.5 * cheated,
            "rag/judge": 0.4 * done,
            "rag/retrieval": 0.3 * done - 0.6 * cheated,
            "rag/win_rate": 0.3 + 0.3 * done,
            "rewards/RagCompetition/mean": -0.1 + 0.6 * done,
            "rewards/RewriteRules/mean": -0.1 * cheated,
        }
        rows.append(
            {name: value + draw.gauss(0, 0.02) for name, value in wanted.items()} | {"cost/usd_total": 0.02 * step, "calls/rag": 12.0}
        )
        if step % 10 == 9:
            held_out = (0.2 + 0.2 * done) if not overtrained else (0.35, 0.45, 0.4, 0.3, 0.2, 0.12)[step // 10]
            rows[-1]["eval_reward"] = held_out + draw.gauss(0, 0.01)
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A healthy run and an over-trained one, and an evaluation in which the one passed SFT and the other did not."""
    folder = tmp_path_factory.mktemp("report")
    data = folder / "rl_train.jsonl"
    data.write_text('{"rag_query_id": "a"}\n{"rag_query_id": "b"}\n')
    settings = {
        "rlhf_type": "grpo",
        "learning_rate": 1e-5,
        "beta": 0.04,
        "kl_coef": 0.05,
        "dataset": [f"{data}#2"],
        "hub_token": "hf_secret",
    }
    for name in ("healthy", "overtrained"):
        write_log(folder / name, curves(name == "overtrained"), **settings)
    says = "60 % of the updates are clipped: lower <learning_rate>"
    (folder / "overtrained" / "alarms.jsonl").write_text(json.dumps({"step": 40, "alarm": "clipping", "says": says}) + "\n")
    draw, of, texts = random.Random(1), {}, {}
    for system, level in (("teacher", 0.45), ("SFT", 0.4), ("GRPO", 0.55), ("GRPO-long", 0.2)):
        of[system] = {
            f"q{at}": {"quality": level + draw.gauss(0, 0.1), "hit@1": float(draw.random() < level), "judge": 5 * level} for at in range(60)
        }
        texts[system] = "<b>胶原蛋白肽</b> 用法 用量 " * (8 if system == "GRPO-long" else 1)
    (folder / "eval").mkdir()
    summary = summarise(of, ["quality", "hit@1", "judge"], "GRPO")
    summary["costs"] = {"teacher": {"latency_median": 2.0, "usd_1000": 25.0}, "GRPO": {"latency_median": 0.9, "latency_p95": 1.2}}
    (folder / "eval" / "summary.json").write_text(json.dumps(summary, default=vars))
    for system, rows in of.items():
        asked = {"gold": '["collagen-usage"]', "rewrite": texts[system], "retrieved": ["collagen-usage", "nattokinase-suits"]}
        lines = [{"rag_query_id": row, "query": f"胶原蛋白怎么吃 {row}", **asked, **scores} for row, scores in rows.items()]
        (folder / "eval" / f"eval_details_{system}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


@pytest.fixture
def page(run, made):
    """page("healthy") -> the file; GRPO is the healthy run, GRPO-long the over-trained one."""

    def page(*names):
        out = made / f"{'_'.join(names)}.html"
        if not out.exists():
            shown = {"healthy": "GRPO", "overtrained": "GRPO-long"}
            runs = [word for name in names for word in ("--run", f"{shown[name]}={made / name}")]
            assert run("report", out, *runs, "--eval", made / "eval").code == 0
        return out

    return page


def first(text, language="en"):
    """What stands before the table."""
    return Page(text[: text.index('<section id="table">')], language).said


def test_an_over_trained_run_is_flagged_at_the_top_by_every_sign_in_both_languages(page):
    text = page("overtrained").read_text("utf-8")
    english, chinese = first(text), first(text, "zh")
    assert "GRPO-long: this run looks over-trained" in english and "no sign" not in english
    assert "training reward rose" in english and "held-out reward fell from its best" in english
    assert "on the held-out rows it is worse than what it came from (SFT, quality: -0." in english
    assert "copies of the question rose" in english and "completions went from" in english and "while retrieval fell" in english
    assert "这次训练疑似过度训练" in chinese and "looks over-trained" not in chinese
    for words in ("留出集奖励从最高的", "比训练前更差", "照抄问题的占比", "回答长度从", "而检索部分从"):
        assert words in chinese
    assert "alarm at step 40" in english and "第 40 步告警：被截断的更新过多" in chinese


def test_a_healthy_run_is_not_flagged_and_says_what_was_looked_at(page):
    text = page("healthy").read_text("utf-8")
    english, chinese = first(text), first(text, "zh")
    assert "GRPO: no sign of a cheated reward" in english and "over-trained" not in english
    assert "held-out score during training , held-out table , copies and other tricks , lengths" in english and "Not known" not in english
    assert "未见奖励被钻空子的迹象" in chinese and "疑似" not in chinese


def test_of_two_runs_each_is_told_its_own(page):
    english = first(page("healthy", "overtrained").read_text("utf-8"))
    assert "GRPO: no sign of a cheated reward" in english and "GRPO-long: this run looks over-trained" in english


def test_the_page_holds_table_examples_curves_settings_and_data_and_fetches_nothing(page, made):
    text = page("healthy", "overtrained").read_text("utf-8")
    shown = Page(text)
    said = shown.said
    assert shown.fetched == []
    # Reward, its two parts, held-out reward, win rate, judge, retrieval, KL, length, cut off, copies, cost.
    assert shown.curves == 12
    assert (
        "rewrite quality, judged (0-5)" in said
        and "top-1 accuracy, %" in said
        and "USD per 1000 calls" in said
        and "were not measured" not in said
    )
    assert "2,000" in said and "25.00" in said and "900 1,200" in said
    means = json.loads((made / "eval" / "summary.json").read_text())["means"]
    assert f"{means['GRPO']['quality']['mean']:.3f} {means['GRPO']['quality']['low']:.3f}, {means['GRPO']['quality']['high']:.3f}" in said
    assert "Worst examples: where GRPO loses most against SFT" in said and "retrieved: collagen-usage, nattokinase-suits" in said
    assert "&lt;b&gt;胶原蛋白肽" in text and "<b>胶原蛋白肽" not in text, "what a model wrote is text, and no part of the page"
    assert "lower &lt;learning_rate&gt;" in text
    assert "learning_rate 1e-05" in said and "beta 0.04" in said and "kl_coef" not in said, "which GRPO does not read"
    assert "hf_secret" not in text
    assert re.search(r"rl_train\.jsonl#2 2 rows , SHA-256 [0-9a-f]{12}", said)
    assert "60/60 steps" in said and "61 s" in said and "1.18 USD" in said and "rag 720" in said


def test_without_held_out_rows_no_run_is_called_healthy_outright(run, tmp_path):
    rows = [{name: value for name, value in row.items() if name != "eval_reward"} for row in curves(overtrained=False)]
    assert run("report", tmp_path / "r.html", "--run", f"GRPO={write_log(tmp_path / 'grpo', rows)}").code == 0
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "no sign of a cheated reward, but nothing held out was looked at" in re.sub(
        r"<[^>]+>", "", re.sub(r'<span lang="zh">.*?</span>', "", text)
    )
    assert 'class="says good"' not in text


@pytest.fixture
def runs(tmp_path):
    """A short run of GRPO and one of PPO."""
    grpo = write_log(tmp_path / "grpo", [{"reward": value, "kl": 0.1, "eval_reward": 0.5} for value in (0.1, float("nan"), 0.3)])
    ppo = write_log(tmp_path / "ppo", [{"reward": 0.2, "objective/kl": 0.2, "loss/value_avg": 0.5} for _ in range(3)])
    return grpo, ppo


def test_each_trainers_own_names_share_a_plot_and_a_short_run_is_not_called_healthy(run, runs, tmp_path):
    grpo, ppo = runs
    done = run("report", tmp_path / "r.html", "--run", f"GRPO={grpo}", "--run", f"PPO={ppo}")
    assert (done.code, done.err) == (0, "")
    text = (tmp_path / "r.html").read_text("utf-8")
    # Reward, held-out reward, KL (each trainer's own name), value loss.
    assert Page(text).curves == 4
    kl = text[text.index("KL from the reference") :].split("</figure>")[0]
    assert all(name in kl for name in ("GRPO", "PPO"))
    value = text[text.index("Value loss") :].split("</figure>")[0]
    assert "PPO" in value and "GRPO" not in value
    assert "whether the reward is cheated cannot be told" in text and "no sign of" not in text


def test_the_same_runs_give_the_same_page(run, runs, tmp_path):
    grpo, _ = runs
    for name in ("a", "b"):
        assert run("report", tmp_path / f"{name}.html", "--run", f"GRPO={grpo}").code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_wrong_is_one_line_and_no_page(run, runs, tmp_path):
    grpo, _ = runs
    out = tmp_path / "r.html"
    for arguments, words in (
        (["--run", "grpo"], "give NAME=FOLDER"),
        (["--run", f"A={grpo}", "--run", f"A={grpo}"], "A stands twice"),
        (["--run", f"A={tmp_path}"], "logging.jsonl does not exist"),
        (["--run", f"A={grpo}", "--eval", str(grpo)], "summary.json does not exist"),
        ([word for name in "abcdef" for word in ("--run", f"{name}={grpo}")], "6 runs cannot be told apart"),
    ):
        done = run("report", out, *arguments)
        assert done.code == 2 and re.fullmatch(r"error: .*", done.err) and words in done.err
        assert not out.exists()


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def visit(chromium, page):
    """visit(names, **context) -> the page of these runs, loaded; at the end nothing was fetched or complained of."""
    contexts, asked, complaints = [], [], []

    def visit(*names, fragment="", **given):
        contexts.append(chromium.new_context(offline=True, **given))
        tab = contexts[-1].new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(page(*names).as_uri() + fragment, wait_until="load")
        return tab

    yield visit
    for context in contexts:
        context.close()
    others = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert (len(asked) > 0, others, complaints) == (True, [], [])
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts), "the page is one file"


def picture(tab, path, **given):
    """The screenshot; also left beside the page for whoever wants to look."""
    return Image.open(io.BytesIO(tab.screenshot(path=path, **given))).convert("RGB")


def widths(tab):
    return tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")


@pytest.mark.parametrize(("size", "scheme"), [({"width": 1200, "height": 900}, "light"), (PHONE, "light"), (PHONE, "dark")])
def test_a_screenshot_shows_the_warning_first_and_a_drawn_page_that_fits_its_screen(visit, made, size, scheme):
    tab = visit("healthy", "overtrained", viewport=size, color_scheme=scheme)
    shot = picture(tab, made / f"{size['width']}_{scheme}.png", full_page=True)
    assert widths(tab) == [size["width"]] * 2, "nothing sticks out: only tables scroll, each by itself"
    assert shot.width == size["width"] and shot.height > 2000
    paper = shot.getpixel((2, 2))
    assert (sum(paper) > 600) == (scheme == "light")
    drawn = (np.asarray(shot) != paper).any(-1).mean()
    assert 0.1 < drawn < 0.9, "neither blank nor blotted"
    # Curves in their runs' colours, and text that stands out from its paper.
    figure = tab.locator("figure").first
    assert figure.bounding_box()["width"] <= size["width"]
    colours = {one for _, one in Image.open(io.BytesIO(figure.screenshot())).convert("RGB").getcolors(1 << 20)}
    assert any(max(one) - min(one) > 80 for one in colours)
    ink = tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) < 300) == (scheme == "light")
    warning = tab.locator(".says.bad")
    box = warning.bounding_box()
    assert box["y"] + box["height"] / 2 < size["height"], "seen without scrolling"
    red, _, blue = ImageStat.Stat(Image.open(io.BytesIO(warning.screenshot())).convert("RGB")).mean
    assert red > blue


def test_the_language_is_switched_by_one_click_and_kept_in_the_address(visit):
    tab = visit("overtrained", viewport=PHONE)
    assert "Training curves" in tab.inner_text("body") and "训练曲线" not in tab.inner_text("body")
    tab.get_by_role("link", name="中文").click()
    assert tab.url.endswith("#zh")
    assert "训练曲线" in tab.inner_text("body") and "这次训练疑似过度训练" in tab.inner_text("body")
    assert "Training curves" not in tab.inner_text("body")
    assert widths(tab) == [390, 390]
    tab.get_by_role("link", name="English").click()
    assert "Training curves" in tab.inner_text("body") and "训练曲线" not in tab.inner_text("body")


def test_in_print_it_is_dark_on_white_whole_and_without_the_switch(visit, made):
    tab = visit("overtrained", fragment="#zh", color_scheme="dark")
    tab.emulate_media(media="print")
    style = "getComputedStyle(document.body)"
    assert tab.evaluate(f"[{style}.color, {style}.backgroundColor]") == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert not tab.locator("nav").is_visible() and "训练曲线" in tab.inner_text("body")
    # A4 within its margins is 182 mm wide: 688 CSS pixels.
    tab.set_viewport_size({"width": 688, "height": 1000})
    assert widths(tab) == [688, 688]
    pdf = tab.pdf(path=made / "print.pdf", format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 3
    assert b"/FontFile" in pdf, "text, and not pictures of it"
