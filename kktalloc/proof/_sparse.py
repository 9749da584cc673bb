"""Sparse uploads: every device trains all of u, and sends the largest part of what it learned.

The server adds ``-a eta P sum_k alpha_k m_k Delta_k``, ``Delta_k`` the sum of a device's stochastic gradients, ``m_k``
what it sends, ``a`` the server's rate. ``P`` is the identity ("fill": what was not sent counts as zero) or one over
the weight that sent a coordinate ("covered": the mean over those who sent it). What is proved uses of P only that
it is diagonal and between 1 and 1/Gamma, so both are one theorem. Masks may depend on the noise of the round, as the
largest changes do; so may P. A frozen round, which trains from u and writes only its mask, is the same with the
steps taken on the mask alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Function

from kktalloc.proof import _hypotheses as h
from kktalloc.proof._hypotheses import (
    L,
    L_v,
    R,
    alpha,
    b,
    c,
    co_spare,
    e,
    eta,
    eta_v,
    expect,
    f_end,
    f_initial,
    f_lower,
    f_middle,
    f_start,
    full_grad,
    gamma,
    grad,
    grad_at,
    headroom,
    i,
    j,
    k,
    k2,
    lean,
    noise,
    one_lean,
    p,
    pairs,
    pgrad,
    r,
    s,
    spare,
    t,
    tau,
    tau_v,
    theta,
    var_u,
    var_v,
    w,
)  # fmt: skip
from kktalloc.proof._language import Expr, Fact, Sign, Square, Theory, Use, eq, le, total
from kktalloc.proof._round import HALF, descent, displacements, gain, pruned
from kktalloc.proof._round import STEPS as ROUND_STEPS
from kktalloc.proof._theorem import PERSONAL_STEPS
from kktalloc.proof._transform import copied, mapped_fact, mapped_step, per_round

SIGNATURE = copied(h.THEORY.signature)
_nonneg, _pos = Sign.NONNEGATIVE, Sign.POSITIVE
rate = SIGNATURE.parameter("rate", _pos, r"\eta_s")
n = SIGNATURE.parameter("n", _pos, "o")
co_n = SIGNATURE.parameter("co_n", _nonneg, "(1-o)")
nu2 = SIGNATURE.parameter("nu2", _nonneg, r"\nu_P^2")
kappa2 = SIGNATURE.parameter("kappa2", _nonneg, r"\kappa^2")
_err = SIGNATURE.family("err", (h.ROUND, h.DEVICE), _nonneg, latex=r"\varepsilon")
_sorts = (h.ROUND, h.DEVICE, h.COORDINATE, h.CHANCE)
_sent = SIGNATURE.family("sent", _sorts, Sign.INDICATOR, "never", r"\mu")
_trained = SIGNATURE.family("trained", _sorts, Sign.INDICATOR, "round start", r"\vartheta")
_extra = SIGNATURE.family("extra", (h.ROUND, h.COORDINATE, h.CHANCE), _nonneg, "never", "(P-1)")

CONSTANTS = (
    eta, eta_v, L, L_v, gamma, theta, headroom, h.delta2, var_u, var_v, s, p, r, lean, one_lean, spare, co_spare, rate,
    n, co_n, nu2, kappa2,
)  # fmt: skip
"""What may change from round to round."""


def err(k: Expr) -> Expr:
    """Bound on what a device keeps back."""
    return _err(t, k)


def sent(k: Expr) -> Expr:
    """1 where the device sends its change."""
    return _sent(t, k, j, w)


extra = _extra(t, j, w)
scale = 1 + extra
"""P: what the server multiplies the sum of uploads with."""


def change(k: Expr) -> Expr:
    """What a device learned in the round, over -eta."""
    return total(grad_at(k, i) + noise(k, i), i)


learned = total(alpha(k) * grad_at(k, i), k, i)
learned_noise = total(alpha(k) * noise(k, i), k, i)
unsent = total(alpha(k) * (1 - sent(k)) * change(k), k)
unsent_weight = total(alpha(k2) * (1 - sent(k2)), k2)
arrived = total(alpha(k) * sent(k) * change(k), k)
move = -rate * eta * scale * arrived
_signal = learned - unsent
gradient2 = expect(full_grad**2, j)
wide_gradient2 = expect(extra * full_grad**2, j)
_personal2 = total(alpha(k) * expect(pgrad(k, e) ** 2, c), k, e)
_z = co_spare * headroom * gamma / (L * rate * eta * tau)
ERRORS = rate * eta * (HALF + gain * lean) / tau


def without_pruning(expr: Expr) -> Expr:
    """The first theorem's expressions where training starts from u and no coordinate is special."""
    return expr.xreplace({pruned: 0}).xreplace({h.covered: 1, h.u: 0}).replace(Function("mask"), _trained)


