"""On-policy distillation on a recipe of GRPO: DISTILL_FROM= names the teacher whose term joins the reward, REWARD=none leaves that alone.

docs/learning.md says which way to learn when, and what each flag does.
"""

from pathlib import Path

from overtake import model_family
from overtake.launch import checkpoints
from overtake.launch.command import Refused
from overtake.launch.run import Run, absolute, local_or_hub

_OF_GRPO = (
    *("--reward_funcs", "--reward_weights", "--num_generations", "--scale_rewards", "--teacher_kl_coef", "--early_stop_interval"),
    *("--metric_for_best_model", "--greater_is_better", "--log_entropy"),
    *("--async_generate", "--rollout_importance_sampling_mode"),
)
"""Flags that GKD has no place for; its best checkpoint is that of the lowest held-out loss."""


def put_teacher(run: Run, kind: str) -> None:
    """Set the flags of DISTILL_FROM and REWARD. Raises Refused for what is no teacher, and where nothing is left to learn from."""
    teacher, reward = run.setting("DISTILL_FROM"), run.setting("REWARD")
    if (teacher or reward) and kind != "grpo":
        name = f"DISTILL_FROM={teacher}" if teacher else f"REWARD={reward}"
        raise Refused(f"{name}: a teacher's term is added by the recipes grpo_*.sh alone; take one of them, or leave it out")
    if reward not in ("", "none"):
        raise Refused(f"REWARD={reward}: none, for the teacher's term alone, or leave it out for the recipe's rewards")
    if reward and not teacher:
        raise Refused("REWARD=none leaves nothing to learn from: set DISTILL_FROM= to a model's folder or hub name, an address, or self")
    if not teacher:
        return
    if teacher == "self":
        run.assigned.append("OVERTAKE_SELF_TEACHER=1")
    elif teacher.startswith(("http://", "https://")):
        # A server's log-probabilities are of temperature 1, and the student's are compared with them.
        run.put("--teacher_model_server", teacher, "--temperature", "1.0", "--top_p", "1.0")
    else:
        _put_local(run, teacher)
    # The teacher is the anchor, so no reference is computed beside it. What distillation may end in is seen by the entropy.
    run.put("--beta", "0", "--log_entropy", "true")
    if reward:
        run.drop("--reward_funcs", "--reward_weights")
        # Nothing is compared with a sibling; the best checkpoint is the one nearest to the teacher on held-out rows.
        run.put(
            "--num_generations", "1", "--scale_rewards", "none", "--metric_for_best_model", "teacher_kl", "--greater_is_better", "false"
        )


def _put_local(run: Run, name: str) -> None:
    """Name a teacher that is loaded: a model, or an adapter on its base."""
    folder = absolute(name)
    if checkpoints.is_adapter(folder):
        base = checkpoints.base_of(folder, "", run.dry)
        run.put("--teacher_model", local_or_hub(base.model), "--teacher_adapters", str(folder))
        if base.model_type:
            run.put("--teacher_model_type", base.model_type)
        return
    if folder.is_dir() and not checkpoints.is_model(folder):
        raise Refused(f"DISTILL_FROM={name} is no model: neither config.json nor adapter_config.json is in it")
    if not folder.is_dir() and name.startswith(("/", ".", "~")):
        run.want(f"DISTILL_FROM={name}: there is no such folder. Give a model's folder or hub name, an address (http://...), or self")
    run.put("--teacher_model", local_or_hub(name))
    if folder.is_dir():
        run.put(*_model_type(run, folder))


def _model_type(run: Run, folder: Path) -> list[str]:
    """The words by which ms-swift, which finds no family by a folder's name, knows a teacher's; none where config.json is enough for it.

    A teacher never writes a prompt, so one without a chat template is of the student's family where it has the student's architecture.
    """
    student = Path(run.value("--model") or "/nowhere")
    try:
        named = model_family.family(folder)
        return ["--teacher_model_type", named.model_type] if named else []
    except ValueError as error:
        if checkpoints.is_model(student) and model_family.architecture(student) == model_family.architecture(folder):
            return ["--teacher_model_type", model_family.types(folder)[0]]
        raise Refused(f"DISTILL_FROM: {' '.join(str(error).split())}") from None


def fit_gkd(run: Run) -> None:
    """Leave out what GKD (`--rlhf_type gkd` behind the recipe) has no place for; it learns from a loaded teacher's whole distribution."""
    if run.value("--rlhf_type") != "gkd":
        return
    if not run.value("--teacher_model"):
        raise Refused("--rlhf_type gkd needs the whole distribution of a loaded teacher: set DISTILL_FROM= to a model's folder or hub name")
    run.drop(*_OF_GRPO)
