"""The second theorem: what pruning and coverage do to the gradient enters as it is, not through norms.

The first theorem pays ``L_u^2 D^2 / Gamma`` for a pruned weight and the least coverage on every coordinate. Here
three hypotheses about quantities that a run can measure take their place (A3', A5', A2'), every constant may change
from round to round, and devices may take part independently with a probability. The same chain then gives a linear
rate where F satisfies the Polyak-Lojasiewicz inequality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Function

from kktalloc.proof import _hypotheses as h
from kktalloc.proof._hypotheses import (
    L,
    L_v,
    R,
    alpha,
    b,
    c,
    covered,
    delta2,
    deviation,
    drift,
    e,
    eta,
    eta_v,
    expect,
    f_end,
    f_final,
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
    inverse,
    j,
    k,
    k2,
    keeps,
    lean,
    mask,
    noise,
    one_lean,
    p,
    pairs,
    pgrad,
    r,
    s,
    share,
    t,
    tau,
    tau_v,
    theta,
    var_u,
    var_v,
    w,
)  # fmt: skip
from kktalloc.proof._language import Expr, Same, Sign, Square, Theory, Use, eq, le, total
from kktalloc.proof._round import HALF, bias, descent, gain, gradient2, masked_grads, server_moves, z_best
from kktalloc.proof._round import STEPS as ROUND_STEPS
from kktalloc.proof._theorem import ERRORS, PERSONAL_STEPS, RoundTerms, convergence
from kktalloc.proof._transform import copied, per_round

_signature = copied(h.THEORY.signature)
_nonneg, _pos = Sign.NONNEGATIVE, Sign.POSITIVE
v = _signature.parameter("v", _pos)
q = _signature.parameter("q", _pos, "o")
charge2 = _signature.parameter("charge2", _nonneg, r"\beta^2")
nu2 = _signature.parameter("nu2", _nonneg, r"\nu^2")
chi2 = _signature.parameter("chi2", _nonneg, r"\chi_c^2")
absence = _signature.parameter("absence", _nonneg, r"(1/\pi-1)")
_err = _signature.family("err", (h.ROUND, h.DEVICE), _nonneg, latex=r"\varepsilon")
_sorts = (h.ROUND, h.DEVICE, h.COORDINATE, h.CHANCE)
_start = _signature.family("start", _sorts, known="round start", latex="b^0")
_takes_part = _signature.family("part", (h.ROUND, h.DEVICE, h.CHANCE), known="never", latex=r"\theta_c")

CONSTANTS = (
    eta, eta_v, L, L_v, gamma, theta, headroom, delta2, var_u, var_v, s, p, r, v, q, lean, one_lean, h.spare,
    h.co_spare, charge2, nu2, chi2, absence,
)  # fmt: skip
"""What may change from round to round."""


def err(k: Expr) -> Expr:
    """Bound on the coverage-weighted change of a device's kept gradient when the rest is pruned."""
    return _err(t, k)


def start(k: Expr) -> Expr:
    """Gradient of F_k at the pruned model ``m_k u``."""
    return _start(t, k, j, w)


def part(k: Expr) -> Expr:
    """1/pi where the device takes part, else 0."""
    return _takes_part(t, k, w)


def changed(k: Expr) -> Expr:
    """What pruning changes in a device's gradient."""
    return grad(k) - start(k)


def _steps_of(k: Expr) -> Expr:
    return total(grad_at(k, i) + noise(k, i), i)


move = -eta * total(share(k) * part(k) * _steps_of(k), k)


@dataclass(frozen=True)
class MeasuredTerms(RoundTerms):
    """As there, ``pruning`` per unit of ``sum_k alpha_k err_k``; what absent devices add."""

    participation: Expr


