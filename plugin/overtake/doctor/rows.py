"""Whether the rows of a run fit its rewards and lengths, and keep their held-out sides apart."""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from overtake import thinking
from overtake.data import tables
from overtake.data.near_duplicates import is_copy
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding
from overtake.reading.normal_forms import for_likeness
from overtake.reading.tags import split_think
from overtake.task import THINKING_COLUMN, Reward, Task

Rows = list[dict[str, Any]]

_MOST_ROWS = 20_000
_SAMPLED = 500
_FEW = 200
"""Held-out rows below which a difference between two systems of 10 points is not shown: of 100 rows, unpaired, 13 would be."""


def files(values: Sequence[str]) -> list[Path]:
    """The files that --dataset names: a registered name in front (overtake/mine:) and #500 behind are taken off; hub names are left out.

    >>> files(["overtake/mine:/a/b.jsonl#500", "owner/name"])
    [PosixPath('/a/b.jsonl')]
    """
    bare = [re.sub(r"^[\w-]+/[\w-]+:|#\d+$", "", value) for value in values]
    return [Path(value) for value in bare if tables.suffix(value) in tables.READ]


def count(command: Command) -> int:
    """Count the rows a run trains on: behind # as many as that says; without those that --split_dataset_ratio holds out. 0: not known."""
    total = 0
    for value in command.flags.get("dataset", []):
        sample = re.search(r"#(\d+)$", value)
        counted = sum(len(read(path)) for path in files([value]))
        if not counted and not sample:
            return 0
        total += int(sample[1]) if sample else counted
    held_out = command.number("split_dataset_ratio", 0) if not command.flags.get("val_dataset") else 0.0
    return total - int(total * held_out)


def read(path: Path) -> Rows:
    """The rows of a file that hold anything, as far as they are needed; none of a file that is absent.

    Raises BadInput naming file and line, wherever in the file the fault is.
    """
    if not path.is_file():
        return []
    return [row for at, row in enumerate(tables.read_objects(path)) if row and at < _MOST_ROWS]


def columns(command: Command, rows: Rows, known_rewards: Mapping[str, Reward]) -> Iterator[Finding]:
    """Check the columns: what the rewards read, those of `known_rewards`, and what a training needs at all."""
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
    rewards = [known_rewards[name] for name in command.flags.get("reward_funcs", []) if name in known_rewards]
    for reward in rewards:
        if missing := [name for name in reward.columns if name not in rows[0]]:
            remedy = "make the file by the task's tool (docs/columns.md), or take other --reward_funcs"
            yield Finding("error", "columns", f"{reward.name} reads {', '.join(missing)}, which the rows lack", remedy)
    for name in dict.fromkeys(reward.once for reward in rewards if reward.once in rows[0]):
        if blank := sum(not row.get(name) for row in rows):
            remedy = "make the file by the task's tools (docs/columns.md): a constant of the prompt is measured once"
            yield Finding("warning", "columns", f"{name} is blank in {blank} of {len(rows)} rows: it is asked live", remedy)
    yield Finding("ok", "columns", f"{len(rows)} rows, {len(rows[0])} columns")


def _counter(command: Command) -> tuple[Callable[[str], int], str]:
    """Counts tokens by the model's own tokenizer where its folder is here, else by a rule of thumb."""
    file = Path(command.get("model")) / "tokenizer.json"
    if file.is_file() and importlib.util.find_spec("tokenizers"):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: len(tokenizer.encode(text).ids), "counted"
    return lambda text: round(sum(0.25 + 0.45 * (unicodedata.east_asian_width(mark) in "WF") for mark in text)), "estimated"


def mean_length(command: Command) -> float | None:
    """Tokens of a row, its answer included, on the mean of the run's rows; None where they are not there."""
    rows = [row for path in files(command.flags.get("dataset", [])) for row in read(path)]
    found = _lengths(command, rows)[0]
    return sum(found) / len(found) if found else None


