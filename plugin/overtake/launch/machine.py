"""This machine to a recipe: its cards and the profile that they call for, free ports, ms-swift's launcher."""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from overtake.launch.command import Refused, quote

_CLASSES = ((75_000, 80), (22_000, 24), (14_500, 16))
"""From how many MiB on a card is one of so many GB: one sold as 80 GB shows 79 to 82, one of 24 GB 22.5 and up, one of 16 GB 15 and up."""


class Cards(NamedTuple):
    """The cards that this process may use."""

    memory: list[int]
    """MiB of each, the smallest first."""

    @property
    def gigabytes(self) -> int:
        """Return what the smallest one was sold as; 0 for none, or one that is too small.

        >>> Cards([24564, 81559]).gigabytes, Cards([11264]).gigabytes, Cards([]).gigabytes
        (24, 0, 0)
        """
        return next((size for least, size in _CLASSES if self.memory and self.memory[0] >= least), 0)

    @property
    def profile(self) -> str:
        """The profile for them; "" for none.

        >>> Cards([81559] * 4).profile, Cards([16376, 16376]).profile, Cards([]).profile
        ('4x80g', '1x16g', '')
        """
        count = len(self.memory)
        several = (8 if count >= 8 else 4 if count >= 4 else 1) if self.gigabytes == 80 else 1
        return f"{several}x{self.gigabytes}g" if self.gigabytes else ""

    def __str__(self) -> str:
        return f"{len(self.memory)} GPUs, the smallest of {self.memory[0] if self.memory else 0} MiB"


def read_cards(output: str) -> Cards:
    """The cards in what nvidia-smi prints, a line of MiB each; where there is none it says so in words.

    >>> read_cards("81559\\n 24564 \\nNo devices were found\\n").memory
    [24564, 81559]
    """
    return Cards(sorted(int(line) for line in output.splitlines() if re.fullmatch(r" *[0-9]+ *", line)))


def cards(environment: Mapping[str, str]) -> Cards:
    """Ask nvidia-smi for the cards that CUDA_VISIBLE_DEVICES leaves; none where it is set and empty, or there is no such program."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if visible == "" or not program:
        return Cards([])
    query = ["--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    which = ["-i", visible] if visible else []
    listing = subprocess.run(
        [program, *which, *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(environment), check=False
    )
    return read_cards(listing.stdout.decode("utf-8", "replace"))


def choose_profile(present: Cards, profiles: Sequence[str], dry: bool) -> str:
    """The profile for the cards; a dry run, which asks no hardware, takes what the recipes are written for. Raises Refused."""
    profile = present.profile or ("4x80g" if dry else "")
    if not profile:
        names = " ".join(profiles)
        raise Refused(
            f"no GPU of 16 GB or more is visible and PROFILE is not set. Set PROFILE=cpu to train a small model here, or one of: {names}"
        )
    return profile


def check_cards(profile: str, present: Cards, count: int, gigabytes: int) -> None:
    """Raise Refused where a profile wants more or larger cards than there are."""
    if len(present.memory) < count or present.gigabytes < gigabytes:
        remedy = f"Set PROFILE={present.profile or 'cpu'}, or DRY_RUN=1 to see the command only"
        raise Refused(f"PROFILE={profile} wants {count} x {gigabytes} GB; found: {present}. {remedy}")


def free_port(wanted: int = 0) -> int:
    """Return `wanted` where it is free by `check_port`'s measure, else a port that is."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


def check_port(port: str, dry: bool, remedy: str = "Set PORT= to another, or wait a minute") -> None:
    """Raise Refused for a port that is no number, or is taken: ms-swift would silently take the next one.

    A port just left counts as taken for a minute. A dry run only looks at the number.
    """
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise Refused(f"port {quote(port)} is no number: set PORT= to one")
    if int(port) > 65535:
        raise Refused(f"port {port} is too large: set PORT= to one up to 65535")
    if dry:
        return
    with socket.socket() as probe:
        try:
            probe.bind(("", int(port)))
        except OSError:
            raise Refused(f"port {port} is busy, or was until a moment ago. {remedy}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "127.0.0.1.example.org")]
    [True, True, True, False, False]
    """
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127\.[0-9]+\.[0-9]+\.[0-9]+", host))


def enter_environment(environment: dict[str, str], root: Path) -> None:
    """Put the project's .venv in front of PATH where ms-swift's `swift` is not found on it. Raises Refused where there is neither.

    Swift is a programming language too: only a script is ms-swift's launcher.
    """
    program = shutil.which("swift", path=environment.get("PATH"))
    if program and _is_script(Path(program)):
        return
    venv = root / ".venv"
    if not shutil.which("swift", path=str(venv / "bin")):
        raise Refused("ms-swift is not installed. Run: bash install.sh")
    environment["VIRTUAL_ENV"] = str(venv)
    environment["PATH"] = f"{venv / 'bin'}:{environment.get('PATH', '')}"
    environment.pop("PYTHONHOME", None)


def _is_script(program: Path) -> bool:
    with program.open("rb") as file:
        return file.read(2) == b"#!"
