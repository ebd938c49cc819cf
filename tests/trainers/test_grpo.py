"""The trainer around it: who abstains contributes nothing, shown with ms-swift's own call of the rewards, loss and resampling.

On one rank and on two real ones, for which torchrun runs this file; test_grpo_runs.py has `swift rlhf` train with it.
"""

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from overtake.rewards.reward import Run
from overtake.tasks.query_rewrite.rewards.rewrite_rules import RewriteRules
from overtake.trainers.grpo import GRPOTrainer
from swift.rl_core import grpo_algorithm
from swift.rl_core.advantage import compute_advantages
from swift.rl_core.data import GRPOBatch, GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer

NAN = float("nan")
SIZE = 4
WEIGHTS = (1.0, 0.25)
# Two rewards of twelve samples, three groups of four. Two ranks hold six each, so that the second group lies on both.
PLAN = [
    *[(0.9, 0.0), (0.8, 0.0), (None, 0.0), (0.7, 0.0)],  # the third abstains
    *[(None, None)] * 4,  # nothing was measured
    *[(None, 1.0), (None, 0.0), (None, None), (None, 0.0)],  # the first reward is missing for all: the second weighs 1.25
]
KEPT = [0, 1, 3, 8, 9, 11]
# What is measured, as ms-swift takes it for two groups of three: a column for each weight.
ALONE = torch.tensor([[0.9, 0.0, NAN], [0.8, 0.0, NAN], [0.7, 0.0, NAN], [NAN, NAN, 1.0], [NAN, NAN, 0.0], [NAN, NAN, 0.0]])
ALONE_WEIGHTS = torch.tensor([1.0, 0.25, 1.25])
MODES = list(product(["grpo", "rloo", "reinforce_plus_plus"], ["group", "batch", "none", "gdpo"], [False, True]))


class First:
    calls = 0

    def __call__(self, completions, plan, **columns):
        type(self).calls += 1
        return [values[0] for values in plan]


class Second:
    def __call__(self, completions, plan, **columns):
        return [values[1] for values in plan]


def sample(values, prompt="p", request="r"):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    made = GRPOSample.from_row({"messages": turns, "prompt_id": prompt, "request_id": request, "plan": values})
    made.response_token_ids = [5]
    return made


def bare(rank=0, ranks=1, **attributes):
    """Our trainer without a model: what ms-swift reads of itself, set by hand."""
    made = object.__new__(GRPOTrainer)
    made.__dict__.update(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(report_to=[], steps_per_generation=2, generation_batch_size=len(PLAN), delta=None),
        accelerator=SimpleNamespace(
            device=torch.device("cpu"),
            process_index=rank,
            num_processes=ranks,
            is_main_process=True,
            gather_for_metrics=lambda x: x if x.ndim > 1 else x[None],
            reduce=lambda tensor, _: tensor,
        ),
        template=SimpleNamespace(sequence_parallel_size=1, padding_free=False, truncation_strategy="left"),
        state=SimpleNamespace(global_step=1),
        processing_class=SimpleNamespace(eos_token_id=2),
        reward_funcs=[First(), Second()],
        reward_model_plugins=[None, None],
        reward_func_names=["First", "Second"],
        reward_weights=torch.tensor(WEIGHTS),
        num_generations=SIZE,
        num_generations_eval=SIZE,
        scale_rewards="group",
        advantage_estimator="grpo",
        kl_in_reward=False,
        beta=0.5,
        dynamic_num_samples=False,
        dynamic_sample=False,
        max_resample_times=3,
        use_gym_env=False,
        enable_server_multi_turn=False,
        teacher_kl_coef=0.0,
        advantage_reweight=None,
        sdar_loss_coef=0.0,
        _has_teacher=False,
        use_teacher_api=False,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _logs={"advantages": [], "rewards": defaultdict(list)},
    )
    made.__dict__.update(attributes)
    return made


def batches(rows, steps=2):
    """As ms-swift encodes these rows of PLAN: row n has 1 + n % 4 tokens, each n / 100 likelier than the reference has it."""
    made = []
    for chunk in torch.tensor(rows).chunk(steps):
        mask = torch.arange(4) <= (chunk % 4)[:, None]
        old = (chunk / 100)[:, None].expand(-1, 4)
        batch = GRPOBatch(mask, torch.zeros(len(chunk), dtype=torch.bool), mask.sum(1), old, torch.zeros_like(old))
        batch.num_items_in_batch = torch.tensor(30)
        made.append({"grpo_batch": batch})
    return made


