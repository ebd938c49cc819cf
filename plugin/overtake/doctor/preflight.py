"""Whether machine, services, rows and numbers of a run are in order. `fast` asks no network and imports no torch; `live` calls services."""

import ast
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from overtake import settings
from overtake.data import tables
from overtake.data.questions import is_copy, normal
from overtake.doctor import memory
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding, Level
from overtake.settings import SettingsError

Rows = list[dict[str, Any]]

# What each reward reads (rewards/README.md).
_RAG = ("rag_query_id", "rag_query", "rag_tenant", "rag_kb", "rag_gold", "rag_teacher_rewrite", "rag_teacher_recall", "rag_teacher_judge")
_FINANCE = ("fin_gold", "fin_question")
COLUMNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("rag_competition", "rag_retrieval", "rag_win", "teacher_judge"), _RAG),
    "rewrite_rules": ("rag_query",),
    "judge_verdict": ("judge_main", "judge_secondary"),
    **dict.fromkeys(("medical_answer", "medical_rules"), ("med_id", "med_question", "med_keywords", "med_risk", "med_reference")),
    **dict.fromkeys(("numeric_answer", "keyword_answer"), _FINANCE),
    "finance_accuracy": (*_FINANCE, "fin_id", "fin_type"),
}
_QUESTIONS = ("rag_query", "fin_question", "med_question", "judge_question", "question")
_NEED_RAG = ("rag_competition", "rag_retrieval", "rag_win")
_NEED_JUDGE = ("rag_competition", "teacher_judge", "medical_answer")
_KEY = re.compile(r"\b(sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b")
_MOST_ROWS = 20_000
_SAMPLED = 500
_FEW = 200
"""Held-out rows below which a difference between two systems of +10 points is not shown (spec: 100 rows, +-13 unpaired)."""


def files(values: Sequence[str]) -> list[Path]:
    """The files that --dataset names: a registered name in front (overtake/judge:) and #500 behind are taken off; hub names are left out.

    >>> files(["overtake/judge:/a/b.jsonl#500", "owner/name"])
    [PosixPath('/a/b.jsonl')]
    """
    bare = [re.sub(r"^[\w-]+/[\w-]+:", "", value).partition("#")[0] for value in values]
    return [Path(one) for one in bare if re.search(r"\.(jsonl?|csv|xlsx|parquet)$", one)]


def _read(path: Path) -> Rows:
    """A file's rows, as far as they are needed; none of a file that is absent or of a kind that only training reads."""
    if not path.is_file() or path.suffix not in (".jsonl", ".csv", ".xlsx"):
        return []
    if path.suffix != ".jsonl":
        return [dict(row) for row in tables.read_rows(path)[:_MOST_ROWS]]
    with path.open(encoding="utf-8-sig") as file:
        return [json.loads(line) for _, line in zip(range(_MOST_ROWS), file, strict=False) if line.strip()]


def fast(command: Command, environment: Mapping[str, str]) -> list[Finding]:
    """All that can be told in a second or two, for the command that a recipe is about to run."""
    try:
        train = [row for path in files(command.flags.get("dataset", [])) for row in _read(path)]
        held_out = [row for path in files(command.flags.get("val_dataset", [])) for row in _read(path)]
    except (ValueError, OSError) as error:
        return [Finding("error", "rows", " ".join(str(error).split()), "correct the file: one JSON object a line, or a table")]
    checks: list[Callable[[], Iterable[Finding]]] = [
        partial(_settings, command, environment),
        partial(_keys, command, environment),
        partial(_plugins, command),
        partial(_adapters, command),
        partial(_batches, command, len(train)),
        partial(_memory, command),
        partial(_disk, command),
        partial(_ports, command),
        partial(_columns, command, train),
        partial(_lengths, command, train),
        partial(_copies, command, train),
        partial(_leaks, command, train, held_out),
    ]
    return [finding for check in checks for finding in check()]


# ---------------------------------------------------------------- settings and keys


