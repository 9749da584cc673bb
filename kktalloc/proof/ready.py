"""Ready lemmas: each gives a step, claim and certificate, for whatever expressions it is called with.

The checker judges these steps like any other; nothing here is trusted. An expression that depends on an
index is handed over with that index free (``x(k, j)``); ``over`` are the indices of the norm, chance included
where it is a mean square: ``over=(w, j)`` makes it ``E |.|^2``.
"""

from __future__ import annotations

from typing import Any

from sympy import Function, Rational, Symbol, sympify

from kktalloc.proof._language import (
    Expr,
    Index,
    Same,
    Sign,
    Sort,
    Square,
    Step,
    Theory,
    Use,
    eq,
    inner,
    le,
    norm2,
    renamed,
    total,
)

__all__ = ["coverage", "descent", "drift", "jensen", "order", "polarisation", "sum_of_vectors", "young", "young_inner"]

_HALF = Rational(1, 2)
_Z = Symbol("z")  # a point of the way that a move takes
_POSITION = Function("position")


def young(name: str, a: Expr, b: Expr, y: Expr, over: tuple[Index, ...] = ()) -> Step:
    """``|a + b|^2 <= (1 + y) |a|^2 + (1 + 1/y) |b|^2``; y is a number > 0 or a name declared positive."""
    y = sympify(y)
    claim = le(norm2(a + b, *over), (1 + y) * norm2(a, *over) + (1 + 1 / y) * norm2(b, *over))
    return Step(name, claim, "Young's inequality.", (), (Square(y * a - b, 1 / y, over),))


def young_inner(name: str, a: Expr, b: Expr, y: Expr, over: tuple[Index, ...] = ()) -> Step:
    """``2 <a, b> <= y |a|^2 + |b|^2 / y``."""
    y = sympify(y)
    claim = le(2 * inner(a, b, *over), y * norm2(a, *over) + norm2(b, *over) / y)
    return Step(name, claim, "Young's inequality for an inner product.", (), (Square(y * a - b, 1 / y, over),))


def polarisation(name: str, a: Expr, b: Expr, over: tuple[Index, ...] = ()) -> Step:
    """``<a, b> == (|a|^2 + |b|^2 - |a - b|^2) / 2``."""
    claim = eq(inner(a, b, *over), (norm2(a, *over) + norm2(b, *over) - norm2(a - b, *over)) / 2)
    return Step(name, claim, "An inner product in squared norms.")


def jensen(name: str, x: Expr, weight: Expr, index: Index, weights: str, over: tuple[Index, ...] = ()) -> Step:
    """``|sum_k weight_k x_k|^2 <= sum_k weight_k |x_k|^2`` where the statement ``weights`` says that they sum to 1.

    ``weight`` is not negative, by the signs of its names.
    """
    mean = total(weight * x, index)
    return Step(
        name,
        le(norm2(mean, *over), total(weight * norm2(x, *over), index)),
        "The squared norm of a weighted mean is at most the weighted mean of squared norms.",
        (Use(weights, norm2(mean, *over)),),
        (Square(x - mean, weight, (*over, index)),),
    )


def sum_of_vectors(name: str, x: Expr, index: Index, twin: Index, length: Expr, over: tuple[Index, ...] = ()) -> Step:
    """``|sum_i x_i|^2 <= length * sum_i |x_i|^2``; ``twin`` is another index of the sort, ``length`` its size."""
    return Step(
        name,
        le(norm2(total(x, index), *over), length * total(norm2(x, *over), index)),
        "The squared norm of a sum of vectors is at most their number times the sum of squared norms.",
        (),
        (Square(x - renamed(x, index, twin), _HALF, (*over, index, twin)),),
    )


def coverage(
    name: str,
    deviation: Expr,
    kept: Expr,
    weight: Expr,
    indices: tuple[Index, Index, Index],
    weights: str,
    centred: str,
) -> Step:
    """What a part of weight p of centred deviations adds up to: ``(...)^2 <= p (1 - p) * variance``.

    ``kept`` is 0 or 1, ``indices`` three of one sort, the first of them free in the expressions. The
    statement ``weights`` says that the weights sum to 1, ``centred`` that the weighted deviations sum to 0.
    """
    k, k2, k3 = indices
    dev2, kept2 = renamed(deviation, k, k2), renamed(kept, k, k2)
    kept3 = renamed(kept, k, k3)
    p, part = total(weight * kept, k), total(weight * kept * deviation, k)
    spread = total(weight * deviation**2, k)
    pairs = weight * renamed(weight, k, k2) * renamed(weight, k, k3) / 2
    return Step(
        name,
        le(part**2, p * (1 - p) * spread),
        "The mean over the part misses the mean over all by at most (1 - p)/p times the variance.",
        (Use(weights, p * spread - part**2), Use(centred, p * (2 * part - total(weight * deviation, k)))),
        (
            Square((1 - kept3) * (deviation - dev2), pairs * kept * kept2, (k, k2, k3)),
            Square((1 - kept) * (1 - kept2) * (deviation - dev2), pairs * kept3, (k, k2, k3)),
        ),
    )


