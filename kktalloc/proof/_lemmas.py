"""The vector lemmas, each an identity for any number of vectors of any dimension, and what is tight."""

from __future__ import annotations

from sympy import Rational

from kktalloc.proof._language import Expr, Sign, Sort, Square, Theory, Use, eq, le, total


def lemmas() -> Theory:
    """Jensen, Cauchy-Schwarz, Young, polarisation, masked Pythagoras and coverage, from the axioms."""
    theory = Theory("Vector lemmas")
    sig, given, prove = theory.signature, theory.given, theory.prove
    n = sig.parameter("n", Sign.POSITIVE)
    d = sig.parameter("d", Sign.POSITIVE)
    y = sig.parameter("y", Sign.POSITIVE)
    size_a = sig.parameter("size_a", Sign.POSITIVE, r"\|a\|")
    size_b = sig.parameter("size_b", Sign.POSITIVE, r"\|b\|")
    item, coordinate = Sort("item", n), Sort("coordinate", d)
    k, k2, k3 = (sig.index(x, item, tex) for x, tex in (("k", "k"), ("k2", "k'"), ("k3", "k''")))
    j = sig.index("j", coordinate)
    weight = sig.family("weight", (item,), Sign.NONNEGATIVE, latex=r"\alpha")
    x = sig.family("x", (item, coordinate))
    a, b = (sig.family(name, (coordinate,)) for name in ("a", "b"))
    m = sig.family("m", (coordinate,), Sign.INDICATOR, latex=r"\mu")
    kept = sig.family("kept", (item,), Sign.INDICATOR, latex="m")
    dev = sig.family("dev", (item,), latex=r"\delta")
    given("weights", eq(total(weight(k), k), 1), "weights that sum to 1")
    given("centred", eq(total(weight(k) * dev(k), k), 0), "deviations with weighted mean 0")

    mean = total(weight(k) * x(k, j), k)
    prove(
        "Jensen",
        le(total(mean**2, j), total(weight(k) * x(k, j) ** 2, k, j)),
        "The squared norm of a weighted mean is at most the weighted mean of squared norms.",
        (Use("weights", total(mean**2, j)),),
        (Square(x(k, j) - mean, weight(k), (k, j)),),
    )
    prove(
        "sum of n vectors",
        le(total(total(x(k, j), k) ** 2, j), n * total(x(k, j) ** 2, k, j)),
        "The squared norm of a sum of n vectors is at most n times the sum of squared norms.",
        squares=(Square(x(k, j) - x(k2, j), Rational(1, 2), (k, k2, j)),),
    )
    prove(
        "Young",
        le(
            total((a(j) + b(j)) ** 2, j),
            (1 + y) * total(a(j) ** 2, j) + (1 + 1 / y) * total(b(j) ** 2, j),
        ),
        "For every y > 0.",
        squares=(Square(y * a(j) - b(j), 1 / y, (j,)),),
    )
    prove(
        "Young is never below",
        le((size_a + size_b) ** 2, (1 + y) * size_a**2 + (1 + 1 / y) * size_b**2),
        "No y gives less than the square of the sum of the norms,",
        squares=(Square(y * size_a - size_b, 1 / y),),
    )
    best = size_b / size_a
    prove(
        "Young's best parameter",
        eq((1 + best) * size_a**2 + (1 + 1 / best) * size_b**2, (size_a + size_b) ** 2),
        "and y = |b|/|a| gives exactly that.",
    )
    _best_parameters(theory)
    prove(
        "polarisation",
        eq(
            -total(a(j) * b(j), j),
            total((a(j) - b(j)) ** 2 - a(j) ** 2 - b(j) ** 2, j) / 2,
        ),
        "Minus an inner product, in squared norms.",
    )
    prove(
        "masked Pythagoras",
        eq(
            total((m(j) * a(j) + (1 - m(j)) * b(j)) ** 2, j),
            total(m(j) * a(j) ** 2, j) + total((1 - m(j)) * b(j) ** 2, j),
        ),
        "Vectors of disjoint supports are orthogonal.",
    )
    p = total(weight(k) * kept(k), k)
    part, spread = total(weight(k) * kept(k) * dev(k), k), total(weight(k) * dev(k) ** 2, k)
    pairs = weight(k) * weight(k2) * weight(k3) / 2
    prove(
        "coverage",
        le(part**2, p * (1 - p) * spread),
        "What a part of weight p of centred deviations adds up to: divided by p^2, the squared mean over "
        "the part is at most (1 - p)/p times the variance.",
        (
            Use("weights", p * spread - part**2),
            Use("centred", p * (2 * part - total(weight(k) * dev(k), k))),
        ),
        (
            Square((1 - kept(k3)) * (dev(k) - dev(k2)), pairs * kept(k) * kept(k2), (k, k2, k3)),
            Square((1 - kept(k)) * (1 - kept(k2)) * (dev(k) - dev(k2)), pairs * kept(k3), (k, k2, k3)),
        ),
    )
    tight = kept(k) - p
    prove(
        "coverage is tight: centred",
        eq(total(weight(k) * tight, k), 0),
        "The deviations d_k = m_k - p are centred,",
        (Use("weights", -p),),
    )
    prove(
        "coverage is tight",
        eq(total(weight(k) * kept(k) * tight, k) ** 2, p * (1 - p) * total(weight(k) * tight**2, k)),
        "and attain the coverage lemma's constant, for every p.",
        (Use("weights", -(p**3) * (1 - p)),),
    )
    return theory