def _settings(command: Command, environment: Mapping[str, str]) -> Iterator[Finding]:
    config = environment.get("OVERTAKE_CONFIG", "")
    if config and Path(config).is_file():
        try:
            said = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError):
            said = {}  # said by settings.load
        nulls = [str(name) for name, value in said.items() if value is None] if isinstance(said, dict) else []
        if nulls:
            yield Finding("error", "settings", f"{config}: {', '.join(nulls)} without a value", "give it one, or take the line out")
            return
    try:
        chosen = settings.load()
    except SettingsError as error:
        yield Finding("error", "settings", str(error), "correct it as it says")
        return
    yield Finding("ok", "settings", config or "from the environment")
    rewards = command.flags.get("reward_funcs", [])
    if not chosen.rag_url and (needing := [name for name in rewards if name in _NEED_RAG]):
        remedy = "export OVERTAKE_RAG_URL, or start ours: bash recipes/serve_rag.sh"
        yield Finding("error", "RAG service", f"none is set, and {', '.join(needing)} asks it", remedy)
    weights = {"rag_competition": chosen.weight_judge, "medical_answer": chosen.medical_weight_teacher}
    needing = [name for name in rewards if name in _NEED_JUDGE and chosen.judge_share and weights.get(name, 1.0)]
    needing += [name for name in rewards if name == "finance_accuracy" and chosen.finance_judge_share]
    if needing and not (chosen.judge_base_url or chosen.teacher_base_url or environment.get("DEEPSEEK_API_KEY")):
        remedy = "export OVERTAKE_TEACHER_BASE_URL, _MODEL and _API_KEY (the judge's own where it has one), or OVERTAKE_JUDGE_SHARE=0"
        yield Finding("error", "judge", f"no endpoint is set, and {', '.join(needing)} asks it", remedy)


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
            said = json.loads(config.read_text(encoding="utf-8"))
        except ValueError:
            yield Finding("error", "adapter", f"{config} is no JSON", "take another checkpoint")
            continue
        base, rank = str(said.get("base_model_name_or_path") or ""), said.get("r")
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
    update = int(per * size * command.processes)
    if command.rl == "grpo":
        group = int(command.number("num_generations", 8))
        flag = "generation_batch_size" if command.get("generation_batch_size") else ""
        drawn = int(command.number("generation_batch_size", per * command.processes * command.number("steps_per_generation", size)))
        if group < 2:
            yield Finding("error", "batch", f"--num_generations {group}", "give 2 or more: answers to one question are compared")
        elif drawn % group:
            said = flag or "per_device_train_batch_size x gradient_accumulation_steps x processes"
            remedy = f"make {said} a multiple of {group}, or --num_generations a divisor of {drawn}"
            yield Finding("error", "batch", f"{drawn} completions are no whole groups of {group}", remedy)
        evaluated = int(command.number("per_device_eval_batch_size", 1) * command.processes)
        if command.get("eval_strategy", "no") != "no" and group > 1 and evaluated % group:
            remedy = f"set --per_device_eval_batch_size so that it, times {command.processes}, is a multiple of {group}"
            yield Finding("error", "batch", f"{evaluated} completions an evaluation are no whole groups of {group}", remedy)
        if rows and group > 1 and rows * group < drawn:
            remedy = "give more rows, or smaller batches: ms-swift leaves out a batch that is not full"
            yield Finding("error", "batch", f"{rows} rows x {group} completions do not fill one batch of {drawn}", remedy)
    elif command.rl == "ppo":
        parts = int(command.number("num_mini_batches", 1))
        if rows and rows < update:
            yield Finding("error", "batch", f"{rows} rows do not fill one batch of {update}", "give more rows, or smaller batches")
        elif rows and rows < update * parts:
            remedy = "give more rows, or lower --num_mini_batches"
            yield Finding("warning", "batch", f"{rows} rows do not fill one round of {update * parts}", remedy)
    yield Finding("ok", "batch", f"{update} samples an update, {rows or 'unknown'} rows")


