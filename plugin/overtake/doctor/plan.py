"""The plan of a project before anything is rented: memory of each part, steps, calls, price and time of every recipe on given cards."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from overtake import settings
from overtake.data.tables import BadInput
from overtake.doctor import forecast, memory
from overtake.doctor import rows as row_files
from overtake.doctor.command import Command, of_recipe
from overtake.evaluation import costs
from overtake.task import Task, rewards

_RUNS = re.compile(r"^run_(sft|grpo|ppo) (\w+)", re.MULTILINE)
_WANTED = re.compile(r"^GPUS=(\d+) GPU_GB=(\d+)$", re.MULTILINE)
# A folder that is planned with need hold no chat template.
_ANY_TEMPLATE = ["--template", "chatml"]


class Stage(NamedTuple):
    """Needs of a recipe that trains."""

    task: str
    recipe: str
    algorithm: str
    gb: dict[str, float]
    """Of a card in training, by part."""
    peak_gb: float
    """The most that a card holds at a time, vLLM's share included."""
    card_gb: float
    fits: bool
    instead: str
    """The profile for these cards in which it would fit, where it does not; "" for none."""
    arithmetic: list[str]
    steps: int
    how_many: str
    completions: int
    retrievals: int
    verdicts: int
    teacher_calls: int
    """For the rows that SFT needs, at least."""
    usd: float | None
    """None where a price is not known."""
    price: str
    hours: float | None
    """None where no tokens/s was measured."""
    time: str
    expected: str
    """By the project."""


class Measured(NamedTuple):
    """Speed on one card of a model in the shape of `weights`, by the JSON of tools/gpu_check.sh."""

    source: str
    card: str
    """The card's size, e.g. 80g."""
    weights: float
    tokens_s: dict[str, float]
    """Of rows in SFT, of completions in GRPO and PPO; by algorithm."""


def gpus(text: str) -> tuple[int, int]:
    """Return (cards, GB of each) of "4x80". Raises BadInput.

    >>> gpus("4x80"), gpus("1X24GB")
    ((4, 80), (1, 24))
    """
    parts = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})(?:gb?)?", text.strip(), re.IGNORECASE)
    if not parts:
        raise BadInput(f"--gpus {text}: give COUNTxGB, e.g. 4x80 for four cards of 80 GB")
    return int(parts[1]), int(parts[2])


def row_count(text: str | None) -> int:
    """The number in --rows. Raises BadInput."""
    if text is None or not re.fullmatch(r"[1-9]\d{0,11}", text):
        raise BadInput(f"--rows {'is missing' if text is None else text}: give the number of rows, at least 1")
    return int(text)


@contextmanager
def located(model: str) -> Iterator[str]:
    """A word for the recipes' MODEL: a default model's name, or a folder with the config.json of the folder or file that is named.

    Raises BadInput where the sizes are not to be had.
    """
    path = Path(model)
    config = path / "config.json" if path.is_dir() else path
    if config.is_file():
        with TemporaryDirectory(prefix="overtake_plan_") as folder:
            place = Path(folder) / "config.json"
            place.write_bytes(config.read_bytes())
            if memory.shape(folder) is None:
                raise BadInput(
                    f"--plan {model}: {config} gives no decoder's sizes (hidden_size, num_hidden_layers, ...): name a text model's"
                )
            yield folder
        return
    names = {name.lower(): name for name in memory.SHAPES}
    known = names | {short.rpartition("/")[2]: name for short, name in names.items()}
    if model.lower() not in known:
        there = ", ".join(memory.SHAPES)
        raise BadInput(f"--plan {model}: no folder with a config.json, no such file, and none of the models that are known here: {there}")
    yield known[model.lower()]


