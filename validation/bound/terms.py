"""Both sides of the bound from what happened in each round: constants, terms, and their measured counterparts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kktalloc.bound import Constants, Schedule, best_young, bound

FloatArray = NDArray[np.float64]

ROWS = {
    "initial_gap": "initial gap",
    "pruning": "pruning",
    "coverage_bias": "coverage bias",
    "drift_and_noise": "drift and gradient noise",
    "personal_variance": "personal noise",
}
"""Rows of the comparison, term by term. Drift and noise share one: the bound charges part of both to the gradient."""


@dataclass(frozen=True)
class Round:
    """What happened in one round; S samples of the noise, K devices, d shared coordinates.

    Gradients are true ones unless called noise, all with the personal parts that the global steps see.
    """

    u: FloatArray
    """(S, d) broadcast."""
    masks: FloatArray
    """(S, K, d) 1 where kept."""
    gradient: FloatArray
    """(S, K, d) grad_u F_k at u."""
    gradient_pruned: FloatArray
    """(S, K, d) at the start of the steps on u: m_k u, or u in frozen and sparse rounds."""
    gradient_path: FloatArray
    """(S, K, tau, d) at the points x_k^i from which pruned steps start; the first is m_k u."""
    noise: FloatArray
    """(S, K, tau, d) stochastic minus true gradient there."""
    noise_u_var: float
    """Largest variance of one stochastic gradient in u, over devices and steps."""
    personal_gradient_sq: FloatArray
    """(S, K) sum over personal steps of |grad_v F_k|^2."""
    personal_noise_sq: FloatArray
    """(S, K) sum over personal steps of the expected squared noise: one draw would exceed its variance by chance."""
    noise_v_var: float
    value_after: float
    """Mean of F over samples when the round has ended."""


@dataclass(frozen=True)
class Measured:
    """Means over samples of one round, in what the bound is made of; gradients not yet weighed."""

    gradient_sq: float
    personal_gradient_sq: float
    pruning_error_sq: FloatArray
    """(K,) |u - m_k u|^2."""
    norm_sq: float
    pruning: float
    coverage_bias: float
    drift: float
    """Sum over steps."""
    noise: float
    personal_noise_sq: float
    heterogeneity: float
    coverage: float
    uncovered: float
    noise_u_var: float
    noise_v_var: float
    value_after: float


def measure(happened: Round, weight: FloatArray) -> Measured:
    """Reduce a round to numbers."""
    alpha, masks = weight[None, :, None], happened.masks
    kept = (alpha * masks).sum(axis=1)
    covered = kept > 0
    share = np.where(covered, kept, 1.0)

    def keepers_mean(values: FloatArray) -> FloatArray:
        return np.asarray((alpha * masks * values).sum(axis=1) / share)

    def mean_sq(values: FloatArray) -> float:
        return float((values**2).sum(axis=-1).mean())

    whole = covered * (alpha * happened.gradient).sum(axis=1)
    steps = range(happened.gradient_path.shape[2])
    error = (((1 - masks) * happened.u[:, None, :]) ** 2).sum(axis=-1).mean(axis=0)
    spread = (alpha * covered[:, None, :] * (happened.gradient - whole[:, None, :]) ** 2).sum(axis=(1, 2))
    return Measured(
        gradient_sq=mean_sq(whole),
        personal_gradient_sq=float((happened.personal_gradient_sq @ weight).mean()),
        pruning_error_sq=error,
        norm_sq=mean_sq(happened.u),
        pruning=mean_sq(keepers_mean(happened.gradient - happened.gradient_pruned)),
        coverage_bias=mean_sq(whole - keepers_mean(happened.gradient)),
        drift=sum(mean_sq(keepers_mean(happened.gradient_pruned - happened.gradient_path[:, :, i])) for i in steps),
        # Noise of different devices and steps is independent: cross terms have mean zero and are left out.
        noise=float(((alpha * masks / share[:, None, :])[:, :, None] ** 2 * happened.noise**2).sum((1, 2, 3)).mean()),
        personal_noise_sq=float((happened.personal_noise_sq @ weight).mean()),
        heterogeneity=float(spread.mean()),
        coverage=float(kept[covered].min()) if covered.any() else 1.0,
        uncovered=float(1 - covered.mean()),
        noise_u_var=happened.noise_u_var,
        noise_v_var=happened.noise_v_var,
        value_after=happened.value_after,
    )


def compare(
    rounds: list[Measured],
    weight: FloatArray,
    ratio: FloatArray,
    *,
    smoothness: tuple[float, float],
    rates: tuple[float, float],
    steps: tuple[int, int],
    start: float,
    least: float,
) -> dict[str, Any]:
    """The bound after each round beside what was measured, and the terms at the end.

    Parameters
    ----------
    rounds
        One entry per round.
    weight, ratio
        alpha and rho, (K,).
    smoothness, rates
        (L_u, L_v) and (eta, eta_v).
    steps
        (tau, tau_v).
    start, least
        F at the start, and a lower bound of F.

    Returns
    -------
    dict
        Plain numbers and lists: `bound` and `measured` (left-hand side) after each round, `violations` among
        those; `terms` by row (bound, measured), with all free parameters 1; `constants`.
    """
    (L_u, L_v), (eta, eta_v), (tau, tau_v) = smoothness, rates, steps
    pruned = ratio > 0
    radius_sq = max(
        (float((m.pruning_error_sq[pruned] / ratio[pruned]).max()) for m in rounds if pruned.any()), default=0
    )
    gamma = min(m.coverage for m in rounds)
    constants = {
        "smoothness_u": L_u,
        "smoothness_v": L_v,
        "gradient_noise_u_var": max(m.noise_u_var for m in rounds),
        "gradient_noise_v_var": max(m.noise_v_var for m in rounds),
        "pruning_radius": radius_sq**0.5,
        "heterogeneity": max(m.heterogeneity for m in rounds),
        "coverage": 1.0 if gamma > 1 - 1e-9 else gamma,
        "initial_gap": start - least,
    }
    count = np.arange(1, len(rounds) + 1, dtype=float)
    known, schedule = Constants(**constants), Schedule(count, tau, tau_v, eta, eta_v)
    each = np.broadcast_to(ratio, (len(rounds), len(ratio)))
    terms = bound(known, schedule, each, weight, young=best_young(known, schedule, each, weight))
    plain = bound(known, schedule, each, weight)  # the rows below need polarisation without leaning

    def so_far(name: str) -> FloatArray:
        return np.asarray(np.cumsum([getattr(m, name) for m in rounds]) / count)

    gradient_sq, personal_sq = so_far("gradient_sq"), so_far("personal_gradient_sq")
    left = terms.gradient_weight * gradient_sq + terms.personal_weight * personal_sq
    last = {name: float(getattr(plain, name)[-1]) for name in vars(plain)}
    paid = (eta * tau / 2 - last["gradient_weight"]) * gradient_sq[-1]
    pairs = {
        "initial_gap": (last["initial_gap"], (start - rounds[-1].value_after) / count[-1]),
        "pruning": (last["pruning"], eta * tau / 2 * so_far("pruning")[-1]),
        "coverage_bias": (last["coverage_bias"], eta * tau / 2 * so_far("coverage_bias")[-1]),
        "drift_and_noise": (
            last["heterogeneity_drift"] + last["variance"] + paid,
            eta / 2 * so_far("drift")[-1] + L_u * eta**2 / 2 * so_far("noise")[-1],
        ),
        "personal_variance": (last["personal_variance"], L_v * eta_v**2 / 2 * so_far("personal_noise_sq")[-1]),
    }
    # Terms that are attained (no noise, or noise of constant size): rounding may leave the counterpart a hair above.
    hair = 1e-12 * float(plain.total[-1])
    return {
        "bound": terms.total.tolist(),
        "measured": left.tolist(),
        "violations": int(np.sum(left > terms.total)),
        "terms": {name: {"bound": float(b), "measured": float(m)} for name, (b, m) in pairs.items()},
        "term_violations": [name for name, (b, m) in pairs.items() if m > b * (1 + 1e-9) + hair],
        "gradient_sq": gradient_sq.tolist(),
        "gradient_bound": terms.gradient_bound.tolist(),
        "constants": constants,
        "pruning_error_over_norm": float(np.mean([m.pruning_error_sq @ weight / m.norm_sq for m in rounds])),
        "uncovered": float(np.mean([m.uncovered for m in rounds])),
    }