def _memory(command: Command) -> Iterator[Finding]:
    model = command.get("model")
    policy = memory.shape(model)
    if not policy:
        yield Finding("warning", "memory", f"the sizes of {model} are not known", "watch the first steps; a local folder is counted")
        return
    named = command.environment.get("OVERTAKE_CRITIC", os.environ.get("OVERTAKE_CRITIC", ""))
    critic = memory.shape(named) if named else policy
    seen = _cards(command)
    smallest_total, smallest_free = (min(column) for column in zip(*seen, strict=True)) if seen else (0.0, 0.0)
    wanted = memory.need(command, policy, critic, smallest_total)
    if wanted.host and (free := _host_memory()) is not None:
        said = f"{wanted.host:.1f} GB needed, {free:.1f} free"
        if wanted.host > free:
            # On a CPU it is the rows' greatest length that is counted, which they need not have.
            level: Level = "error" if wanted.training else "warning"
            yield Finding(level, "host memory", said, "end what fills it, lower the batch or --max_length, or take a smaller model")
        else:
            yield Finding("ok", "host memory", said)
    if not wanted.training:
        return
    if not seen:
        yield Finding("error", "GPU", "none is visible", "set PROFILE=cpu for a small model here, or run where the cards are")
        return
    largest = sorted(wanted.training.items(), key=lambda part: -part[1])[:3]
    said = f"{wanted.card:.1f} GB needed of a card ({', '.join(f'{name} {size:.1f}' for name, size in largest)}"
    said += f"; sampling {wanted.sampling:.1f}), {smallest_free:.1f} of {smallest_total:.1f} free"
    if wanted.card > memory.SHARE * smallest_free:
        busy = smallest_free < 0.9 * smallest_total
        remedy = "end what else uses the card" if busy else "lower --per_device_train_batch_size, --max_length or vLLM's share"
        yield Finding("error", "GPU memory", said, f"{remedy}, or take another PROFILE or MODEL")
    else:
        yield Finding("ok", "GPU memory", said)


