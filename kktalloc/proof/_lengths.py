"""Lengths are whole numbers: hypotheses that say otherwise are refused before anything is proved from them.

Only what follows from the equalities between parameters by linear elimination (products of parameters
count as unknowns of their own) is seen here: ``2 n == 1``, or ``n == m`` with ``m == 1/2``. That
hypotheses contradict each other in other ways no checker can decide; `kktalloc.proof.refute` searches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import sympy

from kktalloc.proof._language import Sign, Signature
from kktalloc.proof._normal_form import Key

Row = dict[Key, Fraction]


def impossible_length(facts: Mapping[str, tuple[str, Row]], signature: Signature) -> str | None:
    """What is wrong with a length in the facts (relation and normal form of right minus left side), or None."""
    lengths = signature.lengths()

    def names(key: Key) -> set[str]:
        return {name for factor in key for name, _, _ in factor}

    rows = {name: row for name, row in facts.items() if all(len(f) == 1 and not f[0][1] for key in row[1] for f in key)}
    solved: list[tuple[Key, Row]] = []  # each equality solved for one monomial, those of lengths alone last
    for name, (relation, row) in rows.items():
        if relation != "==":
            continue
        left = _reduced(row, solved)
        others = [key for key in left if not names(key) <= lengths]
        keys = others or [key for key in left if key]
        if keys:
            pivot = keys[0]
            scaled = {key: value / left[pivot] for key, value in left.items()}
            solved = [(key, _reduced(known, [(pivot, scaled)])) for key, known in solved] + [(pivot, scaled)]
        if any(left) and not others and not _has_whole_solution(left, signature):
            return f"{name!r} leaves no whole number for {_and(set().union(*map(names, left)))}, a length"
    for name, (relation, row) in rows.items():
        left = _reduced(row, solved)
        if relation == "<=" and any(left) and all(names(key) <= lengths for key in left):
            spoken = set().union(*map(names, left))
            if len(left) <= 2 and len(spoken) == 1 and not _may_hold(left, signature):
                return f"{name!r} leaves no whole number for {_and(spoken)}, a length"
    return None


def _reduced(row: Row, solved: list[tuple[Key, Row]]) -> Row:
    left = dict(row)
    for pivot, known in solved:
        factor = left.get(pivot, Fraction(0))
        for key, value in known.items() if factor else ():
            left[key] = left.get(key, Fraction(0)) - factor * value
    return {key: value for key, value in left.items() if value}


def _powers(key: Key) -> dict[str, int]:
    return {name: n for ((name, _, n),) in key}


def _least(name: str, signature: Signature) -> int:
    return 1 if signature.parameters[name] is Sign.POSITIVE else 0


def _has_whole_solution(row: Row, signature: Signature) -> bool:
    """Whether ``row == 0`` may hold for whole numbers: decided for one length, by divisibility for more."""
    spoken = sorted(set().union(*(_powers(key) for key in row)))
    if len(spoken) == 1:
        (name,) = spoken
        x = sympy.Symbol("x")
        lift = -min(0, *(_powers(key).get(name, 0) for key in row))
        poly = sympy.Poly(
            sum(
                sympy.Rational(v.numerator, v.denominator) * x ** (_powers(k).get(name, 0) + lift)
                for k, v in row.items()
            ),
            x,
        )
        return any(root.is_Integer and root >= _least(name, signature) for root in poly.ground_roots())
    if any(n < 0 for key in row for n in _powers(key).values()):
        return True
    scale = math.lcm(*(value.denominator for value in row.values()))
    whole = {key: int(value * scale) for key, value in row.items()}
    constant = whole.pop((), 0)
    return constant % math.gcd(*whole.values()) == 0


def _may_hold(row: Row, signature: Signature) -> bool:
    """Whether ``0 <= row`` may hold, for a linear row in one length."""
    (key,) = (key for key in row if key)
    ((name, power),) = _powers(key).items()
    slope, constant = row[key], row.get((), Fraction(0))
    if power != 1 or slope > 0:  # a large length does
        return True
    return math.floor(-constant / slope) >= _least(name, signature)


def _and(names: set[str]) -> str:
    return " and ".join(sorted(names))
