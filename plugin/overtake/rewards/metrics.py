"""Metrics of our own from inside a reward: ms-swift hands rewards no logger, but a callback can keep the trainer.

Switched on by `--callbacks overtake_metrics`. What is logged reaches console, logging.jsonl, TensorBoard, wandb and swanlab, averaged
over the samples of all ranks and of the steps since the last log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_trainer: Any = None


def log_to(trainer: Any) -> None:
    """Log into this trainer's tables from here on."""
    global _trainer
    _trainer = trainer


def log_metrics(values: Mapping[str, Sequence[float]]) -> None:
    """Add one value for each sample to the metrics of these names; without the callback nothing happens.

    Every rank must log the same names, for a sample that it does not hold of must count as 0; a list may be empty.
    """
    if _trainer is None:
        return
    metrics = _trainer.custom_metrics["train" if _trainer.model.training else "eval"]
    for name, numbers in values.items():
        metrics[name].update(list(numbers))
