"""The callback: what the meters say reaches ms-swift's table once, in the right mode, as a sum of all ranks; rewards are watched."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch
from overtake import settings
from overtake.remote.gateway import Meter
from overtake.rewards import reward as rewarding
from overtake.rewards import trace
from overtake.trainers import metrics_callback
from overtake.trainers.metrics_callback import MetricsCallback
from swift.metrics import MeanMetric
from swift.rl_core import grpo_algorithm
from swift.trainers.mixin import SwiftMixin


@pytest.fixture
def meters(monkeypatch):
    """The meters of the three services, to be turned by hand."""
    known = {service: Meter() for service in metrics_callback.SERVICES}
    monkeypatch.setattr(metrics_callback, "chat_gateway", lambda role: SimpleNamespace(meter=known[role]))
    monkeypatch.setattr(metrics_callback, "rag_gateway", lambda: SimpleNamespace(meter=known["rag"]))
    monkeypatch.setenv("OVERTAKE_RAG_URL", "http://127.0.0.1:1")
    settings.load.cache_clear()
    trace.take()
    yield known
    settings.load.cache_clear()


class Run:
    """A trainer as far as the callback sees it, and the callback."""

    def __init__(self, folder, rewards=(), names=(), **args):
        tables = {mode: defaultdict(lambda: MeanMetric(nan_value=None, device="cpu")) for mode in ("train", "eval")}
        self.state = SimpleNamespace(global_step=0, is_world_process_zero=True, log_history=[])
        self.args = SimpleNamespace(output_dir=str(folder), device="cpu", reward_weights=None, **args)
        self.trainer = SimpleNamespace(custom_metrics=tables, model=SimpleNamespace(training=True), state=self.state)
        self.trainer.reward_funcs, self.trainer.reward_func_names = list(rewards), list(names)
        self.callback = MetricsCallback(self.args, self.trainer)

    def on(self, event):
        getattr(self.callback, f"on_{event}")(self.args, self.state, None)

    def logs(self, mode="train"):
        """What ms-swift adds to its log."""
        return SwiftMixin.compute_custom_metrics(self.trainer.custom_metrics[mode], "eval_" if mode == "eval" else "")

    def score(self, completions, **columns):
        return [reward(completions, **columns) for reward in self.trainer.reward_funcs]


def turn(meter, **by):
    for name, value in by.items():
        setattr(meter, name, getattr(meter, name) + value)


def test_each_log_holds_what_was_asked_since_the_last(tmp_path, meters):
    turn(meters["rag"], calls=99, requests=99)  # before training, of a probe
    run = Run(tmp_path)
    run.on("train_begin")
    turn(meters["rag"], calls=10, cached=2, shared=1, requests=8, failed=Counter(timeout=1, http_500=1))
    turn(meters["judge"], calls=5, requests=5, tokens=600, usd=0.25)
    run.on("step_end")
    turn(meters["rag"], calls=2, requests=1, shared=1)
    run.on("step_end")
    assert run.logs() == {
        "calls/rag": 9.0,
        "calls/judge": 5.0,
        "calls/failed": 2.0,
        "cache/rag": 4 / 12,
        "cache/judge": 0.0,
        "cache/hit_rate": 4 / 17,
        "cost/tokens": 600.0,
        "cost/usd": 0.25,
        "cost/usd_total": 0.25,
    }
    run.on("step_end")
    nothing = dict.fromkeys(("calls/rag", "calls/judge", "calls/failed", "cost/tokens", "cost/usd"), 0.0)
    assert run.logs() == nothing | {"cost/usd_total": 0.25}


def test_a_log_without_steps_shows_nothing(tmp_path, meters):
    """ms-swift logs the summary of a run as one more evaluation."""
    run = Run(tmp_path)
    run.on("train_begin")
    turn(meters["rag"], calls=10, requests=8, usd=1.0)
    run.on("prediction_step")
    assert run.logs("eval")
    assert run.logs("eval") == {}


def test_what_evaluation_asks_is_not_the_training_steps(tmp_path, meters):
    run = Run(tmp_path)
    run.on("train_begin")
    turn(meters["rag"], calls=3, requests=3)
    run.on("step_end")  # not logged yet
    turn(meters["rag"], calls=5, requests=5, usd=0.5)
    run.on("prediction_step")
    asked = {"calls/rag": 5, "cache/rag": 0, "cache/hit_rate": 0, "cost/usd": 0.5, "cost/usd_total": 0.5}
    assert run.logs("eval") == {f"eval_{name}": value for name, value in asked.items()}
    assert run.logs() == {"calls/rag": 3, "cache/rag": 0, "cache/hit_rate": 0, "cost/usd_total": 0.5}, "the total is of both"


def test_a_trainer_that_logs_before_its_step_ends_loses_nothing(tmp_path, meters):
    """So does TRL's PPO."""
    run = Run(tmp_path)
    run.on("train_begin")
    turn(meters["teacher"], calls=4, requests=4, cached=0)
    assert run.logs()["calls/teacher"] == 4
    run.on("step_end")
    assert run.logs()["calls/teacher"] == 0


