"""The first sheet of an .xlsx file as text, in bounded memory, with ids as they are shown and merged cells filled down.

Own code, for calamine and openpyxl give a bomb all the memory it asks for, calamine hides number formats, and openpyxl's reader in bounded
memory knows no merged cells and stumbles over style sheets of other programs.
"""

import posixpath
import re
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

MOST_BYTES = 400_000_000
"""That a part of the file may unpack to."""
MOST_TEXT = 100_000_000
"""Characters of all cells together."""
MOST_IN_CELL = 1_000_000
"""Characters of one cell; Excel itself keeps 32,767."""
MOST_CELLS = 10_000_000
"""Rows times columns, of those that hold anything."""
_CHUNK = 1 << 16
_REMEDY = "delete what does not belong to the table, or save it as .csv or .jsonl"

Start = Callable[[str, Mapping[str, str]], None]


class _TooLarge(ValueError):
    """What would take more memory than a table does."""


@dataclass
class Sheet:
    """Sheet of an .xlsx file, as text."""

    rows: list[dict[int, str]] = field(default_factory=list)
    """Of each row, by the column's place from 0, the cells that hold anything."""
    across: list[str] = field(default_factory=list)
    """Merged ranges that were not filled, e.g. "B2:D2": over several columns, or in the header."""


def read(path: Path) -> Sheet:
    """The first sheet. Raises ValueError in words for what is no Excel file, or asks for too much memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            book = _Book(archive)
            return _sheet(book)
    except _TooLarge:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, IndexError, ValueError, expat.ExpatError) as error:
        raise ValueError(f"not a readable Excel file ({' '.join(str(error).split())[:120]}): save it as .xlsx again") from None


def place(reference: str) -> tuple[int, int]:
    """Return (row, column) of a cell, both from 0.

    >>> place("A1"), place("XFD1048576")
    ((0, 0), (1048575, 16383))
    """
    letters = reference.rstrip("0123456789")
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    if not 0 < column <= 16_384 or not 0 < (row := int(reference[len(letters) :] or 0)) <= 1_048_576:
        raise ValueError(f"there is no cell {reference[:20]}")
    return row - 1, column - 1


class _Book:
    """The parts of a file that a sheet needs: where it is, its strings and what its number formats show."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.lower(): name for name in archive.namelist()}
        root = self.relations("").get("officeDocument", ["xl/workbook.xml"])[0]
        self.sheet, self.epoch_1904 = "", False
        of_root = self.relations(root)

        def start(tag: str, attributes: Mapping[str, str]) -> None:
            if tag == "sheet" and not self.sheet:
                self.sheet = of_root[next(value for name, value in attributes.items() if name.endswith(" id"))][0]
            elif tag == "workbookPr":
                self.epoch_1904 = attributes.get("date1904", "0") in ("1", "true")

        self.parse(root, start)
        if not self.sheet:
            raise ValueError("it has no sheet")
        strings, styles = of_root.get("sharedStrings"), of_root.get("styles")
        self.strings = self.shared_strings(strings[0]) if strings else []
        self.shown = self.formats(styles[0]) if styles else []

    def relations(self, part: str) -> dict[str, list[str]]:
        """The parts that a part is related to, by the relation's id and by its kind ("styles"); nothing where none are said."""
        folder, name = posixpath.split(part)
        file = posixpath.join(folder, "_rels", f"{name}.rels")
        targets: dict[str, list[str]] = {}

        def start(tag: str, attributes: Mapping[str, str]) -> None:
            if tag == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes["Target"])).lstrip("/")
                for key in (attributes["Id"], attributes["Type"].rpartition("/")[2]):
                    targets.setdefault(key, []).append(target)

        if file.lower() in self.names:
            self.parse(file, start)
        return targets

    def parse(self, part: str, start: Start, end: Callable[[str], None] | None = None, text: Callable[[str], None] | None = None) -> None:
        """Hand the elements of a part over, by names without their namespaces, a piece of the file at a time."""
        info = self.archive.getinfo(self.names[part.lower()])
        if info.file_size > MOST_BYTES:
            raise _TooLarge(f"{part} in it unpacks to {info.file_size / 1e9:.1f} GB, more than {MOST_BYTES / 1e9:.1f}: {_REMEDY}")
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = _no_doctype
        parser.StartElementHandler = lambda name, attributes: start(name[name.rfind(" ") + 1 :], attributes)
        if end:
            parser.EndElementHandler = lambda name: end(name[name.rfind(" ") + 1 :])
        if text:
            parser.CharacterDataHandler = text
        with self.archive.open(info) as file:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)

    def shared_strings(self, part: str) -> list[str]:
        strings: list[str] = []
        collected = _Text()

        def start(tag: str, _: Mapping[str, str]) -> None:
            if tag == "si":
                collected.begin()
            collected.on = tag == "t" and not collected.phonetic
            collected.phonetic |= tag == "rPh"

        def end(tag: str) -> None:
            collected.on = False
            if tag == "rPh":
                collected.phonetic = False
            elif tag == "si":
                strings.append(_unescaped(collected.taken()))

        self.parse(part, start, end, collected.add)
        return strings

    def formats(self, part: str) -> list[Callable[[float], str] | None]:
        """For each style of a cell what it shows of a number; None: the number itself."""
        codes: dict[int, str] = {}
        styles: list[int] = []
        inside = False

        def start(tag: str, attributes: Mapping[str, str]) -> None:
            nonlocal inside
            if tag == "numFmt":
                codes[int(attributes["numFmtId"])] = attributes.get("formatCode", "")
            elif tag == "cellXfs":
                inside = True
            elif tag == "xf" and inside:
                styles.append(int(attributes.get("numFmtId", 0)))

        def end(tag: str) -> None:
            nonlocal inside
            inside = inside and tag != "cellXfs"

        self.parse(part, start, end)
        shown = {number: _shown(number, codes.get(number, ""), self.epoch_1904) for number in set(styles)}
        return [shown[number] for number in styles]


