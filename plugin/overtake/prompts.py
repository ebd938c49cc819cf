"""Prompts as text files, in the folder prompts/ of the task that asks them."""

from functools import lru_cache
from importlib import resources


def names(package: str) -> list[str]:
    """Names of the prompts in a package's folder, sorted, without `.txt`."""
    return sorted(item.name.removesuffix(".txt") for item in resources.files(package).iterdir() if item.name.endswith(".txt"))


@lru_cache
def text(package: str, name: str) -> str:
    """The text of `<name>.txt` in a package's folder, trimmed. Raises ValueError with the names there are."""
    file = resources.files(package).joinpath(f"{name}.txt")
    if not file.is_file():
        raise ValueError(f"no prompt {name!r}; there are: {', '.join(names(package))}")
    return file.read_text(encoding="utf-8").strip()
