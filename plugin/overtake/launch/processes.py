"""Running a launcher so that nothing of it outlives the recipe."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

_PATIENCE = 40.0
"""Seconds that a process group has to end itself: torchrun takes up to 30 to end its workers."""


def run_group(
    argv: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None, tick: Callable[[], None] = lambda: None
) -> int:
    """Run a command in a process group of its own, end the whole group with it, and return its exit status as a shell tells it.

    output: where stdout and stderr go, in place of ours. tick: called every two seconds while it runs.

    torchrun's workers, data loaders and vLLM's engines otherwise outlive an interrupted launcher and keep the cards. A signal that ends
    this process is passed on as one SIGTERM: a second one would stop torchrun in the middle of ending its workers.
    """
    # What was ignored when we were started (nohup) stays ignored.
    ending = {number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN}
    waited_for = ending | {signal.SIGCHLD}
    # Blocked, none is lost between the start of the child and the wait for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
        number = 0
        while number not in ending and process.poll() is None:
            tick()
            arrived = signal.sigtimedwait(waited_for, 2)
            number = arrived.si_signo if arrived else 0
        end_group(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if number in ending:
        return 128 + number
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process group by SIGTERM, by SIGKILL where it takes longer than torchrun may."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
