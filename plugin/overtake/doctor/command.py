"""The ms-swift command that a recipe would run, read from what its dry run prints."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from overtake.data.tables import BadInput


class Command(NamedTuple):
    """Command `swift KIND` with its flags and the variables in front of it."""

    environment: dict[str, str]
    kind: str
    """sft, rlhf or sample."""
    flags: dict[str, list[str]]
    """By name, without the dashes."""

    def get(self, flag: str, default: str = "") -> str:
        """The first value of a flag."""
        return (self.flags.get(flag) or [default])[0]

    def number(self, flag: str, default: float) -> float:
        """A flag's number. Raises BadInput for what is none."""
        try:
            return float(self.get(flag, str(default)))
        except ValueError:
            raise BadInput(f"--{flag} {self.get(flag)}: give a number") from None

    @property
    def rl(self) -> str:
        """Name of the RL method, grpo or ppo; "" for another command."""
        return self.get("rlhf_type") if self.kind == "rlhf" else ""

    def variable(self, name: str, default: str) -> str:
        """A variable in front of the command, else of the environment that it will inherit."""
        return self.environment.get(name, os.environ.get(name, default))

    @property
    def processes(self) -> int:
        """Number of processes that train together, over all machines."""
        return int(self.variable("NPROC_PER_NODE", "1")) * int(self.variable("NNODES", "1"))

    @property
    def update(self) -> int:
        """Number of samples of an update of the weights, all processes together. Raises BadInput for a flag that is no number."""
        return int(self.number("per_device_train_batch_size", 1) * self.number("gradient_accumulation_steps", 1) * self.processes)


def parse(text: str) -> Command:
    r"""The last command in `text`, in which lines end in a backslash.

    >>> command = parse("A=1 swift rlhf \\\n    --rlhf_type grpo \\\n    --reward_weights 1.0 0.2")
    >>> command.environment, command.rl, command.flags["reward_weights"]
    ({'A': '1'}, 'grpo', ['1.0', '0.2'])

    Raises BadInput when there is none.
    """
    for line in reversed(text.replace("\\\n", " ").splitlines()):
        argv = shlex.split(line) if " swift " in f" {line}" else []
        if "swift" not in argv or argv.index("swift") + 1 >= len(argv):
            continue
        at = argv.index("swift")
        environment = dict(word.split("=", 1) for word in argv[:at] if "=" in word)
        flags: dict[str, list[str]] = {}
        name = ""
        for word in argv[at + 2 :]:
            if word.startswith("--"):
                name, _, value = word[2:].partition("=")
                flags[name] = [value] if value else []
            elif name:
                flags[name].append(word)
        return Command(environment, argv[at + 1], flags)
    raise BadInput("no command `swift ...` was given: give what a recipe prints with DRY_RUN=1")


def of_recipe(recipe: Path, flags: Sequence[str] = (), settings: Mapping[str, str] | None = None) -> Command:
    """Command that a recipe would run with these flags and recipe variables. Raises BadInput with its own words when it refuses."""
    environment = {**os.environ, **(settings or {}), "DRY_RUN": "1"}
    dry_run = subprocess.run(["bash", str(recipe), *flags], capture_output=True, text=True, env=environment, check=False)
    if dry_run.returncode:
        raise BadInput(dry_run.stderr.strip().splitlines()[-1].removeprefix("error: ") if dry_run.stderr.strip() else f"{recipe} failed")
    return parse(dry_run.stdout)
