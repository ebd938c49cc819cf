"""A prompt computed once a group gives what ms-swift's own way gives, log-probabilities and gradients, and is left where it cannot.

On one rank and on two real ones (DDP, ZeRO-2, ZeRO-3), for which torchrun runs this file.
"""

import os
import random
import subprocess
import sys
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from overtake.trainers import grpo, prompt_once
from overtake.trainers.grpo import GRPOTrainer
from peft import IA3Config, LoraConfig, get_peft_model
from swift.rl_core.data import GRPOBatch, GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

CONFIGS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}
WORDS = 97
PAD = 0


def tiny(kind="qwen3", tuner="full", seed=0, **numbers):
    """A random model of two layers that trains."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CONFIGS[kind](**sizes | {"num_key_value_heads": 2, "head_dim": 8, "attn_implementation": "sdpa"} | numbers)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=numbers.get("attn_implementation", "sdpa"))
    # Random weights this small would make every distribution the same flat one.
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    if tuner == "lora":
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.2)
    return model.train()


def trainer(once=True, **attributes):
    """Our trainer without a run: what the log-probabilities ask of it, set by hand."""
    made = object.__new__(GRPOTrainer)
    made.__dict__.update(
        _prompt_once=once,
        _uncovered={},
        temperature=0.7,
        is_multimodal=False,
        model_kwarg_keys={"use_cache", "logits_to_keep"},
        template=SimpleNamespace(padding_free=False, sequence_parallel_size=1),
        accelerator=SimpleNamespace(unwrap_model=lambda model: getattr(model, "module", model), is_main_process=True),
    )
    made.__dict__.update(attributes)
    return made


def batch_of(groups, side="right", abstaining=(), holes=()):
    """(model_inputs, grpo_batch) as ms-swift collates these (prompt, completions).

    `holes`: (row, token of the completion) that are not scored, as what a tool said is not.
    """
    rows = [(prompt, completion) for prompt, completions in groups for completion in completions]
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, attended, positions, scored = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(4))
    for row, (prompt, completion) in enumerate(rows):
        count = len(prompt) + len(completion)
        start = 0 if side == "right" else length - count
        here = slice(start, start + count)
        ids[row, here] = torch.tensor([*prompt, *completion])
        attended[row, here] = 1
        positions[row, here] = torch.arange(count)
        scored[row, start + len(prompt) : start + count] = 1
        for hole in [token for at, token in holes if at == row]:
            scored[row, start + len(prompt) + hole] = 0
    kept = int((length - scored.argmax(1)).max())
    mask = scored[:, -kept:].bool()
    for row in abstaining:
        mask[row] = False
    inputs = {"input_ids": ids, "attention_mask": attended} | ({"position_ids": positions} if side == "left" else {})
    return inputs, GRPOBatch(mask, torch.zeros(len(rows), dtype=torch.bool), mask.sum(1), logits_to_keep=kept)


def drawn(seed):
    """Groups of one to five completions of one to nine tokens behind prompts of one to twelve, some of which begin alike."""
    chance = random.Random(seed)
    common = [chance.randrange(1, WORDS) for _ in range(4)]
    groups = []
    for number in range(chance.randint(2, 4)):
        prompt = [chance.randrange(1, WORDS) for _ in range(chance.randint(1, 12))]
        prompt = common + prompt if chance.random() < 0.5 else prompt
        size = chance.randint(2, 5) if number == 0 else chance.randint(1, 5)
        groups.append((prompt, [[chance.randrange(1, WORDS) for _ in range(chance.randint(1, 9))] for _ in range(size)]))
    return groups


def passes(model, inputs, batch, weights, *, once, entropy=True):
    """(log-probabilities, entropies, gradient of each weight) of a loss that gives each token its own weight."""
    model.zero_grad()
    given = {name: value.clone() for name, value in inputs.items()}
    found, spread = trainer(once)._get_per_token_logps_and_entropies_single(model, given, batch, compute_entropy=entropy)
    loss = (found * weights * batch.completion_mask).sum()
    if entropy:
        loss = loss + (spread * weights.flip(1) * batch.completion_mask).sum()
    loss.backward()
    return found.detach(), spread, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def apart(one, other):
    """The difference of two gradients, of all weights together and of the one that differs most, relative to the first's norm."""
    assert one.keys() == other.keys()
    whole = torch.cat([grad.flatten() for grad in one.values()])
    off = {name: (one[name] - other[name]).norm() for name in one}
    return max(
        (torch.stack([*off.values()]).norm() / whole.norm()).item(),
        max((off[name] / one[name].norm()).item() for name in one if one[name].norm() > 1e-4 * whole.norm()),
    )


