"""Each theory as a LaTeX file: what is given, and every statement with its proof."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from kktalloc._durable import write_durably
from kktalloc.proof._language import Expr, Index, Step, Theory
from kktalloc.proof._notation import Abbreviation, Notation
from kktalloc.proof._theorem import AGREEING, GENERAL, round_terms

_ESCAPES = str.maketrans({"_": r"\_", "^": r"\textasciicircum{}", "&": r"\&", "%": r"\%", "#": r"\#"})


def write_theory(
    directory: Path,
    key: str,
    theory: Theory,
    verified: Mapping[str, bool],
    repeats: Collection[str],
    notation: Notation,
    abbreviations: tuple[Abbreviation, ...],
) -> None:
    """Write ``KEY.tex``, atomically, for a document with amsmath, amssymb and amsthm."""
    lines = _theory(key, theory, verified, repeats, notation, abbreviations)
    _write(directory / f"{key}.tex", "\n".join(lines) + "\n")


def write_terms(directory: Path, notation: Notation) -> None:
    """Write ``terms.tex``: a macro for each term of the theorem, as the proof has it."""
    macros = ["% The theorem's terms: written by kktalloc verify --latex; do not edit."]
    for suffix, case in (("", GENERAL), ("Agreeing", AGREEING)):
        terms = round_terms(case)
        for field in fields(terms):
            name = "".join(part.capitalize() for part in field.name.split("_")) + suffix
            macros.append(rf"\newcommand{{\Bound{name}}}{{{notation.latex(getattr(terms, field.name))}}}")
    _write(directory / "terms.tex", "\n".join(macros) + "\n")


def _theory(
    key: str,
    theory: Theory,
    verified: Mapping[str, bool],
    repeats: Collection[str],
    notation: Notation,
    shorts: tuple[Abbreviation, ...],
) -> Iterator[str]:
    yield f"% {theory.title}: written by kktalloc verify --latex; do not edit."
    yield rf"\subsection{{{_text(theory.title)}}}\label{{proof:{key}}}"
    if shorts:
        yield r"\paragraph{Short forms.}"
        yield "; ".join(f"${short.latex}$: {_text(short.text)}" for short in shorts) + "."
    if repeats:
        again = sum(step.name in repeats for step in theory.steps)
        yield f"The {again} steps of the theorem were checked again with the numbers put in."
    if all(fact.name in repeats for fact in theory.facts):
        yield from _steps(key, theory, verified, repeats, notation)
        return
    yield r"\paragraph{Given.}"
    yield r"\begin{description}"
    for sign, names in theory.signature.signs().items() if not repeats else ():
        if names:
            symbols = ", ".join(f"${theory.signature.latex[name]}$" for name in names)
            yield rf"\item[{_text(_capital(sign))}] {symbols}."
    for fact in theory.facts:
        if fact.name in repeats:
            continue
        yield rf"\item[{_text(fact.name)}] {_text(fact.text)}:"
        yield _display(notation.latex_claim(fact.claim))
    yield r"\end{description}"
    yield from _steps(key, theory, verified, repeats, notation)


def _steps(
    key: str, theory: Theory, verified: Mapping[str, bool], repeats: Collection[str], notation: Notation
) -> Iterator[str]:
    for step in theory.steps:
        if step.name in repeats and verified[step.name]:
            continue
        yield rf"\paragraph{{{_text(_capital(step.name))}.}}\label{{{_label(key, step.name)}}} {_text(step.text)}"
        yield _display(notation.latex_claim(step.claim))
        yield rf"\begin{{proof}}[{'Proof' if verified[step.name] else 'NOT VERIFIED'}]"
        yield _certificate(step, notation)
        yield r"\end{proof}"


def _certificate(step: Step, notation: Notation) -> str:
    if not step.uses and not step.squares:
        return "Both sides expand to the same expression."
    parts = []
    for use in step.uses:
        renamed = ", ".join(f"${notation.latex(old)} \\to {notation.latex(new)}$" for old, new in use.at)
        name = _text(use.fact) + (f" ({renamed})" if renamed else "")
        factor = "" if use.times == 1 and not use.over else f"${_over(use.over, use.times, notation)}$ times "
        parts.append(rf"\item {factor}\emph{{{name}}}")
    parts += [
        rf"\item the square ${_over(square.over, square.times * square.base**2, notation)}$" for square in step.squares
    ]
    lines = [r"Right side minus left side is, exactly, the sum of", r"\begin{itemize}", *parts, r"\end{itemize}"]
    return "\n".join(lines)


def _over(indices: tuple[Index, ...], body: Expr, notation: Notation) -> str:
    return notation.latex_totals(indices) + rf"\left({notation.latex(body)}\right)"


def _display(formula: str) -> str:
    """Set flush left and in line, so that long formulas break at their operators."""
    return rf"\begin{{flushleft}}$\displaystyle {formula}$\end{{flushleft}}"


def _text(text: str) -> str:
    text = text.translate(_ESCAPES)
    for plain, formula in (("<=", r"$\leq$"), (">=", r"$\geq$"), ("< ", "$<$ "), ("> ", "$>$ "), ("|", "$|$")):
        text = text.replace(plain, formula)
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _label(key: str, name: str) -> str:
    return f"proof:{key}:" + "".join(letter if letter.isalnum() else "-" for letter in name)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text)
