"""`rate`, the derivative rule of the allocation's proofs, against SymPy's derivative."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from kktalloc.proof._allocation import rate

NAMES = sympy.symbols("x y z")
X, Y, Z = NAMES
leaves = st.sampled_from(NAMES) | st.fractions(-3, 3, max_denominator=5).map(sympy.Rational)


def _grown(inner: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    pair = st.tuples(inner, inner)
    return (
        pair.map(lambda ab: ab[0] + ab[1])
        | pair.map(lambda ab: ab[0] * ab[1])
        | pair.map(lambda ab: ab[0] - ab[1])
        | st.tuples(inner, st.integers(-3, 3)).map(lambda be: (be[0] ** 2 + 1) ** be[1])
        | st.tuples(inner, st.integers(0, 3)).map(lambda be: be[0] ** be[1])
    )


expressions = st.recursive(leaves, _grown, max_leaves=7)


@given(expr=expressions, along=st.tuples(expressions, expressions))
def test_the_rate_is_the_total_derivative(expr: sympy.Expr, along: tuple[sympy.Expr, sympy.Expr]) -> None:
    """Along a direction that itself depends on the names; a name without a rate is constant."""
    rates = dict(zip((X, Y), along, strict=True))
    expected = sum(sympy.diff(expr, name) * moves for name, moves in rates.items())
    points = [(2, 3, 5), (-1, sympy.Rational(1, 2), 7), (sympy.Rational(-5, 3), 4, -2)]
    for point in points:
        at = dict(zip(NAMES, point, strict=True))
        assert rate(expr, rates).subs(at) == sympy.sympify(expected).subs(at)


def test_what_it_refuses() -> None:
    for expr in (sympy.exp(X), sympy.sqrt(X), X**Y, sympy.log(X) * Y, sympy.Float(2.5) * X, sympy.pi):
        with pytest.raises(TypeError, match="no rate for"):
            rate(expr, {X: 1, Y: 1})
