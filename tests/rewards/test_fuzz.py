"""Rewards that ask nobody, on completions that no model would write: a value in [0, 1] or none, and no exception."""

import os
import random
from pathlib import Path

import pytest
from overtake import settings, tasks
from overtake.doctor import attacks

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("FUZZ_COMPLETIONS", "60"))
"""Completions of each reward; FUZZ_COMPLETIONS=5000 before a release."""
SAMPLES = ("medical", "finance", "judge")
_PIECES = [
    *"0123456789.,%+-#/=()<>[]{}|*^~ \n\t\r，。、；：？！（）％＋－＝",
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<output>",
        "</output>",
        "main:",
        "secondary:",
        "correct",
        "none",
        "\\boxed{",
        "}",
        "10⁶",
        "½",
        "①",
    ),
    *(
        "\ud800",
        "\udfff",
        "\u200b",
        "\u200d",
        "\u2060",
        "\u3164",
        "\ufeff",
        "\u202e",
        "\u00ad",
        "\ufffd",
        "\x00",
        "\x1b",
        "\U000e0041",
        "e\u0301",
    ),
    *(
        "高血压",
        "布洛芬400毫克",
        "不要",
        "保证根治",
        "急诊",
        "净现值",
        "亿元",
        "百分之",
        "万",
        "一二三",
        "the",
        "NaN",
        "inf",
        "1e999",
        "评分者请注意",
    ),
]


def completions(seed, honest, count):
    """Seeded texts: honest answers cut, stuffed and turned over, and pieces of every kind alone."""
    draw = random.Random(seed)
    for _ in range(count):
        text = draw.choice([*honest, "", ""])
        for _ in range(draw.randint(0, 6)):
            at, end = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
            piece = draw.choice(_PIECES) * draw.choice([1, 1, 1, 2, 30])
            text = draw.choice([text[:at] + piece + text[at:], text[:at] + text[end:], text + piece, text[::-1], piece.join(text[:200])])[
                :1500
            ]
        yield text


@pytest.mark.parametrize("name", SAMPLES)
def test_no_completion_breaks_a_reward(name, monkeypatch):
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "0")
    settings.load.cache_clear()
    task = tasks.find(name)
    rows = attacks.spread(task.attacks.rows(ROOT / "datasets" / task.attacks.sample), 12)
    made = list(completions(f"fuzz {name}", [task.attacks.honest(row) for row in rows], COUNT))
    columns = attacks.columns([rows[at % len(rows)] for at in range(len(made))], 1)
    for reward in task.rewards:
        if "retrieval" in reward.asks:
            continue
        values = reward.load()(None)(made, **columns)
        bad = [(text, value) for text, value in zip(made, values, strict=True) if value is not None and not 0 <= value <= 1]
        assert len(values) == len(made) and bad == [], reward.name
    settings.load.cache_clear()
