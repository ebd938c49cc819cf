"""Ending a run in which a reward raised something, an outage or a fault in the data: all ranks together, with a checkpoint, in words."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object


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
        kept = f"The run stands at {checkpoint}." if step else "No step was done, so there is nothing to save."
        words = f"error: stopped at step {step}. {reason} {kept}\n"
        (Path(trainer.args.output_dir) / "stopped.txt").write_text(words, encoding="utf-8")
        sys.stderr.write(words)
    # The first rank to leave makes torchrun end the others.
    trainer.accelerator.wait_for_everyone()
    sys.exit(1)