def round_terms() -> MeasuredTerms:
    """Coefficients of one round."""
    drifting = (1 + 1 / v) * eta**2 * L**2 * pairs / (gamma * theta)
    on_the_way = (1 + p) * (1 + r) * tau
    return MeasuredTerms(
        gradient=eta * tau * (HALF + gain * lean / one_lean) - ERRORS * drifting * on_the_way * (1 + q),
        personal=eta_v * (1 - L_v * eta_v / 2),
        pruning=ERRORS * (1 + v) * tau * (1 + 1 / s) + ERRORS * drifting * on_the_way * (1 + 1 / q),
        coverage_bias=ERRORS * (1 + v) * tau * (1 + s) * charge2,
        heterogeneity_drift=ERRORS * drifting * on_the_way * (1 + q) * delta2,
        variance=ERRORS * drifting * (1 + 1 / p) * var_u + L * eta**2 / 2 * (tau + pairs / z_best) * nu2,
        personal_variance=tau_v * L_v * eta_v**2 / 2 * var_v,
        participation=L * eta**2 / 2 * absence * tau**2 * chi2,
    )


def _given(theory: Theory) -> None:
    given = theory.given
    h.moves(theory, move)
    given(
        "smooth along drift",
        le(total((grad_at(k, i) - start(k)) ** 2, j), L**2 * total(drift(k, i) ** 2, j)),
        "A1: the gradient of F_k in u is L_u-Lipschitz, between the pruned model and an iterate",
    )
    given(
        "gradient error",
        le(expect(inverse * mask(k) * changed(k) ** 2, j), err(k)),
        "A3': what pruning changes in the gradient of F_k on its kept coordinates, each over the weight that keeps it",
    )
    given(
        "coverage charge",
        le(expect(covered * (inverse - 1) * total(alpha(k) * deviation(k) ** 2, k), j), charge2),
        "A5': heterogeneity, coordinate by coordinate, times (1 - alpha(j))/alpha(j) for the weight alpha(j) there",
    )
    given(
        "server noise variance",
        le(expect(share(k) ** 2 * noise(k, i) ** 2, j, k), nu2),
        "A2': variance of what the server averages of one step",
    )
    given(
        "participation: mean",
        eq(expect((part(k) - 1) * grad(k2) * keeps(k) * covered * inverse * (grad_at(k, i) + noise(k, i))), 0),
        "A6: a device takes part with probability pi, whatever else happens, and then counts 1/pi times",
    )
    both = keeps(k) * keeps(k2) * covered * inverse**2 * _steps_of(k) * _steps_of(k2)
    given(
        "participation: square",
        eq(expect((part(k) * part(k2) - 1 - absence * Same(k, k2)) * both), 0),
        "A6: independently of the others",
    )
    given(
        "participation spread",
        le(expect(share(k) ** 2 * _steps_of(k) ** 2, j, k), tau**2 * chi2),
        "A6: squared shares of the devices' steps; with pi = 1 it does not matter",
    )


