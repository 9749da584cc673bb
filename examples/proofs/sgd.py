"""Stochastic gradient descent: the mean squared gradient, down to a floor that the noise sets.

    x+ = x - eta (g + n),  E n = 0 given the past,  E|n|^2 <= s2,  eta <= 1/L:
    (1/T) sum_t E|g_t|^2 <= 2 (E f_0 - f*) / (eta T) + L eta s2

Run: kktalloc verify examples/proofs/sgd.py
"""

from kktalloc.proof import Sign, Sort, Square, Theory, Use, eq, expectation, inner, le, norm2, ready, total

theory = Theory("Stochastic gradient descent, smooth and non-convex")
sig = theory.signature
T, d = sig.parameter("T", Sign.POSITIVE), sig.parameter("d", Sign.POSITIVE)
L, eta = sig.parameter("L", Sign.POSITIVE), sig.parameter("eta", Sign.POSITIVE, r"\eta")
s2 = sig.parameter("s2", Sign.NONNEGATIVE, r"\sigma^2")
f_first, f_last, f_star = (sig.parameter(name, Sign.REAL) for name in ("f_first", "f_last", "f_star"))
step, coordinate, chance = Sort("step", T), Sort("coordinate", d), Sort("chance", 1, expectation=True)
t, j = sig.index("t", step), sig.index("j", coordinate)
w = sig.index("w", chance, r"\omega", understood=True)
f, f_next = sig.family("f", (step, chance)), sig.family("f_next", (step, chance), latex="f^{+}")
g, n = sig.family("g", (step, coordinate, chance)), sig.family("n", (step, coordinate, chance))
gradient, noise = g(t, j, w), n(t, j, w)
mean_square = expectation(norm2(gradient, j), w)

theory.given("unbiased", eq(expectation(inner(gradient, noise, j), w), 0), "E <g, n> = 0: the noise has mean 0 given g")
theory.given("variance", le(expectation(norm2(noise, j), w), s2), "E|n|^2 <= s2")
theory.given("step size", le(L * eta, 1), "eta <= 1/L")
theory.given(
    "steps follow each other",
    eq(total(expectation(f_next(t, w) - f(t, w), w), t), f_last - f_first),
    "f_next(t) is f(t + 1); first and last are means",
)
theory.given("bounded below", le(f_star, f_last), "f >= f*")

ready.descent(
    theory, "descent lemma",
    value=f(t, w), value_next=f_next(t, w), gradient=gradient, move=-eta * (gradient + noise),
    lipschitz=L, coordinate=j,
)  # fmt: skip
theory.prove(
    "one step",
    le(expectation(f_next(t, w), w), expectation(f(t, w), w) - eta / 2 * mean_square + L * eta**2 / 2 * s2),
    "The descent lemma in expectation; noise meets the gradient in no product.",
    (
        Use("descent lemma", over=(w,)),
        Use("unbiased", L * eta**2 - eta),
        Use("variance", L * eta**2 / 2),
    ),
    (Square(gradient, eta * (1 - L * eta) / 2, (w, j), since=("step size",)),),
)
theory.prove(
    "rate",
    le(total(mean_square, t) / T, 2 * (f_first - f_star) / (eta * T) + L * eta * s2),
    "T steps, telescoped.",
    (
        Use("one step", 2 / (eta * T), (t,)),
        Use("steps follow each other", -2 / (eta * T)),
        Use("bounded below", 2 / (eta * T)),
    ),
)