drift2 = without_pruning(displacements)


@dataclass(frozen=True)
class SparseTerms:
    """Coefficients of one round; ``unsent`` per unit of ``sum_k alpha_k err_k``."""

    gradient: Expr
    wide_gradient: Expr
    personal: Expr
    unsent: Expr
    heterogeneity_drift: Expr
    variance: Expr
    selection: Expr
    personal_variance: Expr


def round_terms() -> SparseTerms:
    """Coefficients of one round."""
    drifting = ERRORS * (1 + 1 / s) * tau * L**2 / (gamma * theta) * eta**2 * pairs
    on_the_way = (1 + p) * (1 + r) * tau
    leaning = gain * lean / one_lean
    return SparseTerms(
        gradient=rate * eta * tau * (HALF + leaning) - drifting * on_the_way,
        wide_gradient=rate * eta * tau * (co_n / 2 + leaning),
        personal=eta_v * (1 - L_v * eta_v / 2),
        unsent=ERRORS * (1 + s),
        heterogeneity_drift=drifting * on_the_way * h.delta2,
        variance=drifting * (1 + 1 / p) * var_u + L * rate**2 * eta**2 / (2 * gamma) * (1 + 1 / _z) * tau * nu2,
        selection=rate * eta / (2 * n) * kappa2,
        personal_variance=tau_v * L_v * eta_v**2 / 2 * var_v,
    )


_FACTS = (
    "weights", "trichotomy", "pairs", "position", "smooth in u", "smooth in v", "calculus in v", "variance in u",
    "variance in v", "unbiased: own past", "unbiased: personal", "heterogeneity", "drift condition", "one lean",
    "spare below 1", "personal steps follow each other", "rounds follow each other", "lower bound",
)  # fmt: skip
_DRIFT = (
    "number of pairs", "noise of past steps", "gradients of past steps", "drift sum", "gradients on the way",
    "displacement",
)  # fmt: skip
DRIFT_STEPS = tuple(mapped_step(step, without_pruning) for step in ROUND_STEPS if step.name in _DRIFT)
"""The first theorem's drift, at u instead of the pruned model."""


def facts_of_the_first(names: tuple[str, ...]) -> list[Fact]:
    """The first theorem's hypotheses of these names, at u instead of the pruned model."""
    return [mapped_fact(fact, without_pruning) for fact in h.THEORY.facts if fact.name in names]


def _given(theory: Theory) -> None:
    given = theory.given
    h.moves(theory, move)
    h.unbiased("unbiased: gradient", noise(k, i), grad(k2), "A2: noise against what the round starts from", theory)
    given("largest step", le(gamma * scale, 1), "A5'': P is at most 1/Gamma")
    given(
        "upload error",
        le(expect(scale * unsent_weight * (1 - sent(k)) * change(k) ** 2, j), err(k)),
        "A3'': squared changes that device k kept back, each times P and the weight of all who kept it back",
    )
    given(
        "upload noise",
        le(expect(scale * learned_noise**2, j), tau * nu2),
        "A2'': the noise of all devices' changes together, in the norm of P, per step",
    )
    given(
        "selection noise",
        le(expect(extra * learned_noise**2, j), tau * kappa2),
        "A2'': the same in the norm of P - 1: masks that depend on the noise make it point somewhere; 0 for fill",
    )
    given("noise share", eq(n + co_n, 1), "o is at most 1")
    given("step condition", eq(headroom, 1 - L * rate * eta * tau / gamma), "step size: 1 - L_u a eta tau / Gamma > 0")


