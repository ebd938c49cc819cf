"""report.py: one page that holds every number of the table, a curve for each run that has one, the alarms, and nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser

import pytest


class Page(HTMLParser):
    """The texts of a page, its curves, and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.words, self.curves, self.fetched = [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.curves += tag == "svg"
        self.fetched += [given[name] for name in ("src", "href") if name in given and not given[name].startswith("#")]
        self.fetched += ["script"] * (tag == "script")

    def handle_data(self, data):
        self.words += [data.strip()] if data.strip() else []


@pytest.fixture
def runs(tmp_path):
    """A run of GRPO and one of PPO with an alarm, and an evaluation that compared them."""

    def log(name, rows):
        folder = tmp_path / name
        folder.mkdir()
        lines = [{"global_step/max_steps": f"{step}/3", **row} for step, row in enumerate(rows, 1)]
        lines.append({"train_runtime": 61.0, "global_step/max_steps": "3/3"})
        (folder / "logging.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        return folder

    grpo = log("grpo", [{"reward": value, "kl": 0.1, "eval_reward": 0.5} for value in (0.1, float("nan"), 0.3)])
    ppo = log("ppo", [{"reward": 0.2, "objective/kl": 0.2, "loss/value_avg": 0.5} for _ in range(3)])
    (ppo / "alarms.jsonl").write_text(json.dumps({"step": 2, "alarm": "value", "says": "the value loss does not <fall>"}) + "\n")
    interval = {"mean": 0.25, "low": 0.125, "high": 0.375}
    summary = {
        "rows": {"SFT": 40, "PPO": 40},
        "means": {"SFT": {"ndcg@10": interval}, "PPO": {"ndcg@10": {**interval, "mean": 0.5}}},
        "against": "PPO",
        "differences": {"SFT": {"ndcg@10": interval}},
    }
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "summary.json").write_text(json.dumps(summary))
    return grpo, ppo, tmp_path / "eval"


def test_the_page_holds_table_curves_and_alarms_and_fetches_nothing(run, runs, tmp_path):
    grpo, ppo, evaluation = runs
    done = run("report", tmp_path / "r.html", "--run", f"GRPO={grpo}", "--run", f"PPO={ppo}", "--eval", evaluation)
    assert (done.code, done.err) == (0, "")
    text = (tmp_path / "r.html").read_text("utf-8")
    page = Page(text)
    said = " ".join(page.words)
    assert page.fetched == []
    # Reward, held-out reward, KL (each trainer's own name), value loss.
    assert page.curves == 4
    assert "0.500 [0.125, 0.375]" in said and "+0.250 [+0.12, +0.38]" in said and "better 更好" in said
    assert "the value loss does not <fall>" in said, "as text, not as a tag"
    assert "61 s" in said and "3/3 steps 步" in said
    kl = text[text.index("KL from the reference") :].split("</figure>")[0]
    assert all(name in kl for name in ("GRPO", "PPO"))
    value = text[text.index("Value loss") :].split("</figure>")[0]
    assert "PPO" in value and "GRPO" not in value


def test_the_same_runs_give_the_same_page(run, runs, tmp_path):
    grpo, *_ = runs
    for name in ("a", "b"):
        assert run("report", tmp_path / f"{name}.html", "--run", f"GRPO={grpo}").code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_wrong_is_one_line_and_no_page(run, runs, tmp_path):
    grpo, *_ = runs
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
