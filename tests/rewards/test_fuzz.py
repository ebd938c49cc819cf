"""Rewards that ask nobody, on completions that no model would write: a value in [0, 1] or none, and no exception."""

import importlib.util
from pathlib import Path

import pytest
from overtake import settings, tasks
from overtake.doctor import attacks

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("bench_attacks", ROOT / "benchmarks/bench_attacks.py")
bench_attacks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_attacks)
COUNT = 60
"""Completions of each reward here; bench_attacks.py --fuzz draws as many as wanted, for the rewards that ask services too."""
SAMPLES = ("medical", "finance", "judge")


@pytest.mark.parametrize("name", SAMPLES)
def test_no_completion_breaks_a_reward(name, monkeypatch):
    task = tasks.find(name)
    for reward in task.rewards:
        monkeypatch.setenv(f"OVERTAKE_{reward.judged.upper()}", "0")
    settings.load.cache_clear()
    rows = attacks.spread(task.attacks.rows(ROOT / "datasets" / task.attacks.sample), 12)
    made = list(bench_attacks.completions(f"fuzz {name}", [task.attacks.honest(row) for row in rows], COUNT))
    columns = attacks.columns([rows[at % len(rows)] for at in range(len(made))], 1)
    for reward in task.rewards:
        if "retrieval" in reward.asks:
            continue
        values = reward.load()(None)(made, **columns)
        bad = [(text, value) for text, value in zip(made, values, strict=True) if value is not None and not 0 <= value <= 1]
        assert len(values) == len(made) and bad == [], reward.name
    settings.load.cache_clear()
