"""Sparse uploads with error feedback: what was kept back is added to the next round's change.

The plain sum of uploads ("fill") at a server rate ``a`` that stays the same. The shifted iterate
``u + a sum_k alpha_k r_k``, with residuals ``r_k`` in units of the model, moves as if everything had been sent; what
pruning costs is the distance of the two, which enters squared and so with the third power of the step size. The
personal parts train at u, not at the shifted iterate: that costs a term of its own.
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
    grad,
    grad_at,
    headroom,
    i,
    j,
    k,
    noise,
    p,
    pairs,
    pgrad,
    pmove,
    position,
    psegment,
    r,
    spare,
    t,
    tau,
    tau_v,
    theta,
    value,
    value_next,
    var_u,
    var_v,
    w,
)  # fmt: skip
from kktalloc.proof._language import Expr, Sign, Square, Theory, Use, eq, le, total
from kktalloc.proof._round import HALF, descent
from kktalloc.proof._sparse import DRIFT_STEPS, change, drift2, facts_of_the_first, gradient2, learned, learned_noise
from kktalloc.proof._theorem import personal_descent
from kktalloc.proof._transform import copied, mapped_fact, mapped_step, per_round

_signature = copied(h.THEORY.signature)
_signature.parameters["spare"] = Sign.POSITIVE  # it stands in a denominator here
_nonneg, _pos = Sign.NONNEGATIVE, Sign.POSITIVE
_sorts = (h.ROUND, h.DEVICE, h.COORDINATE, h.CHANCE)
rate = _signature.parameter("rate", _pos, r"\eta_s")
L_uv = _signature.parameter("L_uv", _nonneg, "L_{uv}")
nu2 = _signature.parameter("nu2", _nonneg, r"\nu^2")
_sent = _signature.family("sent", _sorts, Sign.INDICATOR, "never", r"\mu")
_trained = _signature.family("trained", _sorts, Sign.INDICATOR, "round start", r"\vartheta")
_residual = _signature.family("residual", _sorts, known="round start", latex=r"\varrho")
_residual_next = _signature.family("residual_next", _sorts, known="never", latex=r"\varrho^{+}")
_u_next = _signature.family("u_next", (h.ROUND, h.COORDINATE, h.CHANCE), known="never", latex="u^{+}")
_rest = _signature.family("rest", (h.ROUND, h.DEVICE), _nonneg, latex=r"\varepsilon")
_shifted = _signature.family("shifted", _sorts, known="round start", latex=r"\hat b")
_pshifted = _signature.family(
    "pshifted", tuple(_signature.families["pgrad"].sorts), known="before personal step", latex=r"\hat g"
)

CONSTANTS = (eta, eta_v, L, L_v, L_uv, theta, headroom, h.delta2, var_u, var_v, p, r, spare, co_spare, nu2)
"""What may change from round to round: not the server's rate, in which the shift is measured."""


def rest(k: Expr) -> Expr:
    """Bound on the squared residual with which a device starts the round."""
    return _rest(t, k)


def residual(k: Expr) -> Expr:
    """What the device has not sent yet when the round starts."""
    return _residual(t, k, j, w)


def residual_next(k: Expr) -> Expr:
    """The same when it ends."""
    return _residual_next(t, k, j, w)


def sent(k: Expr) -> Expr:
    """1 where the device sends what it has."""
    return _sent(t, k, j, w)


def shifted(k: Expr) -> Expr:
    """Gradient of F_k in u at the shifted iterate."""
    return _shifted(t, k, j, w)


u_next = _u_next(t, j, w)
_pshift = _pshifted(t, k, e, c, w)
shift = rate * total(alpha(k) * residual(k), k)
move = -rate * eta * (learned + learned_noise)
_whole_shifted = total(alpha(k) * shifted(k), k)
personal_gradient2 = total(alpha(k) * expect(pgrad(k, e) ** 2, c), k, e)
_z = co_spare * headroom / (L * rate * eta * tau)
_lean = spare * headroom / tau
ERRORS = rate * eta * HALF / tau


def at_the_shift(expr: Expr) -> Expr:
    """The descent's expressions with the gradient at the shifted iterate."""
    return expr.replace(Function("grad"), _shifted)


@dataclass(frozen=True)
class FeedbackTerms:
    """Coefficients of one round; ``residual`` and ``personal_residual`` per unit of ``sum_k alpha_k rest_k``."""

    gradient: Expr
    personal: Expr
    residual: Expr
    heterogeneity_drift: Expr
    variance: Expr
    personal_residual: Expr
    personal_variance: Expr


def round_terms() -> FeedbackTerms:
    """Coefficients of one round."""
    drifting = ERRORS * tau * L**2 / theta * eta**2 * pairs
    on_the_way = (1 + p) * (1 + r) * tau
    return FeedbackTerms(
        gradient=rate * eta * tau / 2 - drifting * on_the_way,
        personal=eta_v / 2 * (1 - L_v * eta_v),
        residual=rate * eta / (2 * _lean) * L**2 * rate**2,
        heterogeneity_drift=drifting * on_the_way * h.delta2,
        variance=drifting * (1 + 1 / p) * var_u + L * rate**2 * eta**2 / 2 * (1 + 1 / _z) * tau * nu2,
        personal_residual=tau_v * eta_v / 2 * L_uv**2 * rate**2,
        personal_variance=tau_v * L_v * eta_v**2 / 2 * var_v,
    )


