"""What a system's answers took, by arithmetic done by hand."""

import pytest
from overtake import settings
from overtake.evaluation.costs import Cost, latencies, table, together


@pytest.fixture
def hour(monkeypatch):
    def hour(usd):
        monkeypatch.setenv("OVERTAKE_GPU_HOUR_USD", usd)
        settings.load.cache_clear()

    yield hour
    settings.load.cache_clear()


def test_each_number_is_of_the_answers_that_know_it(hour):
    hour("7.2")
    found = together([Cost(1.0, 0.5, 100, 0.002), Cost(3.0, 1.5, None, 0.004), Cost(None, 1.0, 300)])
    assert found == {"latency_median": 2.0, "latency_p95": 2.9, "tokens": 200.0, "usd_1000": pytest.approx(3.0)}
    # Three seconds at 0.002 USD a second, for two answers.
    assert together([Cost(busy=1.0), Cost(busy=2.0)]) == {"gpu_usd_1000": pytest.approx(3.0)}


def test_without_a_price_nothing_is_said_of_money(hour):
    hour("0")
    assert together([Cost(busy=1.0)]) == together([]) == latencies([]) == {}


def test_the_table_shows_what_is_known_of_any():
    lines = table({"S": {"tokens": 1234.5}, "copy": {}}, "took").splitlines()
    assert [line.split() for line in lines if "-" not in line] == [["took", "tokens", "a", "row"], ["S", "1,234"], ["copy", "–"]]
    assert table({"copy": {}}, "took") == ""
