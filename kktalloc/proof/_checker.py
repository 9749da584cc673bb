"""The checker: the one part that has to be trusted.

It accepts ``lhs <= rhs`` when ``rhs - lhs`` minus the certificate expands to exactly zero, where the
certificate is a total of (non-negative multiplier) x (known inequality), (any multiplier) x (known
equality) and (non-negative weight) x (square). Arithmetic is on `fractions.Fraction`; a float, an
irrational number or a function it does not know is refused.

Axioms, all of them:

1. Field arithmetic on rational numbers; only names declared positive may stand in a denominator.
2. ``Total`` is linear, totals over different indices commute, a factor free of the index comes out,
   the bound index may be renamed, and the total of 1 is the size of the sort. (This is linearity of
   sums and of expectation, and bilinearity of the inner product.)
3. A total of non-negative bodies is non-negative; so are squares, and products and sums of such.
4. Kronecker's delta: a total over its index replaces the index, ``same(i, i) = 1``, 0-or-1 valued.
5. A name declared 0-or-1 equals its own powers.
6. The hypotheses and definitions of the theory; the tower property of expectation enters through the
   hypothesis `unbiased` in `_hypotheses`, telescoping through `consecutive` there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Same, Sign, Signature, Sort, Step, Theory, Total

# An index is a declared name (free) or a number (bound); an atom is a name with its indices.
Slot = str | int
Atom = tuple[str, tuple[Slot, ...]]
Factor = tuple[tuple[str, tuple[str, ...], int], ...]
Key = tuple[Factor, ...]
_SAME = "#same"  # not an identifier, so that no declared name collides with it


class Refused(ValueError):  # noqa: N818 - a verdict, not a malfunction
    """The expression, claim or certificate is not acceptable; the message says why."""


@dataclass
class _Term:
    coefficient: Fraction
    powers: dict[Atom, int]
    bound: dict[int, Sort]


@dataclass(frozen=True)
class Verdict:
    """The checker's answer for one step."""

    step: Step
    verified: bool
    reason: str


