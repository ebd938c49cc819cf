"""bench_on_cpu.py prints a line for each part and number of rows, with a ratio; its command line has the exit codes of every tool."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("bench_on_cpu", ROOT / "benchmarks/bench_on_cpu.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.fixture
def small(monkeypatch):
    """A model of a few weights."""
    for name, value in {"HIDDEN": 8, "INNER": 16, "KEYS_AND_VALUES": 4, "WORDS": 32, "LAYERS": 2}.items():
        monkeypatch.setattr(bench, name, value)


def test_every_part_and_number_of_rows_has_both_ways_and_a_ratio(small, capsys):
    assert [len(bench.weights()), bench.weights()[0].shape] == [9, (12, 8)]
    assert bench.main(["--rows", "1", "8", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    found = [re.fullmatch(r"\| ([a-z-]+ \| \d+) \| .+ \| .+ \| \d+\.\d\d \|", line)[1] for line in lines]
    assert found == ["products | 1", "products | 8", "top-p | 1", "top-p | 8"]


def test_no_rows_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--rows", "0"])