_FACTS = (
    "weights", "trichotomy", "pairs", "position", "smooth in u", "calculus in v", "variance in u", "variance in v",
    "unbiased: own past", "unbiased: personal", "heterogeneity", "drift condition", "spare below 1",
    "personal steps follow each other", "rounds follow each other", "lower bound",
)  # fmt: skip


def _given(theory: Theory) -> None:
    given = theory.given
    h.moves(theory, move)
    theory.facts[-2:] = [mapped_fact(fact, at_the_shift) for fact in theory.facts[-2:]]
    h.unbiased("unbiased: shifted", noise(k, i), shifted(h.k2), "A2: noise against the gradient at the shift", theory)
    h.unbiased("unbiased: personal shift", h.pnoise, _pshift, "A2: noise against the gradient at the shift", theory)
    given(
        "smooth at the shift",
        le(total((grad(k) - shifted(k)) ** 2, j), L**2 * total(shift**2, j)),
        "A1: the gradient of F_k in u is L_u-Lipschitz, between u and the shifted iterate",
    )
    given(
        "smooth in v",
        le(total((psegment - _pshift) ** 2, c), L_v**2 * position**2 * total(pmove(k, e) ** 2, c)),
        "A1: the gradient of F_k in v_k is L_v-Lipschitz, at the shifted iterate",
    )
    given(
        "smooth across",
        le(total((pgrad(k, e) - _pshift) ** 2, c), L_uv**2 * total(shift**2, j)),
        "A1': the gradient of F_k in v_k is L_uv-Lipschitz in u",
    )
    given(
        "server",
        eq(u_next, h.u + rate * total(alpha(k) * sent(k) * (residual(k) - eta * change(k)), k)),
        "the server adds what is sent of residual and change",
    )
    given(
        "residuals",
        eq(residual_next(k), (1 - sent(k)) * (residual(k) - eta * change(k))),
        "the device keeps the rest",
    )
    given("residual error", le(expect(residual(k) ** 2, j), rest(k)), "A3'': squared residual when the round starts")
    given(
        "upload noise",
        le(expect(learned_noise**2, j), tau * nu2),
        "A2'': the noise of all devices' changes together, per step",
    )
    given("step condition", eq(headroom, 1 - L * rate * eta * tau), "step size: 1 - L_u a eta tau > 0")


def _errors(theory: Theory) -> None:
    prove = theory.prove

    def moved(k: Expr, i: Expr) -> Expr:
        return grad(k) - grad_at(k, i)

    def mean(i: Expr) -> Expr:
        return total(alpha(k) * moved(k, i), k)

    prove(
        "the shifted iterate moves as if all were sent",
        eq(u_next + rate * total(alpha(k) * residual_next(k), k), h.u + shift + move),
        "What is kept back is in the shift.",
        (Use("server"), Use("residuals", rate * alpha(k), (k,))),
    )
    prove(
        "shift",
        le(expect(shift**2, j), rate**2 * total(alpha(k) * rest(k), k)),
        "Jensen over devices.",
        (Use("residual error", rate**2 * alpha(k), (k,)), Use("weights", expect(shift**2, j))),
        (Square(rate * residual(k) - shift, alpha(k), (w, j, k)),),
    )
    away = total(alpha(k) * (grad(k) - shifted(k)), k)
    prove(
        "gradient at the shift",
        le(expect(away**2, j), L**2 * expect(shift**2, j)),
        "Jensen over devices, smoothness.",
        (
            Use("smooth at the shift", alpha(k), (w, k)),
            Use("weights", expect(away**2, j) + L**2 * expect(shift**2, j)),
        ),
        (Square(grad(k) - shifted(k) - away, alpha(k), (w, j, k)),),
    )
    prove(
        "drift error",
        le(expect((tau * full_grad - learned) ** 2, j), tau * L**2 * drift2),
        "Cauchy-Schwarz over steps, Jensen over devices, smoothness.",
        (
            Use("weights", tau * expect(mean(i) ** 2, j, i)),
            Use("smooth in u", tau * alpha(k), (w, k, i)),
        ),
        (
            Square(moved(k, i) - mean(i), tau * alpha(k), (w, j, k, i)),
            Square(mean(i) - mean(b), HALF, (w, j, i, b)),
        ),
    )