def _errors(theory: Theory) -> None:
    prove = theory.prove
    prove(
        "unsent lemma",
        le(unsent**2, unsent_weight * total(alpha(k) * (1 - sent(k)) * change(k) ** 2, k)),
        "What is kept back adds up to at most the weight of those who keep it back times its weighted squares "
        "(Lagrange's identity).",
        squares=(
            Square((1 - sent(k)) * (1 - sent(k2)) * (change(k) - change(k2)), HALF * alpha(k) * alpha(k2), (k, k2)),
        ),
    )
    prove(
        "unsent changes",
        le(expect(scale * unsent**2, j), total(alpha(k) * err(k), k)),
        "In the norm of P and in expectation.",
        (Use("unsent lemma", scale, (w, j)), Use("upload error", alpha(k), (k,))),
    )

    def moved(k: Expr, i: Expr) -> Expr:
        return grad(k) - grad_at(k, i)

    def mean(i: Expr) -> Expr:
        return total(alpha(k) * moved(k, i), k)

    drifted = tau * full_grad - learned
    prove(
        "drift error",
        le(expect(scale * drifted**2, j), tau * L**2 / gamma * drift2),
        "Cauchy-Schwarz over steps, Jensen over devices, smoothness; P is at most 1/Gamma.",
        (
            Use("largest step", drifted**2 / gamma, (w, j)),
            Use("weights", tau / gamma * expect(mean(i) ** 2, j, i)),
            Use("smooth in u", tau / gamma * alpha(k), (w, k, i)),
        ),
        (
            Square(moved(k, i) - mean(i), tau / gamma * alpha(k), (w, j, k, i)),
            Square(mean(i) - mean(b), HALF / gamma, (w, j, i, b)),
        ),
    )
    prove(
        "aggregate error",
        le(
            expect(scale * (tau * full_grad - _signal) ** 2, j),
            (1 + s) * total(alpha(k) * err(k), k) + (1 + 1 / s) * tau * L**2 / gamma * drift2,
        ),
        "Young with s between what is kept back and drift.",
        (Use("unsent changes", 1 + s), Use("drift error", 1 + 1 / s)),
        (Square(s * unsent - drifted, scale / s, (w, j)),),
    )


def _server(theory: Theory) -> None:
    prove = theory.prove
    error2 = (tau * full_grad - _signal) ** 2
    prove(
        "leaning polarisation",
        le(
            -expect(scale * full_grad * _signal, j),
            expect(
                scale
                * (
                    (HALF + gain * lean) * error2 / tau
                    - tau * (HALF + gain * lean / one_lean) * full_grad**2
                    - (HALF - gain) * _signal**2 / tau
                ),
                j,
            ),
        ),
        "Polarisation in the inner product of P, and a square: what the step size leaves of the aggregate's norm "
        "buys gradient weight.",
        (Use("one lean", gain * expect(scale * (_signal**2 / tau - tau * lean / one_lean * full_grad**2), j)),),
        (Square(lean * tau * full_grad - one_lean * _signal, gain * scale / (one_lean * tau), (w, j)),),
    )
    prove(
        "noise against the gradient",
        eq(expect(full_grad * learned_noise, j), 0),
        "Noise drops out of the plain inner product: not of that of P, which depends on it.",
        (Use("unbiased: gradient", alpha(k) * alpha(k2), (i, j, k, k2)),),
    )
    prove(
        "expected move",
        le(
            expect(full_grad * move, j),
            -rate * eta * expect(scale * full_grad * _signal, j)
            + rate * eta * (n * tau / 2 * wide_gradient2 + kappa2 / (2 * n)),
        ),
        "What is left of the noise is in the norm of P - 1: Young with o against the gradient there, of which P has "
        "more than the identity.",
        (Use("noise against the gradient", -rate * eta), Use("selection noise", rate * eta / (2 * n * tau))),
        (Square(n * tau * full_grad + learned_noise, rate * eta * extra / (2 * n * tau), (w, j)),),
    )
    prove(
        "server variance",
        le(
            expect(move**2, j),
            rate**2 * eta**2 / gamma * ((1 + _z) * expect(scale * _signal**2, j) + (1 + 1 / _z) * tau * nu2),
        ),
        "P is at most 1/Gamma; Young with the largest z that the descent can pay for.",
        (
            Use("largest step", rate**2 * eta**2 / gamma * scale * arrived**2, (w, j)),
            Use("upload noise", rate**2 * eta**2 / gamma * (1 + 1 / _z)),
        ),
        (Square(_z * _signal - learned_noise, rate**2 * eta**2 / gamma * scale / _z, (w, j)),),
    )


