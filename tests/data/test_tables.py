"""The three formats hold the same text, refuse what they cannot hold, and are never half-written."""

import errno
import json
import subprocess
import sys

import openpyxl
import pytest
from overtake.data import tables
from overtake.data.tables import BadInput, read_rows, row_number, write_rows

SUFFIXES = [".xlsx", ".csv", ".jsonl"]
ODD = [
    "NA", "nan", "null", "None", "", " padded ", "1.0", "007", "a,b\"c'd", "two\nlines", "back\r\nslash\r", "tab\t", "\x0bcontrol\x01",
    "_x0041_", "#N/A", "=1+1", "+86 138", "-明胶", "@SUM(A1)", "'=quoted", "''-twice", "'plain", "😀𠮷", "<b>&amp;",
    "\u2028 \x85 line", "-0.25",
]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_comes_back_as_it_was_written(tmp_path, suffix):
    rows = [{"n": str(i), "text": text} for i, text in enumerate(ODD)]
    write_rows(tmp_path / f"t{suffix}", rows)
    assert read_rows(tmp_path / f"t{suffix}") == rows


def test_all_formats_read_back_the_same_cells(tmp_path):
    rows = [{"a": [["d1", 0.5], ["d2", 1.0]], "b": True, "c": None, "d": 1.0}, {"a": {"k": "值"}, "b": False, "c": "", "d": -0.25, "e": 3}]
    expected = [
        {"a": '[["d1", 0.5], ["d2", 1.0]]', "b": "true", "c": "", "d": "1", "e": ""},
        {"a": '{"k": "值"}', "b": "false", "c": "", "d": "-0.25", "e": "3"},
    ]
    for suffix in SUFFIXES:
        write_rows(tmp_path / f"t{suffix}", rows)
        assert read_rows(tmp_path / f"t{suffix}") == expected, suffix


def test_nothing_becomes_a_formula(tmp_path):
    rows = [{"t": "=HYPERLINK(1)"}, {"t": "+1+1"}, {"t": "-1+1"}, {"t": "@a"}, {"t": "-0.5"}]
    write_rows(tmp_path / "t.xlsx", rows)
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    assert [cell.data_type for (cell,) in sheet.iter_rows()] == ["s"] * 6
    write_rows(tmp_path / "t.csv", rows)
    # A plain negative number is no formula and stays a number.
    assert (tmp_path / "t.csv").read_text("utf-8-sig").split() == ["t", "'=HYPERLINK(1)", "'+1+1", "'-1+1", "'@a", "-0.5"]


def test_numbers_can_be_sorted_in_excel(tmp_path):
    write_rows(tmp_path / "t.xlsx", [{"score": 0.75, "id": "12"}])
    cells = next(openpyxl.load_workbook(tmp_path / "t.xlsx").active.iter_rows(min_row=2))
    assert [(cell.value, cell.data_type) for cell in cells] == [(0.75, "n"), ("12", "s")]


def test_a_cell_excel_would_cut_off_is_refused(tmp_path):
    fits, over = "字" * 32_767, "字" * 50_000
    write_rows(tmp_path / "t.xlsx", [{"t": fits}])
    assert read_rows(tmp_path / "t.xlsx") == [{"t": fits}]
    with pytest.raises(BadInput, match=r"big.xlsx: row 3, column t: 50,000 characters, .*write .jsonl instead"):
        write_rows(tmp_path / "big.xlsx", [{"t": "a"}, {"t": over}])
    assert not (tmp_path / "big.xlsx").exists()
    for suffix in (".csv", ".jsonl"):
        write_rows(tmp_path / f"t{suffix}", [{"t": over}])
        assert read_rows(tmp_path / f"t{suffix}") == [{"t": over}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"a", r"\.txt is no table: use \.xlsx, \.csv or \.jsonl"),
        ("t", b"a", "a name without a suffix is no table"),
        ("t.csv", b"", "holds no rows"),
        ("t.csv", b"a,b\n", "holds no rows"),
        ("t.csv", b"a,b\n,\n\n", "holds no rows"),
        ("t.csv", "问题\n".encode("gb18030"), "is not UTF-8: save the file as UTF-8"),
        ("t.csv", b"a,a\n1,2\n", "two columns are named a: rename one"),
        ("t.csv", b"a,\n1,2\n", "column 2 holds values but no name"),
        ("t.csv", b"a\n1,2\n", "column 2 holds values but no name"),
        ("t.csv", b'a\n"unclosed\n', "not readable as CSV"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', r"line 2: '\{\"a\": ' is not JSON .*: write one object a line"),
        ("t.jsonl", b'["a"]\n', "is not an object"),
        ("t.jsonl", b'{"a": "\\ud83d"}\n', "is not JSON .*surrogates"),
        ("t.jsonl", b"[" * 100_000, "is not JSON"),
        ("t.xlsx", b"hello", "not a readable Excel file"),
        ("t.xlsx", b"PK\x03\x04broken", "not a readable Excel file"),
    ],
)
def test_unreadable_tables_are_refused_in_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_rows(tmp_path / name)


