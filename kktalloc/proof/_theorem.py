"""The theorem: aggregate error, one round, personal steps, R rounds, and what follows from it.

Two cases run through the same steps. In general the coverage bias and the drift are parted by Young's
inequality with a free s; where all devices keep the same coordinates (Gamma = 1) there is no bias and
nothing to part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from sympy import S

from kktalloc.proof._hypotheses import (
    THEORY,
    L,
    L_v,
    R,
    aggregate,
    alpha,
    c,
    co_gamma,
    covered,
    delta2,
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
    headroom,
    i,
    inverse,
    j,
    k,
    lean,
    one_lean,
    p,
    pairs,
    pgrad,
    pmove,
    position,
    psegment,
    r,
    radius2,
    rho,
    s,
    t,
    tau,
    tau_v,
    theta,
    value,
    value_next,
    var_u,
    var_v,
    w,
    z,
)
from kktalloc.proof._language import Claim, Expr, Square, Step, Theory, Use, eq, le, total
from kktalloc.proof._round import (
    HALF,
    bias,
    displacements,
    drift_error,
    gain,
    gradient2,
    pruned,
    server_var,
    z_best,
)
from kktalloc.proof._round import STEPS as ROUND_STEPS


@dataclass(frozen=True)
class Case:
    """One case of the theorem: what its steps' names end in, and the factors of coverage bias and drift."""

    suffix: str
    bias_factor: Expr
    drift_factor: Expr


ERRORS = eta * (HALF + gain * lean)  # what one step pays for a unit of the aggregate's squared error
GENERAL = Case("", 1 + s, 1 + 1 / s)
AGREEING = Case(", agreeing masks", S.Zero, S.One)


@dataclass(frozen=True)
class RoundTerms:
    """The right-hand side of the theorem, by name; `gradient` and `personal` weigh its left-hand side."""

    gradient: Expr
    personal: Expr
    pruning: Expr
    coverage_bias: Expr
    heterogeneity_drift: Expr
    variance: Expr
    personal_variance: Expr

    def at(self, values: Mapping[Expr, Expr]) -> RoundTerms:
        """Put values in for parameters."""
        return RoundTerms(*(getattr(self, field.name).subs(values) for field in fields(self)))


def round_terms(case: Case) -> RoundTerms:
    """Coefficients of one round; ``pruning`` is per unit of sum_k alpha_k rho_k D^2."""
    drift_unit = case.drift_factor / (gamma * theta)
    spread = (1 + p) * (1 + r) * eta**2 * L**2 * pairs
    return RoundTerms(
        gradient=eta * tau * (HALF + gain * lean / one_lean) - ERRORS * tau * drift_unit * spread,
        personal=eta_v * (1 - L_v * eta_v / 2),
        pruning=ERRORS * tau * drift_unit * L**2,
        coverage_bias=ERRORS * tau * case.bias_factor * co_gamma / gamma * delta2,
        heterogeneity_drift=ERRORS * tau * drift_unit * spread * delta2,
        variance=ERRORS * drift_unit * (1 + 1 / p) * eta**2 * L**2 * pairs * var_u
        + L * eta**2 / 2 * (tau + pairs / z_best) * server_var,
        personal_variance=tau_v * L_v * eta_v**2 / 2 * var_v,
    )


_aggregate2 = expect(aggregate(i) ** 2, i, j)
_error2 = expect((covered * full_grad - aggregate(i)) ** 2, j)
_personal2 = expect(pgrad(k, e) ** 2, c)
_mean_ratio = total(alpha(k) * rho(k), k)
_STEPS: list[Step] = []


def _prove(name: str, claim: Claim, text: str, uses: tuple[Use, ...] = (), squares: tuple[Square, ...] = ()) -> None:
    _STEPS.append(Step(name, claim, text, uses, squares))


# -- The aggregate's error, in both cases ---------------------------------------------------------------
def _error_bound(case: Case) -> Expr:
    return tau * case.bias_factor * co_gamma / gamma * delta2 + case.drift_factor * L**2 / gamma * displacements


_prove(
    "aggregate error",
    le(total(_error2, i), _error_bound(GENERAL)),
    "Young with s between coverage bias and drift.",
    (
        Use("coverage bias", (1 + s) * tau),
        Use("drift error", 1 + 1 / s, (i,)),
    ),
    (Square(s * bias - drift_error(i), 1 / s, (w, j, i)),),
)
_prove(
    "agreeing weights",
    eq(covered * inverse, covered),
    "Where every device keeps the covered coordinates, all the weight does.",
    (
        Use("coverage"),
        Use("agreement", -inverse, (k,)),
        Use("weights", -covered * inverse),
    ),
)
_prove(
    "aggregate error, agreeing masks",
    le(total(_error2, i), _error_bound(AGREEING)),
    "No coverage bias.",
    (
        Use("drift error", over=(i,)),
        Use("agreeing weights", -full_grad * (bias + 2 * drift_error(i)), (w, i, j)),
        Use("agreement", -inverse * grad(k) * (bias + 2 * drift_error(i)), (w, i, j, k)),
    ),
)


