"""Corollaries: the target statement with round constants, and the exact one-step case.

Both put numbers into the theorem's free parameters; the whole chain is checked again with them.
"""

from __future__ import annotations

from sympy import Rational

from kktalloc.proof._hypotheses import (
    L,
    L_v,
    R,
    alpha,
    c,
    co_gamma,
    co_spare,
    delta2,
    e,
    eta,
    eta_v,
    expect,
    f_end,
    f_initial,
    f_lower,
    f_middle,
    gamma,
    headroom,
    k,
    lean,
    one_lean,
    p,
    pairs,
    pgrad,
    r,
    radius2,
    rho,
    s,
    spare,
    sum_sq,
    t,
    tau,
    tau_v,
    theta,
    var_u,
    var_v,
)
from kktalloc.proof._language import Expr, Square, Theory, Use, eq, le, total
from kktalloc.proof._round import gradient2, pruned, server_var
from kktalloc.proof._theorem import GENERAL, convergence, round_terms

_PLAIN = {lean: 0, one_lean: 1, spare: 0, co_spare: 1}  # polarisation itself
_ONES = {s: 1, p: 1, r: 1, **_PLAIN}
_STEP2 = eta**2 * L**2  # (eta L_u)^2
_x = _STEP2 * pairs


def _nonneg(expr: Expr) -> Square:
    """A non-negative remainder: a weight times 1^2."""
    return Square(1, expr)


def target() -> Theory:
    """The bound with round constants, under conditions on the step sizes alone."""
    theory = convergence().at("Corollary: round constants (s = p = r = 1)", _ONES)
    theory.given("half step", le(2 * eta * L * tau, 1), "step size: eta <= 1 / (2 L_u tau)")
    theory.given("small step", le(10 * _STEP2 * tau**2, gamma), "step size: eta <= sqrt(Gamma / 10) / (L_u tau)")
    theory.given("personal step size", le(L_v * eta_v, 1), "step size: eta_v <= 1 / L_v")
    ours = round_terms(GENERAL).at(_ONES)
    pruning = eta * tau * L**2 / gamma * (1 + 12 * _x)
    heterogeneity = eta * tau * 12 * _x / gamma * delta2
    variance = 4 * eta * _x / gamma * var_u + L * eta**2 * tau * server_var
    prove = theory.prove
    prove(
        "theta is at least 4/5",
        le(Rational(4, 5), theta),
        "theta = 1 - 2 eta^2 L_u^2 tau (tau - 1).",
        (
            Use("drift condition", -1),
            Use("pairs", 4 * _STEP2),
            Use("small step", Rational(1, 5)),
            Use("Gamma at most 1", Rational(1, 5)),
        ),
        (_nonneg(co_gamma / 5 + 2 * _STEP2 * tau),),
    )
    prove(
        "headroom is at least 1/2",
        le(Rational(1, 2), headroom),
        "1 - eta L_u tau.",
        (Use("step condition", -1), Use("half step", Rational(1, 2))),
    )
    unit = eta * tau / (4 * gamma * theta)
    prove(
        "gradient weight",
        le(eta * tau / 4, ours.gradient),
        "At least eta tau / 4 of the squared gradient is left.",
        (
            Use("drift condition", -gamma * unit),
            Use("pairs", (16 + 4 * gamma) * _STEP2 * unit),
            Use("small step", (4 + gamma) / 5 * unit),
            Use("Gamma at most 1", gamma * unit / 5),
        ),
        (_nonneg((gamma * co_gamma / 5 + (8 + 2 * gamma) * _STEP2 * tau) * unit),),
    )
    prove(
        "personal gradient weight",
        le(eta_v / 2, ours.personal),
        "At least eta_v / 2 of the squared personal gradients is left.",
        (Use("personal step size", eta_v / 2),),
    )
    unit = eta * tau * L**2 / (gamma * theta)
    prove(
        "pruning weight",
        le(ours.pruning, pruning),
        "1/theta <= 1 + 6 eta^2 L_u^2 tau (tau - 1).",
        (Use("drift condition", -unit), Use("theta is at least 4/5", 12 * _x * unit)),
        (_nonneg(Rational(28, 5) * _x * unit),),
    )
    unit = 4 * _x * eta * tau * delta2 / (gamma * theta)
    prove(
        "heterogeneity weight",
        le(ours.heterogeneity_drift, heterogeneity),
        "1/theta <= 3.",
        (Use("theta is at least 4/5", 3 * unit),),
        (_nonneg(Rational(7, 5) * unit),),
    )
    unit, server = 2 * eta * _x * var_u / (gamma * theta), L * eta**2 * server_var / (2 * headroom)
    prove(
        "variance weight",
        le(ours.variance, variance),
        "1/theta <= 2, and the noise's own cross terms at most double it.",
        (
            Use("theta is at least 4/5", 2 * unit),
            Use("step condition", -tau * server),
            Use("pairs", L * eta * server),
            Use("half step", Rational(3, 4) * tau * server),
        ),
        (_nonneg(Rational(3, 5) * unit), _nonneg((tau / 4 + L * eta * tau / 2) * server)),
    )
    personal2 = total(alpha(k) * expect(pgrad(k, e) ** 2, c), k, e)
    ratio = total(alpha(k) * rho(k), t, k) / R
    prove(
        "target statement",
        le(
            total(eta * tau / 4 * gradient2 + eta_v / 2 * personal2, t) / R,
            (f_initial - f_lower) / R
            + pruning * radius2 * ratio
            + eta * tau * co_gamma / gamma * delta2
            + heterogeneity
            + variance
            + tau_v * L_v * eta_v**2 * var_v / 2,
        ),
        "The theorem with every coefficient replaced by its simpler bound.",
        (
            Use("theorem"),
            Use("gradient weight", gradient2 / R, (t,)),
            Use("personal gradient weight", personal2 / R, (t,)),
            Use("pruning weight", radius2 * ratio),
            Use("heterogeneity weight"),
            Use("variance weight"),
        ),
    )
    return theory


def one_step() -> Theory:
    """One masked step, all devices keeping the same coordinates: the exact worst case."""
    theory = convergence().at("Corollary: one step, agreeing masks (tau = Gamma = 1)", {gamma: 1, **_PLAIN})
    theory.given("one step", eq(tau, 1), "each device takes one step")
    prove = theory.prove
    prove(
        "no pairs",
        eq(pairs, 0),
        "One step has none before it.",
        (Use("pairs"), Use("one step", tau / 2)),
    )
    prove(
        "no drift",
        eq(theta, 1),
        "One step does not drift.",
        (Use("drift condition"), Use("no pairs", -(1 + p) * (1 + 1 / r) * _STEP2)),
    )
    pruning, server = eta * L**2 / 2, L * eta**2 / 2 * var_u * sum_sq
    spread = eta * tau / 2 * (1 + p) * (1 + r) * _STEP2 * (gradient2 + delta2)
    prove(
        "one masked step",
        le(expect(f_end), expect(f_middle) - eta / 2 * gradient2 + pruning * pruned + server),
        "The pruning term is exactly eta L^2 |u - m u|^2 / 2.",
        (
            Use("one round, agreeing masks"),
            Use("one step", -eta / 2 * gradient2 + pruning * pruned / theta + server),
            Use("no drift", -pruning * pruned / theta),
            Use(
                "no pairs",
                (spread + eta / 2 * (1 + 1 / p) * _STEP2 * var_u) / theta + L * eta / headroom * server,
            ),
        ),
    )
    return theory