def measured(path: Path) -> Measured:
    """Read the JSON that tools/gpu_check.sh wrote. Raises BadInput."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        profile, parts = told["profile"], {part["part"]: part for part in told["parts"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"--measured {path}: not what `bash tools/gpu_check.sh --json FILE` writes: run it on one of the cards") from None
    speeds = {name: part["tokens_per_second"] for name, part in parts.items() if part.get("tokens_per_second")}
    return Measured(str(path), profile.partition("x")[2], memory.SHAPES["Qwen/Qwen2.5-7B-Instruct"].weights, speeds)


def stages(
    root: Path, model: str, profile: str, cards: int, rows: int, tasks: Sequence[Task], speed: Measured | None = None
) -> Iterator[Stage]:
    """Every recipe of these tasks that trains, in their order; `cards`: how many there are, for other profiles. Raises BadInput.

    model: of `located`.
    """
    named = {task.called: task for task in tasks}
    recipes = {file: _RUNS.search(file.read_text(encoding="utf-8")) for file in sorted((root / "recipes").glob("*_*.sh"))}
    runs = [(file, run[1], named[run[2]]) for file, run in recipes.items() if run and run[2] in named]
    for file, algorithm, task in sorted(runs, key=lambda run: (list(named).index(run[2].called), ("sft", "grpo", "ppo").index(run[1]))):
        command = _command(file, model, profile)
        card = memory.card_of(root / f"recipes/profiles/{profile}.sh")
        need = _need(command, card)
        fits = need.card <= memory.SHARE * card
        instead = "" if fits else _instead(root, file, model, profile, cards)
        yield _stage(task, algorithm, file, command, rows, speed, need, card, fits, instead)


def _command(recipe: Path, model: str, profile: str) -> Command:
    flags = _ANY_TEMPLATE if Path(model).is_dir() else []
    return of_recipe(recipe, flags, {"PROFILE": profile, "MODEL": model, "SFT_ADAPTER": "", "START": ""})


def _need(command: Command, card: float) -> memory.Need:
    policy = memory.shape(command.get("model"))
    assert policy, "of `located`"
    return memory.need(command, policy, memory.critic_of(command, policy), card)


def _instead(root: Path, recipe: Path, model: str, profile: str, cards: int) -> str:
    """The first other profile for these cards, or for smaller ones, that holds the recipe."""
    size = memory.card_of(root / f"recipes/profiles/{profile}.sh")
    for file in sorted((root / "recipes/profiles").glob("*.sh"), reverse=True):
        wanted = _WANTED.search(file.read_text(encoding="utf-8"))
        if file.stem == profile or not wanted or int(wanted[1]) > cards or memory.CARDS[int(wanted[2])] > size:
            continue
        if _need(_command(recipe, model, file.stem), size).card <= memory.SHARE * size:
            return file.stem
    return ""


def _stage(
    task: Task,
    algorithm: str,
    recipe: Path,
    command: Command,
    rows: int,
    speed: Measured | None,
    need: memory.Need,
    card: float,
    fits: bool,
    instead: str,
) -> Stage:
    known = rewards([task])
    asked = forecast.Asked(0, 0, 0)
    price, usd = "", 0.0 if algorithm == "sft" else None
    teacher_calls = rows if algorithm == "sft" and "generate" in task.stages else 0
    if command.rl:
        asked = forecast.asked(command, rows, [known[name] for name in command.flags.get("reward_funcs", []) if name in known])
        price, usd = forecast.cost(asked.verdicts, asked.together)
        config = settings.load()
        if usd is None and not (config.judge_model or config.teacher_model):
            price = "; not known: name the judge by OVERTAKE_JUDGE_MODEL (prices.toml lists those with a price)"
    elif teacher_calls:
        paid = costs.of_ledger("teacher").get("usd_1000")
        if paid is None:
            price, usd = "; not known for the teacher's answers: tools/generate.py --limit 20 tells it", None
        else:
            usd = teacher_calls * paid / 1000
            price = f" = about {usd:,.2f} USD at {paid / 1000:.5f} USD (as the ones in the ledger)"
    steps, how_many = forecast.updates(command, rows, asked.completions)
    hours, time = _time(command, algorithm, rows, asked.completions, speed)
    rate = settings.load().gpu_hour_usd
    if hours is not None and rate:
        rent = hours * command.processes * rate
        usd = None if usd is None else usd + rent
        price += f"; {command.processes} cards x {hours:.1f} h x {rate:g} USD = {rent:,.2f} USD"
    return Stage(
        task=task.called,
        recipe=recipe.stem,
        algorithm=algorithm.upper(),
        gb=need.training,
        peak_gb=need.card,
        card_gb=card,
        fits=fits,
        instead=instead,
        arithmetic=memory.report(command, card)[1:],
        steps=steps,
        how_many=how_many,
        completions=asked.completions,
        retrievals=asked.retrievals,
        verdicts=asked.verdicts,
        teacher_calls=teacher_calls,
        usd=usd,
        price=price,
        hours=hours,
        time=time,
        expected=task.expected.get(algorithm, "") or task.expected.get("rl" if command.rl else "sft", ""),
    )


def _time(command: Command, algorithm: str, rows: int, completions: int, speed: Measured | None) -> tuple[float | None, str]:
    """Hours at most, and how they come about, or why there are none."""
    how = "`bash tools/gpu_check.sh --json gpu_check.json` on one of the cards, then --measured gpu_check.json"
    if speed is None:
        return None, f"not known: no tokens/s of these cards has been measured; {how}"
    card = command.environment.get("CUDA_VISIBLE_DEVICES", "")
    per_second = speed.tokens_s.get(algorithm)
    if not per_second or not card:
        return None, f"not known: {speed.source} holds no tokens/s of {algorithm}; {how}"
    if command.rl:
        length, count, each = command.number("max_completion_length", 512), completions, "completions of at most"
    else:
        mean = row_files.mean_length(command)
        length, count = mean or command.number("max_length", 2048), int(rows * command.number("num_train_epochs", 3))
        each = "rows of" if mean else "rows of at most"
    policy = memory.shape(command.get("model"))
    assert policy, "of `located`"
    rate = per_second * speed.weights / policy.weights * command.processes
    hours = count * length / rate / 3600
    words = f"{count:,} {each} {length:.0f} tokens at {rate:,.0f} tokens/s"
    source = f"{per_second:,.0f} a card with {speed.weights / 1e9:.1f}B weights, by {speed.source}, taken to scale with cards and weights"
    return hours, f"{hours:.1f} h: {words} ({source})"


def report(model: str, profile: str, cards: tuple[int, int], rows: int, found: Sequence[Stage], tasks: Sequence[Task]) -> str:
    """The plan as text."""
    count, size = cards
    used = int(profile.partition("x")[0])
    lines = [f"{model}, {rows:,} rows, {count} x {size} GB: PROFILE={profile}; GB of 10^9 bytes, rows at their longest"]
    if used < count:
        more = "; PROFILE=multinode trains on several machines of eight" if count > 8 else ""
        lines.append(f"{used} of the {count} cards are used{more}")
    for task in tasks:
        mine = [stage for stage in found if stage.task == task.called]
        if not mine:
            continue
        lines.append(
            f"\n{task.called}" + "".join(f"\n  expected, {name}: {task.expected[name]}" for name in _WHOLE if name in task.expected)
        )
        for stage in mine:
            lines += ["", f"{stage.algorithm} (recipes/{stage.recipe}.sh)", *stage.arithmetic]
            fits = "fits" if stage.fits else "DOES NOT FIT" + (f"; PROFILE={stage.instead} would" if stage.instead else ", in no profile")
            lines.append(
                f"  {'at its peak':<30}{stage.peak_gb:>6.1f} of {stage.card_gb:.1f}, {memory.SHARE:.0%} may be planned with: {fits}"
            )
            lines += [f"  {name:<10}{words}" for name, words in _words(stage).items() if words]
    return "\n".join(lines)


_WHOLE = ("data", "all")
"""Of a task's expectations those of no training."""


def _words(stage: Stage) -> dict[str, str]:
    calls = {"completions": stage.completions, "retrievals": stage.retrievals, "verdicts": stage.verdicts}
    asked = ", ".join(f"{count:,} {name}" for name, count in calls.items() if count)
    if stage.teacher_calls:
        asked = f"{stage.teacher_calls:,} of the teacher for the rows, at least"
    price = stage.price.strip().removeprefix("; ").removeprefix("= ")
    return {
        "steps": f"{stage.steps:,}: {stage.how_many}",
        "calls": (asked or "none") + (", less what the cache holds" if stage.retrievals or stage.verdicts else ""),
        "price": (price[1:-1] if price.startswith("(") else price) or ("nothing beside the cards" if stage.usd == 0 else ""),
        "time": stage.time,
        "expected": stage.expected,
    }


def as_json(model: str, profile: str, rows: int, found: Sequence[Stage]) -> str:
    """The plan as one JSON object."""
    whole: Mapping[str, Any] = {"model": model, "profile": profile, "rows": rows, "stages": [stage._asdict() for stage in found]}
    return json.dumps(whole, ensure_ascii=False, indent=1)