def scored(made, rows, plan=PLAN):
    """The batches of these rows after ms-swift's own stages: rewards, resampling, advantages."""
    samples = made._score_completions([sample(plan[row]) for row in rows])
    encoded = batches(rows, made.args.steps_per_generation)
    made._postprocess_batch(samples, encoded)
    return [encode["grpo_batch"] for encode in encoded]


def every_mode(rank, ranks):
    """What this rank's loss would see, by mode."""
    share = len(PLAN) // ranks
    rows = list(range(rank * share, (rank + 1) * share))
    found = {}
    for estimator, scale, kl_in_reward in MODES:
        made = bare(rank, ranks, advantage_estimator=estimator, scale_rewards=scale, kl_in_reward=kl_in_reward and scale != "gdpo")
        done = scored(made, rows)
        found[f"{estimator} {scale} {kl_in_reward}"] = {
            "advantages": torch.cat([batch.advantages for batch in done]).tolist(),
            "tokens": torch.cat([batch.completion_mask.sum(1) for batch in done]).tolist(),
            "all_tokens": [batch.num_items_in_batch.item() for batch in done],
            "logged": made._logs["advantages"],
            "metrics": made._metrics["train"],
        }
    return found


def check(found):
    """Compare every mode with ms-swift on the measured alone; found is that of all ranks, in order."""
    kl = torch.tensor([row / 100 * (1 + row % 4) for row in range(len(PLAN))])
    for estimator, scale, kl_in_reward in MODES:
        ranks = [of_rank[f"{estimator} {scale} {kl_in_reward}"] for of_rank in found]
        alone, totals = compute_advantages(
            ALONE,
            ALONE_WEIGHTS,
            3,
            advantage_estimator=estimator,
            scale_rewards=scale,
            kl_in_reward=kl_in_reward and scale != "gdpo",
            beta=0.5,
            kl_values=kl[KEPT],
        )
        expected = [0.0] * len(PLAN)
        for row, value in zip(KEPT, alone.tolist(), strict=True):
            expected[row] = value
        advantages = [value for of_rank in ranks for value in of_rank["advantages"]]
        # The same for each token of a sample.
        assert advantages == [pytest.approx([value] * 4, abs=1e-5) for value in expected], (estimator, scale, kl_in_reward)
        assert [value for of_rank in ranks for value in of_rank["tokens"]] == [
            1 + row % 4 if row in KEPT else 0 for row in range(len(PLAN))
        ]
        for of_rank in ranks:
            assert of_rank["logged"] == pytest.approx(expected, abs=1e-5)
            assert of_rank["all_tokens"] == [14, 14], "1 2 4, and 1 2 4, on all ranks"
            metrics = of_rank["metrics"]
            assert metrics["reward"] == [pytest.approx(totals.mean().item())]
            spread = totals.std() if scale == "batch" else totals.view(2, 3).std(1).mean()
            assert metrics["reward_std"] == [pytest.approx(spread.item(), abs=1e-6)]
            assert metrics["frac_reward_zero_std"] == [0.0]
            assert metrics["rewards/First/mean"] == [pytest.approx(0.8)] and metrics["rewards/Second/mean"] == [pytest.approx(1 / 7)]
            assert metrics["reward_abstain/First"] == [pytest.approx(9 / 12)]
            assert metrics["reward_abstain/Second"] == [pytest.approx(5 / 12)]


@pytest.fixture(autouse=True)
def alone_in_the_world() -> Iterator[None]:
    """accelerate keeps its state for the process."""
    PartialState._reset_state()
    PartialState(cpu=True)
    yield
    PartialState._reset_state()


def test_on_one_rank_the_measured_get_what_they_would_get_alone():
    check([every_mode(0, 1)])


