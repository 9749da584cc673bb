"""How statements are written for people: plain text and LaTeX, with named parts abbreviated.

Which indices are left out, and which totals are expectations, the signature says. Display only: the checker
sees the full expressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from kktalloc.proof._language import Claim, Expr, Index, Signature, Total


@dataclass(frozen=True)
class Abbreviation:
    """A named part: its expression, its plain and LaTeX form, and what it is."""

    expr: Expr
    plain: str
    latex: str
    text: str


def _word(signature: Signature, index: Expr) -> str:
    """What a total over an index is: a sum, an average, an expectation."""
    sort = signature.indices.get(index.name)
    if sort is None or sort.size != 1:
        return "sum"
    return "E" if sort.expectation else "avg"


class _Plain(StrPrinter):  # type: ignore[misc]
    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self._signature = signature

    def operator(self, index: Expr) -> str:
        """The word for a total over an index."""
        word = _word(self._signature, index)
        return word if word == "E" and index.name in self._signature.understood else f"{word}_{index.name}"

    def _print_Total(self, expr: Any) -> str:  # noqa: N802 - SymPy's naming
        body, index = expr.args
        opening, closing = "[]" if _word(self._signature, index) == "E" else "()"
        return f"{self.operator(index)}{opening}{self._print(body)}{closing}"

    def _print_Function(self, expr: Any) -> str:  # noqa: N802
        shown = [index.name for index in expr.args if index.name not in self._signature.understood]
        return str(expr.func.__name__) + (f"[{','.join(shown)}]" if shown else "")

    def _print_Same(self, expr: Any) -> str:  # noqa: N802
        return f"[{expr.args[0]}={expr.args[1]}]"


class _Latex(LatexPrinter):  # type: ignore[misc]
    def __init__(self, signature: Signature, names: Mapping[str, str]) -> None:
        super().__init__({"symbol_names": {sympy.Symbol(name): tex for name, tex in names.items()}})
        self._signature = signature
        self._names = names

    def operator(self, index: Expr) -> str:
        """The sign of a total over an index, to be put before its body."""
        name = self._letter(index)
        word = _word(self._signature, index)
        if word == "E":
            return rf"{self._expectation(index)}\,"
        return rf"\int_0^1 \mathrm{{d}}{name}\," if word == "avg" else rf"\sum_{{{name}}} "

    def _expectation(self, index: Expr) -> str:
        return r"\mathbb{E}" + ("" if index.name in self._signature.understood else f"_{{{self._letter(index)}}}")

    def _letter(self, index: Expr) -> str:
        """A residual may need letters that nobody declared."""
        return self._names.get(index.name, index.name)

    def _print_Total(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        body, index = expr.args
        inner = self._print(body)
        if _word(self._signature, index) == "E":
            text = rf"{self._expectation(index)}\left[{inner}\right]"
        else:
            text = self.operator(index) + self.parenthesize(body, 50)
            if exp is not None:
                text = rf"\left({text}\right)"
        return text if exp is None else f"{text}^{{{exp}}}"

    def _print_Function(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        shown = [self._letter(index) for index in expr.args if index.name not in self._signature.understood]
        text = self._names[expr.func.__name__]
        if shown:
            text = rf"{{{text}}}_{{{','.join(shown)}}}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def _print_Same(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        text = r"\delta_{" + ",".join(map(self._letter, expr.args)) + "}"
        return text if exp is None else f"{text}^{{{exp}}}"


class Notation:
    """Prints expressions of one signature."""

    def __init__(self, signature: Signature, abbreviations: tuple[Abbreviation, ...] = ()) -> None:
        self._parts = {a.expr: sympy.Symbol(a.plain) for a in abbreviations}
        self._plain = _Plain(signature)
        self._latex = _Latex(signature, {**signature.latex, **{a.plain: a.latex for a in abbreviations}})

    def plain(self, expr: Expr) -> str:
        """One line of text."""
        return str(self._plain.doprint(self._short(expr)))

    def latex(self, expr: Expr) -> str:
        """A LaTeX formula, without delimiters."""
        return str(self._latex.doprint(self._short(expr)))

    def plain_totals(self, indices: tuple[Index, ...], body: str) -> str:
        """A text under totals over the indices, the first outermost."""
        if not indices:
            return body
        return f"{' '.join(map(self._plain.operator, indices))} of {body}"

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