def _lengths(command: Command, rows: Rows) -> tuple[list[int], str]:
    """Tokens of the rows' turns, of some rows spread over all of them, and how they were had."""
    texts = [row["messages"] for row in rows[:: max(1, len(rows) // _SAMPLED)] if isinstance(row.get("messages"), list) and row["messages"]]
    count, how = _counter(command)
    # A turn's frame (<|im_start|>role ... <|im_end|>) takes about five tokens.
    return [sum(count(str(turn.get("content") or "")) + 5 for turn in turns) for turns in texts], how


def lengths(command: Command, rows: Rows) -> Iterator[Finding]:
    """Prompts against --max_length, and against vLLM's window."""
    most = command.number("max_length", 0)
    lengths, how = _lengths(command, rows) if most else ([], "")
    if not lengths:
        return
    over, longest = sum(length > most for length in lengths), max(lengths)
    summary = f"longest of {len(lengths)} rows {longest} tokens ({how}), --max_length {most:.0f}"
    if over and command.get("truncation_strategy") not in ("left", "right"):
        remedy = f"raise --max_length to {longest}, or leave these rows out: ms-swift drops them"
        yield Finding("warning", "lengths", f"{summary}; {over} rows are longer", remedy)
    else:
        yield Finding("ok", "lengths", summary)
    if command.rl and (window := command.number("vllm_max_model_len", 0)):
        needed = most + command.number("max_completion_length", 512)
        if window < needed and longest + command.number("max_completion_length", 512) > window:
            remedy = f"raise --vllm_max_model_len to {needed:.0f}"
            yield Finding("error", "lengths", f"vLLM's window of {window:.0f} holds no prompt of {longest} with its completion", remedy)


def copies(command: Command, rows: Rows) -> Iterator[Finding]:
    """Rewrites to learn that are the question again: what a failed teacher's call leaves in a careless set."""
    if command.kind != "sft":
        return
    turns = [row["messages"] for row in rows if isinstance(row.get("messages"), list) and len(row["messages"]) > 1]
    pairs = [
        (str(messages[-2].get("content") or ""), str(messages[-1].get("content") or ""))
        for messages in turns
        if messages[-1].get("role") == "assistant"
    ]
    copies = sum(is_copy(prompt.rpartition("问题：")[2], answer) for prompt, answer in pairs)
    if copies:
        remedy = "leave them out (tools/convert.py does): they teach to copy"
        yield Finding("warning", "copies", f"{copies} of {len(pairs)} answers are the question again", remedy)


def thoughts(command: Command, rows: Rows) -> Iterator[Finding]:
    """Check that the rows of SFT think as the prompts of RL, evaluation and use (--enable_thinking), and RL as the SFT before it."""
    setting = command.get("enable_thinking")
    if setting not in ("true", "false"):
        return
    if command.kind == "sft":
        # A row's own word goes before the run's.
        texts = [text for row in rows if not row.get(THINKING_COLUMN) and (text := _answer(row))]
        thought = sum(bool(split_think(text)[0]) for text in texts)
        if setting == "false" and thought:
            remedy = "set --enable_thinking true here, in RL and in the task's Decoding, or take the think blocks out of the rows"
            problem = f"{thought} of {len(texts)} rows teach a reasoning, which nothing will ask for: the task does not think"
            yield Finding("error", "thinking", f"{problem} (--enable_thinking false)", remedy)
        elif setting == "true" and thought < len(texts):
            remedy = "give them one, or leave them out" if thought else "set --enable_thinking false, in RL too, or give all rows a thought"
            problem = f"{len(texts) - thought} of {len(texts)} rows hold no reasoning, though the task thinks"
            yield Finding("warning", "thinking", f"{problem} (--enable_thinking true)", remedy)
    for folder in dict.fromkeys((*command.flags.get("adapters", []), command.get("model"))):
        trained = thinking.trained(Path(folder))
        if trained is not None and trained != (setting == "true"):
            problem = f"{folder} was trained with --enable_thinking {str(trained).lower()}, this run says {setting}"
            yield Finding("error", "thinking", problem, f"add --enable_thinking {str(trained).lower()}, or take another checkpoint")


def _answer(row: Mapping[str, Any]) -> str:
    """What a row of SFT teaches to say: its last turn, else the cell that begins with a think block; "" where neither is there."""
    turns = row.get("messages")
    if isinstance(turns, list) and turns:
        return str(turns[-1].get("content") or "") if turns[-1].get("role") == "assistant" else ""
    return next((cell for cell in row.values() if isinstance(cell, str) and cell.lstrip().startswith("<think>")), "")


def question(row: Mapping[str, Any], tasks: Sequence[Task]) -> str:
    """Question of a row: its column of one of the tasks, else its last user turn.

    >>> question({"messages": [{"role": "user", "content": "怎么吃"}]}, [])
    '怎么吃'
    """
    names = [*(task.attacks.question for task in tasks), "question"]
    if named := next((str(row[name]) for name in names if row.get(name)), ""):
        return named
    turns = row.get("messages")
    user_turns = [str(turn.get("content") or "") for turn in turns if turn.get("role") == "user"] if isinstance(turns, list) else []
    return user_turns[-1] if user_turns else ""


def leaks(command: Command, rows: Rows, held_out: Rows, tasks: Sequence[Task]) -> Iterator[Finding]:
    """Questions of a held-out side that are trained on; a test.jsonl beside the training file counts as one."""
    questions = {for_likeness(text) for row in rows if (text := question(row, tasks))}
    sides = {"validation": held_out}
    tests = {path.parent / "test.jsonl" for path in files(command.flags.get("dataset", []))}
    sides |= {str(path): read(path) for path in tests if path not in files(command.flags.get("dataset", []))}
    for name, side in sides.items():
        shared = [text for row in side if (text := question(row, tasks)) and for_likeness(text) in questions]
        if shared:
            overlap = f"{len(shared)} of {len(side)} questions of {name} are trained on, e.g. {shared[0][:40]}"
            remedy = "make the files anew by the task's tool, which keeps sides apart; or leave these rows out of training"
            # Validation only chooses the checkpoint; a test that was trained on measures nothing.
            yield Finding("warning" if name == "validation" else "error", "leak", overlap, remedy)
        elif side:
            yield Finding("ok", "leak", f"none of {len(side)} questions of {name} is trained on")
            if name != "validation" and len(side) < _FEW:
                remedy = "give more held-out rows, compare pair by pair, and say the interval"
                yield Finding("warning", "held-out rows", f"{len(side)} in {name} prove little", remedy)
