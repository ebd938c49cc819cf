"""bench_grpo.py: the statistics on written step times, rewards that ask nobody in a constant step, and a short run for real (slow)."""

import importlib.util
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import rag
from overtake.tasks.query_rewrite import judge as judging
from overtake.tasks.query_rewrite.rows import RewriteRow

TOOL = Path(__file__).parents[2] / "benchmarks/bench_grpo.py"
spec = importlib.util.spec_from_file_location("bench_grpo", TOOL)
bench_grpo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_grpo)

pytestmark = pytest.mark.usefixtures("fresh")


def steps(*rounds, calls=64):
    """Steps as steps.jsonl holds them, from the seconds of (constant, local, slow) in each round; a tenth of ours is in the rewards."""
    return [
        {"round": number, "kind": kind, "seconds": seconds, "cached": 0, "failed": 0}
        | (
            {"reward_seconds": 0.0, "rag": 0, "judge": 0}
            if kind == "constant"
            else {"reward_seconds": seconds / 10, "rag": calls, "judge": 8}
        )
        for number, one in enumerate(rounds)
        for kind, seconds in zip(bench_grpo.KINDS, one, strict=True)
    ]


def noisy(local, slow, count=40):
    """Rounds of a machine that drifts to half its speed, with the factor and the seconds that ours take more."""
    drawn = random.Random(1)

    def noise():
        return drawn.gauss(1, 0.01)

    for number in range(count):
        base = 1 + number / count
        yield base * noise(), base * local * noise(), base * noise() + slow


def test_the_interval_is_that_of_the_median_and_one_outlier_does_not_move_it():
    drawn = random.Random(0)
    values = [drawn.gauss(1.04, 0.02) for _ in range(200)]
    found = bench_grpo.estimate(values)
    assert found.median == pytest.approx(sorted(values)[99], abs=0.002)
    # The median's standard error is 1.2533 * sigma / sqrt(n).
    assert found.high - found.low == pytest.approx(2 * 1.96 * 1.2533 * 0.02 / 200**0.5, rel=0.3)
    assert bench_grpo.estimate([*values[:-1], 50.0]).high < 1.05
    assert found == bench_grpo.estimate(values), "the same values, the same interval"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.02, 1.01, 1.05), "PASS"),
        ((1.049, 1.04, 1.051), "undecided"),  # the median alone would pass
        ((1.06, 1.049, 1.07), "undecided"),
        ((1.06, 1.051, 1.07), "over"),
    ],
)
def test_a_verdict_is_given_only_when_the_whole_interval_agrees(interval, verdict):
    assert bench_grpo.Estimate(*interval).against(1.05) == verdict


def test_every_round_has_each_kind_once_and_the_orders_differ():
    found = bench_grpo.order(warmup=2, rounds=60, seed=3)
    rounds = [tuple(step["kind"] for step in one) for _, one in itertools.groupby(found, key=lambda step: step["round"])]
    assert [step["round"] for step in found[::3]] == list(range(-2, 60))
    assert all(sorted(one) == sorted(bench_grpo.KINDS) for one in rounds)
    assert len(set(rounds)) == 6, "each order comes up, so no kind always follows another"
    assert found == bench_grpo.order(2, 60, 3) != bench_grpo.order(2, 60, 4)


def test_pairs_are_of_the_same_round_and_the_warm_up_is_left_out():
    table = [{**step, "round": step["round"] - 1} for step in steps((9, 9, 9), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0))]
    random.Random(0).shuffle(table)
    assert bench_grpo.by_kind(table) == {"constant": [1.0, 10.0], "local": [2.0, 20.0], "slow": [3.0, 30.0]}
    assert bench_grpo.by_kind(table, "rag")["local"] == [64, 64]


def test_the_report_finds_factor_and_rounds_under_a_drift_far_larger_than_both():
    said = bench_grpo.report(steps(*noisy(local=1.02, slow=0.15)))
    ratio, low, high = map(float, re.search(r"^PASS: local services .* (\S+) \[(\S+), (\S+)\] times", said, re.MULTILINE).groups())
    assert low < 1.02 < high < 1.05 and ratio == pytest.approx(1.02, abs=0.006)
    found = re.search(r"^PASS: services of 200 ms add (\S+) \[(\S+), (\S+)\] rounds to a step with a constant reward", said, re.MULTILINE)
    rounds, low, high = map(float, found.groups())
    assert low < 0.75 < high < 1 and rounds == pytest.approx(0.75, abs=0.05)
    assert "waiting included: 0.111 [0.111, 0.111] of the rest" in said


def test_what_costs_more_than_the_targets_is_called_over():
    said = bench_grpo.report(steps(*noisy(local=1.10, slow=0.45)))
    verdicts = [line.split(":")[0] for line in said.splitlines() if "target" in line]
    assert verdicts == ["over", "over", "over"]


def test_the_table_holds_medians_and_mean_calls():
    said = bench_grpo.report(steps((1.0, 1.25, 1.5), (2.0, 2.5, 2.5), (4.0, 4.0, 5.0)))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("| ")]
    assert rows[1] == ["constant", "2.000", "0.000", "0.0", "0.0", "1", "0"]
    assert rows[2] == ["ours, local services", "2.500", "0.250", "64.0", "8.0", "1.250 [1.000, 1.250]", "+0.250 [+0.000, +0.500]"]
    assert rows[3][-1] == "+0.500 [+0.500, +1.000]"


