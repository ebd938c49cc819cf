"""How a GRPO run ends before its time: an outage, a kill, no progress on held-out rows; each leaves what one can go on from.

Real runs of the recipe with a random model of two layers, some minutes together. Run: python -m pytest -m slow tests/recipes/test_stops.py
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from overtake.launch.checkpoints import best_of
from swift.rl_core.advantage import compute_advantages

ROOT = Path(__file__).resolve().parents[2]
GROUP = 8


@pytest.fixture
def service(serve):
    """A RAG service on a real port: `.score(query)` is what each of its answers holds, None for a 503; `.answered` counts the rewrites."""
    known = SimpleNamespace(score=lambda query: 0.5, answered=Counter(), refused=0)

    def answer(body):
        score = known.score(body["query"])
        if score is None:
            known.refused += 1
        else:
            known.answered[body["query"], body["rewritten_query"]] += 1
        return 503 if score is None else 200, {"data": {"recall": [{"doc_id": "a", "reranker_score": score}]}}

    known.url = serve(answer).url
    return known


@pytest.fixture
def grpo(tiny, service):
    """grpo(*flags, **settings) starts the recipe on rows of query rewriting, six steps of one question; returns the process."""
    for split in ("train", "val"):
        rows = [
            {
                "messages": [{"role": "system", "content": "rewrite"}, {"role": "user", "content": f"{split} question {at}"}],
                **{f"rag_{name}": "" for name in ("gold", "profile", "history", "teacher_judge", "original_recall")},
                **{"rag_query_id": f"{split}{at}", "rag_query": f"{split} question {at}", "rag_tenant": "t", "rag_kb": "default"},
                **{"rag_teacher_rewrite": "term", "rag_teacher_recall": json.dumps([["t", 0.6]])},
            }
            for at in range(8 if split == "train" else 1)
        ]
        (tiny / f"rl_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    running = []

    def start(*flags, **settings):
        env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
        env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "PROFILE": "cpu", "TUNER": "full", "SFT_ADAPTER": "none"}
        env |= {"MODEL": "tiny", "DATASET": "rl_train.jsonl", "OUTPUT_DIR": "grpo", "OVERTAKE_RAG_URL": service.url}
        env |= {"OVERTAKE_CACHE_DIR": str(tiny / "cache"), "OVERTAKE_OUTAGE_PATIENCE": "2", "OVERTAKE_JUDGE_SHARE": "0"}
        words = ["--model_type", "qwen3", "--template", "qwen3", "--max_steps", "6", "--max_completion_length", "16", *flags]
        process = subprocess.Popen(
            ["bash", str(ROOT / "recipes/grpo_rag.sh"), *words],
            cwd=tiny,
            env=env | {name: str(value) for name, value in settings.items()},
            stdout=(tiny / "said").open("w"),
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def logged(tiny):
    """What logging.jsonl holds of training steps, by step, the latest of each."""
    lines = [json.loads(line) for line in (tiny / "grpo/logging.jsonl").read_text("utf-8").splitlines()]
    return {int(line["global_step/max_steps"].split("/")[0]): line for line in lines if "reward" in line}


RANKS = [
    pytest.param({}, [], id="one rank"),
    pytest.param(
        {"NPROC_PER_NODE": 2},
        ["--use_cpu", "true", "--ddp_backend", "gloo", "--per_device_train_batch_size", str(GROUP // 2)],
        id="two",
        marks=pytest.mark.release,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "flags"), RANKS)
def test_an_outage_pauses_then_ends_the_run_with_a_checkpoint_to_go_on_from(tiny, service, grpo, settings, flags):
    flags = ["--save_steps", "100", "--eval_strategy", "no", *flags]
    service.score = lambda query: 0.5 if service.answered.total() < 3 * GROUP else None
    ended = grpo(*flags, **settings).wait(300)
    said = (tiny / "said").read_text("utf-8")
    assert ended != 0
    assert service.refused > GROUP, "it tried again"
    line = said.splitlines()[-1]
    assert re.match(r"error: stopped at step 3\. ", line)
    assert "did not answer for 2 s" in line and service.url in line and str(tiny / "grpo/checkpoint-3") in line
    assert "pausing for at most 2 s" in said
    assert sorted(logged(tiny)) == [1, 2, 3]
    asked = service.answered.copy()

    service.score = lambda query: 0.5
    ended = grpo(*flags, "--resume_from_checkpoint", str(tiny / "grpo/checkpoint-3"), **settings).wait(300)
    assert ended == 0, (tiny / "said").read_text("utf-8")[-3000:]
    assert sorted(logged(tiny)) == [1, 2, 3, 4, 5, 6]
    assert (tiny / "grpo/checkpoint-6/trainer_state.json").is_file()
    assert set(service.answered.values()) == {1}, "nothing was asked twice"
    assert len(service.answered) > len(asked)


FAULTY = """
import os
from swift.rewards import orms


class Faulty:
    def __init__(self, args=None, **_):
        pass

    def fail(self, where, trainer_state):
        if os.environ["RANK"] == "1" and os.environ["FAILS"] == where and trainer_state.global_step == 2:
            raise KeyError("only here")

    def start(self, completions, trainer_state, **columns):
        self.fail("start", trainer_state)

    def __call__(self, completions, trainer_state, **columns):
        self.fail("call", trainer_state)
        return [0.0] * len(completions)


