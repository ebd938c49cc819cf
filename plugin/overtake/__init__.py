"""Overtake: what ms-swift sees of this package. register() puts our rewards and datasets into its tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from overtake import tasks
from overtake.task import lazy, load

if TYPE_CHECKING:
    from overtake.task import Task

# Name on the command line -> "module:Class", imported when a trainer makes one. One class per reward: its name is the metric's name.
# Under the same name it is a reward of GRPO and PPO, and `swift sample`'s process and outcome reward.
REWARDS = {name: reward.target for name, reward in tasks.rewards().items()}
# Name for --dataset -> "module:function" that makes its DatasetMeta (preprocessor and loader).
DATASETS = {name: target for task in tasks.shipped().values() for name, target in task.datasets.items()}
# Name for --callbacks -> "module:Class" made of args and trainer.
CALLBACKS: dict[str, str] = {"overtake_metrics": "overtake.trainers.metrics_callback:MetricsCallback"}
# --rlhf_type -> "module.Class", imported by ms-swift when it trains. PPO has no line: see trainers/ppo_arguments.py.
TRAINERS: dict[str, str] = {"grpo": "overtake.trainers.grpo.GRPOTrainer"}

_in_swift = False


def register(*own: Task) -> None:
    """Make tasks of a user's own known; in ms-swift's process fill its tables with all known ones.

    Without a task this is what plugin/register.py calls, in every loader, rollout and server process. Doing it again changes nothing.
    A write of training files that a kill has broken off is finished first, for ms-swift reads some of them without us. A task's own file
    calls it with its task, and may stand before or behind plugin/register.py. Raises ValueError for a name that is taken.
    """
    global _in_swift
    for task in own:
        tasks.register(task)
    _in_swift = _in_swift or not own
    if _in_swift:
        _fill()


def _fill() -> None:
    from swift.callbacks import callbacks_map
    from swift.dataset import register_dataset
    from swift.rewards import orms, prms
    from swift.trainers import TrainerFactory

    from overtake.data.dataset_names import deferred, keep_signs_in_names
    from overtake.data.outputs import finish_of_command

    finish_of_command(sys.argv)
    for name, reward in tasks.rewards().items():
        # --reward_funcs and --orm_model; --prm_model
        orms[name] = prms[name] = lazy(reward.target) if isinstance(reward.target, str) else reward.target
    shipped = tasks.shipped()
    for called, task in tasks.known().items():
        for name, target in task.datasets.items():
            make = lazy(target) if isinstance(target, str) else target
            register_dataset(deferred(name, make) if called in shipped else make(), exist_ok=True)
    for name, callback in CALLBACKS.items():
        callbacks_map[name] = lazy(callback)
    TrainerFactory.TRAINER_MAPPING.update(TRAINERS)
    load("overtake.trainers.ppo_arguments:accept_ppo")()
    load("overtake.trainers.one_completion:accept_one_completion")()
    load("overtake.trainers.all_tokens:draw_from_all")()
    if "swift.pipelines.infer.deploy" in sys.modules:  # this process is to serve
        load("overtake.hang_up:end_with_client")()
    load("overtake.trainers.on_cpu:join_ranks_by_gloo")()
    load("overtake.trainers.mixed_lengths:mix_lengths")()
    keep_signs_in_names()
