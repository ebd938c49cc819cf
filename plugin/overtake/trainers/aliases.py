"""Plain names for what a run logs, beside its own, the same for GRPO and PPO: on every board, and in logging.jsonl.

docs/watching.md shows them with what is healthy. The judge's calls count as the teacher's, which it is unless one of its own is set.
An evaluation's names begin with `eval_`, as its own do.
"""

from collections.abc import Mapping
from typing import Any

FIRST_OF = {
    "avg_reward": ("reward",),
    "student_win_rate": ("rag/win_rate",),
    "student_avg_top1": ("rag/student_top1",),
    "teacher_avg_top1": ("rag/teacher_top1",),
    "rag_api_calls": ("calls/rag",),
    "cache_hit_rate": ("cache/hit_rate",),
    "policy_loss": ("loss/policy_avg", "loss"),
    "value_loss": ("loss/value_avg",),
    "clip_fraction": ("policy/clipfrac_avg", "clip_ratio/region_mean", "clip_ratio"),
}
"""Alias -> the names that it stands for, of which the first that was logged counts."""
SUM_OF = {"teacher_api_calls": ("calls/teacher", "calls/judge")}
"""Alias -> the names that it adds up."""


def aliases(logged: Mapping[str, Any]) -> dict[str, Any]:
    """The aliases of what was logged at a step or by an evaluation; none for what was not.

    >>> aliases({"loss": 0.2, "reward": 0.5, "calls/judge": 3.0})
    {'avg_reward': 0.5, 'policy_loss': 0.2, 'teacher_api_calls': 3.0}
    >>> aliases({"eval_loss": 0.0, "eval_reward": 0.5})
    {'eval_avg_reward': 0.5}
    """
    # ms-swift logs a loss of evaluation in RL, too, which says nothing; and the summary of a run has other names.
    mode = "eval_" if any(name.startswith("eval_") for name in logged) else ""
    renamed: dict[str, Any] = {}
    for alias, names in FIRST_OF.items():
        values = [logged[mode + name] for name in names if mode + name in logged and not (mode and name == "loss")]
        if values:
            renamed[mode + alias] = values[0]
    for alias, names in SUM_OF.items():
        if values := [logged[mode + name] for name in names if mode + name in logged]:
            renamed[mode + alias] = sum(values)
    return renamed