def _cards(command: Command) -> list[tuple[float, float]]:
    """(total, free) in GB of each card that the run sees."""
    visible = command.environment.get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    if not visible or not shutil.which("nvidia-smi"):
        return []
    chosen = [] if visible == "all" else ["-i", visible]
    query = ["nvidia-smi", *chosen, "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout
    found = [line.split(",") for line in said.splitlines() if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", line)]
    return [(int(total) * 2**20 / 1e9, int(free) * 2**20 / 1e9) for total, free in found]


def _host_memory() -> float | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 / 1e9 if found else None


def _disk(command: Command) -> Iterator[Finding]:
    """Checkpoints with Adam's state, as many as are kept and one being written."""
    folder = Path(command.get("output_dir") or ".").absolute()
    while not folder.exists():
        folder = folder.parent
    policy = memory.shape(command.get("model"))
    if not policy:
        return
    full = command.get("tuner_type") == "full"
    one = (policy.weights * 14 if full else policy.lora(command.number("lora_rank", 8)) * 12) / 1e9
    needed, free = one * (command.number("save_total_limit", 3) + 2), shutil.disk_usage(folder).free / 1e9
    said = f"{needed:.1f} GB of checkpoints, {free:.1f} free at {folder}"
    if needed > free:
        yield Finding("error", "disk", said, "free some, lower --save_total_limit, or set OUTPUT_DIR= to another disk")
    else:
        yield Finding("ok", "disk", said)


def _ports(command: Command) -> Iterator[Finding]:
    if command.processes == 1 or command.environment.get("NODE_RANK", "0") != "0":
        return
    port = int(command.environment.get("MASTER_PORT") or os.environ.get("MASTER_PORT") or 29500)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            yield Finding("error", "port", f"{port} is busy, where the processes meet", "export MASTER_PORT= another, or end what holds it")
            return
    yield Finding("ok", "port", f"{port} is free")


# ---------------------------------------------------------------- rows


def _columns(command: Command, rows: Rows) -> Iterator[Finding]:
    # What a registered data set makes of its table is made later.
    ready = [value for value in command.flags.get("dataset", []) if not re.match(r"^[\w-]+/[\w-]+:", value)]
    if not rows or not ready:
        return
    bad = [at for at, row in enumerate(rows, 1) if not isinstance(row.get("messages"), list) and "query" not in row]
    if bad:
        remedy = "make the file by the task's tool, or name the data set in front (overtake/...:FILE)"
        yield Finding("error", "columns", f"{len(bad)} of {len(rows)} rows hold no messages, the first is row {bad[0]}", remedy)
    if command.kind == "sft":
        dumb = [at for at, row in enumerate(rows, 1) if row.get("messages") and row["messages"][-1].get("role") != "assistant"]
        if dumb:
            remedy = "give train.jsonl; rl_train.jsonl is for RL"
            yield Finding("error", "columns", f"{len(dumb)} of {len(rows)} rows end in no answer, the first is row {dumb[0]}", remedy)
    for reward in command.flags.get("reward_funcs", []):
        if missing := [name for name in COLUMNS.get(reward, ()) if name not in rows[0]]:
            remedy = "make the file by the task's tool (tools/README.md), or take other --reward_funcs"
            yield Finding("error", "columns", f"{reward} reads {', '.join(missing)}, which the rows lack", remedy)
    blank = sum(not row.get("rag_teacher_recall") for row in rows) if "rag_teacher_recall" in rows[0] else 0
    if blank and any(name in _NEED_RAG for name in command.flags.get("reward_funcs", [])):
        remedy = "run tools/validate.py and tools/convert.py: a constant of the prompt is measured once"
        yield Finding("warning", "columns", f"rag_teacher_recall is blank in {blank} of {len(rows)} rows: it is asked live", remedy)
    yield Finding("ok", "columns", f"{len(rows)} rows, {len(rows[0])} columns")


def _counter(command: Command) -> tuple[Callable[[str], int], str]:
    """Counts tokens by the model's own tokenizer where its folder is here, else by a rule of thumb."""
    file = Path(command.get("model")) / "tokenizer.json"
    if file.is_file() and importlib.util.find_spec("tokenizers"):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: len(tokenizer.encode(text).ids), "counted"
    return lambda text: round(sum(0.25 + 0.45 * (unicodedata.east_asian_width(mark) in "WF") for mark in text)), "estimated"


def _lengths(command: Command, rows: Rows) -> Iterator[Finding]:
    most = command.number("max_length", 0)
    texts = [row["messages"] for row in rows[:: max(1, len(rows) // _SAMPLED)] if isinstance(row.get("messages"), list) and row["messages"]]
    if not texts or not most:
        return
    count, how = _counter(command)
    # A turn's frame (<|im_start|>role ... <|im_end|>) takes about five tokens.
    lengths = [sum(count(str(turn.get("content") or "")) + 5 for turn in turns) for turns in texts]
    over, longest = sum(length > most for length in lengths), max(lengths)
    said = f"longest of {len(lengths)} rows {longest} tokens ({how}), --max_length {most:.0f}"
    if over and command.get("truncation_strategy") not in ("left", "right"):
        remedy = f"raise --max_length to {longest}, or leave these rows out: ms-swift drops them"
        yield Finding("warning", "lengths", f"{said}; {over} rows are longer", remedy)
    else:
        yield Finding("ok", "lengths", said)
    if command.rl and (window := command.number("vllm_max_model_len", 0)):
        wanted = most + command.number("max_completion_length", 512)
        if window < wanted and longest + command.number("max_completion_length", 512) > window:
            remedy = f"raise --vllm_max_model_len to {wanted:.0f}"
            yield Finding("error", "lengths", f"vLLM's window of {window:.0f} holds no prompt of {longest} with its completion", remedy)


def _copies(command: Command, rows: Rows) -> Iterator[Finding]:
    """Rewrites to learn that are the question again: what a failed teacher's call leaves in a careless set."""
    if command.kind != "sft":
        return
    turns = [row["messages"] for row in rows if isinstance(row.get("messages"), list) and len(row["messages"]) > 1]
    said = [(str(one[-2].get("content") or ""), str(one[-1].get("content") or "")) for one in turns if one[-1].get("role") == "assistant"]
    copies = sum(is_copy(asked.rpartition("问题：")[2], answer) for asked, answer in said)
    if copies:
        remedy = "leave them out (tools/convert.py does): they teach to copy"
        yield Finding("warning", "copies", f"{copies} of {len(said)} answers are the question again", remedy)


def question(row: Mapping[str, Any]) -> str:
    """What a row asks: its column of the task, else its last user turn.

    >>> question({"messages": [{"role": "user", "content": "怎么吃"}]})
    '怎么吃'
    """
    if named := next((str(row[name]) for name in _QUESTIONS if row.get(name)), ""):
        return named
    turns = row.get("messages")
    said = [str(one.get("content") or "") for one in turns if one.get("role") == "user"] if isinstance(turns, list) else []
    return said[-1] if said else ""


def _leaks(command: Command, rows: Rows, held_out: Rows) -> Iterator[Finding]:
    asked = {normal(text) for row in rows if (text := question(row))}
    sides = {"validation": held_out}
    tests = {path.parent / "test.jsonl" for path in files(command.flags.get("dataset", []))}
    sides |= {str(path): _read(path) for path in tests if path not in files(command.flags.get("dataset", []))}
    for name, side in sides.items():
        shared = [text for row in side if (text := question(row)) and normal(text) in asked]
        if shared:
            said = f"{len(shared)} of {len(side)} questions of {name} are trained on, e.g. {shared[0][:40]}"
            remedy = "make the files anew by the task's tool, which keeps sides apart; or leave these rows out of training"
            # Validation only chooses the checkpoint; a test that was trained on measures nothing.
            yield Finding("warning" if name == "validation" else "error", "leak", said, remedy)
        elif side:
            yield Finding("ok", "leak", f"none of {len(side)} questions of {name} is trained on")
            if name != "validation" and len(side) < _FEW:
                remedy = "give more held-out rows, compare pair by pair, and say the interval"
                yield Finding("warning", "held-out rows", f"{len(side)} in {name} prove little", remedy)


# ---------------------------------------------------------------- live


def live(command: Command, no_judge: bool = False) -> list[Finding]:
    """A real call to each service that the rewards ask, and near-copies of held-out questions."""
    rewards = command.flags.get("reward_funcs", [])
    found: list[Finding] = []
    if any(name in _NEED_RAG for name in rewards):
        found += _rag(command)
    words = "finance_accuracy" in rewards and settings.load().finance_judge_share > 0
    if not no_judge and (words or any(name in _NEED_JUDGE for name in rewards)):
        found += _chat("judge")
    paths = files(command.flags.get("dataset", []))
    asked = [text for path in paths for row in _read(path) if (text := question(row))]
    held_out = [text for path in files(command.flags.get("val_dataset", [])) for row in _read(path) if (text := question(row))]
    if asked and held_out:
        from overtake.data.duplicates import overlaps

        near = [twin for twin in overlaps(asked, held_out) if not twin.exact]
        if near:
            first = f"{asked[near[0].place][:30]} / {held_out[near[0].of][:30]}"
            remedy = "read them: what nearly repeats a held-out question makes the measurement kinder"
            found.append(Finding("warning", "leak", f"{len(near)} questions come near to a held-out one, e.g. {first}", remedy))
    return found


def _chat(role: str) -> list[Finding]:
    from overtake.remote import chat
    from overtake.remote.gateway import Ok
    from overtake.remote.judging import judge_call

    try:
        to = chat.endpoint(role)
        call = judge_call("胶原蛋白怎么吃", "胶原蛋白肽 食用方法", to)
        call.cached = False
        result = chat.chat_gateway(role).run([call])[0]
    except SettingsError as error:
        return [Finding("error", role, str(error), "set it as it says, or go on without: --no-judge")]
    rules = ", ".join(chat.parameters(to.model, 1, 0.0))
    if isinstance(result, Ok):
        return [Finding("ok", role, f"{to.model} answers with a verdict; asked with {rules}")]
    remedy = "see to its address, model and key, or set OVERTAKE_JUDGE_SHARE=0"
    return [Finding("error", role, f"{to!r}, asked with {rules}: {result.reason}", remedy)]


def _rag(command: Command) -> list[Finding]:
    from overtake.remote import rag
    from overtake.remote.gateway import Ok

    rows = [row for path in files(command.flags.get("dataset", [])) for row in _read(path) if row.get("rag_query")]
    if not rows:
        return []
    row = rows[0]
    here = (str(row.get("rag_tenant") or ""), str(row.get("rag_kb") or "default"))
    texts = (str(row["rag_query"]), str(row.get("rag_teacher_rewrite") or row["rag_query"]))
    try:
        calls = [rag.rag_call(texts[0], text, *here, top_k=20, labelled=True) for text in texts]
        for call in calls:
            call.cached = False
        results = rag.rag_gateway().run(calls)
    except SettingsError as error:
        return [Finding("error", "RAG service", str(error), "set it as it says")]
    for result in results:
        if not isinstance(result, Ok):
            return [Finding("error", "RAG service", result.reason, f"see to it, to tenant {here[0]!r} and to kb {here[1]!r}")]
    first, second = ({hit.doc_id: hit.score for hit in rag.hits(result.value)} for result in results if isinstance(result, Ok))
    moved = [doc for doc in first.keys() & second.keys() if doc and abs(first[doc] - second[doc]) > 1e-6]
    if moved and not row.get("rag_gold"):
        remedy = "let it rerank on the original query, or give rag_gold: else the policy wins by quoting documents"
        return [Finding("error", "RAG service", f"the score of {moved[0]} depends on the rewrite", remedy)]
    if not first and not second:
        return [Finding("warning", "RAG service", f"recalls nothing for {texts[0][:30]}", f"is tenant {here[0]!r} the right one?")]
    return [Finding("ok", "RAG service", f"recalls {len(second)} documents; a document's score does not depend on the rewrite")]
