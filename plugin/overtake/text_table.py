"""Rows of cells as aligned lines of text."""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat


def lines(rows: Iterable[Sequence[str]], columns: Sequence[str], ruled: bool = False) -> list[str]:
    """A line for each row; `columns` are format specifications ("<22", ">8"), the last of them for all further cells.

    A cell that is longer than its column pushes the others aside. `ruled` draws a rule below the first row.

    >>> for line in lines([["", "rows", "gain"], ["base", "20", "0.1"]], ("<5", ">5"), ruled=True):
    ...     print(line)
          rows gain
    ---------------
    base    20  0.1
    """
    joined = ["".join(map(format, row, chain(columns, repeat(columns[-1])))) for row in rows]
    return [joined[0], "-" * len(joined[0]), *joined[1:]] if ruled else joined


def fitted(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """A line for each row, each column as wide as its longest cell, two spaces between; `align` is "<" or ">".

    >>> for line in fitted([["step", "total"], ["100", "+0.5"]], ">"):
    ...     print(line)
    step  total
     100   +0.5
    """
    columns = [f"{align}{max(map(len, column))}" for column in zip(*rows, strict=True)]
    return ["  ".join(map(format, row, columns)).rstrip() for row in rows]
