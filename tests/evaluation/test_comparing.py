"""The star of the printed table, and the words: only what Holm's correction leaves."""

from overtake.evaluation.comparing import summarise, table


def shown(metrics):
    """The line of the difference, where `b` is right on 6 rows of 40 that `a` has wrong, and never the other way round."""
    scores = {name: {str(at): dict.fromkeys(metrics, float(name == "b" or at >= 6)) for at in range(40)} for name in ("a", "b")}
    summary = summarise(scores, metrics, "b") | {"failed": {"a": 0.0, "b": 0.25}}
    text = table(summary, metrics, "mean")
    return summary, next(line for line in text.splitlines() if line.startswith("b - a")), text


def test_a_star_stands_where_the_corrected_p_is_below_005():
    summary, line, text = shown(["one"])
    assert summary["p_holm"]["a"]["one"] == 2 / 2**6 and line.endswith("]*")  # McNemar's exact test
    assert "25.0%" in text and "Holm" in text


def test_of_two_differences_that_the_intervals_show_neither_is_left_by_the_correction():
    summary, line, _ = shown(["one", "two"])
    assert summary["p_holm"]["a"] == {"one": 4 / 2**6, "two": 4 / 2**6}
    assert summary["differences"]["a"]["one"].low > 0 and "*" not in line