class Checker:
    """Expands expressions over a signature and judges steps."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._fresh = itertools.count()

    # -- normal form ---------------------------------------------------------------------------------

    def normal_form(self, expr: Expr) -> dict[Key, Fraction]:
        """Coefficients of an expression in canonical monomials; empty exactly when it expands to zero."""
        return _collect(self._canonical(term) for term in self._expand(expr, {}))

    def _expand(self, expr: Expr, scope: Mapping[str, Slot]) -> list[_Term]:
        if isinstance(expr, sympy.Rational):
            return [_Term(Fraction(int(expr.p), int(expr.q)), {}, {})] if expr.p else []
        if isinstance(expr, sympy.Symbol):
            if expr.name not in self._signature.parameters:
                raise Refused(f"{expr} is not a declared parameter")
            return [_Term(Fraction(1), {(expr.name, ()): 1}, {})]
        if isinstance(expr, sympy.Add):
            return [term for part in expr.args for term in self._expand(part, scope)]
        if isinstance(expr, sympy.Mul):
            return _products([self._expand(part, scope) for part in expr.args])
        if isinstance(expr, sympy.Pow):
            return self._power(expr.base, expr.exp, scope)
        if isinstance(expr, Total):
            body, index = expr.args
            inner, bound = self._bind([index])
            return _total(self._expand(body, {**scope, **inner}), bound)
        if isinstance(expr, Same):
            first, second = expr.args
            if self._sort(first) != self._sort(second) or self._sort(first).size == 1:
                raise Refused(f"{expr} needs two indices of one sort that is summed, not averaged")
            pair = tuple(sorted((self._slot(first, scope), self._slot(second, scope)), key=str))
            return [_Term(Fraction(1), {(_SAME, pair): 1}, {})]
        if isinstance(expr, AppliedUndef):
            return [_Term(Fraction(1), {self._member(expr, scope): 1}, {})]
        raise Refused(f"{expr} ({type(expr).__name__}) is not in the language")

    def _power(self, base: Expr, exponent: Expr, scope: Mapping[str, Slot]) -> list[_Term]:
        if not isinstance(exponent, sympy.Integer):
            raise Refused(f"the exponent {exponent} is not an integer")
        if exponent >= 0:  # each copy is expanded anew, so that bound indices stay apart
            return _products([self._expand(base, scope) for _ in range(int(exponent))])
        if not isinstance(base, sympy.Symbol | AppliedUndef) or self._sign(base) is not Sign.POSITIVE:
            raise Refused(f"{base} stands in a denominator and is not declared positive")
        (term,) = self._expand(base, scope)
        (atom,) = term.powers
        return [_Term(Fraction(1), {atom: int(exponent)}, {})]

    def _member(self, expr: Expr, scope: Mapping[str, Slot]) -> Atom:
        name = expr.func.__name__
        if name not in self._signature.families:
            raise Refused(f"{expr} is not a member of a declared family")
        sorts = self._signature.families[name].sorts
        if len(sorts) != len(expr.args) or any(
            self._sort(index) != sort for index, sort in zip(expr.args, sorts, strict=True)
        ):
            raise Refused(f"{expr} has indices of the wrong sort")
        return name, tuple(self._slot(index, scope) for index in expr.args)

    def _sort(self, index: Expr) -> Sort:
        if not isinstance(index, sympy.Symbol) or index.name not in self._signature.indices:
            raise Refused(f"{index} is not a declared index")
        return self._signature.indices[index.name]

    def _slot(self, index: Expr, scope: Mapping[str, Slot]) -> Slot:
        return scope.get(index.name, index.name)

    def _canonical(self, term: _Term) -> tuple[Key, Fraction]:
        """Split a monomial into factors that share no bound index, each labelled independently of naming."""
        powers, bound = self._contract(term)
        groups = _components(powers, bound)
        factors = [_label(powers, group, bound) for group in groups if group]
        factors += [
            ((name, tuple(map(str, slots)), n),)
            for (name, slots), n in powers.items()
            if not any(isinstance(slot, int) for slot in slots)
        ]
        coefficient = term.coefficient
        used = {slot for _, slots in powers for slot in slots}
        for index, sort in bound.items():
            if index not in used:  # a total of something that does not depend on its index
                if isinstance(sort.size, sympy.Symbol) and sort.size.name in self._signature.parameters:
                    factors.append(((sort.size.name, (), 1),))
                elif sort.size != 1:
                    raise Refused(f"the size of sort {sort.name!r} must be a parameter or 1")
        return _merge(factors), coefficient

    def _contract(self, term: _Term) -> tuple[dict[Atom, int], dict[int, Sort]]:
        """Apply the delta and 0-or-1 axioms."""
        powers, bound = dict(term.powers), dict(term.bound)
        while True:
            pairs = [slots for name, slots in powers if name == _SAME]
            for first, second in pairs:
                old, new = (first, second) if first in bound else (second, first)
                if old == new:
                    del powers[_SAME, (first, second)]
                    break
                if old in bound:
                    del powers[_SAME, (first, second)], bound[old]  # type: ignore[arg-type]
                    powers = _rename(powers, old, new)
                    break
            else:
                break
        families = self._signature.families
        parameters = self._signature.parameters
        for atom, exponent in list(powers.items()):
            sign = None
            if atom[0] in families:
                sign = families[atom[0]].sign
            elif atom[0] in parameters:
                sign = parameters[atom[0]]
            if exponent == 0:
                del powers[atom]
            elif atom[0] == _SAME or sign is Sign.INDICATOR:
                powers[atom] = 1
        return powers, bound

    # -- signs ---------------------------------------------------------------------------------------

    def _sign(self, expr: Expr) -> Sign:
        if isinstance(expr, AppliedUndef):
            self._member(expr, {})
            return self._signature.families[expr.func.__name__].sign
        if expr.name not in self._signature.parameters:
            raise Refused(f"{expr} is not a declared parameter")
        return self._signature.parameters[expr.name]

    def is_nonnegative(self, expr: Expr) -> bool:
        """Whether the rules (axiom 3) show that an expression is never negative."""
        if isinstance(expr, sympy.Rational):
            return bool(expr >= 0)
        if isinstance(expr, sympy.Symbol | AppliedUndef):
            return self._sign(expr) is not Sign.REAL
        if isinstance(expr, sympy.Add | sympy.Mul):
            return all(self.is_nonnegative(part) for part in expr.args)
        if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer):
            return bool(expr.exp % 2 == 0) or self.is_nonnegative(expr.base)
        if isinstance(expr, Total):
            return self.is_nonnegative(expr.args[0])
        return isinstance(expr, Same)

    # -- steps ---------------------------------------------------------------------------------------

    def residual(self, step: Step, known: Mapping[str, Claim]) -> dict[Key, Fraction]:
        """``rhs - lhs`` minus the certificate, in normal form; `Refused` if the certificate is unfit."""
        if step.claim.relation not in ("<=", "=="):
            raise Refused(f"{step.claim.relation!r} is not a relation")
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
            scope, bound = self._bind(use.over)
            inner = dict(scope)
            for source, target in use.at:
                if self._sort(source) != self._sort(target):
                    raise Refused(f"{source} and {target} are of different sorts")
                inner[source.name] = self._slot(target, scope)
            terms += _total(_products([self._expand(use.times, scope), self._gap(claim, inner)]), bound, -1)
        for square in step.squares:
            if not inequality:
                raise Refused("a square cannot prove an equality")
            if not self.is_nonnegative(square.times):
                raise Refused(f"the weight {square.times} of a square is not shown non-negative")
            scope, bound = self._bind(square.over)
            factors = [self._expand(part, scope) for part in (square.times, square.base, square.base)]
            terms += _total(_products(factors), bound, -1)
        return _collect(self._canonical(term) for term in terms)

    def _gap(self, claim: Claim, scope: Mapping[str, Slot]) -> list[_Term]:
        """``rhs - lhs``, each side expanded by itself so that SymPy cancels nothing unseen."""
        return self._expand(claim.rhs, scope) + _total(self._expand(claim.lhs, scope), {}, -1)

    def _bind(self, indices: Sequence[Expr]) -> tuple[dict[str, Slot], dict[int, Sort]]:
        """Fresh bound indices, and what they range over."""
        sorts = {next(self._fresh): (index, self._sort(index)) for index in indices}
        return {index.name: slot for slot, (index, _) in sorts.items()}, {n: sort for n, (_, sort) in sorts.items()}

    def check(self, step: Step, known: Mapping[str, Claim]) -> Verdict:
        """Judge one step against the statements known before it."""
        try:
            residual = self.residual(step, known)
        except Refused as refusal:
            return Verdict(step, False, str(refusal))
        if residual:
            return Verdict(step, False, f"residual of {len(residual)} terms, first {next(iter(residual.items()))}")
        return Verdict(step, True, "residual is exactly zero")


def _total(terms: list[_Term], bound: dict[int, Sort], sign: int = 1) -> list[_Term]:
    """Terms totalled over more indices, with a sign."""
    return [_Term(sign * term.coefficient, term.powers, {**term.bound, **bound}) for term in terms]


def _products(factors: Sequence[list[_Term]]) -> list[_Term]:
    terms = [_Term(Fraction(1), {}, {})]
    for factor in factors:
        terms = [_times(left, right) for left in terms for right in factor]
    return terms


def _times(left: _Term, right: _Term) -> _Term:
    powers = dict(left.powers)
    for atom, exponent in right.powers.items():
        powers[atom] = powers.get(atom, 0) + exponent
    return _Term(left.coefficient * right.coefficient, powers, {**left.bound, **right.bound})


def _rename(powers: dict[Atom, int], old: Slot, new: Slot) -> dict[Atom, int]:
    renamed: dict[Atom, int] = {}
    for (name, slots), exponent in powers.items():
        changed = tuple(new if slot == old else slot for slot in slots)
        if name == _SAME:
            changed = tuple(sorted(changed, key=str))
        renamed[name, changed] = renamed.get((name, changed), 0) + exponent
    return renamed


def _components(powers: dict[Atom, int], bound: dict[int, Sort]) -> list[frozenset[int]]:
    """Bound indices grouped so that no atom spans two groups."""
    groups: list[frozenset[int]] = []
    for _, slots in powers:
        joined = frozenset(slot for slot in slots if isinstance(slot, int))
        apart = []
        for group in groups:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups


def _label(powers: dict[Atom, int], group: frozenset[int], bound: dict[int, Sort]) -> Factor:
    """The least of the namings of a factor's bound indices: equal factors get equal labels."""
    by_sort: dict[str, list[int]] = {}
    for index in sorted(group):
        by_sort.setdefault(bound[index].name, []).append(index)
    atoms = [(atom, n) for atom, n in powers.items() if group.intersection(atom[1])]  # type: ignore[arg-type]

    def namings() -> Iterator[dict[Slot, str]]:
        orders = [itertools.permutations(indices) for indices in by_sort.values()]
        for choice in itertools.product(*orders):
            yield {
                index: f"#{sort}{position}"
                for sort, order in zip(by_sort, choice, strict=True)
                for position, index in enumerate(order)
            }

    def written(naming: dict[Slot, str]) -> Factor:
        parts = []
        for (name, slots), n in atoms:
            labels = tuple(naming.get(slot, str(slot)) for slot in slots)
            parts.append((name, tuple(sorted(labels)) if name == _SAME else labels, n))
        return tuple(sorted(parts))

    return min(map(written, namings()))


def _merge(factors: list[Factor]) -> Key:
    """Sort the factors; powers of one free atom are added up so that ``K * K**-1`` is nothing."""
    plain: dict[tuple[str, tuple[str, ...]], int] = {}
    totals = []
    for factor in factors:
        if len(factor) == 1 and not any(label.startswith("#") for label in factor[0][1]):
            name, labels, n = factor[0]
            plain[name, labels] = plain.get((name, labels), 0) + n
        else:
            totals.append(factor)
    singles = [((name, labels, n),) for (name, labels), n in plain.items() if n]
    return tuple(sorted(singles + totals))


def _collect(pairs: Iterator[tuple[Key, Fraction]]) -> dict[Key, Fraction]:
    gathered: dict[Key, Fraction] = {}
    for key, coefficient in pairs:
        gathered[key] = gathered.get(key, Fraction(0)) + coefficient
    return {key: value for key, value in gathered.items() if value}


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
