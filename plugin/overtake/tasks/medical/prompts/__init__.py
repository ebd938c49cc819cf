"""Prompts of medical answers and of their judge."""

from collections.abc import Sequence
from functools import partial

from overtake import prompts

prompt = partial(prompts.text, __package__)
"""prompt(name): the text of <name>.txt in this folder, trimmed. Raises ValueError with the names there are."""


def medical_messages(question: str, history: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    """System message, the conversation before if any, and the question: the same in training, evaluation and use."""
    return [{"role": "system", "content": prompt("answer_medical")}, *history, {"role": "user", "content": question}]
