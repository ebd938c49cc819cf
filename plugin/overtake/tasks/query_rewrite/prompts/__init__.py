"""Prompts of query rewriting: `rewrite_<tenant>.txt` for each tenant, the judge's, the extractor's of profiles."""

from overtake import prompts


def prompt(name: str) -> str:
    """The text of <name>.txt in this folder, trimmed. Raises ValueError with the names there are."""
    try:
        return prompts.text(__package__, name)
    except ValueError as error:
        raise ValueError(f"{error}. A new tenant T is a file prompts/rewrite_T.txt") from None


def tenants() -> list[str]:
    """Tenants that have a rewriting prompt: `rewrite_<tenant>.txt` in this folder. Adding a tenant is adding a file."""
    return [name.removeprefix("rewrite_") for name in prompts.names(__package__) if name.startswith("rewrite_")]


def rewrite_messages(tenant: str, query: str, profile: str = "", history: str = "") -> list[dict[str, str]]:
    """System and user message for one rewrite, the same for teacher and student; profile and history go in when there are any."""
    parts = [f"用户画像：{profile}"] if profile else []
    parts += [f"历史摘要：{history}"] if history else []
    parts += [f"问题：{query}"] if parts else [query]
    return [{"role": "system", "content": prompt(f"rewrite_{tenant}")}, {"role": "user", "content": "\n".join(parts)}]