def order(theory: Theory, indices: tuple[Index, Index]) -> Any:
    """Declare which step comes before which; its family ``before(b, i)`` is 1 where step b comes before step i.

    Adds the hypothesis "trichotomy" and the step "number of pairs": there are length (length - 1)/2 of them.
    ``indices`` are two of the steps' sort.
    """
    b, i = indices
    sort = theory.signature.indices[b.name]
    before = theory.signature.family("before", (sort, sort), Sign.INDICATOR, latex=r"\chi")
    size = sort.size
    theory.given(
        "trichotomy",
        eq(before(b, i) + before(i, b) + Same(b, i), 1),
        "of two steps one comes before the other, or they are the same",
    )
    theory.prove(
        "number of pairs",
        eq(total(before(b, i), i, b), size * (size - 1) / 2),
        "n steps make n (n - 1)/2 ordered pairs.",
        (Use("trichotomy", _HALF, (b, i)),),
    )
    return before


def drift(
    name: str, x: Expr, before: Any, indices: tuple[Index, Index, Index], length: Expr, over: tuple[Index, ...] = ()
) -> Step:
    """``sum_i |sum_{b before i} x_b|^2 <= length (length - 1)/2 * sum_b |x_b|^2``: how far local steps drift.

    ``before`` is what `order` gave, ``indices`` are (b, another b, i) of the steps' sort, x has b free.
    """
    b, b2, i = indices
    past = before(b, i)
    x2 = renamed(x, b, b2)
    return Step(
        name,
        le(
            total(norm2(total(past * x, b), *over), i),
            length * (length - 1) / 2 * total(norm2(x, *over), b),
        ),
        "Cauchy-Schwarz over the steps before each, then a count of the pairs of steps.",
        (Use("number of pairs", total(norm2(x, *over), b)),),
        (
            Square(x - x2, _HALF * past * before(b2, i), (*over, i, b, b2)),
            Square((1 - before(b2, i)) * x2, past, (*over, i, b, b2)),
        ),
    )


def descent(
    theory: Theory,
    name: str,
    *,
    value: Expr,
    value_next: Expr,
    gradient: Expr,
    move: Expr,
    lipschitz: Expr,
    coordinate: Index,
) -> None:
    """Add the descent lemma, proved: ``value_next <= value + <gradient, move> + lipschitz/2 |move|^2``.

    Adds the hypotheses "NAME: Lipschitz" (the gradient at a point z of the way from before to after the move
    is within ``lipschitz * z * |move|`` of ``gradient``), "NAME: calculus" (the fundamental theorem along the
    way) and, once for a theory, "position" (the mean of z over [0, 1] is 1/2), and the steps "NAME, pointwise"
    and NAME. ``lipschitz`` is a name declared positive.
    """
    sig = theory.signature
    if "z" not in sig.latex:
        segment = Sort("point on the way", 1)
        sig.index("z", segment)
        sig.family("position", (segment,), Sign.POSITIVE, latex=r"\zeta")
        theory.given("position", eq(total(_POSITION(_Z), _Z), _HALF), "the mean of z over [0, 1] is 1/2")
    free = [index for index in sig.free(gradient) if index != _Z]
    on_way = sig.family(
        f"{''.join(letter if letter.isalnum() else '_' for letter in name)}_on_the_way",
        [sig.indices[index.name] for index in (*free, _Z)],
        latex=rf"\tilde g^{{\mathrm{{{name}}}}}",
    )(*free, _Z)
    at = _POSITION(_Z)
    curve = 1 / (2 * lipschitz * at)
    theory.given(
        f"{name}: Lipschitz",
        le(norm2(on_way - gradient, coordinate), lipschitz**2 * at**2 * norm2(move, coordinate)),
        "the gradient is Lipschitz continuous, along the way",
    )
    theory.given(
        f"{name}: calculus",
        eq(value_next - value, total(inner(on_way, move, coordinate), _Z)),
        "the fundamental theorem of calculus along the way",
    )
    theory.prove(
        f"{name}, pointwise",
        le(
            inner(on_way, move, coordinate),
            inner(gradient, move, coordinate) + lipschitz * at * norm2(move, coordinate),
        ),
        "At each point of the way the slope exceeds the first one by at most L z |move|^2.",
        (Use(f"{name}: Lipschitz", curve),),
        (Square(on_way - gradient - lipschitz * at * move, curve, (coordinate,)),),
    )
    theory.prove(
        name,
        le(value_next, value + inner(gradient, move, coordinate) + lipschitz / 2 * norm2(move, coordinate)),
        "A smooth function lies below its tangent plus L/2 times the squared step.",
        (
            Use(f"{name}: calculus"),
            Use(f"{name}, pointwise", over=(_Z,)),
            Use("position", lipschitz * norm2(move, coordinate)),
        ),
    )
