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


def test_gains_ties_and_losses_stand_in_their_shares_and_one_of_each_is_the_middle_one(tmp_path):
    write(tmp_path, "copy", [0.5] * 20)
    write(tmp_path, "SFT", [*[0.5] * 16, 0.6, 0.7, 0.9, 0.1], retrieved=["d1", "d9"])
    parts = examples.outcomes(examples.read_details(tmp_path, ["copy", "SFT"], TASK), "SFT", "copy", "quality", TASK)
    assert {name: [one.row_id for one in part][:3] for name, part in parts.items() if name != "same"} == {
        "better": ["q16", "q17", "q18"],
        "worse": ["q19"],
    }
    shown = [round(one.difference, 3) for one in examples.in_their_shares(parts, 10)]
    assert (sum(gain > 0 for gain in shown), shown.count(0), sum(gain < 0 for gain in shown)) == (1, 8, 1)
    assert len(examples.in_their_shares(parts, 100)) == 20
    words = examples.one_of_each(parts, "SFT", "copy", {"d1": "Collagen"})
    assert words.splitlines()[:7] == [
        "SFT against copy, 20 held-out rows: 3 better, 16 same, 1 worse",
        "",
        "better (3 of 20): question 17",
        "  gold: d1 Collagen, d2",
        "  copy: copy 17",
        "  SFT: SFT 17",
        "    retrieved: d1 Collagen, d9",
    ]
    assert "worse (1 of 20): question 19" in words
    nothing_lost = examples.one_of_each({**parts, "worse": []}, "SFT", "copy", {})
    assert nothing_lost.endswith("worse (0 of 19)")


def test_the_tool_shows_them_of_a_folder_that_was_evaluated(run, tmp_path):
    assert run("examples", tmp_path, "--system", "SFT", "--against", "copy").err.startswith(
        f"error: {tmp_path}/summary.json does not exist"
    )
    write(tmp_path, "copy", [0.5, 0.5])
    write(tmp_path, "SFT", [0.5, 0.9])
    (tmp_path / "summary.json").write_text(json.dumps({"task": "query_rewrite", "means": {"copy": {"quality": 0}, "SFT": {"quality": 0}}}))
    done = run("examples", tmp_path, "--system", "SFT", "--against", "copy")
    assert (done.code, done.err, "better (1 of 2): question 1" in done.out) == (0, "", True)
    unknown = run("examples", tmp_path, "--system", "PPO", "--against", "copy")
    assert (unknown.code, unknown.err) == (2, "error: --system PPO is none of the systems copy, SFT")
