"""The headline table: each task's own measures with intervals, which way each is better, latency and cost where there are any."""

import pytest
from overtake.evaluation import headline
from overtake.evaluation.comparing import summarise
from overtake.evaluation.statistics import Interval


def shown(measures, against="GRPO"):
    """The tables of two systems, of which the second has 0.5 more in every measure."""
    scores = {
        name: {str(row): {one: base + row / 10 for one in measures} for row in range(4)} for name, base in (("SFT", 0.0), ("GRPO", 0.5))
    }
    summary = summarise(scores, measures, against)
    as_read = {
        part: {name: {one: vars(value) for one, value in of.items()} for name, of in summary[part].items()}
        for part in ("means", "differences")
    }
    task = headline.task_of(summary | as_read)
    return task, headline.tables(summary | as_read, task)


@pytest.mark.parametrize(
    ("measures", "answer", "heads"),
    [
        (
            ["quality", "hit@1", "judge", "latency_ms", "usd_per_1000"],
            "rewrite",
            ["rewrite quality, judged (0-5)", "retrieval quality", "top-1 accuracy, %", "latency, ms", "USD per 1000 calls"],
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
def test_each_task_has_its_own_columns_the_judge_first_and_cost_last(measures, answer, heads):
    task, tables = shown(measures)
    assert task.answer == answer
    assert [one.english for one in tables[0]["measures"]] == heads
    assert [system["name"] for system in tables[0]["means"]] == ["SFT", "GRPO"]


def test_a_share_is_in_percent_with_its_interval_and_a_difference_has_a_sign():
    _, (table,) = shown(["accuracy"])
    assert table["means"][0]["cells"][0]["mean"] == "15.0"
    assert table["differences"] == [
        {"name": "SFT", "cells": [{"mean": "+50.0", "interval": "+50.0, +50.0", "verdict": "better", "p": "p 0.125"}]}
    ]


def test_more_is_not_better_of_what_should_be_little():
    _, (table,) = shown(["accuracy", "unreadable", "length", "latency_ms"])
    assert [cell["verdict"] for cell in table["differences"][0]["cells"]] == ["better", "worse", "more", "worse"]


def test_other_tables_of_a_task_follow_and_what_is_not_measured_stays_empty():
    summary = {
        "rows": {"base": 2, "GRPO": 2},
        "means": {
            "base": {"accuracy": vars(Interval(0.5, 0.4, 0.6)), "calculation": vars(Interval(0.5, 0.4, 0.6))},
            "GRPO": {"accuracy": 0.7},
        },
        "against": None,
        "differences": {},
    }
    first, by_type = headline.tables(summary, headline.task_of(summary))
    assert first["means"][1]["cells"] == [{"mean": "70.0", "interval": ""}]
    assert (by_type["title"], by_type["means"][1]["cells"]) == ("accuracy by type", [None])
