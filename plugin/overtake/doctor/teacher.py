"""Whether a run of on-policy distillation can learn from its teacher: one tokenizer, log-probabilities that are told, flags that fit."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from overtake.doctor.command import Command
from overtake.doctor.findings import Finding
from overtake.doctor.rows import Rows
from overtake.remote import token_scores
from overtake.task import TEACHER_PROMPT_COLUMN

_TEXT = "皮肤没弹性吃什么好？Which of 12 is 3.5% more?"
_SHOWN = 3


def is_distilled(command: Command) -> bool:
    """Return whether a command's student is compared with a teacher, token by token."""
    return command.rl in ("grpo", "gkd") and bool(command.get("teacher_model") or command.get("teacher_model_server") or is_own(command))


def is_own(command: Command) -> bool:
    """Return whether the student under another prompt is its own teacher."""
    return command.variable("OVERTAKE_SELF_TEACHER", "0") == "1"


def findings(command: Command, rows: Rows) -> Iterator[Finding]:
    """Check a run's teacher; nothing for a run without one."""
    if not is_distilled(command):
        return
    yield from _flags(command)
    if is_own(command) and (blank := sum(not row.get(TEACHER_PROMPT_COLUMN) for row in rows)):
        remedy = "make the rows anew by tools/convert.py, or write the column: the question with what only a teacher may know"
        words = f"DISTILL_FROM=self reads the column {TEACHER_PROMPT_COLUMN}, blank in {blank} of {len(rows)} rows"
        yield Finding("error", "teacher", words, remedy)
        return
    student = _vocabulary(command.get("model"))
    if teacher := command.get("teacher_model"):
        yield from _local(command, teacher, student)
    elif (address := command.get("teacher_model_server")) and not address.startswith("["):
        yield from _served(command, address)
    yield Finding("ok", "teacher", command.get("teacher_model") or command.get("teacher_model_server") or "the student itself")


def _flags(command: Command) -> Iterator[Finding]:
    """What ms-swift refuses after half a minute, and what it takes and should not."""
    for flag, values, instead in (
        ("loss_type", ("real", "fipo"), "take grpo, dapo or another: a teacher's term differs from token to token"),
        ("use_liger_kernel", ("true",), "leave it out"),
    ):
        if command.get(flag) in values:
            yield Finding("error", "teacher", f"--{flag} {command.get(flag)} beside a teacher", instead)
    if command.get("off_policy_sequence_mask_delta"):
        remedy = "leave it out: it needs one advantage a completion"
        yield Finding("error", "teacher", "--off_policy_sequence_mask_delta beside a teacher", remedy)
    if not command.flags.get("reward_funcs"):
        for flag, value in (("dynamic_sample", "true"), ("scale_rewards", "gdpo")):
            if command.get(flag) == value:
                yield Finding("error", "teacher", f"--{flag} {value} without a reward", "leave it out")
    if command.get("teacher_model_server"):
        if command.number("temperature", 0.9) != 1:
            words = f"--temperature {command.get('temperature', '0.9')}, and a server's log-probabilities are of 1"
            yield Finding("error", "teacher", words, "leave --temperature out, or load the teacher: DISTILL_FROM= a folder or hub name")
        if command.get("padding_free") == "true":
            yield Finding("error", "teacher", "--padding_free beside a served teacher", "leave it out")


