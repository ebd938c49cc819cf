"""Whether settings, machine, rows and numbers of a run are in order, told in a second or two without torch; of services a served teacher
alone is asked, for one that tells no log-probabilities would end the run after all is loaded.
"""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from overtake import settings
from overtake.doctor import forecast, memory, rows, teacher
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding, Level
from overtake.settings import SettingsError
from overtake.task import Reward, Task
from overtake.task import rewards as rewards_of
from overtake.trainers.rounds import mini_batches

_KEY = re.compile(r"\b(sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b")


def fast(command: Command, environment: Mapping[str, str], tasks: Sequence[Task]) -> list[Finding]:
    """Tell all that takes a second or two of the command that a recipe is about to run; `tasks` are those whose rewards are known."""
    known_rewards = rewards_of(tasks)
    try:
        train = [row for path in rows.files(command.flags.get("dataset", [])) for row in rows.read(path)]
        held_out = [row for path in rows.files(command.flags.get("val_dataset", [])) for row in rows.read(path)]
    except (ValueError, OSError) as error:
        return [Finding("error", "rows", " ".join(str(error).split()), "correct the file: one JSON object a line, or a table")]
    count = rows.count(command)
    checks: list[Callable[[], Iterable[Finding]]] = [
        partial(_settings, command, environment, known_rewards, train),
        partial(_keys, command, environment),
        partial(_plugins, command),
        partial(_adapters, command),
        partial(teacher.findings, command, [*train, *held_out]),
        partial(_batches, command, count),
        partial(_rhythm, command, count),
        partial(forecast.findings, command, count, known_rewards, train),
        partial(_memory, command),
        partial(_disk, command),
        partial(_ports, command),
        partial(rows.columns, command, train, known_rewards),
        partial(rows.lengths, command, train),
        partial(rows.copies, command, train),
        partial(rows.thoughts, command, train),
        partial(rows.leaks, command, train, held_out, tasks),
    ]
    return [finding for check in checks for finding in check()]


# ---------------------------------------------------------------- settings and keys


def _settings(command: Command, environment: Mapping[str, str], known_rewards: Mapping[str, Reward], train: rows.Rows) -> Iterator[Finding]:
    config = environment.get("OVERTAKE_CONFIG", "")
    if config and Path(config).is_file():
        try:
            values = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError):
            values = {}  # said by settings.load
        nulls = [str(name) for name, value in values.items() if value is None] if isinstance(values, dict) else []
        if nulls:
            yield Finding("error", "settings", f"{config}: {', '.join(nulls)} without a value", "give it one, or take the line out")
            return
    try:
        loaded = settings.load()
    except SettingsError as error:
        yield Finding("error", "settings", str(error), "correct it as it says")
        return
    yield Finding("ok", "settings", config or "from the environment")
    rewards = [known_rewards[name] for name in command.flags.get("reward_funcs", []) if name in known_rewards]
    if not loaded.rag_url and (needing := [reward.name for reward in rewards if "retrieval" in reward.asks]):
        remedy = "export OVERTAKE_RAG_URL, or start ours: bash recipes/serve_rag.sh"
        yield Finding("error", "RAG service", f"none is set, and {', '.join(needing)} asks it", remedy)
    judged = [reward for reward in rewards if forecast.judged(reward, train)]
    if judged and not (loaded.judge_base_url or loaded.teacher_base_url or environment.get("DEEPSEEK_API_KEY")):
        remedy = f"export OVERTAKE_TEACHER_BASE_URL, _MODEL and _API_KEY (the judge's own where it has one), or {without_judge(judged)}"
        yield Finding("error", "judge", f"no endpoint is set, and {', '.join(reward.name for reward in judged)} asks it", remedy)


def without_judge(rewards: Sequence[Reward]) -> str:
    """The settings by which these rewards ask no judge."""
    return " ".join(dict.fromkeys(f"OVERTAKE_{reward.judged.upper()}=0" for reward in rewards))


