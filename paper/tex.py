"""Numbers and text as LaTeX, and the macros that carry them into the hand-written sources."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kktalloc._durable import write_durably

GENERATED = "% Written by python -m paper; do not edit.\n"
_ESCAPES = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


class Macros:
    """LaTeX macros by name: letters only, each defined once."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Define one; ValueError if LaTeX could not take the name, or it is there already."""
        if not re.fullmatch(r"[A-Za-z]+", name):
            raise ValueError(f"macro name {name!r} must consist of letters")
        if name in self.by_name:
            raise ValueError(f"macro {name!r} is defined twice")
        self.by_name[name] = text

    def update(self, prefix: str, texts: Mapping[str, str]) -> None:
        """Define several that share a prefix."""
        for name, text in texts.items():
            self.add(prefix + name, text)

    def write(self, path: Path) -> None:
        """Write the definitions, atomically."""
        lines = [rf"\newcommand{{\{name}}}{{{text}}}" for name, text in self.by_name.items()]
        write_durably(path, GENERATED + "\n".join(lines) + "\n")


def escape(text: str) -> str:
    """Plain text as LaTeX sets it, with the few signs that results files use."""
    text = text.translate(_ESCAPES)
    for sign, tex in (("−", "$-$"), ("<=", r"$\leq$"), (">=", r"$\geq$"), ("|", "$|$"), ("²", "$^2$")):
        text = text.replace(sign, tex)
    return text


def fixed(value: float, digits: int = 0) -> str:
    """A number with that many decimals, thousands set off, a true minus sign and no negative zero."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace(",", "{,}").replace("-", "$-$")


def significant(value: float, digits: int = 2) -> str:
    """A number to that many significant digits, as a power of ten where it is very large or small."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if not -4 <= size < 6:
        mantissa = f"{value / 10.0**size:.{digits - 1}f}"
        return rf"\ensuremath{{{mantissa}\cdot 10^{{{size}}}}}" if digits > 1 else power(value)
    return fixed(round(value, digits - 1 - size), max(0, digits - 1 - size))


def power(value: float) -> str:
    """The power of ten next above: what a residual is at most."""
    return rf"\ensuremath{{10^{{{math.ceil(math.log10(value) - 1e-9)}}}}}"


def between(low: str, high: str) -> str:
    """``34 to 46``, or the one number if they read alike."""
    return low if low == high else f"{low} to {high}"


def table(columns: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A booktabs tabular of cells that are LaTeX already; a row of one cell spans all columns."""
    lines = [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    for row in rows:
        if len(row) == 1:
            lines.append(rf"\addlinespace \multicolumn{{{len(head)}}}{{@{{}}l}}{{\emph{{{row[0]}}}}} \\")
        else:
            lines.append(" & ".join(row) + r" \\")
    return GENERATED + "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
