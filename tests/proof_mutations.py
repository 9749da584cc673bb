"""Mutate every numeric constant of every claim and certificate, one at a time; the checker must refuse.

A constant is a number that is written (coefficients, exponents) or that is not (the 1 before a term, the 1
of an exponent). Each use and each square is also left out. Run for the full count: ``python tests/proof_mutations.py``.
With ``--keep FILE`` what was counted is written there, step by step; a later run counts only steps that it finds new or
changed, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from kktalloc import _command
from kktalloc._durable import write_durably
from kktalloc.proof import _checker, _language, _normal_form
from kktalloc.proof._checker import Checker
from kktalloc.proof._language import Claim, Expr, Sign, Signature, Step, Theory, Total
from kktalloc.proof._normal_form import Refused
from kktalloc.proof._report import COROLLARIES, theories


@dataclass(frozen=True)
class Mutant:
    """A step with one constant changed, what was changed, and the part that was, before and after, alone."""

    step: Step
    change: str
    before: Step
    after: Step


def changed(expr: Expr, signature: Signature) -> Iterator[tuple[Expr, str]]:
    """Copies of an expression with one constant changed, the 1 before it among them."""
    if expr != 0:  # twice 0 is 0
        yield 2 * expr, f"2 * ({expr})"
    yield from _inside(expr, signature)


def _inside(expr: Expr, signature: Signature) -> Iterator[tuple[Expr, str]]:
    if isinstance(expr, sympy.Rational):
        yield expr + 1, f"{expr} -> {expr + 1}"
        yield expr + sympy.Rational(1, 1000), f"{expr} -> {expr} + 1/1000"
    elif isinstance(expr, Total):
        for new, text in changed(expr.args[0], signature):
            yield Total(new, expr.args[1]), text
    elif isinstance(expr, AppliedUndef | sympy.Symbol | sympy.Pow):
        base, exponent = expr.as_base_exp()
        family = signature.families.get(base.func.__name__)
        if family is None or family.sign is not Sign.INDICATOR:  # axiom 5: m**2 is m, a constant of no effect
            yield base ** (exponent + 1), f"exponent {exponent} of {base} -> {exponent + 1}"
        if exponent != 1:
            for new, text in changed(base, signature):
                yield new**exponent, text
    elif isinstance(expr, sympy.Add | sympy.Mul):
        step = changed if isinstance(expr, sympy.Add) else _inside
        for n, part in enumerate(expr.args):
            for new, text in step(part, signature):
                yield expr.func(*expr.args[:n], new, *expr.args[n + 1 :]), text


def mutants(step: Step, signature: Signature) -> Iterator[Mutant]:
    """Every mutant of a step."""
    nothing = replace(step, claim=replace(step.claim, lhs=sympy.S.Zero, rhs=sympy.S.Zero), uses=(), squares=())

    def mutant(step: Step, change: str, old: dict[str, Any], new: dict[str, Any]) -> Mutant:
        return Mutant(step, change, replace(nothing, **old), replace(nothing, **new))

    for side in ("lhs", "rhs"):
        alone = replace(nothing.claim, **{side: getattr(step.claim, side)})
        for new, text in changed(getattr(step.claim, side), signature):
            whole = replace(step, claim=replace(step.claim, **{side: new}))
            yield mutant(whole, f"{side}: {text}", {"claim": alone}, {"claim": replace(alone, **{side: new})})
    for n, use in enumerate(step.uses):
        others = step.uses[:n], step.uses[n + 1 :]
        old = {"uses": (use,)}
        yield mutant(replace(step, uses=others[0] + others[1]), f"without {use.fact!r}", old, {})
        for new, text in changed(use.times, signature):
            other = replace(use, times=new)
            whole = replace(step, uses=(*others[0], other, *others[1]))
            yield mutant(whole, f"multiplier of {use.fact!r}: {text}", old, {"uses": (other,)})
    for n, square in enumerate(step.squares):
        around = step.squares[:n], step.squares[n + 1 :]
        old = {"squares": (square,)}
        yield mutant(replace(step, squares=around[0] + around[1]), f"without square {n}", old, {})
        for part in ("base", "times"):
            for new, text in changed(getattr(square, part), signature):
                another = replace(square, **{part: new})
                whole = replace(step, squares=(*around[0], another, *around[1]))
                yield mutant(whole, f"square {n}, {part}: {text}", old, {"squares": (another,)})


def survives(mutant: Mutant, checker: Checker, known: dict[str, Claim]) -> bool:
    """Whether the checker would accept the mutant of a verified step.

    A residual is the sum of what the claim's sides, the uses and the squares give, and that of the step is zero: only
    the part that was changed has to be expanded again.
    """
    try:
        return checker.residual(mutant.after, known) == checker.residual(mutant.before, known)
    except Refused:
        return False


def run(theory: Theory, names: set[str], every: int = 1) -> tuple[int, list[Mutant]]:
    """Number of mutants of the named steps (or every n-th), and those that the checker accepts."""
    found = [each for step, known in named_steps(theory, names) for each in [run_step(theory, step, known, every)]]
    return sum(total for total, _ in found), [survivor for _, survivors in found for survivor in survivors]


def named_steps(theory: Theory, names: set[str]) -> Iterator[tuple[Step, dict[str, Claim]]]:
    """The named steps, and what is known before each."""
    known = {fact.name: fact.claim for fact in theory.facts}
    for step in theory.steps:
        if step.name in names:
            yield step, dict(known)
        known[step.name] = step.claim


def run_step(theory: Theory, step: Step, known: dict[str, Claim], every: int = 1) -> tuple[int, list[Mutant]]:
    """The same for one step, which has to be verified itself."""
    checker = Checker(theory.signature)
    assert checker.check(step, known).verified, step.name
    total, survivors = 0, []
    for mutant in islice(mutants(step, theory.signature), 0, None, every):
        total += 1
        if survives(mutant, checker, known):
            survivors.append(mutant)
    return total, survivors


def digest(theory: Theory, step: Step, known: dict[str, Claim]) -> str:
    """Of everything that the verdicts on a step's mutants hang on."""
    named = {name for part in step.parts for name in (getattr(part, "fact", None), *part.since) if name}
    used = sorted((name, repr(known[name])) for name in named)
    code = [Path(module.__file__ or "").read_bytes() for module in (_checker, _language, _normal_form)]
    code.append(Path(__file__).read_bytes())
    text = repr((step, used, sorted(theory.signature.families.items()), sorted(theory.signature.parameters.items())))
    return hashlib.sha256(b"".join([text.encode(), *code])).hexdigest()[:24]


