"""Parts of the chains of recipes (recipes/chain.sh) in Python: their options, a step whose output goes to a log, the doctor before RL."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake.launch import machine
from overtake.launch.command import Refused
from overtake.launch.processes import run_group
from overtake.launch.run import ROOT, Run, absolute, note

_PROGRESS = re.compile(r"[0-9]+/[0-9]+ \[[^\]]*\]")


def options(argv: Sequence[str], kinds: dict[str, str], stages: Sequence[str]) -> dict[str, str]:
    """Return what a chain was told, by the name of a shell variable. Raises Refused.

    kinds: of each option `switch` (its value is 1), `number`, `stage` (one of `stages`), `file` or `folder` (which become absolute),
    `a|b` for one of these, or in words what it needs.

    >>> options(["--no-judge", "--rows", "5"], {"--rows": "number", "--no-judge": "switch"}, [])
    {'no_judge': '1', 'rows': '5'}
    """
    values: dict[str, str] = {}
    rest = list(argv)
    while rest:
        name = rest.pop(0)
        if name not in kinds:
            raise Refused(f"{name} is not known. There are: {', '.join(kinds)}")
        kind = kinds[name]
        variable = name.removeprefix("--").replace("-", "_")
        values[variable] = "1" if kind == "switch" else _value(name, kind, rest.pop(0) if rest else "", stages)
    return values


def _value(name: str, kind: str, word: str, stages: Sequence[str]) -> str:
    """The value of an option, checked."""
    if kind == "stage":
        if word not in stages:
            raise Refused(f"{name} {word}: the stages are {' '.join(stages)}")
    elif "|" in kind:
        *others, last = kind.split("|")
        if word not in (*others, last):
            raise Refused(f"{name} {word}: {', '.join(others)} or {last}")
    elif not word or "\n" in word or (kind == "number" and not re.fullmatch(r"[1-9][0-9]*", word)):
        raise Refused(f"{name} needs {'' if ' ' in kind else 'a '}{kind}")
    elif kind == "file" and not Path(word).is_file():
        raise Refused(f"{name} {word}: no such file")
    return str(absolute(word)) if kind in ("file", "folder") else word


def print_options(run: Run) -> None:
    """Print what a chain was told, a NAME=VALUE a line."""
    at = list(run.given["words"]).index("--")
    kinds = dict(kind.split("=", 1) for kind in run.given["words"][:at])
    for name, value in options(run.given["words"][at + 1 :], kinds, run.given.get("stages", ())).items():
        print(f"{name}={value}")


def print_port(run: Run) -> None:
    """Print the port that a file names where it is free, else a free one, which the file names from then on if it named none.

    What a served model answered is kept under its address: at the same port, the next start finds it and asks for nothing twice.
    """
    file = Path(run.given["words"][0])
    port = machine.free_port(int(file.read_text(encoding="ascii")) if file.is_file() else 0)
    if not file.is_file():
        file.write_text(str(port), encoding="ascii")
    print(port)


def progress(log: str) -> str:
    """The last progress bar in the end of a log; "" where there is none.

    >>> progress("{'loss': 1}\\rTrain:  40%|####  | 2/5 [00:01<00:02, 1.5it/s]")
    '2/5 [00:01<00:02, 1.5it/s]'
    """
    return ["", *_PROGRESS.findall(log)][-1]


def quiet(run: Run) -> None:
    """Run a command whose thousand lines go to a log that its owner alone may read, its progress to the screen, its end when it fails."""
    log = Path(run.one("log"))
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)

    def show() -> None:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 400))
            print(f"\r   {progress(file.read().decode('utf-8', 'replace')) or 'starting ...':<74.74}", end="", flush=True)

    with log.open("ab") as file:
        status = run_group(run.given["words"], run.settings, output=file, tick=show)
    print(f"\r{'':<78}\r", end="", flush=True)
    if status:
        note("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]))
        raise Refused(f"that step failed; the whole log: {log}")


def resist(run: Run) -> None:
    """Put honest answers and attacks through the rewards of RL: what would be learnt in place of the task stops the chain here."""
    folder, argv = Path(run.one("out")), run.given["words"]
    if (folder / "doctor.txt").is_file():
        return
    command = ["python", str(ROOT / "tools/doctor.py"), "--only-attacks", *argv]
    trial = subprocess.run(command, env=run.settings | {"PROFILE": "cpu"}, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(trial.stdout)
    (folder / "log/doctor.txt").write_text(trial.stdout, encoding="utf-8")
    if trial.returncode and run.setting("DOCTOR", "1") != "0":
        raise Refused("the doctor found what would spoil the training (above). Set it right, or go on regardless with DOCTOR=0")
    (folder / "doctor.txt").write_text(trial.stdout, encoding="utf-8")