orms["faulty"] = Faulty
"""


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("fails", ["start", "call"])
def test_whatever_a_reward_raises_on_one_rank_ends_the_run_on_all_with_a_checkpoint(tiny, grpo, fails):
    """The others would wait for it in their next gathering, for ddp_timeout."""
    (tiny / "faulty.py").write_text(FAULTY, encoding="utf-8")
    (settings, flags) = RANKS[1].values
    flags = [*flags, "--external_plugins", str(ROOT / "plugin/register.py"), str(tiny / "faulty.py"), "--save_steps", "100"]
    flags += ["--eval_strategy", "no", "--reward_funcs", "rag_competition", "faulty", "--reward_weights", "1", "1"]
    ended = grpo(*flags, **settings, FAILS=fails).wait(300)
    said = (tiny / "said").read_text("utf-8")
    assert ended not in (0, -signal.SIGKILL), said[-3000:]
    line = said.splitlines()[-1]
    assert line.startswith("error: stopped at step 2. Faulty raised KeyError: 'only here' The run stands at "), said[-3000:]
    assert (tiny / "grpo/checkpoint-2/trainer_state.json").is_file()
    assert "Traceback" in said and "in fail" in said, "whoever wrote the reward wants to see where"


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint_with_its_cache_warm(tiny, service, grpo):
    flags = ["--save_steps", "2", "--eval_strategy", "no"]
    process = grpo(*flags)
    while service.answered.total() < 4 * GROUP:  # the fourth step's rewrites are scored, the third step is behind the last checkpoint
        assert process.poll() is None, (tiny / "said").read_text("utf-8")[-3000:]
        time.sleep(0.01)
    for one in subprocess.run(["ps", "-eo", "pid,pgid"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]:
        if os.getpgid(process.pid) == int(one.split()[1]):
            os.kill(int(one.split()[0]), signal.SIGKILL)
    subprocess.run(["pkill", "-KILL", "-f", str(tiny / "grpo")], check=False)
    process.wait(30)
    before = service.answered.copy()
    assert grpo(*flags, "--resume_from_checkpoint", str(tiny / "grpo/checkpoint-2")).wait(300) == 0
    assert sorted(logged(tiny)) == [1, 2, 3, 4, 5, 6]
    assert set(service.answered.values()) == {1}, "nothing was asked twice"
    again = {query for query, _ in service.answered - before} & {query for query, _ in before}
    assert again == set(), "the step that was lost is done anew with the same rewrites, which the cache answers"


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_found_and_no_progress_ends_the_run(tiny, service, grpo):
    held_out = iter([0.5, 0.9, 0.4, 0.3, 0.2, 0.1])
    scores: dict[int, float] = {}

    def score(query):
        if not query.startswith("val"):
            return 0.5
        # One evaluation is a group of rewrites of one question.
        number = sum(1 for asked, _ in service.answered.elements() if asked.startswith("val")) // GROUP
        return scores.setdefault(number, 0.0) or scores.update({number: next(held_out)}) or scores[number]

    service.score = score
    steps = ["--save_steps", "1", "--eval_steps", "1", "--save_total_limit", "2", "--early_stop_interval", "2"]
    ended = grpo(*steps, OVERTAKE_RAG_CONCURRENCY=1).wait(300)
    assert ended == 0, (tiny / "said").read_text("utf-8")[-3000:]
    assert sorted(path.name for path in (tiny / "grpo").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert best_of(tiny / "grpo/checkpoint-4") == tiny / "grpo/checkpoint-2"


@pytest.mark.slow
def test_under_a_misbehaving_service_the_measured_samples_have_the_advantages_of_the_measured_alone(tiny, grpo):
    """Learning rate 0; errors, hangs, nonsense and resets are made good or abstain, refusals abstain."""
    mix = {"503": 0.2, "hang": 0.05, "html": 0.05, "reset": 0.05, "422": 0.15}
    words = ["--ready-file", str(tiny / "ready"), "--plan", json.dumps({"seed": 3, "mix": mix})]
    with subprocess.Popen([sys.executable, "-I", str(ROOT / "tests/chaos/server.py"), *words], stdout=subprocess.DEVNULL) as server:
        while not (tiny / "ready").exists():
            time.sleep(0.01)
        flags = ["--learning_rate", "0", "--save_steps", "100", "--eval_strategy", "no"]
        ended = grpo(*flags, OVERTAKE_RAG_URL=(tiny / "ready").read_text(), OVERTAKE_RAG_TIMEOUT=1).wait(300)
        server.kill()
    assert ended == 0, (tiny / "said").read_text("utf-8")[-3000:]
    tables = [json.loads(line) for line in (tiny / "grpo/completions.jsonl").read_text("utf-8").splitlines()][:6]
    abstained = 0
    for table in tables:
        rewards = torch.tensor([table["RagCompetition"], table["RewriteRules"]]).T
        measured = ~torch.isnan(rewards[:, 0])
        abstained += int((~measured).sum())
        expected = torch.zeros(GROUP)
        expected[measured] = compute_advantages(rewards[measured], torch.tensor([1.0, 0.2]), num_generations=int(measured.sum()))[0]
        assert table["advantages"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert 2 <= abstained <= 20
