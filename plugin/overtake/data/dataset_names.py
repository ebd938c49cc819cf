"""Names of datasets on ms-swift's command line: a `#` in a path, and a reader that is imported when the dataset is read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swift.dataset import DatasetMeta
from swift.dataset.dataset_syntax import DatasetSyntax

_SIGN = "\ue000"
"""In a name, for a # that is no number of rows: of Unicode's private use, so in no path."""


def deferred(name: str, make: Callable[[], DatasetMeta]) -> DatasetMeta:
    """The dataset that `make` makes, made when it is read; of what it says only its loader is looked at."""

    def loader(**options: Any) -> Any:
        return make().loader(**options)

    return DatasetMeta(dataset_name=name, loader=loader)


def keep_signs_in_names() -> None:
    """Let ms-swift take a `#` for a number of rows only where digits follow it to the end: `C#/rl.jsonl#500` is 500 rows of C#/rl.jsonl.

    It takes any `#`, and ends on `C#/rl.jsonl` with int's own words. Doing it again changes nothing.
    """
    parse = DatasetSyntax.parse.__func__
    if getattr(parse, "keeps_signs", False):
        return

    def keeping(cls: type, dataset: str) -> Any:
        if Path(dataset).exists() or re.fullmatch(r"[^#]*(#\d+)?", dataset):
            return parse(cls, dataset)
        name, rows = re.fullmatch(r"(.*?)(#\d+)?", dataset, re.DOTALL).groups(default="")  # type: ignore[union-attr]  # fits any text
        syntax = parse(cls, name.replace("#", _SIGN) + rows)
        return cls(
            syntax.dataset.replace(_SIGN, "#"),
            [subset.replace(_SIGN, "#") for subset in syntax.subsets],
            syntax.dataset_sample,
            syntax.use_hf,
        )

    keeping.keeps_signs = True  # type: ignore[attr-defined]
    DatasetSyntax.parse = classmethod(keeping)
