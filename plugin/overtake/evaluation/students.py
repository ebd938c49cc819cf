"""Answers from a model folder, an adapter folder or an endpoint, with the very prompt of training."""

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tqdm import tqdm

from overtake import cli
from overtake.data.tables import BadInput
from overtake.evaluation.costs import Cost
from overtake.reading.tags import strip_think
from overtake.remote.chat import Endpoint, chat_call, chat_gateway
from overtake.remote.gateway import Ok, Result
from overtake.thinking import prompt, trained

BATCH = 32
"""Conversations that a folder answers together."""
_VLLM_BATCH = 256
_WORTH_A_START = 5e12
"""Weights times tokens of prompts and answers from which vLLM's start is earned back on a CPU: some 100 s of transformers on two cores."""
Loaded = tuple[Any, Any]
"""(model, tokenizer) of a folder."""
Tell = Callable[[Sequence[tuple[int, str | None, Cost]]], None]
"""Told of answers as they come: the conversation's index, the text, what it took."""


def fetched(name: str) -> Path:
    """The folder of a model: the one that is there under this name, else the hub's (ModelScope, with USE_HF=1 Hugging Face).

    Raises BadInput when it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    from swift.utils import safe_snapshot_download

    try:
        return Path(safe_snapshot_download(name))
    except Exception as error:  # noqa: BLE001 - each hub's client raises its own kinds, and all of them mean: not to be had
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{name} is no folder, and no model that could be fetched from the hub ({type(error).__name__}: {reason})") from None


def load(folder: Path) -> Loaded:
    """The model in a folder, ready to answer, and its tokenizer. Raises BadInput as `from_folder` does."""
    base, tokenizer = _base(folder)
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=_precision())
    if base != str(folder):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def from_folder(
    folder: Path,
    conversations: Sequence[list[dict[str, str]]],
    limit: int,
    thinking: Sequence[bool | None] = (),
    tell: Tell | None = None,
    loaded: Loaded | None = None,
) -> list[str]:
    """Greedy answers of the model in `folder` (a full model, or a LoRA adapter whose base its adapter_config.json names).

    At most `limit` tokens each and what the model's window has room for. `thinking` says of each conversation whether its prompt leaves
    room for a thought (None: as the model's template has it; without it none does); a think block stays in an answer unless that is False.
    A checkpoint that was trained otherwise is asked as it was trained. `loaded`: what `load` made of the folder, else it is loaded here.
    Raises BadInput when the folder holds neither.
    """
    model, tokenizer = loaded or load(folder)
    import torch

    prompts = _prompts(folder, tokenizer, conversations, thinking)
    whole = _whole(thinking, len(prompts))
    answers: list[str] = []
    for start in tqdm(range(0, len(prompts), BATCH), desc=f"answers of {folder.name}", unit="batch"):
        begun = time.monotonic()
        inputs = tokenizer(prompts[start : start + BATCH], return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(model.device)
        # Beyond its window a model only rambles.
        room = max(1, model.config.max_position_embeddings - inputs.input_ids.shape[1])
        with torch.inference_mode():
            output = model.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                max_new_tokens=min(limit, room),
                do_sample=False,
            )
        texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        answers += [text.strip() if keep else strip_think(text) for text, keep in zip(texts, whole[start:], strict=False)]
        if tell:
            seconds, padding = time.monotonic() - begun, tokenizer.pad_token_id
            # Answers are padded on the right; of the prompt the mask tells.
            lengths = (output[:, inputs.input_ids.shape[1] :] != padding).sum(dim=1) + inputs.attention_mask.sum(dim=1)
            costs = [Cost(round(seconds, 4), seconds / len(texts), int(tokens)) for tokens in lengths]
            tell([(start + at, answers[start + at], cost) for at, cost in enumerate(costs)])
    return answers


def _precision() -> Literal["float32", "auto"]:
    """That of the weights; fp32 on a processor that has no units for bf16 and would only emulate it."""
    import torch

    cpu = Path("/proc/cpuinfo")
    emulated = not torch.cuda.is_available() and not (cpu.is_file() and re.search("avx512_bf16|amx_bf16", cpu.read_text(encoding="utf-8")))
    return "float32" if emulated else "auto"


def _base(folder: Path) -> tuple[str, Any]:
    """Folder or name of the weights (of an adapter: its base's), and their tokenizer.

    Raises BadInput when it holds no model, names no base that is there, or its tokenizer cannot put a conversation into words.
    """
    if (folder / "adapter_config.json").is_file():
        base = _base_of_adapter(folder)
    elif (folder / "config.json").is_file():
        base = str(folder)
    else:
        raise BadInput(f"{folder} holds neither config.json nor adapter_config.json: give a model or checkpoint folder")
    from transformers import AutoTokenizer  # what is missing is said without its seconds of imports

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    except (OSError, ValueError) as error:  # a folder without its files; a hub that cannot be reached or has no such model
        of = f"{folder}, an adapter on {base}" if base != str(folder) else base
        raise BadInput(f"{of}: no tokenizer to be had there ({' '.join(str(error).split())[:200]}): correct the path") from None
    if not tokenizer.chat_template:
        raise BadInput(
            f"{base}: its tokenizer has no chat template, so a prompt cannot be made: take the instruct model's folder, or put the "
            "chat_template.jinja of its family into this one"
        )
    return base, tokenizer


def _base_of_adapter(folder: Path) -> str:
    file = folder / "adapter_config.json"
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        raise BadInput(f"{file} is no JSON object: take another checkpoint") from None
    if not base or not isinstance(base, str):
        raise BadInput(f"{folder}: its adapter_config.json names no base model: write the base's folder or hub name into it")
    if re.match(r"[/~]|\.\.?/", base) and not Path(base).is_dir():
        raise BadInput(f"{folder} is an adapter on {base}, which is not there: correct base_model_name_or_path in its adapter_config.json")
    return base


def _prompts(folder: Path, tokenizer: Any, conversations: Sequence[list[dict[str, str]]], thinking: Sequence[bool | None]) -> list[str]:
    as_trained = trained(folder)
    modes = [as_trained] * len(conversations) if as_trained is not None else thinking or [False] * len(conversations)
    return [prompt(tokenizer, messages, thinks) for messages, thinks in zip(conversations, modes, strict=True)]


def _whole(thinking: Sequence[bool | None], count: int) -> list[bool]:
    """Of which answers the think block stays."""
    return [thinks is not False for thinks in thinking] or [False] * count


def faster_by_vllm(folder: Path, conversations: Sequence[list[dict[str, str]]], limit: int) -> bool:
    """Say whether vLLM, its start included, should be done before transformers: without a GPU, of a model that is here and large enough.

    On a GPU it is the user's choice. Measured by benchmarks/bench_answers.py.
    """
    import torch

    if torch.cuda.is_available() or not find_spec("vllm"):
        return False
    base = Path(_base_of_adapter(folder)) if (folder / "adapter_config.json").is_file() else folder
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors")) / 2
    # Two characters a token, which is near for Chinese and English alike.
    tokens = sum(limit + sum(len(turn["content"]) for turn in turns) / 2 for turns in conversations)
    return weights * tokens > _WORTH_A_START


def from_vllm(
    folder: Path,
    conversations: Sequence[list[dict[str, str]]],
    limit: int,
    thinking: Sequence[bool | None] = (),
    tell: Tell | None = None,
) -> list[str]:
    """Answer as `from_folder` does, by vLLM on all GPUs that divide the attention heads among them: many times as fast with a model of
    billions.

    Without a GPU an adapter is merged first: beside its base it would take vLLM four times as long.
    The same prompts and the same greedy choice; where two tokens are all but equally likely its arithmetic may choose the other one.
    """
    base, tokenizer = _base(folder)
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        # Its plugin of ms-swift's imports torchvision, half of a CPU's memory would be its cache, and one core of two its scheduler's.
        mine = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        os.environ |= {"VLLM_PLUGINS": "none", **{name: os.environ.get(name, value) for name, value in mine.items()}}
    # What it tells of itself would stand among the tables.
    os.environ |= {"VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR")}
    from transformers import AutoConfig
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    # Before it is merged: how a checkpoint was trained stands in its own folder.
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in _prompts(folder, tokenizer, conversations, thinking)]
    whole, label = _whole(thinking, len(prompts)), folder.name
    merged = None
    if not gpus and base != str(folder):
        merged = TemporaryDirectory()
        _merge(base, folder, Path(merged.name))
        tokenizer.save_pretrained(merged.name)
        folder, base = Path(merged.name), merged.name
    config = AutoConfig.from_pretrained(base)
    window = min(config.max_position_embeddings, max(map(len, prompts)) + limit)
    adapter: dict[str, Any] = {}
    request = None
    if base != str(folder):
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        adapter = {"enable_lora": True, "max_lora_rank": next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank)}
        request = LoRARequest("student", 1, str(folder))
    engine = LLM(
        model=base,
        max_model_len=window,
        tensor_parallel_size=max((n for n in range(1, gpus + 1) if config.num_attention_heads % n == 0), default=1),
        enforce_eager=not gpus,
        # Its "auto" would halve float32 weights, which transformers' leaves as they are.
        dtype="float32" if config.dtype == torch.float32 else _precision(),
        disable_log_stats=True,
        **adapter,
    )
    answers: list[str] = []
    try:
        for start in tqdm(range(0, len(prompts), _VLLM_BATCH), desc=f"answers of {label} (vLLM)", unit="batch"):
            begun = time.monotonic()
            batch = prompts[start : start + _VLLM_BATCH]
            outputs = engine.generate(
                [TokensPrompt(prompt_token_ids=ids) for ids in batch],
                [SamplingParams(temperature=0.0, max_tokens=max(1, min(limit, window - len(ids)))) for ids in batch],
                use_tqdm=False,
                lora_request=request,
            )
            texts = [output.outputs[0].text for output in outputs]
            answers += [text.strip() if keep else strip_think(text) for text, keep in zip(texts, whole[start:], strict=False)]
            if tell:
                seconds = time.monotonic() - begun
                tokens = [len(ids) + len(output.outputs[0].token_ids) for ids, output in zip(batch, outputs, strict=True)]
                costs = [Cost(round(seconds, 4), seconds / len(batch), count) for count in tokens]
                tell([(start + at, answers[start + at], cost) for at, cost in enumerate(costs)])
    finally:
        # Else it would keep the GPUs from the next system.
        engine.llm_engine.engine_core.shutdown()
        if merged:
            merged.cleanup()
    return answers


def _merge(base: str, adapter: Path, out: Path) -> None:
    """Write the base's weights with the adapter's in them."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)


def from_endpoint(
    model: str,
    base_url: str,
    key: str,
    conversations: Sequence[list[dict[str, str]]],
    limit: int,
    thinking: Sequence[bool | None] = (),
    tell: Tell | None = None,
    *,
    announced: bool = False,
) -> list[str | None]:
    """Answers of a served model at temperature 0: "" where it answered without a text, None where the service did not answer.

    At most `limit` tokens each. `thinking` as in `from_folder`; where a think block stays, what is cut off counts as it is, as it does for
    a folder. Whether a model thinks is its server's matter, which recipes/deploy.sh starts as it was trained; `announced`, each request
    says it, for a task whose rows do.
    They are not cached: a student that is trained and served again keeps its address and name.

    Raises Abort when it is dead or refuses the key.
    """
    to = Endpoint("student", base_url, model, key)
    calls = [
        chat_call(
            to,
            messages,
            limit,
            temperature=0.0,
            cached=False,
            thinking=whole,
            raise_token_limit_on_cutoff=not whole,
            template={"enable_thinking": thinks} if announced and thinks is not None else {},
        )
        for messages, thinks, whole in zip(
            conversations, thinking or [False] * len(conversations), _whole(thinking, len(conversations)), strict=True
        )
    ]
    last = time.monotonic()

    def landed(index: int, result: Result) -> None:
        nonlocal last
        now = time.monotonic()
        cost = Cost(busy=now - last)
        if isinstance(result, Ok):
            usage = result.value.get("usage")
            cost = Cost(round(result.seconds, 4), now - last, sum(usage.values()) if usage else None, result.value.get("usd"))
        last = now
        if tell:
            tell([(index, _text(result), cost)])

    return [_text(result) for result in cli.ask(chat_gateway("student"), calls, f"answers of {model}", landed)]


def _text(result: Result) -> str | None:
    return result.value["text"] if isinstance(result, Ok) else "" if result.unusable else None
