"""Patches for where there is no GPU, so that the GPUs' recipes run on a CPU too. With a GPU nothing changes."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.state import PartialState
from torch import Tensor

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


_FEW_ROWS = 128
"""From so many on, both ways round took one time (benchmarks/bench_on_cpu.py: MKL on two AVX2 cores, shapes of a 0.5B model)."""


def _multiply_unpacked(layer: Any, remove_weight: bool) -> None:
    layer.cpu_linear = product


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what `torch.nn.functional.linear` gives, [tokens, out] of [tokens, in] and [out, in], sooner for a few rows in float32.

    With the 8 to 32 rows of a decoding step MKL takes two thirds of the time for the weight times the rows. Prefill has rows enough, and
    bf16 goes by oneDNN.

    >>> product(torch.ones(2, 3), torch.eye(3)).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if rows.ndim != 2 or not 1 < len(rows) < _FEW_ROWS or rows.dtype != torch.float32:
        return torch.nn.functional.linear(rows, weight, bias)
    turned = weight @ rows.t() if bias is None else torch.addmm(bias[:, None], weight, rows.t())
    return turned.t().contiguous()  # vLLM's own operations read row after row


def find_nuclei_unsorted() -> None:
    """Let vLLM engines in this process cut top-p's nucleus out of the likeliest tokens alone, if they run on a CPU.

    vLLM 0.32 sorts the logits of the whole vocabulary for it, at every token: with 150,000 words that takes longer than the model. As
    vLLM's plugin (pyproject.toml) this runs in all of its processes.
    """
    from vllm.platforms import current_platform
    from vllm.v1.sample.ops import topk_topp_sampler

    if current_platform.is_cpu():
        topk_topp_sampler.apply_top_k_top_p_pytorch = partial(nuclei, topk_topp_sampler.apply_top_k_top_p_pytorch)


_LIKELIEST = 1024
"""Tokens that a nucleus is looked for among; one that is larger is cut out vLLM's way."""


def nuclei(by_sorting: Callable[..., Tensor], logits: Tensor, k: Tensor | None, p: Tensor | None, allow_cpu_sync: bool = False) -> Tensor:
    """Return what vLLM's `apply_top_k_top_p_pytorch` (`by_sorting`) gives: the logits, -inf for what is not in a row's top k and nucleus.

    logits: [rows, words]; k: [rows], words for no limit; p: [rows]. A token is in the nucleus while the likelier ones hold less than p
    (Holtzman et al. 2020, arXiv 1904.09751). Of tokens equally likely at its edge either way may keep another one.

    >>> falling = -torch.arange(2000.0)[None]  # 0.63, 0.23, 0.09 ... of the whole
    >>> nuclei(lambda *_: falling, falling, None, torch.tensor([0.8]))[0, :4]
    tensor([-0., -1., -inf, -inf])
    """
    if p is None or logits.shape[1] <= _LIKELIEST:
        return by_sorting(logits, k, p, allow_cpu_sync)
    likeliest, tokens = logits.topk(_LIKELIEST)
    whole = torch.full_like(p, logits.shape[1], dtype=torch.long) if k is None else k.long()
    few = whole <= _LIKELIEST
    last = likeliest.gather(1, whole.clamp(max=_LIKELIEST)[:, None] - 1)
    likeliest = likeliest.masked_fill(few[:, None] & (likeliest < last), -torch.inf)
    shares = torch.where(few[:, None], likeliest.softmax(1), logits.softmax(1).gather(1, tokens))
    up_to = shares.cumsum(1)
    cut = torch.full_like(logits, -torch.inf).scatter_(1, tokens, likeliest.masked_fill(up_to - shares >= p[:, None], -torch.inf))
    # A nucleus that may go on beyond the likeliest, or one within a larger k.
    larger = ~few & ((up_to[:, -1] < p) | (whole < logits.shape[1]))
    if larger.any():
        cut[larger] = by_sorting(logits[larger], None if k is None else k[larger], p[larger], allow_cpu_sync)
    return cut