def _best_parameters(theory: Theory) -> None:
    """The s and y that make the theorem's guarantee N/M least: each solves a quadratic equation."""
    declare, given, prove = theory.signature.parameter, theory.given, theory.prove
    bias, m_best = declare("B", Sign.NONNEGATIVE), declare("m_best", Sign.NONNEGATIVE, "M(s^*)")
    s, best, t, c, slope, lost = (
        declare(name, Sign.REAL, latex)
        for name, latex in (
            ("s", "s"),
            ("s_best", "s^*"),
            ("T", "T"),
            ("C", "C"),
            ("slope", r"\kappa"),
            ("lost", r"\kappa_1"),
        )
    )

    def numerator(s: Expr) -> Expr:
        return bias * s**2 + t * s + c

    given(
        "stationary s",
        eq((2 * bias * best + t) * m_best, slope * numerator(best)),
        "s* solves the quadratic equation N'(s) M(s) = N(s) M'(s), N = B s^2 + T s + C, M = slope s - lost",
    )
    given("positive weight", eq(m_best, slope * best - lost), "M(s*) = slope s* - lost >= 0")
    prove(
        "best s",
        le(numerator(best) * (slope * s - lost), numerator(s) * m_best),
        "No s gives a smaller guarantee: N(s*) M(s) <= N(s) M(s*).",
        (Use("stationary s", best - s), Use("positive weight", -numerator(best))),
        (Square(s - best, bias * m_best),),
    )

    n_best, gain = declare("n_best", Sign.NONNEGATIVE, "N(y^*)"), declare("gain", Sign.NONNEGATIVE, "D")
    one, one_best = declare("one_y", Sign.POSITIVE, "(1+y)"), declare("one_y_best", Sign.POSITIVE, "(1+y^*)")
    fixed, cost, start, fall = (declare(name, Sign.REAL) for name in ("A", "B_y", "C_y", "F"))

    def weight(one: Expr) -> Expr:
        return start + gain * (1 - 1 / one) - fall * (one - 1)

    given("numerator at y*", eq(n_best, fixed + cost * (one_best - 1)), "N(y) = A + B y, N(y*) >= 0")
    given(
        "stationary y",
        eq(cost * weight(one_best), n_best * (gain / one_best**2 - fall)),
        "y* solves the quadratic equation N'(y) M(y) = N(y) M'(y), M = C + D y/(1 + y) - F y",
    )
    prove(
        "best y",
        le(n_best * weight(one), (fixed + cost * (one - 1)) * weight(one_best)),
        "No y gives a smaller guarantee: N(y*) M(y) <= N(y) M(y*).",
        (
            Use("numerator at y*", weight(one_best)),
            Use("stationary y", one_best - one),
        ),
        (Square(one - one_best, n_best * gain / (one * one_best**2)),),
    )