def _errors(theory: Theory) -> None:
    """The aggregate's error: coverage, pruning, drift."""
    prove = theory.prove
    mean_start = total(share(k) * start(k), k)
    at_start = covered * full_grad - mean_start
    pruned = total(share(k) * changed(k), k)
    errors = total(alpha(k) * err(k), k)
    base = (1 + s) * charge2 + (1 + 1 / s) * errors
    prove(
        "error at the start",
        le(expect(at_start**2, j), base),
        "Young with s between coverage bias and pruning; Jensen over the devices that keep a coordinate.",
        (
            Use("coverage lemma", 1 + s, (w, j)),
            Use("coverage charge", 1 + s),
            Use("coverage", (1 + 1 / s) * pruned**2, (w, j)),
            Use("gradient error", (1 + 1 / s) * alpha(k), (k,)),
        ),
        (
            Square(s * bias - pruned, 1 / s, (w, j)),
            Square(changed(k) - pruned, (1 + 1 / s) * share(k), (w, j, k)),
        ),
    )

    def moved(k: Expr, i: Expr) -> Expr:
        return start(k) - grad_at(k, i)

    drifted = total(share(k) * moved(k, i), k)
    drift2 = total(alpha(k) * expect(drift(k, i) ** 2, j), k, i)
    prove(
        "drift error",
        le(expect(drifted**2, j), L**2 / gamma * total(alpha(k) * expect(drift(k, i) ** 2, j), k)),
        "Jensen over the devices that keep a coordinate, then smoothness.",
        (
            Use("smooth along drift", alpha(k) / gamma, (w, k)),
            Use("coverage at least Gamma", alpha(k) * keeps(k) * moved(k, i) ** 2 / gamma, (w, j, k)),
            Use("coverage", drifted**2, (w, j)),
        ),
        (
            Square((1 - mask(k)) * moved(k, i), alpha(k) / gamma, (w, j, k)),
            Square(moved(k, i) - drifted, share(k), (w, j, k)),
        ),
    )
    prove(
        "aggregate error",
        le(
            expect((covered * full_grad - h.aggregate(i)) ** 2, i, j),
            (1 + v) * tau * base + (1 + 1 / v) * L**2 / gamma * drift2,
        ),
        "Young with v between the error at the start and drift.",
        (Use("error at the start", (1 + v) * tau), Use("drift error", 1 + 1 / v, (i,))),
        (Square(v * at_start - drifted, 1 / v, (w, j, i)),),
    )
    at_pruned = total(alpha(k) * expect(mask(k) * start(k) ** 2, j), k)
    prove(
        "gradients on the way",
        le(total(alpha(k) * masked_grads, k), (1 + r) * tau * at_pruned + (1 + 1 / r) * L**2 * drift2),
        "Young with r between the gradients at the pruned model and what they moved since.",
        (Use("smooth along drift", (1 + 1 / r) * alpha(k), (w, k, i)),),
        (
            Square(r * start(k) + moved(k, b), alpha(k) * mask(k) / r, (w, j, k, b)),
            Square((1 - mask(k)) * moved(k, b), (1 + 1 / r) * alpha(k), (w, j, k, b)),
        ),
    )
    unit = alpha(k) * mask(k) * changed(k) ** 2
    prove(
        "gradients at the pruned model",
        le(at_pruned, (1 + q) * (gradient2 + delta2) + (1 + 1 / q) * errors),
        "Young with q between the gradients at the broadcast and what pruning changes; the devices' squared "
        "gradients average to the squared mean gradient plus the heterogeneity.",
        (
            Use("gradient error", (1 + 1 / q) * alpha(k), (k,)),
            Use("heterogeneity", 1 + q),
            Use("weights", -(1 + q) * gradient2 + (1 + 1 / q) * expect(inverse * unit, j, k)),
            Use("coverage", -(1 + 1 / q) * unit, (w, j, k)),
        ),
        (
            Square(q * grad(k) + changed(k), alpha(k) * mask(k) / q, (w, j, k)),
            Square((1 - keeps(k)) * grad(k), (1 + q) * alpha(k) * covered, (w, j, k)),
            # What is kept by some is kept by less than all the weight: 1 <= q.
            Square((1 - keeps(k2)) * changed(k), (1 + 1 / q) * alpha(k) * alpha(k2) * inverse * mask(k), (w, j, k, k2)),
        ),
    )
    noise_part = (1 + 1 / p) * var_u
    prove(
        "drift",
        le(
            drift2,
            eta**2
            * pairs
            * ((1 + p) * (1 + r) * tau * ((1 + q) * (gradient2 + delta2) + (1 + 1 / q) * errors) + noise_part)
            / theta,
        ),
        "The drift sum bounds itself and is solved, which the drift condition allows.",
        (
            Use("drift sum", alpha(k) / theta, (k,)),
            Use("gradients on the way", eta**2 * pairs * (1 + p) / theta),
            Use("gradients at the pruned model", eta**2 * pairs * (1 + p) * (1 + r) * tau / theta),
            Use("drift condition", drift2 / theta),
            Use("weights", eta**2 * pairs * noise_part / theta),
        ),
    )


