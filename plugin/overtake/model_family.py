"""Tell from a model's folder what ms-swift calls its architecture and its chat template, where the folder's name says nothing.

    python -m overtake.model_family FOLDER        # prints --model_type and --template, a word a line
    python -m overtake.model_family FOLDER OUT    # and refuses what cannot be trained here, with what it leaves in OUT

ms-swift knows a model by its name on a hub; of a folder with another name it knows the architecture, which several of its types share.
This reads config.json and the chat template as well. Only the standard library: recipes ask it before anything is installed.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Family(NamedTuple):
    """Names of a model in ms-swift: `--model_type` and `--template`."""

    model_type: str
    template: str


_QWEN = "<|im_start|>"
_BY_ARCHITECTURE: dict[str, tuple[tuple[tuple[str, ...], Family], ...]] = {
    "LlamaForCausalLM": (
        (("<｜User｜>",), Family("llama", "deepseek_r1")),
        (("<|start_header_id|>", "Cutting Knowledge Date"), Family("llama", "llama3_2")),
        (("<|start_header_id|>",), Family("llama", "llama3")),
        ((_QWEN,), Family("llama", "chatml")),
        (("[INST]",), Family("llama", "llama")),
    ),
    "Qwen2ForCausalLM": (
        (("<｜User｜>",), Family("qwen2", "deepseek_r1")),
        ((_QWEN, "You are Qwen"), Family("qwen2", "qwen2_5")),
        ((_QWEN,), Family("qwen2", "qwen")),
    ),
    "Qwen3ForCausalLM": (
        (("<｜User｜>",), Family("qwen3", "deepseek_r1")),
        ((_QWEN, "enable_thinking"), Family("qwen3", "qwen3")),
        ((_QWEN, "<|im_start|>assistant\\n<think>"), Family("qwen3", "qwen3_thinking")),
        ((_QWEN,), Family("qwen3", "qwen3_nothinking")),
    ),
    "Qwen3MoeForCausalLM": (
        ((_QWEN, "enable_thinking"), Family("qwen3_moe", "qwen3")),
        ((_QWEN, "<|im_start|>assistant\\n<think>"), Family("qwen3_moe", "qwen3_thinking")),
        ((_QWEN,), Family("qwen3_moe", "qwen3_nothinking")),
    ),
    "MistralForCausalLM": (
        (("[SYSTEM_PROMPT]",), Family("mistral_2501", "mistral_2501")),
        ((_QWEN,), Family("mistral", "chatml")),
        (("[INST]",), Family("mistral", "llama")),
    ),
    "Gemma2ForCausalLM": ((("<start_of_turn>",), Family("gemma2", "gemma")),),
    "Gemma3ForCausalLM": ((("<start_of_turn>",), Family("gemma3_text", "gemma3_text")),),
    "Phi3ForCausalLM": (
        (("<|im_sep|>",), Family("phi4", "phi4")),
        (("<|end|>",), Family("phi3", "phi3")),
    ),
}
"""Of each architecture the marks of a chat template, of which the first line that fits is taken, and what ms-swift calls it."""


def chat_template(folder: Path) -> str:
    """The folder's chat template, "" where it has none. Raises ValueError for a file that is no JSON.

    A file of its own goes before tokenizer_config.json; of several templates the default one is meant.
    """
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _json(folder / name).get("chat_template")
        if isinstance(template, list):
            template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
        if isinstance(template, str) and template.strip():
            return template
    return ""


def architecture(folder: Path) -> str:
    """The class of a folder's model, as its config.json names it; "" where it names none. Raises ValueError for a file that is no JSON."""
    return str(next(iter(_json(folder / "config.json").get("architectures") or []), ""))


def types(folder: Path) -> list[str]:
    """Return ms-swift's types for the architecture of a folder's model, told apart by chat template; none where it knows one only."""
    return list(dict.fromkeys(named.model_type for _, named in _BY_ARCHITECTURE.get(architecture(folder), ())))


def family(folder: Path) -> Family | None:
    """Return what ms-swift calls the model in a folder; None for an architecture of which it knows one type only, or which is not in our
    table.

    Raises ValueError, in words that say what to do, for a model without a chat template, and for one whose template is none of those that
    go with its architecture.
    """
    of_model = _BY_ARCHITECTURE.get(architecture(folder))
    if of_model is None:
        return None
    if not (template := chat_template(folder)):
        raise ValueError(
            f"{folder} has no chat template: it is a base model, or its chat_template.jinja is missing. Take the instruct model, or name "
            "one of ms-swift's templates with --template"
        )
    for marks, named in of_model:
        if all(mark in template for mark in marks):
            return named
    choices = ", ".join(dict.fromkeys(f"--model_type {named.model_type} --template {named.template}" for _, named in of_model))
    raise ValueError(
        f"{folder} is a {architecture(folder)} with a chat template of no kind that goes with it here. Name both, the nearest of: {choices}"
    )


def flags(folder: Path) -> list[str]:
    """The words that a command of ms-swift needs for a folder; none where it finds them itself: in args.json, or by the architecture.

    Raises ValueError as `family` does.
    """
    if _json(folder / "args.json").get("template"):
        return []
    named = family(folder)
    return ["--model_type", named.model_type, "--template", named.template] if named else []


_ADAPTED = 3.0
"""Times the weights in fp32: the model, its activations and vLLM's copy, in GRPO with adapters."""
_LEFT = 2.5
"""Times the weights in bf16: the merged model and the copies that are made on the way."""


def rejection_reason(folder: Path, out: Path) -> str | None:
    """Say why a model cannot be trained on this machine, in words; None for one that can.

    Looks at the architecture, the chat template, the size of the weights on disk, the memory and the disk that are free.
    """
    if not (folder / "config.json").is_file():
        return f"{folder} holds no config.json: name a model's folder, or its name on a hub, owner/name"
    kind = architecture(folder)
    if not kind.endswith("ForCausalLM"):
        return f"{folder} is a {kind or 'model of no named architecture'}, which writes no text: take a ...ForCausalLM"
    if not chat_template(folder):
        return f"{folder} has no chat template: it is a base model; take the instruct model"
    files = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not files:
        return f"{folder} holds no weights (*.safetensors): fetch the model again"
    halves = sum(file.stat().st_size for file in files) / (2 if _json(folder / "config.json").get("dtype") == "float32" else 1)
    match = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    free = int(match[1]) * 1024 if match else 0
    parent = next(ancestor for ancestor in (out, *out.parents) if ancestor.exists())
    for what, need, there in (
        ("memory", halves * 2 * _ADAPTED, free),
        (f"disk at {parent}", halves * _LEFT, shutil.disk_usage(parent).free),
    ):
        if need > there:
            return f"{folder} needs {need / 1e9:.1f} GB of {what}, {there / 1e9:.1f} are free: take a smaller model, or free some"
    return None


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{file} is no JSON: fetch the model again") from None
    return value if isinstance(value, dict) else {}


def main(folder: str, out: str = "") -> int:
    """Print the words, a line each; 2 with one line where the folder's model cannot be told, or not be trained with `out` for its place."""
    try:
        if out and (wrong := rejection_reason(Path(folder), Path(out).resolve())):
            raise ValueError(wrong)
        print(*flags(Path(folder)), sep="\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
