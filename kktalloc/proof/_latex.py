"""Each theory as a LaTeX file: what is given, and every statement with its proof."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kktalloc.proof._language import Expr, Index, Step, Theory
from kktalloc.proof._notation import Abbreviation, Notation

_ESCAPES = str.maketrans({"_": r"\_", "^": r"\textasciicircum{}", "&": r"\&", "%": r"\%", "#": r"\#"})


def write_latex(
    directory: Path,
    theories: Mapping[str, tuple[Theory, Mapping[str, bool], Notation]],
    abbreviations: tuple[Abbreviation, ...],
) -> None:
    """Write ``KEY.tex`` for each theory, atomically, for a document with amsmath, amssymb and amsthm."""
    directory.mkdir(parents=True, exist_ok=True)
    for key, (theory, verified, notation) in theories.items():
        shorts = abbreviations if key == "convergence" else ()
        _write(directory / f"{key}.tex", "\n".join(_theory(key, theory, verified, notation, shorts)) + "\n")


def _theory(
    key: str,
    theory: Theory,
    verified: Mapping[str, bool],
    notation: Notation,
    shorts: tuple[Abbreviation, ...],
) -> Iterator[str]:
    yield f"% {theory.title}: written by kktalloc verify --latex; do not edit."
    yield rf"\subsection{{{_text(theory.title)}}}\label{{proof:{key}}}"
    if shorts:
        yield r"\paragraph{Short forms.}"
        yield "; ".join(f"${short.latex}$: {_text(short.text)}" for short in shorts) + "."
    yield r"\paragraph{Given.}"
    yield r"\begin{description}"
    for fact in theory.facts:
        yield rf"\item[{_text(fact.name)}] {_text(fact.text)}:"
        yield _display(notation.latex_claim(fact.claim))
    yield r"\end{description}"
    for step in theory.steps:
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
    signs = "".join(
        r"\mathbb{E}\," if index.name == "w" else rf"\sum_{{{notation.latex(index)}}} " for index in indices
    )
    return signs + rf"\left({notation.latex(body)}\right)"


def _display(formula: str) -> str:
    """Set flush left and in line, so that long formulas break at their operators."""
    return rf"\begin{{flushleft}}$\displaystyle {formula}$\end{{flushleft}}"


def _text(text: str) -> str:
    return text.translate(_ESCAPES).replace("<=", r"$\le$").replace(">=", r"$\ge$").replace("|", r"$|$")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _label(key: str, name: str) -> str:
    return f"proof:{key}:" + "".join(letter if letter.isalnum() else "-" for letter in name)


def _write(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
