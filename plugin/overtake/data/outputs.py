"""Files written whole: each as it was or as it is to be, those of one call all old or all new, none over what the same run has read."""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

_JOURNAL = ".overtake-*.renames"


class BadInput(ValueError):
    """Input that cannot be used; the message names the file, the thing, its value and the remedy."""


class _Run:
    """What one run has read, and what it has said that it will write."""

    def __init__(self) -> None:
        self.inputs: dict[tuple[int, int], Path] = {}
        self.outputs: list[Path] = []


_run: _Run | None = None


@contextmanager
def separate_run() -> Iterator[None]:
    """One run of a tool: inside, nothing that it reads is written over. Outside of any nothing is protected."""
    global _run
    outer, _run = _run, _Run()
    try:
        yield
    finally:
        _run = outer


def reading(path: Path) -> Path:
    """Return `path`, an input of this run: a write of its folder that was broken off is finished first, and it is never written over.

    Raises BadInput when this run is to write it.
    """
    finish(path.parent)
    if not _run:
        return path
    with suppress(OSError):
        at = path.stat()
        _run.inputs[at.st_dev, at.st_ino] = path
    for output in _run.outputs:
        if _clash(output, path):
            _refuse(output, path)
    return path


def declare(path: Path) -> None:
    """Say before anything is spent that this run will write `path`. Raises BadInput when it is an input, or a list beside it is one."""
    if not _run:
        return
    for source in _run.inputs.values():
        if _clash(path, source):
            _refuse(path, source)
    _run.outputs.append(path)


def _clash(output: Path, source: Path) -> bool:
    """Whether writing `output`, or one of the lists that stand beside it (OUTPUT.failed.jsonl), would write over `source`."""
    beside = re.fullmatch(re.escape(output.name) + r"\.\w+\.jsonl", source.name) and output.resolve().parent == source.resolve().parent
    return bool(beside) or output.resolve() == source.resolve() or (output.exists() and source.exists() and output.samefile(source))


def _refuse(output: Path, source: Path) -> NoReturn:
    clash = "the input itself" if output.name == source.name else f"the input {source} itself, or would write it too"
    raise BadInput(f"{output} is {clash}: name another output")


def protect(paths: Iterable[Path]) -> None:
    """Raise BadInput when a file to be written or removed is one that this run has read."""
    for path in paths:
        with suppress(OSError):
            at = path.stat()
            if _run and (at.st_dev, at.st_ino) in _run.inputs:
                raise BadInput(f"{path} is an input of this run and would be written over: name another place for the output")


def write_aside(files: Mapping[Path, bytes]) -> None:
    """Write all files under other names, then give them their own: all of them are the old ones or all the new ones.

    A kill between two renames leaves a journal; the next write into a folder of theirs, and the next `reading` there, does the rest.
    New files have the permissions that the umask leaves. Raises OSError naming the file, with nothing left aside, and BadInput for a
    file that this run has read.
    """
    protect(files)
    for folder in {path.parent for path in files}:
        finish(folder)
    mark = uuid.uuid4().hex[:12]
    asides = {path: path.with_name(f".{path.name}.{mark}.part") for path in files}
    journals: list[Path] = []
    path = Path()
    try:
        for path, aside in asides.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise OSError(21, "Is a directory")
            _write(aside, files[path])
        if len(files) > 1:
            for folder in dict.fromkeys(path.parent for path in files):
                renames = [[os.path.relpath(aside, folder), os.path.relpath(path, folder)] for path, aside in asides.items()]
                journal = path = folder / _JOURNAL.replace("*", mark)
                asides[journal] = folder / f".{mark}.part"
                _write(asides[journal], json.dumps(renames).encode())
                asides.pop(journal).replace(journal)  # from the first of these on the new files are the valid ones
                journals.append(journal)
        for path, aside in [] if journals else asides.items():
            aside.replace(path)
    except OSError as error:
        for journal in journals:
            with suppress(OSError):
                journal.unlink()
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; nothing half-written is left there") from error
    finally:
        if not journals:
            for aside in asides.values():
                with suppress(OSError):
                    aside.unlink()
    for journal in journals:
        finish(journal.parent)


def remove(path: Path) -> None:
    """Remove a file, there or not. Raises BadInput when this run has read it."""
    protect([path])
    path.unlink(missing_ok=True)


def finish(folder: Path) -> None:
    """Do the renames that a kill has left undone in a folder. Others may do the same at the same time.

    Raises OSError naming the file when one cannot be done.
    """
    for journal in sorted(folder.glob(_JOURNAL)):
        with suppress(FileNotFoundError):  # someone else was faster
            for aside, path in json.loads(journal.read_bytes()):
                try:
                    with suppress(FileNotFoundError):
                        (folder / aside).replace(folder / path)
                except OSError as error:
                    problem = f"a write of {folder / path} was broken off and cannot be finished: {error.strerror}: give write permission"
                    raise OSError(error.errno, problem) from error
            journal.unlink()


def finish_of_command(arguments: Iterable[str]) -> None:
    """Do what a kill has left undone wherever a word of a command line names a file, `overtake/NAME:file#500` too."""
    named = {word.partition("#")[0] for argument in arguments for word in (argument, argument.rpartition(":")[2])}
    for folder in {Path(word).parent for word in named if "." in word}:
        with suppress(ValueError, PermissionError):  # a word may be no path at all
            finish(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