def test_in_a_constant_step_a_reward_asks_nobody_and_in_the_others_it_is_itself(monkeypatch):
    asked = []

    class Ours:
        """What it is."""

        def __call__(self, completions, **columns):
            asked.append((completions, columns))
            return [0.5] * len(completions)

    now = SimpleNamespace(kind="constant", reward_seconds=0.0)
    monkeypatch.setattr(bench_grpo, "_now", now)
    reward = bench_grpo.alternating(Ours)()
    assert type(reward).__name__ == "Ours", "the name in the metrics"
    assert reward(["a", "b"], prompt_id=[1, 1]) == [0.0, 0.0]
    assert (asked, now.reward_seconds) == ([], 0.0)
    now.kind = "local"
    assert reward(["a", "b"], prompt_id=[1, 1]) == [0.5, 0.5]
    assert asked == [(["a", "b"], {"prompt_id": [1, 1]})]
    assert now.reward_seconds > 0


def test_its_rows_are_what_the_rewards_read_and_the_judge_may_be_asked_about_them():
    rows = list(bench_grpo.rows())
    assert len({row["rag_query_id"] for row in rows}) == len(rows) > 900
    assert [turn["role"] for turn in rows[0]["messages"]] == ["system", "user"]
    read = [RewriteRow.from_columns(row) for row in rows]
    assert all(row.gold and row.teacher_rewrite and row.teacher_recall and row.teacher_judge is not None for row in read)


def test_the_slow_service_answers_retrieval_and_judge_as_our_readers_want_it(tmp_path, monkeypatch):
    code = f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import bench_grpo; bench_grpo.serve_slowly(sys.argv[1])"
    with bench_grpo.service(tmp_path, "slow", [sys.executable, "-c", code]) as url:
        for name, value in bench_grpo.addresses(url, url).items():
            monkeypatch.setenv(name, value)
        settings.load.cache_clear()
        [found] = rag.rag_gateway().run([rag.rag_call("q", "r", "t")])
        [judged] = judging.judge_gateway().run([judging.judge_call("q", "r")])
        assert [hit.doc_id for hit in rag.hits(found.value)] == ["d0", "d1", "d2", "d3", "d4"]
        assert judging.verdict(judged.value).score == 3.0
        bench_grpo.open_connections(10)
        assert (rag.rag_gateway().meter.requests, judging.judge_gateway().meter.requests) == (1 + 10, 1 + 3)
        assert (rag.rag_gateway().meter.cached, rag.rag_gateway().meter.failed.total()) == (0, 0)


def test_a_service_that_does_not_start_is_one_line_with_its_own_words(tmp_path):
    command = [sys.executable, str(TOOL.parents[1] / "tools/serve_rag.py"), "nowhere", "--ready-file"]
    with pytest.raises(bench_grpo.Abort, match="the rag service did not start: error: nowhere: no such file"):
        bench_grpo.service(tmp_path, "rag", command).__enter__()


def test_bad_input_is_one_line_and_exit_2(run, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/steps.jsonl").write_text("{}\n")
    cases = [
        (["--completions", "12"], "error: --completions is 12: give a multiple of 8, whole groups"),
        (["--out", tmp_path / "kept"], f"error: {tmp_path / 'kept'} is there already: choose another folder or remove it"),
    ]
    for arguments, message in cases:
        done = run("bench_grpo", *arguments)
        assert (done.code, done.out, done.err) == (2, "", message)


def test_a_run_that_fails_is_told_in_its_own_words(tmp_path):
    with pytest.raises(bench_grpo.Abort, match="the training run failed with status 3: no such model"):
        bench_grpo.train(["bash", "-c", "echo no such model; exit 3"], os.environ, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.release
def test_a_short_run_trains_measures_every_kind_and_leaves_nothing_running(tmp_path):
    """A minute: the real recipe, trainer, plugin and services, two rounds of 16 completions."""
    out = tmp_path / "out"
    words = ["--rounds", "2", "--warmup", "1", "--completions", "16", "--out", str(out), "--", "--max_completion_length", "8"]
    done = subprocess.run([sys.executable, str(TOOL), *words], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "16 completions of 8 to 8 tokens" in done.stdout and "0 calls answered from the cache" in done.stdout
    found = [json.loads(line) for line in (out / "steps.jsonl").read_text("utf-8").splitlines()]
    assert [(step["round"], step["kind"]) for step in found] == [(step["round"], step["kind"]) for step in bench_grpo.order(1, 2, 0)]
    for step in found:
        if step["kind"] == "constant":
            assert (step["rag"], step["judge"], step["reward_seconds"]) == (0, 0, 0.0)
        else:  # equal rewrites of one question are asked once; random ones are hardly ever equal
            assert 8 < step["rag"] <= 16
        assert (step["cached"], step["failed"]) == (0, 0)
        assert step["seconds"] > step["reward_seconds"]
    ledger = Counter(json.loads(line)["service"] for line in (out / "cache/ledger.jsonl").read_text("utf-8").splitlines())
    assert ledger["rag"] > 9 * 8 and ledger["judge"] > 0
    assert [line for line in done.stdout.splitlines() if line.startswith("| ours")]
    running = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(out) not in running


def test_what_is_registered_alternates():
    # In a process of its own, since it changes ms-swift's table of rewards.
    code = (
        f"import sys; sys.path.insert(0, {str(TOOL.parent)!r})\n"
        "import bench_grpo; bench_grpo.register('.')\n"
        "from swift.rewards import orms\n"
        "print([orms[name](args=None)(['a', 'b']) for name in ('rag_competition', 'rewrite_rules')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[[0.0, 0.0], [0.0, 0.0]]", done.stderr[-2000:]
