"""A run is made of variables, rows and the checkpoint it starts from; what is missing stops it, or is a remark in a dry run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from overtake.launch import run
from overtake.launch.command import Refused
from overtake.launch.run import Run

LEFT: dict[str, list[str]] = {"default_model": ["Qwen/default"], "data_tool": ["tools/convert.py"]}


def made(given: dict[str, list[str]] | None = None, **settings: Any) -> Run:
    return Run(LEFT | (given or {}), {name: str(value) for name, value in settings.items()})


def folder(path: Path, **files: Any) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def test_what_stops_a_run_is_a_remark_in_a_dry_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="no rows"):
        made().want("no rows")
    made(DRY_RUN=1).want("no rows")
    assert capsys.readouterr().err == "note: no rows\n"


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert made(MODEL="").setting("MODEL", "x") == "x"
    assert (made(DRY_RUN=0).dry, made().dry, made(TUNER="full").full, made(TUNER="lora").full) == (False, False, True, False)
    assert (made({"port": [""]}).one("port", "8000"), made().one("none")) == ("8000", "")


@pytest.mark.parametrize("ending", ["kill -KILL $$", 'python3 -c "import sys; sys.exit(-9)"', "exit 3"])
def test_a_run_that_the_kernel_killed_says_what_mostly_does_that(ending: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = made(PATH=os.environ["PATH"], TORCH_EXTENSIONS_DIR=tmp_path)
    run.launcher = ("sh", "-c", ending)
    with pytest.raises(SystemExit) as stopped:
        run.start("rlhf")
    killed = ending != "exit 3"
    assert stopped.value.code in ((137, 247) if killed else (3,))
    assert ("note: it was killed (signal 9)" in capsys.readouterr().err) is killed


def test_a_profile_hides_the_cards_that_it_has_no_process_for() -> None:
    wants = {"gpus": ["4"], "gpu_gb": ["80"], "profile": ["4x80g"], "run_env": ["NPROC_PER_NODE=4"]}
    dry = made(wants, DRY_RUN=1)
    dry.take_machine()
    assert dry.assigned == ["NPROC_PER_NODE=4", "CUDA_VISIBLE_DEVICES=0,1,2,3"]
    chosen = made(wants, DRY_RUN=1, CUDA_VISIBLE_DEVICES="4,5,6,7")
    chosen.take_machine()
    assert chosen.assigned == ["NPROC_PER_NODE=4"]
    with pytest.raises(Refused, match="PROFILE=4x80g wants 4 x 80 GB; found: 0 GPUs"):
        made(wants, PATH="/nowhere").take_machine()


def test_a_model_that_is_a_folder_is_absolute_and_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "底座 v1").mkdir()
    ours, hub = made(), made()
    ours.put_model("底座 v1")
    hub.put_model("Qwen/Qwen3-8B")
    assert ours.flags == {"--model": [str(tmp_path / "底座 v1")], "--check_model": ["false"]}
    assert hub.flags == {"--model": ["Qwen/Qwen3-8B"]}


@pytest.mark.parametrize("suffix", ["", "#4"])
@pytest.mark.parametrize("name", ["C#题库", "#1", "a#2/b#", "issue #7", "a b"])
def test_f68_rows_of_any_folder_are_read_and_only_a_number_behind_counts(name: str, suffix: str, tmp_path: Path) -> None:
    rows = tmp_path / name / "rl.jsonl"
    finance = {"data_name": ["overtake/x"], "data_files": ["rl.jsonl", ""]}
    with pytest.raises(Refused) as refused:
        made(finance, DATASET=f"{rows}{suffix}").put_rows("x", "train.jsonl", "val.jsonl")
    assert str(refused.value) == f"{rows} does not exist or is empty. Make it: python tools/convert.py; or set DATASET= (and VAL_DATASET=)"
    rows.parent.mkdir(parents=True)
    rows.write_text("{}\n", encoding="utf-8")
    there = made(finance, DATASET=f"{rows}{suffix}")
    there.put_rows("x", "train.jsonl", "val.jsonl")
    assert there.flags == {"--dataset": [f"overtake/x:{rows}{suffix}"]}


def test_held_out_rows_are_looked_for_beside_the_rows(tmp_path: Path) -> None:
    for name in ("mine.jsonl", "val.jsonl", "other.csv"):
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    beside, named, hub = (
        made(DATASET=tmp_path / "mine.jsonl"),
        made(DATASET=tmp_path / "mine.jsonl", VAL_DATASET=tmp_path / "other.csv"),
        made(DATASET="a/b#5"),
    )
    for one in (beside, named, hub):
        one.put_rows("x", "train.jsonl", "val.jsonl")
    assert beside.flags == {"--dataset": [str(tmp_path / "mine.jsonl")], "--val_dataset": [str(tmp_path / "val.jsonl")]}
    assert named.flags["--val_dataset"] == [str(tmp_path / "other.csv")]
    assert hub.flags == {"--dataset": ["a/b#5"]}


def test_rows_that_are_not_named_stand_under_output(capsys: pytest.CaptureFixture[str]) -> None:
    dry = made(DRY_RUN=1)
    dry.put_rows("none such", "train.jsonl", "val.jsonl")
    data = run.ROOT / "output/none such/data"
    assert dry.flags == {"--dataset": [f"{data}/train.jsonl"], "--val_dataset": [f"{data}/val.jsonl"]}
    assert capsys.readouterr().err.count("does not exist or is empty") == 2


def test_rl_starts_from_an_adapter_on_its_base_and_is_held_against_it(tmp_path: Path) -> None:
    adapter = folder(tmp_path / "适配器 v1", adapter_config={}, args={"model": "Qwen/base", "model_type": "qwen3", "template": "t"})
    start = made(SFT_ADAPTER=f"{adapter}/")
    start.put_start("x")
    same = {"--model_type": ["qwen3"], "--template": ["t"], "--adapters": [str(adapter)], "--ref_adapters": [str(adapter)]}
    assert start.flags == {"--model": ["Qwen/base"], **same}
    named = made(SFT_ADAPTER=adapter, MODEL="my/own")
    named.put_start("x")
    assert named.flags == {"--model": ["my/own"], **same}
    with pytest.raises(Refused, match=f"TUNER=full cannot go on from it. Merge it first: ADAPTER={adapter} bash recipes/export.sh"):
        made(SFT_ADAPTER=adapter, TUNER="full").put_start("x")


def test_rl_starts_from_a_full_model_from_none_and_from_nothing_else(tmp_path: Path) -> None:
    full = folder(tmp_path / "full", config={})
    start, none, mine = made(SFT_ADAPTER=full), made(SFT_ADAPTER="none"), made(SFT_ADAPTER="none", MODEL="my/own")
    for one in (start, none, mine):
        one.put_start("x")
    assert start.flags == {"--model": [str(full)], "--check_model": ["false"]}
    assert (none.flags, mine.flags) == ({"--model": ["Qwen/default"]}, {"--model": ["my/own"]})
    with pytest.raises(Refused, match=f"{tmp_path} is no checkpoint: neither adapter_config.json nor config.json is in it"):
        made(SFT_ADAPTER=tmp_path).put_start("x")
    with pytest.raises(Refused, match=r"there is no checkpoint under .*/output/none such/sft. Run the SFT recipe first"):
        made().put_start("none such")


def test_a_dry_run_shows_where_the_checkpoint_would_stand(capsys: pytest.CaptureFixture[str]) -> None:
    lora, full = made(DRY_RUN=1), made(DRY_RUN=1, TUNER="full")
    lora.put_start("none such")
    full.put_start("none such")
    last = str(run.ROOT / "output/none such/sft/checkpoint-LAST")
    assert lora.flags == {"--model": ["Qwen/default"], "--adapters": [last], "--ref_adapters": [last]}
    assert full.flags == {"--model": [last]}
    assert capsys.readouterr().err.startswith("note: there is no checkpoint under ")


def test_the_command_runs_with_what_is_assigned_and_its_status_is_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    swift = tmp_path / "swift"
    swift.write_text('#!/bin/sh\necho "A=$A B=$B:$*"; exit 7\n')
    swift.chmod(0o755)
    ours = made({"run_env": ["A=1 2"]}, PATH=f"{tmp_path}:/usr/bin:/bin", B="inherited")
    ours.put("--x", "a b")
    with pytest.raises(SystemExit) as ended:
        ours.start("sft")
    assert ended.value.code == 7
    assert capfd.readouterr().out == "A=1\\ 2 swift sft \\\n    --x a\\ b\nA=1 2 B=inherited:sft --x a b\n"


def test_a_tool_of_ours_sees_our_package_and_the_users_path(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PYTHONPATH:$*" >{tmp_path}/said; cat >>{tmp_path}/said; exit 3\n')
    python.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert made(PATH=path, PYTHONPATH="/mine").tool("t.py", "--fast", echoed="hello") == 3
    assert (tmp_path / "said").read_text() == f"{run.ROOT / 'plugin'}:/mine:t.py --fast\nhello"
