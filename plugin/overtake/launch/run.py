"""One run of a recipe: what recipe, profile and user gave, the command that comes of it, and the checks before it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overtake import model_family
from overtake.launch import checkpoints, machine
from overtake.launch.builds import clear_locks
from overtake.launch.command import Flags, Refused, drop, one_line, put, text, value, words
from overtake.launch.processes import run_group

ROOT = Path(__file__).absolute().parents[3]
PLUGIN = ROOT / "plugin/register.py"
_ROWS = re.compile(r"(.*?)(#[0-9]+)?", re.DOTALL)
_KILLED = (128 + 9, 256 - 9)
"""Exit statuses of a program that ended by SIGKILL, and of a Python launcher that hands its child's on."""


def note(remark: str) -> None:
    """Print a remark on stderr."""
    print(remark, file=sys.stderr, flush=True)


def absolute(path: str | Path) -> Path:
    """A path from the root, symbolic links followed; it need not be there."""
    return Path(os.path.realpath(path))


def local_or_hub(name: str) -> str:
    """A file or folder that is there by its whole path, so that ms-swift finds it from any folder; a hub's name as it is."""
    return str(absolute(name)) if Path(name).exists() else name


def cut_rows(name: str) -> tuple[str, str]:
    """Return (path, number of rows behind it): name#500 takes 500 rows, any other # is part of the name.

    >>> cut_rows("a#2/b#.jsonl#3"), cut_rows("C#/rl.jsonl")
    (('a#2/b#.jsonl', '#3'), ('C#/rl.jsonl', ''))
    """
    whole = _ROWS.fullmatch(name)
    return (whole[1], whole[2] or "") if whole else (name, "")