def _server(theory: Theory) -> None:
    prove = theory.prove
    prove(
        "server noise",
        le(expect(h.aggregate_noise(i) ** 2, j), nu2),
        "Noise of different devices is uncorrelated.",
        (Use("unbiased: devices", alpha(k) * alpha(k2), (j, k, k2)), Use("server noise variance")),
    )
    theory.steps += server_moves(nu2)
    prove(
        "expected move",
        eq(expect(full_grad * move, j), -eta * expect(full_grad * h.aggregate(i), i, j)),
        "Noise and absence drop out of the inner product of gradient and move.",
        (
            Use("participation: mean", -eta * alpha(k) * alpha(k2), (i, j, k, k2)),
            Use("unbiased: round", -eta * alpha(k) * alpha(k2), (i, j, k, k2)),
        ),
    )
    prove(
        "move with absent devices",
        le(expect(move**2, j), expect(h.move**2, j) + eta**2 * absence * tau**2 * chi2),
        "Independent absence adds the squared shares.",
        (
            Use("participation: square", eta**2 * alpha(k) * alpha(k2), (j, k, k2)),
            Use("participation spread", eta**2 * absence),
        ),
    )


def _right(terms: MeasuredTerms) -> Expr:
    return (
        terms.pruning * total(alpha(k) * err(k), k)
        + terms.coverage_bias
        + terms.heterogeneity_drift
        + terms.variance
        + terms.participation
    )


_personal2 = total(alpha(k) * expect(pgrad(k, e) ** 2, c), k, e)


def _one_round(theory: Theory) -> None:
    prove, terms = theory.prove, round_terms()
    aggregate2 = expect(h.aggregate(i) ** 2, i, j)
    prove(
        "one round",
        le(expect(f_end), expect(f_middle) - terms.gradient * gradient2 + _right(terms)),
        "Descent, with the inner product polarised and every term bounded.",
        (
            Use("descent lemma", over=(w,)),
            Use("expected move"),
            Use("move with absent devices", L / 2),
            Use("server variance", L / 2),
            Use("leaning polarisation", eta, (i,)),
            Use("aggregate error", ERRORS),
            Use("drift", ERRORS * (1 + 1 / v) * L**2 / gamma),
            Use("step condition", eta / 2 * aggregate2),
            Use("spare below 1", eta / 2 * headroom * aggregate2),
        ),
    )
    theory.steps += PERSONAL_STEPS
    prove(
        "one full round",
        le(
            expect(f_end) + terms.gradient * gradient2 + terms.personal * _personal2,
            expect(f_start) + _right(terms) + terms.personal_variance,
        ),
        "The personal phase, then the global one.",
        (Use("personal phase"), Use("one round")),
    )


_DROPPED = {
    "smooth in u", "pruning error", "agreement", "Gamma at most 1", "weight squares", "smooth on the segment",
    "calculus in u",
}  # fmt: skip
_KEPT = (
    "leaning polarisation", "coverage lemma", "number of pairs", "noise of past steps", "gradients of past steps",
    "drift sum",
)  # fmt: skip


def at_each_round(expr: Expr) -> Expr:
    """An expression in the names of this module as the theorem has it: constants of round t."""
    values: Mapping[Expr, Expr] = {constant: Function(constant.name)(t) for constant in CONSTANTS}
    return expr.xreplace(values)


def measured() -> Theory:
    """The theorem with every step from the hypotheses up."""
    first = convergence()
    facts = [fact for fact in first.facts if fact.name not in _DROPPED]
    theory = Theory("Convergence from measured gradient errors, constants of each round", _signature, facts)
    _given(theory)
    theory.steps = [*descent(move), *(step for step in ROUND_STEPS if step.name in _KEPT)]
    _errors(theory)
    _server(theory)
    _one_round(theory)
    theory = per_round(theory, CONSTANTS)
    terms = round_terms()
    left = at_each_round(terms.gradient * gradient2 + terms.personal * _personal2)
    right = at_each_round(_right(terms) + terms.personal_variance)
    theory.prove(
        "theorem, measured",
        le(total(left, t) / R, (f_initial - f_lower) / R + total(right, t) / R),
        "R rounds, telescoped.",
        (
            Use("one full round", 1 / R, (t,)),
            Use("rounds follow each other", -1 / R),
            Use("lower bound", 1 / R),
        ),
    )
    return theory


