"""Overtake: what ms-swift sees of this package. register() puts our rewards and datasets into its tables."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> "module:Class", imported only inside register(). One class per reward: its name is the metric's name.
# Under the same name it is a reward of GRPO and PPO, and `swift sample`'s process and outcome reward.
REWARDS: dict[str, str] = {
    "answer_format": "overtake.rewards.answer_format:AnswerFormat",
    "finance_accuracy": "overtake.tasks.finance.rewards.finance_accuracy:FinanceAccuracy",
    "keyword_answer": "overtake.tasks.finance.rewards.keyword_answer:KeywordAnswer",
    "numeric_answer": "overtake.tasks.finance.rewards.numeric_answer:NumericAnswer",
    "rag_competition": "overtake.tasks.query_rewrite.rewards.rag_competition:RagCompetition",
    "rag_retrieval": "overtake.tasks.query_rewrite.rewards.rag_retrieval:RagRetrieval",
    "rag_win": "overtake.tasks.query_rewrite.rewards.rag_win:RagWin",
    "teacher_judge": "overtake.tasks.query_rewrite.rewards.teacher_judge:TeacherJudge",
    "rewrite_rules": "overtake.tasks.query_rewrite.rewards.rewrite_rules:RewriteRules",
    "judge_format": "overtake.tasks.answer_judge.rewards.judge_format:JudgeFormat",
    "judge_verdict": "overtake.tasks.answer_judge.rewards.judge_verdict:JudgeVerdict",
    "medical_answer": "overtake.tasks.medical.rewards.medical_answer:MedicalAnswer",
    "medical_rules": "overtake.tasks.medical.rewards.medical_rules:MedicalRules",
}
# Name for --dataset -> "module:function" that makes its DatasetMeta (preprocessor and loader).
DATASETS: dict[str, str] = {
    "overtake/query_rewrite": "overtake.tasks.query_rewrite.dataset:query_rewrite",
    "overtake/finance": "overtake.tasks.finance.dataset:finance",
    "overtake/sample": "overtake.tasks.query_rewrite.sample_dataset:sample",
    "overtake/judge": "overtake.tasks.answer_judge.dataset:judge",
    "overtake/medical": "overtake.tasks.medical.dataset:medical",
}
# Name for --callbacks -> "module:Class" made of args and trainer.
CALLBACKS: dict[str, str] = {"overtake_metrics": "overtake.trainers.metrics_callback:MetricsCallback"}
# --rlhf_type -> "module.Class", imported by ms-swift when it trains. PPO has no line: see trainers/ppo_arguments.py.
TRAINERS: dict[str, str] = {"grpo": "overtake.trainers.grpo.GRPOTrainer"}


def load(target: str) -> Any:
    """Return what "package.module:Name" names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def register() -> None:
    """Fill ms-swift's tables. Doing it again changes nothing; ms-swift does it in every loader, rollout and server process."""
    from swift.callbacks import callbacks_map
    from swift.dataset import register_dataset
    from swift.rewards import orms, prms
    from swift.trainers import TrainerFactory

    for name, target in REWARDS.items():
        # --reward_funcs and --orm_model; --prm_model
        orms[name] = prms[name] = load(target)
    for target in DATASETS.values():
        register_dataset(load(target)(), exist_ok=True)
    for name, target in CALLBACKS.items():
        callbacks_map[name] = load(target)
    TrainerFactory.TRAINER_MAPPING.update(TRAINERS)
    load("overtake.trainers.ppo_arguments:accept_ppo")()
    load("overtake.trainers.on_cpu:join_ranks_by_gloo")()
