"""Normal forms written as formulas again, for people to read; the checker decides before anything is written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction

import sympy

from kktalloc.proof._language import Expr, Same, Signature, total
from kktalloc.proof._normal_form import SAME, Factor, Key


def formula(normal: Mapping[Key, Fraction], signature: Signature) -> Expr:
    """The expression whose normal form this is; bound indices get declared letters where there are enough."""
    return sympy.Add(
        *(
            sympy.Mul(
                sympy.Rational(value.numerator, value.denominator), *(_factor(part, key, signature) for part in key)
            )
            for key, value in normal.items()
        )
    )


def _factor(factor: Factor, key: Key, signature: Signature) -> Expr:
    free = {label for part in key for _, labels, _ in part for label in labels if not label.startswith("#")}
    letters: dict[str, Expr] = {}
    fresh: dict[str, Iterator[str]] = {}
    for label in dict.fromkeys(label for _, labels, _ in factor for label in labels):
        if label.startswith("#"):
            sort = label[1:].rsplit(":", 1)[0]
            names = fresh.setdefault(sort, _letters(sort, free, signature))
            letters[label] = sympy.Symbol(next(names))
        else:
            letters[label] = sympy.Symbol(label)
    body = sympy.Mul(*(_member(name, [letters[label] for label in labels]) ** n for name, labels, n in factor))
    return total(body, *(letters[label] for label in sorted(letters) if label.startswith("#")))


def _letters(sort: str, free: set[str], signature: Signature) -> Iterator[str]:
    declared = [name for name, its in signature.indices.items() if its.name == sort]
    yield from (name for name in declared if name not in free)
    stem = declared[0] if declared else "i"
    yield from (name for name in (f"{stem}_{n}" for n in itertools.count(1)) if name not in signature.latex)


def _member(name: str, indices: list[Expr]) -> Expr:
    if name == SAME:
        return Same(*indices)
    return sympy.Function(name)(*indices) if indices else sympy.Symbol(name)
