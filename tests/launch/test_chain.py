"""The chains' options, quiet steps and the doctor before RL."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from overtake.launch import chain, entry
from overtake.launch.command import Refused
from overtake.launch.run import ROOT, Run

KINDS = {"--data": "a file or a hub name", "--rows": "number", "--test": "file", "--out": "folder", "--rl": "grpo|ppo|both"}
KINDS |= {"--red-team": "file", "--no-judge": "switch", "--from": "stage"}


def test_options_are_read_into_variables_and_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "问题 1.jsonl").write_text("{}")
    words = ["--data", "ms::a/b", "--rows", "20", "--test", "问题 1.jsonl", "--out", "o u/t", "--rl", "both", "--no-judge", "--from", "sft"]
    assert chain.options(words, KINDS, ["prepare", "sft"]) == {
        **{"data": "ms::a/b", "rows": "20", "test": str(tmp_path / "问题 1.jsonl"), "out": str(tmp_path / "o u/t")},
        **{"rl": "both", "no_judge": "1", "from": "sft"},
    }
    assert chain.options([], KINDS, []) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "--nope is not known. There are: --data, --rows, --test, --out, --rl, --red-team, --no-judge, --from"),
        (["word"], "word is not known. There are: "),
        ([""], " is not known. There are: "),
        (["--data"], "--data needs a file or a hub name"),
        (["--data", "a\nb"], "--data needs a file or a hub name"),
        (["--rows", "many"], "--rows needs a number"),
        (["--rows", "0"], "--rows needs a number"),
        (["--out"], "--out needs a folder"),
        (["--out", ""], "--out needs a folder"),
        (["--test", "nowhere.jsonl"], "--test nowhere.jsonl: no such file"),
        (["--rl", "dpo"], "--rl dpo: grpo, ppo or both"),
        (["--rl"], "--rl : grpo, ppo or both"),
        (["--from", "training"], "--from training: the stages are prepare sft"),
        (["--from"], "--from : the stages are prepare sft"),
    ],
)
def test_an_option_that_is_wrong_is_told_with_what_it_needs(words: list[str], message: str) -> None:
    with pytest.raises(Refused) as refused:
        chain.options(words, KINDS, ["prepare", "sft"])
    assert str(refused.value).startswith(message)


def test_a_chain_reads_its_options_in_shell(tmp_path: Path) -> None:
    chain_file = tmp_path / "my.sh"
    chain_file.write_text(
        "#!/usr/bin/env bash\n# What it does.\n#   bash my.sh\nset -euo pipefail\n"
        f"CHAIN=my; source {ROOT}/recipes/chain.sh\nSTAGES=(a b)\ndata='' from='' fresh=0\n"
        'options \'--data=a file\' --from=stage --fresh=switch -- "$@"\nprintf \'%s|\' "$data" "$from" "$fresh"\n'
    )

    def said(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(["bash", str(chain_file), *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert said() == (0, "||0|", "")
    assert said("--data", "x = $(touch y) 'z'", "--from", "b", "--fresh") == (0, "x = $(touch y) 'z'|b|1|", "")
    assert said("--from", "c") == (2, "", "error: --from c: the stages are a b\n")
    assert said("--fresh", "--help") == said("-h") == (0, "What it does.\n  bash my.sh\n", "")
    leaves = f"CHAIN=my; source {ROOT}/recipes/chain.sh; OUT={tmp_path}/out; STAGES=(a b c); LEAVES=([a]=1 [b]='2 3' [c]=4)"
    for name in "1234":
        (tmp_path / "out" / name).mkdir(parents=True)
    assert subprocess.run(["bash", "-c", leaves + "; forget_from b; ls $OUT"], capture_output=True, text=True, check=True).stdout == "1\n"


def test_behind_its_installation_a_chain_starts_the_environments_python_and_no_shim(tmp_path: Path) -> None:
    """pyenv's shim puts the folder of its own Python in front of PATH for all that it starts."""
    (tmp_path / "recipes").mkdir()
    for name in ("lib.sh", "chain.sh"):
        shutil.copy(ROOT / "recipes" / name, tmp_path / "recipes")
    for name, said in {"shims/python3.11": "the shim's", ".venv/bin/python3.11": "the environment's", "install.sh": "installed"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\necho {said!r}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv/bin/activate").write_text(f"VIRTUAL_ENV={tmp_path}/.venv; PATH=$VIRTUAL_ENV/bin:$PATH\n")
    script = f'CHAIN=my; source {tmp_path}/recipes/chain.sh; OUT={tmp_path}; "${{LAUNCH[@]}}"; enter; "${{LAUNCH[@]}}"'
    environment = {"PATH": f"{tmp_path}/shims:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["the shim's", "installed", "the environment's"]


def quiet(log: Path, *words: str) -> tuple[int, list[str]]:
    return entry.main(["quiet", "log", "1", str(log), "words", str(len(words)), *words], dict(os.environ)), log.read_text().splitlines()


def test_a_steps_lines_go_to_a_log_of_its_owners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("old")
    status, lines = quiet(tmp_path / "log", "bash", "-c", "printf 'Train: 3/9 [00:01<00:02]\\r'; echo; echo err >&2")
    assert (status, lines) == (0, ["Train: 3/9 [00:01<00:02]", "err"])
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().err == ""


def test_a_step_that_fails_shows_its_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = quiet(tmp_path / "log", "bash", "-c", "seq 40; exit 3")
    said = capsys.readouterr().err.splitlines()
    assert (status, said) == (2, [*map(str, range(26, 41)), f"error: that step failed; the whole log: {tmp_path / 'log'}"])


@pytest.mark.parametrize(("settings", "status"), [({}, 2), ({"DOCTOR": "0"}, 0)])
def test_what_the_doctor_finds_stops_the_chain_once(settings: dict[str, str], status: int, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "log").mkdir()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PROFILE $@" | sed "s/.*--only/--only/"; exit 1\n')
    python.chmod(0o755)
    words = ["resist", "out", "1", str(tmp_path), "words", "2", "--task", "x"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **settings}
    assert entry.main(words, environment) == status
    said = capsys.readouterr()
    assert said.out == (tmp_path / "log/doctor.txt").read_text() == "--only-attacks --task x\n"
    assert ("the doctor found what would spoil the training" in said.err) == bool(status)
    assert (tmp_path / "doctor.txt").exists() == (not status)
    (tmp_path / "doctor.txt").write_text("passed")
    python.unlink()
    assert chain.resist(Run({"out": [str(tmp_path)], "words": []}, environment)) is None, "what was examined is not examined again"


def test_a_served_model_keeps_its_port_so_that_kept_answers_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deploy.port"

    def port() -> int:
        assert entry.main(["port", "words", "1", str(file)], {}) == 0
        return int(capsys.readouterr().out)

    first = port()
    assert first > 0 and int(file.read_text()) == first == port()
    with socket.create_server(("127.0.0.1", first)):
        assert port() not in (0, first), "another is served there meanwhile"
    assert port() == first