def test_absent_file_and_absent_column_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"none.csv: no such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match=r"t.csv: no column c, d; the columns there are a, b"):
        read_rows(tmp_path / "t.csv", required=["a", "c", "d"])


def test_empty_excel_sheet_is_refused(tmp_path):
    openpyxl.Workbook().save(tmp_path / "t.xlsx")
    with pytest.raises(BadInput, match="holds no rows"):
        read_rows(tmp_path / "t.xlsx")


def test_row_numbers_are_those_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n\n3,4\n,\n")
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": 2}\n\n{"a": 3, "b": 4}\n')
    for suffix, number in ((".csv", 4), (".jsonl", 3)):
        rows = read_rows(tmp_path / f"t{suffix}")
        assert rows == [{"a": "1", "b": "2"}, {"a": "", "b": ""}, {"a": "3", "b": "4"}]
        assert row_number(tmp_path / f"t{suffix}", 2) == number


def test_headers_are_trimmed_and_numbers_in_excel_read_as_text(tmp_path):
    book = openpyxl.Workbook()
    book.active.append([" 问题 ", "n", None])
    book.active.append(["NA", 3, None])
    book.active.append([None, 0.5, None])
    book.save(tmp_path / "t.xlsx")
    assert read_rows(tmp_path / "t.xlsx") == [{"问题": "NA", "n": "3"}, {"问题": "", "n": "0.5"}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_leaves_the_old_file_whole_and_nothing_aside(tmp_path, monkeypatch, suffix):
    target = tmp_path / f"t{suffix}"
    write_rows(target, [{"a": "old"}])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left on device; nothing half-written is left there"):
        write_rows(target, [{"a": "new"}])
    assert read_rows(target) == [{"a": "old"}]
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_really_breaks_off_leaves_nothing(tmp_path):
    """A limit on file size makes the kernel cut the write off half-way, as a full disk does."""
    program = (
        "import resource, sys; from overtake import cli; from overtake.data import tables; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "sys.exit(cli.run(lambda: tables.write_rows(sys.argv[1], [{'a': 'x' * 9000}]) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "t.csv")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot write ") and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_files_are_written_all_or_none(tmp_path, monkeypatch):
    calls = []

    def full_at_second(_):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.os, "fsync", full_at_second)
    with pytest.raises(OSError, match=r"b\.jsonl: No space left"):
        tables.write_aside({tmp_path / "a.jsonl": b"1", tmp_path / "b.jsonl": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_checked_before_they_are_paid_for(tmp_path):
    tables.check_output(tmp_path / "new" / "t.xlsx")
    assert not (tmp_path / "new").exists()
    with pytest.raises(BadInput, match="is no table"):
        tables.check_output(tmp_path / "t.parquet")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(BadInput, match="is a folder: name a file"):
        tables.check_output(tmp_path / "d.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is no folder that can be written to"):
        tables.check_output(tmp_path / "file" / "t.csv")


def test_jsonl_is_one_object_a_line_with_every_column(tmp_path):
    write_rows(tmp_path / "t.jsonl", [{"a": "x"}, {"b": 0.5}])
    lines = (tmp_path / "t.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "x", "b": ""}, {"a": "", "b": 0.5}]
