"""How statements are written for people: plain text and LaTeX, with named parts abbreviated.

Round and chance are understood, so their indices are left out. Display only: the checker sees the full
expressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from kktalloc.proof._language import Claim, Expr, Index, Signature, Total

_HIDDEN = {"t", "w"}
_CHANCE = "w"


@dataclass(frozen=True)
class Abbreviation:
    """A named part: its expression, its plain and LaTeX form, and what it is."""

    expr: Expr
    plain: str
    latex: str
    text: str


class _Plain(StrPrinter):  # type: ignore[misc]
    def __init__(self, averaged: frozenset[str]) -> None:
        super().__init__()
        self._averaged = averaged

    def _print_Total(self, expr: Any) -> str:  # noqa: N802 - SymPy's naming
        body, index = expr.args
        if index.name == _CHANCE:
            return f"E[{self._print(body)}]"
        return f"{'avg' if index.name in self._averaged else 'sum'}_{index.name}({self._print(body)})"

    def _print_Function(self, expr: Any) -> str:  # noqa: N802
        shown = [index.name for index in expr.args if index.name not in _HIDDEN]
        return str(expr.func.__name__) + (f"[{','.join(shown)}]" if shown else "")

    def _print_Same(self, expr: Any) -> str:  # noqa: N802
        return f"[{expr.args[0]}={expr.args[1]}]"


class _Latex(LatexPrinter):  # type: ignore[misc]
    def __init__(self, names: Mapping[str, str], averaged: frozenset[str]) -> None:
        super().__init__({"symbol_names": {sympy.Symbol(name): tex for name, tex in names.items()}})
        self._names = names
        self._averaged = averaged

    def operator(self, index: Expr) -> str:
        """The sign of a total over an index, to be put before its body."""
        if index.name == _CHANCE:
            return r"\mathbb{E}\,"
        name = self._names[index.name]
        return rf"\int_0^1 \mathrm{{d}}{name}\," if index.name in self._averaged else rf"\sum_{{{name}}} "

    def _print_Total(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        body, index = expr.args
        inner = self._print(body)
        if index.name == _CHANCE:
            text = rf"\mathbb{{E}}\left[{inner}\right]"
        else:
            text = self.operator(index) + self.parenthesize(body, 50)
            if exp is not None:
                text = rf"\left({text}\right)"
        return text if exp is None else f"{text}^{{{exp}}}"

    def _print_Function(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        shown = [self._names[index.name] for index in expr.args if index.name not in _HIDDEN]
        text = self._names[expr.func.__name__]
        if shown:
            text = rf"{{{text}}}_{{{','.join(shown)}}}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def _print_Same(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        text = r"\delta_{" + ",".join(self._names[index.name] for index in expr.args) + "}"
        return text if exp is None else f"{text}^{{{exp}}}"


class Notation:
    """Prints expressions of one signature."""

    def __init__(self, signature: Signature, abbreviations: tuple[Abbreviation, ...] = ()) -> None:
        self._parts = {a.expr: sympy.Symbol(a.plain) for a in abbreviations}
        averaged = frozenset(name for name, sort in signature.indices.items() if sort.size == 1)
        self._plain = _Plain(averaged)
        self._latex = _Latex({**signature.latex, **{a.plain: a.latex for a in abbreviations}}, averaged)

    def plain(self, expr: Expr) -> str:
        """One line of text."""
        return str(self._plain.doprint(self._short(expr)))

    def latex(self, expr: Expr) -> str:
        """A LaTeX formula, without delimiters."""
        return str(self._latex.doprint(self._short(expr)))

    def latex_totals(self, indices: tuple[Index, ...]) -> str:
        """The signs of totals over the indices, the first outermost."""
        return "".join(map(self._latex.operator, indices))

    def plain_claim(self, claim: Claim) -> str:
        """A claim as text."""
        return f"{self.plain(claim.lhs)} {claim.relation} {self.plain(claim.rhs)}"

    def latex_claim(self, claim: Claim) -> str:
        """A claim as a LaTeX formula."""
        relation = {"<=": r"\leq", "==": "="}[claim.relation]
        return f"{self.latex(claim.lhs)} {relation} {self.latex(claim.rhs)}"

    def _short(self, expr: Expr) -> Expr:
        if expr in self._parts:
            return self._parts[expr]
        if not expr.args:
            return expr
        if expr.is_Function and not isinstance(expr, Total):
            return expr
        return expr.func(*map(self._short, expr.args))
