"""PPO with reward functions: GRPO's rollouts and rewards, with a critic, advantages by token and PPO's loss."""

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from swift.rl_core.data import GRPOBatch, GRPOSample
from swift.rlhf_trainers import GRPOConfig
from swift.rlhf_trainers.utils import get_even_process_data
from swift.utils import get_logger
from torch import Tensor

from overtake import settings
from overtake.trainers import abstaining, critic, ppo_update, rounds
from overtake.trainers.grpo import GRPOTrainer

logger = get_logger()

_STATE = "ppo.json"


@dataclass
class PPOConfig(GRPOConfig):
    """GRPO's arguments of training, and PPO's own."""

    num_ppo_epochs: int = 4
    whiten_rewards: bool = False
    kl_coef: float = 0.05
    cliprange: float = 0.2
    vf_coef: float = 0.1
    cliprange_value: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    missing_eos_penalty: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_per_generation % self.gradient_accumulation_steps:
            raise ValueError(
                f"a rollout of {self.steps_per_generation} batches cannot be cut into mini-batches of --gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}: set --steps_per_generation to a multiple of it, or --num_mini_batches"
            )
        # Autograd reaches the critic by another way than the policy's output, which DDP's search for unused weights does not see.
        self.ddp_find_unused_parameters = False


class PPOTrainer(GRPOTrainer):
    """Trainer of `--rlhf_type ppo --reward_funcs ...` (ppo_arguments.py says how it comes to that).

    A rollout of `--generation_batch_size` completions is scored by the rewards as in GRPO; then, without gradients, the critic values each
    token, and advantages and returns are made of both. `--num_ppo_epochs` times the rollout is gone through in mini-batches of
    `--gradient_accumulation_steps` batches on each rank, put together anew each time. The loss of a mini-batch is a mean over its tokens on
    all ranks: policy + vf_coef * value - entropy * entropy. Critic and policy are trained by one optimiser, so that
    `--max_grad_norm` bounds them together; the critic has a learning rate of its own.

    A completion that no reward could measure is left out: of loss, whitening and every mean.
    """

    def __init__(self, model: Any, ref_model: Any = None, *args: Any, **kwargs: Any) -> None:
        config, overtake_settings = kwargs["args"], settings.load()
        if overtake_settings.target_kl and not config.kl_coef:
            raise ValueError(
                f"OVERTAKE_TARGET_KL={overtake_settings.target_kl:g} needs a coefficient to begin with: set --kl_coef to more than 0"
            )
        _fit_round(config, kwargs.get("train_dataset"))
        named = critic.folder_of(overtake_settings.critic) if overtake_settings.critic else str(model.model_dir)
        value_model = critic.from_model(named, model.dtype if hasattr(model, "dtype") else "auto")
        super().__init__(model, ref_model, *args, **kwargs)
        if overtake_settings.critic:
            critic.check_tokenizer(named, self.processing_class)
        if adapters := getattr(self.model, "peft_config", None):
            value_model = critic.with_lora(value_model, adapters["default"].r, adapters["default"].lora_alpha)
        if config.gradient_checkpointing:
            value_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=config.gradient_checkpointing_kwargs)
            value_model.enable_input_require_grads()
        self._control = ppo_update.KLControl(config.kl_coef, overtake_settings.target_kl)
        self._entropy = overtake_settings.entropy
        self._critic_rate = overtake_settings.critic_lr
        # A part of the model that is trained, so that launcher, optimiser and DeepSpeed have one to deal with.
        self.model.critic = value_model if self.is_deepspeed_enabled else value_model.to(self.accelerator.device)
        self._say_ppo()

    def _say_ppo(self) -> None:
        """ms-swift has written its arguments as those of GRPO."""
        file = Path(self.args.output_dir) / "args.json"
        if self.is_world_process_zero() and file.is_file():
            arguments = json.loads(file.read_text(encoding="utf-8")) | {"rlhf_type": "ppo"}
            file.write_text(json.dumps(arguments, ensure_ascii=False, indent=2), encoding="utf-8")

    @property
    def _critic(self) -> Any:
        return self.accelerator.unwrap_model(self.model).critic

    @contextmanager
    def _policy_alone(self) -> Iterator[None]:
        """For what takes every weight of the model for the policy's."""
        model = self.accelerator.unwrap_model(self.model)
        critic = model._modules.pop("critic", None)
        try:
            yield
        finally:
            if critic is not None:
                model.critic = critic

    # ---------------------------------------------------------------- after a rollout

    def _postprocess_batch(self, samples: list[GRPOSample], batch_encoded_inputs: list[dict[str, Any]]) -> None:
        self._read_rewards(samples)
        scores = self._scores(self._rewards_per_func)
        self._logs["advantages"].extend(scores.tolist())
        if not self.model.training:
            return
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        local = [torch.stack(scores_of_batch) for scores_of_batch in self.split_by_mini_batches(list(get_even_process_data(self, scores)))]
        rewards, values, masks = [], [], []
        for encoded, batch, score in zip(batch_encoded_inputs, batches, local, strict=True):
            measured = ~torch.isnan(score)
            batch.completion_mask = mask = batch.completion_mask.bool() & measured.unsqueeze(1)
            if self.args.missing_eos_penalty is not None:
                score = score - self.args.missing_eos_penalty * batch.truncated_mask
            with torch.no_grad(), self.compute_loss_context_manager():
                value = critic.values(self._critic, encoded["model_inputs"], mask.shape[1])
            reference = batch.ref_per_token_logps
            rewards.append(
                ppo_update.token_rewards(score.nan_to_num(), batch.old_per_token_logps.float(), reference, mask, self._control.coefficient)
            )
            values.append(value.masked_fill(~mask, 0.0))
            masks.append(mask)
        if self.args.whiten_rewards:
            rewards = ppo_update.whitened(rewards, masks, self._add, keep_mean=True)
        estimates = [ppo_update.gae(*arguments, self.args.gamma, self.args.lam) for arguments in zip(rewards, values, masks, strict=True)]
        advantages = ppo_update.whitened([advantage for advantage, _ in estimates], masks, self._add)
        for batch, advantage, value, (_, returns) in zip(batches, advantages, values, estimates, strict=True):
            batch.advantages, batch.old_values, batch.returns = advantage, value, returns
        self._watch(batches)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """None in an evaluation, of which only the rewards count."""
        return super()._get_per_token_logps_and_entropies(*args, **kwargs) if self.model.training else (None, None)

    def _needs_old(self, samples: list[GRPOSample]) -> bool:
        """Always: the KL in the reward is between them and the reference's."""
        return True

    def _scores(self, rewards_per_func: Tensor) -> Tensor:
        """[completions of all ranks]: the weighted sum of each one's rewards, NaN where it abstains."""
        size = self.num_generations if self.model.training else self.num_generations_eval
        groups = [index // size for index in range(len(rewards_per_func))]
        scores = abstaining.total_rewards(rewards_per_func, self.reward_weights.to(rewards_per_func.device), groups)
        columns = dict(zip(self.reward_func_names, rewards_per_func.unbind(1), strict=True))
        logged = self._metrics[self._mode()]
        for mean, spread, values in [
            ("reward", "reward_std", scores),
            *((f"rewards/{name}/mean", f"rewards/{name}/std", column) for name, column in columns.items()),
        ]:
            for name, value in ((mean, _mean(values)), (spread, _deviation(values))):
                # ms-swift averages what a log interval collected: a rollout of which nothing was measured is left out of that.
                logged[name][:] = [number for number in [*logged[name], value] if not math.isnan(number)] or [math.nan]
        for name, column in columns.items():
            self._logs["rewards"][name].extend(column.tolist())
        return scores

    def _watch(self, batches: list[GRPOBatch]) -> None:
        """Log the KL of the rollout and how well the critic foresaw it; move the KL coefficient."""
        logged, masks = self._metrics["train"], [batch.completion_mask for batch in batches]
        tokens = self._add(torch.stack([mask.sum() for mask in masks]).sum())
        if not tokens:
            return
        if batches[0].ref_per_token_logps is not None:
            apart = [((b.old_per_token_logps - b.ref_per_token_logps) * b.completion_mask).sum() for b in batches]
            kl = (self._add(torch.stack(apart).sum()) / tokens).item()
            logged["objective/kl"].append(kl)
            logged["objective/kl_coef"].append(self._control.coefficient)
            self._control.saw(kl)
        _, spread = ppo_update.moments([batch.returns for batch in batches], masks, self._add)
        _, missed = ppo_update.moments([batch.returns - batch.old_values for batch in batches], masks, self._add)
        logged["val/explained_variance"].append((1 - missed / spread.clamp(min=ppo_update.EPS)).item())

    # ---------------------------------------------------------------- epochs, mini-batches and the loss

    def _prepare_inputs(self, inputs: Any) -> Any:
        if not self.model.training:
            return super()._prepare_inputs(inputs)
        buffered = self._buffered_inputs
        if buffered is not None and self._step % (len(buffered) * self.num_iterations) and self._step % len(buffered) == 0:
            # The same order on every rank, and after a restart the one that it would have been.
            random.Random(self.args.seed + self.state.global_step).shuffle(buffered)
            self._count_tokens(buffered)
        prepared = super()._prepare_inputs(inputs)
        if self._buffered_inputs is not buffered:
            self._count_tokens(self._buffered_inputs)
        return prepared

    def _count_tokens(self, buffered: list[dict[str, Any]]) -> None:
        """Tell each batch how many tokens its mini-batch has on all ranks."""
        batches = [encoded["grpo_batch"] for encoded in buffered]
        counts = self._add(torch.stack([batch.completion_mask.sum() for batch in batches]).float())
        size = self.args.gradient_accumulation_steps
        for at, batch in enumerate(batches):
            batch.num_items_in_batch = counts[at - at % size : at - at % size + size].sum()

    def _compute_loss(self, model: Any, model_inputs: dict[str, Any], grpo_batch: GRPOBatch, origin_data: Any = None) -> Tensor:
        if not self.model.training:  # of an evaluation only its rewards count
            return torch.zeros((), device=self.accelerator.device)
        logps, entropies = self._get_per_token_logps_and_entropies(model, model_inputs, grpo_batch, compute_entropy=True)
        mask = grpo_batch.completion_mask
        parts = ppo_update.losses(
            logps.float(),
            grpo_batch.old_per_token_logps.float(),
            grpo_batch.advantages,
            critic.values(self._critic, model_inputs, mask.shape[1]),
            grpo_batch.old_values,
            grpo_batch.returns,
            entropies.float(),
            mask,
            cliprange=self.args.cliprange,
            cliprange_value=self.args.cliprange_value,
        )
        self._log_parts(parts, grpo_batch.num_items_in_batch.item())
        total = parts.policy + self.args.vf_coef * parts.value - self._entropy * parts.entropy
        # Ranks and accumulated batches are averaged after this; together they shall be a mean over tokens.
        shares = self.accelerator.num_processes * self.current_gradient_accumulation_steps
        return total * shares / grpo_batch.num_items_in_batch.clamp(min=1.0)

    def _log_parts(self, parts: ppo_update.Losses, tokens: float) -> None:
        """Log shares whose mean over the batches of a mini-batch is the mean over its tokens."""
        sums = ppo_update.Losses(*self._add(torch.stack([part.detach().float() for part in parts])).tolist())
        if not tokens:
            return
        logged = self._metrics["train"]
        for name, value in (
            ("loss/policy_avg", sums.policy),
            ("loss/value_avg", sums.value),
            ("policy/entropy_avg", sums.entropy),
            ("policy/clipfrac_avg", sums.clipped),
            ("policy/approxkl_avg", sums.kl),
            ("val/clipfrac_avg", sums.value_clipped),
            ("val/ratio", sums.ratio),
        ):
            logged[name].append(value * self.current_gradient_accumulation_steps / tokens)

    def _add(self, tensor: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(tensor, "sum")
        return total

    # ---------------------------------------------------------------- optimiser, weights, checkpoints

    def create_optimizer(self, model: Any = None) -> Any:
        """Create ms-swift's optimizer, with the critic's weights in groups of their own."""
        if self.optimizer is not None:
            return self.optimizer
        value_model, names = self._critic, self.get_decay_parameter_names(self._critic)
        with self._policy_alone():
            optimizer = super().create_optimizer(model)
        for decays in (True, False):
            weights = [
                parameter for name, parameter in value_model.named_parameters() if parameter.requires_grad and (name in names) == decays
            ]
            if weights:
                decay = self.args.weight_decay if decays else 0.0
                optimizer.add_param_group({"params": weights, "lr": self._critic_rate, "weight_decay": decay})
        return optimizer

    def _move_model_to_vllm(self, skip_async_check: bool = False) -> None:
        with self._policy_alone():
            super()._move_model_to_vllm(skip_async_check)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The policy as GRPO saves it, and the critic in a folder of its own beside it."""
        of_critic = None
        if state_dict is not None:
            of_critic = {name.removeprefix("critic."): tensor for name, tensor in state_dict.items() if name.startswith("critic.")}
            state_dict = {name: tensor for name, tensor in state_dict.items() if not name.startswith("critic.")}
        folder = Path(output_dir or self.args.output_dir)
        value_model = self._critic
        with self._policy_alone():
            super()._save(str(folder), state_dict)
        critic.save(value_model, folder / critic.FOLDER, of_critic)
        (folder / _STATE).write_text(json.dumps({"kl_coef": self._control.coefficient}), encoding="utf-8")

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as ms-swift does; from a checkpoint it goes on with the KL coefficient that it had."""
        if isinstance(resume_from_checkpoint, str):
            state = Path(resume_from_checkpoint) / _STATE
            if not state.is_file():
                raise ValueError(f"{resume_from_checkpoint} is no checkpoint of PPO: {_STATE} is not in it")
            self._control.coefficient = json.loads(state.read_text(encoding="utf-8"))["kl_coef"]
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        value_model = self._critic
        with self._policy_alone():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        critic.load(value_model, Path(resume_from_checkpoint) / critic.FOLDER)


def _fit_round(config: PPOConfig, rows: Any) -> None:
    """Make a round as small as the rows want it, in whole mini-batches. Raises ValueError for rows that do not fill one."""
    if not hasattr(rows, "__len__"):
        return  # a stream
    size = config.per_device_train_batch_size * config.world_size * config.gradient_accumulation_steps
    whole = config.steps_per_generation // config.gradient_accumulation_steps
    count = rounds.mini_batches(len(rows), size, whole, config.num_generations)
    if count == whole:
        return
    updates = count * config.num_ppo_epochs
    config.steps_per_generation, config.generation_batch_size = count * config.gradient_accumulation_steps, count * size
    # A checkpoint in the midst of a round would lose the rest of it.
    config.eval_steps, config.save_steps = (
        rounds.next_multiple(steps, updates) if steps else steps for steps in (config.eval_steps, config.save_steps)
    )
    logger.warning(
        f"{len(rows)} rows do not fill a round of {whole * size}: a round has {count * size} completions, {count} mini-batches of {size}, "
        f"and {updates} updates; evaluations every {config.eval_steps} updates, checkpoints every {config.save_steps}"
    )


def _mean(values: Tensor) -> float:
    """Over what was measured; NaN without."""
    return values[~torch.isnan(values)].mean().item()


def _deviation(values: Tensor) -> float:
    finite = values[~torch.isnan(values)]
    return finite.std().item() if len(finite) > 1 else 0.0 if len(finite) else math.nan
