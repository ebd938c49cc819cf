"""An Excel sheet is read as a spreadsheet shows it: merged cells, ids with zeros, dates; and a bomb ends in one line, within 1 GB."""

import datetime
import random
import subprocess
import sys
import zipfile

import openpyxl
import pytest
from overtake.data.excel import padded
from overtake.data.tables import BadInput, read_rows, write_rows
from overtake.tasks.query_rewrite.generate import usable_rows

PARTS = {
    "[Content_Types].xml": "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>",
    "_rels/.rels": "<Relationships><Relationship Id='r' Type='x/officeDocument' Target='xl/workbook.xml'/></Relationships>",
    "xl/workbook.xml": "<workbook xmlns:r='rel'><sheets><sheet name='s' sheetId='1' r:id='a'/></sheets></workbook>",
    "xl/_rels/workbook.xml.rels": "<Relationships><Relationship Id='a' Type='x/worksheet' Target='worksheets/sheet1.xml'/>"
    "<Relationship Id='b' Type='x/sharedStrings' Target='sharedStrings.xml'/></Relationships>",
    "xl/sharedStrings.xml": "<sst><si><t>问题</t></si></sst>",
    "xl/worksheets/sheet1.xml": "<worksheet><sheetData><row r='1'><c r='A1' t='s'><v>0</v></c></row></sheetData></worksheet>",
}


def book(path, **parts):
    """A file of those parts, and others in place of some of them: `sheet1="<worksheet>..."`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in PARTS.items():
            archive.writestr(name, parts.get(name.rpartition("/")[2].partition(".")[0], content))
    return path


def sheet(path, rows, merged=(), formats=()):
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    for one in merged:
        made.active.merge_cells(one)
    for place, code in formats:
        made.active[place].number_format = code
    made.save(path)
    return path


def test_f26_a_cell_merged_down_a_column_holds_in_each_of_its_rows(tmp_path, capsys):
    rows = [["问题", "用户画像"], ["头发干枯怎么办", "29岁男性"], ["掉发怎么办", None], ["失眠怎么办", "61岁女性"]]
    path = sheet(tmp_path / "merged.xlsx", rows, ["B2:B3"])
    assert [row["用户画像"] for row in read_rows(path)] == ["29岁男性", "29岁男性", "61岁女性"]
    assert [row["user_profile"] for row in usable_rows(path, read_rows(path), "问题", "fivedoctors")[0]] == [
        "29岁男性",
        "29岁男性",
        "61岁女性",
    ]
    assert capsys.readouterr().err == ""


def test_f26_a_merged_cell_makes_no_rows_of_its_own_and_what_is_merged_across_is_told(tmp_path, capsys):
    path = sheet(tmp_path / "m.xlsx", [["a", "b", "c"], ["x", "y", "z"], ["u"]], ["A2:A3", "B2:B9", "C2:C3", "A5:C6"])
    assert read_rows(path) == [{"a": "x", "b": "y", "c": "z"}]
    path = sheet(tmp_path / "across.xlsx", [["a", "b", "c"], ["x", "y", "z"], ["1", "2", "3"]], ["B2:C2"])
    assert read_rows(path) == [{"a": "x", "b": "y", "c": ""}, {"a": "1", "b": "2", "c": "3"}]
    assert (
        capsys.readouterr().err == f"{path}: cells merged over several columns or in the header (B2:C2) count once, in their first place\n"
    )


def test_f26_random_merged_ranges_fill_down_as_a_reader_fills_them(tmp_path):
    """500 ranges in 50 sheets."""
    rng = random.Random(26)
    for number in range(50):
        wanted, ranges = [[f"r{row}c{column}" for column in range(10)] for row in range(30)], []
        for column in range(10):
            top = rng.randint(0, 20)
            bottom = top + rng.randint(1, 8)
            ranges.append(f"{'ABCDEFGHIJ'[column]}{top + 2}:{'ABCDEFGHIJ'[column]}{bottom + 2}")
            for row in range(top, bottom + 1):
                wanted[row][column] = wanted[top][column]
        rows = [[f"c{column}" for column in range(10)], *([f"r{row}c{column}" for column in range(10)] for row in range(30))]
        path = sheet(tmp_path / f"{number}.xlsx", [[*row, "held"] for row in rows], ranges)
        assert [[row[f"c{column}"] for column in range(10)] for row in read_rows(path)] == wanted


def test_f27_a_number_shown_with_zeros_or_words_is_read_as_shown(tmp_path):
    cases = [
        (1, "000", "001"),
        (42, "00000", "00042"),
        (7, '"Q"000', "Q007"),
        (1234, "000", "1234"),
        (13800138000, "000-0000-0000", "138-0013-8000"),
        (7, "00\\-00", "00-07"),
        (8, '0"万元"', "8万元"),
        (1.25, '0.00"亿元"', "1.25亿元"),
        (-3, "000", "-003"),
        (5, "000;[Red]-000", "005"),
        (1.5, "000", "001.5"),
        # As before: the number itself.
        (0.125, "0.0%", "0.125"),
        (1.5, "0.00", "1.5"),
        (1234.5, "#,##0.00", "1234.5"),
        (3, "General", "3"),
        (1e17, "0", "100000000000000000"),
        (12, "@", "12"),
        (0.5, "# ?/?", "0.5"),
        (1200, "0.00E+00", "1200"),
    ]
    formats = [(f"A{at}", code) for at, (_, code, _) in enumerate(cases, 2)]
    path = sheet(tmp_path / "f.xlsx", [["编号"], *([value] for value, *_ in cases)], formats=formats)
    assert [row["编号"] for row in read_rows(path)] == [text for *_, text in cases]
    assert usable_rows(path, [{"问题": "怎么吃", "编号": "001"}], "问题", "fivedoctors")[0][0]["query_id"] == "001"


def test_f27_random_formats_of_zeros_lose_no_digit():
    """1,000 formats and numbers: what is shown holds the number's digits, at least as many as there are zeros."""
    rng = random.Random(27)
    for _ in range(1000):
        zeros, number, before = rng.randint(2, 12), rng.randint(0, 10 ** rng.randint(1, 12)), rng.choice(["", '"编"', "\\A", '"No"'])
        code = before + "0" * zeros
        if rng.random() < 0.5:
            at = len(code) - rng.randint(1, zeros - 1)
            code = f"{code[:at]}-{code[at:]}"
        said = padded(code)(number)
        digits = said.translate({ord(sign): None for sign in "编ANo-"})
        assert int(digits) == number and len(digits) == max(zeros, len(str(number))), (code, number, said)
        assert said.startswith(before.strip('"\\'))