# -- The personal part ----------------------------------------------------------------------------------
def personal_descent(slope: Expr) -> list[Step]:
    """The descent lemma along a personal step, for F_k with gradient `slope` in v_k where the step begins."""
    move2 = total(pmove(k, e) ** 2, c)
    curve = 1 / (2 * L_v * position)
    return [
        Step(
            "descent, personal, pointwise",
            le(total(psegment * pmove(k, e), c), total(slope * pmove(k, e), c) + L_v * position * move2),
            "The same at each point of a personal step.",
            (Use("smooth in v", curve),),
            (Square(psegment - slope - L_v * position * pmove(k, e), curve, (c,)),),
        ),
        Step(
            "descent lemma, personal",
            le(value_next, value + total(slope * pmove(k, e), c) + L_v / 2 * move2),
            "The descent lemma for a personal step.",
            (
                Use("calculus in v"),
                Use("descent, personal, pointwise", over=(z,)),
                Use("position", L_v * move2),
            ),
        ),
    ]


_STEPS += personal_descent(pgrad(k, e))
_prove(
    "personal step",
    le(
        expect(value_next),
        expect(value) - eta_v * (1 - L_v * eta_v / 2) * _personal2 + L_v * eta_v**2 / 2 * var_v,
    ),
    "A personal step in expectation.",
    (
        Use("descent lemma, personal", over=(w,)),
        Use("unbiased: personal", L_v * eta_v**2 - eta_v, (c,)),
        Use("variance in v", L_v * eta_v**2 / 2),
    ),
)
_prove(
    "personal phase",
    le(
        expect(f_middle),
        expect(f_start)
        - eta_v * (1 - L_v * eta_v / 2) * total(alpha(k) * _personal2, k, e)
        + tau_v * L_v * eta_v**2 / 2 * var_v,
    ),
    "The personal steps of all devices, telescoped.",
    (
        Use("personal step", alpha(k), (k, e)),
        Use("personal steps follow each other", -alpha(k), (k, w)),
        Use("weights", tau_v * L_v * eta_v**2 / 2 * var_v),
    ),
)

PERSONAL_STEPS = tuple(_STEPS[-4:])
"""The personal phase, from its descent lemma on."""


# -- One round and R rounds -----------------------------------------------------------------------------
def _left(terms: RoundTerms) -> Expr:
    return terms.gradient * gradient2 + terms.personal * total(alpha(k) * _personal2, k, e)


def _right(terms: RoundTerms, ratio: Expr) -> Expr:
    return (
        terms.pruning * radius2 * ratio
        + terms.coverage_bias
        + terms.heterogeneity_drift
        + terms.variance
        + terms.personal_variance
    )


for _case in (GENERAL, AGREEING):
    _terms = round_terms(_case)
    _prove(
        f"one round{_case.suffix}",
        le(
            expect(f_end),
            expect(f_middle)
            - _terms.gradient * gradient2
            + _terms.pruning * pruned
            + _terms.coverage_bias
            + _terms.heterogeneity_drift
            + _terms.variance,
        ),
        "Descent, with the inner product polarised and every term bounded.",
        (
            Use("descent lemma", over=(w,)),
            Use("expected move"),
            Use("server variance", L / 2),
            Use("leaning polarisation", eta, (i,)),
            Use(f"aggregate error{_case.suffix}", ERRORS),
            Use("displacement", ERRORS * _case.drift_factor * L**2 / gamma),
            Use("step condition", eta / 2 * _aggregate2),
            Use("spare below 1", eta / 2 * headroom * _aggregate2),
        ),
    )
    _prove(
        f"one full round{_case.suffix}",
        le(expect(f_end) + _left(_terms), expect(f_start) + _right(_terms, _mean_ratio)),
        "The personal phase, then the global one; pruning errors by A3.",
        (
            Use("personal phase"),
            Use(f"one round{_case.suffix}"),
            Use("pruning error", _terms.pruning * alpha(k), (k,)),
        ),
    )
    _prove(
        f"theorem{_case.suffix}",
        le(
            total(_left(_terms), t) / R,
            (f_initial - f_lower) / R + _right(_terms, total(_mean_ratio, t) / R),
        ),
        "R rounds, telescoped.",
        (
            Use(f"one full round{_case.suffix}", 1 / R, (t,)),
            Use("rounds follow each other", -1 / R),
            Use("lower bound", 1 / R),
        ),
    )


def convergence() -> Theory:
    """The theorem with every step from the hypotheses up, in both cases."""
    return replace(THEORY, facts=list(THEORY.facts), steps=[*ROUND_STEPS, *_STEPS])
