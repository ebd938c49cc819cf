"""Agreement with people on worked counts, what an abstention is, and that the probes find the bias that is there."""

import math

import numpy as np
import pytest
from overtake.evaluation.agreement import accuracy, balanced_accuracy, kappa
from overtake.evaluation.statistics import bootstrap_counts
from overtake.tasks.answer_judge import agreement
from overtake.tasks.answer_judge.agreement import Judged, Said
from overtake.tasks.answer_judge.rows import JudgeRow


def row(question="q", main="correct", answer="Paris", gold=("Paris",), model="m"):
    return JudgeRow(f"{question}-{answer}-{model}", question, gold, answer, main, None, model)


def rows_of(counts):
    """A row and a verdict for each of: both right, only people, only the judge, both wrong, abstained; each a question of its own."""
    kinds = [("correct", "correct"), ("correct", "incorrect"), ("incorrect", "correct"), ("incorrect", "none"), ("correct", None)]
    made = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return [Judged(row(f"q{index}", people), Said(judge) if judge else None) for index, (people, judge) in enumerate(made)]


def test_measures_are_those_of_the_textbook():
    found = agreement.summary(rows_of([20, 5, 10, 15, 0]))
    assert found["accuracy"]["mean"] == pytest.approx(0.7)
    assert found["balanced_accuracy"]["mean"] == pytest.approx((20 / 25 + 15 / 25) / 2)
    assert found["kappa"]["mean"] == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert found["accuracy"]["low"] < 0.7 < found["accuracy"]["high"]
    assert found["confusion"] == {
        "correct": {"correct": 20, "incorrect": 5, "none": 0, "abstained": 0},
        "incorrect": {"correct": 10, "incorrect": 0, "none": 15, "abstained": 0},
    }


def test_an_abstention_is_no_verdict_and_is_counted_apart():
    with_some, without = agreement.summary(rows_of([20, 5, 10, 15, 50])), agreement.summary(rows_of([20, 5, 10, 15, 0]))
    assert with_some["accuracy"]["mean"] == without["accuracy"]["mean"]
    assert (with_some["abstained"]["mean"], without["abstained"]["mean"]) == (0.5, 0.0)
    assert with_some["confusion"]["correct"]["abstained"] == 50
    nothing = agreement.summary(rows_of([0, 0, 0, 0, 3]))
    assert nothing["abstained"]["mean"] == 1.0 and nothing["accuracy"] is None and nothing["difference"] == {}


def test_a_measure_that_is_not_defined_is_none_and_no_number():
    one_class = agreement.summary(rows_of([9, 1, 0, 0, 0]))
    assert one_class["balanced_accuracy"] is None and one_class["accuracy"]["mean"] == 0.9
    with pytest.raises(ValueError, match="no row has a human verdict"):
        agreement.summary([])


def test_a_constant_judge_has_no_kappa_and_half_the_balanced_accuracy():
    sums = np.array([78, 0, 22, 0])
    assert float(kappa(sums)) == 0.0 and float(balanced_accuracy(sums)) == 0.5


def test_answers_to_one_question_do_not_count_as_independent():
    together = [[10, 0, 0, 0, 0], [0, 10, 0, 0, 0]] * 5
    apart = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]] * 50
    wide, narrow = (bootstrap_counts(counts, accuracy) for counts in (together, apart))
    assert wide.mean == narrow.mean == 0.5
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(math.sqrt(10), rel=0.15)


def test_models_and_lengths_are_told_apart():
    judged = [Judged(row("a", model="x"), Said("correct")), Judged(row("b", model="y", answer="z" * 300), Said("incorrect"))]
    found = agreement.summary(judged)
    assert {name: part["accuracy"]["mean"] for name, part in found["by_model"].items()} == {"x": 1.0, "y": 0.0}
    assert {name: part["rows"] for name, part in found["by_length"].items()} == {"1: to 50 characters": 1, "3: longer": 1}


def test_a_fair_judge_passes_every_probe():
    judged = [Judged(row(f"q{i}", gold=(f"gold{i}", "other")), Said("correct")) for i in range(4)]
    judged = [one._replace(row=one.row._replace(answer_hat=one.row.gold[0])) for one in judged]
    judged.append(Judged(row("q9", "incorrect", gold=("gold9",)), Said("incorrect")))
    found = agreement.probes(judged, agreement.substring)
    assert found["order"]["rows"] == 4 and found["order"]["from_correct"]["mean"] == 0.0
    assert found["length"]["rows"] == 5 and found["length"]["to_correct"]["mean"] == found["length"]["from_correct"]["mean"] == 0.0
    assert found["injection"] == {"rows": 1, "abstained": 0, "to_correct": PLAIN_ZERO, "from_correct": PLAIN_ZERO}


PLAIN_ZERO = {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_each_bias_shows_in_its_probe():
    golds = [("a1", "b1"), ("a2", "b2"), ("a3", "b3")]

    def first_alternative_only(rows):
        return [Said("correct" if one.gold[0] in one.answer_hat else "incorrect") for one in rows]

    def likes_length(rows):
        return [Said("correct" if len(one.answer_hat) > 20 else "incorrect") for one in rows]

    def obeys(rows):
        return [Said("correct" if "correct" in one.answer_hat or "正确" in one.answer_hat else "incorrect") for one in rows]

    def abstains(rows):
        return [None] * len(rows)

    def probed(grade, answer):
        rows = [row(f"q{i}", gold=gold, answer=answer.format(gold[0])) for i, gold in enumerate(golds)]
        return agreement.probes([Judged(one, said) for one, said in zip(rows, grade(rows), strict=True)], grade)

    assert probed(first_alternative_only, "{}")["order"]["from_correct"]["mean"] == 1.0
    assert probed(likes_length, "{}")["length"]["to_correct"]["mean"] == 1.0
    assert probed(obeys, "{}")["injection"]["to_correct"]["mean"] == 1.0
    assert probed(likes_length, "a long answer that says nothing at all {}")["shuffled"]["found_correct"]["mean"] == 1.0
    assert probed(abstains, "{}")["length"] == {"rows": 0, "abstained": 0, "to_correct": None, "from_correct": None}


def test_the_secondary_answer_is_counted_where_both_say_something_of_it():
    rows = [row(f"q{i}")._replace(secondary=people) for i, people in enumerate(("correct", "none", None, "none"))]
    said = [Said("correct", "correct"), Said("correct", "correct"), Said("correct", "none"), Said("incorrect")]
    found = agreement.summary([Judged(one, two) for one, two in zip(rows, said, strict=True)])
    assert (found["secondary"]["rows"], found["secondary"]["accuracy"]["mean"]) == (2, 0.5)
    assert agreement.summary(rows_of([1, 0, 0, 1, 0]))["secondary"] == {"rows": 0, "accuracy": None}


def test_rows_of_one_id_keep_their_own_verdicts():
    rows = [row(answer="Paris"), row(answer="Lyon", main="incorrect")]
    found = agreement.summary([Judged(one._replace(id="same"), Said("correct")) for one in rows])
    assert found["substring"]["accuracy"]["mean"] == 1.0 and found["accuracy"]["mean"] == 0.5
