"""How results show themselves at a prompt and in a notebook: a line, and a table where it is short enough to read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from kktalloc._command import printable

Rows = Sequence[Sequence[str]]
"""A table: the heading, then the rows."""
MOST = 16  # rows; more are left out


class Shown:
    """Of a dataclass that is made with ``repr=False``."""

    @abstractmethod
    def _shown(self) -> tuple[str, Rows]:
        """The line, and the table, which may be empty."""

    def __repr__(self) -> str:
        line, rows = self._shown()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [" ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([f"{type(self).__name__}: {line}", *table])

    def _repr_html_(self) -> str:
        line, rows = self._shown()
        made = f"<p>{type(self).__name__}: {escape(line)}</p>"
        if not rows:
            return made
        head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
        return f"{made}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def number(value: Any) -> str:
    """Four digits, of thousands and millions all; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def span(values: Any) -> str:
    """One number, or the range of several."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return "none"
    low, high = array.min(), array.max()
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def table(first: str, names: Sequence[str], columns: Mapping[str, Any]) -> Rows:
    """A row for each name, at most `MOST` of them; the columns' arrays are as long as the names."""
    arrays = {
        heading: values if isinstance(values, list) else np.asarray(values) for heading, values in columns.items()
    }
    rows = [(first, *arrays)]
    for k, name in enumerate(names[:MOST]):
        rows.append((printable(name), *(printable(number(a[k])) for a in arrays.values())))
    if (rest := len(names) - MOST) > 0:
        rows.append((f"{rest} more", *("" for _ in arrays)))
    return rows


def counted(number_of: int, thing: str) -> str:
    """``1 device``, ``2 devices``."""
    return f"{number_of:,} {thing}{'' if number_of == 1 else 's'}"
