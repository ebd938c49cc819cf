"""Golds of solutions: where they stand, which contradict their own calculation. On DISC-FinLLM and TAT-QA where the data is there."""

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from overtake.reading.numbers import read_quantity
from overtake.tasks.finance.golds import gold_of_solution, wrong_golds

SHARED = Path(os.environ.get("OVERTAKE_SHARED", Path(__file__).resolve().parents[3].parent / "shared"))


def rows(name):
    return [json.loads(line) for line in (SHARED / "data/finance" / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("1264-1264/(1+0.145)=160.1", "160.1"),
        ("增长：51.6-51.6/1.046=2.270，17-17/1.111=1.698，倍数：2.270/1.698=1.337", "1.337"),
        ("48.8％－47.3％＝1.5％，提高了", "1.5％"),
        ("3.89÷1.23≈3.1626", "3.1626"),
        ("一共5+3=[Calculator(5+3)→8]8颗糖果。", "8颗糖果"),
        ("没有等号", "没有等号"),
        ("", ""),
    ],
)
def test_the_gold_stands_behind_the_last_sign_of_equality(solution, gold):
    assert gold_of_solution(solution) == gold


CASES = [
    # (row without its id, wrong?, what is odd)
    ({"output": "6900/1400=4.3125"}, True, "another quotient"),
    ({"output": "6900/1400=4.93"}, False, "rounded"),
    ({"output": "10944/(1+0.209) = 9052亿元"}, False, "a unit that the formula leaves out"),
    ({"output": "71.1－68.3＝2.8个百分点。"}, False, "points of percents"),
    ({"output": "(0.218-0.13)/0.13*100%=68%"}, False, "percent on both sides"),
    ({"output": "9.9 – 0.4 = 9.5%"}, True, "percent on one side"),
    ({"output": "(72387-43721)/43721=65.6"}, True, "a hundred apart"),
    ({"output": "得到[Calculator(100*(1+0.05)*3)→115]115万元"}, True, "a calculator that cannot calculate"),
    ({"output": "得到[Calculator(20*exp(-0.1))→18.1]18.1"}, False, "a function: not recalculated"),
    ({"output": "无法计算"}, False, "no formula"),
    ({"derivation": "(44.1-56.7)/56.7", "answer": -22.22, "scale": "percent"}, False, "the scale says percent"),
    ({"derivation": "40.0-38.1", "answer": 1.9, "scale": "percent"}, False, "percent in, percent out"),
    ({"derivation": "44.1-56.7", "answer": 12.6, "scale": "million"}, True, "the sign"),
    ({"derivation": "60.3 million + 32,137 thousand", "answer": 92437, "scale": "thousand"}, False, "scales within"),
]


@pytest.mark.parametrize(("row", "wrong", "odd"), CASES)
def test_a_gold_is_held_against_its_own_calculation(row, wrong, odd):
    assert [found.id for found in wrong_golds([{"id": "a", **row}])] == ["a"] * wrong, odd


def test_what_contradicts_is_said():
    (found,) = wrong_golds([{"id": 7, "output": "2*3=7"}])
    assert found == ("7", "2*3", "7", Decimal(6))


@pytest.mark.needs_shared
def test_the_golds_of_disc_are_numbers():
    """All 100 of its evaluation and 99 of the 100 training rows, one of which states "x万元"."""
    unread = [row["id"] for row in rows("disc_finllm_computing_zh.jsonl") if read_quantity(gold_of_solution(row["output"])) is None]
    assert unread == ["disc-train_sample-86"]


@pytest.mark.needs_shared
def test_six_golds_of_disc_contradict_their_own_formula():
    """A list that came with the data names 53 in the place of 8; 53 is 1098×3=3294, right, and 8 states 0.147 for 0.1544/1.07 = 0.1443."""
    found = [one.id for one in wrong_golds(row for row in rows("disc_finllm_computing_zh.jsonl") if row["split"] == "eval")]
    assert found == [f"disc-eval-{number}" for number in (1, 8, 33, 44, 75, 86)]


@pytest.mark.needs_shared
def test_no_gold_of_tatqa_contradicts_its_derivation():
    assert wrong_golds(rows("tatqa_arithmetic_en.jsonl")) == []
