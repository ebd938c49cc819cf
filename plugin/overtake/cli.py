"""Command-line parts that the data tools share: one line for each error, and many calls with progress that stop early."""

import argparse
import json
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

from tqdm import tqdm

from overtake.data import outputs, tables
from overtake.remote import budget
from overtake.remote.gateway import Call, Failed, Gateway, Ok, Result
from overtake.settings import SettingsError

_FIRST = 20
_FATAL = re.compile(r"HTTP (401|403|404)\b")


class Abort(Exception):
    """Failure after which going on would only cost; the message says why and what to do."""


def run(work: Callable[[], int], output: Path | None = None) -> int:
    """Exit code of `work`: 2 with one `error:` line for what the user can set right, 130 when interrupted.

    What is spent counts under the name of `output`, so that starting again goes on with the same budget. No file that `work` reads as an
    input is written over.
    """
    try:
        if output:
            budget.count_for(str(output.resolve()))
        with outputs.separate_run():
            return work()
    except (tables.BadInput, SettingsError, Abort) as error:
        message = str(error)
    except OSError as error:
        message = str(error.strerror or error) + (f": {error.filename}" if error.filename else "")
    except sqlite3.Error as error:
        message = f"the cache of answers cannot be used ({error}): free disk space, or export OVERTAKE_CACHE_DIR"
    except KeyboardInterrupt:
        print("interrupted: answers so far are kept in the cache; start again to go on, nothing is paid twice", file=sys.stderr)
        return 130
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def main(module: Any, description: str | None, argv: Sequence[str] | None = None, output: str = "") -> int:
    """Parse `argv` by the module's `add_arguments(parser)` and hand it to its `work(args)`; the exit code, as of `run`.

    `output` names the argument that is the output of a tool that spends money.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    return run(lambda: module.work(args), getattr(args, output) if output else None)


def ask(gateway: Gateway, calls: Sequence[Call], label: str, on_result: Callable[[int, Result], None] | None = None) -> list[Result]:
    """Run all calls with a progress bar; the first that is not in the cache goes alone, the next 20 before the rest.

    `on_result(index, result)` is told of each as it comes, from the gateway's thread.
    Raises Abort when that first one finds the service dead or the key wrong, and when more than half of the 20 fail.
    """
    results: list[Result] = []
    with tqdm(total=len(calls), desc=label, file=sys.stderr) as bar:

        def start(first: int, last: int, answered: Callable[[], None] = lambda: None) -> "Future[list[Result]]":
            def landed(index: int, result: Result) -> None:
                bar.update()
                if on_result:
                    on_result(first + index, result)
                if isinstance(result, Ok):
                    answered()

            return gateway.submit(calls[first:last], on_result=landed)

        while len(results) < len(calls):
            results += start(len(results), len(results) + 1).result()
            if not _from_cache(results[-1]):
                break
        _refuse_dead(gateway, results)
        # As soon as half of these are answered the rest may go, so that one that takes minutes holds up nobody.
        enough, few_end = Event(), len(results) + _FIRST - 1
        missing = Semaphore(_FIRST // 2 - 1 - isinstance(results[-1], Ok) if results else 0)
        few = start(len(results), few_end, lambda: None if missing.acquire(blocking=False) else enough.set())
        few.add_done_callback(lambda _: enough.set())
        enough.wait()
        if few.done():
            recent = results[-1:] + few.result()
            reasons = Counter(result.reason for result in recent if isinstance(result, Failed))
            if len(recent) == _FIRST and reasons.total() > _FIRST / 2:
                raise Abort(f"{reasons.total()} of the first {_FIRST} calls failed, most often so: {reasons.most_common(1)[0][0]}")
        rest = start(few_end, len(calls)).result()
        return results + few.result() + rest


def ask_regardless(gateway: Gateway, calls: Sequence[Call], label: str) -> list[Result]:
    """Run all calls with a progress bar, however many answers are unusable: where that is what is to be measured.

    Raises Abort when the first finds the service dead or the key wrong, and when more than half of them find it down.
    """
    if calls:
        probe(gateway, calls[0])
    with tqdm(total=len(calls), desc=label, file=sys.stderr) as bar:
        results = gateway.submit(calls, on_result=lambda *_: bar.update()).result()
    if (down := [result for result in results if isinstance(result, Failed) and result.outage]) and len(down) > len(results) / 2:
        raise Abort(f"{len(down)} of {len(results)} calls failed: {down[-1].reason}; see to the {gateway.service}, then start again")
    return results


def probe(gateway: Gateway, call: Call) -> None:
    """Raise Abort when the service is dead or refuses the key: asked before anything else is paid for."""
    _refuse_dead(gateway, gateway.run([call]))


def _from_cache(result: Result) -> bool:
    return isinstance(result, Ok) and result.cached


def _refuse_dead(gateway: Gateway, results: Sequence[Result]) -> None:
    last = results[-1] if results else None
    if isinstance(last, Failed) and (last.outage or _FATAL.search(last.reason)):
        raise Abort(
            f"the first call to the {gateway.service} failed, nothing more was sent: {last.reason}; check its address, model and key"
        )


def counted(counts: Mapping[str, int]) -> str:
    """Counts in words.

    >>> counted({"train": 16, "val": 2})
    '16 train, 2 val'
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def check_folder(folder: Path, *names: str) -> None:
    """Raise BadInput where a folder is to be written and a file is, or a file in it of these names is an input of this run."""
    if folder.exists() and not folder.is_dir():
        raise tables.BadInput(f"{folder} is a file: name a folder")
    for name in names:
        outputs.declare(folder / name)


def write_folder(folder: Path, files: Mapping[str, Any]) -> None:
    """Write all files or none, by their names: rows as .jsonl, an object as .json, text as it is."""
    contents = {}
    for name, value in files.items():
        if name.endswith(".jsonl"):
            contents[folder / name] = tables.json_lines(value)
        else:
            text = json.dumps(value, ensure_ascii=False, indent=2) + "\n" if name.endswith(".json") else value
            contents[folder / name] = text.encode()
    tables.write_aside(contents)


def beside(output: Path, name: str) -> Path:
    """The file that goes with an output: rewrites.xlsx -> rewrites.xlsx.failed.jsonl."""
    return output.with_name(f"{output.name}.{name}.jsonl")


def write_beside(output: Path, name: str, rows: Sequence[dict[str, object]]) -> str:
    """Write (or, when there is nothing to list, remove) the list beside an output; returns words for the summary."""
    path = beside(output, name)
    if not rows:
        outputs.remove(path)
        return ""
    tables.write_aside({path: tables.json_lines(rows)})
    return f", {name}: {path}"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


positive.__name__ = "positive whole number"  # argparse names the type in its error
