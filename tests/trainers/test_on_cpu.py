"""On a CPU the ranks of a DeepSpeed run find each other, and vLLM keeps weights that can be renewed; with a GPU nothing changes."""

import pytest
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from overtake.trainers import on_cpu


@pytest.fixture
def launched(monkeypatch):
    """launched(**environment): what accelerate chooses for a rank that torchrun has started with this environment."""

    def launched(**environment):
        for name in ("ACCELERATE_USE_DEEPSPEED", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return PartialState._prepare_backend(object.__new__(PartialState), False)

    monkeypatch.setattr(PartialState, "_prepare_backend", on_cpu._backend_of_accelerate)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return launched


def test_accelerate_alone_knows_no_backend_for_deepspeed_on_a_cpu(launched):
    """If this fails, accelerate has learnt it and `join_ranks_by_gloo` can go."""
    assert launched(ACCELERATE_USE_DEEPSPEED="true", LOCAL_RANK="1") == (None, DistributedType.NO)


def test_deepspeed_ranks_meet_over_gloo(launched):
    on_cpu.join_ranks_by_gloo()
    on_cpu.join_ranks_by_gloo()  # ms-swift registers the plugin more than once
    assert launched(ACCELERATE_USE_DEEPSPEED="true", LOCAL_RANK="1") == ("gloo", DistributedType.NO)


@pytest.mark.parametrize("environment", [{"LOCAL_RANK": "1"}, {"ACCELERATE_USE_DEEPSPEED": "true"}, {}])
def test_without_deepspeed_or_torchrun_accelerate_decides(launched, environment):
    on_cpu.join_ranks_by_gloo()
    assert launched(**environment)[0] is None


def test_with_gpus_accelerate_decides(launched, monkeypatch):
    on_cpu.join_ranks_by_gloo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert launched(ACCELERATE_USE_DEEPSPEED="true", LOCAL_RANK="1") == ("nccl", DistributedType.MULTI_GPU)


@pytest.fixture
def dispatch(monkeypatch):
    """vLLM's module with the function that packs weights, as it was before the test."""
    from vllm.model_executor.layers import utils

    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", utils.dispatch_cpu_unquantized_gemm)
    return utils


def test_vllm_alone_throws_the_weight_away(dispatch):
    """If this fails, vLLM keeps its weights and `keep_weights_for_sync` can go."""
    layer = torch.nn.Linear(64, 32, bias=False)
    dispatch.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    assert layer.weight.numel() == 0


def test_the_weight_stays_and_what_is_written_into_it_counts(dispatch):
    on_cpu.keep_weights_for_sync()
    layer = torch.nn.Linear(64, 32, bias=False)
    dispatch.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    with torch.no_grad():
        layer.weight.fill_(0.5)
    assert layer.cpu_linear(torch.ones(1, 64), layer.weight, None).tolist() == [[32.0] * 32]


@pytest.mark.parametrize("bias", [None, torch.arange(5.0)])
@pytest.mark.parametrize("rows", [1, 2, 8, 127, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_few_rows_are_multiplied_the_other_way_round_to_the_same_end(dtype, rows, bias):
    torch.manual_seed(rows)
    tokens, weight = torch.randn(rows, 7, dtype=dtype), torch.randn(5, 7, dtype=dtype)
    bias = bias if bias is None else bias.to(dtype)
    found = on_cpu.product(tokens, weight, bias)
    torch.testing.assert_close(found, torch.nn.functional.linear(tokens, weight, bias))
    assert found.is_contiguous()


def test_with_a_gpu_vllm_is_left_alone(dispatch, monkeypatch):
    from vllm.platforms import current_platform

    before = dispatch.dispatch_cpu_unquantized_gemm
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    on_cpu.keep_weights_for_sync()
    assert dispatch.dispatch_cpu_unquantized_gemm is before