def own_steps() -> Iterator[tuple[str, Theory, set[str]]]:
    """Each theory with its own steps: corollaries repeat the theorem's."""
    every = theories()
    for key, theory in every.items():
        parent = every.get(COROLLARIES.get(key, ""))
        taken_over = {step.name for step in parent.steps} if parent else set()
        yield key, theory, {step.name for step in theory.steps} - taken_over


def main() -> int:
    """Mutate everything and print killed/total."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="counts so far, read and written")
    keep: Path | None = parser.parse_args().keep
    kept: dict[str, Any] = json.loads(keep.read_text()) if keep and keep.exists() else {}
    everything = alive = 0
    for key, theory, names in own_steps():
        total, survivors = 0, []
        for step, known in named_steps(theory, names):
            name = f"{key}/{step.name}/{digest(theory, step, known)}"
            if name not in kept:
                count, left = run_step(theory, step, known)
                kept[name] = [count, [mutant.change for mutant in left]]
                if keep:
                    write_durably(keep, json.dumps(kept, indent=0) + "\n")
            total += kept[name][0]
            survivors += [f"{step.name}: {change}" for change in kept[name][1]]
        everything, alive = everything + total, alive + len(survivors)
        print(f"{key}: {total - len(survivors)}/{total} killed in {len(names)} steps", flush=True)
        for survivor in survivors:
            print(f"  survives: {survivor}")
    print(f"all: {everything - alive}/{everything} killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(_command.run("proof_mutations", main))