@dataclass
class Run:
    """A command of ms-swift in the making."""

    given: Mapping[str, Sequence[str]]
    """What the recipe and its profile hand over, by name: see recipes/lib.sh."""
    settings: dict[str, str]
    """The environment: the user's variables, and what the launcher inherits."""
    flags: Flags = field(default_factory=dict)
    assigned: list[str] = field(default_factory=list)
    """NAME=value in front of the command."""
    launcher: tuple[str, ...] = ("swift",)

    def __post_init__(self) -> None:
        self.assigned = [*self.given.get("run_env", ())]

    @property
    def dry(self) -> bool:
        """Return whether the command is only printed: no hardware, file, endpoint or hub is asked."""
        return self.settings.get("DRY_RUN") == "1"

    @property
    def full(self) -> bool:
        """Return whether all weights are trained, not LoRA's."""
        return self.settings.get("TUNER") == "full"

    def one(self, name: str, default: str = "") -> str:
        """The first word that was handed over under a name; `default` where there is none, or it is empty."""
        return next(iter(self.given.get(name, ())), "") or default

    def setting(self, name: str, default: str = "") -> str:
        """A variable of the user's; `default` where it is not set, or empty."""
        return self.settings.get(name) or default

    def put(self, *more: str) -> None:
        """Set flags."""
        put(self.flags, *more)

    def put_given(self, *names: str) -> None:
        """Set the flags that were handed over under these names."""
        for name in names:
            self.put(*self.given.get(name, ()))

    def value(self, name: str) -> str:
        """The first value of a flag, "" where it has none."""
        return value(self.flags, name)

    def want(self, problem: str) -> None:
        """Raise Refused; in a dry run it is only a remark."""
        if not self.dry:
            raise Refused(problem)
        note(f"note: {one_line(problem)}")

    # ------------------------------------------------------------ machine and rows

    def take_machine(self) -> None:
        """Look at the cards that the profile wants and enter the environment. Raises Refused."""
        count = int(self.one("gpus", "0"))
        if count:
            # More visible cards than processes would make ms-swift spread one model over several, which neither DeepSpeed nor vLLM takes.
            if not self.setting("CUDA_VISIBLE_DEVICES"):
                self.assigned.append(f"CUDA_VISIBLE_DEVICES={','.join(map(str, range(count)))}")
            if not self.dry:
                machine.check_cards(self.one("profile"), machine.cards(self.settings), count, int(self.one("gpu_gb", "0")))
        if not self.dry:
            machine.enter_environment(self.settings, ROOT)

    def put_model(self, name: str) -> None:
        """Name the model."""
        model = local_or_hub(name)
        self.put("--model", model)
        # ms-swift compares local weights with the hub's at start: 7 s of retries without a network, and nothing to find for a folder.
        if Path(model).is_dir():
            self.put("--check_model", "false")

    def put_base(self, adapter: Path, model: str) -> None:
        """Name what an adapter was trained on; `model` in its place where it is set."""
        base = checkpoints.base_of(adapter, model, self.dry)
        self.put_model(base.model)
        # A model of one's own is not known by its name, so what the SFT run was told goes on.
        if base.model_type:
            self.put("--model_type", base.model_type)
        if base.template:
            self.put("--template", base.template)

    def put_start(self, task: str) -> None:
        """Name the checkpoint that RL starts from: --model where all weights were trained, else --adapters on their base.

        The KL term is then against it, not against the base.
        """
        start, sft = self.setting("SFT_ADAPTER"), ROOT / "output" / task / "sft"
        default = self.setting("MODEL", self.one("default_model"))
        if start == "none":
            self.put_model(default)
            return
        folder = absolute(start) if start else checkpoints.last(sft)
        if folder is None:
            remedy = "Run the SFT recipe first, or set SFT_ADAPTER= (a checkpoint, or none to start from MODEL)"
            self.want(f"there is no checkpoint under {sft}. {remedy}")
            folder = sft / "checkpoint-LAST"
        folder = absolute(folder)
        there = folder.exists()
        if checkpoints.is_adapter(folder) or (self.dry and not there and not self.full):
            if self.full:
                remedy = f"Merge it first: ADAPTER={folder} bash recipes/export.sh"
                raise Refused(f"{folder} is a LoRA adapter, so TUNER=full cannot go on from it. {remedy}")
            if there:
                self.put_base(folder, self.setting("MODEL"))
            else:
                self.put_model(default)
            self.put("--adapters", str(folder), "--ref_adapters", str(folder))
        elif checkpoints.is_model(folder) or (self.dry and not there):
            self.put_model(str(folder))
        else:
            raise Refused(f"{folder} is no checkpoint: neither adapter_config.json nor config.json is in it")

    def put_rows(self, task: str, train: str, held_out: str) -> None:
        """Name the rows, checked before anything is loaded: DATASET and VAL_DATASET, else files of these names under output/."""
        first, second = self.given.get("data_files") or (train, held_out)
        rows, beside = self.setting("DATASET"), self.setting("VAL_DATASET")
        folder = ROOT / "output" / task / "data"
        if not rows:
            rows = f"{folder}/{first}"
            beside = beside or (f"{folder}/{second}" if second else "")
        elif not beside and second and (sibling := Path(rows).parent / second).is_file():
            beside = str(sibling)
        for flag, name in (("--dataset", rows), ("--val_dataset", beside)):
            file, _ = cut_rows(name)
            # What does not look like a file is a hub's data set.
            if re.search(r"\.(jsonl?|csv)$", file) and not _holds_anything(Path(file)):
                remedy = f"Make it: python {self.one('data_tool')}; or set DATASET= (and VAL_DATASET=)"
                self.want(f"{file} does not exist or is empty. {remedy}")
            if name:
                self.put(flag, self._named_rows(name))

    def _named_rows(self, name: str) -> str:
        """A file under the data set's name by which it is read, where there is one; any other name is a hub's or a registered one."""
        file, rows = cut_rows(name)
        kind = self.one("data_name")
        if kind and ":" not in file and re.search(r"\.(jsonl?|csv|xlsx|parquet)$", file):
            return f"{kind}:{absolute(file)}{rows}"
        return local_or_hub(name) if Path(name).exists() else local_or_hub(file) + rows

    # ------------------------------------------------------------ the command

    def name_family(self) -> None:
        """Say what ms-swift calls the model of a folder whose name it may not know; words of the caller's, or of an earlier run, stay."""
        model = Path(self.value("--model") or "/nowhere")
        if "--template" in self.flags or "--model_type" in self.flags or not checkpoints.is_model(model):
            return
        try:
            self.put(*model_family.flags(model))
        except ValueError as error:
            raise Refused(" ".join(str(error).split())) from None

    def text(self, subcommand: str) -> str:
        """The command as it is printed."""
        self.name_family()
        return text(self.assigned, self.launcher, subcommand, self.flags)

    def start(self, subcommand: str) -> None:
        """Print the command and, unless dry, run it. Raises SystemExit with its status when that is not 0."""
        print(self.text(subcommand), flush=True)
        if not self.dry:
            environment = self.settings | dict(variable.split("=", 1) for variable in self.assigned)
            for lock in clear_locks(environment):
                note(f"note: removed {lock}, which a run that was cut off had left: this one would have waited for it for ever")
            self.check(run_group(words(self.launcher, subcommand, self.flags), environment))

    def check(self, status: int) -> None:
        """Raise SystemExit with a status other than 0, after a remark where the program was killed."""
        if status in _KILLED:
            note(
                "note: it was killed (signal 9), which the kernel does where memory runs out (dmesg | grep -i oom). Less of it: a smaller "
                "--per_device_train_batch_size, --gradient_checkpointing true; python tools/doctor.py --memory PROFILE counts it"
            )
        if status:
            raise SystemExit(status)

    def tool(self, *argv: str, echoed: str | None = None) -> int:
        """Run a program of this project's; `echoed` is its input. The exit status."""
        path = self.settings.get("PYTHONPATH")
        environment = self.settings | {"PYTHONPATH": f"{ROOT / 'plugin'}{':' + path if path else ''}"}
        return subprocess.run(["python", *argv], input=echoed, text=True, env=environment, check=False).returncode

    def drop(self, *names: str) -> None:
        """Take flags out."""
        drop(self.flags, *names)


def _holds_anything(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0
