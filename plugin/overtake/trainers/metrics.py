"""Metrics of our own from inside a reward: ms-swift hands rewards no logger, but a callback can keep the trainer (ms-swift-4.6: 2.7).

Switched on by `--callbacks overtake_metrics`. What is logged reaches console, logging.jsonl, TensorBoard, wandb and swanlab, averaged
over ranks and over the steps since the last log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_trainer: Any = None


def overtake_metrics(args: Any, trainer: Any) -> Any:
    """The entry of ms-swift's `callbacks_map`, called with the trainer: keeps it, and returns a callback that does nothing."""
    from transformers import TrainerCallback  # rewards import this module, and they import neither transformers nor torch

    global _trainer
    _trainer = trainer
    return TrainerCallback()


def log_metrics(values: Mapping[str, Sequence[float]]) -> None:
    """Add one value for each sample to the metrics of these names; without the callback nothing happens.

    Every rank must log the same names; a list may be empty.
    """
    if _trainer is None:
        return
    metrics = _trainer.custom_metrics["train" if _trainer.model.training else "eval"]
    for name, numbers in values.items():
        metrics[name].update(list(numbers))
