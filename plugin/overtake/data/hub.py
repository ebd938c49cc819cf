"""Rows of a data set on ModelScope or Hugging Face: its files are fetched as they are and read like a folder of one's own."""

import os
import re
from pathlib import Path

from overtake.data import tables
from overtake.data.tables import BadInput

_NAME = re.compile(r"(?:(hf|ms)::)?([\w.-]+/[\w.-]+)")
_NO_ROWS = ("dataset_infos.json", "configuration.json")
_HUBS = {"hf": "Hugging Face", "ms": "ModelScope"}


def is_name(text: str) -> bool:
    """Return whether `text` is written like a data set on a hub and is no path that exists.

    >>> is_name("hf::DianJin/DianJin-R1-Data"), is_name("rows.jsonl"), is_name("data/rows.jsonl")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(text)) and not Path(text).exists() and tables.suffix(text) not in tables.READ


def fetch(name: str) -> Path:
    """The folder with the data files of `hf::OWNER/NAME` or `ms::OWNER/NAME`; without a prefix USE_HF=1 says which, as in ms-swift.

    Raises BadInput when the hub cannot be reached or has no such data set, naming the way without it.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise BadInput(f"{name!r} names no data set: write hf::OWNER/NAME or ms::OWNER/NAME")
    hub = match[1] or ("hf" if os.environ.get("USE_HF", "0").lower() in ("1", "true", "yes", "y", "on", "t") else "ms")
    patterns = [f"*{kind}" for kind in tables.READ]
    try:
        if hub == "hf":
            from huggingface_hub import snapshot_download

            return Path(str(snapshot_download(match[2], repo_type="dataset", allow_patterns=patterns)))
        from modelscope import dataset_snapshot_download

        return Path(dataset_snapshot_download(match[2], allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001 - each hub's client raises its own kinds, and all of them mean: not to be had
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{name} could not be fetched from {_HUBS[hub]} ({type(error).__name__}: {reason}): try the other hub (hf:: or ms:: before the "
            "name), or download its files where it can be reached and give the folder or file instead of the name"
        ) from None


def read_any(path: Path) -> list[tuple[Path, list[dict[str, str]]]]:
    """Return (file, its rows with every cell as text) of a table, or of all tables in a folder.

    Raises BadInput when there is nothing to read.
    """
    files = (
        sorted(candidate for candidate in path.rglob("*") if tables.suffix(candidate) in tables.READ and candidate.is_file())
        if path.is_dir()
        else [path]
    )
    tables_read = [(file, tables.read_rows(file)) for file in files if not (path.is_dir() and file.name in _NO_ROWS)]
    if not tables_read:
        raise BadInput(f"{path} holds none of {', '.join(f'*{kind}' for kind in tables.READ)}: name the folder or file with the rows")
    return tables_read