def test_dates_times_truths_and_errors_are_read_in_words(tmp_path):
    day = datetime.datetime(2024, 1, 31, 8, 30)
    values = [day.date(), day, day.time(), datetime.timedelta(hours=30), True, False, 3, 2.5, "=1+1", "#N/A"]
    made = openpyxl.Workbook()
    for value in ["v", *values]:
        made.active.append([value, "held"])
    made.active["A11"].data_type = "e"
    made.save(tmp_path / "d.xlsx")
    wanted = ["2024-01-31 00:00:00", "2024-01-31 08:30:00", "08:30:00", "1 day, 6:00:00", "true", "false", "3", "2.5", "", ""]
    assert [row["v"] for row in read_rows(tmp_path / "d.xlsx")] == wanted


def test_rich_text_phonetic_guides_and_missing_references_are_understood(tmp_path):
    strings = "<sst><si><r><t>问</t></r><r><t>题</t></r><rPh><t>wen</t></rPh></si><si><t>a_x000D_b_x005F_x0041_</t></si></sst>"
    rows = (
        "<worksheet><sheetData><row><c t='s'><v>0</v></c></row><row><c t='s'><v>1</v></c></row>"
        "<row><c t='inlineStr'><is><t>in</t></is></c></row><row><c t='str'><f>A1</f><v>of a formula</v></c></row></sheetData></worksheet>"
    )
    path = book(tmp_path / "r.xlsx", sharedStrings=strings, sheet1=rows)
    assert [row["问题"] for row in read_rows(path)] == ["a\rb_x0041_", "in", "of a formula"]


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("sheet1", "<worksheet><sheetData>", "not a readable Excel file"),
        ("sheet1", "<!DOCTYPE a [<!ENTITY b 'c'>]><worksheet/>", "it holds a document type"),
        ("sheet1", "<worksheet><sheetData><row><c r='ZZZZ1'><v>1</v></c></row></sheetData></worksheet>", "there is no cell ZZZZ1"),
        ("sheet1", "<worksheet><sheetData><row><c r='A1' t='s'><v>7</v></c></row></sheetData></worksheet>", "not a readable Excel file"),
        ("sheet1", "<worksheet><sheetData><row><c r='A1'><v>x</v></c></row></sheetData></worksheet>", "not a readable Excel file"),
        ("workbook", "<workbook/>", "it has no sheet"),
    ],
)
def test_a_broken_sheet_is_refused_in_words(tmp_path, part, content, words):
    with pytest.raises(BadInput, match=r"b\.xlsx: .*" + words):
        read_rows(book(tmp_path / "b.xlsx", **{part: content}))


