"""PPO's trainer: `swift rlhf` in this process on a tiny model with given completions, and the same update done by hand.

The hand has its own arithmetic: no padding, no batches, sums written out, plain gradient descent. A number that PPO takes is honoured when
both agree on all weights after several steps, and the hand without the change does not.
"""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from overtake import settings
from overtake.trainers import critic, ppo
from overtake.trainers.ppo_arguments import _OTHERS, _absent, as_grpo

NAN = float("nan")
README = Path(__file__).resolve().parents[2] / "docs/learning.md"
FLAGS = """
    --rlhf_type ppo --model_type qwen3 --template qwen3 --torch_dtype float32 --fp16 false --bf16 false --tuner_type full
    --use_cpu true --check_model false --add_version false --max_length 256 --num_generations 1 --save_strategy no --eval_strategy no
    --logging_steps 1 --report_to none --gradient_checkpointing false --dataloader_num_workers 0 --lr_scheduler_type constant
    --warmup_ratio 0 --optim sgd --weight_decay 0 --seed 7 --reward_funcs given --max_completion_length 6
"""
# The completion, its score, whether it was cut off; lengths differ, one has a single token.
PLAN = [
    ([300, 301, 302, 303], 1.0, False),
    ([310], -0.5, False),
    ([320, 321, 322, 323, 324, 325], 0.25, True),
    ([330, 331], 2.0, False),
    ([340, 341, 342], 0.0, False),
    ([350, 351, 352, 353, 354, 355], 0.75, True),
    ([360, 361, 362, 363, 364], -1.0, False),
    ([370, 371], 0.5, False),
]
BASE = {
    "learning_rate": 0.05,
    "critic_lr": 0.2,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "cliprange": 0.1,
    "cliprange_value": 0.2,
    "vf_coef": 0.5,
    "entropy": 0.01,
    "gamma": 0.99,
    "lam": 0.9,
    "kl_coef": 0.3,
    "max_grad_norm": 0.8,
    "temperature": 0.7,
    "whiten_rewards": False,
    "missing_eos_penalty": None,
    "max_steps": 4,
}
SETTINGS = ("critic_lr", "entropy", "target_kl")


class Given:
    """The score that stands in the row."""

    def __init__(self, args=None, **_):
        pass

    def __call__(self, completions, score, **columns):
        return score


class Scripted(ppo.PPOTrainer):
    """Writes the completions that the rows name, and remembers what was done with them."""

    made: list["Scripted"] = []  # noqa: RUF012 (of the process)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen, self.norms, self.steps, self.rollouts = [], [], [], []
        self.made.append(self)

    def _generate_completions(self, samples):
        samples = self._preprocess_inputs(samples)
        for sample in samples:
            ids = sample.extra["tokens"]
            sample.messages.append({"role": "assistant", "content": self.processing_class.decode(ids)})
            sample.response_token_ids, sample.finish_reason = list(ids), "length" if sample.extra["cut"] else "stop"
        return samples

    def _postprocess_batch(self, samples, batch_encoded_inputs):
        super()._postprocess_batch(samples, batch_encoded_inputs)
        places = self.split_by_mini_batches([sample.extra["place"] for sample in samples])
        for encoded, of_batch in zip(batch_encoded_inputs, places, strict=True):
            encoded["grpo_batch"].places = of_batch
        self.rollouts.append([encoded["grpo_batch"] for encoded in batch_encoded_inputs])

    def _compute_loss(self, model, model_inputs, grpo_batch, origin_data=None):
        loss = super()._compute_loss(model, model_inputs, grpo_batch, origin_data)
        self.seen.append((model_inputs["input_ids"], grpo_batch, loss.detach()))
        return loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory, student):
    """Policy, reference and a critic that already expects something."""
    folder = tmp_path_factory.mktemp("ppo")
    torch.manual_seed(1)
    made = critic.from_model(str(student(20, 32)))
    torch.nn.init.normal_(made.score.weight, std=0.3)
    made.save_pretrained(folder / "critic")
    return SimpleNamespace(policy=student(20, 32), reference=student(21, 32), critic=folder / "critic")


