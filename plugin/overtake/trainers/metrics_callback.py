"""The callback behind `--callbacks overtake_metrics`: what was asked and spent, as metrics; alarms in words; the trace of samples.

Logged beside the rewards' own metrics, since the last log and over all ranks:

| name                         | what                                                                                        |
|------------------------------|---------------------------------------------------------------------------------------------|
| calls/rag, /judge, /teacher  | requests really sent, those tried again included                                            |
| calls/failed                 | answers wanted and not had                                                                  |
| cache/rag, …, cache/hit_rate | share of the answers wanted that took no request of their own: on disk, or of an equal call |
| wait/seconds                 | how long training stood still for its rewards, on the slowest rank                          |
| cost/tokens, cost/usd        | what the answers cost; USD where the model has a price                                      |
| cost/usd_total               | the same since the folder's first run                                                       |

They go through ms-swift's own table of metrics: what is added to the log later than that, TensorBoard and wandb do not see, unless this
callback comes before theirs, as it does for the plain names of `aliases`.
A name whose value has been 0 on all ranks since the start is not shown.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import gather_object
from swift.metrics import MeanMetric, Metric
from tqdm import tqdm
from transformers import TrainerCallback

from overtake import settings
from overtake.remote.chat import chat_gateway
from overtake.remote.gateway import Meter
from overtake.remote.rag import rag_gateway
from overtake.rewards import metrics as own
from overtake.rewards import trace
from overtake.rewards.measuring import ABSTAINED
from overtake.rewards.reward import Run
from overtake.trainers import alarms, stopping
from overtake.trainers.aliases import aliases

SERVICES = ("rag", "judge", "teacher")
_SUMS = (*(f"calls/{service}" for service in SERVICES), "calls/failed", "cost/tokens", "cost/usd")


class Total(Metric):
    """One number of all ranks: the sum of theirs, or the largest. Every rank must have it, or the others wait for it.

    `settle` is called before the number is read, so that it can still be brought up to date. A `lasting` one is never set back.
    """

    def __init__(self, device: Any, settle: Callable[[], None], *, largest: bool = False, lasting: bool = False) -> None:
        super().__init__()
        self.value, self.told, self.shown = 0.0, False, False
        self._device, self._settle, self._largest, self._lasting = device, settle, largest, lasting

    def update(self, value: float) -> None:
        """Add to this rank's number."""
        self.value += value
        self.told = True

    def compute(self) -> float | None:
        """The number of all ranks; None, which ms-swift leaves out of the log, when there is nothing to tell.

        That is as long as it has never been anything but 0, and when nothing was done since the last log: the summary of a run is
        logged as one more evaluation.
        """
        self._settle()
        value = self.value
        if dist.is_initialized():
            tensor = torch.tensor(value, dtype=torch.float32, device=self._device)
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX if self._largest else dist.ReduceOp.SUM)
            value = tensor.item()
        self.shown = self.shown or value != 0
        return value if self.shown and (self.told or (value and not self._lasting)) else None

    def reset(self) -> None:
        """Begin anew."""
        self.told = False
        if not self._lasting:
            self.value = 0.0


class Share(MeanMetric):
    """Mean of ms-swift over the samples of all ranks, not shown as long as it has never been anything but 0."""

    shown = False

    def compute(self) -> dict[str, float | None]:
        """Compute as ms-swift's metric does."""
        computed: dict[str, float | None] = super().compute()
        self.shown = self.shown or bool(computed["value"])
        return computed if self.shown else {"value": None}


