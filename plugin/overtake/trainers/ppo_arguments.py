"""Arguments of `--rlhf_type ppo`: PPO with reward functions goes ms-swift's way for GRPO, with another trainer at its end.

ms-swift's own PPO wants a reward network, ignores `--reward_funcs`, `--use_vllm`, `--max_steps` and `--max_grad_norm`, and cannot be
resumed. GRPO's way has all of that: rows with their columns, rollouts by transformers or vLLM, adapters with a
reference, evaluation by the same rewards, checkpoints. So PPO's flags are put where GRPO has a place for them, and the trainer is ours.
"""

import dataclasses
import math
import sys
from typing import Any

_OTHERS = {
    "advantage_estimator": "PPO estimates advantages by GAE: --gamma and --lam",
    "scale_rewards": "PPO whitens advantages over the whole rollout; --whiten_rewards true does so with rewards",
    "kl_in_reward": "PPO's KL is always in the reward: --kl_coef",
    "beta": "PPO's is --kl_coef",
    "num_iterations": "PPO's is --num_ppo_epochs",
    "epsilon": "PPO's is --cliprange",
    "epsilon_high delta": "PPO clips by one number, --cliprange",
    "loss_type loss_weights label_smoothing label_smoothing_factor enable_dft_loss enable_channel_loss router_aux_loss_coef": (
        "PPO's loss is its own, averaged over the tokens of a mini-batch"
    ),
    "importance_sampling_level": "PPO's ratio is a token's",
    "rollout_importance_sampling_mode rollout_importance_sampling_threshold": ("PPO takes the old log-probabilities anew from the policy"),
    "log_rollout_offpolicy_metrics off_policy_sequence_mask_delta": "it is GRPO's only",
    "top_entropy_quantile": "PPO's entropy bonus is OVERTAKE_ENTROPY",
    "log_entropy": "PPO logs policy/entropy_avg always",
    "overlong_filter": "PPO's is --missing_eos_penalty",
    "dynamic_sample max_resample_times": "PPO has no groups",
    "multi_turn_scheduler max_turns completion_length_limit_scope vllm_server_pass_dataset use_gym_env gym_env": (
        "PPO's rollouts are of one turn"
    ),
    "async_generate": "PPO's rollouts are of the policy it trains",
    "sync_ref_model ref_model_sync_steps ref_model_mixup_alpha": "PPO's reference stays; OVERTAKE_TARGET_KL says how far the policy may go",
    "teacher_model teacher_model_server teacher_adapters teacher_model_type teacher_model_revision teacher_deepspeed "
    "offload_teacher_model teacher_tag_key teacher_kl_coef advantage_reweight rlsd_lambda rlsd_reweight_clip_range "
    "rlsd_lambda_warmup_steps rlsd_lambda_decay_steps rlsd_negative_only sdar_loss_coef sdar_gate_beta": "it is GRPO's and GKD's only",
    "chord_sft_dataset chord_sft_per_device_train_batch_size chord_enable_phi_function chord_mu_warmup_steps chord_mu_decay_steps "
    "chord_mu_peak chord_mu_valley tau_pos tau_neg real_tau fipo_decay_rate fipo_clip_range fipo_clip_high_only "
    "fipo_safety_threshold": "it is GRPO's only",
    "rpo_alpha ld_alpha discopop_tau cpo_alpha simpo_gamma desirable_weight undesirable_weight center_rewards_coefficient sft_alpha "
    "lmbda seq_kd gkd_logits_topk": "it is another --rlhf_type's",
    "use_liger_kernel": "it knows no value loss",
    "padding_free packing": "the critic reads padded rows",
    "sequence_parallel_size": "the critic reads whole rows",
    "fsdp": "it does not shard the critic: --deepspeed zero2 or zero3 does",
    "optimizer lorap_lr_ratio use_galore": "the critic's learning rate needs a group of its own in the standard optimiser",
    "num_sample_generations": "--log_completions true writes all of them",
    "local_rollout_forward_batch_size": "log-probabilities and values are taken --per_device_train_batch_size rows at a time",
}
"""Flags that PPO has no place for, and what to do instead. docs/learning.md says how the others are honoured."""

