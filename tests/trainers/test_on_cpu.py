"""On a CPU DeepSpeed's ranks meet, vLLM's weights can be renewed and its nuclei are found unsorted; with a GPU nothing changes."""

from functools import partial
from importlib.metadata import entry_points

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


@pytest.fixture
def sampler(monkeypatch):
    """vLLM's module with the function that cuts nuclei out, as it was before the test."""
    from vllm.v1.sample.ops import topk_topp_sampler

    monkeypatch.setattr(topk_topp_sampler, "apply_top_k_top_p_pytorch", topk_topp_sampler.apply_top_k_top_p_pytorch)
    return topk_topp_sampler


@pytest.mark.parametrize("k", [None, [3000, 3000, 3000, 3000], [20, 3000, 2000, 1]])
@pytest.mark.parametrize("p", [[0.9, 0.95, 0.5, 1.0], [0.01, 0.3, 0.999, 0.7]])
@pytest.mark.parametrize("spread", [0.0001, 1.0, 10.0])
def test_a_nucleus_is_the_one_that_vllm_sorts_for(sampler, spread, p, k):
    """Of flat distributions, whose nucleus is larger than the likeliest that are looked at, as of steep ones."""
    torch.manual_seed(0)
    logits = torch.stack([torch.randperm(3000) for _ in range(4)]) * spread / 100
    k, p = k if k is None else torch.tensor(k), torch.tensor(p)
    wanted = sampler.apply_top_k_top_p_pytorch(logits.clone(), k, p, allow_cpu_sync=True)
    on_cpu.find_nuclei_unsorted()
    found = sampler.apply_top_k_top_p(logits.clone(), k, p)
    # At the edge either sum is rounded its own way: one token of a flat distribution, tokens of no weight in a steep one's tail.
    other = (found != -torch.inf) != (wanted != -torch.inf)
    assert ((other.sum(1) <= 1) | ((logits.softmax(1) * other).sum(1) < 1e-6)).all()
    both = (found != -torch.inf) & (wanted != -torch.inf)
    assert both.any(1).all() and torch.equal(found[both], logits[both])


@pytest.mark.parametrize(("k", "p"), [(None, None), (torch.tensor([2]), None), (torch.tensor([2]), torch.tensor([0.9]))])
def test_what_needs_no_nucleus_or_has_few_words_is_left_to_vllm(sampler, k, p):
    on_cpu.find_nuclei_unsorted()
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    kept = sampler.apply_top_k_top_p(logits.clone(), k, p)[0] != -torch.inf
    assert kept.tolist() == [k is None, True, k is None, True]


def test_all_of_vllms_processes_find_nuclei_unsorted():
    (plugin,) = entry_points(group="vllm.general_plugins", name="overtake_on_cpu")
    assert plugin.load() is on_cpu.find_nuclei_unsorted


def test_with_a_gpu_vllm_is_left_alone(dispatch, sampler, monkeypatch):
    from vllm.platforms import current_platform

    before = dispatch.dispatch_cpu_unquantized_gemm
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    on_cpu.keep_weights_for_sync()
    on_cpu.find_nuclei_unsorted()
    assert dispatch.dispatch_cpu_unquantized_gemm is before
    assert not isinstance(sampler.apply_top_k_top_p_pytorch, partial)