class _Text:
    """Text of a cell, gathered piece by piece."""

    def __init__(self) -> None:
        self.on = self.phonetic = False
        self.pieces: list[str] = []
        self.size = self.total = 0

    def begin(self) -> None:
        self.on = self.phonetic = False
        self.pieces.clear()
        self.size = 0

    def add(self, piece: str) -> None:
        if not self.on:
            return
        self.size += len(piece)
        self.total += len(piece)
        if self.size > MOST_IN_CELL:
            raise _TooLarge(f"a cell holds more than {MOST_IN_CELL:,} characters: {_REMEDY}")
        if self.total > MOST_TEXT:
            raise _TooLarge(f"its cells hold more than {MOST_TEXT:,} characters together: {_REMEDY}")
        self.pieces.append(piece)

    def taken(self) -> str:
        return "".join(self.pieces)


def _sheet(book: _Book) -> Sheet:
    rows: dict[int, dict[int, str]] = {}
    merged: list[str] = []
    columns: set[int] = set()
    text = _Text()
    at = [-1, -1]
    cell = {"t": "n", "s": "0"}

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        text.on = (tag in ("v", "t")) and not text.phonetic
        if tag == "row":
            at[:] = [int(attributes["r"]) - 1 if "r" in attributes else at[0] + 1, -1]
        elif tag == "c":
            text.begin()
            at[:] = place(attributes["r"]) if "r" in attributes else (at[0], at[1] + 1)
            cell["t"], cell["s"] = attributes.get("t", "n"), attributes.get("s", "0")
        elif tag == "rPh":
            text.phonetic = True
        elif tag == "mergeCell":
            merged.append(attributes["ref"])

    def end(tag: str) -> None:
        text.on = False
        if tag == "rPh":
            text.phonetic = False
        elif tag == "c" and (value := _value(book, cell["t"], int(cell["s"]), text.taken())):
            rows.setdefault(at[0], {})[at[1]] = value
            columns.add(at[1])

    book.parse(book.sheet, start, end, text.add)
    height = max(rows, default=-1) + 1
    if height * len(columns) > MOST_CELLS:
        raise _TooLarge(f"it reaches to row {height:,} over {len(columns):,} columns, more than {MOST_CELLS:,} cells: {_REMEDY}")
    across = _fill_down(rows, merged)
    empty: dict[int, str] = {}
    return Sheet([rows.get(number, empty) for number in range(height)], across)


def _fill_down(rows: dict[int, dict[int, str]], merged: list[str]) -> list[str]:
    """Give each row of a range that is merged down a column its value, where the row holds anything else; the ranges left as they are."""
    not_filled = []
    row_numbers = sorted(rows)
    filled = 0
    for reference in merged:
        first, _, last = reference.partition(":")
        (top, column), (bottom, end) = place(first), place(last or first)
        value = rows.get(top, {}).get(column, "")
        if not value:
            continue
        if end > column or top == 0:
            not_filled.append(reference)
        if top == 0 or bottom == top:
            continue
        inside = row_numbers[bisect_right(row_numbers, top) : bisect_right(row_numbers, bottom)]
        filled += len(inside)
        if filled > MOST_CELLS:
            raise _TooLarge(f"its {len(merged):,} merged ranges lie on one another: {_REMEDY}")
        for number in inside:
            rows[number].setdefault(column, value)
    return not_filled


