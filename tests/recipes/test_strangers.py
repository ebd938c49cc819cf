"""What a recipe is given stays a word: no setting, flag or path runs as code, no key is shown, and no port is opened unasked."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT


@pytest.fixture
def trap(tmp_path: Path) -> Any:
    """trap() fails where a command that hides in a setting ran; `.code` is the command."""

    def check() -> None:
        assert not (tmp_path / "ran").exists(), "what a user gave ran as code"

    check.code = f"touch {tmp_path}/ran"  # type: ignore[attr-defined]
    return check


@pytest.mark.parametrize("recipe", ["deploy", "rollout"])
@pytest.mark.parametrize("port", ["1));import os;os.system('{code}')#", "x[$({code})]", "8000 8001", "-1", "80 00"])
def test_a_port_is_a_number_or_refused(recipe: str, port: str, run: Any, trap: Any) -> None:
    done = run(recipe, PROFILE="cpu-vllm", MODEL="some/model", SFT_ADAPTER="none", PORT=port.replace("{code}", trap.code))
    assert done.returncode == 2 and "is no number: set PORT= to one" in done.stderr
    trap()


@pytest.mark.parametrize("recipe", ["deploy", "rollout", "serve_rag"])
def test_a_port_is_refused_in_a_dry_run_too_also_one_that_a_flag_names(recipe: str, run: Any, trap: Any) -> None:
    settings = {"PROFILE": "cpu-vllm", "MODEL": "some/model", "SFT_ADAPTER": "none", "DRY_RUN": 1}
    code = f"$({trap.code})"
    for done in (run(recipe, **settings, PORT=code), run(recipe, f"--port={code}", **settings), run(recipe, "--port", code, **settings)):
        assert (done.returncode, done.stdout) == (2, "") and "is no number: set PORT= to one" in done.stderr
    assert "is too large: set PORT= to one up to 65535" in run(recipe, **settings, PORT="70000").stderr
    trap()


def test_an_error_is_one_line_whatever_a_setting_holds(run: Any) -> None:
    broken = "cpu\nerror: you are fine\r\x1b[2J"
    settings = {"PROFILE": "cpu", "MODEL": "some/model", "DRY_RUN": 1}
    for recipe, name in (("deploy", "PROFILE"), ("deploy", "ROLE"), ("deploy", "SYSTEM"), ("sft_finance", "TUNER"), ("export", "ADAPTER")):
        done = run(recipe, **{**settings, name: broken})
        lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "note: "))]
        assert (len(lines), done.stderr.count("\n"), "\x1b" in done.stderr) == (1, 1, False), done.stderr


def test_ports_of_several_machines_are_numbers_too(run: Any, trap: Any) -> None:
    for name in ("PORT", "GROUP_PORT"):
        done = run("grpo_rag", PROFILE="multinode", DRY_RUN=1, **{name: f"$({trap.code})"})
        assert done.returncode == 2 and f"{name}=" in done.stderr and "is no port: set it to a number" in done.stderr
    trap()


@pytest.mark.parametrize("flag", ["--a[$({code})]", "--a;{code};", "--a`{code}`=1", "--a b", "--"])
def test_a_flag_has_a_flags_name_or_is_refused(flag: str, run: Any, trap: Any) -> None:
    done = run("deploy", flag.replace("{code}", trap.code), "1", PROFILE="cpu", MODEL="some/model", DRY_RUN=1)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    trap()


@pytest.mark.parametrize("profile", ["../profiles/cpu", "/tmp/x", "cpu;{code}", "$({code})", "", "cpu.sh/../cpu"])
def test_a_profile_is_a_name_and_no_path(profile: str, run: Any, trap: Any, tmp_path: Path) -> None:
    if not profile:
        (tmp_path / "evil.sh").write_text(f"{trap.code}\n")
        profile = "../" * 20 + str(tmp_path / "evil").lstrip("/")
    done = run("deploy", PROFILE=profile.replace("{code}", trap.code), MODEL="some/model", DRY_RUN=1)
    assert done.returncode == 2 and "is not a profile. There are: " in done.stderr
    trap()


def test_values_reach_the_launcher_as_the_words_they_are(run: Any, trap: Any, tmp_path: Path) -> None:
    nasty = [f"$({trap.code})", f"`{trap.code}`", "a  b", "quote\" and '", f"x; {trap.code}", "", "胶原 蛋白", "back\\slash", "line\nbreak"]
    launcher = tmp_path / "bin" / "swift"
    launcher.parent.mkdir()
    launcher.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" >{tmp_path}/words\n")
    launcher.chmod(0o755)
    words = ["bash", str(ROOT / "recipes/deploy.sh"), "--stop_words", *nasty, f"--system={nasty[0]}"]
    env = {"PATH": f"{launcher.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PROFILE": "cpu", "MODEL": "some/model", "PORT": "0"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "words").read_text().split("\0")[:-1]
    at = given.index("--stop_words")
    assert given[at : at + 1 + len(nasty)] == ["--stop_words", *nasty]
    assert given[given.index("--system") + 1] == nasty[0]
    # What is printed can be copied into a shell, and is the same words.
    subprocess.run(["bash", "-c", done.stdout], env=env, check=True, cwd=tmp_path)
    assert (tmp_path / "words").read_text().split("\0")[:-1] == given
    trap()


def test_the_last_checkpoint_of_a_run_is_found_under_any_name(tmp_path: Path, trap: Any) -> None:
    run = tmp_path / f"out|e;{Path('x').name} & $(date)"
    (run / "checkpoint-20").mkdir(parents=True)
    (run / "checkpoint-3").mkdir()
    words = ["bash", "-c", 'source "$1"; last "$2"', "x", str(ROOT / "recipes/chain.sh"), str(run)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{run}/checkpoint-20\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.9", "::", "127.0.0.1.example.org"])
def test_a_model_is_open_to_other_machines_with_a_key_or_when_that_is_meant(host: str, run: Any) -> None:
    settings = {"PROFILE": "cpu", "MODEL": "some/model", "DRY_RUN": 1}
    said = f"HOST={host} lets other machines in and no key is asked for: set API_KEY=, or OPEN=1 where that is meant"
    assert said in run("deploy", HOST=host, **settings).stderr
    assert said in run("deploy", "--host", host, **settings).stderr
    for meant in ({"OPEN": 1}, {"API_KEY": "s3cret"}, {"HOST": "127.0.0.1"}):
        assert "lets other machines in" not in run("deploy", **{"HOST": host, **settings, **meant}).stderr
    refused = run("deploy", HOST=host, PROFILE="cpu", MODEL="some/model", PORT=0)
    assert (refused.returncode, refused.stdout) == (2, "") and said in refused.stderr


def test_a_key_stands_in_no_command_and_in_no_argument(run: Any, tmp_path: Path) -> None:
    seen = tmp_path / "bin" / "python"
    seen.parent.mkdir()
    seen.write_text(f'#!/bin/bash\nprintf \'%s\\n\' "$@" >{tmp_path}/words; echo "$API_KEY" >{tmp_path}/key\n')
    seen.chmod(0o755)
    (seen.parent / "swift").write_text("#!/bin/sh\n")
    (seen.parent / "swift").chmod(0o755)
    env = {"PATH": f"{seen.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PROFILE": "cpu", "MODEL": "some/model", "PORT": "0"}
    command = ["bash", str(ROOT / "recipes/deploy.sh")]
    done = subprocess.run(command, env=env | {"API_KEY": "s3cret"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr + (tmp_path / "words").read_text()
    assert (tmp_path / "key").read_text() == "s3cret\n"
    assert (tmp_path / "words").read_text().startswith("-m\novertake.keyed\ndeploy\n")
    refused = run("deploy", "--api_key", "s3cret", PROFILE="cpu", MODEL="some/model", DRY_RUN=1)
    assert (
        refused.returncode == 2 and "s3cret" not in refused.stdout + refused.stderr and "Set API_KEY= in the environment" in refused.stderr
    )


def test_a_rollout_server_is_open_only_where_that_is_said_and_warns(run: Any) -> None:
    settings = {"SFT_ADAPTER": "none", "HOST": "10.0.0.9"}
    refused = run("rollout", PROFILE="cpu-vllm", MODEL="some/model", PORT=0, GROUP_PORT=0, **settings)
    assert (refused.returncode, refused.stdout) == (2, "") and "set ROLLOUT_OPEN=1" in refused.stderr
    for meant in ({"PROFILE": "multinode"}, {"PROFILE": "cpu-vllm", "ROLLOUT_OPEN": 1}):
        done = run("rollout", DRY_RUN=1, **settings, **meant)
        assert done.returncode == 0 and "warning: whoever reaches 10.0.0.9 can overwrite the weights" in done.stderr
        assert "set ROLLOUT_OPEN=1" not in done.stderr
