"""The convergence bound in numbers: every term by name, its preconditions checked.

The theorem (derived and machine-checked in `kktalloc.proof`, stated in ``docs/verification.md``): over R
rounds of split, pruned training,

    mean over rounds of [ gradient_weight E|grad_u F|^2 + personal_weight sum_k alpha_k sum_i E|grad_v F_k|^2 ]
        <= initial_gap + pruning + coverage_bias + heterogeneity_drift + variance + personal_variance,

where the gradient in u is taken on the coordinates that some device keeps. Every quantity has the unit of F.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

__all__ = ["BoundTerms", "Constants", "Schedule", "Young", "allocator_weights", "best_young", "bound"]


# What `best_young` tries; any choice is valid, more of them gain little.
_NOISE_GRID = (0.01, 0.1, 0.5, 1.0, 4.0)
_GRADIENT_GRID = (0.25, 1.0, 4.0)
_SPARE_GRID = (0.0, 0.5, 0.9, 0.99)
_ALTERNATIONS = 8
_AGREEING_TOL = 1e-12  # a coverage this close to 1 is 1
_LIMIT = 1e12  # s and y stay within it: 0 and infinity are limits that the theorem excludes


@dataclass(frozen=True)
class Constants:
    """Constants of the problem; each a number or an array that broadcasts to the leading dimensions.

    Parameters
    ----------
    smoothness_u, smoothness_v
        Lipschitz constants L_u, L_v of the gradients of F_k in u and in v_k (A1), > 0.
    gradient_noise_u_var, gradient_noise_v_var
        Variances sigma_u^2, sigma_v^2 of one stochastic gradient (A2), >= 0.
    pruning_radius
        D in ``E|u - m_k u|^2 <= rho_k D^2`` (A3), >= 0.
    heterogeneity
        delta^2 in ``sum_k alpha_k |grad_u F_k - grad_u F|^2 <= delta^2`` (A4), >= 0.
    coverage
        Gamma: the least weight that keeps a covered coordinate (A5), in (0, 1]; within 1e-12 of 1 it is taken
        for 1 (masks agree, the bound is sharper), which a sum of weights may miss by rounding.
    initial_gap
        F at the start minus a lower bound of F, >= 0.
    """

    smoothness_u: ArrayLike
    smoothness_v: ArrayLike
    gradient_noise_u_var: ArrayLike
    gradient_noise_v_var: ArrayLike
    pruning_radius: ArrayLike
    heterogeneity: ArrayLike
    coverage: ArrayLike
    initial_gap: ArrayLike


@dataclass(frozen=True)
class Schedule:
    """What is run; each a number or an array that broadcasts to the leading dimensions.

    Parameters
    ----------
    rounds
        R, > 0; need not be whole, so that a planner can vary it continuously.
    local_steps
        tau, the pruned steps on u per round, whole, >= 1.
    personal_steps
        tau_v, the steps on v_k per round, whole, >= 0.
    learning_rate_u, learning_rate_v
        eta, eta_v, > 0.
    """

    rounds: ArrayLike
    local_steps: ArrayLike
    personal_steps: ArrayLike
    learning_rate_u: ArrayLike
    learning_rate_v: ArrayLike


@dataclass(frozen=True)
class Young:
    """The theorem's free parameters: it holds for every value of each in its range.

    Parameters
    ----------
    coverage
        s: weighs coverage bias ``1 + s`` against drift ``1 + 1/s``. Unused at Gamma = 1: nothing to weigh.
    noise
        p: weighs gradients against noise within the drift.
    gradient
        r: weighs gradients at the broadcast model against what they changed since.
    lean
        y, >= 0: polarisation leans towards gradient weight, errors cost more. Needs `spare`.
    spare
        f, in [0, 1): the share of ``1 - eta L_u tau`` that pays for leaning; the rest damps the noise.
    """

    coverage: ArrayLike = 1.0
    noise: ArrayLike = 1.0
    gradient: ArrayLike = 1.0
    lean: ArrayLike = 0.0
    spare: ArrayLike = 0.0


@dataclass(frozen=True)
class BoundTerms:
    """The bound, term by term, each of shape ``(...)`` and in the unit of F.

    Attributes
    ----------
    initial_gap, pruning, coverage_bias, heterogeneity_drift, variance, personal_variance
        The terms of the right-hand side; `pruning` is linear in ``sum_k alpha_k rho_k``.
    gradient_weight, personal_weight
        What the left-hand side weighs the squared gradients in u and in v with.
    """

    initial_gap: Array
    pruning: Array
    coverage_bias: Array
    heterogeneity_drift: Array
    variance: Array
    personal_variance: Array
    gradient_weight: Array
    personal_weight: Array

    @property
    def total(self) -> Array:
        """The right-hand side: sum of the six terms."""
        of_u = self.initial_gap + self.pruning + self.coverage_bias + self.heterogeneity_drift + self.variance
        return of_u + self.personal_variance

    @property
    def gradient_bound(self) -> Array:
        """What the theorem guarantees of the mean squared gradient in u: `total` over `gradient_weight`."""
        return self.total / self.gradient_weight


def bound(
    constants: Constants,
    schedule: Schedule,
    pruning_ratio: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    young: Young | None = None,
) -> BoundTerms:
    """Evaluate the bound.

    Parameters
    ----------
    constants, schedule
        Of shape ``(...)`` each, or numbers.
    pruning_ratio
        rho, shape ``(..., K)``, in [0, 1]; the mean over the rounds where it changes. A last axis of 1
        stands for the weighted mean over devices, which is all that the bound depends on.
    weight
        Aggregation weights alpha, shape ``(..., K)``, >= 0, normalised to sum 1; default uniform.
    young
        Free parameters; default s = p = r = 1, plain polarisation. `best_young` finds better ones.

    Returns
    -------
    BoundTerms
        Each term of shape ``(...)``.

    Raises
    ------
    ValueError
        Names the field or the precondition of the theorem that does not hold, the index and the value.
    """
    young = young or Young()
    parts = _parts(constants, schedule, pruning_ratio, weight, young)
    parts.check_steps()
    _hold("drift condition: theta = 1 - (1+p)(1+1/r) (eta L_u)^2 tau (tau-1)/2 > 0", parts.theta > 0, parts.theta)
    terms = parts.terms(_positive("coverage", young.coverage), _within("lean", young.lean, 0.0))
    left = terms.gradient_weight
    _hold("gradient condition: drift must leave |grad_u F|^2 a positive weight", left > 0, left)
    return terms


def allocator_weights(
    constants: Constants, schedule: Schedule, weight: ArrayLike, *, young: Young | None = None
) -> Array:
    """What one unit of each device's pruning ratio adds to the bound.

    The pruning term is ``sum_k w_k rho_k`` with these ``w_k``, proportional to the aggregation weights: an
    allocation that minimises ``sum_k alpha_k rho_k`` minimises the bound.

    Parameters
    ----------
    constants, schedule, weight, young
        As in `bound`, whose errors it raises.

    Returns
    -------
    ndarray
        Shape ``(..., K)``, in the unit of F.
    """
    alpha = _weights(weight, 1)
    all_pruned = bound(constants, schedule, np.ones_like(alpha), alpha, young=young).pruning
    return np.asarray(all_pruned[..., None] * alpha)


def best_young(
    constants: Constants, schedule: Schedule, pruning_ratio: ArrayLike, weight: ArrayLike | None = None
) -> Young:
    """Free parameters that make `BoundTerms.gradient_bound` small.

    s and y by their closed forms in turn (steps "best s" and "best y" of `kktalloc.proof`: each is the least
    given the other), for p, r and f on a grid; the best of these.

    Parameters and errors are those of `bound`; each field of the result has shape ``(...)``.
    """
    plain = _parts(constants, schedule, pruning_ratio, weight, Young())
    plain.check_steps()
    dimensions = plain.terms(np.ones(()), np.zeros(())).total.ndim
    grid = np.array(list(itertools.product(_NOISE_GRID, _GRADIENT_GRID, _SPARE_GRID))).T
    noise, gradient, spare = grid.reshape(3, -1, *(1,) * dimensions)
    with np.errstate(all="ignore"):  # where no s or y will do, the guarantee below is set to infinity
        parts = _parts(constants, schedule, pruning_ratio, weight, Young(1.0, noise, gradient, 0.0, spare))
        lean = np.zeros(())
        s = parts.best_coverage(lean)
        for _ in range(_ALTERNATIONS):
            lean = parts.best_lean(s)
            s = parts.best_coverage(lean)
        terms = parts.terms(s, lean)
        valid = (parts.theta > 0) & (terms.gradient_weight > 0)
        found = np.where(valid, terms.gradient_bound, np.inf)
    pick = found.argmin(axis=0, keepdims=True)
    least, *best = (
        np.take_along_axis(np.broadcast_to(value, found.shape), pick, axis=0)[0]
        for value in (found, s, noise, gradient, lean, spare)
    )
    _hold("gradient condition: no free parameters leave |grad_u F|^2 a weight;", np.isfinite(least), least)
    return Young(*best)


@dataclass(frozen=True)
class _Parts:
    """The bound's parts before s and y are chosen."""

    half_step: Array  # eta tau / 2
    gain: Array  # f (1 - eta L_u tau): what leaning can gain
    lost: Array  # error: what drift takes of the gradient weight
    bias: Array  # error, times 1 + s
    pruning: Array  # error, times 1 + 1/s, as are the next two and `lost`
    drift_heterogeneity: Array
    drift_variance: Array
    server_variance: Array
    personal_variance: Array
    personal_weight: Array
    initial_gap: Array
    theta: Array
    headroom: Array
    agreeing: NDArray[np.bool_]  # Gamma = 1: no bias, and nothing to part by Young

    def check_steps(self) -> None:
        """Raise where a step size is beyond what any free parameters allow."""
        _hold("step condition: 1 - eta L_u tau > 0", self.headroom > 0, self.headroom)
        weight = self.personal_weight
        _hold("personal step condition: 1 - eta_v L_v / 2 > 0", weight > 0, weight)

    def terms(self, s: Array, lean: Array) -> BoundTerms:
        """The bound's terms; its preconditions are the caller's to check."""
        error = 1 + self.gain * lean
        drift = error * np.where(self.agreeing, 1.0, 1 + 1 / s)
        terms = (
            self.initial_gap,
            drift * self.pruning,
            error * (1 + s) * self.bias,
            drift * self.drift_heterogeneity,
            drift * self.drift_variance + self.server_variance,
            self.personal_variance,
            self.half_step * (1 + self.gain * lean / (1 + lean)) - drift * self.lost,
            self.personal_weight,
        )
        return BoundTerms(*(np.array(term) for term in np.broadcast_arrays(*terms)))

    def best_coverage(self, lean: Array) -> Array:
        """The s that makes (B s^2 + T s + C)/(k s - k1) least."""
        error = 1 + self.gain * lean
        drifting = error * (self.pruning + self.drift_heterogeneity + self.drift_variance)
        bias, lost = error * self.bias, error * self.lost
        total = self.initial_gap + self.server_variance + self.personal_variance + bias + drifting
        ratio = lost / (self.half_step * (1 + self.gain * lean / (1 + lean)) - lost)
        root = np.sqrt(ratio**2 + (total * ratio + drifting) / bias)
        return np.clip(np.nan_to_num(ratio + root, nan=_LIMIT), 1 / _LIMIT, _LIMIT)

    def best_lean(self, s: Array) -> Array:
        """The y that makes (A + B y)/(C + D y/(1 + y) - F y) least."""
        factor = np.where(self.agreeing, 1.0, 1 + 1 / s)
        errors = factor * (self.pruning + self.drift_heterogeneity + self.drift_variance) + (1 + s) * self.bias
        fixed = self.initial_gap + self.server_variance + self.personal_variance + errors
        cost, gained = errors * self.gain, self.half_step * self.gain
        left, fall = self.half_step - factor * self.lost, factor * self.lost * self.gain
        price = cost * left + fixed * fall
        root = np.sqrt(np.maximum(price**2 - (price + cost * gained) * (price - fixed * gained), 0.0))
        best = (root - price) / (price + cost * gained)
        return np.clip(np.nan_to_num(best, nan=0.0, posinf=_LIMIT), 0.0, _LIMIT)


