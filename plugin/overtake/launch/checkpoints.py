"""Traces of runs on disk: checkpoints, adapters with the base that they name, held-out comparisons."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from overtake.launch.command import Refused


class Base(NamedTuple):
    """Base that an adapter was trained on."""

    model: str
    model_type: str
    template: str


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds LoRA weights."""
    return (folder / "adapter_config.json").is_file()


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a whole model."""
    return (folder / "config.json").is_file()


def last(run: Path) -> Path | None:
    """The checkpoint with the highest step under a run's folder."""
    return next(_latest_first(run), None)


def last_whole(run: Path) -> Path | None:
    """The last checkpoint that a run can go on from: the trainer's state is written last, so one that was cut off has none."""
    return next((path for path in _latest_first(run) if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        return bool(_read(checkpoint / "trainer_state.json"))
    except Refused:
        return False


def _latest_first(run: Path) -> Iterator[Path]:
    steps = {int(name[1]): path for path in _folders(run) if (name := re.fullmatch(r"checkpoint-([0-9]+)", path.name))}
    return (steps[step] for step in sorted(steps, reverse=True))


def newest(task_folder: Path, merged: bool = False) -> Path | None:
    """The checkpoint of a task that was written last, over all of its runs; with `merged` the export."""
    name = re.compile(r"checkpoint-[0-9]+" + ("-merged" if merged else ""))
    saved = [path for run in _folders(task_folder) for path in _folders(run) if name.fullmatch(path.name)]
    return max(saved, key=lambda path: path.stat().st_mtime_ns, default=None)


def best_of(checkpoint: Path) -> Path:
    """The checkpoint of the same run that did best on held-out rows; itself where the run knows none, or it is gone."""
    best = _read(checkpoint / "trainer_state.json").get("best_model_checkpoint")
    folder = checkpoint.parent / Path(best).name if best else checkpoint
    return folder if folder.is_dir() else checkpoint


def comparison_of(checkpoint: Path) -> Path | None:
    """The summary.json that tools/evaluate.py left in eval/, in the run's folder or beside it."""
    places = (checkpoint.parent / "eval/summary.json", checkpoint.parent.parent / "eval/summary.json")
    return next((file for file in places if file.is_file()), None)


def base_of(adapter: Path, model: str, dry: bool) -> Base:
    """Return what an adapter was trained on, by ms-swift's args.json or else PEFT's adapter_config.json; `model`, where given, takes its
    place.

    Raises Refused where none is named, or it is a folder that is not there (which a dry run does not look for).
    """
    args = _read(adapter / "args.json")
    named = model or args.get("model") or _read(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not named:
        raise Refused(f"{adapter} does not name its base model: set MODEL=")
    if not model and not dry and named.startswith(("/", "./", "../")) and not Path(named).is_dir():
        raise Refused(f"{adapter} was trained on {named}, which is not there: set MODEL= to that base's folder or hub name")
    return Base(named, args.get("model_type") or "", args.get("template") or "")


def engine_kwargs(own: str, engine: str, model: str, adapter: str, template: str, system: str) -> str:
    """Return what `swift sample` is to hand its engine, as JSON.

    Of itself it hands it neither the adapter (the base model would draw, without a word) nor, to transformers, the template.
    Raises Refused for what is no JSON object, and for a system prompt, which would take the place of the rows' own.
    """
    try:
        kwargs = {**json.loads(own or "{}")}
    except (TypeError, ValueError):
        raise Refused(f"--engine_kwargs {own} is no JSON object") from None
    student = Path(adapter or model)
    trained = _read(student / "args.json")
    if prompt := system or trained.get("system"):
        where = "given here or when the student was trained, would take the place of the rows' own. Leave it out"
        raise Refused(f"--system {prompt[:40]!r}, {where}")
    if adapter:
        kwargs.setdefault("adapters", [adapter])
        if engine == "vllm":
            # vLLM takes powers of two, from 8.
            rank = _read(student / "adapter_config.json").get("r", 16)
            kwargs.setdefault("max_lora_rank", max(8, 1 << (rank - 1).bit_length()))
    if form := template or trained.get("template"):
        kwargs.setdefault("template_type", form)
    return json.dumps(kwargs, ensure_ascii=False)


def answering(checkpoint: Path) -> dict[str, Any]:
    """Return how a checkpoint's training told it to answer: enable_thinking and max_completion_length, as far as it was told."""
    args = _read(checkpoint / "args.json")
    return {name: args[name] for name in ("enable_thinking", "max_completion_length") if args.get(name) is not None}


def make_portable(export: Path, checkpoint: Path) -> None:
    """Take the training's plugins out of an export's args.json, and put in how the checkpoint answers, which ms-swift does not hand on.

    Serving needs no plugin, and the folder may be moved to where they are not.
    """
    file = export / "args.json"
    if file.is_file():
        args = _read(file) | answering(checkpoint) | {"external_plugins": []}
        file.write_text(json.dumps(args, ensure_ascii=False, indent=2), encoding="utf-8")


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _read(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file. Raises Refused for what is none."""
    if not file.is_file():
        return {}
    try:
        return {**json.loads(file.read_text(encoding="utf-8"))}
    except (TypeError, ValueError):
        raise Refused(f"{file} is no JSON: take another checkpoint") from None
