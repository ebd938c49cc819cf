"""The headline: its numbers by hand, what was expected beside them, and a promise that cannot be told is not called kept."""

import json

import pytest
from overtake import settings, tasks
from overtake.evaluation import costs, promises
from overtake.evaluation.comparing import summarise

ABOUT = tasks.shipped()["query_rewrite"].headline
SCORES = {
    "teacher": {"a": {"judge": 5.0, "quality": 0.5, "good@1": 1.0}, "b": {"judge": 4.6, "quality": 0.5, "good@1": 0.0}},
    "SFT": {"a": {"judge": 4.0, "quality": 0.4, "good@1": 1.0}, "b": {"judge": 4.0, "quality": 0.5, "good@1": 0.0}},
    "GRPO-16": {"a": {"judge": 5.0, "quality": 0.7, "good@1": 1.0}, "b": {"judge": 4.5, "quality": 0.8, "good@1": 1.0}},
    "copy": {"a": {"quality": 0.1}, "b": {"quality": 0.1}},
}
COSTS = {
    "teacher": {"latency_median": 2.0, "usd_1000": 25.0},
    "SFT": {"latency_median": 1.0},
    "GRPO-16": {"latency_median": 0.8, "gpu_usd_1000": 2.0},
}


@pytest.fixture
def found():
    means = summarise(SCORES, ["judge", "quality", "good@1"], None)["means"]
    return promises.headline(ABOUT, SCORES, means, COSTS)


def test_teacher_sft_and_rl_stand_beside_what_was_expected_of_each(found):
    rows = {row["candidate"]: row for row in found["rows"]}
    assert list(rows) == ["teacher", "SFT", "GRPO-16"], "a copy of the question is no candidate"
    assert promises.cells(rows["GRPO-16"]) == ["4.75 [4.50,5.00]", "100.0 [100.0,100.0]", "2/0/0", "800", "2.00"]
    assert rows["SFT"]["against"] == {"win": 0, "tie": 1, "loss": 1} and rows["teacher"]["against"] is None
    assert promises.cells(rows["GRPO-16"]["expected"]) == ["4.60", "88.0", "", "900", "2.80"]
    assert promises.cells(rows["teacher"]["expected"]) == ["4.80", "85.0", "", "2,000", "25.00"]


def test_the_three_promises_are_computed_and_one_that_was_not_measured_is_not_called_kept(found):
    told = {(one["candidate"], one["what"]): one for one in found["promises"]}
    quality = told["GRPO-16", "quality"]
    assert quality["measured"] == pytest.approx(4.75 / 4.8, abs=1e-4) and quality["low"] <= quality["measured"] <= quality["high"]
    assert [told["GRPO-16", what]["measured"] for what in ("cost", "latency")] == [-0.92, -0.6]
    assert [told["GRPO-16", what]["kept"] for what in ("quality", "cost", "latency")] == [True, True, True]
    assert [told["SFT", what]["kept"] for what in ("quality", "cost", "latency")] == [False, None, False]
    text = promises.table(found)
    assert "GRPO-16: cost -92.0 % of the teacher, promised -90.0 %: kept" in text
    assert "SFT: cost not measured on both sides, promised -90.0 %" in text
    assert "SFT: latency -50.0 % of the teacher, promised -55.0 %: not kept" in text


def test_the_page_shows_the_same(found):
    shown = promises.in_report(json.loads(json.dumps(found, default=vars)))
    assert shown["rows"][2]["cells"][0] == ("4.75 [4.50,5.00]", "4.60")
    assert [kept for _, kept in shown["promises"]] == [False, None, False, True, True, True]
    assert promises.in_report(None) == {"rows": [], "promises": []}


def test_the_teachers_latency_and_price_come_from_the_ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path))
    settings.load.cache_clear()
    assert costs.of_ledger("teacher") == {}
    ok = {"service": "teacher", "status": "ok", "model": "gpt-5", "usage": {"prompt_tokens": 10, "completion_tokens": 5}, "usd": 0.02}
    rows = [
        ok | {"model": "older", "seconds": 9.0},
        ok | {"seconds": 1.0},
        ok | {"seconds": 3.0, "usd": 0.04},
        ok | {"batch": True, "usd": 0.01},
        {"service": "teacher", "status": "failed", "seconds": 60.0},
        {"service": "judge", "status": "ok", "model": "gpt-5", "seconds": 60.0, "usd": 1.0},
        {"service": "teacher", "status": "cached", "key": "x"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"service":"teacher","status":"o\n'
    (tmp_path / "ledger.jsonl").write_text(text, encoding="utf-8")
    found = costs.of_ledger("teacher")
    settings.load.cache_clear()
    assert (found["latency_median"], found["tokens"]) == (2.0, 15.0)
    assert found["usd_1000"] == pytest.approx(70 / 3)