def _right(terms: SparseTerms) -> Expr:
    return terms.unsent * total(alpha(k) * err(k), k) + terms.heterogeneity_drift + terms.variance + terms.selection


def at_each_round(expr: Expr) -> Expr:
    """An expression in the names of this module as the theorem has it: constants of round t."""
    return expr.xreplace({constant: Function(constant.name)(t) for constant in CONSTANTS})


def _one_round(theory: Theory) -> None:
    prove, terms = theory.prove, round_terms()
    signal2 = expect(scale * _signal**2, j)
    prove(
        "one round",
        le(
            expect(f_end) + terms.gradient * gradient2 + terms.wide_gradient * wide_gradient2,
            expect(f_middle) + _right(terms),
        ),
        "Descent along the server's move.",
        (
            Use("descent lemma", over=(w,)),
            Use("expected move"),
            Use("server variance", L / 2),
            Use("leaning polarisation", rate * eta),
            Use("aggregate error", ERRORS),
            Use("displacement", ERRORS * (1 + 1 / s) * tau * L**2 / gamma),
            Use("step condition", rate * eta / (2 * tau) * signal2),
            Use("spare below 1", rate * eta / (2 * tau) * headroom * signal2),
            Use("noise share", rate * eta * tau / 2 * wide_gradient2),
        ),
    )
    theory.steps += PERSONAL_STEPS
    prove(
        "one full round",
        le(
            expect(f_end)
            + terms.gradient * gradient2
            + terms.wide_gradient * wide_gradient2
            + terms.personal * _personal2,
            expect(f_start) + _right(terms) + terms.personal_variance,
        ),
        "The personal phase, then the global one.",
        (Use("personal phase"), Use("one round")),
    )


def sparse() -> Theory:
    """The theorem with every step from the hypotheses up."""
    theory = Theory("Convergence with sparse uploads", SIGNATURE, facts_of_the_first(_FACTS))
    _given(theory)
    theory.steps = [*descent(move), *DRIFT_STEPS]
    _errors(theory)
    _server(theory)
    _one_round(theory)
    theory = per_round(theory, CONSTANTS)
    terms = round_terms()
    left = terms.gradient * gradient2 + terms.wide_gradient * wide_gradient2 + terms.personal * _personal2
    right = _right(terms) + terms.personal_variance
    theory.prove(
        "theorem, sparse uploads",
        le(
            total(at_each_round(left), t) / R,
            (f_initial - f_lower) / R + total(at_each_round(right), t) / R,
        ),
        "R rounds, telescoped.",
        (
            Use("one full round", 1 / R, (t,)),
            Use("rounds follow each other", -1 / R),
            Use("lower bound", 1 / R),
        ),
    )
    return theory
