"""Unpack a GGUF file into a folder that can be trained: weights, config, tokenizer, chat template.

    python tools/gguf_model.py model-q8_0.gguf models/model

The weights become bf16, a little worse than those that the file was made of. What cannot be unpacked is refused before anything is written.
"""

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

from overtake.data.tables import BadInput

_NEEDED = "general.architecture"
_MEMORY = 1.3
"""Times the weights in bf16: the weights, and the largest tensor in fp32 while it is unpacked."""


def read_header(path: Path) -> Any:
    """The file's reader, of a whole model of one file. Raises BadInput for anything else, with what to do."""
    from gguf import GGUFReader

    if not path.is_file():
        raise BadInput(f"{path} is no file: name a .gguf file")
    with path.open("rb") as file:
        if (magic := file.read(4)) != b"GGUF":
            raise BadInput(f"{path} is no GGUF file: it begins with {magic!r}; name the .gguf file itself")
    try:
        reader = GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise BadInput(f"{path} cannot be read as GGUF ({_words(error)}): it is cut off or damaged, fetch it again") from None
    # numpy maps what is not there as a shorter array, or reads past the end without a word.
    if reader.tensors and (last := max(tensor.data_offset + tensor.n_bytes for tensor in reader.tensors)) > path.stat().st_size:
        raise BadInput(f"{path} is cut off: {path.stat().st_size:,} bytes of {last:,}; fetch it again")
    if int(value(reader, "split.count") or 1) > 1:
        first = re.sub(r"-\d+-of-", "-00001-of-", path.name)
        raise BadInput(f"{path} is one of {value(reader, 'split.count')} parts: join them with llama-gguf-split --merge {first} whole.gguf")
    if (kind := value(reader, "general.type") or "model") != "model":
        raise BadInput(f"{path} is of type {kind}, no model: name the file of the model itself")
    if not reader.tensors or not value(reader, _NEEDED):
        raise BadInput(f"{path} holds no weights: name the file of the model itself")
    return reader


def value(reader: Any, name: str) -> Any:
    """A field of the header; None where it is not there."""
    field = reader.get_field(name)
    return None if field is None else field.contents()


def check(path: Path, reader: Any) -> None:
    """Raise BadInput for an architecture, a quantisation or a tokenizer that cannot be unpacked, and for a base model."""
    from gguf import GGUFValueType
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    architecture = value(reader, _NEEDED)
    architectures = {supported.replace("_", "").replace("-", "") for supported in GGUF_SUPPORTED_ARCHITECTURES}
    if architecture.replace("_", "").replace("-", "") not in architectures:
        raise BadInput(
            f"{path}: architecture {architecture} cannot be unpacked; there are {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}"
        )
    samples = {tensor.tensor_type: tensor.data for tensor in reader.tensors}
    if unknown := sorted(kind.name for kind, data in samples.items() if not _dequantizes(data, kind)):
        raise BadInput(
            f"{path}: weights of type {', '.join(unknown)} cannot be unpacked: take a file of the model in another type, e.g. Q8_0 or BF16"
        )
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if tokens is None or tokens.types[0] != GGUFValueType.ARRAY:
        raise BadInput(f"{path} holds no tokenizer: take a newer file of the model, or unpack it where its tokenizer is")
    if not value(reader, "tokenizer.chat_template"):
        raise BadInput(f"{path} holds no chat template: it is a base model; take the instruct model's file")


def _dequantizes(data: Any, kind: Any) -> bool:
    from gguf import dequantize

    try:
        dequantize(data.reshape(-1, data.shape[-1])[:1], kind)
    except NotImplementedError:
        return False
    return True


def check_room(path: Path, reader: Any, out: Path) -> None:
    """Raise BadInput where memory or disk are too small for the weights in bf16."""
    import psutil

    weights = 2 * sum(int(tensor.n_elements) for tensor in reader.tensors)
    parent = next(ancestor for ancestor in out.resolve().parents if ancestor.exists())
    for what, need, free in (
        ("memory", weights * _MEMORY, psutil.virtual_memory().available),
        (f"disk at {parent}", weights, shutil.disk_usage(parent).free),
    ):
        if need > free:
            raise BadInput(f"{path} needs {need / 1e9:.1f} GB of {what}, {free / 1e9:.1f} are free: free some, or take a smaller model")


def unpack(path: Path, out: Path) -> int:
    """Write the folder, or nothing; returns the number of weights. Raises BadInput for what transformers cannot make of the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - the libraries raise their own kinds, the tokenizers' a bare Exception
        raise BadInput(f"{path}: transformers cannot unpack it ({_words(error)}): take another file of the model") from None
    model, report = loaded
    if strange := [*sorted(report["missing_keys"]), *sorted(map(str, report["mismatched_keys"]))]:
        raise BadInput(f"{path}: {len(strange)} weights are missing or of another shape, e.g. {strange[0]}: take another file of the model")
    _check_tokenizer(path, tokenizer)
    for config in (model.config, model.config.get_text_config()):
        if hasattr(config, "quantization_config"):
            delattr(config, "quantization_config")
        config.name_or_path = ""
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sum(int(weight.numel()) for weight in model.parameters())


def _check_tokenizer(path: Path, tokenizer: Any) -> None:
    """Raise BadInput for a tokenizer that loses words, or whose chat template cannot be written or holds no end of a turn."""
    sample = "How do I pay? 怎么付款？"
    if tokenizer.decode(tokenizer(sample, add_special_tokens=False).input_ids).strip() != sample:
        raise BadInput(f"{path}: its tokenizer does not give back {sample!r}: take another file of the model")
    try:
        messages = [{"role": "user", "content": sample}, {"role": "assistant", "content": "ok"}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    except Exception as error:  # noqa: BLE001 - templates are programs and raise what they like
        raise BadInput(f"{path}: its chat template cannot be used ({_words(error)}): take another file of the model") from None
    if tokenizer.eos_token_id not in ids:
        fault = "no turn of its chat template ends with it, so a model would never stop"
        raise BadInput(f"{path}: its end token is {tokenizer.eos_token!r}, and {fault}: take another file of the model")


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("file", type=Path, help="the .gguf file")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not exist")


def work(args: argparse.Namespace) -> int:
    """Check everything, unpack, write; 0 done. Raises BadInput."""
    if args.out.exists():
        raise BadInput(f"{args.out} already exists: name another folder, or remove it")
    reader = read_header(args.file)
    check(args.file, reader)
    check_room(args.file, reader, args.out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{args.out}: {unpack(args.file, args.out) / 1e6:.0f} M weights in bf16")
    return 0
