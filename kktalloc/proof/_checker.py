"""The checker: with `_normal_form`, the part that has to be trusted.

It accepts ``lhs <= rhs`` when ``rhs - lhs`` minus the certificate expands to exactly zero, where the
certificate is a total of (non-negative multiplier) x (known inequality), (any multiplier) x (known
equality) and (non-negative weight) x (square). Arithmetic is on `fractions.Fraction`; a float, an
irrational number or a function it does not know is refused.

Axioms, all of them:

1. Field arithmetic on rational numbers; only names declared positive may stand in a denominator.
2. ``Total`` is linear, totals over different indices commute, a factor free of the index comes out,
   the bound index may be renamed, and the total of 1 is the size of the sort. (This is linearity of
   sums and of expectation, and bilinearity of the inner product. It asks that every total be finite:
   see the hypothesis on second moments in ``docs/verification.md``, and do not total what has no mean.)
3. A total of non-negative bodies is non-negative; so are squares, and products and sums of such.
4. Kronecker's delta: a total over its index replaces the index, ``same(i, i) = 1``, 0-or-1 valued.
5. A name declared 0-or-1 equals its own powers.
6. The hypotheses and definitions of the theory; the tower property of expectation enters through the
   hypothesis `unbiased` in `_hypotheses`, telescoping through `consecutive` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Same, Sign, Signature, Step, Theory, Total
from kktalloc.proof._normal_form import Expander, Key, Refused, Slot, Term, collect, product, totalled


@dataclass(frozen=True)
class Verdict:
    """The checker's answer for one step."""

    step: Step
    verified: bool
    reason: str


class Checker:
    """Judges steps over a signature."""

    def __init__(self, signature: Signature) -> None:
        self._expander = Expander(signature)

    def is_nonnegative(self, expr: Expr) -> bool:
        """Whether the rules (axiom 3) show that an expression is never negative."""
        if isinstance(expr, sympy.Rational):
            return bool(expr >= 0)
        if isinstance(expr, sympy.Symbol | AppliedUndef):
            return self._expander.sign(expr) is not Sign.REAL
        if isinstance(expr, sympy.Add | sympy.Mul):
            return all(self.is_nonnegative(part) for part in expr.args)
        if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer):
            return bool(expr.exp % 2 == 0) or self.is_nonnegative(expr.base)
        if isinstance(expr, Total):
            return self.is_nonnegative(expr.args[0])
        return isinstance(expr, Same)

    def residual(self, step: Step, known: Mapping[str, Claim]) -> dict[Key, Fraction]:
        """``rhs - lhs`` minus the certificate, in normal form; `Refused` if the certificate is unfit."""
        inequality = step.claim.relation == "<="
        terms = self._gap(step.claim, {})
        for use in step.uses:
            if use.fact not in known:
                raise Refused(f"{use.fact!r} is neither given nor proved before")
            claim = known[use.fact]
            if claim.relation == "<=":
                if not inequality:
                    raise Refused(f"the inequality {use.fact!r} cannot prove an equality")
                if not self.is_nonnegative(use.times):
                    raise Refused(f"the multiplier {use.times} of {use.fact!r} is not shown non-negative")
            scope, bound = self._expander.bind(use.over)
            inner = dict(scope)
            for source, target in use.at:
                if self._expander.sort(source) != self._expander.sort(target):
                    raise Refused(f"{source} and {target} are of different sorts")
                inner[source.name] = self._expander.slot(target, scope)
            terms += totalled(product([self._expander.expand(use.times, scope), self._gap(claim, inner)]), bound, -1)
        for square in step.squares:
            if not inequality:
                raise Refused("a square cannot prove an equality")
            if not self.is_nonnegative(square.times):
                raise Refused(f"the weight {square.times} of a square is not shown non-negative")
            scope, bound = self._expander.bind(square.over)
            factors = [self._expander.expand(part, scope) for part in (square.times, square.base, square.base)]
            terms += totalled(product(factors), bound, -1)
        return collect(self._expander.canonical(term) for term in terms)

    def _gap(self, claim: Claim, scope: Mapping[str, Slot]) -> list[Term]:
        """``rhs - lhs``, each side expanded by itself so that SymPy cancels nothing unseen."""
        if claim.relation not in ("<=", "=="):
            raise Refused(f"{claim.relation!r} is not a relation")
        return self._expander.expand(claim.rhs, scope) + totalled(self._expander.expand(claim.lhs, scope), {}, -1)

    def check(self, step: Step, known: Mapping[str, Claim]) -> Verdict:
        """Judge one step against the statements known before it."""
        try:
            residual = self.residual(step, known)
        except Refused as refusal:
            return Verdict(step, False, str(refusal))
        if residual:
            return Verdict(step, False, f"residual of {len(residual)} terms, first {next(iter(residual.items()))}")
        return Verdict(step, True, "residual is exactly zero")


def verify(theory: Theory) -> list[Verdict]:
    """Judge the steps of a theory in order; a step may use the facts and the steps verified before it."""
    checker = Checker(theory.signature)
    known: dict[str, Claim] = {}
    for fact in theory.facts:
        if fact.name in known:
            raise ValueError(f"two facts are named {fact.name!r}")
        known[fact.name] = fact.claim
    verdicts = []
    for step in theory.steps:
        if step.name in known:
            raise ValueError(f"two statements are named {step.name!r}")
        verdict = checker.check(step, known)
        if verdict.verified:
            known[step.name] = step.claim
        verdicts.append(verdict)
    return verdicts
