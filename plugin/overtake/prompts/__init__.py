"""Prompts as text files: `rewrite_<tenant>.txt` for each tenant, one file for each other prompt. Adding a tenant is adding a file."""

from functools import lru_cache
from importlib import resources

_FOLDER = resources.files("overtake.prompts")


def tenants() -> list[str]:
    """Tenants that have a rewriting prompt."""
    names = [item.name for item in _FOLDER.iterdir() if item.name.endswith(".txt")]
    return sorted(name.removeprefix("rewrite_").removesuffix(".txt") for name in names if name.startswith("rewrite_"))


@lru_cache
def prompt(name: str) -> str:
    """The text of prompts/<name>.txt, trimmed. Raises ValueError with the names there are."""
    file = _FOLDER.joinpath(f"{name}.txt")
    if not file.is_file():
        known = ", ".join(sorted(item.name.removesuffix(".txt") for item in _FOLDER.iterdir() if item.name.endswith(".txt")))
        raise ValueError(f"no prompt {name!r}; there are: {known}. A new tenant T is a file prompts/rewrite_T.txt")
    return file.read_text(encoding="utf-8").strip()


def rewrite_messages(tenant: str, query: str, profile: str = "", history: str = "") -> list[dict[str, str]]:
    """System and user message for one rewrite, the same for teacher and student; profile and history go in when there are any."""
    parts = [f"用户画像：{profile}"] if profile else []
    parts += [f"历史摘要：{history}"] if history else []
    parts += [f"问题：{query}"] if parts else [query]
    return [{"role": "system", "content": prompt(f"rewrite_{tenant}")}, {"role": "user", "content": "\n".join(parts)}]
