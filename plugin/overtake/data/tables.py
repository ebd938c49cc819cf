"""Tables of text: the one reader of .xlsx, .csv, .jsonl, .json and .parquet, and the writer of the first three."""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from overtake.data import excel, outputs
from overtake.data.cells import cell
from overtake.data.outputs import BadInput, write_aside

CELL_LIMIT = 32_767
"""Characters that Excel keeps in a cell; it cuts off the rest without a word."""
_WRITTEN = (".xlsx", ".csv", ".jsonl")
READ = (".jsonl", ".json", ".parquet", ".csv", ".xlsx")
"""Suffixes, in small letters, of what `read_rows` reads."""
# What a spreadsheet runs as a formula, in any width, or strips until it is one.
_BEGINS = r"[\s\0\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff=+\-@＝＋－＠﹦﹢﹣﹫]"
_FORMULA, _QUOTED_FORMULA = re.compile(f"'*{_BEGINS}"), re.compile(f"'+{_BEGINS}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"


def suffix(path: Path | str) -> str:
    """The suffix of a path in small letters."""
    return Path(path).suffix.lower()


def read_rows(path: Path | str, *, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a table (an Excel file's first sheet), every cell as text: an empty cell and NaN are "", and "NA" stays "NA".

    Blanks around the names of columns are taken off. Rows at the end that hold nothing are left out; those between stay, so that row
    numbers are the file's own (`row_number`). A file that this run writes is refused.
    Raises BadInput when the file is absent, cannot be read, has no rows or lacks a `required` column.
    """
    path = _readable(Path(path))
    of_kind = {".xlsx": _read_excel, ".csv": _read_csv}.get(suffix(path))
    rows = of_kind(path) if of_kind else _as_text(path, list(_values(path)))
    while rows and not any(rows[-1].values()):
        rows.pop()
    if not rows:
        raise BadInput(f"{path}: the table holds no rows: fill it, or save the sheet that does as the first one")
    missing = [name for name in required if name not in rows[0]]
    if missing:
        raise BadInput(f"{path}: no column {', '.join(missing)}; the columns there are {', '.join(rows[0])}")
    return rows


def read_objects(path: Path | str) -> Iterator[dict[str, Any]]:
    """The rows of a table with their values as they are, one by one; a blank line of a .jsonl file is an empty row.

    Lines end at newlines alone, not at U+2028 and the like. Raises BadInput naming the line that is no object.
    """
    path = Path(path)
    outputs.finish(path.parent)
    return iter(read_rows(path)) if suffix(path) in (".xlsx", ".csv") else _values(path)


def row_number(path: Path | str, index: int) -> int:
    """The number a reader of the file sees beside row `index`: a sheet's first row is 2, for the header stands above it."""
    return index + (2 if suffix(path) in (".xlsx", ".csv") else 1)


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whose columns are those of all rows, in order of appearance; lists and dicts become JSON text.

    Raises BadInput for a cell that Excel would cut off. Text that looks like a formula stays text in every format. Half of a surrogate
    pair, which no file can hold, becomes U+FFFD.
    """
    path = Path(path)
    encode = {".xlsx": _excel, ".csv": _csv, ".jsonl": _jsonl}[_suffix(path, _WRITTEN)]
    check_cells(path, rows)
    write_aside({path: encode(list(dict.fromkeys(name for row in rows for name in row)), rows)})


def check_output(path: Path | str) -> None:
    """Say that this run will write a table, before anything is paid for.

    Raises BadInput or OSError when nothing could be written to `path`, and when it is what this run reads.
    """
    path = Path(path)
    _suffix(path, _WRITTEN)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name a file")
    _check_folder(path.parent)
    outputs.declare(path)


def check_cells(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise BadInput when an Excel file cannot hold a cell of these rows whole."""
    if suffix(path) != ".xlsx":
        return
    for number, row in enumerate(rows, 2):
        for name, value in row.items():
            if len(text := cell(value)) > CELL_LIMIT:
                raise BadInput(
                    f"{path}: row {number}, column {name}: {len(text):,} characters, and Excel keeps {CELL_LIMIT:,}: write .jsonl instead"
                )


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, one a line, nested values left as they are; half of a surrogate pair becomes U+FFFD."""
    return _sound("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)).encode()


def excel_cell(sheet: Any, value: Any) -> Any:
    """Return what openpyxl writes for a value into a write-only sheet: a number, or text as it is, also where it looks like a formula."""
    from openpyxl.cell import WriteOnlyCell

    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value  # a number, so that the column can be sorted and averaged
    styled = WriteOnlyCell(sheet, _xml(_sound(cell(value))))
    styled.data_type = "s"  # else openpyxl makes "=1+1" a formula and "#N/A" an error
    return styled


def _suffix(path: Path, suffixes: Sequence[str]) -> str:
    if (ending := suffix(path)) not in suffixes:
        raise BadInput(f"{path}: {path.suffix or 'a name without a suffix'} is no table: use .xlsx, .csv or .jsonl")
    return ending


def _readable(path: Path) -> Path:
    _suffix(path, READ)
    outputs.reading(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file: correct the path")
    return path


def _check_folder(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(f"{folder} is no folder that can be written to: choose another place for the output")


def _read_excel(path: Path) -> list[dict[str, str]]:
    try:
        sheet = excel.read(path)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    if sheet.across:
        many = f"{', '.join(sheet.across[:3])}{', …' if len(sheet.across) > 3 else ''}"
        print(f"{path}: cells merged over several columns or in the header ({many}) count once, in their first place", file=sys.stderr)
    return _named(path, sheet.rows)


def _read_csv(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    raw = path.read_bytes()
    _refuse_utf16(path, raw[:4096])
    try:
        lines = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}: not readable as CSV ({error}): save it as CSV with commas again") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(f"{path}: line {_line_of(error)}", error) from None
    return _named(path, [dict(enumerate(text[1:] if _QUOTED_FORMULA.match(text) else text for text in line)) for line in lines])


def _values(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl, .json or .parquet file; a .json file holds a list of them, or several, one a line."""
    if suffix(path) == ".parquet":
        yield from _of_parquet(path)
    elif suffix(path) == ".json" and (listed := _of_list(path)) is not None:
        yield from listed
    else:
        for number, line in _lines(path):
            yield _object(f"{path}: line {number}", line)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                _refuse_utf16(path, raw[:4096])
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise _not_utf8(f"{path}: line {number}", error) from None


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line) if line.strip() else {}
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair cannot be sent or written
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {line[:60]!r} is not JSON ({error}): write one object a line") from None
    if not isinstance(row, dict):
        raise BadInput(f"{where}: {line[:60]!r} is not an object: write one object a line")
    return row


def _of_list(path: Path) -> list[dict[str, Any]] | None:
    """The objects of a .json file that is one list; None for one that holds several values."""
    raw = path.read_bytes()
    _refuse_utf16(path, raw[:4096])
    try:
        text = raw.decode("utf-8-sig")
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _not_utf8(f"{path}: line {_line_of(error)}", error) from None
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "{":
            return None
        raise BadInput(f"{path}: not readable ({error}): save it as .jsonl, one object a line") from None
    if not isinstance(values, list):
        raise BadInput(f"{path}: no list of objects: save it as .jsonl, one object a line")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise BadInput(f"{path}: item {number}, {json.dumps(value)[:60]}, is not an object: save it as .jsonl, one object a line")
    return values


def _of_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(path).to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{path}: not a readable parquet file ({reason}): save it as .jsonl, one object a line") from None


def _as_text(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    names = {name: _name(str(name)) for row in rows for name in row}
    for name in (fields := list(names.values())):
        if fields.count(name) > 1:
            raise BadInput(f"{path}: two columns are named {name}: rename one")
    return [{short: cell(row.get(name)) for name, short in names.items()} for row in rows]


def _refuse_utf16(path: Path, head: bytes) -> None:
    """Text of Latin letters in UTF-16 without a mark is UTF-8 by its bytes, with a NUL behind or before each letter."""
    halves = (head[0::2].count(0), head[1::2].count(0))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (min(halves) == 0 and len(head) > 3 and max(halves) > 0.4 * len(head) / 2):
        raise BadInput(f"{path}: line 1: it is UTF-16 and not UTF-8: save the file as UTF-8 (Excel: CSV UTF-8)")


def _line_of(error: UnicodeDecodeError) -> int:
    return error.object.count(b"\n", 0, error.start) + 1


def _not_utf8(where: str, error: UnicodeDecodeError) -> BadInput:
    wrong = error.object[error.start]
    return BadInput(f"{where}: byte 0x{wrong:02x} is not UTF-8: save the file as UTF-8 (Excel: CSV UTF-8)")


def _named(path: Path, lines: Sequence[Mapping[int, str]]) -> list[dict[str, str]]:
    """Rows under the header that stands in the first line; columns without name or content are left out, and pandas' index."""
    if not lines:
        return []
    names = {at: name for at, text in lines[0].items() if (name := _name(text))}
    if 0 not in names and [line.get(0) for line in lines[1:]] == [str(number) for number in range(len(lines) - 1)]:
        lines = [{at: text for at, text in line.items() if at} for line in lines]
    for at in sorted(names.keys() | {at for line in lines[1:] for at, text in line.items() if text}):
        if at not in names:
            raise BadInput(f"{path}: column {at + 1} holds values but no name in the first row: name it or empty it")
        if names[at] in [names[other] for other in names if other < at]:
            raise BadInput(f"{path}: two columns are named {names[at]}: rename one")
    columns = sorted(names)
    return [{names[at]: line.get(at, "") for at in columns} for line in lines[1:]]


def _name(text: str) -> str:
    """A column's name without the blanks around it, seen or not."""
    return text.strip().strip(_INVISIBLE).strip()


def _excel(names: list[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    sheet.append([excel_cell(sheet, name) for name in names])
    for row in rows:
        sheet.append([excel_cell(sheet, row.get(name)) for name in names])
    memory = io.BytesIO()
    book.save(memory)
    return memory.getvalue()


def _xml(text: str) -> str:
    """Excel's own escape for what XML cannot hold, so that every character comes back."""
    text = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: f"_x{ord(match[0]):04X}_", text).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})


def _csv(names: list[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    def made(text: str) -> str:
        # The quote keeps it text, and `read_rows` takes it off again.
        return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text

    memory = io.StringIO(newline="")
    writer = csv.writer(memory)
    writer.writerow([made(name) for name in names])
    writer.writerows([made(cell(row.get(name))) for name in names] for row in rows)
    return _sound(memory.getvalue()).encode("utf-8-sig")  # the mark tells Excel that this is UTF-8


def _jsonl(names: list[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    as_number: Callable[[Any], bool] = lambda value: isinstance(value, int | float) and value == value  # noqa: E731
    return json_lines({name: row[name] if as_number(row.get(name)) else cell(row.get(name)) for name in names} for row in rows)


def _sound(text: str) -> str:
    """`text` without halves of surrogate pairs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATE.search(text) else text
