"""Boards of a run: REPORT_TO as flags and variables of ms-swift. Standard library alone, since the recipes ask before anything else.

    REPORT_TO=wandb bash recipes/grpo_rag.sh       # wandb, swanlab, or both; beside TensorBoard, which is always written

A key is read from the environment (WANDB_API_KEY, SWANLAB_API_KEY) by the board's own package. Without one the run is written into a
folder of the run's output, and nothing is sent: `wandb sync` or `swanlab sync` sends it later, `swanlab watch` shows it here.
"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from os import environ
from pathlib import Path

EXTRAS = ("wandb", "swanlab")
"""The boards that need a package, which pyproject.toml has as an extra of that name."""
PROJECT = "overtake"


def boards(requested: str) -> list[str]:
    """The boards that REPORT_TO names, TensorBoard first. Raises ValueError for one that is not known.

    >>> boards("wandb, swanlab"), boards("tensorboard"), boards("")
    (['tensorboard', 'wandb', 'swanlab'], ['tensorboard'], ['tensorboard'])
    """
    names = requested.replace(",", " ").split()
    if unknown := [name for name in names if name not in ("tensorboard", *EXTRAS)]:
        raise ValueError(f"REPORT_TO={unknown[0]}: give wandb, swanlab or both; TensorBoard is always written")
    return ["tensorboard", *(name for name in EXTRAS if name in names)]


def report(requested: str, folder: Path, settings: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return (flags, NAME=value variables) for a run in `folder`; what the user has set stays. Raises ValueError for an unknown board.

    >>> report("wandb", Path("out"), {})
    (['--report_to', 'tensorboard', 'wandb'], ['WANDB_PROJECT=overtake', 'WANDB_DIR=out', 'WANDB_MODE=offline'])
    >>> report("swanlab", Path("out"), {"SWANLAB_API_KEY": "s3cret"})[0]
    ['--report_to', 'tensorboard', 'swanlab', '--swanlab_project', 'overtake', '--swanlab_mode', 'cloud']
    """
    names = boards(requested)
    flags = ["--report_to", *names]
    defaults: dict[str, str] = {}
    if "wandb" in names:
        defaults |= {"WANDB_PROJECT": PROJECT, "WANDB_DIR": str(folder)}
        if not settings.get("WANDB_API_KEY"):
            defaults["WANDB_MODE"] = "offline"
    if "swanlab" in names:
        defaults["SWANLAB_LOG_DIR"] = str(folder / "swanlog")
        mode = "cloud" if settings.get("SWANLAB_API_KEY") else "local"
        flags += ["--swanlab_project", settings.get("SWANLAB_PROJECT") or PROJECT, "--swanlab_mode", mode]
    return flags, [f"{name}={value}" for name, value in defaults.items() if not settings.get(name)]


def missing(requested: str) -> str:
    """Return what is to be installed for REPORT_TO, in words; "" where everything is there.

    >>> missing("tensorboard")
    ''
    """
    lacking = [name for name in boards(requested) if name in EXTRAS and not find_spec(name)]
    return f"REPORT_TO={requested}: {lacking[0]} is not installed: pip install -e '.[{lacking[0]}]'" if lacking else ""


def main() -> int:
    """Look for what REPORT_TO needs; 2 with one line for what is not installed here."""
    message = missing(environ.get("REPORT_TO", ""))
    if message:
        print(f"error: {message}", file=sys.stderr)
    return 2 if message else 0


if __name__ == "__main__":
    sys.exit(main())
