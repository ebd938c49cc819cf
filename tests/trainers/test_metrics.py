"""Metrics from inside a reward reach ms-swift's own tables, and without the callback nothing happens."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
from overtake.rewards import metrics
from overtake.trainers.metrics_callback import MetricsCallback
from swift.metrics import MeanMetric
from transformers import TrainerCallback


@pytest.fixture
def args(tmp_path):
    return SimpleNamespace(output_dir=str(tmp_path), device="cpu")


@pytest.fixture
def trainer():
    tables = {mode: defaultdict(lambda: MeanMetric(nan_value=None, device="cpu")) for mode in ("train", "eval")}
    return SimpleNamespace(model=SimpleNamespace(training=True), custom_metrics=tables)


def test_values_are_averaged_over_samples(trainer, args):
    assert isinstance(MetricsCallback(args, trainer), TrainerCallback)
    metrics.log_metrics({"rag/win_rate": [1.0, 0.0, 0.0]})
    metrics.log_metrics({"rag/win_rate": [1.0], "rag/empty": []})
    assert trainer.custom_metrics["train"]["rag/win_rate"].compute() == {"value": 0.5}
    assert trainer.custom_metrics["train"]["rag/empty"].compute() == {"value": None}, "ms-swift leaves None out of the log"


def test_evaluation_has_its_own_table(trainer, args):
    MetricsCallback(args, trainer)
    trainer.model.training = False
    metrics.log_metrics({"rag/win_rate": [1.0]})
    assert "rag/win_rate" in trainer.custom_metrics["eval"] and "rag/win_rate" not in trainer.custom_metrics["train"]


def test_without_the_callback_nothing_happens(trainer):
    metrics.log_metrics({"rag/win_rate": [1.0]})
    assert not trainer.custom_metrics["train"]
