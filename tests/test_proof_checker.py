"""The checker must refuse: each test offers a false claim, or a true one with an unfit certificate."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from sympy import Integer, Rational

from kktalloc.proof._checker import Checker, verify
from kktalloc.proof._language import (
    Claim,
    Same,
    Sign,
    Signature,
    Sort,
    Square,
    Step,
    Theory,
    Total,
    Use,
    eq,
    le,
    total,
)


class World:
    """A small signature: two sorts that are summed, one that is averaged."""

    def __init__(self) -> None:
        sig = self.signature = Signature()
        self.n = sig.parameter("n", Sign.POSITIVE)
        self.d = sig.parameter("d", Sign.POSITIVE)
        self.a = sig.parameter("a", Sign.REAL)
        self.b = sig.parameter("b", Sign.REAL)
        self.p = sig.parameter("p", Sign.NONNEGATIVE)
        self.q = sig.parameter("q", Sign.POSITIVE)
        item, coordinate, chance = Sort("item", self.n), Sort("coordinate", self.d), Sort("chance", Integer(1))
        self.k, self.h = sig.index("k", item), sig.index("h", item)
        self.j = sig.index("j", coordinate)
        self.w, self.w2 = sig.index("w", chance), sig.index("w2", chance)
        self.x, self.y = sig.family("x", (item,)), sig.family("y", (item,))
        self.alpha = sig.family("alpha", (item,), Sign.NONNEGATIVE)
        self.m = sig.family("m", (item,), Sign.INDICATOR)
        self.z = sig.family("z", (item, item))
        self.v = sig.family("v", (coordinate,))
        self.r = sig.family("r", (chance,))

    def accepts(
        self,
        claim: Claim,
        uses: tuple[Use, ...] = (),
        squares: tuple[Square, ...] = (),
        known: dict[str, Claim] | None = None,
    ) -> bool:
        step = Step("s", claim, "", uses, squares)
        return Checker(self.signature).check(step, known or {}).verified


@pytest.fixture
def world() -> World:
    return World()


# -- inequalities and signs --------------------------------------------------------------------------------
def test_a_false_claim_has_no_empty_certificate(world: World) -> None:
    assert not world.accepts(le(1, 0))
    assert not world.accepts(eq(1, 0))
    assert not world.accepts(le(0, world.p))  # true, but a nonnegative name must be certified too
    assert world.accepts(le(0, world.p), squares=(Square(Integer(1), world.p),))


def test_negative_multipliers_and_weights(world: World) -> None:
    known = {"h": le(world.a, world.b)}
    assert world.accepts(le(world.a, world.b), (Use("h"),), known=known)
    assert not world.accepts(le(world.b, world.a), (Use("h", -1),), known=known)
    assert not world.accepts(le(world.b, world.a), (Use("h"),), known=known)
    assert not world.accepts(le(1, 0), squares=(Square(Integer(1), Integer(-1)),))
    assert not world.accepts(le(0, -world.p), squares=(Square(Integer(1), -world.p),))


@pytest.mark.parametrize("name", ["a", "difference", "odd", "family"])
def test_multipliers_of_unknown_sign(world: World, name: str) -> None:
    times = {
        "a": world.a,
        "difference": world.q - world.p,
        "odd": world.a**3,
        "family": total(world.x(world.k), world.k),
    }[name]
    known = {"h": le(0, world.b)}
    assert not world.accepts(le(0, times * world.b), (Use("h", times),), known=known)
    even = times**2
    assert world.accepts(le(0, even * world.b), (Use("h", even),), known=known)


def test_an_inequality_or_a_square_proves_no_equality(world: World) -> None:
    assert not world.accepts(eq(0, world.b), (Use("h"),), known={"h": le(0, world.b)})
    assert not world.accepts(eq(0, world.a**2), squares=(Square(world.a),))
    assert not world.accepts(Claim(Integer(0), ">=", Integer(1)))  # type: ignore[arg-type]


def test_an_unknown_relation_is_no_equality(world: World) -> None:
    known = {"h": Claim(world.a, ">=", world.b)}  # type: ignore[arg-type]
    assert not world.accepts(eq(world.a, world.b), (Use("h"),), known=known)
    assert not world.accepts(le(world.b, world.a), (Use("h", -1),), known=known)
    known = {"h": Claim(Integer(0), ">=", world.a), "p": le(0, world.p)}  # type: ignore[arg-type]
    assert not world.accepts(le(0, world.a * world.p), (Use("p", world.a, since=("h",)),), known=known)


def test_an_equality_may_be_used_both_ways(world: World) -> None:
    known = {"h": eq(world.a, world.b)}
    assert world.accepts(le(world.b, world.a), (Use("h", -1),), known=known)
    assert world.accepts(eq(world.a * world.x(world.k), world.b * world.x(world.k)),
                         (Use("h", world.x(world.k)),), known=known)  # fmt: skip


# -- indices ---------------------------------------------------------------------------------------------
def test_square_of_a_sum_is_not_the_sum_of_squares(world: World) -> None:
    x, k = world.x, world.k
    assert not world.accepts(eq(total(x(k), k) ** 2, total(x(k) ** 2, k)))
    assert not world.accepts(eq(total(x(k), k) * total(world.y(k), k), total(x(k) * world.y(k), k)))
    assert world.accepts(eq(total(x(k), k) ** 2, total(x(k) * x(world.h), k, world.h)))


def test_inner_totals_bind_first(world: World) -> None:
    x, y, k, h = world.x, world.y, world.k, world.h
    shadowed = Total(x(k) * Total(y(k), k), k)
    assert world.accepts(eq(shadowed, total(x(k), k) * total(y(h), h)))
    assert not world.accepts(eq(shadowed, total(x(k) * y(k), k)))
    assert not world.accepts(eq(x(k) * total(x(k), k), total(x(k) ** 2, k)))


def test_renaming_does_not_capture(world: World) -> None:
    x, z, k, h = world.x, world.z, world.k, world.h
    known = {"h": le(total(z(k, h), h), x(k))}  # for all k
    # Put h for k: the bound h of the total must stay apart.
    assert world.accepts(le(total(z(h, k), k), x(h)), (Use("h", at=((k, h),)),), known=known)
    assert not world.accepts(le(total(z(h, h), h), x(h)), (Use("h", at=((k, h),)),), known=known)
    assert not world.accepts(le(total(z(h, h), h), total(x(h), h)), (Use("h", 1, (h,), ((k, h),)),), known=known)


def test_a_fact_about_every_index_says_nothing_of_a_multiplier_outside_its_total(world: World) -> None:
    x, y, alpha, k = world.x, world.y, world.alpha, world.k
    known = {"h": le(x(k), y(k))}
    claim = le(total(alpha(k) * x(k), k), total(alpha(k) * y(k), k))
    assert world.accepts(claim, (Use("h", alpha(k), (k,)),), known=known)
    assert not world.accepts(claim, (Use("h", alpha(k)),), known=known)
    assert not world.accepts(claim, (Use("h", alpha(world.h), (k,)),), known=known)


def test_sizes(world: World) -> None:
    x, k, h = world.x, world.k, world.h
    assert world.accepts(eq(total(1, k), world.n))
    assert world.accepts(eq(total(x(k), k, h), world.n * total(x(k), k)))
    assert not world.accepts(eq(total(1, k), 1))
    assert world.accepts(eq(total(1, world.w), 1))


def test_sorts(world: World) -> None:
    assert not world.accepts(eq(world.x(world.j), 0))
    assert not world.accepts(eq(total(world.x(world.j) - world.x(world.j) + world.v(world.k), world.k), 0))
    assert not world.accepts(eq(world.x(world.k, world.h), 0))
    assert not world.accepts(eq(world.x(world.a), 0))
    assert not world.accepts(eq(Total(world.x(world.k), world.a), 0))
    assert not world.accepts(eq(Same(world.k, world.j), 0))
    known = {"h": le(0, world.x(world.k))}
    assert not world.accepts(le(0, world.v(world.j)), (Use("h", at=((world.k, world.j),)),), known=known)


def test_kronecker(world: World) -> None:
    x, k, h = world.x, world.k, world.h
    assert world.accepts(eq(total(Same(k, h) * x(h), h), x(k)))
    assert world.accepts(eq(total(Same(k, h) * x(k) * x(h), k, h), total(x(k) ** 2, k)))
    assert world.accepts(eq(Same(k, h) ** 2, Same(h, k)))
    assert not world.accepts(eq(Same(k, h), 1))
    assert not world.accepts(eq(total(Same(k, h) * x(h), h), x(h)))
    # On an average the total over a delta is not the value: chance has no point masses of size 1.
    assert not world.accepts(eq(total(Same(world.w, world.w2) * world.r(world.w2), world.w2), world.r(world.w)))


def test_expectation_of_a_product_is_not_the_product(world: World) -> None:
    r, w = world.r, world.w
    assert not world.accepts(eq(total(r(w) ** 2, w), total(r(w), w) ** 2))
    assert world.accepts(
        le(total(r(w), w) ** 2, total(r(w) ** 2, w)), squares=(Square(r(w) - total(r(w), w), Integer(1), (w,)),)
    )


def test_powers_of_indicators_only(world: World) -> None:
    assert world.accepts(eq(world.m(world.k) ** 3, world.m(world.k)))
    assert not world.accepts(eq(world.alpha(world.k) ** 2, world.alpha(world.k)))
    assert not world.accepts(eq(total(world.m(world.k), world.k) ** 2, total(world.m(world.k), world.k)))


# -- numbers, names, division ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "number",
    [
        sympy.Float(1),
        sympy.Float("1e-300"),
        sympy.sqrt(2),
        sympy.pi,
        sympy.I,
        sympy.nan,
        sympy.oo,
        sympy.zoo,
        sympy.E,
    ],
)
def test_only_rational_numbers(world: World, number: sympy.Expr) -> None:
    assert not world.accepts(eq(number, number))
    assert not world.accepts(le(world.a, world.a), squares=(Square(Integer(0), number),))
    assert not world.accepts(le(world.a, world.a), squares=(Square(number, Integer(0)),))
    known = {"h": le(0, world.p)}
    assert not world.accepts(le(0, world.p), (Use("h"), Use("h", number)), known=known)


def test_floats_are_refused_wherever_they_hide(world: World) -> None:
    known = {"h": le(0, world.p)}
    for times in (0.5, np.float64(0.5), sympy.Symbol("p") ** 2.0):
        assert not world.accepts(le(0, world.p / 2), (Use("h", times),), known=known)
    assert not world.accepts(eq(world.a**2.0, world.a**2))
    assert not world.accepts(le(0.0, world.p), (Use("h"),), known=known)
    with pytest.raises(sympy.SympifyError):
        eq("a", world.a)  # type: ignore[arg-type]


def test_division_only_by_positive_names(world: World) -> None:
    assert world.accepts(eq(world.q / world.q**2, 1 / world.q))
    for base in (world.a, world.p, world.x(world.k), world.alpha(world.k), world.q + 1, world.q + world.p):
        assert not world.accepts(eq(1 / base, 1 / base))
        assert not world.accepts(eq(2 / base, 1 / base))
    # a name that cancels leaves no trace, and needs no sign: what is left is what is claimed
    assert world.accepts(eq(world.a / world.a, 1))


def test_sympy_assumptions_do_not_count(world: World) -> None:
    fake = sympy.Symbol("a", positive=True)
    known = {"h": le(0, world.b)}
    assert not world.accepts(le(0, fake * world.b), (Use("h", fake),), known=known)
    assert not world.accepts(eq(1 / fake, 2 / fake))
    assert not world.accepts(eq(sympy.sqrt(world.a**2), world.a))
    assert not world.accepts(eq(sympy.Abs(fake), 0))
    assert not world.accepts(eq(sympy.Symbol("unknown"), sympy.Symbol("unknown") * 2))
    assert not world.accepts(eq(sympy.Function("f")(world.k), 0))
    assert not world.accepts(eq(world.k, 0))
    assert not world.accepts(eq(world.a**world.n, 0))
    assert not world.accepts(eq(world.a ** Rational(1, 2), 0))


# -- theories --------------------------------------------------------------------------------------------
def test_a_step_uses_only_what_was_verified_before_it() -> None:
    theory = Theory("t")
    a = theory.signature.parameter("a", Sign.REAL)
    theory.prove("itself", le(0, a), "", (Use("itself"),))
    theory.prove("later", le(0, a), "", (Use("last"),))
    theory.prove("last", le(0, a), "")
    theory.prove("on a failed step", le(0, a), "", (Use("last"),))
    theory.prove("on nothing", le(0, a), "", (Use("no such fact"),))
    assert [verdict.verified for verdict in verify(theory)] == [False] * 5


def test_names_are_declared_once() -> None:
    theory = Theory("t")
    a = theory.signature.parameter("a", Sign.REAL)
    for declare in (theory.signature.parameter, lambda n, s: theory.signature.family(n, (), s)):
        with pytest.raises(ValueError, match="declared twice"):
            declare("a", Sign.POSITIVE)
    with pytest.raises(ValueError, match="identifier"):
        theory.signature.parameter("#same", Sign.POSITIVE)
    theory.given("h", le(0, a), "")
    theory.prove("h", le(0, a - 1), "")
    with pytest.raises(ValueError, match="named 'h'"):
        verify(theory)
    theory.steps.clear()
    theory.given("h", le(0, a), "")
    with pytest.raises(ValueError, match="named 'h'"):
        verify(theory)


def test_a_sort_has_one_size() -> None:
    theory = Theory("t")
    n = theory.signature.parameter("n", Sign.POSITIVE)
    theory.signature.index("k", Sort("item", n))
    with pytest.raises(ValueError, match="two sizes"):
        theory.signature.index("other", Sort("item", Integer(1)))


def test_putting_in_numbers_leaves_sizes_alone() -> None:
    theory = Theory("t")
    n = theory.signature.parameter("n", Sign.POSITIVE)
    k = theory.signature.index("k", Sort("item", n))
    theory.prove("size", eq(total(1, k), n), "")
    with pytest.raises(ValueError, match="size"):
        theory.at("two items", {n: 2})


@pytest.mark.parametrize(
    ("sign", "good", "bad"),
    [
        (Sign.POSITIVE, [1, Rational(1, 9)], [0, -1, sympy.Symbol("q"), sympy.oo, sympy.sqrt(2)]),
        (Sign.NONNEGATIVE, [0, 2], [Rational(-1, 9), sympy.Symbol("q"), sympy.Float(1)]),
        (Sign.INDICATOR, [0, 1], [2, Rational(1, 2), -1]),
        (Sign.REAL, [-1, 0, Rational(7, 3)], [sympy.Symbol("q"), sympy.nan]),
    ],
)
def test_numbers_put_in_keep_the_declared_sign(sign: Sign, good: list[sympy.Expr], bad: list[sympy.Expr]) -> None:
    theory = Theory("t")
    a = theory.signature.parameter("a", sign)
    theory.signature.parameter("q", Sign.POSITIVE)
    theory.given("h", le(a, 3), "")
    for value in good:
        assert theory.at("numbers", {a: value}).facts[0].claim.lhs == value
    for value in bad:
        with pytest.raises(ValueError, match="a is declared"):
            theory.at("numbers", {a: value})


def test_a_refused_step_says_what_helps() -> None:
    theory = Theory("t")
    n, a = theory.signature.parameter("n", Sign.POSITIVE), theory.signature.parameter("a", Sign.REAL)
    item = Sort("item", n)
    k = theory.signature.index("k", item)
    x = theory.signature.family("x", (item,))
    theory.given("h", le(x(k), a), "")
    theory.prove("float", le(x(k), a), "", (Use("h", sympy.Float(1)),))
    theory.prove("float in a weight", le(x(k), a), "", (Use("h"),), (Square(a, sympy.Float(0)),))
    theory.prove("after it", le(x(k), a), "", (Use("float"),))
    theory.prove("nobody's", le(x(k), a), "", (Use("mistyped"),))
    theory.prove("not totalled", le(total(x(k), k), n * a), "", (Use("h"),))
    theory.prove("sign", le(x(k), a), "", (Use("h"),), (Square(x(k), a),))
    floating, weight, after, mistyped, free, sign = (verdict.reason for verdict in verify(theory))
    assert "(Float) is not in the language" in floating
    assert "(Float) is not in the language" in weight
    assert after == "'float' stands before this step, but was refused: mend it first"
    assert mistyped == "'mistyped' is neither given nor proved before"
    assert free.endswith("; the certificate leaves free what the claim does not have: k (over=?)")
    assert sign == "the weight a of the square of x[k] is not shown non-negative"