def _keys(command: Command, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Keys in files that travel: the settings, and what lies beside the plugin (recipes, .env)."""
    looked = [Path(environment["OVERTAKE_CONFIG"])] if environment.get("OVERTAKE_CONFIG") else []
    for plugin in command.flags.get("external_plugins", []):
        root = Path(plugin).resolve().parent.parent
        looked += [
            *root.glob("*.y*ml"),
            *root.glob("*.toml"),
            *root.glob(".env*"),
            *root.glob("recipes/*.sh"),
            *root.glob("recipes/*/*.sh"),
        ]
    bad = [str(path) for path in looked if path.is_file() and _KEY.search(path.read_text(encoding="utf-8", errors="replace"))]
    if bad:
        remedy = "take it out, have it revoked, and export it as OVERTAKE_..._API_KEY instead"
        yield Finding("error", "keys", f"what looks like a key stands in {', '.join(bad)}", remedy)
    else:
        yield Finding("ok", "keys", f"none in {len(looked)} files")


# ---------------------------------------------------------------- plugin, model, adapter


def _plugins(command: Command) -> Iterator[Finding]:
    for name in command.flags.get("external_plugins", []):
        path = Path(name)
        if not path.is_file():
            yield Finding("error", "plugin", f"{name} is no file", "correct --external_plugins: the path of a .py file")
            continue
        try:
            ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError) as error:
            yield Finding("error", "plugin", f"{name}: {error}", "correct the file")
            continue
        yield Finding("ok", "plugin", name)


def _adapters(command: Command) -> Iterator[Finding]:
    model = command.get("model")
    if model.startswith(("/", ".")) and not (Path(model) / "config.json").is_file():
        yield Finding("error", "model", f"{model} holds no config.json", "correct MODEL= or SFT_ADAPTER=: a hub name, or a model's folder")
    for name in dict.fromkeys((*command.flags.get("adapters", []), *command.flags.get("ref_adapters", []))):
        config = Path(name) / "adapter_config.json"
        if name.endswith("/checkpoint-LAST"):
            yield Finding("warning", "adapter", "there is no checkpoint of SFT yet", "run the SFT recipe first, or set SFT_ADAPTER=")
            continue
        if not config.is_file():
            yield Finding("error", "adapter", f"{name} holds no adapter_config.json", "correct SFT_ADAPTER=, or run the SFT recipe first")
            continue
        try:
            adapter_config = json.loads(config.read_text(encoding="utf-8"))
        except ValueError:
            yield Finding("error", "adapter", f"{config} is no JSON", "take another checkpoint")
            continue
        base, rank = str(adapter_config.get("base_model_name_or_path") or ""), adapter_config.get("r")
        if base and Path(base).name != Path(model).name and not Path(base).is_dir():
            remedy = "set MODEL= to the base that the adapter was trained on"
            yield Finding("warning", "adapter", f"{name} was trained on {base}, --model is {model}", remedy)
        most = command.number("vllm_max_lora_rank", 16)
        if rank and command.get("use_vllm") == "true" and command.get("vllm_enable_lora") == "true" and rank > most:
            yield Finding("error", "adapter", f"rank {rank}, vLLM takes {most:.0f}", f"add --vllm_max_lora_rank {rank}")
        yield Finding("ok", "adapter", name)


# ---------------------------------------------------------------- numbers


def _batches(command: Command, rows: int) -> Iterator[Finding]:
    per, size = command.number("per_device_train_batch_size", 1), command.number("gradient_accumulation_steps", 1)
    update = command.update
    if command.rl == "grpo":
        group = int(command.number("num_generations", 8))
        flag = "generation_batch_size" if command.get("generation_batch_size") else ""
        drawn = int(command.number("generation_batch_size", per * command.processes * command.number("steps_per_generation", size)))
        alone = teacher.is_distilled(command) and not command.flags.get("reward_funcs")
        if group < 2 and not alone:
            yield Finding("error", "batch", f"--num_generations {group}", "give 2 or more: answers to one question are compared")
        elif drawn % group:
            product = flag or "per_device_train_batch_size x gradient_accumulation_steps x processes"
            remedy = f"make {product} a multiple of {group}, or --num_generations a divisor of {drawn}"
            yield Finding("error", "batch", f"{drawn} completions are no whole groups of {group}", remedy)
        evaluated = int(command.number("per_device_eval_batch_size", 1) * command.processes)
        if command.get("eval_strategy", "no") != "no" and group > 1 and evaluated % group:
            remedy = f"set --per_device_eval_batch_size so that it, times {command.processes}, is a multiple of {group}"
            yield Finding("error", "batch", f"{evaluated} completions an evaluation are no whole groups of {group}", remedy)
        if rows and group > 1 and rows * group < drawn:
            remedy = "give more rows, or smaller batches: ms-swift leaves out a batch that is not full"
            yield Finding("error", "batch", f"{rows} rows x {group} completions do not fill one batch of {drawn}", remedy)
    elif command.rl == "ppo":
        parts = int(command.number("num_mini_batches", command.number("steps_per_generation", size) // size))
        try:
            fitting = mini_batches(rows, update, parts, int(command.number("num_generations", 1))) if rows else parts
        except ValueError as error:
            problem, _, remedy = str(error).partition(": ")
            yield Finding("error", "batch", problem, remedy)
            return
        if fitting < parts:
            remedy = "nothing, for a trial; else give more rows"
            yield Finding("warning", "batch", f"{rows} rows do not fill a round of {update * parts}: it will be {update * fitting}", remedy)
    yield Finding("ok", "batch", f"{update} samples an update, {rows or 'unknown'} rows")


def _rhythm(command: Command, rows: int) -> Iterator[Finding]:
    every = command.number("eval_steps", 0)
    # PPO says its own rounds when it starts.
    if command.get("eval_strategy") != "steps" or every < 1 or command.rl == "ppo" or not command.update:
        return
    updates, _ = forecast.updates(command, rows, forecast.asked(command, rows, ()).completions)
    if 0 < updates < every:
        remedy = "add --eval_steps 0.1 --save_steps 0.1: ten times in the run, and the best checkpoint is kept"
        yield Finding("warning", "evaluation", f"every {every:g} updates, and the run has {updates}: only its end is kept", remedy)


def _memory(command: Command) -> Iterator[Finding]:
    model = command.get("model")
    policy = memory.shape(model)
    if not policy:
        yield Finding("warning", "memory", f"the sizes of {model} are not known", "watch the first steps; a local folder is counted")
        return
    critic = memory.critic_of(command, policy)
    cards = _cards(command)
    smallest_total, smallest_free = (min(column) for column in zip(*cards, strict=True)) if cards else (0.0, 0.0)
    parts = memory.need(command, policy, critic, smallest_total)
    if parts.host and (free := _host_memory()) is not None:
        needs = f"{parts.host:.1f} GB needed, {free:.1f} free"
        if parts.host > free:
            # On a CPU it is the rows' greatest length that is counted, which they need not have.
            level: Level = "error" if parts.training else "warning"
            yield Finding(level, "host memory", needs, "end what fills it, lower the batch or --max_length, or take a smaller model")
        else:
            yield Finding("ok", "host memory", needs)
    if not parts.training:
        return
    if not cards:
        yield Finding("error", "GPU", "none is visible", "set PROFILE=cpu for a small model here, or run where the cards are")
        return
    largest = sorted(parts.training.items(), key=lambda part: -part[1])[:3]
    needs = f"{parts.card:.1f} GB needed of a card ({', '.join(f'{name} {size:.1f}' for name, size in largest)}"
    needs += f"; sampling {parts.sampling:.1f}), {smallest_free:.1f} of {smallest_total:.1f} free"
    if parts.card > memory.SHARE * smallest_free:
        busy = smallest_free < 0.9 * smallest_total
        remedy = "end what else uses the card" if busy else "lower --per_device_train_batch_size, --max_length or vLLM's share"
        yield Finding("error", "GPU memory", needs, f"{remedy}, or take another PROFILE or MODEL")
    else:
        yield Finding("ok", "GPU memory", needs)


def _cards(command: Command) -> list[tuple[float, float]]:
    """(total, free) in GB of each card that the run sees."""
    visible = command.variable("CUDA_VISIBLE_DEVICES", "all")
    if not visible or not shutil.which("nvidia-smi"):
        return []
    selection = [] if visible == "all" else ["-i", visible]
    query = ["nvidia-smi", *selection, "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    printed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout
    sizes = [line.split(",") for line in printed.splitlines() if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", line)]
    return [(int(total) * 2**20 / 1e9, int(free) * 2**20 / 1e9) for total, free in sizes]


def _host_memory() -> float | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 / 1e9 if match else None


def _disk(command: Command) -> Iterator[Finding]:
    """Checkpoints with Adam's state, as many as are kept and one being written."""
    folder = Path(command.get("output_dir") or ".").absolute()
    while not folder.exists():
        folder = folder.parent
    policy = memory.shape(command.get("model"))
    if not policy:
        return
    full = command.get("tuner_type") == "full"
    checkpoint = (policy.weights * 14 if full else policy.lora(command.number("lora_rank", 8)) * 12) / 1e9
    needed, free = checkpoint * (command.number("save_total_limit", 3) + 2), shutil.disk_usage(folder).free / 1e9
    needs = f"{needed:.1f} GB of checkpoints, {free:.1f} free at {folder}"
    if needed > free:
        yield Finding("error", "disk", needs, "free some, lower --save_total_limit, or set OUTPUT_DIR= to another disk")
    else:
        yield Finding("ok", "disk", needs)


def _ports(command: Command) -> Iterator[Finding]:
    if command.processes == 1 or command.environment.get("NODE_RANK", "0") != "0":
        return
    port = int(command.environment.get("MASTER_PORT") or os.environ.get("MASTER_PORT") or 29500)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            yield Finding("error", "port", f"{port} is busy, where the processes meet", "export MASTER_PORT= another, or end what holds it")
            return
    yield Finding("ok", "port", f"{port} is free")
