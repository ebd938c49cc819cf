"""Prompts of medical answers and of their judge."""

from functools import partial

from overtake import prompts

prompt = partial(prompts.text, __package__)
"""prompt(name): the text of <name>.txt in this folder, trimmed. Raises ValueError with the names there are."""


def medical_messages(question: str) -> list[dict[str, str]]:
    """System and user message for one medical answer, the same in training, evaluation and use."""
    return [{"role": "system", "content": prompt("answer_medical")}, {"role": "user", "content": question}]
