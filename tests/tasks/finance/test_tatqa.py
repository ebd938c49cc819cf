"""Reading numbers on golds that nobody here wrote (TAT-QA): the right value in ten forms, and wrong ones. -s prints both halves' shares.

The half of a row is a hash of its id. The readers were tuned on no row of the second half.
"""

import hashlib
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from overtake.reading.arithmetic import calculate
from overtake.tasks.finance.rewards import finance_accuracy, numeric_answer

SHARED = Path(os.environ.get("OVERTAKE_SHARED", Path(__file__).resolve().parents[3].parent / "shared"))

SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
FULL_WIDTH = str.maketrans("0123456789.,-%", "０１２３４５６７８９．，－％")
pytestmark = pytest.mark.needs_shared


def half(row):
    return hashlib.sha256(row["id"].encode()).digest()[0] % 2


@pytest.fixture(scope="module")
def halves():
    lines = (SHARED / "data/finance/tatqa_arithmetic_en.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [[row for row in rows if half(row) == which] for which in (0, 1)]


def gold_of(row):
    return f"{row['answer']} {row['scale']}".strip()


def step_of(row):
    answer = str(row["answer"]).removesuffix(".0")
    return Decimal(1).scaleb(-len(answer.partition(".")[2]))


def value_of(row):
    """The derivation's value in the row's scale; a percent may be derived as a fraction."""
    value, gold = calculate(row["derivation"], accounting=True), Decimal(str(row["answer"]))
    ways = [value, value * 100] if row["scale"] == "percent" else [value, value / SCALES.get(row["scale"], 1)]
    return min(ways, key=lambda way: abs(way - gold))


def said(value, places=6):
    """At most so many places, without an exponent."""
    rounded = f"{value:,.{places}f}"
    return rounded.rstrip("0").rstrip(".") if "." in rounded else rounded


def signed(value, text):
    return f"-{text}" if value < 0 else text


def forms(value, scale):
    """Ten ways to say `value` in `scale`, by people, tables, papers and machines, in English and Chinese."""
    size, number = abs(value), said(value)
    bracket = f"({said(size, 4)})" if value < 0 else said(size, 4)
    if scale == "percent":
        return [
            f"{number}%",
            f"{number} percent",
            f"The change was {number} per cent.",
            number.translate(FULL_WIDTH) + "％",
            f"{bracket}%",
            said(value / 100, 8),
            ("负" if value < 0 else "") + f"百分之{said(size)}",
            f"{said(value * 10)}‰",
            rf"\boxed{{{said(value).replace(',', '{,}')}\%}}",
            f"约为 {number.replace('-', '−')} 个百分点",
        ]
    whole = value * SCALES.get(scale, 1)
    word = f" {scale}" if scale else ""
    return [
        f"{number}{word}",
        signed(value, f"${said(size)}{word}"),
        f"The answer is {number.replace('-', '−')}{word}.",
        f"{number.translate(FULL_WIDTH)}{word}",
        f"${bracket}{word}",
        said(whole, 4),
        f"{said(whole / 10**4, 10)}万",
        f"{said(whole / 10**8, 14)} 亿",
        f"{whole:.10e}",
        rf"\boxed{{{said(value).replace(',', '{,}')}\text{{{word}}}}}",
    ]


def wrongs(row):
    """Values off by max(2 %, 3 units of the gold's last digit), by a factor of ten, by sign."""
    gold = Decimal(str(row["answer"]))
    off = max(abs(gold) * Decimal("0.02"), 3 * step_of(row))
    return [gold + off, gold - off] + ([gold * 10, gold / 10, -gold] if gold else [])


def completion(answer):
    return f"<think>From the table.</think>\n<answer>{answer}</answer>"


def share(rows, values, wanted):
    """Share of answers with the score wanted, and some that have another."""
    asked = [(form, row) for row in rows for value in values(row) for form in forms(value, row["scale"])]
    missed = [
        (form, gold_of(row), row["derivation"]) for form, row in asked if numeric_answer.score(completion(form), gold_of(row)) != wanted
    ]
    return 1 - len(missed) / len(asked), len(asked), missed[:10]


def test_the_right_value_scores_in_ten_forms_and_a_wrong_one_in_none(halves):
    for name, rows in zip(("tuned on", "held out"), halves, strict=True):
        right, count, missed = share(rows, lambda row: [value_of(row)], 1.0)
        wrong, wrong_count, passed = share(rows, wrongs, 0.0)
        print(f"\n{name}: {len(rows)} rows; right {right:.4%} of {count}; wrong refused {wrong:.4%} of {wrong_count}", end="")
        assert right >= 0.995, missed
        assert wrong >= 0.995, passed


def test_the_accuracy_reward_says_the_same(halves):
    for row in halves[1]:
        answer, wrong = completion(forms(value_of(row), row["scale"])[0]), completion(forms(wrongs(row)[0], row["scale"])[0])
        assert finance_accuracy.score(answer, gold_of(row), "calculation", row["question"]) == 1.0
        assert finance_accuracy.score(wrong, gold_of(row), "calculation", row["question"]) == 0.0
