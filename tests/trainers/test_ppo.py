"""PPO's trainer: `swift rlhf` in this process on a tiny model with given completions, and the same update done by hand.

The hand has its own arithmetic: no padding, no batches, sums written out, plain gradient descent. A number that PPO takes is honoured when
both agree on all weights after several steps, and the hand without the change does not.
"""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from overtake import settings
from overtake.trainers import critic, ppo, ppo_update
from overtake.trainers.ppo_arguments import _OTHERS, _absent

NAN = float("nan")
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
        places = iter([sample.extra["place"] for sample in samples])
        for encoded in batch_encoded_inputs:
            batch = encoded["grpo_batch"]
            batch.places = [next(places) for _ in batch.completion_mask]
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
        words = [*FLAGS.split(), "--model", folder.policy, "--ref_model", folder.reference, "--ref_model_type", "qwen3"]
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
            error = torch.maximum((value - returns[place]) ** 2, (near - returns[place]) ** 2) / 2
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
    return SimpleNamespace(policy=policy, critic=value_model, norms=norms)


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
