"""Cards and the profile that they call for, ports, addresses, the environment's launcher."""

import random
import socket
from pathlib import Path

import pytest
from overtake.launch import machine
from overtake.launch.command import Refused

WORDS = (
    "No devices were found",
    "Failed to initialize NVML: Driver/library version mismatch",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    "[N/A]",
    "[Not Supported]",
    "",
    "81559 MiB (of 2)",
    "memory.total [MiB]",
    "-1",
    "１６３７６",
    "16376.0",
)


def test_f63_whatever_nvidia_smi_says_only_whole_lines_of_digits_are_cards() -> None:
    draw = random.Random(63)
    for _ in range(500):
        lines = [draw.choice([str(draw.randint(1, 200_000)), f" {draw.randint(1, 99)} ", *WORDS]) for _ in range(draw.randint(0, 5))]
        wanted = sorted(int(line) for line in lines if line.strip().isascii() and line.strip().isdigit())
        assert machine.read_cards("\n".join(lines)).memory == wanted


@pytest.mark.parametrize(
    ("memory", "profile"),
    [
        ([81559] * 4, "4x80g"),
        ([81559] * 5, "4x80g"),
        ([143771], "1x80g"),
        ([81920] * 3, "1x80g"),
        ([81920] * 8, "8x80g"),
        ([23028], "1x24g"),
        ([16376, 16376], "1x16g"),
        ([24564, 81559], "1x24g"),  # the smallest card decides
        ([11264, 81559], ""),
        ([], ""),
    ],
)
def test_the_profile_is_found_from_the_cards(memory: list[int], profile: str) -> None:
    present = machine.read_cards("\n".join(map(str, memory)))
    assert present.profile == profile
    assert machine.choose_profile(present, ["cpu"], dry=True) == (profile or "4x80g"), "a dry run shows what the recipes are written for"
    if profile:
        assert machine.choose_profile(present, ["cpu"], dry=False) == profile
    else:
        with pytest.raises(
            Refused, match=r"no GPU of 16 GB or more is visible and PROFILE is not set\. Set PROFILE=cpu .* one of: cpu 1x24g"
        ):
            machine.choose_profile(present, ["cpu", "1x24g"], dry=False)


def nvidia_smi(folder: Path, said: str) -> dict[str, str]:
    """An environment whose nvidia-smi prints a text and notes what it was asked."""
    (folder / "text").write_text(said, encoding="utf-8")
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >{folder}/asked\ncat {folder}/text; exit 9\n', encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_the_cards_are_those_that_may_be_used(tmp_path: Path) -> None:
    environment = nvidia_smi(tmp_path, "24564\n16376\n")
    assert machine.cards(environment).memory == [16376, 24564]
    machine.cards(environment | {"CUDA_VISIBLE_DEVICES": "0,$(x)"})
    assert (tmp_path / "asked").read_text() == "-i 0,$(x) --query-gpu=memory.total --format=csv,noheader,nounits\n"
    assert machine.cards(environment | {"CUDA_VISIBLE_DEVICES": ""}).memory == []
    assert machine.cards({"PATH": str(tmp_path / "nowhere")}).memory == []


@pytest.mark.parametrize(("memory", "instead"), [([24564], "1x24g"), ([], "cpu"), ([81559] * 2, "1x80g"), ([24564] * 4, "1x24g")])
def test_more_cards_than_there_are_is_an_error_that_names_another_profile(memory: list[int], instead: str) -> None:
    with pytest.raises(Refused) as refused:
        machine.check_cards("4x80g", machine.Cards(memory), 4, 80)
    found = f"{len(memory)} GPUs, the smallest of {memory[0] if memory else 0} MiB"
    remedy = f"Set PROFILE={instead}, or DRY_RUN=1 to see the command only"
    assert str(refused.value) == f"PROFILE=4x80g wants 4 x 80 GB; found: {found}. {remedy}"
    machine.check_cards("4x80g", machine.Cards([81559] * 5), 4, 80)


@pytest.mark.parametrize("port", ["1));import os#", "x[$(touch x)]", "8000 8001", "-1", "", "８０００", "123456", "80\n"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(Refused, match="is no number: set PORT= to one"):
        machine.check_port(port, dry=True)


def test_a_port_that_is_taken_or_too_large_is_refused_and_a_dry_run_does_not_ask() -> None:
    with pytest.raises(Refused, match="port 70000 is too large"):
        machine.check_port("70000", dry=True)
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = str(taken.getsockname()[1])
        machine.check_port(port, dry=True)
        with pytest.raises(Refused, match=f"port {port} is busy, or was until a moment ago. Do this"):
            machine.check_port(port, False, "Do this")
    machine.check_port("0", dry=False)


def test_ms_swifts_launcher_is_a_script_and_the_projects_own_is_found(tmp_path: Path) -> None:
    def program(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "swift").write_text(text)
        (tmp_path / folder / "swift").chmod(0o755)
        return str(tmp_path / folder)

    ours, language = program("ours", "#!/bin/sh\n"), program("language", "\x7fELF")
    environment = {"PATH": f"{ours}:/bin"}
    machine.enter_environment(environment, tmp_path)
    assert environment == {"PATH": f"{ours}:/bin"}
    for path in (f"{language}:/bin", "/bin"):
        with pytest.raises(Refused, match=r"ms-swift is not installed\. Run: bash install\.sh"):
            machine.enter_environment({"PATH": path}, tmp_path)
    venv = program(".venv/bin", "#!/bin/sh\n")
    environment = {"PATH": f"{language}:/bin", "PYTHONHOME": "/x"}
    machine.enter_environment(environment, tmp_path)
    assert environment == {"PATH": f"{venv}:{language}:/bin", "VIRTUAL_ENV": str(tmp_path / ".venv")}
