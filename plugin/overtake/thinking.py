"""Thinking before an answer: the prompt that says so, and what a checkpoint was trained with."""

import json
from pathlib import Path
from typing import Any

from overtake.data.tables import BadInput


def prompt(tokenizer: Any, messages: list[dict[str, str]], thinking: bool | None) -> str:
    """The text that an answer follows, as ms-swift writes it in training, rollouts and use for a model of the same template.

    Templates of hybrid models close the think block unless they are told to think, also where nobody says (`thinking` is None); those of
    reasoning models open it in every prompt, which ms-swift does not do where it is told not to think.
    """
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=bool(thinking))
    return text.removesuffix("<think>\n") if thinking is False else text


def trained(folder: Path) -> bool | None:
    """The --enable_thinking of a checkpoint's training, by its args.json; None where it was told none, or there is no such file.

    Raises BadInput for a file that is no JSON object.
    """
    file = folder / "args.json"
    try:
        recorded = json.loads(file.read_text(encoding="utf-8")).get("enable_thinking") if file.is_file() else None
    except (ValueError, AttributeError):
        raise BadInput(f"{file} is no JSON object: take another checkpoint") from None
    return recorded if isinstance(recorded, bool) else None
