"""GRPO whose unmeasured rewards abstain: ms-swift counts None as 0, which makes a failed call the best or worst sample of its group."""

import math
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from swift.dataset import RowPreprocessor
from swift.rl_core.data import GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer
from swift.rlhf_trainers.utils import get_even_process_data

from overtake.rewards.reward import Run
from overtake.trainers import abstaining, stopping
from overtake.trainers.on_cpu import keep_weights_for_sync


class GRPOTrainer(SwiftGRPOTrainer):
    """ms-swift's GRPOTrainer, with `None` of a reward neutral and counted as `reward_abstain/<name>`.

    A batch without gaps is ms-swift's own affair. In one with gaps, `abstaining` says which samples are measured, for all
    estimators and all ways of scaling; a sample that abstains contributes nothing, which means:

    * its advantage is 0, and the others' are what ms-swift computes on the measured samples alone, batch statistics included;
    * `reward`, `reward_std` and `frac_reward_zero_std` are over measured samples, NaN where a whole log interval or evaluation has
      none (NaN is never the best checkpoint); `rewards/<name>/mean` leaves None out by itself;
    * `--dynamic_sample` takes a group for useful only when its measured samples differ, so one without any is drawn again, at most
      `--max_resample_times` times;
    * its completion mask is emptied, as ms-swift does for `--overlong_filter`: it has no KL or entropy term and no token in the means
      of `bnpo`, `dapo` and `cispo` (whose count over all ranks is taken anew). `grpo`, `sapo` and `dr_grpo` divide by the number of
      samples, which stays: a measured one weighs as much as ever. Where a teacher scored the tokens the mask stays, since that
      part was measured.

    Whatever a reward raises ends the run on all ranks, with a checkpoint and the reason (`stopping`).

    What is left: under Adam a step in which nothing was measured still moves weights by its momentum.
    """

    # Of the gathered batch, whether each sample abstains; None when no sample does.
    _abstaining: list[bool] | None = None
    rewards: Run | None = None
    """What the rewards share."""
    _unscored = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rewards = stopping.adopt(self, stops=True)

    def _prepare_vllm_engine(self) -> Any:
        keep_weights_for_sync()
        return super()._prepare_vllm_engine()

    def _generate_completions(self, samples: list[GRPOSample]) -> list[GRPOSample]:
        """A completion that ends at once is the end token alone: ms-swift 4.6.0 leaves it without ids and fails on its shape."""
        samples = super()._generate_completions(samples)
        for sample in samples:
            if not sample.response_token_ids:
                sample.response_token_ids = [self.processing_class.eos_token_id]
        return samples

    def _score_completions(self, samples: list[GRPOSample]) -> list[GRPOSample]:
        """Start the rewards that wait for others: their answers come while ms-swift takes the log-probabilities, and are read after it.

        `--dynamic_sample` draws again by what was scored, so there they are waited for at once.
        """
        self._unscored = not self.dynamic_sample
        if not self._unscored:
            return super()._score_completions(samples)
        if self.rewards:
            completions = [sample.messages[-1]["content"] for sample in samples]
            columns = RowPreprocessor.rows_to_batched([sample.to_reward_row() for sample in samples])
            self.rewards.start(completions, trainer_state=self.state, **columns)
        return samples

    def _read_rewards(self, samples: list[GRPOSample]) -> None:
        """Wait for what was started."""
        if self._unscored:
            super()._score_completions(samples)

    def _compute_rewards_per_func(self, samples: list[GRPOSample]) -> torch.Tensor:
        rewards: torch.Tensor = super()._compute_rewards_per_func(samples)
        if self.rewards:
            stopping.stop_if_any(self, self.rewards.reasons)
        for name, share in zip(self.reward_func_names, torch.isnan(rewards).float().mean(dim=0).tolist(), strict=True):
            self._metrics[self._mode()][f"reward_abstain/{name}"].append(share)
        return rewards

    def compute_std(self, samples: list[GRPOSample], rewards_per_func: torch.Tensor) -> torch.Tensor:
        """What `--dynamic_sample` asks of each gathered sample: the deviation of its group, here over the measured."""
        if not abstaining.has_gaps(rewards_per_func, self.reward_weights):
            return super().compute_std(samples, rewards_per_func)
        groups, requests = self._groups(samples, len(rewards_per_func))
        rewards = abstaining.complete_requests(rewards_per_func, requests)
        totals = abstaining.total_rewards(rewards, self.reward_weights, groups)
        return abstaining.group_deviations(abstaining.once(totals, requests), groups)

    def _compute_advantages(
        self, samples: list[GRPOSample], rewards_per_func: torch.Tensor, batch_encoded_inputs: list[dict[str, Any]]
    ) -> torch.Tensor:
        # The gathered matrix is the same on every rank, so all of them gather below or none does.
        gaps = abstaining.has_gaps(rewards_per_func, self.reward_weights)
        if gaps:
            groups, requests = self._groups(samples, len(rewards_per_func))
            rewards_per_func = abstaining.complete_requests(rewards_per_func, requests)
        # In any case it logs each reward and refuses a request with several rewards; with gaps the rest is put right below.
        advantages: torch.Tensor = super()._compute_advantages(samples, rewards_per_func, batch_encoded_inputs)
        self._abstaining = None
        metrics = self._metrics[self._mode()]
        if gaps:
            advantages, totals = abstaining.advantages(
                rewards_per_func,
                self.reward_weights,
                groups,
                requests,
                advantage_estimator=self.advantage_estimator,
                scale_rewards=self.scale_rewards,
                kl_in_reward=self.kl_in_reward,
                beta=self.beta,
                kl_values=self._kl_values(batch_encoded_inputs) if self.kl_in_reward and self.beta != 0.0 else None,
            )
            self._abstaining = torch.isnan(totals).tolist()
            measured = abstaining.reward_metrics(abstaining.once(totals, requests), groups, self.scale_rewards)
            for name, value in measured.items():
                metrics[name][-1] = value
        for name in ("reward", "reward_std", "frac_reward_zero_std"):
            metrics[name][:] = [value for value in metrics[name] if not math.isnan(value)] or [math.nan]
        return advantages

    def _postprocess_batch(self, samples: list[GRPOSample], batch_encoded_inputs: list[dict[str, Any]]) -> None:
        self._read_rewards(samples)
        super()._postprocess_batch(samples, batch_encoded_inputs)
        if self._abstaining is None:
            return
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        local = self.split_by_mini_batches(get_even_process_data(self, self._abstaining))
        for batch, abstains in zip(batches, local, strict=True):
            if batch.teacher_per_token_logps is None:
                empty = torch.tensor(abstains, device=batch.completion_mask.device).unsqueeze(1)
                batch.completion_mask = batch.completion_mask.masked_fill(empty, 0)
        tokens = gather(torch.stack([batch.completion_mask.sum() for batch in batches]).sum().float()).sum().clamp(min=1.0)
        for batch in batches:
            batch.num_items_in_batch = tokens

    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _groups(self, samples: list[GRPOSample], count: int) -> tuple[list[Any], list[Any] | None]:
        """Of each gathered row, its group, and its request where one request may have several rows."""
        if self.dynamic_num_samples:
            return gather_object([sample.prompt_id for sample in samples]), gather_object([sample.request_id for sample in samples])
        size = self.num_generations if self._mode() == "train" else self.num_generations_eval
        return [index // size for index in range(count)], None

    def _kl_values(self, batch_encoded_inputs: list[dict[str, Any]]) -> torch.Tensor:
        """The KL of each gathered sample that `--kl_in_reward` subtracts, as ms-swift takes it."""
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        local = [((batch.old_per_token_logps - batch.ref_per_token_logps) * batch.completion_mask).sum(-1) for batch in batches]
        return gather(torch.cat(local))