@pytest.mark.slow
def test_on_two_ranks_that_share_a_group_they_get_the_same(tmp_path):
    """Two processes, gathering over gloo."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__, str(tmp_path)]
    done = subprocess.run(launch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    check([json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)])


def test_a_batch_without_gaps_is_left_to_ms_swift(monkeypatch):
    made = bare()
    plan = [(0.9, 0.0), (0.8, 1.0), (0.5, 0.0), (0.7, 0.0)] * 3
    monkeypatch.setattr("overtake.trainers.abstaining.advantages", None)
    done = scored(made, range(12), plan)
    whole = compute_advantages(torch.tensor(plan), torch.tensor(WEIGHTS), SIZE)[0]
    assert torch.cat([batch.advantages for batch in done])[:, 0].tolist() == whole.tolist()
    assert [batch.num_items_in_batch.item() for batch in done] == [30, 30], "as ms-swift counted"
    assert all(batch.completion_mask.any(1).all() for batch in done)


def test_a_reward_that_weighs_nothing_is_counted_and_no_more():
    made = bare(reward_weights=torch.tensor([0.0, 1.0]))
    done = scored(made, range(12), [(None, 0.5), (None, 1.0), (0.5, 0.0), (None, 0.5)] * 3)
    assert torch.cat([batch.advantages for batch in done])[:4, 0].tolist() == pytest.approx([0, 0.5 / 0.4082, -0.5 / 0.4082, 0], abs=1e-3)
    assert made._metrics["train"]["reward_abstain/First"] == [0.75]


def test_evaluation_has_its_own_group_size_and_metrics():
    made = bare(num_generations_eval=2)
    made.model.training = False
    made._score_completions([sample(values) for values in PLAN])
    made._postprocess_batch([sample(values) for values in PLAN], encoded := batches(range(12), 1))
    # In twos: .9 .8, then - .7, then nothing twice, 1 0 (by 1.25), and - 0.
    expected = [0.7066, -0.7066, 0, 0, 0, 0, 0, 0, 0.7070, -0.7070, 0, 0]
    assert encoded[0]["grpo_batch"].advantages[:, 0].tolist() == pytest.approx(expected, abs=1e-3)
    assert made._metrics["eval"]["reward"] == [pytest.approx((0.9 + 0.8 + 0.7 + 1.25) / 6)]
    assert made._metrics["eval"]["frac_reward_zero_std"] == [0.5]
    assert not made._metrics["train"]


def test_a_curve_has_a_hole_only_where_nothing_at_all_was_measured():
    """ms-swift averages what a log interval collected, so one NaN among numbers would be the whole."""
    made, silent, spoken = bare(), [(None, None)] * 12, [(0.5, 0.0)] * 12
    scored(made, range(12), silent)
    assert [math.isnan(value) for value in made._metrics["train"]["reward"]] == [True]
    scored(made, range(12), spoken)
    assert made._metrics["train"]["reward"] == [0.5]
    scored(made, range(12), silent)
    assert made._metrics["train"]["reward"] == [0.5]
    assert made._metrics["train"]["frac_reward_zero_std"] == [1.0]
    assert made._metrics["train"]["reward_abstain/First"] == [1.0, 0.0, 1.0]


def test_what_the_teacher_measured_stays_in_the_loss():
    made = bare(teacher_kl_coef=2.0)
    made._score_completions([sample(values) for values in PLAN])
    encoded = batches(range(12))
    for encode in encoded:
        encode["grpo_batch"].teacher_per_token_logps = encode["grpo_batch"].old_per_token_logps - 0.25
    made._postprocess_batch([sample(values) for values in PLAN], encoded)
    assert all(encode["grpo_batch"].completion_mask.any(1).all() for encode in encoded)
    assert encoded[0]["grpo_batch"].advantages[2].tolist() == [pytest.approx(-0.5)] * 3 + [0], "three tokens"
    assert encoded[0]["grpo_batch"].num_items_in_batch == 30


def test_requests_of_several_rows_are_grouped_by_prompt_and_counted_once():
    made = bare(dynamic_num_samples=True, num_generations=3, args=SimpleNamespace(report_to=[], steps_per_generation=1))
    plan = [(0.9, 0.0), (None, 0.0), (0.5, 0.0), (None, 0.0), (None, 0.0), (0.7, 0.0), (None, 0.0)]
    names = [("p", "a"), ("p", "b"), ("p", "c"), ("p", "a"), ("q", "d"), ("q", "e"), ("q", "f")]
    samples = [sample(values, *name) for values, name in zip(plan, names, strict=True)]
    made._score_completions(samples)
    made._postprocess_batch(samples, encoded := batches(range(7), 1))
    # .9 (both rows of a) and .5 once each: mean .7, deviation .2828; e has nobody to be compared with.
    one = 0.2 / 0.2828
    assert encoded[0]["grpo_batch"].advantages[:, 0].tolist() == pytest.approx([one, 0, -one, one, 0, 0, 0], abs=1e-3)
    assert encoded[0]["grpo_batch"].completion_mask.any(1).tolist() == [True, False, True, True, False, True, False]
    assert made._metrics["train"]["reward"] == [pytest.approx((0.9 + 0.5 + 0.7) / 3)]
    found = made.compute_std(samples, torch.tensor([[NAN if value is None else value for value in row] for row in plan]))
    assert found.tolist() == pytest.approx([0.2828] * 4 + [0] * 3, abs=1e-4)


# ---------------------------------------------------------------- waiting


@pytest.mark.parametrize("dynamic", [False, True])
def test_what_rewards_ask_is_on_its_way_while_log_probabilities_are_taken(dynamic):
    """Only where no sample is drawn again by what was scored."""
    seen = []

    class Asking:
        def start(self, completions, trainer_state, plan, messages, **columns):
            seen.append(["start", completions, trainer_state.global_step, plan, messages[0][0]["content"]])

        def __call__(self, completions, plan, **columns):
            seen.append("score")
            return [values[0] for values in plan]

    reward = Asking()
    run = Run()
    run.adopt(reward, "Asking")
    made = bare(reward_funcs=[reward, Second()], rewards=run, dynamic_sample=dynamic)
    samples = made._score_completions([sample(values) for values in USEFUL * 3])
    assert seen == (["score"] if dynamic else [["start", ["a"] * 12, 1, USEFUL * 3, "q"]])
    made._postprocess_batch(samples, batches(range(12)))
    assert seen[1:] == ([] if dynamic else ["score"])


# ---------------------------------------------------------------- resampling


@pytest.fixture
def resampling(monkeypatch):
    """A trainer whose next batches are these plans; the completions come as they are."""

    def build(*plans):
        monkeypatch.setattr(SwiftGRPOTrainer, "_generate_completions", lambda self, samples: samples)
        monkeypatch.setattr(First, "calls", 0)
        made = bare(dynamic_sample=True)
        made.to_samples = lambda rows: [sample(values) for values in rows]
        made.dynamic_resample_iterator = iter(plans)
        return made

    return build


SILENT = [(None, None)] * 4
EQUAL = [(0.5, 0.0), (None, 0.0), (0.5, 0.0), (0.5, 0.0)]
USEFUL = [(0.5, 0.0), (None, 0.0), (0.25, 0.0), (0.5, 0.0)]


def test_groups_that_nothing_tells_apart_are_drawn_again(resampling):
    """With None as 0 the first and the second would count as useful."""
    made = resampling(USEFUL + SILENT + USEFUL)
    found = made._score_completions([sample(values) for values in EQUAL + SILENT + USEFUL])
    assert [one.extra["plan"] for one in found] == USEFUL * 3
    assert First.calls == 2


def test_resampling_ends_when_the_service_is_down(resampling):
    made = resampling(*[SILENT * 3] * 10)
    found = made._score_completions([sample(values) for values in SILENT * 3])
    assert [one.extra["plan"] for one in found] == SILENT * 3
    assert First.calls == 1 + 3, "once, and --max_resample_times"


# ---------------------------------------------------------------- loss


def gradient(made, plan, rows, keep_rows=None, likelier=None):
    """The gradient of ms-swift's loss by the log-probability of each token, [rows, 4], old ones lying a little off.

    `likelier`: [4], how many times likelier each token of a completion is to the old policy than to what wrote it.
    """
    done = scored(made, rows, plan)
    if likelier is not None:
        done[0].rollout_per_token_logps = done[0].old_per_token_logps - torch.tensor(likelier).log()
    if keep_rows is not None:  # the batch that would have been without the others
        [batch] = done
        for name in ("completion_mask", "truncated_mask", "seq_lengths", "old_per_token_logps", "ref_per_token_logps", "advantages"):
            setattr(batch, name, getattr(batch, name)[keep_rows])
        rows = keep_rows
    logps = (torch.tensor(rows)[:, None] / 100 + torch.tensor([-0.03, -0.01, 0.02, 0.04])).requires_grad_()
    made._get_per_token_logps_and_entropies = lambda *_, **__: (logps, None)
    loss, _ = made._compute_loss_and_metrics(None, {}, done[0])
    loss.backward()
    return logps.grad


LOSS = {
    "compute_entropy": False,
    "overlong_filter": False,
    "rollout_importance_sampling_mode": None,
    "log_rollout_offpolicy_metrics": False,
    "disable_rollout_importance_sampling": True,
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "off_policy_sequence_mask_delta": None,
    "max_completion_length": 4,
    "chord_sft_iterator": None,
    "model_accepts_loss_kwargs": True,
    "tau_pos": 1.0,
    "tau_neg": 1.05,
}


@pytest.mark.parametrize("loss", ["bnpo", "dapo", "cispo", "grpo", "sapo", "dr_grpo"])
def test_who_abstains_has_no_part_in_the_loss(loss):
    """Policy and KL term: nothing of theirs, and of the others what ms-swift's loss on the measured alone has."""
    args = SimpleNamespace(report_to=[], steps_per_generation=1, delta=None)
    rest = [row for row in range(12) if row not in KEPT]
    made = bare(loss_type=loss, args=args, **LOSS)
    found = gradient(made, PLAN, range(12))
    assert found[rest].abs().max() == 0
    assert found[KEPT].abs().sum(1).min() > 0
    alone = gradient(made, PLAN, range(12), KEPT)
    # These divide by tokens, the others by samples, whether they abstain or not.
    share = 1 if loss in ("bnpo", "dapo", "cispo") else len(KEPT) / 12
    assert found[KEPT].flatten().tolist() == pytest.approx((alone * share).flatten().tolist(), abs=1e-6)