def _parts(
    constants: Constants, schedule: Schedule, pruning_ratio: ArrayLike, weight: ArrayLike | None, young: Young
) -> _Parts:
    rho = _within("pruning_ratio", pruning_ratio, 0.0, 1.0)
    if rho.ndim == 0 or rho.shape[-1] == 0:
        raise ValueError(f"pruning_ratio: needs a last axis of devices, got shape {rho.shape}")
    alpha = _weights(weight, rho.shape[-1])
    mean_ratio, weight_squares = np.sum(alpha * rho, axis=-1), np.sum(alpha**2, axis=-1)

    smooth_u = _positive("smoothness_u", constants.smoothness_u)
    smooth_v = _positive("smoothness_v", constants.smoothness_v)
    var_u = _within("gradient_noise_u_var", constants.gradient_noise_u_var, 0.0)
    var_v = _within("gradient_noise_v_var", constants.gradient_noise_v_var, 0.0)
    radius = _within("pruning_radius", constants.pruning_radius, 0.0)
    delta2 = _within("heterogeneity", constants.heterogeneity, 0.0)
    gamma = np.asarray(constants.coverage, dtype=np.float64)
    gamma = _positive("coverage", np.where(np.abs(gamma - 1) <= _AGREEING_TOL, 1.0, gamma), 1.0)
    gap = _within("initial_gap", constants.initial_gap, 0.0)
    rounds = _positive("rounds", schedule.rounds)
    tau = _within("local_steps", schedule.local_steps, 1.0, whole=True)
    tau_v = _within("personal_steps", schedule.personal_steps, 0.0, whole=True)
    eta = _positive("learning_rate_u", schedule.learning_rate_u)
    eta_v = _positive("learning_rate_v", schedule.learning_rate_v)
    p, r = _positive("noise", young.noise), _positive("gradient", young.gradient)
    spare = _within("spare", young.spare, 0.0)
    _hold("spare: must be below 1", spare < 1, spare)

    step2 = (eta * smooth_u) ** 2
    pairs = tau * (tau - 1) / 2
    theta = 1 - (1 + p) * (1 + 1 / r) * step2 * pairs
    headroom = 1 - eta * smooth_u * tau
    half_step = eta * tau / 2
    with np.errstate(divide="ignore", invalid="ignore"):  # the caller checks theta and headroom
        drift_unit = half_step / (gamma * theta)
        noise_factor = tau + pairs * smooth_u * eta / ((1 - spare) * headroom)
    lost = drift_unit * (1 + p) * (1 + r) * step2 * pairs
    return _Parts(
        half_step=half_step,
        gain=spare * headroom,
        lost=lost,
        bias=half_step * (1 - gamma) / gamma * delta2,
        pruning=drift_unit * (smooth_u * radius) ** 2 * mean_ratio,
        drift_heterogeneity=lost * delta2,
        drift_variance=drift_unit / tau * (1 + 1 / p) * step2 * pairs * var_u,
        server_variance=smooth_u * eta**2 / 2 * noise_factor * var_u * weight_squares / gamma**2,
        personal_variance=tau_v * smooth_v * eta_v**2 / 2 * var_v,
        personal_weight=eta_v * (1 - eta_v * smooth_v / 2),
        initial_gap=gap / rounds,
        theta=theta,
        headroom=headroom,
        agreeing=gamma == 1,
    )