def _value(book: _Book, kind: str, style: int, text: str) -> str:
    """The text of a cell of a kind (t), in a style (s)."""
    if not text or kind == "e":
        return ""  # an error such as #N/A is what a formula could not find
    if kind == "s":
        return book.strings[int(text)]
    if kind == "b":
        return "true" if text.strip() in ("1", "true") else "false"
    if kind != "n":
        return _unescaped(text)
    number = float(text)
    shown = book.shown[style] if style < len(book.shown) else None
    return shown(number) if shown else plain(number)


def plain(number: float) -> str:
    """A number without a needless .0.

    >>> plain(3.0), plain(0.25), plain(1e17)
    ('3', '0.25', '100000000000000000')
    """
    return str(int(number)) if number == number and abs(number) < 1e21 and number == int(number) else repr(number)


_TOKEN = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[[^\]]*\]|([0#?.,])|(.)', re.DOTALL)
"""Words in quotes, a sign behind a backslash; a gap, a filler, a colour or condition; a digit's place; any other sign."""


def _shown(number: int, code: str, epoch_1904: bool) -> Callable[[float], str] | None:
    """What a number format shows of a number, where that is a date, leading zeros or words; None: the number itself will do."""
    if number == 0 and not code:
        return None  # General
    from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format

    code = code or BUILTIN_FORMATS.get(number, "")
    # 27-36 and 50-58 are the dates of East Asian Excels, which no file spells out.
    if 27 <= number <= 36 or 50 <= number <= 58 or is_date_format(code):
        return _date(bool(code) and is_timedelta_format(code), epoch_1904)
    return padded(code)


def _date(duration: bool, epoch_1904: bool) -> Callable[[float], str]:
    import datetime

    from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel

    def shown(number: float) -> str:
        try:
            value = from_excel(number, MAC_EPOCH if epoch_1904 else WINDOWS_EPOCH, duration)
        except (OverflowError, ValueError):
            return plain(number)
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            value = datetime.datetime.combine(value, datetime.time())
        return str(value)

    return shown


def padded(code: str) -> Callable[[float], str] | None:
    """Return what a number format of zeros and words shows of a number, all its decimals kept; None for formats of other kinds.

    >>> [padded(code)(7) for code in ("000", '"Q"0000', "00-00", '0"万元"')]
    ['007', 'Q0007', '00-07', '7万元']
    >>> padded("0.00") is padded("#,##0") is padded("0%") is padded("General") is None
    True
    """
    parts: list[tuple[bool, str]] = []  # (whether it is a digit's place, the sign or the words)
    for match in _TOKEN.finditer(code):
        quoted, escaped, digit, bare = match.groups()
        if bare == ";":
            break  # what follows is for negative numbers
        if digit:
            parts.append((True, digit))
        elif bare and ((bare.isascii() and bare.isalnum()) or bare in "%/@"):
            return None  # a percent, a fraction, an exponent, General
        elif literal := quoted or escaped or bare:
            parts.append((False, literal))
    whole, _, decimals = "".join(sign for is_digit, sign in parts if is_digit).partition(".")
    unquoted = "".join(sign for is_digit, sign in parts if not is_digit)
    if "," in whole or not whole or decimals.strip("0#?"):
        return None
    if whole.count("0") < 2 and not any(sign.isalpha() or sign in "%‰" for sign in unquoted):
        return None
    places = [at for at, (is_digit, _) in enumerate(parts) if is_digit]
    last = places[len(whole) - 1]
    tail = "".join(sign for is_digit, sign in parts[last + 1 :] if not is_digit)

    def shown(number: float) -> str:
        text = plain(abs(number))
        if not text.replace(".", "").isdigit():
            return plain(number)  # an exponent
        digits, _, rest = text.partition(".")
        digits, rest = digits.zfill(whole.count("0")), rest.ljust(decimals.count("0"), "0")
        blocks = [tail, f".{rest}" if rest else ""]
        for at in range(last, -1, -1):  # each place takes a digit from the right, the first place all that are left
            is_digit, sign = parts[at]
            here = digits if at == places[0] else digits[-1:]
            blocks.append(here if is_digit else sign)
            digits = digits[: len(digits) - len(here)] if is_digit else digits
        return ("-" if number < 0 else "") + "".join(reversed(blocks))

    return shown


def _unescaped(text: str) -> str:
    """Excel's own escape for what XML cannot hold, undone."""
    if "_x" not in text:
        return text
    decoded = re.sub(r"_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text)
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _no_doctype(*_: Any) -> None:
    raise ValueError("it holds a document type")
