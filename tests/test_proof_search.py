"""`suggest` finds certificates, the checker judges them; `refute` finds models. All steps: proof_suggestions.py."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proof_suggestions import inequality_steps, search

from kktalloc.proof import Same, Sign, Sort, Theory, eq, le, refute, suggest, total, verify
from kktalloc.proof._report import theories
from kktalloc.proof._search.exact import as_squares, solve_near

ALL = theories()
FOUND = {  # steps that `suggest` proves from all the statements known before them
    "lemmas": ("Jensen", "sum of n vectors", "Young"),
    "allocation": ("objective is convex", "least bandwidth: branch", "wideband limit"),
    "target": ("headroom is at least 1/2", "personal gradient weight", "pruning weight"),
    "convergence": ("descent, pointwise", "descent lemma"),  # from the statements that the shipped proof uses
}


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in FOUND.items() for name in names])
def test_shipped_steps_are_found(key: str, name: str) -> None:
    step, before = next(pair for pair in inequality_steps(ALL[key]) if pair[0].name == name)
    found = search(step, before, hinted=key == "convergence")
    assert found is not None
    assert found.claim == step.claim
    assert verify(replace(before, steps=[*before.steps, found]))[-1].verified


def test_enough_of_them() -> None:
    assert sum(map(len, FOUND.values())) >= 10


@pytest.fixture
def small() -> SimpleNamespace:
    theory = Theory("t")
    sig = theory.signature
    n = sig.parameter("n", Sign.POSITIVE)
    k = sig.index("k", Sort("item", n))
    h = sig.index("h", sig.indices["k"])
    a, b = sig.parameter("a", Sign.REAL), sig.parameter("b", Sign.REAL)
    return SimpleNamespace(theory=theory, n=n, k=k, h=h, x=sig.family("x", [sig.indices["k"]]), a=a, b=b)


def test_what_is_false_is_not_found(small: SimpleNamespace) -> None:
    v = small
    assert suggest(le(total(v.x(v.k), v.k) ** 2, total(v.x(v.k) ** 2, v.k)), v.theory) is None
    assert suggest(le(v.a * v.b, v.a**2 / 3), v.theory) is None
    assert suggest(eq(v.a, v.b), v.theory) is None


def test_equalities_and_indices_in_order(small: SimpleNamespace) -> None:
    v = small
    v.theory.given("members", eq(v.x(v.k), v.a), "")
    v.theory.given("bound", le(v.a, v.b), "")
    for claim in (eq(total(v.x(v.k), v.k), v.n * v.a), le(total(v.x(v.k), v.k), v.n * v.b), eq(v.x(v.h), v.x(v.k))):
        found = suggest(claim, v.theory)
        assert found is not None, claim
        v.theory.add(replace(found, name=str(claim)))
    assert all(verdict.verified for verdict in verify(v.theory))


def test_a_false_claim_is_refuted_and_a_true_one_is_not(small: SimpleNamespace) -> None:
    v = small
    v.theory.given("sum", eq(total(v.x(v.k), v.k), v.a), "")
    v.theory.given("large", le(1, v.a), "")
    v.theory.prove("false", le(v.a**2, total(v.x(v.k) ** 2, v.k)), "")
    v.theory.prove("true", le(v.a**2, v.n * total(v.x(v.k) ** 2, v.k)), "")
    found = refute(v.theory, tries=6)
    assert found
    assert found.models
    assert set(found.false) == {"false"}
    model, gap = found.false["false"]
    x = model["x"]
    assert gap == pytest.approx((x**2).sum() - x.sum() ** 2, rel=1e-6)
    assert gap < 0
    assert x.sum() >= 1 - 1e-6
    assert "'false' is false" in str(found)
    v.theory.steps.pop(0)
    assert not refute(v.theory, tries=6)


def test_facts_that_contradict_each_other(small: SimpleNamespace) -> None:
    v = small
    v.theory.given("low", le(v.a, -1), "")
    v.theory.given("high", le(1, v.a), "")
    found = refute(v.theory, tries=3)
    assert found
    assert not found.models
    assert found.worst in ("low", "high")
    assert "may contradict" in str(found)
    proof = suggest(le(1, 0), v.theory)
    assert proof is not None
    assert verify(replace(v.theory, steps=[proof]))[0].verified


def test_a_model_of_every_construction() -> None:
    theory = Theory("t")
    sig = theory.signature
    item, chance = Sort("item", sig.parameter("n", Sign.POSITIVE)), Sort("chance", 1, expectation=True)
    k, h, w = sig.index("k", item), sig.index("h", item), sig.index("w", chance)
    z, m = sig.family("z", (item, item, chance)), sig.family("m", (item,), Sign.INDICATOR)
    q = sig.family("q", (item,), Sign.POSITIVE)
    theory.given("two", eq(total(1, k), 2), "the length is 2")
    theory.given("sum", eq(total(z(k, h, w), k, h, w), 1), "")
    theory.prove("trace", eq(total(Same(k, h) * z(k, h, w), k, h), total(z(k, k, w), k)), "")
    theory.prove("bits", eq(total(m(k) ** 2, k), total(m(k), k)), "")
    theory.prove("mean", eq(total(1, w), 1), "")
    theory.prove("inverse", eq(q(k) / q(k) ** 2 * q(k), 1 + 0 * q(k)), "")
    theory.prove("false", eq(total(z(k, k, w), k, w), 1), "")
    found = refute(theory, tries=8, largest=2)
    assert set(found.false) == {"false"}
    assert found.false["false"][0]["size of item"] == 2


fractions = st.fractions(-4, 4, max_denominator=6)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(fractions, min_size=3, max_size=3), min_size=1, max_size=3))
def test_exact_squares(forms: list[list[Fraction]]) -> None:
    gram = [[sum((f[i] * f[j] for f in forms), Fraction(0)) for j in range(3)] for i in range(3)]
    squares = as_squares(gram)
    assert squares is not None
    assert all(weight > 0 for weight, _ in squares)
    again = [[sum((w * f[i] * f[j] for w, f in squares), Fraction(0)) for j in range(3)] for i in range(3)]
    assert again == gram
    indefinite = [list(row) for row in gram]
    indefinite[0][0] = Fraction(-1)
    assert as_squares(indefinite) is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(fractions, min_size=4, max_size=4), min_size=1, max_size=3), st.lists(fractions, min_size=4))
def test_exact_solutions_near_a_numerical_one(rows: list[list[Fraction]], point: list[Fraction]) -> None:
    point = point[:4]
    right = [sum((a * x for a, x in zip(row, point, strict=True)), Fraction(0)) for row in rows]
    found = solve_near(rows, right, [float(x) + 1e-9 for x in point])
    assert found == point
    assert solve_near([[Fraction(0)]], [Fraction(1)], [0.0]) is None
