"""Chapters, that is checked theories, as plain text and as objects for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kktalloc.proof._checker import Verdict
from kktalloc.proof._language import Signature, Square, Theory, Use
from kktalloc.proof._notation import Abbreviation, Notation


@dataclass(frozen=True)
class Chapter:
    """A theory, the checker's verdicts on its steps, and the notation to print them in."""

    key: str
    theory: Theory
    verdicts: list[Verdict]
    notation: Notation
    repeats: frozenset[str] = frozenset()  # statements taken over from another theory, with numbers put in
    shorts: tuple[Abbreviation, ...] = ()  # the short forms to explain before the theory

    @property
    def verified(self) -> bool:
        """Whether every step holds."""
        return all(verdict.verified for verdict in self.verdicts)


def rests_on(theory: Theory, name: str) -> list[str]:
    """Names of the hypotheses that a step needs, through the steps it uses."""
    given = {fact.name for fact in theory.facts}
    uses = {step.name: _used(step.uses, step.squares) for step in theory.steps}
    seen: dict[str, None] = {}
    pending = list(uses[name])
    while pending:
        fact = pending.pop(0)
        if fact not in seen:
            seen[fact] = None
            pending += uses.get(fact, [])
    return [fact for fact in seen if fact in given]


def _used(uses: tuple[Use, ...], squares: tuple[Square, ...]) -> list[str]:
    said = [name for use in uses for name in (use.fact, *use.since)]
    return list(dict.fromkeys([*said, *(name for square in squares for name in square.since)]))


def lines(chapters: list[Chapter]) -> Iterator[str]:
    """Everything that was checked, for people."""
    total = failed = 0
    for chapter in chapters:
        theory, notation = chapter.theory, chapter.notation
        yield theory.title
        yield "=" * len(theory.title)
        if chapter.shorts:
            yield "Short forms (display only)"
            for short in chapter.shorts:
                yield f"  {short.plain}: {short.text}"
        if not chapter.repeats:
            yield "Names, and what they depend on"
            yield from (f"  {line}" for line in declarations(theory.signature))
        yield "Given"
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
            total += 1
            failed += not verdict.verified
            if not verdict.verified or verdict.step.name not in chapter.repeats:
                yield from _step(chapter, verdict)
        yield ""
    yield f"{total - failed} of {total} steps verified" + (f", {failed} FAILED" if failed else "")


def declarations(signature: Signature) -> Iterator[str]:
    """What is declared: signs are hypotheses too, and indices left out in print are said here."""
    for name, sort in signature.indices.items():
        hidden = ", left out of the names below" if name in signature.understood else ""
        kind = "an average" if sort.size == 1 else f"a sum of {sort.size} terms"
        yield f"index {name}: {sort.name}; a total over it is {'an expectation' if sort.expectation else kind}{hidden}"
    for name, sign in signature.parameters.items():
        yield f"{name}: {sign}"
    for name, family in signature.families.items():
        known = "" if family.known == "always" else f"; known: {family.known}"
        yield f"{name}[{', '.join(sort.name for sort in family.sorts)}]: {family.sign}{known}"


def _step(chapter: Chapter, verdict: Verdict) -> Iterator[str]:
    step, notation = verdict.step, chapter.notation
    yield f"  [{'verified' if verdict.verified else 'FAILED'}] {step.name}: {step.text}"
    yield f"      {notation.plain_claim(step.claim)}"
    if not step.uses and not step.squares:
        yield "      by: expansion"
    else:
        yield "      by: right side - left side is the sum of"
        for part in certificate(step.uses, step.squares, notation):
            yield f"          {part}"
    rest = [name for name in rests_on(chapter.theory, step.name) if name not in _used(step.uses, step.squares)]
    if rest:
        yield f"      and through these: {', '.join(rest)}"
    if not verdict.verified:
        yield f"      {reason(verdict, notation)}"


def reason(verdict: Verdict, notation: Notation) -> str:
    """Why a step is refused; what is left over is written whole, in the theory's short forms."""
    if not verdict.residual:
        return verdict.reason
    return f"right side - left side - certificate is not 0 but {notation.plain(verdict.residual)}"


def certificate(uses: tuple[Use, ...], squares: tuple[Square, ...], notation: Notation) -> Iterator[str]:
    """The parts of a certificate, a line each."""
    for use in uses:
        renamed = "".join(f", {target} for {source}" for source, target in use.at)
        factor = "" if use.times == 1 else f"({notation.plain(use.times)}) * "
        yield notation.plain_totals(use.over, f"{factor}[{use.fact}{renamed}]") + _since(use.since)
    for square in squares:
        factor = "" if square.times == 1 else f"({notation.plain(square.times)}) * "
        yield notation.plain_totals(square.over, f"{factor}({notation.plain(square.base)})**2") + _since(square.since)


def _since(names: tuple[str, ...]) -> str:
    return f", the factor not negative by {', '.join(names)}" if names else ""


def as_object(chapters: list[Chapter]) -> dict[str, Any]:
    """The same for machines."""
    steps = [verdict for chapter in chapters for verdict in chapter.verdicts]
    return {
        "verified": all(chapter.verified for chapter in chapters),
        "steps": len(steps),
        "failed": [verdict.step.name for verdict in steps if not verdict.verified],
        "theories": [_theory_object(chapter) for chapter in chapters],
    }


def _theory_object(chapter: Chapter) -> dict[str, Any]:
    theory, signature = chapter.theory, chapter.theory.signature
    return {
        "key": chapter.key,
        "title": theory.title,
        "signs": signature.signs(),
        "depends_on": {name: [sort.name for sort in its.sorts] for name, its in signature.families.items()},
        "given": [
            {"name": fact.name, "text": fact.text, "statement": chapter.notation.plain_claim(fact.claim)}
            for fact in theory.facts
        ],
        "steps": [_step_object(chapter, verdict) for verdict in chapter.verdicts],
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
        "reason": reason(verdict, chapter.notation),
        "residual": str(verdict.residual),
    }


def _use_object(use: Use) -> dict[str, Any]:
    return {
        "fact": use.fact,
        "times": str(use.times),
        "over": [index.name for index in use.over],
        "at": {source.name: target.name for source, target in use.at},
        "since": list(use.since),
    }


def _square_object(square: Square) -> dict[str, Any]:
    return {
        "base": str(square.base),
        "times": str(square.times),
        "over": [index.name for index in square.over],
        "since": list(square.since),
    }
