"""Gradient descent on a smooth function: the mean squared gradient falls as 1/T.

    x+ = x - eta g(x),   eta <= 1/L:   (1/T) sum_t |g_t|^2 <= 2 (f_0 - f*) / (eta T)

Run: kktalloc verify examples/proofs/gradient_descent.py
"""

from kktalloc.proof import Sign, Sort, Square, Theory, Use, eq, le, norm2, ready, total

theory = Theory("Gradient descent, smooth and non-convex")
sig = theory.signature
T, d = sig.parameter("T", Sign.POSITIVE), sig.parameter("d", Sign.POSITIVE)
L, eta = sig.parameter("L", Sign.POSITIVE), sig.parameter("eta", Sign.POSITIVE, r"\eta")
f_first, f_last, f_star = (sig.parameter(name, Sign.REAL) for name in ("f_first", "f_last", "f_star"))
step, coordinate = Sort("step", T), Sort("coordinate", d)
t, j = sig.index("t", step), sig.index("j", coordinate)
f, f_next = sig.family("f", (step,)), sig.family("f_next", (step,), latex="f^{+}")
g = sig.family("g", (step, coordinate))

theory.given("step size", le(L * eta, 1), "eta <= 1/L")
theory.given("steps follow each other", eq(total(f_next(t) - f(t), t), f_last - f_first), "f_next(t) is f(t + 1)")
theory.given("bounded below", le(f_star, f_last), "f >= f*")

ready.descent(
    theory, "descent lemma",
    value=f(t), value_next=f_next(t), gradient=g(t, j), move=-eta * g(t, j), lipschitz=L, coordinate=j,
)  # fmt: skip
theory.prove(
    "one step",
    le(f_next(t), f(t) - eta / 2 * norm2(g(t, j), j)),
    "Half of the squared gradient is left.",
    (Use("descent lemma"),),
    (Square(g(t, j), eta * (1 - L * eta) / 2, (j,), since=("step size",)),),
)
theory.prove(
    "rate",
    le(total(norm2(g(t, j), j), t) / T, 2 * (f_first - f_star) / (eta * T)),
    "T steps, telescoped.",
    (
        Use("one step", 2 / (eta * T), (t,)),
        Use("steps follow each other", -2 / (eta * T)),
        Use("bounded below", 2 / (eta * T)),
    ),
)
