"""A launcher runs in a group of its own: its status is told as a shell tells it, and nothing of it stays behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from overtake.launch import processes

CODE = "import sys, os; from overtake.launch.processes import run_group; print(run_group(sys.argv[1:], os.environ), flush=True)"


def start(*words: str) -> "subprocess.Popen[str]":
    env = os.environ | {"PYTHONPATH": str(Path(processes.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", CODE, *words], stdout=subprocess.PIPE, text=True, env=env, preexec_fn=hear)


def hear() -> None:
    """Ignore no signal: tests that a shell started in the background ignore SIGINT, under nohup SIGHUP, and so would the program."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_status_is_the_one_that_a_shell_tells(script: str, status: int) -> None:
    assert processes.run_group(["bash", "-c", script], os.environ) == status
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set(), "signals arrive again"


def test_what_a_launcher_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    script = f'sleep 600 & echo "$BASHPID $!" >{tmp_path}/pids; exit 3'
    assert processes.run_group(["bash", "-c", script], os.environ) == 3
    assert not alive(int((tmp_path / "pids").read_text().split()[0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_whole_group_by_one_sigterm(number: signal.Signals, tmp_path: Path) -> None:
    # Told once, the launcher ends by itself after a moment; a second signal would show.
    script = f"trap 'echo term >>{tmp_path}/said; sleep 0.3; exit 0' TERM; sleep 600 & echo $BASHPID; wait"
    process = start("bash", "-c", script)
    assert process.stdout
    group = int(process.stdout.readline())
    process.send_signal(number)
    assert int(process.stdout.readline()) == 128 + number
    process.wait(30)
    assert (tmp_path / "said").read_text() == "term\n"
    assert not alive(group)


def test_what_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    stubborn = subprocess.Popen(["bash", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], process_group=0, stdout=subprocess.PIPE)
    assert stubborn.stdout and stubborn.stdout.readline()
    processes.end_group(stubborn)
    assert stubborn.returncode == -signal.SIGKILL


def test_output_goes_to_a_file_and_ticks_are_told(tmp_path: Path) -> None:
    ticks: list[int] = []
    with (tmp_path / "log").open("wb") as file:
        assert processes.run_group(["bash", "-c", "echo out; echo err >&2; sleep 0.5"], os.environ, file, lambda: ticks.append(1)) == 0
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert ticks
