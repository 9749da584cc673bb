"""FedAvg with tau local steps on non-convex functions, all devices taking part.

Each round, device k takes tau steps of size eta on its own function from the shared model u; the server takes
the mean with weights alpha. Stochastic gradients g + n with E n = 0 given the past, uncorrelated over devices
and steps, E|n|^2 <= s2, E|g + n|^2 <= G2; A2 = sum alpha^2, and 2 L eta tau <= 1:

    (1/R) sum_t E|grad F(u_t)|^2
        <= 2 (F_0 - F*) / (eta tau R) + L^2 eta^2 tau (tau - 1)/2 G2 + 2 L eta A2 s2

Run: kktalloc verify examples/proofs/fedavg.py
"""

from kktalloc.proof import Same, Sign, Sort, Square, Theory, Use, eq, expectation, inner, le, norm2, ready, total

theory = Theory("FedAvg, smooth and non-convex")
sig = theory.signature
K, tau, R, d = (sig.parameter(name, Sign.POSITIVE) for name in ("K", "tau", "R", "d"))
L, eta = sig.parameter("L", Sign.POSITIVE), sig.parameter("eta", Sign.POSITIVE, r"\eta")
s2, G2, A2 = (sig.parameter(name, Sign.NONNEGATIVE) for name in ("s2", "G2", "A2"))
f_first, f_last, f_star = (sig.parameter(name, Sign.REAL) for name in ("f_first", "f_last", "f_star"))
device, step, rounds, coordinate = Sort("device", K), Sort("step", tau), Sort("round", R), Sort("coordinate", d)
chance = Sort("chance", 1, expectation=True)
k, k2 = sig.index("k", device), sig.index("k2", device, "k'")
i, b, b2 = sig.index("i", step), sig.index("b", step), sig.index("b2", step, "b'")
j = sig.index("j", coordinate)
t, w = sig.index("t", rounds, understood=True), sig.index("w", chance, understood=True)
alpha = sig.family("alpha", (device,), Sign.NONNEGATIVE, latex=r"\alpha")
f, f_next = sig.family("f", (rounds, chance)), sig.family("f_next", (rounds, chance), latex="f^{+}")
start = sig.family("start", (rounds, device, coordinate, chance), latex=r"g^0")
local = sig.family("local", (rounds, device, step, coordinate, chance), latex="g")
drawn = sig.family("drawn", (rounds, device, step, coordinate, chance), latex="n")


def grad(k):
    """Gradient of device k's function at the shared model."""
    return start(t, k, j, w)


def grad_at(k, i):
    """The same at its local model before step i."""
    return local(t, k, i, j, w)


def noise(k, i):
    """What the stochastic gradient of step i adds to it."""
    return drawn(t, k, i, j, w)


full = total(alpha(k) * grad(k), k)  # the gradient of F
full2 = expectation(norm2(full, j), w)


def mean_grad(i):
    """What the server averages at step i, without noise."""
    return total(alpha(k) * grad_at(k, i), k)


def mean_noise(i):
    """The noise of it."""
    return total(alpha(k) * noise(k, i), k)


all_grads, all_noise = total(mean_grad(i), i), total(mean_noise(i), i)
move = -eta * (all_grads + all_noise)

before = ready.order(theory, (b, i))
drift = -eta * total(before(b, i) * (grad_at(k, b) + noise(k, b)), b)  # local model before step i, minus u

theory.given("weights", eq(total(alpha(k), k), 1), "the weights sum to 1")
theory.given("squared weights", eq(A2, total(alpha(k) ** 2, k)), "A2 = sum alpha^2")
theory.given(
    "smooth",
    le(norm2(grad(k) - grad_at(k, i), j), L**2 * norm2(drift, j)),
    "each device's gradient is L-Lipschitz",
)
theory.given("unbiased", eq(expectation(inner(grad(k2), noise(k, i), j), w), 0), "noise against the start of the round")
theory.given(
    "uncorrelated",
    eq(expectation((1 - Same(k, k2) * Same(i, b)) * inner(noise(k, i), noise(k2, b), j), w), 0),
    "noises of different devices or steps",
)
theory.given("variance", le(expectation(norm2(noise(k, i), j), w), s2), "E|n|^2 <= s2")
theory.given("second moment", le(expectation(norm2(grad_at(k, b) + noise(k, b), j), w), G2), "E|g + n|^2 <= G2")
theory.given("step size", le(2 * L * eta * tau, 1), "eta <= 1/(2 L tau)")
theory.given(
    "rounds follow each other",
    eq(total(expectation(f_next(t, w) - f(t, w), w), t), f_last - f_first),
    "F after a round is F before the next",
)
theory.given("bounded below", le(f_star, f_last), "F >= F*")

