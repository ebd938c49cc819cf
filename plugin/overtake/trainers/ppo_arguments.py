"""What `--rlhf_type ppo` takes: PPO with reward functions goes ms-swift's way for GRPO, with another trainer at its end.

ms-swift's own PPO wants a reward network, ignores `--reward_funcs`, `--use_vllm`, `--max_steps` and `--max_grad_norm`, and cannot be
resumed (ms-swift-4.6: 2.15). GRPO's way has all of that: rows with their columns, rollouts by transformers or vLLM, adapters with a
reference, evaluation by the same rewards, checkpoints. So PPO's flags are put where GRPO has a place for them, and the trainer is ours.
"""

import sys
from typing import Any

_OTHERS: dict[str, tuple[Any, str]] = {
    "advantage_estimator": ("grpo", "PPO estimates advantages by GAE: --gamma and --lam"),
    "scale_rewards": (None, "PPO whitens advantages over the whole rollout; --whiten_rewards true does so with rewards"),
    "kl_in_reward": (None, "PPO's KL is always in the reward: --kl_coef"),
    "beta": (0.1, "PPO's is --kl_coef"),
    "num_iterations": (1, "PPO's is --num_ppo_epochs"),
    "epsilon": (0.2, "PPO's is --cliprange"),
    "epsilon_high": (None, "PPO clips by one number, --cliprange"),
    "delta": (None, "PPO clips by one number, --cliprange"),
    "loss_type": (None, "PPO's loss is its own, averaged over the tokens of a mini-batch"),
    "importance_sampling_level": ("token", "PPO's ratio is a token's"),
    "rollout_importance_sampling_mode": (None, "PPO takes the old log-probabilities anew from the policy"),
    "log_rollout_offpolicy_metrics": (False, "it is GRPO's only"),
    "off_policy_sequence_mask_delta": (None, "it is GRPO's only"),
    "top_entropy_quantile": (1.0, "PPO's entropy bonus is OVERTAKE_ENTROPY"),
    "log_entropy": (False, "PPO logs policy/entropy_avg always"),
    "overlong_filter": (False, "PPO's is --missing_eos_penalty"),
    "dynamic_sample": (False, "PPO has no groups"),
    "multi_turn_scheduler": (None, "PPO's rollouts are of one turn"),
    "use_gym_env": (None, "PPO's rollouts are of one turn"),
    "async_generate": (False, "PPO's rollouts are of the policy it trains"),
    "teacher_model": (None, "it is GRPO's and GKD's only"),
    "teacher_model_server": (None, "it is GRPO's and GKD's only"),
    "chord_sft_dataset": ([], "it is GRPO's only"),
    "use_liger_kernel": (False, "it knows no value loss"),
    "padding_free": (False, "the critic reads padded rows"),
    "packing": (False, "the critic reads padded rows"),
    "sequence_parallel_size": (1, "the critic reads whole rows"),
    "optimizer": (None, "the critic's learning rate needs a group of its own in the standard one"),
    "num_sample_generations": (10, "--log_completions true writes all of them"),
    "local_rollout_forward_batch_size": (64, "log-probabilities and values are taken --per_device_train_batch_size rows at a time"),
}
"""Flags that PPO has no place for, with the value that says they were not given, and what to do instead."""


def as_grpo(args: Any) -> None:
    """Turn the parsed arguments of `--rlhf_type ppo` into GRPO's, before anything is made of them; `args.ppo` then tells.

    Raises ValueError naming a flag that PPO has no place for, and what to set instead.
    """
    for name, (absent, instead) in _OTHERS.items():
        value = getattr(args, name)
        if value not in (absent, [] if absent is None else absent):
            raise ValueError(f"--{name} {value} has no meaning in PPO with reward functions: {instead}")
    for name, low, high in (("gamma", 0, 1), ("lam", 0, 1), ("kl_coef", 0, None), ("vf_coef", 0, None), ("cliprange", 0, None)):
        value = getattr(args, name)
        if value < low or (high is not None and value > high):
            raise ValueError(f"--{name} {value}: give a number {f'from {low} to {high}' if high else f'of at least {low}'}")
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