_BOUNDS = {
    **dict.fromkeys(("gamma", "lam"), (0, 1)),
    **dict.fromkeys(("kl_coef", "vf_coef", "cliprange", "cliprange_value", "missing_eos_penalty"), (0, math.inf)),
    **dict.fromkeys(("num_ppo_epochs", "num_mini_batches"), (1, math.inf)),
}


def _absent(args: Any) -> dict[str, Any]:
    """The value of each flag that was not given."""
    defaults = {}
    for field in dataclasses.fields(args):
        factory = field.default_factory
        defaults[field.name] = field.default if factory is dataclasses.MISSING else factory()
    # ms-swift fills this one in before plugins are loaded.
    return defaults | {"beta": 0.1}


def as_grpo(args: Any) -> None:
    """Turn the parsed arguments of `--rlhf_type ppo` into GRPO's, before anything is made of them; `args.ppo` then tells.

    Raises ValueError naming a flag that PPO has no place for, and what to set instead.
    """
    absent = _absent(args)
    for names, instead in _OTHERS.items():
        for name in names.split():
            value = getattr(args, name)
            if value != absent[name] and value not in (None, []):
                raise ValueError(f"--{name} {value} has no meaning in PPO with reward functions: {instead}")
    if args.tuner_type not in ("lora", "full"):
        raise ValueError(f"--tuner_type {args.tuner_type}: the critic is trained by lora or full, as the policy is; give one of them")
    for name, (low, high) in _BOUNDS.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name} {value}: give a number {f'of at least {low}' if high == math.inf else f'from {low} to {high}'}")
    if args.num_mini_batches > 1:
        if args.steps_per_generation or args.generation_batch_size:
            raise ValueError(
                f"--num_mini_batches {args.num_mini_batches} beside --steps_per_generation or --generation_batch_size: give one of them"
            )
        args.steps_per_generation = args.num_mini_batches * (args.gradient_accumulation_steps or 1)
    args.rlhf_type, args.ppo = "grpo", True
    args.beta, args.epsilon, args.num_iterations = args.kl_coef, args.cliprange, args.num_ppo_epochs
    # What ms-swift did for PPO before the plugin was loaded, done again for GRPO.
    args.padding_side = "right"
    args._init_grpo()
    args._set_default()
    args._init_rollout()
    # Its only objection to a single rollout of a prompt, for which PPO needs no siblings.
    args._check_teacher = lambda: None
    args._teacher_use_disable_adapter = False


def accept_ppo() -> None:
    """Make ms-swift's arguments and factory take `--rlhf_type ppo --reward_funcs ...`; doing it again changes nothing.

    Without `--reward_funcs` PPO stays ms-swift's own, which needs `--reward_model`.
    """
    # Where it is not loaded nothing is trained by PPO, and it takes seconds to load.
    module = sys.modules.get("swift.arguments.rlhf_args")
    if module is None or hasattr(module.RLHFArguments, "ppo"):
        return
    from swift.trainers import TrainerFactory

    launched = module.RLHFArguments
    launched.ppo = False
    prepare, choose = launched._init_model_kwargs, TrainerFactory.get_cls

    # The first thing that ms-swift does after it has loaded the plugins.
    def prepare_ppo(args: Any) -> None:
        if args.rlhf_type == "ppo" and args.reward_funcs:
            as_grpo(args)
        elif args.rlhf_type == "ppo" and not args.reward_model:
            raise ValueError("--rlhf_type ppo has no reward: name --reward_funcs (e.g. rag_competition rewrite_rules), or a --reward_model")
        prepare(args)

    def choose_ppo(args: Any, mapping: dict[str, str]) -> Any:
        if getattr(args, "ppo", False):
            trainer = mapping is TrainerFactory.TRAINER_MAPPING
            mapping = {"grpo": "overtake.trainers.ppo.PPOTrainer" if trainer else "overtake.trainers.ppo.PPOConfig"}
        return choose(args, mapping)

    launched._init_model_kwargs = prepare_ppo
    TrainerFactory.get_cls = staticmethod(choose_ppo)
