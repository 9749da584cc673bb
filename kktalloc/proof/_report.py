"""`kktalloc verify`: what is checked, and where the result goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from kktalloc.proof._abbreviations import ABBREVIATIONS
from kktalloc.proof._allocation import allocation
from kktalloc.proof._checker import verify
from kktalloc.proof._clock import clock
from kktalloc.proof._corollaries import one_step, target
from kktalloc.proof._feedback import feedback
from kktalloc.proof._files import load_theories
from kktalloc.proof._html import write_html
from kktalloc.proof._implied import implied
from kktalloc.proof._language import Theory
from kktalloc.proof._latex import write_terms, write_theory
from kktalloc.proof._lemmas import lemmas
from kktalloc.proof._measured import linear_rate, measured
from kktalloc.proof._momentum import momentum
from kktalloc.proof._notation import Notation
from kktalloc.proof._priced import priced
from kktalloc.proof._sparse import sparse
from kktalloc.proof._text import Chapter, as_object, lines, rests_on
from kktalloc.proof._theorem import convergence

__all__ = ["COROLLARIES", "Chapter", "chapters", "rests_on", "run", "theories"]

COROLLARIES = {"target": "convergence", "one_step": "convergence", "linear_rate": "measured", "momentum": "feedback"}
"""Theories that take over the facts and steps of another, by key."""


def theories() -> dict[str, Theory]:
    """Everything that is derived, in the order in which it is read."""
    return {
        "lemmas": lemmas(),
        "convergence": convergence(),
        "target": target(),
        "one_step": one_step(),
        "measured": measured(),
        "linear_rate": linear_rate(),
        "sparse": sparse(),
        "feedback": feedback(),
        "momentum": momentum(),
        "implied": implied(),
        "allocation": allocation(),
        "clock": clock(),
        "priced": priced(),
    }


def chapters() -> list[Chapter]:
    """Check everything."""
    return _judged(theories)


@cache  # the proofs are code: within a process they stay what they were
def _judged(derived: Callable[[], dict[str, Theory]]) -> list[Chapter]:
    every = derived()
    names = {
        key: {fact.name for fact in theory.facts} | {step.name for step in theory.steps}
        for key, theory in every.items()
    }
    found = []
    for key, theory in every.items():
        of = COROLLARIES.get(key)
        notation = Notation(theory.signature, ABBREVIATIONS if "convergence" in (key, of) else ())
        repeats = frozenset(names[key] & names[of]) if of else frozenset[str]()
        shorts = ABBREVIATIONS if key == "convergence" else ()
        found.append(Chapter(key, theory, verify(theory), notation, repeats, shorts))
    return found


def run(
    as_json: bool = False,
    latex_dir: Path | None = None,
    files: Sequence[Path] = (),
    html: Path | None = None,
) -> int:
    """Check every step and print the result.

    Parameters
    ----------
    as_json
        Print one JSON object instead of text.
    latex_dir
        Also write each theory there as a LaTeX file, its statements and proofs.
    files
        Python files whose theories are checked (every `Theory` bound to a name in them) instead of
        the package's own.
    html
        Also write there one page with everything, each use linked to what it uses.

    Returns
    -------
    int
        0 when every step holds, 1 when one fails.

    Raises
    ------
    ValueError
        When a file cannot be read or has no theory, or when the LaTeX or HTML files cannot be written.
    """
    found = [_own(key, theory) for file in files for key, theory in load_theories(file).items()] or chapters()
    print(json.dumps(as_object(found), indent=2) if as_json else "\n".join(lines(found)))
    for place, write in ((latex_dir, _write_latex), (html, write_html)):
        if place is not None:
            try:
                write(place, found)
            except OSError as error:
                raise ValueError(f"cannot write to {place}: {error.strerror or error}") from None
    return 0 if all(chapter.verified for chapter in found) else 1


def _own(key: str, theory: Theory) -> Chapter:
    return Chapter(key, theory, verify(theory), Notation(theory.signature))


def _write_latex(latex_dir: Path, found: list[Chapter]) -> None:
    for chapter in found:
        write_theory(latex_dir, chapter)
    for chapter in found:
        if chapter.shorts:
            write_terms(latex_dir, chapter.notation)