def _hold(condition: str, holds: NDArray[np.bool_], value: Array) -> None:
    """Raise a ValueError that names the condition, the first index where it fails and the value there."""
    if np.all(holds):
        return
    holds, value = np.broadcast_arrays(holds, value)
    index = tuple(int(i) for i in np.argwhere(~np.asarray(holds))[0])
    where = f" at index {index}" if index else ""
    raise ValueError(f"{condition} violated{where}: value {value[index]:.6g}")


def _within(
    name: str, value: ArrayLike, lower: float, upper: float = np.inf, *, strict: bool = False, whole: bool = False
) -> Array:
    array = np.asarray(value, dtype=np.float64)
    limit = f"{name}: must be {'whole' if whole else 'finite'}, " + ("positive" if strict else f"at least {lower:g}")
    limit += "" if upper == np.inf else f", at most {upper:g}"
    above = array > lower if strict else array >= lower
    fits = np.isfinite(array) & (np.equal(array, np.floor(array)) | (not whole))
    _hold(limit, fits & above & (array <= upper), array)
    return array


def _positive(name: str, value: ArrayLike, upper: float = np.inf) -> Array:
    return _within(name, value, 0.0, upper, strict=True)


def _weights(weight: ArrayLike | None, devices: int) -> Array:
    """Aggregation weights that sum to 1 over the last axis."""
    if weight is None:
        return np.full(devices, 1.0 / devices)
    alpha = _within("weight", weight, 0.0)
    if alpha.ndim == 0 or alpha.shape[-1] == 0 or devices not in (1, alpha.shape[-1]):
        raise ValueError(f"weight: needs a last axis of {devices} devices, got shape {alpha.shape}")
    most = alpha.max(axis=-1, keepdims=True)
    _hold("weight: must not be all zero", most > 0, most)
    alpha = alpha / most  # so that the sum of very large weights is finite
    return np.asarray(alpha / alpha.sum(axis=-1, keepdims=True))