def test_a_step_in_which_nothing_was_measured_has_no_gradient():
    args = SimpleNamespace(report_to=[], steps_per_generation=1, delta=None)
    for loss in ("grpo", "dapo"):
        assert gradient(bare(loss_type=loss, args=args, **LOSS), [(None, None)] * 12, range(12)).abs().max() == 0


def test_a_token_counts_by_how_much_likelier_the_trained_model_finds_it_and_at_most_twice():
    """As the recipes set it where vLLM writes; who abstains still has no part."""
    args = SimpleNamespace(report_to=[], steps_per_generation=1, delta=None)
    corrects = {"rollout_importance_sampling_mode": "token_truncate", "rollout_importance_sampling_threshold": 2.0}
    corrects["disable_rollout_importance_sampling"] = False
    plain = gradient(bare(loss_type="grpo", args=args, **LOSS), PLAN, range(12))
    found = gradient(bare(loss_type="grpo", args=args, **LOSS | corrects), PLAN, range(12), likelier=[0.5, 1.0, 1.5, 5.0])
    assert found[KEPT].flatten().tolist() == pytest.approx((plain * torch.tensor([0.5, 1.0, 1.5, 2.0]))[KEPT].flatten().tolist())
    assert found[[row for row in range(12) if row not in KEPT]].abs().max() == 0