def agree(model, inputs, batch, seed=0):
    torch.manual_seed(seed)
    weights = torch.randn(batch.completion_mask.shape)
    packed = prompt_once.pack(inputs["input_ids"], inputs["attention_mask"], batch.completion_mask)
    assert packed is not None, "no prompt is shared, so nothing would be compared"
    want, want_spread, want_grads = passes(model, inputs, batch, weights, once=False)
    found, spread, grads = passes(model, inputs, batch, weights, once=True)
    mask = batch.completion_mask
    assert (found - want)[mask].abs().max() < 1e-4
    assert (spread - want_spread)[mask].abs().max() < 1e-4
    assert apart(want_grads, grads) < 1e-3
    return packed


@pytest.mark.parametrize(("kind", "tuner", "side"), [*product(CONFIGS, ["full", "lora"], ["left", "right"])])
def test_log_probabilities_entropies_and_gradients_are_ms_swifts(kind, tuner, side):
    for seed in range(6):
        model, groups = tiny(kind, tuner, seed), drawn(seed)
        count = sum(len(completions) for _, completions in groups)
        chance = random.Random(seed + 100)
        abstaining = [row for row in range(2, count) if chance.random() < 0.25]  # the first group's first two stay
        agree(model, *batch_of(groups, side, abstaining), seed)


@pytest.mark.parametrize(("kind", "tuner", "reentrant"), [*product(CONFIGS, ["full", "lora"], [True, False])])
def test_gradients_are_ms_swifts_under_gradient_checkpointing(kind, tuner, reentrant):
    model = tiny(kind, tuner)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    agree(model, *batch_of(drawn(3)))


def test_what_a_tool_said_between_is_read_and_not_scored():
    inputs, batch = batch_of([([1, 2, 3], [[4, 5, 6, 7, 8], [9, 10, 11]]), ([5], [[6, 7]])], holes=[(0, 1), (0, 2), (1, 1)])
    packed = agree(tiny(), inputs, batch)
    assert len(packed.tokens) == 3 + 2 + 2


def test_prompt_and_what_is_read_of_completions_are_packed_once():
    prompt, completions = [*range(1, 11)], [[20, 21, 22], [30], [40, 41]]
    inputs, batch = batch_of([(prompt, completions)], "left")
    packed = prompt_once.pack(inputs["input_ids"], inputs["attention_mask"], batch.completion_mask)
    assert packed.input_ids.tolist() == [[*prompt, 20, 21, 40]]
    assert packed.position_ids.tolist() == [[*range(10), 10, 11, 10]]
    # The three first tokens are read off one place, the prompt's last.
    assert packed.read.tolist() == [9, 10, 11, 12]


def test_completions_of_one_token_need_their_prompt_only():
    inputs, batch = batch_of([([1, 2, 3], [[4], [5]])])
    assert agree(tiny(), inputs, batch).input_ids.shape == (1, 3)


def test_who_abstains_is_not_computed_and_has_the_ratio_one():
    inputs, batch = batch_of([([1, 2, 3], [[4, 5], [6, 7], [8, 9]])], abstaining=[1])
    batch.old_per_token_logps = torch.full(batch.completion_mask.shape, -3.0)
    found, _ = trainer()._get_per_token_logps_and_entropies_single(tiny(), inputs, batch)
    assert found[1].tolist() == [-3.0, -3.0]
    packed = prompt_once.pack(inputs["input_ids"], inputs["attention_mask"], batch.completion_mask)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 8]]


@pytest.mark.parametrize("abstaining", [range(4), [1, 3]])
def test_a_batch_of_which_no_two_share_a_prompt_is_ms_swifts_own_affair(abstaining):
    groups = [([1, 2, 3], [[4, 5], [6, 7]]), ([1, 2], [[4, 5], [6, 7]])]
    inputs, batch = batch_of(groups, abstaining=abstaining)
    found, _ = trainer()._get_per_token_logps_and_entropies_single(tiny(), dict(inputs), batch)
    want, _ = trainer(False)._get_per_token_logps_and_entropies_single(tiny(), dict(inputs), batch)
    assert torch.equal(found, want)