# How far local models drift, and what that does to the gradient.
theory.add(ready.drift("drift", grad_at(k, b) + noise(k, b), before, (b, b2, i), tau, over=(w, j)))
theory.prove(
    "drift, bounded",
    le(total(expectation(norm2(drift, j), w), i), eta**2 * tau**2 * (tau - 1) / 2 * G2),
    "Each of the tau stochastic gradients is bounded.",
    (
        Use("drift", eta**2),
        Use("second moment", eta**2 * total(before(b2, i), i, b2), (b,)),
        Use("number of pairs", eta**2 * (tau * G2 - total(expectation(norm2(grad_at(k, b) + noise(k, b), j), w), b))),
    ),
)
theory.add(ready.jensen("Jensen", grad(k) - grad_at(k, i), alpha(k), k, "weights", over=(w, j)))
change2 = total(expectation(norm2(full - mean_grad(i), j), w), i)
theory.prove(
    "gradient error",
    le(change2, L**2 * eta**2 * tau**2 * (tau - 1) / 2 * G2),
    "Jensen over devices, smoothness, drift.",
    (
        Use("Jensen", over=(i,)),
        Use("smooth", alpha(k), (k, i, w)),
        Use("drift, bounded", L**2 * alpha(k), (k,)),
        Use("weights", L**2 * eta**2 * tau**2 * (tau - 1) / 2 * G2),
    ),
)

# The server's move: gradients and noise.
theory.add(ready.young("Young", all_grads, all_noise, 1, over=(w, j)))
theory.add(ready.sum_of_vectors("tau gradients", mean_grad(i), i, b, tau, over=(w, j)))
theory.prove(
    "noise of the move",
    le(expectation(norm2(all_noise, j), w), tau * A2 * s2),
    "Only squares are left of the noise's products.",
    (
        Use("uncorrelated", alpha(k) * alpha(k2), (k, k2, i, b)),
        Use("variance", alpha(k) ** 2, (k, i)),
        Use("squared weights", -tau * s2),
    ),
)

# One round, and R of them.
ready.descent(
    theory, "descent lemma",
    value=f(t, w), value_next=f_next(t, w), gradient=full, move=move, lipschitz=L, coordinate=j,
)  # fmt: skip
error = L**2 * eta**2 * tau * (tau - 1) / 2 * G2 + 2 * L * eta * A2 * s2
theory.prove(
    "one round",
    le(
        expectation(f_next(t, w), w),
        expectation(f(t, w), w) - eta * tau / 2 * full2 + eta * tau / 2 * error,
    ),
    "The step size pays for the gradients' part of the move.",
    (
        Use("descent lemma", over=(w,)),
        Use("unbiased", -eta * alpha(k) * alpha(k2), (k, k2, i)),
        Use("gradient error", eta / 2),
        Use("Young", L * eta**2 / 2),
        Use("tau gradients", L * eta**2),
        Use("noise of the move", L * eta**2),
    ),
    (Square(mean_grad(i), eta * (1 - 2 * L * eta * tau) / 2, (i, w, j), since=("step size",)),),
)
theory.prove(
    "rate",
    le(total(full2, t) / R, 2 * (f_first - f_star) / (eta * tau * R) + error),
    "R rounds, telescoped.",
    (
        Use("one round", 2 / (eta * tau * R), (t,)),
        Use("rounds follow each other", -2 / (eta * tau * R)),
        Use("bounded below", 2 / (eta * tau * R)),
    ),
)
