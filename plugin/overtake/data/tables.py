"""Tables of text: read and write .xlsx, .csv and .jsonl with the same columns and cells in each, never half-written."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

CELL_LIMIT = 32_767
"""Characters that Excel keeps in a cell; it cuts off the rest without a word."""
_FORMULA = re.compile(r"'*[=+\-@]")
_QUOTED_FORMULA = re.compile(r"'+[=+\-@]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


class BadInput(ValueError):
    """What was given cannot be used; the message names the file, the thing, its value and the remedy."""


def read_rows(path: Path | str, *, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a table (an Excel file's first sheet), every cell as text: an empty cell is "", and "NA" stays "NA".

    Rows at the end that hold nothing are left out; those between stay, so that row numbers are the sheet's own (`row_number`).
    Raises BadInput when the file is absent, cannot be read, has no rows or lacks a `required` column.
    """
    path = Path(path)
    reader = {".xlsx": _read_excel, ".csv": _read_csv, ".jsonl": _read_jsonl}[_suffix(path)]
    if not path.is_file():
        raise BadInput(f"{path}: no such file: correct the path")
    rows = reader(path)
    while rows and not any(rows[-1].values()):
        rows.pop()
    if not rows:
        raise BadInput(f"{path}: the table holds no rows: fill it, or save the sheet that does as the first one")
    missing = [name for name in required if name not in rows[0]]
    if missing:
        raise BadInput(f"{path}: no column {', '.join(missing)}; the columns there are {', '.join(rows[0])}")
    return rows


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file with their values as they are, one for each line; a blank line is an empty one.

    Raises BadInput naming the line that is no object.
    """
    return [_object(f"{path}: line {number}", line) for number, line in enumerate(_utf8(path).split("\n"), 1)]


def row_number(path: Path | str, index: int) -> int:
    """The number a reader of the file sees beside row `index`: a sheet's first row is 2, for the header stands above it."""
    return index + (1 if Path(path).suffix == ".jsonl" else 2)


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whose columns are those of all rows, in order of appearance; lists and dicts become JSON text.

    Raises BadInput for a cell that Excel would cut off. Text that looks like a formula stays text in every format.
    """
    path = Path(path)
    encode = {".xlsx": _excel, ".csv": _csv, ".jsonl": _jsonl}[_suffix(path)]
    check_cells(path, rows)
    write_aside({path: encode(list(dict.fromkeys(name for row in rows for name in row)), rows)})


def check_output(path: Path | str) -> None:
    """Raise BadInput or OSError now if nothing could be written to `path` later, when it would have been paid for."""
    path = Path(path)
    _suffix(path)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name a file")
    _check_folder(path.parent)


def check_cells(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise BadInput when an Excel file cannot hold a cell of these rows whole."""
    if Path(path).suffix != ".xlsx":
        return
    for number, row in enumerate(rows, 2):
        for name, value in row.items():
            if len(text := cell(value)) > CELL_LIMIT:
                raise BadInput(
                    f"{path}: row {number}, column {name}: {len(text):,} characters, and Excel keeps {CELL_LIMIT:,}: write .jsonl instead"
                )


def write_aside(files: Mapping[Path, bytes]) -> None:
    """Write all files under other names, then give them their own: each is there whole or not at all.

    Raises OSError naming the file, with nothing left aside.
    """
    asides = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    path = Path()
    try:
        for path, aside in asides.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for path, aside in asides.items():
            aside.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; nothing half-written is left there") from error
    finally:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()


def cell(value: Any) -> str:
    """The text of a cell: JSON for lists and dicts, "true" and "false", "" for None, numbers without a needless .0.

    >>> [cell(x) for x in (None, True, 1.0, 0.25, ["a", 1], "NA")]
    ['', 'true', '1', '0.25', '["a", 1]', 'NA']
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return json.dumps(value, ensure_ascii=False)


def _suffix(path: Path) -> str:
    if path.suffix not in (".xlsx", ".csv", ".jsonl"):
        raise BadInput(f"{path}: {path.suffix or 'a name without a suffix'} is no table: use .xlsx, .csv or .jsonl")
    return path.suffix


def _check_folder(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(f"{folder} is no folder that can be written to: choose another place for the output")


def _read_excel(path: Path) -> list[dict[str, str]]:
    import pandas as pd  # half a second of import that .jsonl need not pay
    from python_calamine import CalamineError

    try:
        frame = pd.read_excel(path, header=None, dtype=str, keep_default_na=False, engine="calamine")
    except (CalamineError, ValueError) as error:
        raise BadInput(f"{path}: not a readable Excel file ({error}): save it as .xlsx again") from None
    return _named(path, frame.to_numpy().tolist())


def _read_csv(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    try:
        lines = list(csv.reader(io.StringIO(_utf8(path), newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}: not readable as CSV ({error}): save it as CSV with commas again") from None
    return _named(path, [[text[1:] if _QUOTED_FORMULA.match(text) else text for text in line] for line in lines])


def _read_jsonl(path: Path) -> list[dict[str, str]]:
    rows = read_objects(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: cell(row.get(name)) for name in names} for row in rows]


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line) if line.strip() else {}
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair cannot be sent or written
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {line[:60]!r} is not JSON ({error}): write one object a line") from None
    if not isinstance(row, dict):
        raise BadInput(f"{where}: {line[:60]!r} is not an object: write one object a line")
    return row


def _utf8(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8 (Excel: CSV UTF-8)") from None


def _named(path: Path, lines: list[list[str]]) -> list[dict[str, str]]:
    """Rows under the header that stands in the first line; columns without name or content are left out."""
    if not lines:
        return []
    width = max(map(len, lines))
    lines = [line + [""] * (width - len(line)) for line in lines]
    names = [name.strip() for name in lines[0]]
    kept = [i for i in range(width) if names[i] or any(line[i] for line in lines[1:])]
    for i in kept:
        if not names[i]:
            raise BadInput(f"{path}: column {i + 1} holds values but no name in the first row: name it or empty it")
        if names[i] in names[:i]:
            raise BadInput(f"{path}: two columns are named {names[i]}: rename one")
    return [{names[i]: line[i] for i in kept} for line in lines[1:]]


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


def excel_cell(sheet: Any, value: Any) -> Any:
    """What openpyxl writes for a value into a write-only sheet: a number, or text as it is, also where it looks like a formula."""
    from openpyxl.cell import WriteOnlyCell

    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value  # a number, so that the column can be sorted and averaged
    made = WriteOnlyCell(sheet, _xml(cell(value)))
    made.data_type = "s"  # else openpyxl makes "=1+1" a formula and "#N/A" an error
    return made


def _xml(text: str) -> str:
    """Excel's own escape for what XML cannot hold, so that every character comes back."""
    text = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f]", lambda found: f"_x{ord(found[0]):04X}_", text).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})


def _csv(names: list[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    def made(text: str) -> str:
        # A spreadsheet runs =, +, - and @ as formulas; the quote keeps it text, and `read_rows` takes it off again.
        return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text

    memory = io.StringIO(newline="")
    writer = csv.writer(memory)
    writer.writerow([made(name) for name in names])
    writer.writerows([made(cell(row.get(name))) for name in names] for row in rows)
    return memory.getvalue().encode("utf-8-sig")  # the mark tells Excel that this is UTF-8


def _jsonl(names: list[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    plain: Callable[[Any], Any] = lambda value: cell(value) if isinstance(value, list | dict) or value is None else value  # noqa: E731
    return json_lines({name: plain(row.get(name)) for name in names} for row in rows)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, one a line, nested values left as they are."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
