"""The checker: with `_normal_form`, the part that has to be trusted.

It accepts ``lhs <= rhs`` when ``rhs - lhs`` minus the certificate expands to exactly zero, where the
certificate is a total of (non-negative multiplier) x (known inequality), (any multiplier) x (known
equality) and (non-negative weight) x (square). Arithmetic is on `fractions.Fraction`; a float, an
irrational number or a function it does not know is refused, and so is a symbol with assumptions of its
own, by which SymPy may have simplified before the checker saw anything.

Axioms, all of them:

1. Field arithmetic on rational numbers; only names declared positive may stand in a denominator.
2. ``Total`` is linear, totals over different indices commute, a factor free of the index comes out,
   the bound index may be renamed, and the total of 1 is the size of the sort. (This is linearity of
   sums and of expectation, and bilinearity of the inner product. It asks that every total be finite:
   see the hypothesis on second moments in ``docs/verification.md``, and do not total what has no mean.)
3. A total of non-negative bodies is non-negative; so are squares, and products and sums of such. A
   statement named in ``since`` may show more: ``a <= b`` that ``b - a`` is non-negative, and ``b``
   where ``a`` is; ``a == b`` that ``a`` is where ``b`` is.
4. Kronecker's delta: a total over its index replaces the index, ``same(i, i) = 1``, 0-or-1 valued.
5. A name declared 0-or-1 equals its own powers.
6. Sizes of sorts are whole numbers, and a sort of size declared positive, or 1, has a member. A certificate
   speaks of an index that its claim does not have only where that index has a value: its sort has a
   member, or the claim has another index of it. (A statement for all values of an index of an empty sort
   says nothing.)
7. The hypotheses and definitions of the theory; the tower property of expectation enters through the
   hypothesis `unbiased` in `_hypotheses`, telescoping through `consecutive` there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Same, Sign, Signature, Square, Step, Theory, Total
from kktalloc.proof._lengths import impossible_length
from kktalloc.proof._normal_form import Expander, Key, Refused, Slot, Term, collect, product, totalled
from kktalloc.proof._notation import Notation
from kktalloc.proof._residual import formula

# Statements by name: None where a step of that name was refused.
Known = Mapping[str, Claim | None]


@dataclass(frozen=True)
class Verdict:
    """The checker's answer for one step; ``residual`` is what the certificate leaves of a refused one."""

    step: Step
    verified: bool
    reason: str
    residual: Expr = sympy.S.Zero


