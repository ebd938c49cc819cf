"""The headline table: each task's own measures with intervals, which way each is better, latency and cost where there are any."""

import pytest
from overtake import tasks
from overtake.evaluation import headline
from overtake.evaluation.comparing import summarise
from overtake.evaluation.statistics import Interval
from overtake.evaluation.summaries import task_of

TASKS = list(tasks.shipped().values())


def shown(measures, against="GRPO"):
    """The tables of two systems, of which the second has 0.5 more in every measure."""
    scores = {
        name: {str(row): {one: base + row / 10 for one in measures} for row in range(8)} for name, base in (("SFT", 0.0), ("GRPO", 0.5))
    }
    summary = summarise(scores, measures, against)
    as_read = {
        part: {name: {one: vars(value) for one, value in of.items()} for name, of in summary[part].items()}
        for part in ("means", "differences")
    }
    task = task_of(summary | as_read, TASKS)
    return task, headline.tables(summary | as_read, task)


@pytest.mark.parametrize(
    ("measures", "answer", "heads"),
    [
        (
            ["quality", "hit@1", "judge"],
            "rewrite",
            ["rewrite quality, judged (0-5)", "retrieval quality", "top-1 accuracy, %"],
        ),
        (["rules", "safe", "judge", "refused"], "answer", ["judge (0-1)", "rule book", "safe, %", "needless refusals, %"]),
        (
            ["main", "secondary", "format", "passed"],
            "verdict",
            ["main answer, %", "secondary answer, %", "format, %", "wrong ones passed, %"],
        ),
        (["format", "accuracy", "judge", "unreadable"], "output", ["judge (0-1)", "format, %", "accuracy, %", "unreadable, %"]),
    ],
)
def test_each_task_has_its_own_columns_the_judge_first(measures, answer, heads):
    task, tables = shown(measures)
    assert task.evaluation.answer == answer
    assert [one.english for one in tables[0]["measures"]] == heads
    assert [system["name"] for system in tables[0]["means"]] == ["SFT", "GRPO"]


def test_a_share_is_in_percent_with_its_interval_and_a_difference_has_a_sign():
    _, (table,) = shown(["accuracy"])
    assert table["means"][0]["cells"][0]["mean"] == "35.0"
    assert table["differences"] == [
        {"name": "SFT", "cells": [{"mean": "+50.0", "interval": "+50.0, +50.0", "verdict": "better", "p": "p 0.008"}]}
    ]


def test_more_is_not_better_of_what_should_be_little():
    _, (table,) = shown(["accuracy", "unreadable", "length"])
    assert [cell["verdict"] for cell in table["differences"][0]["cells"]] == ["better", "worse", "more"]


@pytest.mark.parametrize(
    ("measures", "verdict"),
    [
        (["quality", "copy"], "more"),
        (["rules", "x_invented_dose"], "worse"),
        (["main", "passed"], "worse"),
        (["rules", "s_none"], "better"),
    ],
)
def test_more_copying_is_not_called_better_nor_is_a_rule_more_often_broken(measures, verdict):
    _, tables = shown(measures)
    cells = dict(zip([one.name for table in tables for one in table["measures"]], _cells(tables), strict=True))
    assert cells[measures[1]]["verdict"] == verdict


def _cells(tables):
    return [cell for table in tables for cell in table["differences"][0]["cells"]]


def test_other_tables_of_a_task_follow_and_what_is_not_measured_stays_empty():
    summary = {
        "rows": {"base": 2, "GRPO": 2},
        "means": {
            "base": {"accuracy": vars(Interval(0.5, 0.4, 0.6)), "calculation": vars(Interval(0.5, 0.4, 0.6))},
            "GRPO": {"accuracy": vars(Interval(0.7, 0.6, 0.8))},
        },
        "costs": {"GRPO": {"latency_median": 0.9, "latency_p95": 1.25, "usd_1000": 2.8}, "base": {"latency_median": 0.85}},
        "against": None,
        "differences": {},
    }
    first, by_type = headline.tables(summary, task_of(summary, TASKS))
    assert first["means"][1]["cells"][0] == {"mean": "70.0", "interval": "60.0, 80.0"}
    assert (by_type["title"], by_type["means"][1]["cells"], by_type["costs"]) == ("accuracy by type", [None], [])
    # What an answer took stands behind, in the units of the headline; a system whose price is not known has none.
    assert [one.english for one in first["costs"]] == ["latency, ms: median, 95 % below", "USD per 1000 calls"]
    assert first["means"][1]["cells"][1:] == [{"mean": "900", "interval": "1,250"}, {"mean": "2.80", "interval": ""}]
    assert first["means"][0]["cells"][1:] == [{"mean": "850", "interval": ""}, None]


def test_a_difference_that_chance_alone_explains_after_correction_is_not_shown():
    interval = vars(Interval(0.1, 0.01, 0.2))
    summary = {"rows": {"base": 9, "GRPO": 9}, "means": {"base": {"accuracy": interval}}, "against": "GRPO"}
    for chance, verdict in ((0.2, "same"), (0.01, "better")):
        told = summary | {"differences": {"base": {"accuracy": interval}}, "p_holm": {"base": {"accuracy": chance}}}
        (table,) = headline.tables(told, task_of(told, TASKS))
        assert table["differences"][0]["cells"][0]["verdict"] == verdict