@pytest.fixture
def play(folder, tmp_path, monkeypatch):
    """play(plan, *flags, **numbers) -> the trainer after `swift rlhf` with these numbers instead of BASE's."""
    import overtake
    from swift.pipelines import rlhf_main
    from swift.rewards import orms

    overtake.register()
    monkeypatch.setitem(orms, "given", Given)
    monkeypatch.setattr(ppo, "PPOTrainer", Scripted)
    monkeypatch.setattr(Scripted, "made", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of a model this small more of them only wait for each other

    def play(plan=PLAN, *flags, **numbers):
        numbers = BASE | numbers
        rows = [
            {"messages": [{"role": "user", "content": "问" * (1 + place % 3)}], "place": place, "tokens": ids, "score": score, "cut": cut}
            for place, (ids, score, cut) in enumerate(plan)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        monkeypatch.setenv("OVERTAKE_CRITIC", str(folder.critic))
        for name in SETTINGS:
            monkeypatch.setenv(f"OVERTAKE_{name.upper()}", str(numbers.get(name, 0)))
        settings.load.cache_clear()
        PartialState._reset_state()
        AcceleratorState._reset_state(True)
        words = [*FLAGS.split(), "--model", folder.policy]
        if "lora" not in flags:
            words += ["--ref_model", folder.reference, "--ref_model_type", "qwen3"]
        words += ["--dataset", tmp_path / "rows.jsonl", "--output_dir", tmp_path / "out"]
        words += [word for name, value in numbers.items() if name not in SETTINGS and value is not None for word in (f"--{name}", value)]
        rlhf_main([str(word) for word in [*words, *flags]])
        return Scripted.made[-1]

    yield play
    torch.set_num_threads(threads)
    settings.load.cache_clear()
    PartialState._reset_state()
    AcceleratorState._reset_state(True)


# ---------------------------------------------------------------- by hand


def by_hand(folder, trainer, plan=PLAN, **numbers):
    """Policy and critic after the same mini-batches, and the loss of each; the numbers are those that hold."""
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

    number = SimpleNamespace(**(BASE | numbers))
    policy, reference = (AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32) for one in (folder.policy, folder.reference))
    value_model = AutoModelForTokenClassification.from_pretrained(folder.critic, dtype=torch.float32)
    prompts = prompts_of(trainer, plan)
    measured = [place for place, (_, score, _) in enumerate(plan) if score is not None]

    def words(model, place):
        """(log-probability of each token, entropy before each)"""
        ids = plan[place][0]
        logits = model(torch.tensor([prompts[place] + ids])).logits[0, len(prompts[place]) - 1 : -1] / number.temperature
        spread = logits.log_softmax(-1)
        return spread[range(len(ids)), ids], -(spread.exp() * spread).sum(-1)

    def worth(place):
        ids = plan[place][0]
        return value_model(torch.tensor([prompts[place] + ids])).logits[0, len(prompts[place]) - 1 : -1, 0]

    with torch.no_grad():
        old = {place: words(policy, place)[0] for place in measured}
        entropy_at_first = torch.cat([words(policy, place)[1] for place in measured]).mean().item()
        apart = {place: old[place] - words(reference, place)[0] for place in measured}
        values = {place: worth(place) for place in measured}
    rewards = {place: -number.kl_coef * apart[place] for place in measured}
    for place in measured:
        _, score, cut = plan[place]
        rewards[place][-1] += score - (number.missing_eos_penalty or 0.0) * cut
    if number.whiten_rewards:
        every = torch.cat(list(rewards.values()))
        rewards = {place: (one - every.mean()) / (every.var() + 1e-8).sqrt() + every.mean() for place, one in rewards.items()}
    advantages = {}
    for place in measured:
        reward, value = rewards[place], values[place]
        end = len(reward)
        delta = [reward[t] + number.gamma * (value[t + 1] if t + 1 < end else 0) - value[t] for t in range(end)]
        summed = [sum((number.gamma * number.lam) ** (later - t) * delta[later] for later in range(t, end)) for t in range(end)]
        advantages[place] = torch.stack(summed)
    returns = {place: advantages[place] + values[place] for place in measured}
    every = torch.cat(list(advantages.values()))
    advantages = {place: (one - every.mean()) / (every.var() + 1e-8).sqrt() for place, one in advantages.items()}

    norms, size = [], number.gradient_accumulation_steps
    batches = [batch.places for _, batch, _ in trainer.seen][: number.num_ppo_epochs * number.num_mini_batches * size]
    for step in range(0, len(batches), size):
        places = [place for batch in batches[step : step + size] for place in batch if place in measured]
        terms, tokens = [], sum(len(plan[place][0]) for place in places)
        for place in places:
            new, entropy = words(policy, place)
            ratio, value = (new - old[place]).exp(), worth(place)
            lowest = torch.where(advantages[place] > 0, ratio.clamp(max=1 + number.cliprange), ratio.clamp(min=1 - number.cliprange))
            near = torch.clamp(value, values[place] - number.cliprange_value, values[place] + number.cliprange_value)
            error = torch.maximum((value - returns[place]) ** 2, (near - returns[place]) ** 2)
            terms.append((-advantages[place] * lowest + number.vf_coef * error - number.entropy * entropy).sum() / tokens)
        if not terms:
            continue
        policy.zero_grad(), value_model.zero_grad()
        sum(terms).backward()
        groups = [(number.learning_rate, policy), (number.critic_lr, value_model)]
        weights = [(rate, weight) for rate, model in groups for weight in model.parameters()]
        norm = sum(weight.grad.square().sum() for _, weight in weights).sqrt()
        norms.append(norm.item())
        shrink = min(1.0, number.max_grad_norm / (norm.item() + 1e-6))
        with torch.no_grad():
            for rate, weight in weights:
                weight -= rate * shrink * weight.grad
    return SimpleNamespace(policy=policy, critic=value_model, norms=norms, entropy_at_first=entropy_at_first)


def prompts_of(trainer, plan):
    """The prompt's ids of each place, taken out of what the model was given."""
    found = {}
    for ids, batch, _ in trainer.seen:
        for row, place in zip(ids.tolist(), batch.places, strict=True):
            text = row[: len(row)]
            own = plan[place][0]
            at = next(start for start in range(len(text)) if text[start : start + len(own)] == own)
            pad = trainer.processing_class.pad_token_id
            found[place] = [one for one in text[:at] if one != pad]
    return found


def weights(model):
    return torch.cat([weight.detach().flatten() for _, weight in sorted(model.named_parameters())])


def of_policy(trainer):
    return torch.cat([weight.detach().flatten() for name, weight in sorted(trainer.model.named_parameters()) if "critic." not in name])


def apart(trainer, hand):
    """The largest difference of a weight, of policy and of critic."""
    found = (of_policy(trainer) - weights(hand.policy)).abs().max(), (weights(trainer.model.critic) - weights(hand.critic)).abs().max()
    return found[0].item(), found[1].item()


CHANGES = [
    {},
    {"learning_rate": 0.1},
    {"critic_lr": 0.05},
    {"num_ppo_epochs": 4, "max_steps": 8},
    {"cliprange": 0.02},
    {"cliprange_value": 0.01},
    {"vf_coef": 0.1},
    {"entropy": 0.5},
    {"gamma": 0.5},
    {"lam": 0.3},
    {"kl_coef": 0.0},
    {"max_grad_norm": 0.2},
    {"whiten_rewards": True},
    {"missing_eos_penalty": 3.0},
    {"temperature": 1.3},
    {"num_mini_batches": 1, "max_steps": 2, "gradient_accumulation_steps": 4},
    {"num_mini_batches": 4, "max_steps": 8, "gradient_accumulation_steps": 1},
    {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: " ".join(map(str, change)) or "base")
def test_every_number_is_honoured(play, folder, change):
    trainer = play(**change)
    number = BASE | change
    assert len(trainer.seen) == number["num_ppo_epochs"] * number["num_mini_batches"] * number["gradient_accumulation_steps"]
    assert len(trainer.rollouts) == 1
    policy, value = apart(trainer, by_hand(folder, trainer, **change))
    assert policy < 1e-5 and value < 1e-5
    if change:
        # The hand that knows nothing of the change comes out elsewhere.
        missed = max(apart(trainer, by_hand(folder, trainer)))
        assert missed > 1e-4


# ---------------------------------------------------------------- who was not measured

GAPS = [(ids, None if place in (0, 3, 5) else score, cut) for place, (ids, score, cut) in enumerate(PLAN)]
STRICT = {"whiten_rewards": True, "missing_eos_penalty": 0.5}


def test_who_was_not_measured_has_no_part_in_anything(play, folder):
    """The hand knows of the others only: loss, both whitenings, the number of tokens; and so do the statistics."""
    trainer = play(GAPS, **STRICT)
    hand = by_hand(folder, trainer, GAPS, **STRICT)
    assert max(apart(trainer, hand)) < 1e-5
    logged = trainer.state.log_history[0]
    scores = torch.tensor([score for _, score, _ in GAPS if score is not None])
    assert logged["reward"] == pytest.approx(scores.mean().item())
    assert logged["reward_std"] == pytest.approx(scores.std().item())
    assert logged["rewards/Given/mean"] == pytest.approx(scores.mean().item())
    assert logged["reward_abstain/Given"] == pytest.approx(3 / 8)
    assert trainer._logs["advantages"].count(None) == 0 and sum(one != one for one in trainer._logs["advantages"]) == 3
    for batch in trainer.rollouts[0]:
        for place, row in enumerate(batch.places):
            assert batch.completion_mask[place].any() == (GAPS[row][1] is not None)
            if GAPS[row][1] is None:
                assert not batch.advantages[place].any() and not batch.returns[place].any() and not batch.old_values[place].any()


def test_the_statistics_are_those_of_a_rollout_without_the_unmeasured(play):
    """One mini-batch, so that both see the same rows at once."""
    one = {"num_mini_batches": 1, "num_ppo_epochs": 1, "max_steps": 1, "per_device_train_batch_size": 1}
    # The prompt depends on the place, so the measured stand first.
    with_gaps = play([*PLAN[:5], *[(ids, None, cut) for ids, _, cut in PLAN[5:]]], **one, gradient_accumulation_steps=8)
    alone = play(PLAN[:5], **(one | {"per_device_train_batch_size": 5}), gradient_accumulation_steps=1)
    names = [name for name in alone.state.log_history[0] if name.startswith(("loss/", "policy/", "val/", "objective/", "reward"))]
    assert len(names) >= 13
    for name in {*names, "loss", "grad_norm"} - {"reward_abstain/Given"}:
        assert with_gaps.state.log_history[0][name] == pytest.approx(alone.state.log_history[0][name], rel=1e-4, abs=1e-6), name
    assert torch.allclose(of_policy(with_gaps), of_policy(alone), atol=1e-6)


def test_a_rollout_of_which_nothing_was_measured_changes_nothing(play, folder):
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

    trainer = play([(ids, None, cut) for ids, _, cut in PLAN], target_kl=0.1)
    assert of_policy(trainer).equal(weights(AutoModelForCausalLM.from_pretrained(folder.policy, dtype=torch.float32)))
    assert weights(trainer.model.critic).equal(weights(AutoModelForTokenClassification.from_pretrained(folder.critic, dtype=torch.float32)))
    logged = trainer.state.log_history[0]
    assert (logged["grad_norm"], logged["loss"], logged["reward_abstain/Given"]) == (0, 0, 1)
    assert logged["reward"] != logged["reward"]
    assert not [name for name in logged if name.startswith(("objective/", "val/", "policy/"))]
    assert trainer._control.coefficient == BASE["kl_coef"]


# ---------------------------------------------------------------- epochs, mini-batches, logs


def test_each_epoch_goes_through_the_rollout_once_and_puts_its_mini_batches_together_anew(play):
    trainer = play(num_ppo_epochs=4, max_steps=8)
    order = [tuple(batch.places) for _, batch, _ in trainer.seen]
    epochs = [order[start : start + 4] for start in range(0, 16, 4)]
    assert all(sorted(place for batch in epoch for place in batch) == list(range(8)) for epoch in epochs)
    assert len({frozenset(epoch[:2]) for epoch in epochs}) > 1


def test_the_order_of_mini_batches_is_the_same_on_every_rank_and_after_a_restart():
    """It comes from --seed and the step alone; ms-swift gives each rank a random state of its own."""

    def order(rank, step):
        made = object.__new__(ppo.PPOTrainer)
        torch.manual_seed(rank)
        held = [{"grpo_batch": SimpleNamespace(completion_mask=torch.ones(1, at + 1))} for at in range(6)]
        made.__dict__.update(
            model=SimpleNamespace(training=True),
            args=SimpleNamespace(seed=7, gradient_accumulation_steps=2, steps_per_generation=6, report_to=[]),
            state=SimpleNamespace(global_step=step),
            template=SimpleNamespace(sequence_parallel_size=1),
            accelerator=SimpleNamespace(reduce=lambda tensor, _: 2 * tensor, is_main_process=rank == 0, process_index=rank),
            num_iterations=4,
            _step=6,
            _buffered_inputs=held,
        )
        made._prepare_inputs([])
        sizes = [encoded["grpo_batch"].completion_mask.shape[1] for encoded in held]
        counted = [encoded["grpo_batch"].num_items_in_batch.item() for encoded in held]
        # Tokens of a mini-batch of two batches, on two ranks.
        assert counted == [2 * sum(sizes[at - at % 2 : at - at % 2 + 2]) for at in range(6)]
        return sizes

    assert order(0, 3) == order(1, 3)
    assert order(0, 3) != order(0, 6)


def test_what_is_logged_is_what_the_hand_finds(play, folder):
    """Of the first step: nothing has moved, so the ratio is 1 and the loss known."""
    trainer = play(num_mini_batches=1, num_ppo_epochs=1, max_steps=1, gradient_accumulation_steps=4)
    logged, batches = trainer.state.log_history[0], trainer.rollouts[0]

    def mean(value):
        return (sum((value(one) * one.completion_mask).sum() for one in batches) / sum(one.completion_mask.sum() for one in batches)).item()

    kl = mean(lambda one: one.old_per_token_logps - one.ref_per_token_logps)
    assert abs(kl) > 0.01
    assert (logged["objective/kl"], logged["objective/kl_coef"]) == (pytest.approx(kl, rel=1e-3), 0.3)
    assert logged["loss/policy_avg"] == pytest.approx(0, abs=1e-5), "whitened advantages, a ratio of 1"
    assert logged["loss/value_avg"] == pytest.approx(mean(lambda one: (one.old_values - one.returns) ** 2), rel=1e-3)
    assert (logged["val/ratio"], logged["policy/clipfrac_avg"], logged["policy/approxkl_avg"]) == (pytest.approx(1, abs=1e-5), 0, 0)
    returns, missed = (
        torch.cat([value[one.completion_mask] for one, value in zip(batches, every, strict=True)])
        for every in ([one.returns for one in batches], [one.returns - one.old_values for one in batches])
    )
    assert logged["val/explained_variance"] == pytest.approx(1 - (missed.var() / returns.var()).item(), rel=1e-3)
    hand = by_hand(folder, trainer, num_mini_batches=1, num_ppo_epochs=1, gradient_accumulation_steps=4)
    assert logged["policy/entropy_avg"] == pytest.approx(hand.entropy_at_first, rel=1e-4)
    assert logged["loss"] == pytest.approx(
        logged["loss/policy_avg"] + 0.5 * logged["loss/value_avg"] - 0.01 * logged["policy/entropy_avg"], rel=1e-3
    )
    assert logged["grad_norm"] == pytest.approx(hand.norms[0], rel=1e-4)


def test_a_target_moves_the_coefficient_after_each_rollout(play):
    """The second rollout's rewards are made with it."""
    trainer = play(target_kl=0.01, num_ppo_epochs=1, max_steps=4)
    first, second = (line for line in trainer.state.log_history if "objective/kl" in line)
    assert first["objective/kl"] < 0.008, "under the target by more than a fifth: the given completions are not the policy's own"
    assert first["objective/kl_coef"] == 0.3
    assert second["objective/kl_coef"] == pytest.approx(0.24)
    fixed = play(num_ppo_epochs=1, max_steps=4)
    assert [line["objective/kl_coef"] for line in fixed.state.log_history if "objective/kl" in line] == [0.3, 0.3]
    mine, other = (torch.cat([one.returns.flatten() for one in made.rollouts[1]]) for made in (trainer, fixed))
    assert mine.shape == other.shape and not torch.allclose(mine, other, atol=1e-3)


def test_without_a_penalty_there_is_no_reference(play):
    trainer = play(kl_coef=0.0)
    assert trainer.ref_model is None
    assert not any("objective/kl" in line for line in trainer.state.log_history)


# ---------------------------------------------------------------- optimiser


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_every_trained_weight_is_in_one_group_with_its_own_rate_and_decay(play, tuner):
    trainer = play(PLAN, "--tuner_type", tuner, "--lora_rank", "4", "--optim", "adamw_torch", "--weight_decay", "0.1", learning_rate=1e-5)
    groups = trainer.optimizer.param_groups
    names = {id(weight): name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    found = {names[id(weight)]: (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(names)
    for name, (rate, decay) in found.items():
        assert rate == (0.2 if "critic." in name else 1e-5), name
        assert decay == (0.0 if "norm" in name or "bias" in name else 0.1), name
    assert any("critic." in name and "score" in name for name in found)
    if tuner == "lora":
        assert all("lora_" in name or "score" in name for name in found)
        assert {weight.shape[0] for name, weight in trainer.model.critic.named_parameters() if "lora_A" in name} == {4}


# ---------------------------------------------------------------- what the command line may say


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """parsed(**flags) -> ms-swift's arguments as the command line makes them, of a model that is not there to be loaded."""
    import overtake
    from swift.arguments import RLHFArguments

    overtake.register()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def parsed(**flags):
        (tmp_path / "absent").mkdir(exist_ok=True)
        given = {"model": str(tmp_path / "absent"), "dataset": ["rows.jsonl"], "reward_funcs": ["rewrite_rules"]}
        return RLHFArguments(rlhf_type="ppo", **given | flags)

    return parsed


def args_of(**flags):
    from swift.arguments import RLHFArguments

    made = object.__new__(RLHFArguments)
    vars(made).update(_absent(made) | {"rlhf_type": "ppo", "reward_funcs": ["rewrite_rules"]} | flags)
    return made


NAMES = [(name, instead) for names, instead in _OTHERS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "instead"), NAMES, ids=[name for name, _ in NAMES])
def test_a_flag_without_meaning_is_refused_with_what_to_do_instead(name, instead):
    absent = getattr(args_of(), name)
    given = (not absent) if isinstance(absent, bool) else absent + 1 if isinstance(absent, int | float) else "some"
    with pytest.raises(ValueError) as refused:
        as_grpo(args_of(**{name: given}))
    assert str(refused.value) == f"--{name} {given} has no meaning in PPO with reward functions: {instead}"


def test_without_such_flags_nothing_is_refused():
    args = args_of(kl_coef=0.3, cliprange=0.1, num_ppo_epochs=3, num_mini_batches=4, gradient_accumulation_steps=2)
    as_grpo(args)
    assert (args.rlhf_type, args.ppo, args.beta, args.epsilon, args.num_iterations, args.steps_per_generation) == (
        *("grpo", True, 0.3, 0.1, 3, 8),
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gamma": 1.5}, "--gamma 1.5: give a number from 0 to 1"),
        ({"lam": -0.1}, "--lam -0.1: give a number from 0 to 1"),
        ({"kl_coef": -1.0}, "--kl_coef -1.0: give a number of at least 0"),
        ({"vf_coef": -1.0}, "--vf_coef -1.0: give a number of at least 0"),
        ({"cliprange": -0.2}, "--cliprange -0.2: give a number of at least 0"),
        ({"cliprange_value": -0.2}, "--cliprange_value -0.2: give a number of at least 0"),
        ({"missing_eos_penalty": -1.0}, "--missing_eos_penalty -1.0: give a number of at least 0"),
        ({"num_ppo_epochs": 0}, "--num_ppo_epochs 0: give a number of at least 1"),
        ({"num_mini_batches": 0}, "--num_mini_batches 0: give a number of at least 1"),
        ({"gamma": NAN}, "--gamma nan: give a number from 0 to 1"),
        ({"tuner_type": "vera"}, "--tuner_type vera: the critic is trained by lora or full, as the policy is"),
        ({"num_mini_batches": 2, "steps_per_generation": 4}, "--num_mini_batches 2 beside --steps_per_generation or"),
        ({"num_mini_batches": 2, "generation_batch_size": 8}, "or --generation_batch_size: give one of them"),
    ],
)
def test_a_number_out_of_range_is_refused(flags, message):
    with pytest.raises(ValueError) as refused:
        as_grpo(args_of(**flags))
    assert message in str(refused.value)


@pytest.mark.parametrize("flag", ["beta", "scale_rewards", "dynamic_sample", "optimizer", "fsdp"])
def test_a_flag_is_refused_before_a_model_is_looked_at(parsed, flag):
    given = {"beta": 0.04, "scale_rewards": "batch", "dynamic_sample": True, "optimizer": "muon", "fsdp": "fsdp2"}[flag]
    with pytest.raises(ValueError, match=f"--{flag} {given} has no meaning in PPO with reward functions: "):
        parsed(**{flag: given})
    with pytest.raises(ValueError, match="model_type"):
        parsed()


def test_ppo_without_any_reward_says_what_to_name(parsed):
    with pytest.raises(ValueError, match="--rlhf_type ppo has no reward: name --reward_funcs"):
        parsed(reward_funcs=[])


def test_every_flag_is_honoured_refused_or_written_down():
    """The table "Flags under PPO" names each flag of `swift rlhf` that `swift sft` has not, or it is refused or PPO's own."""
    from swift.arguments import RLHFArguments, SftArguments

    text = README.read_text(encoding="utf-8")
    table = text[text.index("## Flags under PPO") :]
    named = set(re.findall(r"`--(\w+)`", table))
    own = {field.name for field in dataclasses.fields(RLHFArguments)} - {field.name for field in dataclasses.fields(SftArguments)}
    refused = {name for name, _ in NAMES}
    wild = [name[:-1] for name in re.findall(r"`--(\w+\*)`", table)]
    assert {name for name in own - refused - named if not name.startswith(tuple(wild))} == set()
    assert named & refused == {"beta"}, "which cannot always be told"


def test_few_rows_make_a_smaller_round_and_none_is_left_out_of_every_epoch(play, caplog, monkeypatch):
    monkeypatch.setattr(ppo.logger, "propagate", True)
    saving = ("--dataset_shuffle", "false", "--num_train_epochs", "3", "--save_steps", "3")
    trainer = play(PLAN[:7], *saving, num_mini_batches=2, num_ppo_epochs=2, max_steps=-1)
    drawn = [[place for batch in rollout for place in batch.places] for rollout in trainer.rollouts]
    # Rows of like length share a batch, so of a round only who is in it is told.
    assert [sorted(round) for round in drawn] == [[0, 1, 2, 3], [0, 4, 5, 6], [1, 2, 3, 4]]
    assert trainer.state.global_step == 3 * 2
    assert (
        "7 rows do not fill a round of 8: a round has 4 completions, 1 mini-batches of 4, and 2 updates; evaluations every None updates, "
        "checkpoints every 4" in caplog.text
    )


def test_a_single_epoch_draws_every_row(play):
    trainer = play(PLAN[:6], "--dataset_shuffle", "false", "--num_train_epochs", "1", num_mini_batches=1, num_ppo_epochs=1, max_steps=-1)
    drawn = [sorted(place for batch in rollout for place in batch.places) for rollout in trainer.rollouts]
    assert drawn == [[0, 1, 2, 3], [0, 1, 4, 5]]


def test_rows_that_fill_no_mini_batch_are_refused(play):
    with pytest.raises(ValueError, match="3 rows fill no mini-batch of 4: give more rows, or lower --gradient_accumulation_steps"):
        play(PLAN[:3], num_mini_batches=2)


def test_a_rollout_that_mini_batches_do_not_divide_is_refused(play):
    with pytest.raises(ValueError, match="a rollout of 3 batches cannot be cut into mini-batches of --gradient_accumulation_steps 2"):
        play(PLAN, "--steps_per_generation", "3", num_mini_batches=1)


def test_a_target_needs_a_coefficient_to_begin_with(play):
    with pytest.raises(ValueError, match=r"OVERTAKE_TARGET_KL=0\.1 needs a coefficient to begin with: set --kl_coef to more than 0"):
        play(kl_coef=0.0, target_kl=0.1)
