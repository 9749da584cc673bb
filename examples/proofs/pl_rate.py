"""Gradient descent under the Polyak-Lojasiewicz inequality: the gap contracts in each step.

    2 mu (f - f*) <= |g|^2,   eta <= 1/L:   f_t+1 - f* <= (1 - eta mu) (f_t - f*),

and the gap after T steps is the weight c_0 of the first over the weight c_T of the last times the gap before,
where the weights grow by 1/(1 - eta mu) in each step: f_T - f* <= (1 - eta mu)^T (f_0 - f*).

Run: kktalloc verify examples/proofs/pl_rate.py
"""

from kktalloc.proof import Sign, Sort, Square, Theory, Use, eq, le, norm2, ready, total

theory = Theory("Gradient descent under the Polyak-Lojasiewicz inequality")
sig = theory.signature
T, d = sig.parameter("T", Sign.POSITIVE), sig.parameter("d", Sign.POSITIVE)
L, eta, mu = (sig.parameter(name, Sign.POSITIVE, tex) for name, tex in (("L", "L"), ("eta", r"\eta"), ("mu", r"\mu")))
f_first, f_last, f_star = (sig.parameter(name, Sign.REAL) for name in ("f_first", "f_last", "f_star"))
c_first, c_last = sig.parameter("c_first", Sign.POSITIVE), sig.parameter("c_last", Sign.POSITIVE)
step, coordinate = Sort("step", T), Sort("coordinate", d)
t, j = sig.index("t", step), sig.index("j", coordinate)
f, f_next = sig.family("f", (step,)), sig.family("f_next", (step,), latex="f^{+}")
g = sig.family("g", (step, coordinate))
c, c_next = sig.family("c", (step,), Sign.POSITIVE), sig.family("c_next", (step,), Sign.POSITIVE, latex="c^{+}")
gap, gap_next = f(t) - f_star, f_next(t) - f_star

theory.given("step size", le(L * eta, 1), "eta <= 1/L")
theory.given("PL", le(2 * mu * gap, norm2(g(t, j), j)), "Polyak-Lojasiewicz")
theory.given(
    "weights", eq(c_next(t) * (1 - eta * mu), c(t)), "c_t+1 = c_t / (1 - eta mu), so c_T = c_0 / (1 - eta mu)^T"
)
theory.given(
    "steps follow each other",
    eq(total(c_next(t) * gap_next - c(t) * gap, t), c_last * (f_last - f_star) - c_first * (f_first - f_star)),
    "value and weight after a step are those before the next",
)

ready.descent(
    theory, "descent lemma",
    value=f(t), value_next=f_next(t), gradient=g(t, j), move=-eta * g(t, j), lipschitz=L, coordinate=j,
)  # fmt: skip
theory.prove(
    "contraction",
    le(gap_next, (1 - eta * mu) * gap),
    "The gap shrinks by 1 - eta mu.",
    (
        Use("descent lemma"),
        Use("PL", eta / 2),
    ),
    (Square(g(t, j), eta * (1 - L * eta) / 2, (j,), since=("step size",)),),
)
theory.prove(
    "linear rate",
    le(f_last - f_star, c_first / c_last * (f_first - f_star)),
    "T steps, each weighted.",
    (
        Use("contraction", c_next(t) / c_last, (t,)),
        Use("weights", gap / c_last, (t,)),
        Use("steps follow each other", -1 / c_last),
    ),
)
