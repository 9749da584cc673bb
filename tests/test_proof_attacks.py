"""Attacks on the checker, each with the verdict that it must get.

An attack offers a claim that is false in some model of its facts, or that has no meaning; it must be refused
(`REFUSED`, with the reason) or impossible to write down (`UNSAYABLE`). A few claims look false and are true
(`TRUE`). None that is false may be accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sympy
from sympy import Mul, Pow, Rational, S, Symbol

from kktalloc.proof._checker import Verdict, verify
from kktalloc.proof._language import Claim, Same, Sign, Sort, Square, Theory, Total, Use, eq, le, total

REFUSED, UNSAYABLE, TRUE = "refused", "unsayable", "true"


def world() -> SimpleNamespace:
    """Sorts that are summed (one perhaps empty) and averaged; families and parameters of every sign."""
    theory = Theory("attack")
    sig = theory.signature
    n, n0 = sig.parameter("n", Sign.POSITIVE), sig.parameter("n0", Sign.NONNEGATIVE)
    item, maybe, chance = Sort("item", n), Sort("maybe", n0), Sort("chance", 1, expectation=True)
    v = SimpleNamespace(theory=theory, sig=sig, n=n, n0=n0, item=item, maybe=maybe, chance=chance)
    for name, sort in (
        ("k", item),
        ("h", item),
        ("l", item),
        ("e", maybe),
        ("e2", maybe),
        ("w", chance),
        ("w2", chance),
    ):
        setattr(v, name, sig.index(name, sort))
    real, nonneg, pos, bit = Sign.REAL, Sign.NONNEGATIVE, Sign.POSITIVE, Sign.INDICATOR
    for name, sorts, sign in (
        ("x", (item,), real), ("y", (item,), real), ("al", (item,), nonneg), ("m", (item,), bit),
        ("z", (item, item), real), ("f", (maybe,), real), ("pe", (maybe,), pos),
        ("r", (chance,), real), ("q", (chance,), real), ("pos", (chance,), pos), ("mr", (chance,), bit),
    ):  # fmt: skip
        setattr(v, name, sig.family(name, sorts, sign))
    for name, sign in (("a", real), ("b", real), ("c", real), ("p", nonneg), ("P", pos), ("bit", bit)):
        setattr(v, name, sig.parameter(name, sign))
    return v


def offer(
    v: Any, claim: Claim, uses: tuple[Use, ...] = (), squares: tuple[Square, ...] = (), **facts: Claim
) -> Verdict:
    """The verdict on a claim with a certificate, from facts."""
    for name, fact in facts.items():
        v.theory.given(name, fact, "")
    v.theory.prove("claim", claim, "", uses, squares)
    return verify(v.theory)[-1]


def assumed(name: str = "a", **assumptions: bool) -> Symbol:
    return Symbol(name, **assumptions)


def sized(v: Any, size: Any, name: str = "other") -> tuple[Any, Any, Any]:
    sort = Sort(name, size)
    return v.sig.index("i1", sort), v.sig.index("i2", sort), v.sig.family("g", (sort,))


def shadowed(v: Any) -> Verdict:
    v.theory.given("claim", le(0, v.p), "")
    return offer(v, le(1, 0))


def circular(v: Any) -> Verdict:
    v.theory.prove("first", le(1, 0), "", (Use("claim"),))
    return offer(v, le(1, 0), (Use("first"),))


def numbers_put_in(v: Any) -> Verdict:
    offer(v, eq(v.a, 1 / v.P), (Use("h", -1 / v.P),), h=eq(v.P * v.a, 1))
    return verify(v.theory.at("small", {v.P: Rational(1, 10**9)}))[-1]


def assumption_outlives_a_number(v: Any) -> Verdict:
    offer(v, le(v.p * v.a, v.p * v.b), (Use("h"),), h=le(v.p * v.a, assumed("p", positive=True) * v.b))
    theory = v.theory.at("nothing", {v.p: 0})
    theory.prove("after", le(0, v.p * v.b), "", (Use("h"),))
    return verify(theory)[-1]


class Total2(Total):  # type: ignore[misc]
    """Not the total of the language."""


ATTACKS: dict[str, tuple[str, str, Callable[[Any], Verdict]]] = {
    # -- sorts that may be empty: a statement for all their indices says nothing -----------------------------
    "empty sort: bounds meet at a member": (REFUSED, "'maybe' may be empty", lambda v: offer(
        v, le(1, 0), (Use("lo"), Use("hi"), Use("a1", -1), Use("b0", 1)),
        lo=le(v.a, v.f(v.e)), hi=le(v.f(v.e), v.b), empty=eq(v.n0, 0), a1=eq(v.a, 1), b0=eq(v.b, 0))),
    "empty sort: bounds meet, sort not said to be empty": (REFUSED, "may be empty", lambda v: offer(
        v, le(v.a, v.b), (Use("lo"), Use("hi")), lo=le(v.a, v.f(v.e)), hi=le(v.f(v.e), v.b))),
    "empty sort: a positive member": (REFUSED, "may be empty", lambda v: offer(
        v, le(1, 0), (Use("h", 1 / v.pe(v.e)),), h=le(v.pe(v.e), 0), empty=eq(v.n0, 0))),
    "empty sort: two equalities": (REFUSED, "may be empty", lambda v: offer(
        v, eq(v.a, v.b), (Use("f", -1), Use("g", 1)), f=eq(v.f(v.e), v.a), g=eq(v.f(v.e), v.b))),
    "empty sort: renamed": (REFUSED, "the index e2", lambda v: offer(
        v, eq(v.a, v.b), (Use("f", -1, at=((v.e, v.e2),)), Use("g", 1, at=((v.e, v.e2),))),
        f=eq(v.f(v.e), v.a), g=eq(v.f(v.e), v.b))),
    "empty sort: no index left after SymPy": (REFUSED, "may be empty", lambda v: offer(
        v, le(1, 0), (Use("h"),), h=le(v.f(v.e) + 1, total(v.f(v.e), v.w)))),
    "empty sort: in the sign of a multiplier": (REFUSED, "may be empty", lambda v: offer(
        v, le(0, v.a * v.p), (Use("p0", v.a, since=("h",)),),
        h=le(v.f(v.e), total(v.f(v.e), v.w) + v.a), p0=le(0, v.p))),
    "empty sort: in a multiplier": (REFUSED, "may be empty", lambda v: offer(
        v, le(0, v.a**2), (Use("h", v.a**2 / v.pe(v.e)),), h=le(0, v.pe(v.e)))),
    "empty sort: divided by its size": (REFUSED, "denominator", lambda v: offer(
        v, eq(total(1, v.e) / v.n0, 1))),
    "empty sort: same sort in the claim, so it has a member": (TRUE, "", lambda v: offer(
        v, le(v.a, v.b + v.f(v.e) ** 2), (Use("lo", at=((v.e, v.e2),)), Use("hi", at=((v.e, v.e2),))),
        (Square(v.f(v.e)),), lo=le(v.a, v.f(v.e)), hi=le(v.f(v.e), v.b))),
    "empty sort: totalled, which is true of none": (TRUE, "", lambda v: offer(
        v, le(v.n0 * v.a, v.n0 * v.b), (Use("lo", 1, (v.e,)), Use("hi", 1, (v.e,))),
        lo=le(v.a, v.f(v.e)), hi=le(v.f(v.e), v.b))),
    # -- lengths are whole numbers ---------------------------------------------------------------------------
    "length: of unknown sign": (UNSAYABLE, "lengths are whole numbers", lambda v: offer(
        v, le(0, -1), (Use("neg"),), (Square(1, 1, (sized(v, v.a)[0],)),), neg=eq(v.a, -1))),
    "length: 0 or 1 by its sign": (UNSAYABLE, "lengths are whole numbers", lambda v: sized(v, v.bit)),
    "length: not declared": (UNSAYABLE, "not declared", lambda v: sized(v, Symbol("nobody"))),
    "length: of a family, not declared": (UNSAYABLE, "not declared", lambda v:
        v.sig.family("u", (Sort("s", Symbol("o")),))),
    "length: one half": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, Rational(-1, 4)), (Use("half", v.n - Rational(1, 2)),), (Square(1 - Same(v.k, v.h), 1, (v.k, v.h)),),
        half=eq(v.n, Rational(1, 2)))),
    "length: one half by another name": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), name=eq(v.n, v.P), half=eq(2 * v.P, 1))),
    "length: one half, said first": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), half=eq(2 * v.P, 1), name=eq(v.n, v.P))),
    "length: odd and even": (REFUSED, "no whole number for n and n0", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), parity=eq(2 * v.n, 2 * v.n0 + 1))),
    "length: a root of two": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), root=eq(v.n**2, 2))),
    "length: between 0 and 1": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), small=le(v.n, Rational(1, 2)))),
    "length: none where there is one": (REFUSED, "no whole number for n", lambda v: offer(
        v, le(0, v.a), (Use("z"),), z=le(0, v.a), none=eq(v.n, 0))),
    "length: 1 written as a product": (UNSAYABLE, "parameter or 1", lambda v: sized(v, Mul(1, 1, evaluate=False))),
    "length: 1 as a float": (UNSAYABLE, "parameter or 1", lambda v: sized(v, 1.0)),
    "length: 2": (UNSAYABLE, "parameter or 1", lambda v: sized(v, 2)),
    "length: a symbol with assumptions": (UNSAYABLE, "parameter or 1", lambda v: sized(v, assumed("n", positive=True))),
    "length: an expectation that is summed": (UNSAYABLE, "no expectations", lambda v: Sort("s", v.n, expectation=True)),
    "length: two sizes for one sort": (UNSAYABLE, "two sizes", lambda v: sized(v, v.n0, "item")),
    "length: two sizes, in a family": (UNSAYABLE, "two sorts", lambda v: offer(
        v, eq(v.sig.family("u", (Sort("item", v.n0),))(v.k), 0))),
    "length: 1 by a fact": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(v.x(v.k), total(v.x(v.h), v.h)), (Use("one", -v.x(v.k)),), one=eq(v.n, 1))),
    # -- symbols with assumptions, look-alikes -----------------------------------------------------------------
    "assumption: max(a, 0) = a": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(sympy.Max(assumed(positive=True), 0), v.a))),
    "assumption: (-1)^(2 a) = 1": (REFUSED, "speaks of no name", lambda v: offer(
        v, eq((-1) ** (2 * assumed(integer=True)), 1))),
    "assumption: a^2 = 0 for a zero": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(assumed(zero=True) ** 2, 0))),
    "assumption: a b - b a, not commuting": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(assumed("a", commutative=False) * assumed("b", commutative=False)
              - assumed("b", commutative=False) * assumed("a", commutative=False), 0))),
    "assumption: a dummy": (REFUSED, "assumptions of its own", lambda v: offer(v, eq(sympy.Dummy("a"), v.a))),
    "assumption: in a fact, put in as a number": (REFUSED, "assumptions of its own", assumption_outlives_a_number),
    "assumption: in a fact that is not used": (REFUSED, "fact 'h'", lambda v: offer(
        v, le(0, v.a**2), (), (Square(v.a),), h=le(0, assumed(positive=True)))),
    "assumption: an index": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(v.x(assumed("k", integer=True)), v.x(v.k)))),
    "assumption: a bound index": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(Total(v.x(v.k), assumed("k", integer=True)), total(v.x(v.k), v.k)))),
    "assumption: a family": (REFUSED, "assumptions of its own", lambda v: offer(
        v, eq(sympy.Function("x", positive=True)(v.k), v.x(v.k)))),
    "assumption: sqrt(a^2) under a square": (REFUSED, "assumptions of its own", lambda v: offer(
        v, le(0, sympy.sqrt(assumed(positive=True) ** 2)), (), (Square(1, assumed(positive=True)),))),
    "assumption: |a| under a square": (REFUSED, "assumptions of its own|integer", lambda v: offer(
        v, le(0, sympy.Abs(assumed(positive=True))), (), (Square(sympy.sqrt(assumed(positive=True))),))),
    "look-alike: a Cyrillic a": (UNSAYABLE, "ASCII", lambda v:
        v.sig.parameter("\N{CYRILLIC SMALL LETTER A}", Sign.POSITIVE)),
    "look-alike: full-width digits": (UNSAYABLE, "ASCII", lambda v: v.sig.index("k\N{FULLWIDTH DIGIT TWO}", v.item)),
    "look-alike: two names printed alike": (UNSAYABLE, "printed like a", lambda v:
        v.sig.parameter("A", Sign.POSITIVE, "a")),
    "look-alike: but for braces": (UNSAYABLE, "printed like a", lambda v: v.sig.parameter("A", Sign.POSITIVE, "{a} ")),
    "look-alike: printed as nothing": (UNSAYABLE, "printed as", lambda v: v.sig.parameter("A", Sign.POSITIVE, "{}")),
    "look-alike: printed in Cyrillic": (UNSAYABLE, "printed as", lambda v: v.sig.parameter(
        "A", Sign.POSITIVE, "\N{CYRILLIC SMALL LETTER A}")),
    "look-alike: a family called E": (UNSAYABLE, "like a total", lambda v: v.sig.family("E", (v.item,))),
    # -- signs, relations -----------------------------------------------------------------------------------
    "sign: minus an even power": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(v.b**3, v.a**3), (Use("h", -(v.a**2)),), h=le(v.a, v.b))),
    "sign: minus nested powers": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, -(v.a**6) * v.b), (Use("h", -Pow(Pow(v.a, 3, evaluate=False), 2, evaluate=False)),), h=le(0, v.b))),
    "sign: of a total of reals": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, total(v.x(v.k), v.k)), (), (Square(1, total(v.x(v.k), v.k)),))),
    "sign: of a delta minus one": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(1, Same(v.k, v.h)), (), (Square(1, Same(v.k, v.h) - 1),))),
    "sign: Jensen backwards": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(total(v.r(v.w) ** 2, v.w), total(v.r(v.w), v.w) ** 2), (),
        (Square(v.r(v.w) - total(v.r(v.w), v.w), -1, (v.w,)),))),
    "sign: an inequality for an equality": (REFUSED, "cannot prove an equality", lambda v: offer(
        v, eq(0, 1), (Use("h"),), h=le(0, 1))),
    "sign: by a statement the wrong way round": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, (v.a - 1) * v.p), (Use("p0", v.a - 1, since=("h",)),), h=le(v.a, 1), p0=le(0, v.p))),
    "sign: by an inequality from above": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, v.a * v.p), (Use("p0", v.a, since=("h",)),), h=le(v.a, v.P), p0=le(0, v.p))),
    "sign: by a statement of another index": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, v.x(v.h) * v.p), (Use("p0", v.x(v.h), since=("h",)),), h=le(0, v.x(v.k)), p0=le(0, v.p))),
    "sign: by a total, of its body": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, v.x(v.k) * v.p), (Use("p0", v.x(v.k), since=("h",)),), h=le(0, total(v.x(v.k), v.k)), p0=le(0, v.p))),
    "sign: by nobody's statement": (REFUSED, "neither given nor proved", lambda v: offer(
        v, le(0, v.a * v.p), (Use("p0", v.a, since=("claim",)),), p0=le(0, v.p))),
    "sign: by 0 <= 0": (REFUSED, "not shown non-negative", lambda v: offer(
        v, le(0, v.a * v.p), (Use("p0", v.a, since=("h",)),), h=le(0, 0), p0=le(0, v.p))),
    "relation: >=": (REFUSED, "not a relation", lambda v:
        offer(v, Claim(S.Zero, ">=", S.One))),  # type: ignore[arg-type]
    "relation: < as an equality": (REFUSED, "not a relation", lambda v: offer(
        v, le(v.b, v.a), (Use("h", -1),), h=Claim(v.a, "<", v.b))),  # type: ignore[arg-type]
    # -- division, powers, numbers ----------------------------------------------------------------------------
    "division: by a name that may be 0": (REFUSED, "not declared positive", lambda v: offer(
        v, eq(v.a, v.b), (Use("h", 1 / v.p),), h=eq(v.p * v.a, v.p * v.b))),
    "division: cancelled by SymPy": (REFUSED, "not declared positive", lambda v: offer(
        v, eq(v.p * v.a / v.p, v.b * v.p / v.p), (Use("h", Mul(1, 1 / v.p)),), h=eq(v.p * v.a, v.p * v.b))),
    "division: m / m = 1": (REFUSED, "not declared positive", lambda v: offer(
        v, eq(Mul(v.m(v.k), Pow(v.m(v.k), -1), evaluate=False), 1))),
    "division: m^-2 = m": (REFUSED, "not declared positive", lambda v: offer(
        v, eq(Pow(v.m(v.k), -2, evaluate=False), v.m(v.k)))),
    "division: by a total": (REFUSED, "not declared positive", lambda v: offer(
        v, eq(total(v.pos(v.w), v.w) / total(v.pos(v.w), v.w) ** 2, 1 / total(v.pos(v.w), v.w)))),
    "power: 0^0 = 0": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(Pow(v.a, 0, evaluate=False), 0), (Use("zero"),), zero=eq(v.a, 0))),
    "power: a symbol": (REFUSED, "not an integer", lambda v: offer(v, eq(v.a**v.n, v.a**v.n * v.a / v.a))),
    "number: 0 * infinity": (REFUSED, "not in the language", lambda v:
        offer(v, eq(Mul(0, sympy.zoo, evaluate=False), 1))),
    "number: nan": (REFUSED, "not in the language", lambda v: offer(v, le(sympy.nan, 0))),
    "number: the square of i": (REFUSED, "not in the language", lambda v: offer(
        v, le(0, -(v.a**2)), (), (Square(sympy.I * v.a),))),
    "number: a small denominator put in": (REFUSED, "not 0 but", numbers_put_in),
    "function: sqrt(a^2) = a": (REFUSED, "not an integer", lambda v: offer(v, eq(sympy.sqrt(v.a**2), v.a))),
    "function: max": (REFUSED, "not in the language", lambda v: offer(v, eq(sympy.Max(v.a, v.b), v.a))),
    "function: a derivative": (REFUSED, "not in the language", lambda v:
        offer(v, eq(sympy.Derivative(v.a**2, v.a), 0))),
    "function: a substitution": (REFUSED, "not in the language", lambda v:
        offer(v, eq(sympy.Subs(v.a, v.a, v.b), v.a))),
    "function: SymPy's empty sum": (REFUSED, "not in the language", lambda v: offer(
        v, eq(sympy.Sum(v.a, (v.b, 1, 0)), v.a))),
    "function: cases": (REFUSED, "not in the language", lambda v: offer(
        v, eq(sympy.Piecewise((v.a, v.a > 0), (0, True)), v.a))),
    # -- indices and totals -----------------------------------------------------------------------------------
    "capture: a square of a sum": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.x(v.k), v.k) ** 2, total(v.x(v.k) ** 2, v.k)))),
    "capture: two indices swapped at once": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(v.z(v.k, v.h), v.z(v.h, v.k)), (Use("h"), Use("h", -1, at=((v.k, v.h), (v.h, v.k)))),
        h=eq(v.z(v.k, v.h), v.x(v.k)))),
    "capture: by a bound index": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.z(v.h, v.h), v.h), 0), (Use("h", at=((v.k, v.h),)),), h=eq(total(v.z(v.k, v.h), v.h), 0))),
    "capture: by the certificate's total": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.z(v.k, v.k), v.k), 0), (Use("h", 1, (v.h,), ((v.k, v.h),)),),
        h=eq(total(v.z(v.k, v.h), v.h), 0))),
    "capture: two indices made one": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.x(v.k), v.k) * total(v.y(v.k), v.k), total(v.x(v.k) * v.y(v.k), v.k)),
        (Use("h", 1, (v.k,), ((v.h, v.k),)),), h=eq(v.x(v.k) * v.y(v.h), 0))),
    "total: over one index twice": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.x(v.k), v.k), v.n**2), (Use("h", -1, (v.k, v.k)),), h=eq(v.x(v.k), 1))),
    "total: E XY = E X E Y": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.r(v.w) * v.q(v.w), v.w), total(v.r(v.w), v.w) * total(v.q(v.w), v.w)))),
    "total: E 1/X = 1/E X": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(1 / v.pos(v.w), v.w) * total(v.pos(v.w), v.w), 1))),
    "total: pointwise from an expectation": (REFUSED, "not 0 but", lambda v: offer(
        v, le(v.r(v.w), 0), (Use("h"),), h=le(total(v.r(v.w), v.w), 0))),
    "total: a factor under an expectation": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.q(v.w) * v.r(v.w), v.w), 0), (Use("h", v.q(v.w), (v.w,)),), h=eq(total(v.r(v.w), v.w), 0))),
    "total: a product with what has mean 0": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.q(v.w), v.w), 0), (Use("h", 1 / v.pos(v.w), (v.w,)),),
        h=eq(total(v.q(v.w) * v.pos(v.w), v.w), 0))),
    "total: sums of two families alike": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.z(v.k, v.h), v.k, v.h), total(v.z(v.k, v.k), v.k)))),
    "total: sizes of two sorts": (REFUSED, "not 0 but", lambda v: offer(v, eq(total(1, v.k) * total(1, v.e), v.n**2))),
    "total: of what does not depend on it": (REFUSED, "not 0 but", lambda v:
        offer(v, eq(total(v.x(v.k), v.h), v.x(v.k)))),
    "total: weights out of a sum": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.al(v.k) * v.x(v.k), v.k), total(v.x(v.k), v.k)), (Use("w", -total(v.x(v.k), v.k)),),
        w=eq(total(v.al(v.k), v.k), 1))),
    "total: a class of one's own": (REFUSED, "not in the language", lambda v: offer(v, eq(Total2(v.x(v.k), v.k), 0))),
    "total: over a parameter": (REFUSED, "not a declared index", lambda v: offer(v, eq(Total(v.a, v.b), 0))),
    "delta: on an average": (REFUSED, "summed, not averaged", lambda v: offer(
        v, eq(total(Same(v.w, v.w2) * v.r(v.w2), v.w2), v.r(v.w)))),
    "delta: of two indices is 1": (REFUSED, "not 0 but", lambda v: offer(v, eq(Same(v.k, v.h), 1))),
    "0 or 1: of a sum": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.m(v.k), v.k) ** 2, total(v.m(v.k), v.k)))),
    "0 or 1: of an average": (REFUSED, "not 0 but", lambda v: offer(
        v, eq(total(v.mr(v.w), v.w) ** 2, total(v.mr(v.w), v.w)))),
    "name: a parameter for a family": (REFUSED, "not a declared parameter", lambda v: offer(v, eq(Symbol("x"), 0))),
    "name: an index of the wrong sort": (REFUSED, "wrong sort", lambda v: offer(v, eq(v.x(v.w), 0))),
    "name: an index as a number": (REFUSED, "not a declared parameter", lambda v: offer(v, eq(v.k * v.x(v.k), 0))),
    "name: another sort of the same letters": (REFUSED, "not 0 but", lambda v: label_collision()),
    # -- steps --------------------------------------------------------------------------------------------------
    "steps: in a circle": (REFUSED, "stands before this step, but was refused", circular),
    "steps: one named like a fact": (UNSAYABLE, "named 'claim'", shadowed),
    # -- true, though they look it not ----------------------------------------------------------------------------
    "0 or 1: a parameter is its own square": (TRUE, "", lambda v: offer(v, eq(v.bit**2, v.bit))),
    "E 1/X >= 1 where E X = 1": (TRUE, "", lambda v: offer(
        v, le(1, total(1 / v.pos(v.w), v.w)), (Use("one"),), (Square(v.pos(v.w) - 1, 1 / v.pos(v.w), (v.w,)),),
        one=eq(total(v.pos(v.w), v.w), 1))),
}  # fmt: skip


def label_collision() -> Verdict:
    """Sorts "x" and "x1": bound indices must not be written alike."""
    theory = Theory("t")
    sig = theory.signature
    n = sig.parameter("n", Sign.POSITIVE)
    first, second = Sort("x", n), Sort("x1", n)
    i, j = sig.index("i", first), sig.index("j", second)
    f, g = sig.family("f", (first, second)), sig.family("g", (second, first))
    theory.prove("claim", eq(total(f(i, j), i, j), total(g(j, i), i, j)), "")
    return verify(theory)[-1]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack(name: str) -> None:
    kind, reason, attack = ATTACKS[name]
    if kind == UNSAYABLE:
        with pytest.raises(ValueError, match=reason):
            attack(world())
        return
    verdict = attack(world())
    assert verdict.verified == (kind == TRUE), verdict.reason
    if kind == REFUSED:
        assert re.search(reason, verdict.reason), verdict.reason


def test_how_many() -> None:
    assert len(ATTACKS) > 65
