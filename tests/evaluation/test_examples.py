"""Examples: the rows that differ most, what each system answered and found, and a fingerprint of the rows alone."""

import json

from overtake.evaluation import examples
from overtake.tasks.query_rewrite import TASK


def write(folder, system, qualities, **more):
    lines = [
        {"rag_query_id": f"q{at}", "query": f"question {at}", "gold": '["d1", "d2"]', "rewrite": f"{system} {at}", "quality": value, **more}
        for at, value in enumerate(qualities)
    ]
    (folder / f"eval_details_{system.replace(' ', '_')}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_best_and_worst_are_the_largest_differences_with_every_systems_side(tmp_path):
    write(tmp_path, "SFT", [0.5, 0.5, 0.5, 0.5])
    write(tmp_path, "GRPO", [0.4, 0.9, 0.0, 0.5], retrieved=["d7", "d1"])
    write(tmp_path, "copy policy", [0.0] * 4)
    details = examples.read_details(tmp_path, ["SFT", "GRPO", "copy policy", "none"], TASK)
    assert list(details) == ["SFT", "GRPO", "copy policy"]
    best, worst = examples.extremes(details, "GRPO", "SFT", "quality", TASK, 3)
    assert [(one.row_id, round(one.difference, 3)) for one in best] == [("q1", 0.4)], "a row that loses is no best example"
    assert [one.row_id for one in worst] == ["q2", "q0"], "and an equal row is neither"
    assert best[0].asked == {"query": "question 1", "gold": "d1, d2"}
    grpo = best[0].answers[1]
    assert (grpo.system, grpo.text, grpo.scores, grpo.notes) == ("GRPO", "GRPO 1", {"quality": 0.9}, {"retrieved": "d7, d1"})


def test_a_difference_counts_only_rows_that_both_measured(tmp_path):
    write(tmp_path, "SFT", [0.5, 0.5])
    write(tmp_path, "GRPO", [0.75, 0.75, 0.0])
    details = examples.read_details(tmp_path, ["SFT", "GRPO"], TASK)
    assert examples.difference(details["GRPO"], details["SFT"], "quality").mean == 0.25
    assert examples.difference(details["GRPO"], details["SFT"], "judge") is None


def test_the_fingerprint_is_of_the_rows_and_not_of_the_answers(tmp_path):
    write(tmp_path, "SFT", [0.5, 0.5])
    write(tmp_path, "GRPO", [0.9, 0.1])
    write(tmp_path, "more", [0.9, 0.1, 0.2])
    of = {name: examples.fingerprint(examples.read_details(tmp_path, [name], TASK), TASK) for name in ("SFT", "GRPO", "more")}
    assert of["SFT"] == of["GRPO"] != of["more"]