# ---------------------------------------------------------------- other


def test_an_empty_completion_becomes_the_end_token(monkeypatch):
    monkeypatch.setattr(SwiftGRPOTrainer, "_generate_completions", lambda self, samples: samples)
    samples = [sample((0.5, 0.5)), sample((0.5, 0.5))]
    samples[0].response_token_ids = []
    assert [one.response_token_ids for one in bare()._generate_completions(samples)] == [[2], [5]]


def test_rewards_take_the_call_that_ms_swift_makes():
    class Broken:
        def __call__(self, completions, **columns):
            assert columns["trainer_state"].global_step == 3
            return [None, 0.5]

    def rewrite(text, prompt):
        turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": text}]
        return GRPOSample.from_row({"messages": turns, "prompt_id": prompt, "rag_query": "睡不着咋办", "dataset": "train.jsonl"})

    found = grpo_algorithm.compute_rewards_per_func(
        [rewrite("失眠 褪黑素 作用", "p0"), rewrite("睡不着，咋办", "p0")],
        [RewriteRules(args=None), Broken()],
        None,
        torch.device("cpu"),
        SimpleNamespace(global_step=3),
    )
    assert found[:, 0].tolist() == [0.0, -1.0]
    assert torch.isnan(found[0, 1]) and found[1, 1] == 0.5


if __name__ == "__main__":
    world = PartialState(cpu=True)
    mine = every_mode(world.process_index, world.num_processes)
    (Path(sys.argv[1]) / f"{world.process_index}.json").write_text(json.dumps(mine), encoding="utf-8")