class MetricsCallback(TrainerCallback):
    """Hooks of transformers' Trainer; every rank has one, rank 0 writes."""

    def __init__(self, args: Any, trainer: Any) -> None:
        own.log_to(trainer)
        self._trainer, self._folder = trainer, Path(args.output_dir)
        self._run = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._known: dict[str, float] = {}
        self._rewards = Run()  # until training begins
        self._watching = False
        self._weights: dict[str, float] = {}
        self._place, self._numbered, self._rollouts = ("", 0), 0, 0
        for mode, metrics in trainer.custom_metrics.items():
            settle = partial(self._settle, mode, rest=True)
            for name in _SUMS:
                metrics[name] = Total(args.device, settle)
            metrics["wait/seconds"] = Total(args.device, settle, largest=True)
            metrics["cost/usd_total"] = Total(args.device, settle, lasting=True)
            for name in (*SERVICES, "hit_rate"):
                metrics[f"cache/{name}"] = MeanMetric(nan_value=None, device=args.device)
            for reason in ABSTAINED:
                metrics[f"abstain/{reason}"] = Share(nan_value=None, device=args.device)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to time and trace the rewards."""
        if self._watching:
            return
        self._watching = True
        if handler := getattr(self._trainer, "callback_handler", None):
            # Before the boards, whose log this one adds to. A new list: the handler is walking through the old one.
            handler.callbacks = [self, *(other for other in handler.callbacks if other is not self)]
        self._known = _read_meters() | {"wait/seconds": 0.0}
        self._rewards = getattr(self._trainer, "rewards", None) or stopping.adopt(self._trainer, stops=False)
        self._rewards.about = self._about
        names = list(getattr(self._trainer, "reward_func_names", ()))
        weights = getattr(args, "reward_weights", None) or [1.0] * len(names)
        self._weights = dict(zip(names, weights, strict=True))
        if state.is_world_process_zero:
            for metrics in self._trainer.custom_metrics.values():
                metrics["cost/usd_total"].update(_spent_before(self._folder / "logging.jsonl"))
            config = settings.load()
            composite = {"judge": config.weight_judge, "retrieval": config.weight_retrieval, "win": config.weight_win}
            trace.append(self._folder / trace.FILE, [{"run": self._run, "reward_weights": self._weights, "weights": composite}])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A training step is done."""
        self._settle("train")
        self._write(state.is_world_process_zero)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A batch is evaluated."""
        self._settle("eval")
        self._write(state.is_world_process_zero)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add the plain names to what all boards show; say what is wrong, once, in the console and in alarms.jsonl."""
        if logs is not None:
            logs |= aliases(logs)
        if state.is_world_process_zero and state.log_history and alarms.is_training(state.log_history[-1]):
            for name, text in alarms.news(state.log_history).items():
                tqdm.write(f"ALARM at step {state.global_step}: {text}")
                trace.append(self._folder / "alarms.jsonl", [{"step": state.global_step, "alarm": name, "says": text}])

    def _settle(self, mode: str, *, rest: bool = False) -> None:
        """Put down what was asked since the last time as asked for `mode`. `rest`: only if there is anything."""
        now = _read_meters() | {"wait/seconds": self._rewards.seconds}
        if rest and now == self._known:
            return
        new = {name: value - self._known.get(name, 0.0) for name, value in now.items()}
        self._known = now
        metrics = self._trainer.custom_metrics[mode]
        for name in (*_SUMS, "wait/seconds"):
            metrics[name].update(new[name])
        for other in self._trainer.custom_metrics.values():
            other["cost/usd_total"].update(new["cost/usd"])
        for service in SERVICES:
            for name in (service, "hit_rate"):
                metrics[f"cache/{name}"].state += new[f"hits/{service}"]
                metrics[f"cache/{name}"].count += round(new[f"wanted/{service}"])

    def _about(self, completions: Sequence[str], columns: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the trace says of each completion of a batch that is about to be scored."""
        train = self._trainer.model.training
        place = ("train" if train else "eval", self._trainer.state.global_step + train)
        if place != self._place:
            self._place, self._numbered, self._rollouts = place, 0, 0
        prompts = columns.get("prompt_id") or [None] * len(completions)
        finishes = columns.get("finish_reason") or [None] * len(completions)
        # prompt_id begins anew with each rollout, of which a step may have several.
        rollout, self._rollouts = self._rollouts, self._rollouts + 1
        about = {"mode": place[0], "step": place[1]}
        return [
            {**about, "group": prompt and f"{rollout}/{prompt}", "finish": finish, "completion": completion}
            for prompt, finish, completion in zip(prompts, finishes, completions, strict=True)
        ]

    def _write(self, here: bool) -> None:
        lines = []
        for sample in gather_object(trace.take()):
            rewards = {name.removeprefix("rewards/"): sample.pop(name) for name in list(sample) if name.startswith("rewards/")}
            scores = {"rewards": rewards, "total": trace.total(rewards, self._weights)}
            lines.append({"run": self._run, "sample": self._numbered, **sample, **scores})
            self._numbered += 1
        if here and lines:
            trace.append(self._folder / trace.FILE, lines)


def _read_meters() -> dict[str, float]:
    """What this process has asked of all services since it began."""
    meters: dict[str, Meter] = {"judge": chat_gateway("judge").meter, "teacher": chat_gateway("teacher").meter}
    meters["rag"] = rag_gateway().meter if settings.load().rag_url else Meter()
    figures: dict[str, float] = {
        "calls/failed": sum(meter.failed.total() for meter in meters.values()),
        "cost/tokens": sum(meter.tokens for meter in meters.values()),
        "cost/usd": sum(meter.usd for meter in meters.values()),
    }
    for service, meter in meters.items():
        figures[f"calls/{service}"] = meter.requests
        figures[f"wanted/{service}"] = meter.calls
        figures[f"hits/{service}"] = meter.cached + meter.shared
    return figures


def _spent_before(log: Path) -> float:
    """USD that earlier runs into this folder spent, by their log; 0.0 without one."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return max(map(float, re.findall(r'cost/usd_total": ([0-9.e+-]+)', text)), default=0.0)
