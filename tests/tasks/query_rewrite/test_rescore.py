"""Rescoring over a written trace: the same weights give the same totals, other weights what one computes by hand."""

import json
import math

import pytest
from overtake.rewards import trace
from overtake.tasks.query_rewrite import rescore

pytestmark = pytest.mark.usefixtures("fresh")

RUN = {"run": "a", "reward_weights": {"RagCompetition": 1.0, "RewriteRules": 0.2}}
RUN |= {"weights": {"judge": 0.35, "retrieval": 0.4, "win": 0.25}}
TOP = math.tanh(3 * (0.9 - 0.6))  # the teacher recalls one document of 0.6


def sample(at, top, points=None, *, rule=0.0, needed=True, step=1, mode="train", group="0/prompt_0"):
    """A sample that recalls one document of score `top` (None: the call failed); the teacher has 3 points."""
    judge = None if points is None else math.tanh(3 * (points - 3) / 5)
    made = None
    if top is not None and not (needed and points is None):
        retrieval, win = math.tanh(3 * (top - 0.6)), 0.5 if top > 0.6 else -0.3 if top < 0.6 else 0.0
        parts = [(judge, 0.35), (retrieval, 0.4), (win, 0.25)] if needed else [(retrieval, 0.4), (win, 0.25)]
        there = sum(weight for _, weight in parts)
        made = sum(part * weight for part, weight in parts) * 1.0 / there
    return {
        **{"run": "a", "mode": mode, "step": step, "sample": at, "group": group, "query_id": "q1", "rewrite": f"改{at}"},
        **{"recall": None if top is None else [["d", top]], "teacher_recall": None if top is None else [["t", 0.6]], "gold": []},
        **{"points": points, "teacher_points": 3.0, "judge_needed": needed},
        "rewards": {"RagCompetition": made, "RewriteRules": rule},
        "total": None if made is None else made * 1.0 + rule * 0.2,
    }


@pytest.fixture
def written(tmp_path):
    def written(samples, run=RUN):
        trace.append(tmp_path / "trace.jsonl", [run, *samples])
        return tmp_path / "trace.jsonl"

    return written


def totals(path):
    return [json.loads(line)["total"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_runs_own_weights_give_the_runs_own_totals_and_means(run, written, tmp_path):
    samples = [sample(0, 0.9, 5), sample(1, 0.5, 2, rule=-1.0), sample(2, None, 5), sample(3, 0.7)]
    samples += [sample(0, 0.8, needed=False, mode="eval")]
    done = run(rescore, written(samples), "--out", tmp_path / "out.jsonl")
    assert (done.code, done.err) == (0, "")
    assert totals(tmp_path / "out.jsonl") == pytest.approx([one["total"] for one in samples])
    header, first, last, summary = done.out.splitlines()
    assert header.split() == ["step", "samples", "scored", "total", "then", "total", "now", "RagCompetition", "RewriteRules"]
    step, count, scored, then, now, _, rules = first.split()
    mean = f"{(samples[0]['total'] + samples[1]['total']) / 2:+.4f}"
    assert (step, count, scored, then, now, rules) == ("1", "4", "2", mean, mean, "-0.2500")
    assert last.split()[:4] == ["eval", "1", "1", "1"]
    assert summary == "0 of 1 groups have another best rewrite now"


def test_other_weights_are_those_of_the_composite_and_of_the_rewards(run, written, tmp_path):
    samples = [sample(0, 0.9, 1), sample(1, 0.5, 5, rule=-1.0)]
    flags = ["--weight-judge", 1, "--weight-retrieval", 0, "--weight-win", 0, "--reward-weights", 0.5, 0.1]
    done = run(rescore, written(samples), *flags, "--out", tmp_path / "out.jsonl")
    assert totals(tmp_path / "out.jsonl") == pytest.approx([0.5 * math.tanh(3 * -0.4), 0.5 * math.tanh(3 * 0.4) - 0.1])
    assert "1 of 1 groups have another best rewrite now" in done.out


def test_without_the_judge_what_abstained_for_a_verdict_is_scored(run, written, tmp_path):
    run(rescore, written([sample(0, 0.9), sample(1, None)]), "--weight-judge", 0, "--out", tmp_path / "out.jsonl")
    assert totals(tmp_path / "out.jsonl") == [pytest.approx((0.4 * TOP + 0.125) * 0.65 / 0.65), None]


def test_gold_documents_are_the_measure_again(run, written, tmp_path):
    one = sample(0, 0.9, needed=False) | {"gold": ["d"]}
    run(rescore, written([one]), "--weight-win", 0, "--out", tmp_path / "out.jsonl")
    # The one document recalled is gold, the list is filled up with zeros: .6 + .4 / 3; the teacher has nothing.
    assert totals(tmp_path / "out.jsonl") == pytest.approx([math.tanh(3 * (0.6 + 0.4 / 3)) * 0.75])


def test_a_torn_line_is_named(run, written):
    path = written([sample(0, 0.9, 5)])
    path.write_bytes(path.read_bytes() + b'{"run": "a", "mode"')
    assert "lines left half by a kill, left out: 1" in run(rescore, path).out


def test_what_cannot_be_scored_again_is_one_line_and_exit_2(run, written, tmp_path):
    rules = {**sample(0, 0.9, 5), "rewards": {"RewriteRules": 0.0}, "total": 0.0, "run": "b", "step": 2}
    path = written([sample(0, 0.9, 5)])
    other = tmp_path / "rules.jsonl"
    trace.append(other, [RUN | {"run": "b", "reward_weights": {"RewriteRules": 1.0}}, rules])
    empty = tmp_path / "empty.jsonl"
    trace.append(empty, [RUN])
    cases = [
        ([tmp_path / "none.jsonl"], "none.jsonl does not exist: name the trace.jsonl in the output folder"),
        ([empty], "empty.jsonl holds no samples"),
        ([path, "--reward-weights", 1], "--reward-weights holds 1 numbers: give one each for RagCompetition RewriteRules"),
        ([other, "--weight-win", 1], "the run had no RagCompetition, only RewriteRules"),
    ]
    for arguments, message in cases:
        done = run(rescore, *arguments)
        assert (done.code, done.err.count("\n")) == (2, 0)
        assert done.err.startswith("error: ") and message in done.err
