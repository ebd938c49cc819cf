"""Ending a run in which a reward raised something, an outage or a fault in the data: all ranks together, with a checkpoint, in words."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from overtake.rewards.reward import Run


def adopt(trainer: Any, *, stops: bool) -> Run:
    """Put every reward function of a trainer behind the wrapper of ours; `stops` as in `Run`."""
    run = Run(stops=stops)
    names = getattr(trainer, "reward_func_names", None) or []
    # There may be fewer: a gym's reward has a name and no function. A reward model is a module, which ms-swift calls in another way.
    for at, (reward, name) in enumerate(zip(trainer.reward_funcs if names else [], names, strict=False)):
        if not isinstance(reward, torch.nn.Module):
            trainer.reward_funcs[at] = run.adopt(reward, name)
    return run


def stop_if_any(trainer: Any, reasons: list[str]) -> None:
    """End the process, with a checkpoint of the last step done, when any rank has a reason to. To be called by all ranks alike.

    The reason goes to standard error and into OUTPUT_DIR/stopped.txt, which the recipes show at the very end.
    Raises SystemExit.
    """
    device = trainer.accelerator.device
    if not trainer.accelerator.reduce(torch.tensor(len(reasons), device=device), "sum").item():
        return
    reason = gather_object(reasons[:1])[0]
    step = trainer.state.global_step
    checkpoint = Path(trainer.args.output_dir) / f"checkpoint-{step}"
    if step and not checkpoint.is_dir():
        trainer._save_checkpoint(trainer.model, trial=None)
    if trainer.is_world_process_zero():
        state_line = f"The run stands at {checkpoint}." if step else "No step was done, so there is nothing to save."
        message = f"error: stopped at step {step}. {reason} {state_line}\n"
        (Path(trainer.args.output_dir) / "stopped.txt").write_text(message, encoding="utf-8")
        sys.stderr.write(message)
    # The first rank to leave makes torchrun end the others.
    trainer.accelerator.wait_for_everyone()
    sys.exit(1)