def linear_rate() -> Theory:
    """Under the Polyak-Lojasiewicz inequality the gap contracts in each round."""
    theory = measured()
    theory = replace(
        theory,
        title="Corollary: linear rate under the Polyak-Lojasiewicz inequality",
        signature=copied(theory.signature),
        facts=[fact for fact in theory.facts if fact.name not in ("rounds follow each other", "lower bound")],
        steps=[step for step in theory.steps if step.name not in ("one full round", "theorem, measured")],
    )
    declare, given, prove = theory.signature, theory.given, theory.prove

    def each(name: str, latex: str) -> Expr:
        return declare.family(name, (h.ROUND,), _nonneg, latex=latex)(t)

    mu = declare.parameter("mu", _pos, r"\mu")
    left_over, shrink = each("gradient_weight", r"\bar g"), each("shrink", r"\varrho")
    now, later = each("weight_now", r"\gamma"), each("weight_later", r"\gamma^+")
    first, last = (
        declare.parameter(f"weight_{x}", _nonneg, tex) for x, tex in (("first", r"\gamma_0"), ("last", r"\gamma_R"))
    )
    terms = round_terms()
    gradient, right, variance = map(at_each_round, (terms.gradient, _right(terms), terms.personal_variance))
    above, before = expect(f_middle) - f_lower, expect(f_start) - f_lower
    given("PL", le(2 * mu * above, gradient2), "A7: 2 mu (F - F*) <= |grad_u F|^2, at (u^t, V^{t+1})")
    given("gradient weight", eq(left_over, gradient), "what drift leaves of the gradient's weight, >= 0")
    given("shrink", eq(shrink, 1 - 2 * mu * gradient), "contraction of a round, >= 0")
    given("personal step size", le(at_each_round(L_v * eta_v), 2), "step size: eta_v <= 2 / L_v")
    given("weights of rounds", eq(later * shrink, now), "a round weighs more than the one before by its contraction")
    given(
        "weighted rounds follow each other",
        eq(
            total(later * (expect(f_end) - f_lower) - now * before, t),
            last * (f_final - f_lower) - first * (f_initial - f_lower),
        ),
        "F before and after each round, weighted; the value and the weight after one are those before the next",
    )
    prove(
        "PL gain",
        le(2 * mu * gradient * above, gradient * gradient2),
        "The gradient's weight gains in proportion to the gap.",
        (Use("PL", left_over), Use("gradient weight", gradient2 - 2 * mu * above)),
    )
    prove(
        "personal weight is not negative",
        le(0, at_each_round(1 - L_v * eta_v / 2)),
        "eta_v <= 2 / L_v.",
        (Use("personal step size", HALF),),
    )
    prove(
        "one round, PL",
        le(expect(f_end) - f_lower, shrink * before + right + shrink * variance),
        "The gap after a round is a share of that before it, and the errors.",
        (
            Use("one round"),
            Use("PL gain"),
            Use("personal phase", shrink),
            Use("shrink", -above),
            Use("personal weight is not negative", shrink * at_each_round(eta_v) * _personal2),
        ),
    )
    prove(
        "theorem, linear rate",
        le(
            last * (f_final - f_lower),
            first * (f_initial - f_lower) + total(later * (right + shrink * variance), t),
        ),
        "R rounds, telescoped with weights; with a constant contraction rho the weights are rho^-t.",
        (
            Use("one round, PL", later, (t,)),
            Use("weighted rounds follow each other", -1),
            Use("weights of rounds", before, (t,)),
        ),
    )
    return theory
