"""Prompts of query rewriting: `rewrite_<tenant>.txt` for each tenant, the judge's, the extractor's of profiles.

Beside a tenant's prompt `rewrite_<tenant>.en.txt` may stand: it is taken for questions without a Chinese character.
"""

import re

from overtake import prompts

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LABELS = {"zh": ("用户画像：", "历史摘要：", "问题："), "en": ("User profile: ", "History summary: ", "Question: ")}


def prompt(name: str) -> str:
    """The text of <name>.txt in this folder, trimmed. Raises ValueError with the names there are."""
    try:
        return prompts.text(__package__, name)
    except ValueError as error:
        raise ValueError(f"{error}. A new tenant T is a file prompts/rewrite_T.txt") from None


def tenants() -> list[str]:
    """Tenants that have a rewriting prompt: `rewrite_<tenant>.txt` in this folder. Adding a tenant is adding a file."""
    names = [name.removeprefix("rewrite_") for name in prompts.names(__package__) if name.startswith("rewrite_")]
    return [name for name in names if not name.endswith(".en")]


def rewrite_prompt(tenant: str, query: str) -> str:
    """The system prompt for a question of a tenant, in the question's language where the tenant has a prompt in it."""
    english = f"rewrite_{tenant}.en"
    return prompt(english if english in prompts.names(__package__) and not _CHINESE.search(query) else f"rewrite_{tenant}")


def rewrite_messages(tenant: str, query: str, profile: str = "", history: str = "") -> list[dict[str, str]]:
    """System and user message for one rewrite, the same for teacher and student; profile and history go in when there are any.

    >>> [message["content"][:34] for message in rewrite_messages("default", "why do I wheeze?", "aged 40")]
    ["You rewrite a user's question into", 'User profile: aged 40\\nQuestion: wh']
    """
    system = rewrite_prompt(tenant, query)
    of_profile, of_history, of_question = _LABELS["zh" if _CHINESE.search(system) else "en"]
    parts = [f"{of_profile}{profile}"] if profile else []
    parts += [f"{of_history}{history}"] if history else []
    parts += [f"{of_question}{query}"] if parts else [query]
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n".join(parts)}]


def self_teacher_prompt(question: str, rewrite: str, passage: str) -> str:
    """The user's turn of a student that is its own teacher: the student's own turn, a known rewrite, the passage to be found.

    A line whose text is not known is left out.

    >>> print(self_teacher_prompt("why do I wheeze?", "wheezing causes", ""))
    why do I wheeze?
    <BLANKLINE>
    Only you know what follows, to tell what a good rewrite is; do not mention it, and do not copy it:
    A known rewrite: wheezing causes
    """
    told = {"{question}": question, "{rewrite}": rewrite, "{passage}": passage}
    lines = prompt("self_teacher" if _CHINESE.search(question) else "self_teacher.en").splitlines()
    kept = [line for line in lines if all(text for name, text in told.items() if name in line)]
    # One pass: what a question or a passage holds is no name of another.
    return re.sub("|".join(map(re.escape, told)), lambda name: told[name[0]], "\n".join(kept))
