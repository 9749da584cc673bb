"""Expansion of expressions to a normal form: axioms 1, 2, 4 and 5 of `kktalloc.proof._checker`.

An expression becomes a list of terms. A term is a rational coefficient times powers of atoms under totals
over bound indices; bound indices are numbers, so that no two totals share one and nothing is captured. In
normal form a term is split into factors that share no bound index, each written in the least of its
namings, so that terms that axiom 2 makes equal are written alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Expr, Same, Sign, Signature, Sort, Total, is_plain_symbol

# An index is a declared name (free) or a number (bound); an atom is a name with its indices.
Slot = str | int
Atom = tuple[str, tuple[Slot, ...]]
Factor = tuple[tuple[str, tuple[str, ...], int], ...]
Key = tuple[Factor, ...]
SAME = "#same"  # not an identifier, so that no declared name collides with it


class Refused(ValueError):  # noqa: N818 - a verdict, not a malfunction
    """The expression, claim or certificate is not acceptable; the message says why."""


@dataclass(frozen=True)
class Term:
    """Coefficient times powers of atoms, totalled over the bound indices."""

    coefficient: Fraction
    powers: dict[Atom, int]
    bound: dict[int, Sort]


class Expander:
    """Expands expressions over a signature."""

    def __init__(self, signature: Signature) -> None:
        sorts: dict[str, Sort] = {}
        for sort in signature.sorts():
            signature.check_size(sort)
            if sorts.setdefault(sort.name, sort) != sort:
                raise Refused(f"two sorts are named {sort.name!r}")
        self._signature = signature
        self._fresh = itertools.count()

    def expand(self, expr: Expr, scope: Mapping[str, Slot]) -> list[Term]:
        """Terms of an expression whose indices the scope resolves; those not in it are free."""
        if isinstance(expr, sympy.Rational):
            return [Term(Fraction(int(expr.p), int(expr.q)), {}, {})] if expr.p else []
        if isinstance(expr, sympy.Symbol):
            _plain(expr)
            if expr.name not in self._signature.parameters:
                raise Refused(f"{expr} is not a declared parameter")
            return [Term(Fraction(1), {(expr.name, ()): 1}, {})]
        if isinstance(expr, sympy.Add):
            return [term for part in expr.args for term in self.expand(part, scope)]
        if isinstance(expr, sympy.Mul):
            return product([self.expand(part, scope) for part in expr.args])
        if isinstance(expr, sympy.Pow):
            return self._power(expr.base, expr.exp, scope)
        if type(expr) is Total:
            body, index = expr.args
            inner, bound = self.bind([index])
            return totalled(self.expand(body, {**scope, **inner}), bound)
        if type(expr) is Same:
            first, second = expr.args
            if self.sort(first) != self.sort(second) or self.sort(first).size == 1:
                raise Refused(f"{expr} needs two indices of one sort that is summed, not averaged")
            pair = tuple(sorted((self.slot(first, scope), self.slot(second, scope)), key=str))
            return [Term(Fraction(1), {(SAME, pair): 1}, {})]
        if isinstance(expr, AppliedUndef):
            return [Term(Fraction(1), {self._member(expr, scope): 1}, {})]
        raise Refused(f"{expr} ({type(expr).__name__}) is not in the language")

    def _power(self, base: Expr, exponent: Expr, scope: Mapping[str, Slot]) -> list[Term]:
        if not isinstance(exponent, sympy.Integer):
            raise Refused(f"the exponent {exponent} is not an integer")
        if exponent >= 0:  # each copy is expanded anew, so that bound indices stay apart
            return product([self.expand(base, scope) for _ in range(int(exponent))])
        if not isinstance(base, sympy.Symbol | AppliedUndef) or self.sign(base) is not Sign.POSITIVE:
            raise Refused(f"{base} stands in a denominator and is not declared positive")
        (term,) = self.expand(base, scope)
        (atom,) = term.powers
        return [Term(Fraction(1), {atom: int(exponent)}, {})]

    def _member(self, expr: Expr, scope: Mapping[str, Slot]) -> Atom:
        name = expr.func.__name__
        if expr.func != sympy.Function(name):
            raise Refused(f"{name} carries assumptions of its own: use what the signature returned")
        if name not in self._signature.families:
            raise Refused(f"{expr} is not a member of a declared family")
        sorts = self._signature.families[name].sorts
        if len(sorts) != len(expr.args) or any(
            self.sort(index) != sort for index, sort in zip(expr.args, sorts, strict=True)
        ):
            raise Refused(f"{expr} has indices of the wrong sort")
        return name, tuple(self.slot(index, scope) for index in expr.args)

    def sort(self, index: Expr) -> Sort:
        """What a declared index ranges over."""
        if not isinstance(index, sympy.Symbol) or index.name not in self._signature.indices:
            raise Refused(f"{index} is not a declared index")
        _plain(index)
        return self._signature.indices[index.name]

    def free(self, expr: Expr) -> set[str]:
        """Names of the indices of an expression that no total binds."""
        if type(expr) is Total:
            body, index = expr.args
            return self.free(body) - {index.name}
        if isinstance(expr, sympy.Symbol):
            return {expr.name} & self._signature.indices.keys()
        return set().union(*map(self.free, expr.args))

    def slot(self, index: Expr, scope: Mapping[str, Slot]) -> Slot:
        """The number that an index is bound to, or its name where it is free."""
        return scope.get(index.name, index.name)

    def canonical(self, term: Term) -> tuple[Key, Fraction]:
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
            if index not in used and sort.size != 1:  # a total of something that does not depend on its index
                factors.append(((sort.size.name, (), 1),))
        return _merge(factors), coefficient

    def _contract(self, term: Term) -> tuple[dict[Atom, int], dict[int, Sort]]:
        """Apply the delta and 0-or-1 axioms."""
        powers, bound = dict(term.powers), dict(term.bound)
        while True:
            pairs = [slots for name, slots in powers if name == SAME]
            for first, second in pairs:
                old, new = (first, second) if first in bound else (second, first)
                if old == new:
                    del powers[SAME, (first, second)]
                    break
                if old in bound:
                    del powers[SAME, (first, second)], bound[old]
                    powers = _rename(powers, old, new)
                    break
            else:
                break
        for atom, exponent in list(powers.items()):
            if exponent == 0:
                del powers[atom]
            elif atom[0] == SAME or self._signature.sign(atom[0]) is Sign.INDICATOR:
                powers[atom] = 1
        return powers, bound

    def bind(self, indices: Sequence[Expr]) -> tuple[dict[str, Slot], dict[int, Sort]]:
        """Fresh bound indices, and what they range over."""
        sorts = {next(self._fresh): (index, self.sort(index)) for index in indices}
        return {index.name: slot for slot, (index, _) in sorts.items()}, {n: sort for n, (_, sort) in sorts.items()}

    def sign(self, expr: Expr) -> Sign:
        """The declared sign of a parameter or of a member of a family."""
        if isinstance(expr, AppliedUndef):
            self._member(expr, {})
            return self._signature.families[expr.func.__name__].sign
        _plain(expr)
        if expr.name not in self._signature.parameters:
            raise Refused(f"{expr} is not a declared parameter")
        return self._signature.parameters[expr.name]


def _plain(symbol: Expr) -> None:
    if not is_plain_symbol(symbol):
        raise Refused(f"{symbol} carries assumptions of its own, by which SymPy may have simplified")


def totalled(terms: list[Term], bound: dict[int, Sort], sign: int = 1) -> list[Term]:
    """Terms totalled over more indices, with a sign."""
    return [Term(sign * term.coefficient, term.powers, {**term.bound, **bound}) for term in terms]


def product(factors: Sequence[list[Term]]) -> list[Term]:
    """Terms of a product."""
    terms = [Term(Fraction(1), {}, {})]
    for factor in factors:
        terms = [_times(left, right) for left in terms for right in factor]
    return terms


def _times(left: Term, right: Term) -> Term:
    powers = dict(left.powers)
    for atom, exponent in right.powers.items():
        powers[atom] = powers.get(atom, 0) + exponent
    return Term(left.coefficient * right.coefficient, powers, {**left.bound, **right.bound})


def _rename(powers: dict[Atom, int], old: Slot, new: Slot) -> dict[Atom, int]:
    renamed: dict[Atom, int] = {}
    for (name, slots), exponent in powers.items():
        changed = tuple(new if slot == old else slot for slot in slots)
        if name == SAME:
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
    atoms = [(atom, n) for atom, n in powers.items() if group.intersection(atom[1])]

    def namings() -> Iterator[dict[Slot, str]]:
        orders = [itertools.permutations(indices) for indices in by_sort.values()]
        for choice in itertools.product(*orders):
            yield {
                index: f"#{sort}:{position}"
                for sort, order in zip(by_sort, choice, strict=True)
                for position, index in enumerate(order)
            }

    def written(naming: dict[Slot, str]) -> Factor:
        parts = []
        for (name, slots), n in atoms:
            labels = tuple(naming.get(slot, str(slot)) for slot in slots)
            parts.append((name, tuple(sorted(labels)) if name == SAME else labels, n))
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


def collect(terms: Iterable[tuple[Key, Fraction]]) -> dict[Key, Fraction]:
    """Add up the coefficients of equal monomials; what is left is not zero."""
    gathered: dict[Key, Fraction] = {}
    for key, coefficient in terms:
        gathered[key] = gathered.get(key, Fraction(0)) + coefficient
    return {key: value for key, value in gathered.items() if value}
