"""Plans of ablations: variants of one system, each a model that is there or a command that trains one, over several seeds."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from overtake import text_table
from overtake.cli import Abort
from overtake.data.tables import BadInput, write_aside
from overtake.evaluation.comparing import SIGNIFICANT, Scores, verdict
from overtake.evaluation.statistics import Interval

Name = Annotated[str, Field(pattern=r"^[\w+][\w+ -]*$")]
DONE = "done.txt"
"""In a run's folder, when its command has ended well: the command."""


class Variant(BaseModel):
    """One row of the table: either `system`, or `command` whose last checkpoint it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    system: str = ""
    """What tools/evaluate.py takes behind NAME=."""
    command: str = ""
    """For bash, in the project's folder; {seed}, {out} (the run's own folder) and {checkpoint[NAME]} of a variant above are filled in."""
    prompt: str = ""
    """A file, named from the plan's folder, that stands in the place of the system prompt of training."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Variant":
        if bool(self.system) == bool(self.command):
            raise ValueError(f"{self.name}: give either system or command")
        return self


class Plan(BaseModel):
    """Plan of an ablation: variants, seeds and metrics; said before anything is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    against: Name
    """The variant that all others are taken from."""
    metrics: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    """Each command runs once with each of them."""
    variants: list[Variant] = Field(min_length=2)

    @model_validator(mode="after")
    def _consistent(self) -> "Plan":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"a variant stands twice among {', '.join(names)}")
        if self.against not in names:
            raise ValueError(f"against: {self.against} is not among the variants {', '.join(names)}")
        for at, entry in enumerate(self.variants):
            above = {name: "x" for name, other in zip(names[:at], self.variants, strict=False) if other.command}
            try:
                entry.command.format(seed=0, out="x", checkpoint=above)
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise ValueError(f"{entry.name}: {error} in its command is none of seed, out and checkpoint[a variant above]") from None
        return self


def read_plan(path: Path) -> Plan:
    """The plan of a YAML file. Raises BadInput naming what is wrong."""
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not readable as YAML: {error}") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, detail['loc'])) or 'plan'}: {detail['msg']}" for detail in error.errors()]
        raise BadInput(f"{path}: {'; '.join(faults)}: correct it") from None


def trained(plan: Plan, out: Path, root: Path) -> dict[str, list[str]]:
    """Every variant's systems, one for each seed; commands that have not ended yet are run, in `root`, each into runs/NAME/SEED of `out`.

    Raises Abort when a command fails, BadInput when a folder holds the run of another command.
    """
    systems_by_variant: dict[str, list[str]] = {}
    for variant in plan.variants:
        if not variant.command:
            systems_by_variant[variant.name] = [variant.system]
            continue
        systems_by_variant[variant.name] = []
        for place, seed in enumerate(plan.seeds):
            folder = (out / "runs" / variant.name.replace(" ", "_") / f"seed-{seed}").resolve()
            above = {name: shlex.quote(systems[min(place, len(systems) - 1)]) for name, systems in systems_by_variant.items() if systems}
            command = variant.command.format(seed=seed, out=shlex.quote(str(folder)), checkpoint=above)
            _run(f"{variant.name}, seed {seed}", command, folder, root)
            systems_by_variant[variant.name].append(str(_last_checkpoint(folder)))
    return systems_by_variant


def _run(label: str, command: str, folder: Path, root: Path) -> None:
    mark = folder / DONE
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != command:
            raise BadInput(f"{folder} holds a run of another command ({DONE} there says which): name another output, or remove it")
        print(f"{label}: done before")
        return
    log = folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{label}: {command}", flush=True)
    with log.open("wb") as stream:
        code = subprocess.run(
            ["bash", "-c", command], cwd=root, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False
        ).returncode
    if code:
        raise Abort(f"{label}: its command ended with {code}; see {log}, and remove {folder} to start it over")
    _last_checkpoint(folder)
    write_aside({mark: command.encode()})


def _last_checkpoint(folder: Path) -> Path:
    steps = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    if not steps:
        raise Abort(f"{folder} holds no checkpoint, though its command ended well: let it write there, as OUTPUT_DIR={{out}}")
    return max(steps, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def over_seeds(runs: Sequence[Scores], metrics: Sequence[str]) -> Scores:
    """Each row's mean over the runs of a variant, in what all of them measured.

    >>> over_seeds([{"a": {"hit": 1.0}}, {"a": {"hit": 0.0}, "b": {"hit": 1.0}}], ["hit"])
    {'a': {'hit': 0.5}}
    """
    rows = [row for row in runs[0] if all(row in run for run in runs)]
    return {row: {name: fmean(run[row][name] for run in runs) for name in metrics if all(name in run[row] for run in runs)} for row in rows}


def words(summary: Mapping[str, Any], by_seed: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The table: each variant's mean (with several seeds the least and the greatest), then what each difference shows, in words."""
    against = summary["against"]
    rows = [["variant", "metric", "mean [95 % interval]", "over seeds", f"  {against} minus it", "p (Holm)", "  shown"]]
    for name, means in summary["means"].items():
        for metric, mean in means.items():
            ends = [averages[metric] for averages in by_seed[name] if metric in averages]
            spread = f"{min(ends):.3f} to {max(ends):.3f}" if len(ends) > 1 else "one run"
            cells = [name, metric, str(mean), spread]
            difference: Interval | None = summary["differences"].get(name, {}).get(metric)
            if difference:
                chance = summary["p_holm"][name][metric]
                shown = f"{difference.mean:+.3f} [{difference.low:+.2f},{difference.high:+.2f}]"
                cells += [f"  {shown}", f"{chance:.3f}", f"  {verdict(difference, chance)}"]
            rows.append(cells)
    lines = text_table.lines(rows, ("<22", "<14", ">24", ">18", "<28", ">9", ""), ruled=True)
    lines.append(f"shown: p < {SIGNIFICANT:g} after Holm's correction over all differences here, and the 95 % interval excludes 0.")
    lines.append("Both are over the rows; a variant of several seeds counts with each row's mean over them.")
    return "\n".join(lines)
