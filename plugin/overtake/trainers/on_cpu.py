"""Patches for where there is no GPU, so that the GPUs' recipes run on a CPU too. With a GPU nothing changes."""

import os
from typing import Any

from accelerate.state import PartialState

_backend_of_accelerate = PartialState._prepare_backend


def join_ranks_by_gloo() -> None:
    """Let the ranks of a DeepSpeed run on CPUs see each other in accelerate 1.15.

    It knows no backend there and takes each rank for the only one, while DeepSpeed counts them all: "train_batch_size is not equal to ...".
    `ACCELERATE_USE_CPU` is no way out: under it accelerate leaves DeepSpeed aside and trains plain DDP, without a word.
    """
    PartialState._prepare_backend = _prepare_backend


def _prepare_backend(self: Any, *args: Any, **kwargs: Any) -> tuple[str | None, Any]:
    backend, kind = _backend_of_accelerate(self, *args, **kwargs)
    if backend is None and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and "LOCAL_RANK" in os.environ:
        backend = "gloo"
    return backend, kind


def keep_weights_for_sync() -> None:
    """Let vLLM engines that are built from now on in this process keep their weights where they can be renewed, if they run on a CPU.

    vLLM 0.32 packs each linear layer's weight for oneDNN and throws the weight away; ms-swift's weight sync then ends on "no attribute
    'weight_loader'". This imports vLLM, which takes seconds.
    """
    from vllm.model_executor.layers import utils
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        utils.dispatch_cpu_unquantized_gemm = _multiply_unpacked


def _multiply_unpacked(layer: Any, remove_weight: bool) -> None:
    from torch.nn.functional import linear

    layer.cpu_linear = linear