def _local(command: Command, teacher: str, student: Mapping[str, int] | None) -> Iterator[Finding]:
    for name in command.flags.get("teacher_adapters", []):
        if not (Path(name) / "adapter_config.json").is_file():
            yield Finding("error", "teacher", f"{name} holds no adapter_config.json", "correct DISTILL_FROM=: a model or an adapter")
    if Path(teacher).is_absolute() and not (Path(teacher) / "config.json").is_file():
        yield Finding("error", "teacher", f"{teacher} holds no config.json", "correct DISTILL_FROM=: a model's folder or hub name")
        return
    if teacher == command.get("model"):
        return
    own = _vocabulary(teacher)
    if student is None or own is None:
        unknown = command.get("model") if student is None else teacher
        remedy = "give folders, or see that both are of one family: Qwen2.5 or Qwen3"
        yield Finding("warning", "teacher", f"the tokenizer of {unknown} cannot be read here, so it is not compared", remedy)
    elif other := [token for token, at in student.items() if own.get(token) != at]:
        shown = ", ".join(repr(token) for token in other[:_SHOWN])
        words = f"{teacher} has another tokenizer than the student: {len(other):,} of its {len(student):,} tokens differ, e.g. {shown}"
        yield Finding("error", "teacher", words, "take a teacher of the student's family, or learn from its texts (SFT)")
    elif (size := _size(teacher)) and size <= max(student.values()):
        words = f"{teacher} has rows for {size:,} tokens, the student's tokenizer writes {max(student.values()) + 1:,}"
        yield Finding("error", "teacher", words, "take a teacher of the student's family")


def _served(command: Command, address: str) -> Iterator[Finding]:
    try:
        server = token_scores.find(address)
        encoder = _encoder(command.get("model"))
        ids = encoder(_TEXT) if encoder else list(range(100, 120))
        read = token_scores.probe(server, ids, _TEXT)
    except ValueError as error:
        problem, _, remedy = str(error).partition(": serve ")
        yield Finding("error", "teacher", problem, f"serve {remedy}" if remedy else "start it, or correct DISTILL_FROM=")
        return
    if encoder is None:
        remedy = "give the student as a folder, or see that both are of one family"
        yield Finding("warning", "teacher", f"the tokenizer of {command.get('model')} cannot be read here, so it is not compared", remedy)
        return
    text_of = _decoder(command.get("model"))
    other = [(at, text) for at, text in read if text and "\ufffd" not in text and text_of(at).strip() != text.strip()]
    if other:
        at, text = other[0]
        words = f"{server.model} at {server.address} reads token {at} as {text!r}, the student as {text_of(at)!r}: another tokenizer"
        yield Finding("error", "teacher", words, "take a teacher of the student's family, or learn from its texts (SFT)")


def _tokenizer_file(model: str) -> Path | None:
    """The tokenizer.json of a folder, or of a hub's model that was fetched before or can be had: some MB, no weights."""
    if Path(model).is_dir() or Path(model).is_absolute():
        file = Path(model) / "tokenizer.json"
        return file if file.is_file() else None
    try:
        if os.environ.get("USE_HF", "0").lower() in ("1", "true"):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(model, "tokenizer.json"))
        from modelscope.hub.file_download import model_file_download

        return Path(model_file_download(model, "tokenizer.json"))
    except Exception:  # noqa: BLE001 - each hub's client raises its own kinds, and all of them mean: not to be had, which is said
        return None


def _vocabulary(model: str) -> dict[str, int] | None:
    """The id of each token; None where it cannot be read."""
    file = _tokenizer_file(model)
    if file is None:
        return None
    described = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = described.get("model", {}).get("vocab")
    if not isinstance(vocabulary, dict):
        return None
    return vocabulary | {added["content"]: added["id"] for added in described.get("added_tokens", [])}


def _encoder(model: str) -> Callable[[str], list[int]] | None:
    tokenizer = _tokenizer(model)
    return None if tokenizer is None else lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _decoder(model: str) -> Callable[[int], str]:
    tokenizer = _tokenizer(model)
    return lambda token: str(tokenizer.decode([token], skip_special_tokens=False))


def _tokenizer(model: str) -> Any:
    file = _tokenizer_file(model)
    if file is None:
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def _size(model: str) -> int:
    """Rows of a model's embedding; 0 where its config.json is not here."""
    file = Path(model) / "config.json"
    return int(json.loads(file.read_text(encoding="utf-8")).get("vocab_size") or 0) if file.is_file() else 0
