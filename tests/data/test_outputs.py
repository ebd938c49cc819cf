"""What is written is whole, together, never over an input, and holds any text there is."""

import csv
import json
import os
import random
import re
import signal
import sys

import pytest
from overtake import cli, tasks
from overtake.data import outputs, tables
from overtake.data.tables import json_lines, read_objects, read_rows, write_rows
from overtake.evaluation import comparing, curves


def write_and_be_killed(folder, names, at):
    """Write in a process of its own that is killed at its `at`-th touch of the folder; the process's wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    touched = 0

    def kill_in_time(event, arguments):
        nonlocal touched
        if event in ("open", "os.rename", "os.remove", "os.link") and str(folder) in str(arguments[0]):
            if touched == at:
                os.kill(os.getpid(), signal.SIGKILL)
            touched += 1

    try:
        sys.addaudithook(kill_in_time)
        outputs.write_aside({folder / name: b'{"v": "new"}\n' for name in names})
        os._exit(0)
    finally:
        os._exit(1)


def test_a_kill_at_any_point_leaves_the_old_files_or_the_new_ones(tmp_path):
    outcomes = []
    for at in range(60):
        folder = tmp_path / f"kill{at}"
        names = ("a.jsonl", "sub/b.jsonl", "c.jsonl")
        (folder / "sub").mkdir(parents=True)
        for name in names:
            (folder / name).write_text('{"v": "old"}\n')
        status = write_and_be_killed(folder, names, at)
        found = [read_rows(folder / name)[0]["v"] for name in (names if at % 2 else names[::-1])]
        assert len(set(found)) == 1, (at, found)
        outcomes.append(found[0])
        # The next write into the folder is whole too, and nothing of a finished one is left aside.
        outputs.write_aside({folder / name: b'{"v": "next"}\n' for name in names})
        assert {read_rows(folder / name)[0]["v"] for name in names} == {"next"}
        assert not list(folder.rglob(".overtake-*"))
        if status == 0:
            break
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert status == 0 and at > 8, "every point was killed at, up to a run that was left alone"
    assert outcomes == sorted(outcomes, reverse=True) and {"old", "new"} == set(outcomes), outcomes


def test_what_ms_swift_reads_itself_is_finished_when_the_plugin_is_loaded(tmp_path):
    (tmp_path / "train.jsonl").write_text("old")
    (tmp_path / ".x.part").write_text("new")
    (tmp_path / ".overtake-abc.renames").write_text(json.dumps([[".x.part", "train.jsonl"], [".gone.part", "val.jsonl"]]))
    outputs.finish_of_command(["swift", "sft", "--dataset", f"overtake/finance:{tmp_path}/train.jsonl#500", "a" * 5000 + ".b", "x\0.y"])
    assert (tmp_path / "train.jsonl").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_folder_in_the_place_of_a_file_leaves_the_others_as_they_were(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*b: Is a directory; nothing half-written"):
        tables.write_aside({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert (tmp_path / "a").read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_sheets_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        for suffix in (".xlsx", ".csv", ".jsonl"):
            write_rows(tmp_path / f"t{suffix}", [{"a": "1"}])
            assert (tmp_path / f"t{suffix}").stat().st_mode & 0o777 == mode
        tables.write_aside({tmp_path / "one": b"", tmp_path / "two": b""})
        assert (tmp_path / "two").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_no_input_of_a_run_is_written_over(tmp_path, capsys):
    write_rows(tmp_path / "test.jsonl", [{"a": "1"}])
    whole = (tmp_path / "test.jsonl").read_bytes()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "test.jsonl")

    def work(read, write):
        read_rows(read)
        cli.write_folder(write, {"train.jsonl": [{"a": "2"}], "test.jsonl": [{"a": "3"}]})
        return 0

    for read in ("test.jsonl", "link.jsonl"):
        assert cli.run(lambda read=read: work(tmp_path / read, tmp_path)) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "test.jsonl is an input of this run and would be written over: name another place" in told
    assert (tmp_path / "test.jsonl").read_bytes() == whole and not (tmp_path / "train.jsonl").exists()
    assert cli.run(lambda: work(tmp_path / "test.jsonl", tmp_path / "other")) == 0


@pytest.mark.parametrize("order", ["read first", "declared first"])
@pytest.mark.parametrize("name", ["t.csv", "sub/../t.csv", "same.csv", "t.csv.failed.jsonl"])
def test_an_output_that_is_the_input_is_refused_before_anything_is_spent(tmp_path, order, name):
    (tmp_path / "sub").mkdir()
    write_rows(tmp_path / "t.csv.failed.jsonl", [{"a": "1"}])
    write_rows(tmp_path / "t.csv", [{"a": "1"}])
    (tmp_path / "same.csv").symlink_to(tmp_path / "t.csv")
    spent = []

    def work():
        steps = [lambda: read_rows(tmp_path / name), lambda: tables.check_output(tmp_path / "t.csv")]
        for step in steps if order == "read first" else steps[::-1]:
            step()
        spent.append(1)
        return 0

    assert cli.run(work) == 2 and not spent
    write_rows(tmp_path / "t.csv", [{"a": "2"}])  # outside of a run nothing is protected


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("convert", ["test.jsonl", "."]),
        ("filter", ["test.jsonl", ".", "--no-judge"]),
        ("prepare_finance", ["raw.jsonl", "."]),
        ("prepare_medical", ["train.jsonl", "."]),
        ("validate", ["a.csv", "a.csv"]),
    ],
)
def test_no_tool_writes_over_its_input(tmp_path, run, tool, arguments):
    """Whatever else it finds wrong with these rows, the file is as it was."""
    source = tmp_path / arguments[0]
    asked = "去年收入200万元，今年增长10%，今年收入是多少？"
    other = {"gold_answer": "220万元", "type": "calculation", "source": "x", "sample": "0", "teacher_output": "x"}
    rows = [{**other, "id": str(at), "question": f"第{at}题：{asked}", "answer": "多喝水，两周不好请就诊。"} for at in range(30)]
    write_rows(source, rows)
    before = source.read_bytes()
    done = run(tool, source, *(argument if argument[0] == "-" else tmp_path / argument for argument in arguments[1:]))
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err
    assert source.read_bytes() == before
    if tool in ("prepare_finance", "prepare_medical", "validate"):
        assert "name another" in done.err


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_what_a_spreadsheet_would_run_is_quoted_and_comes_back(tmp_path, suffix):
    """600 random cells that begin as a formula does, in one or another way."""
    rng = random.Random(4)
    starts = [*"=+-@", "\t", "\r", "\n", "\0", " ", "＝", "＋", "－", "＠", "'", "''=", "\u3000", "\xa0", "﹦", "\u200b", "\u202e"]
    texts = ["".join(rng.choice([*starts, "1", "a", "，", '"']) for _ in range(rng.randint(0, 4))) for _ in range(600)]
    rows = [{"id": str(at), "t": rng.choice(starts) + text} for at, text in enumerate(texts)]
    write_rows(tmp_path / f"t{suffix}", rows)
    assert read_rows(tmp_path / f"t{suffix}") == rows
    if suffix == ".csv":
        with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
            written = [line[1] for line in csv.reader(file)][1:]
        for row, text in zip(rows, written, strict=True):
            first = row["t"].lstrip("'")[:1]
            runs = first and (first in "=+-@＝＋－＠\0﹦\u200b\u202e" or first.isspace())
            assert text == (f"'{row['t']}" if runs and not re.fullmatch(r"[+-]\d+", row["t"]) else row["t"])


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_a_sign(tmp_path, suffix):
    rows = [{"id": "1", "t": "a\ud83db", "l": ["x\udfff"]}, {"id": "2", "t": "\ud83d\ude00", "l": []}]
    write_rows(tmp_path / f"t{suffix}", rows)
    assert [row["t"] for row in read_rows(tmp_path / f"t{suffix}")] == ["a\ufffdb", "😀"]
    assert json.loads(json_lines([{"\udc00": {"b": ["\ud800"]}}])) == {"\ufffd": {"b": ["\ufffd"]}}


def test_lines_of_json_end_at_newlines_alone(tmp_path):
    odd = "a\u2028b\x85c\u2029d\x0be\x1cf"
    path = tmp_path / "logging.jsonl"
    path.write_bytes(json_lines([{"reward": 0.5, "t": odd}, {"t": odd}]))
    assert [row["t"] for row in read_objects(path)] == [odd, odd]
    assert curves.read_log(tmp_path)[0]["t"] == odd
    finance = tasks.known()["finance"]
    line = {"identity": "x", finance.evaluation.id: "1", "answer": odd}
    (tmp_path / "answers.jsonl").write_bytes(json_lines([line]) + b'{"identity": "x", "id"')
    assert comparing._kept(finance, tmp_path / "answers.jsonl", "x") == {"1": line}, "half a line of an interrupted run is no answer"


def test_no_reader_of_files_splits_at_other_signs_than_newlines():
    """`splitlines` cuts at U+2028 and U+0085 too: none stands on one line with the reading of a file, in code that reads JSON lines."""
    root = outputs.Path(__file__).resolve().parents[2]
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("plugin", "tools", "demo", "benchmarks", "recipes")
        for path in sorted((root / folder).rglob("*.*"))
        if path.suffix in (".py", ".sh")
        for line in path.read_text(encoding="utf-8").split("\n")
        if "splitlines" in line and ("read_text(" in line or "read_bytes(" in line) and "log" not in line and "/proc" not in line
    ]
    assert found == []
