"""GRPO whose unmeasured rewards abstain: ms-swift counts None as 0, which makes a failed call the best or worst sample of its group."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from swift.dataset import RowPreprocessor
from swift.rl_core.data import GRPOBatch, GRPOSample
from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer
from swift.rlhf_trainers.gkd_helpers import build_teacher_requests
from swift.rlhf_trainers.utils import get_even_process_data
from swift.utils import get_logger

from overtake import settings
from overtake.remote import token_scores
from overtake.rewards.reward import Run
from overtake.trainers import abstaining, distilling, prompt_once, rounds, stopping
from overtake.trainers.all_tokens import draw_from_all
from overtake.trainers.on_cpu import keep_weights_for_sync

logger = get_logger()

_ORDER_COUNTS = ("bnpo", "real")
"""Losses in which it matters who shares a batch: they divide by its tokens, or read it as whole groups."""
_PADDED = {"input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep"}
"""What ms-swift gives a language model of padded rows."""


class GRPOTrainer(SwiftGRPOTrainer):
    """Trainer like ms-swift's GRPOTrainer, with `None` of a reward neutral and counted as `reward_abstain/<name>`.

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

    A teacher's term (on-policy distillation) is ms-swift's. Of a served teacher the tokens' log-probabilities are asked for by a client of
    ours: one that is silent is waited for, then the run ends as for a reward. `teacher_kl` is over all ranks. A run without rewards logs
    none. The student is its own teacher under the rows' `teacher_prompt` only where that is meant (OVERTAKE_SELF_TEACHER): ms-swift would
    take the column's being there for it.

    Nothing is computed twice or for nothing. The prompt that completions of a batch share is computed once (`prompt_once`) wherever
    log-probabilities are taken: the policy's, the old ones, the reference's, a teacher's; where the model or the run does not allow it,
    ms-swift's own way is taken and the reason said once. The old ones are left out where they would be those of the pass that trains:
    ms-swift then takes that pass's own. And rows of like length share a batch, where the loss does not mind.

    What is left: under Adam a step in which nothing was measured still moves weights by its momentum.
    """

    # Of the gathered batch, whether each sample abstains; None when no sample does.
    _abstaining: list[bool] | None = None
    rewards: Run | None = None
    """What the rewards share."""
    _unscored = False
    # The batch whose old log-probabilities were left out last; None where they are taken.
    _left_out: Any = None
    # The local samples in the order in which batches are cut from them; None: as they come.
    _order: list[int] | None = None
    _prompt_once = False
    _privileged = False
    # The served teacher; None where there is none, or several.
    _served: token_scores.Server | None = None
    teacher_model_server: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        draw_from_all()
        self._prompt_once, self._privileged = settings.load().prompt_once, settings.load().self_teacher
        self._uncovered: dict[int, str] = {}
        super().__init__(*args, **kwargs)
        self.rewards = stopping.adopt(self, stops=True)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """No row is left out of every epoch."""
        return rounds.with_every_row(super()._get_train_sampler(train_dataset), fill=self.args.num_train_epochs < 2)

    def _setup_teacher(self) -> None:
        address = self.teacher_model_server
        if not address or address.lstrip().startswith("["):  # ms-swift's own way: none, or several by tag
            super()._setup_teacher()
            return
        self.teacher_model_server = None
        super()._setup_teacher()
        self.teacher_model_server, self._served = address, token_scores.find(address)
        self.use_teacher_api = self._has_teacher = True
        self._is_self_distillation = self._is_dynamic_self_distillation = False

    def to_samples(self, rows: list[Any]) -> list[GRPOSample]:
        """ms-swift's samples of rows; without `teacher_prompt` where nothing is to be learnt from it."""
        samples: list[GRPOSample] = super().to_samples(rows)
        if self._privileged:
            if not all(sample.teacher_prompt for sample in samples):
                raise ValueError(
                    "DISTILL_FROM=self, and a row has no teacher_prompt: tools/convert.py writes it, or write the column yourself"
                )
        elif self.advantage_reweight != "rlsd" and not self.sdar_loss_coef:
            for sample in samples:
                sample.teacher_prompt = None
        return samples

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
        """Compute what `--dynamic_sample` asks of each gathered sample: the deviation of its group, here over the measured."""
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
            if not self.reward_func_names:
                metrics.pop(name, None)  # ms-swift's are 0, of nothing
                continue
            metrics[name][:] = [value for value in metrics[name] if not math.isnan(value)] or [math.nan]
        return advantages

    def _postprocess_batch(self, samples: list[GRPOSample], batch_encoded_inputs: list[dict[str, Any]]) -> None:
        self._read_rewards(samples)
        super()._postprocess_batch(samples, batch_encoded_inputs)
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        if self._has_teacher_explicit() or self._privileged:
            measured = sum(batch.teacher_per_token_logps is not None for batch in batches)
            logged = self._metrics[self._mode()]["teacher_kl"]
            logged[len(logged) - measured :] = [distilling.mean_teacher_kl(batches)]
        if self._abstaining is None:
            return
        local = self.split_by_mini_batches(get_even_process_data(self, self._abstaining))
        for batch, abstains in zip(batches, local, strict=True):
            if batch.teacher_per_token_logps is None:
                empty = torch.tensor(abstains, device=batch.completion_mask.device).unsqueeze(1)
                batch.completion_mask = batch.completion_mask.masked_fill(empty, 0)
        tokens = gather(torch.stack([batch.completion_mask.sum() for batch in batches]).sum().float()).sum().clamp(min=1.0)
        for batch in batches:
            batch.num_items_in_batch = tokens

    def _assemble_teacher_api_logps(self, samples: list[GRPOSample], batch_encoded_inputs: list[dict[str, Any]]) -> None:
        """Ask the served teacher for what it gives each token of the local batches. Ends the run on all ranks where it cannot be had."""
        if self._served is None:
            super()._assemble_teacher_api_logps(samples, batch_encoded_inputs)
            return
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        inputs = [encoded["model_inputs"] for encoded in batch_encoded_inputs]
        laid = [
            distilling.rows(given["input_ids"], given["attention_mask"], batch.completion_mask)
            for given, batch in zip(inputs, batches, strict=True)
        ]
        chunks = [encoded.pop("_chunk_samples") for encoded in batch_encoded_inputs]
        # Only ms-swift's own server writes the prompt anew.
        requests = (
            [asdict(request) for chunk in chunks for request in build_teacher_requests(chunk, self.template)] if self._served.swift else []
        )
        shown = [token_scores.Shown(row.ids, row.scored) for of_batch in laid for row in of_batch]
        for sequence, request in zip(shown, requests, strict=bool(requests)):
            sequence.request = request
        config = settings.load()
        scores = token_scores.score(self._served, shown, config.outage_patience, config.batch_deadline)
        silent = isinstance(scores, str)
        stopping.stop_if_any(self, [f"The teacher at {self._served.address}: {scores}."] if silent else [])
        by_row: Iterator[list[float]] = iter([] if isinstance(scores, str) else scores)
        for batch, of_batch in zip(batches, laid, strict=True):
            batch.teacher_per_token_logps = distilling.laid_out([next(by_row) for _ in of_batch], of_batch, batch.completion_mask)

    # ---------------------------------------------------------------- log-probabilities

    def _prepare_batch_inputs(self, samples: list[GRPOSample]) -> list[dict[str, Any]]:
        self._order = self._by_length(samples)
        self._left_out = None if self._needs_old(samples) else samples
        try:
            batches: list[dict[str, Any]] = super()._prepare_batch_inputs(samples)
        finally:
            self._left_out = None
        return batches

    def _get_per_token_logps_and_entropies(
        self, model: Any, model_inputs: dict[str, Any], grpo_batch: GRPOBatch, compute_entropy: bool = False, origin_data: Any = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        # Preparing a batch, ms-swift asks for the old ones first.
        if self._left_out is not None and self._left_out is not grpo_batch:
            self._left_out = grpo_batch
            return None, None
        log_probabilities: tuple[torch.Tensor, torch.Tensor | None] = super()._get_per_token_logps_and_entropies(
            model, model_inputs, grpo_batch, compute_entropy=compute_entropy, origin_data=origin_data
        )
        return log_probabilities

    def _needs_old(self, samples: list[GRPOSample]) -> bool:
        """Whether anything is made of the old log-probabilities that the pass which trains could not give."""
        return (
            (self.model.training and self.old_policy())
            or (self.kl_in_reward and self.beta != 0.0)
            or self.use_liger_loss
            # A teacher's are compared with them, whether it is a model or the policy that was told more.
            or self._has_teacher_explicit()
            or any(gather_object([any(sample.teacher_prompt or sample.teacher_images is not None for sample in samples)]))
        )

    def _get_per_token_logps_and_entropies_single(
        self, model: Any, model_inputs: dict[str, Any], grpo_batch: GRPOBatch, compute_entropy: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        mask = grpo_batch.completion_mask
        if self._prompt_once and not self._in_full(model, model_inputs):
            packed = prompt_once.pack(model_inputs["input_ids"], model_inputs["attention_mask"], mask)
            if packed is not None:
                # Where nothing is scored the policy has not moved: every ratio there is 1.
                old = grpo_batch.old_per_token_logps
                otherwise = torch.zeros_like(mask, dtype=torch.float32) if old is None else old
                log_probabilities = prompt_once.log_probabilities(model, packed, self.temperature, otherwise, entropy=compute_entropy)
                if log_probabilities is not None:
                    return log_probabilities
                self._in_full_because(model, "its attention is not transformers' own")
        plain: tuple[torch.Tensor, torch.Tensor | None] = super()._get_per_token_logps_and_entropies_single(
            model, model_inputs, grpo_batch, compute_entropy
        )
        return plain

    def _in_full(self, model: Any, model_inputs: dict[str, Any]) -> bool:
        """Whether each row is computed whole, for a reason that is said once for a model."""
        if id(model) not in self._uncovered:
            if self.is_multimodal or self.template.padding_free or self.template.sequence_parallel_size > 1:
                reason = "the run is multimodal, --padding_free or --sequence_parallel_size"
            else:
                reason = prompt_once.uncovered(self.accelerator.unwrap_model(model))
            self._in_full_because(model, reason)
        if not self._uncovered[id(model)] and (odd := model_inputs.keys() - _PADDED):
            self._in_full_because(model, f"the model is given {', '.join(sorted(odd))} too")
        return bool(self._uncovered[id(model)])

    def _in_full_because(self, model: Any, reason: str) -> None:
        self._uncovered[id(model)] = reason
        if reason and self.accelerator.is_main_process:
            logger.warning(f"The prompt of a group is computed for every completion (OVERTAKE_PROMPT_ONCE has no effect): {reason}.")

    def _by_length(self, samples: list[GRPOSample]) -> list[int] | None:
        """The order of the local samples that leaves least to pad; None where their order counts or cannot be changed."""
        batches, updates = self.args.steps_per_generation, self.args.gradient_accumulation_steps
        window = batches if updates >= batches else updates
        if (
            not self.model.training
            or window == 1
            or self.dynamic_num_samples
            or self.template.sequence_parallel_size > 1
            or self.loss_type in _ORDER_COUNTS
            or (self.kl_in_reward and self.beta != 0.0)
            or self.compute_entropy
            or len(samples) % batches
            or batches % window
        ):
            return None
        prompts = ["".join(str(turn["content"]) for turn in sample.messages[:-1]) for sample in samples]
        lengths = [sum(len(ids) if isinstance(ids, list) else 1 for ids in sample.response_token_ids) for sample in samples]
        return prompt_once.by_length(prompts, lengths, len(samples) // batches * window)

    def split_by_mini_batches(self, samples: list[Any]) -> list[list[Any]]:
        """Split into ms-swift's batches of the local samples, or of what belongs to each of them, in the order of their length."""
        if self._order is not None:
            samples = [samples[at] for at in self._order]
        batches: list[list[Any]] = super().split_by_mini_batches(samples)
        return batches

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
