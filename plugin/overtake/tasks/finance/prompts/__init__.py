"""Prompts of financial problems, of their types and of their judges."""

from functools import partial

from overtake import prompts

prompt = partial(prompts.text, __package__)
"""prompt(name): the text of <name>.txt in this folder, trimmed. Raises ValueError with the names there are."""


def finance_messages(question: str) -> list[dict[str, str]]:
    """System and user message for one financial question, the same for teacher and student."""
    return [{"role": "system", "content": prompt("solve_finance")}, {"role": "user", "content": question}]