def _server(theory: Theory) -> None:
    prove = theory.prove
    prove(
        "expected move",
        eq(expect(_whole_shifted * move, j), -rate * eta * expect(_whole_shifted * learned, j)),
        "Noise drops out of the inner product of gradient and move.",
        (Use("unbiased: shifted", -rate * eta * alpha(k) * alpha(h.k2), (i, j, k, h.k2)),),
    )
    prove(
        "polarisation at the shift",
        le(
            -expect(_whole_shifted * learned, j),
            HALF * expect((tau * full_grad - learned) ** 2 / tau - tau * full_grad**2 - learned**2 / tau, j)
            + _lean / 2 * expect(learned**2, j)
            + L**2 / (2 * _lean) * expect(shift**2, j),
        ),
        "Polarisation with the gradient at u; the gradient at the shift differs, which a share of what the step "
        "size leaves of the aggregate's norm pays for (Young).",
        (Use("gradient at the shift", 1 / (2 * _lean)),),
        (Square(full_grad - _whole_shifted - _lean * learned, 1 / (2 * _lean), (w, j)),),
    )
    prove(
        "server variance",
        le(
            expect(move**2, j),
            rate**2 * eta**2 * ((1 + _z) * expect(learned**2, j) + (1 + 1 / _z) * tau * nu2),
        ),
        "Young with the largest z that the descent can pay for.",
        (Use("upload noise", rate**2 * eta**2 * (1 + 1 / _z)),),
        (Square(_z * learned - learned_noise, rate**2 * eta**2 / _z, (w, j)),),
    )


def _personal(theory: Theory) -> None:
    prove = theory.prove
    theory.steps += personal_descent(_pshift)
    variance = L_v * eta_v**2 / 2 * var_v
    personal2 = expect(pgrad(k, e) ** 2, c)
    cost = eta_v / 2 * L_uv**2 * expect(shift**2, j)
    prove(
        "personal step",
        le(expect(value_next), expect(value) - eta_v / 2 * (1 - L_v * eta_v) * personal2 + cost + variance),
        "A personal step in expectation: it goes along the gradient at u, and F is at the shift.",
        (
            Use("descent lemma, personal", over=(w,)),
            Use("unbiased: personal shift", -eta_v, (c,)),
            Use("unbiased: personal", L_v * eta_v**2, (c,)),
            Use("variance in v", L_v * eta_v**2 / 2),
            Use("smooth across", eta_v / 2, (w,)),
        ),
        (Square(_pshift, eta_v / 2, (w, c)),),
    )
    prove(
        "personal phase",
        le(
            expect(f_middle),
            expect(f_start)
            - eta_v / 2 * (1 - L_v * eta_v) * personal_gradient2
            + tau_v * eta_v / 2 * L_uv**2 * expect(shift**2, j)
            + tau_v * variance,
        ),
        "The personal steps of all devices, telescoped.",
        (
            Use("personal step", alpha(k), (k, e)),
            Use("personal steps follow each other", -alpha(k), (k, w)),
            Use("weights", tau_v * (cost + variance)),
        ),
    )


def right_side(terms: FeedbackTerms) -> Expr:
    return (
        (terms.residual + terms.personal_residual) * total(alpha(k) * rest(k), k)
        + terms.heterogeneity_drift
        + terms.variance
        + terms.personal_variance
    )


def at_each_round(expr: Expr) -> Expr:
    """An expression in the names of this module as the theorem has it: constants of round t."""
    return expr.xreplace({constant: Function(constant.name)(t) for constant in CONSTANTS})


def feedback() -> Theory:
    """The theorem with every step from the hypotheses up."""
    theory = Theory("Convergence with sparse uploads and error feedback", _signature, facts_of_the_first(_FACTS))
    _given(theory)
    theory.steps = [*(mapped_step(step, at_the_shift) for step in descent(move)), *DRIFT_STEPS]
    _errors(theory)
    _server(theory)
    _personal(theory)
    terms = round_terms()
    learned2 = expect(learned**2, j)
    theory.prove(
        "one full round",
        le(
            expect(f_end) + terms.gradient * gradient2 + terms.personal * personal_gradient2,
            expect(f_start) + right_side(terms),
        ),
        "The personal phase, then descent along the move of the shifted iterate.",
        (
            Use("personal phase"),
            Use("descent lemma", over=(w,)),
            Use("expected move"),
            Use("server variance", L / 2),
            Use("polarisation at the shift", rate * eta),
            Use("drift error", ERRORS),
            Use("displacement", ERRORS * tau * L**2),
            Use("shift", rate * eta * L**2 / (2 * _lean) + tau_v * eta_v / 2 * L_uv**2),
            Use("step condition", rate * eta / (2 * tau) * learned2),
            Use("spare below 1", rate * eta / (2 * tau) * headroom * learned2),
        ),
    )
    theory = per_round(theory, CONSTANTS)
    theory.prove(
        "theorem, error feedback",
        le(
            total(at_each_round(terms.gradient * gradient2 + terms.personal * personal_gradient2), t) / R,
            (f_initial - f_lower) / R + total(at_each_round(right_side(terms)), t) / R,
        ),
        "R rounds, telescoped; F is that of the shifted iterate, which starts where u does.",
        (
            Use("one full round", 1 / R, (t,)),
            Use("rounds follow each other", -1 / R),
            Use("lower bound", 1 / R),
        ),
    )
    return theory