FAR = (
    "<worksheet><sheetData><row r='1'><c r='A1' t='s'><v>0</v></c>{}</row>"
    "<row r='1048576'><c r='XFD1048576'><v>1</v></c></row></sheetData></worksheet>"
)


def huge(path):
    """A text of 3 GB in a few MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in PARTS.items():
            if not name.endswith("sharedStrings.xml"):
                archive.writestr(name, content)
        with archive.open("xl/sharedStrings.xml", "w", force_zip64=True) as file:
            file.write(b"<sst><si><t>")
            for _ in range(3 * 64):
                file.write(b"a" * (1 << 24))
            file.write(b"</t></si></sst>")
    return path


def named(path):
    """A sheet of 25 named columns that reaches to the last row."""
    names = "".join(f"<c r='{letter}1' t='inlineStr'><is><t>{letter}</t></is></c>" for letter in "BCDEFGHIJKLMNOPQRSTUVWXYZ")
    return book(path, sheet1=FAR.format(names))


def merged(path):
    """Twenty thousand merged ranges on the same cells."""
    ranges = "<mergeCell ref='A2:A1048576'/>" * 20_000
    held = "".join(f"<row r='{row}'><c r='A{row}'><v>1</v></c><c r='B{row}'><v>1</v></c></row>" for row in range(1, 5_000))
    return book(path, sheet1=f"<worksheet><sheetData>{held}</sheetData><mergeCells>{ranges}</mergeCells></worksheet>")


BOMBS = [
    pytest.param(lambda path: book(path, sheet1=FAR.format("")), "column 16384 holds values but no name", id="a far cell"),
    pytest.param(named, "more than 10,000,000 cells", id="far named columns"),
    pytest.param(huge, "unpacks to 3.2 GB", id="one cell of 3 GB", marks=pytest.mark.slow),
    pytest.param(
        lambda path: book(path, sharedStrings=f"<sst><si><t>{'a' * 300_000_000}</t></si></sst>"),
        "a cell holds more than 1,000,000 characters",
        id="one cell of 300 MB",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        lambda path: book(path, sharedStrings="<sst>" + f"<si><t>{'字' * 900_000}</t></si>" * 130 + "</sst>"),
        "its cells hold more than 100,000,000 characters together",
        id="many long cells",
        marks=pytest.mark.slow,
    ),
    pytest.param(merged, "merged ranges lie on one another", id="merged ranges"),
]


@pytest.mark.parametrize(("made", "words"), BOMBS)
def test_a_bomb_ends_in_one_error_line_within_one_gigabyte(tmp_path, made, words):
    path = made(tmp_path / "bomb.xlsx")
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); from overtake import cli; "
        "from overtake.data.tables import read_rows; sys.exit(cli.run(lambda: print(len(read_rows(sys.argv[1]))) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[-500:]
    assert done.stderr.startswith(f"error: {path}: ") and words in done.stderr


def test_a_text_that_60000_cells_refer_to_is_held_once(tmp_path):
    rows = "".join(f"<row r='{row}'><c r='A{row}' t='s'><v>0</v></c></row>" for row in range(1, 60_001))
    path = book(
        tmp_path / "refer.xlsx",
        sharedStrings=f"<sst><si><t>{'字' * 30_000}</t></si></sst>",
        sheet1=f"<worksheet><sheetData>{rows}</sheetData></worksheet>",
    )
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
        "from overtake.data.tables import read_rows; print(len(read_rows(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "59999\n"), done.stderr[-500:]


def test_a_wide_sheet_of_our_own_comes_back(tmp_path):
    rows = [{f"c{column}": f"{row}-{column}" for column in range(200)} for row in range(50)]
    write_rows(tmp_path / "wide.xlsx", rows)
    assert read_rows(tmp_path / "wide.xlsx") == rows
