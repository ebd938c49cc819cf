"""What DeepSpeed compiles when a run starts: a lock that a run cut off left there, for which every later run would wait without a word."""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

_ELSEWHERE = 1800.0
"""Seconds after which a lock that another machine may hold counts as left: a build takes one to seven minutes."""


def clear_locks(environment: Mapping[str, str]) -> list[Path]:
    """Remove the locks in torch's folder of compiled extensions that nobody holds, and return them.

    Who compiles, or loads what is compiled, keeps the file open and removes it in the end (torch.utils.file_baton); who was killed does
    neither. Machines that train together may share a home, and a holder on another is not seen: there a lock must also be old.
    """
    cache = environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '/nowhere')}/.cache"
    root = Path(environment.get("TORCH_EXTENSIONS_DIR") or f"{cache}/torch_extensions")
    locks = [*root.glob("*/lock"), *root.glob("*/*/lock")]
    if not locks:
        return []
    together = environment.get("NNODES", "1") not in ("", "1")
    open_files, stale = _open_files(), []
    for lock in locks:
        with contextlib.suppress(FileNotFoundError):
            if os.path.realpath(lock) not in open_files and not (together and time.time() - lock.stat().st_mtime < _ELSEWHERE):
                lock.unlink()
                stale.append(lock)
    return stale


def _open_files() -> set[str]:
    """The files that the processes of this user hold open."""
    files = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            files.add(str(link.readlink()))
    return files