def test_in_bfloat16_what_was_scored_is_nearer_to_float32_than_ms_swifts():
    model, (inputs, batch) = tiny(), batch_of(drawn(1))
    want = trainer(False)._get_per_token_logps_and_entropies_single(model, dict(inputs), batch)[0]
    model = model.to(torch.bfloat16)
    off = [
        (trainer(once)._get_per_token_logps_and_entropies_single(model, dict(inputs), batch)[0].float() - want)[batch.completion_mask]
        for once in (True, False)
    ]
    assert off[0].abs().mean() < 1.05 * off[1].abs().mean()


# ---------------------------------------------------------------- where it cannot be


class Own(torch.nn.Module):
    """A language model of nobody's."""


UNCOVERED = {
    "attention dropout": (lambda: tiny(attention_dropout=0.1), "dropout"),
    "LoRA dropout": (lambda: get_peft_model(tiny(), LoraConfig(target_modules="all-linear", lora_dropout=0.1)), "dropout"),
    "other adapters": (
        lambda: get_peft_model(tiny(), IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
        "IA3",
    ),
    "another attention": (lambda: tiny(attn_implementation="eager"), "eager"),
    "a sliding window": (lambda: tiny("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0), "sliding"),
    "positions by length": (lambda: tiny(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
    "another family": (
        lambda: AutoModelForCausalLM.from_config(GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0)),
        "gpt2",
    ),
    "no transformers model": (Own, "Own"),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_a_model_that_is_not_covered_goes_ms_swifts_way_and_says_so_once(name, monkeypatch):
    made, reason = UNCOVERED[name]
    model, said = made(), []
    monkeypatch.setattr(grpo.logger, "warning", said.append)
    ways = []
    monkeypatch.setattr(SwiftGRPOTrainer, "_get_per_token_logps_and_entropies_single", lambda *_: ways.append("whole") or (None, None))
    run, (inputs, batch) = trainer(), batch_of([([1, 2], [[3], [4]])])
    for _ in range(3):
        run._get_per_token_logps_and_entropies_single(model, inputs, batch)
    assert ways == ["whole"] * 3
    assert len(said) == 1 and reason in said[0] and "OVERTAKE_PROMPT_ONCE" in said[0]


@pytest.mark.parametrize(
    ("attributes", "inputs"),
    [
        ({"is_multimodal": True}, {}),
        ({"template": SimpleNamespace(padding_free=True, sequence_parallel_size=1)}, {}),
        ({"template": SimpleNamespace(padding_free=False, sequence_parallel_size=2)}, {}),
        ({}, {"pixel_values": torch.zeros(1)}),
    ],
)
def test_a_run_that_is_not_covered_goes_ms_swifts_way(attributes, inputs, monkeypatch):
    said = []
    monkeypatch.setattr(grpo.logger, "warning", said.append)
    monkeypatch.setattr(SwiftGRPOTrainer, "_get_per_token_logps_and_entropies_single", lambda *_: ("whole", None))
    given, batch = batch_of([([1, 2], [[3], [4]])])
    run = trainer(**attributes)
    assert [run._get_per_token_logps_and_entropies_single(tiny(), given | inputs, batch)[0] for _ in range(1)] == ["whole"]
    assert len(said) == 1


def test_an_attention_of_ones_own_is_noticed_and_the_whole_rows_are_taken(monkeypatch):
    said = []
    monkeypatch.setattr(grpo.logger, "warning", said.append)
    model, (inputs, batch) = tiny(), batch_of([([1, 2, 3], [[4, 5], [6, 7]])])
    for layer in model.model.layers:
        own = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, own=own, prompt_once=None, **kwargs: own(*args, **kwargs)
    found, _ = trainer()._get_per_token_logps_and_entropies_single(model, dict(inputs), batch)
    want, _ = trainer(False)._get_per_token_logps_and_entropies_single(model, dict(inputs), batch)
    assert torch.equal(found, want)
    assert len(said) == 1 and "attention" in said[0]


def test_rows_attended_with_gaps_are_left_to_ms_swift():
    inputs, batch = batch_of([([1, 2, 3], [[4, 5], [6, 7]])])
    inputs["attention_mask"][0, 1] = 0
    assert prompt_once.pack(inputs["input_ids"], inputs["attention_mask"], batch.completion_mask) is None


def test_a_model_without_a_packed_batch_attends_as_ever():
    model, (inputs, _) = tiny(), batch_of(drawn(2))
    want = model(**inputs).logits
    prompt_once.accept()
    assert torch.equal(model(**inputs).logits, want)


# ---------------------------------------------------------------- nothing for nothing


def preparing(**attributes):
    """A trainer whose rollouts have one update each, unless attributes say otherwise, and who was asked for what."""
    asked = []
    made = trainer(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(steps_per_generation=2, gradient_accumulation_steps=2),
        num_iterations=1,
        beta=0.0,
        kl_in_reward=False,
        use_liger_loss=False,
        compute_entropy=False,
        dynamic_num_samples=False,
        loss_type="grpo",
    )
    made.__dict__.update(attributes)
    made.asked = asked
    return made


def sample(prompt, tokens, **columns):
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "a"}]
    made = GRPOSample.from_row({"messages": turns, **columns})
    made.response_token_ids = [5] * tokens
    return made


def prepared(made, monkeypatch, samples):
    """What ms-swift's own preparation got for two batches: old, reference."""
    monkeypatch.setattr(SwiftGRPOTrainer, "_get_per_token_logps_and_entropies", lambda *_, **__: ("computed", None))

    def prepare(self, samples):
        found = []
        for _ in range(2):
            batch = SimpleNamespace()
            old = self._get_per_token_logps_and_entropies(None, {}, batch)[0]
            found.append((old, self._get_per_token_logps_and_entropies(None, {}, batch)[0]))
        return found

    monkeypatch.setattr(SwiftGRPOTrainer, "_prepare_batch_inputs", prepare)
    found = made._prepare_batch_inputs(samples)
    # Training, which comes next, is never without.
    assert made._get_per_token_logps_and_entropies(None, {}, SimpleNamespace())[0] == "computed"
    return found


TWO = [sample("q", 1), sample("q", 2)]
NEEDED = {
    "several passes over a rollout": {"num_iterations": 2},
    "several updates a rollout": {"args": SimpleNamespace(steps_per_generation=4, gradient_accumulation_steps=2)},
    "the KL in the reward": {"kl_in_reward": True, "beta": 0.1},
    "liger's loss": {"use_liger_loss": True},
    "a teacher": {"_teacher_use_disable_adapter": True},
}


def test_the_old_log_probabilities_of_a_rollout_with_one_update_are_left_out(monkeypatch):
    assert prepared(preparing(), monkeypatch, TWO) == [(None, "computed")] * 2


@pytest.mark.parametrize("reason", NEEDED)
def test_the_old_log_probabilities_are_taken_where_they_count(reason, monkeypatch):
    assert prepared(preparing(**NEEDED[reason]), monkeypatch, TWO) == [("computed", "computed")] * 2


def test_the_old_log_probabilities_are_taken_where_the_policy_is_told_more_as_its_own_teacher(monkeypatch):
    assert prepared(preparing(), monkeypatch, [TWO[0], sample("q", 1, teacher_prompt="q and its answer")]) == [("computed", "computed")] * 2


def test_in_an_evaluation_the_old_log_probabilities_are_left_out(monkeypatch):
    made = preparing(model=SimpleNamespace(training=False), num_iterations=4)
    assert prepared(made, monkeypatch, TWO) == [(None, "computed")] * 2


def test_batches_hold_rows_of_like_length_and_whole_groups_where_they_can():
    samples = [sample("short", 3), sample("short", 9), sample("a long question", 1), sample("a long question", 7)]
    made = preparing()
    made._order = made._by_length(samples)
    chunks = made.split_by_mini_batches(samples)
    assert [[one.response_token_ids.count(5) for one in chunk] for chunk in chunks] == [[7, 1], [9, 3]]
    # What belongs to the samples is cut alike.
    assert made.split_by_mini_batches(["a", "b", "c", "d"]) == [["d", "c"], ["b", "a"]]


def test_no_row_moves_into_another_update():
    made = preparing(args=SimpleNamespace(steps_per_generation=4, gradient_accumulation_steps=2))
    samples = [sample("q", tokens) for tokens in (1, 2, 3, 4, 9, 8, 7, 6)]
    assert made._by_length(samples) == [3, 2, 1, 0, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "attributes",
    [
        {"args": SimpleNamespace(steps_per_generation=1, gradient_accumulation_steps=1)},
        {"loss_type": "bnpo"},
        {"loss_type": "real"},
        {"compute_entropy": True},
        {"dynamic_num_samples": True},
        {"kl_in_reward": True, "beta": 0.1},
        {"model": SimpleNamespace(training=False)},
        {"template": SimpleNamespace(padding_free=False, sequence_parallel_size=2)},
    ],
)
def test_rows_stay_in_their_order_where_it_counts(attributes):
    assert preparing(**attributes)._by_length([sample("q", 1), sample("q", 2)]) is None


# ---------------------------------------------------------------- two ranks

# Two ranks of six rows: the second group lies on both, and of the last all but one abstain on rank 1.
GROUPS = [
    ([1, 2, 3, 4, 5, 6], [[7, 8, 9], [10], [11, 12, 13, 14], [15, 16]]),
    ([1, 2, 3, 20], [[21, 22], [23, 24, 25], [26], [27, 28, 29, 30]]),
    ([31, 32], [[33], [34, 35], [36, 37, 38], [39]]),
]
ABSTAINING = [5, 9, 10, 11]


LAYOUTS = ("ddp", "zero2", "zero3")


def on_a_rank(out):
    """Train one step of plain gradient descent in every layout, each rank with its rows; write the weights from both ways."""
    import deepspeed

    deepspeed.init_distributed("gloo")
    rank = torch.distributed.get_rank()
    weights = {layout: weights_after_a_step(layout, rank) for layout in LAYOUTS}
    if rank == 0:
        torch.save(weights, out)


def weights_after_a_step(layout, rank):
    """Return this rank's model after its step, by tuner and way, and before it."""
    import deepspeed

    found = {}
    for tuner, once in product(["full", "lora"], [True, False]):
        model = tiny(tuner=tuner)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
        inputs, batch = batch_of(GROUPS, abstaining=ABSTAINING)
        mine = slice(6 * rank, 6 * rank + 6)
        inputs = {name: value[mine] for name, value in inputs.items()}
        batch = GRPOBatch(
            batch.completion_mask[mine], batch.truncated_mask[mine], batch.seq_lengths[mine], logits_to_keep=batch.logits_to_keep
        )
        names = [name for name, weight in model.named_parameters() if weight.requires_grad]
        torch.manual_seed(rank)
        weights = torch.randn(batch.completion_mask.shape)
        if "zero" in layout:
            engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1.0),
                config={
                    "train_micro_batch_size_per_gpu": 1,
                    "zero_optimization": {"stage": int(layout[-1]), "stage3_param_persistence_threshold": 0},
                    "zero_allow_untested_optimizer": True,
                },
            )
        else:
            engine = torch.nn.parallel.DistributedDataParallel(model)
        logps, _ = trainer(once)._get_per_token_logps_and_entropies_single(engine, inputs, batch)
        loss = (logps * weights * batch.completion_mask).sum()
        if "zero" in layout:
            engine.backward(loss)
            engine.step()
        else:
            loss.backward()
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.grad is not None:
                        weight -= weight.grad
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            found[f"{tuner} {once}"] = {name: weight.detach().clone() for name, weight in model.named_parameters() if name in names}
            found[f"{tuner} before"] = {
                name: weight.detach().clone() for name, weight in tiny(tuner=tuner).named_parameters() if name in names
            }
    return found


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two processes have after a step, by layout: started once, for most of their time is imports."""
    out = tmp_path_factory.mktemp("ranks") / "out.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", __file__, str(out)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return torch.load(out)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_ranks_that_share_a_group_step_as_two_ranks_by_ms_swifts_way(layout, two_ranks):
    found = two_ranks[layout]
    for tuner in ("full", "lora"):
        steps = [
            {name: weight - found[f"{tuner} before"][name] for name, weight in found[f"{tuner} {once}"].items()} for once in (False, True)
        ]
        assert all(step.norm() > 0 for name, step in steps[0].items() if "embed" not in name)
        assert apart(*steps) < 1e-3


if __name__ == "__main__":
    on_a_rank(*sys.argv[1:])
