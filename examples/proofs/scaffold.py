"""SCAFFOLD with control variates taken at the round's model: heterogeneity costs nothing.

Device k takes tau steps along g_k(y) - g_k(u) + grad F(u) from the shared model u (exact gradients); the server
takes the mean. With theta = 1 - (1 + 1/r) L^2 eta^2 tau (tau - 1)/2 > 0, for any r > 0, and L eta tau <= 1:

    (1/R) sum_t (1 - (1 + r) L^2 eta^2 tau (tau - 1)/(2 theta)) |grad F(u_t)|^2 <= 2 (F_0 - F*) / (eta tau R)

No constant for how different the devices are stands in it, unlike in FedAvg's rate.

Run: kktalloc verify examples/proofs/scaffold.py
"""

from kktalloc.proof import Sign, Sort, Square, Theory, Use, eq, le, norm2, ready, total

theory = Theory("SCAFFOLD with fresh control variates")
sig = theory.signature
K, tau, R, d = (sig.parameter(name, Sign.POSITIVE) for name in ("K", "tau", "R", "d"))
L, eta, r = sig.parameter("L", Sign.POSITIVE), sig.parameter("eta", Sign.POSITIVE), sig.parameter("r", Sign.POSITIVE)
theta = sig.parameter("theta", Sign.POSITIVE, r"\theta")
f_first, f_last, f_star = (sig.parameter(name, Sign.REAL) for name in ("f_first", "f_last", "f_star"))
device, step, rounds, coordinate = Sort("device", K), Sort("step", tau), Sort("round", R), Sort("coordinate", d)
k = sig.index("k", device)
i, b, b2 = sig.index("i", step), sig.index("b", step), sig.index("b2", step, "b'")
j, t = sig.index("j", coordinate), sig.index("t", rounds, understood=True)
alpha = sig.family("alpha", (device,), Sign.NONNEGATIVE, latex=r"\alpha")
f, f_next = sig.family("f", (rounds,)), sig.family("f_next", (rounds,), latex="f^{+}")
start = sig.family("start", (rounds, device, coordinate), latex=r"g^0")
local = sig.family("local", (rounds, device, step, coordinate), latex="g")

full = total(alpha(k) * start(t, k, j), k)  # the gradient of F
full2 = norm2(full, j)


def change(k, i):
    """How far the gradient of device k has moved since the round began."""
    return local(t, k, i, j) - start(t, k, j)


def mean_grad(i):
    """What the server averages at step i: the control variates drop out of the mean."""
    return total(alpha(k) * local(t, k, i, j), k)


before = ready.order(theory, (b, i))
pairs = tau * (tau - 1) / 2
drift = -eta * total(before(b, i) * (change(k, b) + full), b)
drift2 = total(alpha(k) * norm2(drift, j), k, i)

theory.given("weights", eq(total(alpha(k), k), 1), "the weights sum to 1")
theory.given("smooth", le(norm2(change(k, i), j), L**2 * norm2(drift, j)), "each device's gradient is L-Lipschitz")
theory.given("step size", le(L * eta * tau, 1), "eta <= 1/(L tau)")
theory.given("theta", eq(theta, 1 - (1 + 1 / r) * L**2 * eta**2 * pairs), "small enough for theta > 0")
theory.given("rounds follow each other", eq(total(f_next(t) - f(t), t), f_last - f_first), "F after and before rounds")
theory.given("bounded below", le(f_star, f_last), "F >= F*")

theory.add(
    ready.drift("drift", change(k, b) + full, before, (b, b2, i), tau, over=(j,)),
    ready.young("Young", full, change(k, b), r, over=(j,)),
    ready.jensen("Jensen", change(k, i), alpha(k), k, "weights", over=(j,)),
)
theory.prove(
    "pairs are not negative", le(0, pairs), "They are a sum of zeros and ones.", (Use("number of pairs"),),
    (Square(1, before(b, i), (b, i)),),
)  # fmt: skip
theory.prove(
    "drift, solved",
    le(drift2, (1 + r) * eta**2 * pairs * tau * full2 / theta),
    "The drift bounds itself through the gradients' change, and is solved.",
    (
        Use("drift", eta**2 * alpha(k) / theta, (k,)),
        Use("Young", eta**2 * pairs * alpha(k) / theta, (k, b), since=("pairs are not negative",)),
        Use("smooth", (1 + 1 / r) * eta**2 * pairs * alpha(k) / theta, (k, i), since=("pairs are not negative",)),
        Use("theta", drift2 / theta),
        Use("weights", (1 + r) * eta**2 * pairs * tau * full2 / theta),
    ),
)
theory.prove(
    "gradient error",
    le(total(norm2(full - mean_grad(i), j), i), L**2 * drift2),
    "Jensen over devices, then smoothness.",
    (Use("Jensen", over=(i,)), Use("smooth", alpha(k), (k, i))),
)
ready.descent(
    theory, "descent lemma",
    value=f(t), value_next=f_next(t), gradient=full, move=-eta * total(mean_grad(i), i), lipschitz=L, coordinate=j,
)  # fmt: skip
theory.add(ready.sum_of_vectors("tau gradients", mean_grad(i), i, b, tau, over=(j,)))
weight = 1 - (1 + r) * L**2 * eta**2 * pairs / theta
theory.prove(
    "one round",
    le(f_next(t), f(t) - eta * tau / 2 * weight * full2),
    "Polarisation is an identity, so the expansion sees to it.",
    (
        Use("descent lemma"),
        Use("gradient error", eta / 2),
        Use("drift, solved", L**2 * eta / 2),
        Use("tau gradients", L * eta**2 / 2),
    ),
    (Square(mean_grad(i), eta * (1 - L * eta * tau) / 2, (i, j), since=("step size",)),),
)
theory.prove(
    "rate",
    le(weight * total(full2, t) / R, 2 * (f_first - f_star) / (eta * tau * R)),
    "R rounds, telescoped.",
    (
        Use("one round", 2 / (eta * tau * R), (t,)),
        Use("rounds follow each other", -2 / (eta * tau * R)),
        Use("bounded below", 2 / (eta * tau * R)),
    ),
)