def test_what_earlier_runs_into_the_folder_spent_is_counted_in(tmp_path, meters):
    log = '{"cost/usd_total": 0.5, "global_step/max_steps": "1/9"}\n{"eval_cost/usd_total": 1.25e-0}\n{"loss": 1, "cost/usd_tot'
    (tmp_path / "logging.jsonl").write_text(log)
    run = Run(tmp_path)
    run.on("train_begin")
    turn(meters["judge"], usd=0.25)
    run.on("step_end")
    assert run.logs()["cost/usd_total"] == 1.5


def test_reasons_are_shown_from_the_first_time_they_occur(tmp_path, meters):
    run = Run(tmp_path)
    shares = run.trainer.custom_metrics["train"]
    for values, shown in (([0.0, 0.0], {}), ([1.0, 0.0], {"abstain/timeout": 0.5}), ([0.0], {"abstain/timeout": 0.0})):
        shares["abstain/timeout"].update(values)
        shares["abstain/budget"].update([0.0] * len(values))
        assert run.logs() == shown


def test_rewards_are_traced_and_timed_as_ms_swift_calls_them(tmp_path, meters, monkeypatch):
    def plain(completions, **columns):
        trace.note({"fault": ["", "copy"]})
        return [1.0, None]

    class Slow:
        async def __call__(self, completions, **columns):
            await asyncio.sleep(0)
            return torch.tensor([0.5, float("nan")])

    class Model(torch.nn.Module):
        pass

    clock = iter((10.0, 11.0, 20.0, 22.5))
    monkeypatch.setattr(rewarding, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    model = Model()
    run = Run(tmp_path, [model, plain, Slow()], ["Model", "plain", "Slow"])
    run.on("train_begin")
    assert run.trainer.reward_funcs[0] is model, "ms-swift calls a reward model in another way"
    run.on("train_begin")
    samples = [SimpleNamespace(messages=[{"content": text}], to_reward_row=lambda: {"prompt_id": "prompt_0"}) for text in "甲乙"]
    found = grpo_algorithm.compute_rewards_per_func(samples, run.trainer.reward_funcs[1:], None, torch.device("cpu"), run.state)
    assert found.nan_to_num(9).tolist() == [[1.0, 0.5], [9.0, 9.0]]
    run.on("step_end")
    assert run.logs() == {"wait/seconds": 3.5}
    samples = trace.read(tmp_path / "trace.jsonl").samples
    assert [one["rewards"] for one in samples] == [{"plain": 1.0, "Slow": 0.5}, {"plain": None, "Slow": None}]
    assert [one["fault"] for one in samples] == ["", "copy"]
    assert [one["total"] for one in samples] == [None, None], "the reward model's value is not known here"


def test_the_trace_names_step_group_and_place_of_each_sample(tmp_path, meters):
    run = Run(tmp_path, [lambda completions, **_: [1.0] * len(completions)], ["A"])
    run.args.reward_weights = [0.5]
    run.on("train_begin")
    for _ in range(2):  # two rollouts within one step, as dynamic sampling makes them
        run.score(["甲", "乙"], prompt_id=["prompt_0", "prompt_0"], finish_reason=["stop", "length"])
    run.on("step_end")
    run.state.global_step, run.trainer.model.training = 1, False
    run.score(["丙"])
    run.on("prediction_step")
    run.score(["丁"])
    run.on("prediction_step")
    run.trainer.model.training = True
    run.score(["戊"])
    run.on("step_end")
    found = trace.read(tmp_path / "trace.jsonl")
    assert [(one["mode"], one["step"], one["sample"], one["group"], one["completion"], one["finish"]) for one in found.samples] == [
        ("train", 1, 0, "0/prompt_0", "甲", "stop"),
        ("train", 1, 1, "0/prompt_0", "乙", "length"),
        ("train", 1, 2, "1/prompt_0", "甲", "stop"),
        ("train", 1, 3, "1/prompt_0", "乙", "length"),
        ("eval", 1, 0, None, "丙", None),
        ("eval", 1, 1, None, "丁", None),
        ("train", 2, 0, None, "戊", None),
    ]
    assert {one["total"] for one in found.samples} == {0.5}
    begun = found.runs[found.samples[0]["run"]]
    assert begun["reward_weights"] == {"A": 0.5}
    assert begun["weights"] == {"judge": 0.35, "retrieval": 0.4, "win": 0.25}


def test_an_alarm_is_said_once_in_console_and_file(tmp_path, meters, capsys):
    run = Run(tmp_path)
    for step in range(1, 9):
        run.state.global_step = step
        run.state.log_history.append({"clip_ratio/region_mean": 0.7, "step": step})
        run.on("log")
        run.state.log_history.append({"eval_runtime": 1.0, "step": step})
        run.on("log")
    said = [text for text in capsys.readouterr().out.splitlines() if text.startswith("ALARM")]
    assert len(said) == 1 and said[0].startswith("ALARM at step 5: 70 % of the updates are clipped")
    (line,) = map(json.loads, (tmp_path / "alarms.jsonl").read_text().splitlines())
    assert (line["step"], line["alarm"]) == (5, "clipping") and said[0].endswith(line["says"])


def test_only_rank_0_writes(tmp_path, meters, capsys):
    run = Run(tmp_path, [lambda completions, **_: [1.0]], ["A"])
    run.state.is_world_process_zero = False
    run.on("train_begin")
    run.score(["甲"])
    run.on("step_end")
    run.state.log_history.extend([{"clip_ratio/region_mean": 0.7}] * 5)
    run.on("log")
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


RANK = """
import json, os, sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
import torch
from accelerate import PartialState
from overtake.remote.gateway import Meter
from overtake.rewards import metrics
from overtake.trainers import metrics_callback, stopping
from swift.metrics import MeanMetric
from swift.trainers.mixin import SwiftMixin

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
PartialState(cpu=True)
meters = {name: Meter() for name in metrics_callback.SERVICES}
metrics_callback.chat_gateway = lambda role: SimpleNamespace(meter=meters[role])
metrics_callback.rag_gateway = lambda: SimpleNamespace(meter=meters["rag"])
state = SimpleNamespace(global_step=0, is_world_process_zero=rank == 0, log_history=[])
args = SimpleNamespace(output_dir=str(folder), device="cpu", reward_weights=None)
tables = {mode: defaultdict(lambda: MeanMetric(nan_value=None, device="cpu")) for mode in ("train", "eval")}
trainer = SimpleNamespace(custom_metrics=tables, model=SimpleNamespace(training=True), state=state)
trainer.reward_funcs, trainer.reward_func_names = [lambda completions, **_: [float(rank)] * len(completions)], ["A"]
trainer.rewards = stopping.adopt(trainer, stops=True)
found = metrics_callback.MetricsCallback(args, trainer)
found.on_train_begin(args, state, None)
logs = []
for step in range(2):
    if step == 0 or rank == 1:
        meters["rag"].calls += 4 + rank
        meters["rag"].requests += 3 + rank
        meters["rag"].cached += 1
        meters["judge"].usd += 0.25 * (1 + rank)
    if rank == 1 and step == 1:
        meters["judge"].failed["timeout"] += 3  # only this rank, and only now
    trainer.reward_funcs[0]([f"{rank}{at}" for at in range(1 + rank)])
    trainer.rewards.seconds = (step + 1) * (1.0 + rank)
    # One sample here, three there: a mean of the ranks' means would be .5, the samples' is .75.
    metrics.log_metrics({"rag/win_rate": [float(rank)] * (1 + 2 * rank), "abstain/timeout": [float(rank and step)] * (1 + 2 * rank)})
    if rank == 1:
        metrics.log_metrics({"own/only_here": [1.0]})
    found.on_step_end(args, state, None)
    logs.append(SwiftMixin.compute_custom_metrics(tables["train"]))
    state.global_step += 1
print("LOGS" + json.dumps(logs), flush=True)
torch.distributed.destroy_process_group()  # its threads would abort the process at its end
"""


def test_two_ranks_sum_what_is_asked_and_average_over_samples(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OVERTAKE_CACHE_DIR": str(tmp_path / "cache")}
    env |= {"OVERTAKE_RAG_URL": "http://127.0.0.1:1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "out")],
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=180) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    first, second = (json.loads(out.rsplit("LOGS", 1)[1]) for out, _ in said)
    assert first[0] == {
        "calls/rag": 3 + 4,
        "cache/rag": pytest.approx(2 / 9),
        "cache/hit_rate": pytest.approx(2 / 9),
        "cost/usd": 0.75,
        "cost/usd_total": 0.75,
        "wait/seconds": 2,  # of the slower rank
        "rag/win_rate": 0.75,
        "own/only_here": 1,
    }
    assert first[1] == first[0] | {
        "calls/rag": 4,
        "cache/rag": pytest.approx(1 / 5),
        "cache/hit_rate": pytest.approx(1 / 5),
        "calls/failed": 3,
        "cost/usd": 0.5,
        "cost/usd_total": 1.25,
        "abstain/timeout": 0.75,
    }
    assert second == first, "every rank logs the same names, or the others would wait"
    found = trace.read(tmp_path / "out/trace.jsonl")
    assert len(found.runs) == 1
    assert [(one["step"], one["sample"], one["completion"], one["total"]) for one in found.samples] == [
        (step, *sample) for step in (1, 2) for sample in ((0, "00", 0), (1, "10", 1), (2, "11", 1))
    ]
