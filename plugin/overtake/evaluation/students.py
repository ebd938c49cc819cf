"""Answers from a model folder, an adapter folder or an endpoint, with the very prompt of training."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from overtake.data import cli
from overtake.data.tables import BadInput
from overtake.evaluation.costs import Cost
from overtake.reading.tags import strip_think
from overtake.remote.chat import Endpoint, chat_call, chat_gateway
from overtake.remote.gateway import Ok, Result

MAX_NEW_TOKENS = 150
BATCH = 32
"""Conversations that a folder answers together."""
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
        words = " ".join(str(error).split())[:200]
        raise BadInput(f"{name} is no folder, and no model that could be fetched from the hub ({type(error).__name__}: {words})") from None


def from_folder(
    folder: Path, conversations: Sequence[list[dict[str, str]]], limit: int = 0, whole: bool = False, tell: Tell | None = None
) -> list[str]:
    """Greedy answers of the model in `folder` (a full model, or a LoRA adapter whose base its adapter_config.json names).

    At most `limit` tokens each (0: as many as a rewrite has) and what the model's window has room for, stripped of the think block unless
    they are wanted `whole`. Raises BadInput when the folder holds neither.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), folder)
    elif (folder / "config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    else:
        raise BadInput(f"{folder} holds neither config.json nor adapter_config.json: give a model or checkpoint folder")
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    prompts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=whole)
        for messages in conversations
    ]
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
                max_new_tokens=min(limit or MAX_NEW_TOKENS, room),
                do_sample=False,
            )
        texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        answers += [text.strip() if whole else strip_think(text) for text in texts]
        if tell:
            seconds, padding = time.monotonic() - begun, tokenizer.pad_token_id
            # Answers are padded on the right; of the prompt the mask tells.
            said = (output[:, inputs.input_ids.shape[1] :] != padding).sum(dim=1) + inputs.attention_mask.sum(dim=1)
            costs = [Cost(round(seconds, 4), seconds / len(texts), int(tokens)) for tokens in said]
            tell([(start + at, answers[start + at], cost) for at, cost in enumerate(costs)])
    return answers


def from_endpoint(
    model: str,
    base_url: str,
    key: str,
    conversations: Sequence[list[dict[str, str]]],
    limit: int = 0,
    whole: bool = False,
    tell: Tell | None = None,
) -> list[str | None]:
    """Answers of a served model at temperature 0: "" where it answered without a text, None where the service did not answer.

    At most `limit` tokens each (0: as many as a rewrite has). Wanted `whole`, the think block stays, and what is cut off counts as it
    is, as it does for a folder.
    They are not cached: a student that is trained and served again keeps its address and name.

    Raises Stop when it is dead or refuses the key.
    """
    to = Endpoint("student", base_url, model, key)
    tokens = limit or MAX_NEW_TOKENS
    calls = [chat_call(to, messages, tokens, temperature=0.0, cached=False, thinking=whole, insist=not whole) for messages in conversations]
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