class Checker:
    """Judges steps over a signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._expander = Expander(signature)

    def is_nonnegative(self, expr: Expr, since: Iterable[Claim] = ()) -> bool:
        """Whether the rules (axiom 3) show that an expression is never negative."""
        since = tuple(since)
        if any(self._shows(claim, expr) for claim in since):
            return True
        if isinstance(expr, sympy.Rational):
            return bool(expr >= 0)
        if isinstance(expr, sympy.Symbol | AppliedUndef):
            return self._expander.sign(expr) is not Sign.REAL
        if isinstance(expr, sympy.Add):
            return all(self.is_nonnegative(part, since) for part in expr.args)
        if isinstance(expr, sympy.Mul):
            good = [part for part in expr.args if self.is_nonnegative(part, since)]
            rest = [part for part in expr.args if part not in good]
            # SymPy flattens products, so a statement about one may have lost factors to its surroundings.
            return not rest or any(
                self._shows(claim, sympy.Mul(*rest, *some))
                for claim in since
                for size in range(len(good) + 1)
                for some in itertools.combinations(good, size)
            )
        if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer):
            return bool(expr.exp % 2 == 0) or self.is_nonnegative(expr.base, since)
        if isinstance(expr, Total):
            return self.is_nonnegative(expr.args[0], since)
        return isinstance(expr, Same)

    def _shows(self, claim: Claim, expr: Expr) -> bool:
        """Whether a known statement says that an expression, up to a positive factor, is not negative."""
        wanted = self.normal(self.terms(expr))
        difference = self.normal(self.gap(claim, {}))  # refuses a relation that is neither
        if claim.relation == "<=" and _proportional(wanted, difference):
            return True
        sides = [(claim.rhs, claim.lhs)] + [(claim.lhs, claim.rhs)] * (claim.relation == "==")
        return any(
            self.is_nonnegative(lower) and _proportional(wanted, self.normal(self.terms(side))) for side, lower in sides
        )

    def terms(self, expr: Expr) -> list[Term]:
        """Terms of an expression."""
        return self._expander.expand(expr, {})

    def normal(self, terms: Iterable[Term]) -> dict[Key, Fraction]:
        """Normal form of a sum of terms."""
        return collect(self._expander.canonical(term) for term in terms)

    def residual(self, step: Step, known: Known) -> dict[Key, Fraction]:
        """``rhs - lhs`` minus the certificate, in normal form; `Refused` where a sign or a name is unfit."""
        inequality = step.claim.relation == "<="
        terms = self.gap(step.claim, {})
        for use in step.uses:
            claim = self._known(use.fact, known)
            if claim.relation == "<=":
                if not inequality:
                    raise Refused(f"the inequality {use.fact!r} cannot prove an equality")
                self._sign(use.times, f"multiplier {self._plain(use.times)} of {use.fact!r}", use.since, known)
            scope, bound = self._expander.bind(use.over)
            inner = dict(scope)
            for source, target in use.at:
                if self._expander.sort(source) != self._expander.sort(target):
                    raise Refused(f"{source} and {target} are of different sorts")
                inner[source.name] = self._expander.slot(target, scope)
            terms += totalled(product([self._expander.expand(use.times, scope), self.gap(claim, inner)]), bound, -1)
        for square in step.squares:
            if not inequality:
                raise Refused("a square cannot prove an equality")
            what = f"weight {self._plain(square.times)} of the square of {self._plain(square.base)}"
            self._sign(square.times, what, square.since, known)
            scope, bound = self._expander.bind(square.over)
            factors = [self._expander.expand(part, scope) for part in (square.times, square.base, square.base)]
            terms += totalled(product(factors), bound, -1)
        return self.normal(terms)

    def _known(self, name: str, known: Known) -> Claim:
        if name not in known:
            raise Refused(f"{name!r} is neither given nor proved before")
        claim = known[name]
        if claim is None:
            raise Refused(f"{name!r} stands before this step, but was refused: mend it first")
        return claim

    def _sign(self, times: Expr, what: str, since: tuple[str, ...], known: Known) -> None:
        if not self.is_nonnegative(times, (self._known(name, known) for name in since)):
            self.terms(times)  # what is not in the language has a message of its own
            raise Refused(f"the {what} is not shown non-negative")

    def _plain(self, expr: Expr) -> str:
        return Notation(self._signature).plain(expr)

    def _free(self, claim: Claim) -> set[str]:
        return self._expander.free(claim.lhs) | self._expander.free(claim.rhs)

    def _strays(self, step: Step, known: Known) -> list[str]:
        """Indices that a certificate leaves free and that its claim does not have."""
        free, strays = self._free(step.claim), set()
        for part in step.parts:
            spoken = self._expander.free(part.times).union(
                *(self._free(self._known(name, known)) for name in part.since)
            )
            if isinstance(part, Square):
                spoken |= self._expander.free(part.base)
            else:
                targets = {source.name: target.name for source, target in part.at}
                spoken |= {targets.get(name, name) for name in self._free(self._known(part.fact, known))}
            strays |= spoken - {index.name for index in part.over} - free
        return sorted(strays)

    def _ask_members(self, step: Step, strays: list[str]) -> None:
        """Axiom 6: every index that a certificate speaks of has a value."""
        indices = self._signature.indices
        sorts = {indices[name] for name in self._free(step.claim)}
        for name in strays:
            if indices[name] not in sorts and not self._signature.is_inhabited(indices[name]):
                raise Refused(
                    f"the certificate speaks of the index {name}, which the claim does not have: "
                    f"the sort {indices[name].name!r} may be empty"
                )

    def gap(self, claim: Claim, scope: Mapping[str, Slot]) -> list[Term]:
        """``rhs - lhs``, each side expanded by itself so that SymPy cancels nothing unseen."""
        if claim.relation not in ("<=", "=="):
            raise Refused(f"{claim.relation!r} is not a relation")
        return self._expander.expand(claim.rhs, scope) + totalled(self._expander.expand(claim.lhs, scope), {}, -1)

    def check(self, step: Step, known: Known) -> Verdict:
        """Judge one step against the statements known before it."""
        try:
            residual = self.residual(step, known)
            strays = self._strays(step, known)
            self._ask_members(step, strays)
        except Refused as refusal:
            return Verdict(step, False, str(refusal))
        if residual:
            left = formula(residual, self._signature)
            reason = f"right side - left side - certificate is not 0 but {self._plain(left)}"
            if strays:
                reason += f"; the certificate leaves free what the claim does not have: {', '.join(strays)} (over=?)"
            return Verdict(step, False, reason, left)
        return Verdict(step, True, "residual is exactly zero")


def _proportional(wanted: Mapping[Key, Fraction], shown: Mapping[Key, Fraction]) -> bool:
    """Whether one normal form is a positive multiple of the other."""
    if not shown or wanted.keys() != shown.keys():
        return False
    factor, *others = {wanted[key] / shown[key] for key in shown}
    return not others and factor > 0


def verify(theory: Theory) -> list[Verdict]:
    """Judge the steps of a theory in order; a step may use the facts and the steps verified before it.

    Where a fact is not in the language, or sets a length to what is no whole number, every step is refused
    with that reason.

    Raises
    ------
    ValueError
        When two statements have one name, or a sort's size is unfit.
    """
    checker = Checker(theory.signature)
    known: dict[str, Claim | None] = {}
    for fact in theory.facts:
        if fact.name in known:
            raise ValueError(f"two facts are named {fact.name!r}")
        known[fact.name] = fact.claim
    fault = _fault(theory, checker)
    verdicts = []
    for step in theory.steps:
        if known.get(step.name):
            raise ValueError(f"two statements are named {step.name!r}")
        if fault or _says_nothing(step.claim):
            verdict = Verdict(step, False, fault or "it speaks of no name: SymPy evaluated what was written")
        else:
            verdict = checker.check(step, known)
        known[step.name] = step.claim if verdict.verified else None
        verdicts.append(verdict)
    return verdicts


def _fault(theory: Theory, checker: Checker) -> str | None:
    gaps = {}
    for fact in theory.facts:
        try:
            gaps[fact.name] = (fact.claim.relation, checker.normal(checker.gap(fact.claim, {})))
        except Refused as refusal:
            return f"the fact {fact.name!r} is not in the language: {refusal}"
    return impossible_length(gaps, theory.signature)


def _says_nothing(claim: Claim) -> bool:
    """A claim between numbers that is true as it stands: what it was meant to say was evaluated away."""
    if not (isinstance(claim.lhs, sympy.Rational) and isinstance(claim.rhs, sympy.Rational)):
        return False
    return bool(claim.lhs == claim.rhs or (claim.relation == "<=" and claim.lhs <= claim.rhs))
