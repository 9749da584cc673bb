"""What `kktalloc verify` prints: every step with its statement, what it used, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kktalloc.proof._abbreviations import ABBREVIATIONS
from kktalloc.proof._allocation import allocation
from kktalloc.proof._checker import Verdict, verify
from kktalloc.proof._corollaries import one_step, target
from kktalloc.proof._feedback import feedback
from kktalloc.proof._implied import implied
from kktalloc.proof._language import Square, Theory, Use
from kktalloc.proof._latex import write_terms, write_theory
from kktalloc.proof._lemmas import lemmas
from kktalloc.proof._measured import linear_rate, measured
from kktalloc.proof._notation import Notation
from kktalloc.proof._sparse import sparse
from kktalloc.proof._theorem import convergence


@dataclass(frozen=True)
class Chapter:
    """A theory, the checker's verdicts on its steps, and the notation to print them in."""

    key: str
    theory: Theory
    verdicts: list[Verdict]
    notation: Notation
    repeats: frozenset[str]  # facts and steps of the theorem that a corollary takes over, with its numbers

    @property
    def verified(self) -> bool:
        """Whether every step holds."""
        return all(verdict.verified for verdict in self.verdicts)


COROLLARIES = {"target": "convergence", "one_step": "convergence", "linear_rate": "measured"}
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
        "implied": implied(),
        "allocation": allocation(),
    }


def chapters() -> list[Chapter]:
    """Check everything."""
    every = theories()
    names = {
        key: {fact.name for fact in theory.facts} | {step.name for step in theory.steps}
        for key, theory in every.items()
    }
    found = []
    for key, theory in every.items():
        of = COROLLARIES.get(key)
        notation = Notation(theory.signature, ABBREVIATIONS if "convergence" in (key, of) else ())
        repeats = frozenset(names[key] & names[of]) if of else frozenset[str]()
        found.append(Chapter(key, theory, verify(theory), notation, repeats))
    return found


def rests_on(theory: Theory, name: str) -> list[str]:
    """Names of the hypotheses that a step needs, through the steps it uses."""
    given = {fact.name for fact in theory.facts}
    uses = {step.name: [use.fact for use in step.uses] for step in theory.steps}
    seen: dict[str, None] = {}
    pending = list(uses[name])
    while pending:
        fact = pending.pop(0)
        if fact not in seen:
            seen[fact] = None
            pending += uses.get(fact, [])
    return [fact for fact in seen if fact in given]


def run(as_json: bool = False, latex_dir: Path | None = None) -> int:
    """Check every step and print the result.

    Parameters
    ----------
    as_json
        Print one JSON object instead of text.
    latex_dir
        Also write each theory there as a LaTeX file, its statements and proofs.

    Returns
    -------
    int
        0 when every step holds, 1 when one fails.

    Raises
    ------
    ValueError
        When the LaTeX files cannot be written there.
    """
    found = chapters()
    print(json.dumps(_object(found), indent=2) if as_json else "\n".join(_lines(found)))
    if latex_dir is not None:
        try:
            _write_latex(latex_dir, found)
        except OSError as error:
            raise ValueError(f"cannot write to {latex_dir}: {error.strerror or error}") from None
    return 0 if all(chapter.verified for chapter in found) else 1


def _write_latex(latex_dir: Path, found: list[Chapter]) -> None:
    for chapter in found:
        shorts = ABBREVIATIONS if chapter.key == "convergence" else ()
        verified = {verdict.step.name: verdict.verified for verdict in chapter.verdicts}
        write_theory(latex_dir, chapter.key, chapter.theory, verified, chapter.repeats, chapter.notation, shorts)
    write_terms(latex_dir, next(c.notation for c in found if c.key == "convergence"))


def _lines(found: list[Chapter]) -> Iterator[str]:
    total = failed = 0
    for chapter in found:
        theory, notation = chapter.theory, chapter.notation
        yield theory.title
        yield "=" * len(theory.title)
        if chapter.key == "convergence":
            yield "Short forms (display only)"
            for short in ABBREVIATIONS:
                yield f"  {short.plain}: {short.text}"
        yield "Given"
        if not chapter.repeats:
            for sign, names in theory.signature.signs().items():
                yield f"  {sign}: {', '.join(names)}"
        for fact in theory.facts:
            if fact.name in chapter.repeats:
                continue
            yield f"  {fact.name}: {fact.text}"
            yield f"      {notation.plain_claim(fact.claim)}"
        yield "Steps"
        if chapter.repeats:
            again = sum(verdict.step.name in chapter.repeats for verdict in chapter.verdicts)
            yield f"  {again} steps of the theorem, checked again with these numbers; what fails is listed"
        for verdict in chapter.verdicts:
            step = verdict.step
            total += 1
            failed += not verdict.verified
            if verdict.verified and step.name in chapter.repeats:
                continue
            yield f"  [{'verified' if verdict.verified else 'FAILED'}] {step.name}: {step.text}"
            yield f"      {notation.plain_claim(step.claim)}"
            used = [use.fact for use in step.uses]
            squares = f"{len(step.squares)} square{'s' * (len(step.squares) != 1)}" if step.squares else ""
            parts = ", ".join([*dict.fromkeys(used), *([squares] if squares else [])])
            yield f"      by: {parts or 'expansion'}"
            rest = [name for name in rests_on(theory, step.name) if name not in used]
            if rest:
                yield f"      and through these: {', '.join(rest)}"
            if not verdict.verified:
                yield f"      {verdict.reason}"
        yield ""
    yield f"{total - failed} of {total} steps verified" + (f", {failed} FAILED" if failed else "")


def _object(found: list[Chapter]) -> dict[str, Any]:
    steps = [verdict for chapter in found for verdict in chapter.verdicts]
    return {
        "verified": all(chapter.verified for chapter in found),
        "steps": len(steps),
        "failed": [verdict.step.name for verdict in steps if not verdict.verified],
        "theories": [
            {
                "key": chapter.key,
                "title": chapter.theory.title,
                "signs": chapter.theory.signature.signs(),
                "given": [
                    {
                        "name": fact.name,
                        "text": fact.text,
                        "statement": chapter.notation.plain_claim(fact.claim),
                    }
                    for fact in chapter.theory.facts
                ],
                "steps": [_step_object(chapter, verdict) for verdict in chapter.verdicts],
            }
            for chapter in found
        ],
    }


def _step_object(chapter: Chapter, verdict: Verdict) -> dict[str, Any]:
    step = verdict.step
    return {
        "name": step.name,
        "text": step.text,
        "statement": chapter.notation.plain_claim(step.claim),
        "lhs": str(step.claim.lhs),
        "relation": step.claim.relation,
        "rhs": str(step.claim.rhs),
        "uses": [_use_object(use) for use in step.uses],
        "squares": [_square_object(square) for square in step.squares],
        "rests_on": rests_on(chapter.theory, step.name),
        "verified": verdict.verified,
        "reason": verdict.reason,
    }


def _use_object(use: Use) -> dict[str, Any]:
    return {
        "fact": use.fact,
        "times": str(use.times),
        "over": [index.name for index in use.over],
        "at": {source.name: target.name for source, target in use.at},
    }


def _square_object(square: Square) -> dict[str, Any]:
    return {
        "base": str(square.base),
        "times": str(square.times),
        "over": [index.name for index in square.over],
    }
