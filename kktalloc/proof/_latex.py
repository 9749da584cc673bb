"""Each theory as a LaTeX file: what is given, and every statement with its proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from kktalloc._durable import write_durably
from kktalloc.proof._checker import Verdict
from kktalloc.proof._language import Expr, Index, Step
from kktalloc.proof._notation import Notation
from kktalloc.proof._text import Chapter
from kktalloc.proof._theorem import AGREEING, GENERAL, round_terms

_ESCAPES = str.maketrans({"_": r"\_", "^": r"\textasciicircum{}", "&": r"\&", "%": r"\%", "#": r"\#"})


def write_theory(directory: Path, chapter: Chapter) -> None:
    """Write ``KEY.tex``, atomically, for a document with amsmath, amssymb and amsthm."""
    write_text(directory / f"{chapter.key}.tex", "\n".join(_theory(chapter)) + "\n")


def write_terms(directory: Path, notation: Notation) -> None:
    """Write ``terms.tex``: a macro for each term of the theorem, as the proof has it."""
    macros = ["% The theorem's terms: written by kktalloc verify --latex; do not edit."]
    for suffix, case in (("", GENERAL), ("Agreeing", AGREEING)):
        terms = round_terms(case)
        for field in fields(terms):
            name = "".join(part.capitalize() for part in field.name.split("_")) + suffix
            macros.append(rf"\newcommand{{\Bound{name}}}{{{notation.latex(getattr(terms, field.name))}}}")
    write_text(directory / "terms.tex", "\n".join(macros) + "\n")


def _theory(chapter: Chapter) -> Iterator[str]:
    key, theory, repeats, notation = chapter.key, chapter.theory, chapter.repeats, chapter.notation
    yield f"% {theory.title}: written by kktalloc verify --latex; do not edit."
    yield rf"\subsection{{{_text(theory.title)}}}\label{{proof:{key}}}"
    if chapter.shorts:
        yield r"\paragraph{Short forms.}"
        yield "; ".join(f"${short.latex}$: {_text(short.text)}" for short in chapter.shorts) + "."
    if repeats:
        again = sum(step.name in repeats for step in theory.steps)
        yield f"The {again} steps of the theorem were checked again with the numbers put in."
    if repeats and all(fact.name in repeats for fact in theory.facts):
        yield from _steps(chapter)
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
    yield from _steps(chapter)


def _steps(chapter: Chapter) -> Iterator[str]:
    key, repeats, notation = chapter.key, chapter.repeats, chapter.notation
    for verdict in chapter.verdicts:
        step = verdict.step
        if step.name in repeats and verdict.verified:
            continue
        yield rf"\paragraph{{{_text(_capital(step.name))}.}}\label{{{_label(key, step.name)}}} {_text(step.text)}"
        yield _display(notation.latex_claim(step.claim))
        yield rf"\begin{{proof}}[{'Proof' if verdict.verified else 'NOT VERIFIED'}]"
        yield _certificate(step, notation)
        if not verdict.verified:
            yield _refusal(verdict, notation)
        yield r"\end{proof}"


def _refusal(verdict: Verdict, notation: Notation) -> str:
    if verdict.residual == 0:
        return _text(verdict.reason)
    return "What the certificate leaves:\n" + _display(notation.latex(verdict.residual))


def _certificate(step: Step, notation: Notation) -> str:
    if not step.uses and not step.squares:
        return "Both sides expand to the same expression."
    parts = []
    for use in step.uses:
        renamed = ", ".join(f"${notation.latex(old)} \\to {notation.latex(new)}$" for old, new in use.at)
        name = _text(use.fact) + (f" ({renamed})" if renamed else "")
        factor = "" if use.times == 1 and not use.over else f"${_over(use.over, use.times, notation)}$ times "
        parts.append(rf"\item {factor}\emph{{{name}}}" + _since(use.since))
    parts += [
        rf"\item the square ${_over(square.over, square.times * square.base**2, notation)}$" + _since(square.since)
        for square in step.squares
    ]
    lines = [r"Right side minus left side is, exactly, the sum of", r"\begin{itemize}", *parts, r"\end{itemize}"]
    return "\n".join(lines)


def _since(names: tuple[str, ...]) -> str:
    said = ", ".join(rf"\emph{{{_text(name)}}}" for name in names)
    return f", the factor not negative by {said}" if names else ""


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


def write_text(path: Path, text: str) -> None:
    """Write a file, all or nothing; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text)
