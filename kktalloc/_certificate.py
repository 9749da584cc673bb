"""Judge an allocation, whoever made it: KKT residuals by name and a rigorous duality gap.

Nothing here knows the solver. The gap is the objective minus a lower bound from weak duality (`kktalloc._dual`),
which holds for any prices, so a small gap is a proof; the named residuals say where a large one comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._dual import LN2, ConvexRows, Multipliers, convex_rows, dual_terms
from kktalloc._problem import FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Certificate:
    """The verdict on an allocation.

    Parameters
    ----------
    residuals
        Shape ``(...)`` each, >= 0, relative to the budget or the term that they are about:
        ``primal_rate``, ``primal_energy``, ``primal_peak_power``, ``primal_bandwidth``, ``primal_pruning`` (feasible),
        ``dual`` (prices are non-negative), ``complementarity`` (what is priced is used up), ``stationarity`` (no
        device gains by moving at these prices), ``consistency`` (times, energies and objective that came with the
        allocation are the ones that it implies).
    duality_gap
        Objective minus a rigorous lower bound on the optimum, shape ``(...)``; the objective's scale is 1. Negative
        only by what the primal residuals are worth at these prices.
    bandwidth_price_per_hz
        The price at which the bound was taken, shape ``(...)``.
    resolution
        What an ulp of the data is worth at these prices, shape ``(...)``. About 1e-15, and large only where a problem
        sits on the very edge of feasibility: the gap and complementarity cannot be told from it.
    tolerance
        What every residual and the gap must not exceed.
    """

    residuals: dict[str, FloatArray]
    duality_gap: FloatArray
    bandwidth_price_per_hz: FloatArray
    resolution: FloatArray
    tolerance: float

    @property
    def passed(self) -> np.ndarray:
        """Per problem, shape ``(...)``: every residual and the gap are within tolerance."""
        good = self.duality_gap <= self.tolerance + self.resolution
        for name, residual in self.residuals.items():
            good = good & (residual <= self.tolerance + (self.resolution if name == "complementarity" else 0.0))
        return np.asarray(good)

    @property
    def ok(self) -> bool:
        """All problems passed."""
        return bool(np.all(self.passed))

    @property
    def worst(self) -> tuple[str, float]:
        """Name and value of the largest residual (the gap included) over all problems."""
        named = {"duality_gap": self.duality_gap, **self.residuals}
        values = {name: float(np.max(v, initial=0.0)) for name, v in named.items()}
        # NaN never compares: treat it as the worst there is.
        return max(values.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1])


def certify(
    problem: Problem,
    pruning_ratio: ArrayLike,
    bandwidth_hz: ArrayLike,
    tx_power_w: ArrayLike,
    *,
    bandwidth_price_per_hz: ArrayLike | None = None,
    tolerance: float = 1e-9,
    **claimed: Any,
) -> Certificate:
    """Certify that an allocation is optimal, or say by how much and where it is not.

    Parameters
    ----------
    problem
        What was asked.
    pruning_ratio, bandwidth_hz, tx_power_w
        The allocation, each broadcast to ``(..., K)``.
    bandwidth_price_per_hz
        Price to take the bound at, shape ``(...)``. Any price gives a valid bound; without one the best is searched.
    tolerance
        For every residual and the gap, relative.
    **claimed
        Any of ``upload_s``, ``latency_s``, ``energy_j`` (shape ``(..., K)``) and ``objective`` (shape ``(...)``)
        that came with the allocation and must agree with it.

    Raises
    ------
    ValueError
        If an array does not broadcast to the problem's shape, or a claimed name is unknown.
    """
    q, b, p = (_fit(problem, n, v) for n, v in zip(_ALLOCATION, (pruning_ratio, bandwidth_hz, tx_power_w), strict=True))
    q = 1.0 - q
    c = convex_rows(problem)
    implied = outcome(problem, 1.0 - q, b, p)
    residuals = _primal(problem, q, b, p, implied)
    residuals["consistency"] = _consistency(problem, implied, claimed)
    with np.errstate(all="ignore"):
        # Where the computation leaves next to no time, q / t is all rounding; no feasible u exceeds the cap.
        u = np.minimum(q / (c.window - c.compute * q), c.u_cap)
        # A device that holds no bandwidth is judged at infinite SNR: rate and power are then free for it.
        x = np.where(b > 0.0, c.gain_per_noise * p / np.where(b > 0.0, b, 1.0), np.inf)
    if bandwidth_price_per_hz is None:
        lam = _best_price(c, x, b)
    else:
        lam = np.broadcast_to(np.asarray(bandwidth_price_per_hz, dtype=float), problem.batch_shape)[..., None]
    best = dual_terms(c, x, np.maximum(lam, 0.0))
    with np.errstate(all="ignore"):
        objective = (c.alpha * (1.0 - q)).sum(axis=-1)
        bound = best.value.sum(axis=-1) - (np.maximum(lam, 0.0) * c.bandwidth)[..., 0]
        residuals["dual"] = (np.maximum(-lam, 0.0) * c.bandwidth)[..., 0]
        rate = np.where(b > 0.0, b * np.log1p(np.where(b > 0.0, x, 0.0)) / LN2, 0.0)
        residuals |= _slackness(c, q, b, p, u, rate, lam, best)
        worth = 1.0 + lam[..., 0] * c.bandwidth[..., 0] + (best.rate * rate).sum(axis=-1)
        resolution = 8.0 * np.finfo(np.float64).eps * worth
    clean = {name: np.where(np.isnan(v), np.inf, v) for name, v in residuals.items()}
    return Certificate(clean, objective - bound, lam[..., 0], resolution, tolerance)


_ALLOCATION = ("pruning_ratio", "bandwidth_hz", "tx_power_w")


def _fit(problem: Problem, name: str, value: ArrayLike) -> FloatArray:
    array = np.asarray(value, dtype=np.float64)
    try:
        return np.broadcast_to(array, problem.shape)
    except ValueError:
        raise ValueError(f"{name}: shape {array.shape} does not broadcast to the problem's {problem.shape}") from None


def outcome(problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray) -> dict[str, FloatArray]:
    """Upload time, latency, energy (``(..., K)``) and objective (``(...)``) that an allocation implies."""
    d = problem.devices
    q = 1.0 - rho
    bits = np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits)
    with np.errstate(all="ignore"):
        snr = np.asarray(d.channel_gain) * p / (np.asarray(problem.cell.noise_psd_w_per_hz) * b)
        rate = np.where(b > 0.0, b * np.log1p(snr) / LN2, 0.0)
        upload = np.where(bits > 0.0, bits / rate, 0.0)
        energy = np.where(upload > 0.0, p * upload / np.asarray(d.pa_efficiency), 0.0)
    return {
        "upload_s": upload,
        "latency_s": np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s) * q + upload,
        "energy_j": np.asarray(d.fixed_energy_j) + np.asarray(d.pruned_compute_j) * q + energy,
        "objective": (np.asarray(d.weight) * rho).sum(axis=-1),
    }


def _worst(excess: FloatArray) -> FloatArray:
    """Largest positive entry over the devices; NaN stays NaN."""
    return np.max(np.maximum(excess, 0.0), axis=-1, initial=0.0)


def _primal(
    problem: Problem, q: FloatArray, b: FloatArray, p: FloatArray, implied: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    d, cell = problem.devices, problem.cell
    B, peak, budget = (np.asarray(v) for v in (cell.bandwidth_hz, d.tx_power_max_w, d.energy_budget_j))
    deadline = np.asarray(cell.deadline_s)
    with np.errstate(all="ignore"):
        spent = np.where(np.isfinite(budget), (implied["energy_j"] - budget) / np.maximum(budget, 1e-300), 0.0)
        peak_over = np.where(p > peak, (p - peak) / np.maximum(peak, 1e-300), 0.0)
    B = B[..., 0]
    return {
        # Lateness is a shortfall of rate: the upload's missing share of the time that it had.
        "primal_rate": _worst((implied["latency_s"] - deadline) / deadline),
        "primal_energy": _worst(spent),
        "primal_peak_power": _worst(np.maximum(peak_over, -p)),
        "primal_bandwidth": np.maximum((b.sum(axis=-1) - B) / B, _worst(-b) / B),
        "primal_pruning": _worst(np.maximum(1.0 - np.asarray(d.pruning_ratio_max) - q, np.maximum(q - 1.0, -q))),
    }


def _consistency(problem: Problem, implied: dict[str, FloatArray], claimed: dict[str, Any]) -> FloatArray:
    worst = np.zeros(problem.batch_shape)
    for name, value in claimed.items():
        if name not in implied:
            raise ValueError(f"{name}: not something an allocation implies; known: {', '.join(implied)}")
        want = implied[name]
        got = np.broadcast_to(np.asarray(value, dtype=float), want.shape)
        with np.errstate(all="ignore"):
            off = np.abs(got - want) / np.where(want != 0.0, np.abs(want), 1.0)
        off = np.where(got == want, 0.0, off)
        worst = np.maximum(worst, off if name == "objective" else np.max(off, axis=-1, initial=0.0))
    return worst


def _slackness(
    c: ConvexRows,
    q: FloatArray,
    b: FloatArray,
    p: FloatArray,
    u: FloatArray,
    rate: FloatArray,
    lam: FloatArray,
    m: Multipliers,
) -> dict[str, FloatArray]:
    limited = np.isfinite(c.e0)
    energy_slack = np.where(limited, c.e0 + c.e1 * u - p, 0.0)
    # What exceeds a budget is for the primal residuals to judge; here it is what is paid for and left.
    unused = m.rate * (rate - c.r0 - c.r1 * u) + m.energy_row * energy_slack + m.peak_power * (c.peak - p)
    spare = lam[..., 0] * (c.bandwidth[..., 0] - b.sum(axis=-1))
    slope_q = c.alpha * c.window / (1.0 + c.compute * u) ** 2
    mismatch = np.abs(m.spread - slope_q) / np.maximum(np.maximum(np.abs(m.spread), slope_q), 1e-300)
    # Either the marginal terms agree, or q is the best at these prices (a bound, or as close as rho can say).
    return {
        "complementarity": np.maximum(unused, 0.0).sum(axis=-1) + np.maximum(spare, 0.0),
        "stationarity": _worst(np.minimum(mismatch, np.abs(q - m.keep_ratio))),
    }


def _best_price(c: ConvexRows, x: FloatArray, b: FloatArray) -> FloatArray:
    """The bandwidth price with the best bound, shape ``(..., 1)``: where the demand at these SNRs fills the cell.

    Any price gives a valid bound, so this search may use judgement: what differs by rounding counts as equal, else
    one small device that sets the price would drown in the rounding of large ones that do not move.
    """

    def beyond(what: FloatArray, base: FloatArray) -> FloatArray:
        return np.where(np.abs(what - base) > 1e-12 * base, what - base, 0.0)

    with np.errstate(all="ignore"):
        missing = beyond(b.sum(axis=-1, keepdims=True), c.bandwidth)
        # The objective's range is 1, so lam B <= 1 unless the floors leave next to nothing to share.
        high = np.log(1e15 / c.bandwidth) + np.zeros_like(x[..., :1])
        low = high - 110.0
        for _ in range(64):
            middle = 0.5 * (low + high)
            demand = dual_terms(c, x, np.exp(middle)).demand
            scarce = beyond(demand, b).sum(axis=-1, keepdims=True) + missing > 0.0
            low, high = np.where(scarce, middle, low), np.where(scarce, high, middle)
        priced = np.exp(high)
        free = np.zeros_like(priced)

        def bound(lam: FloatArray) -> FloatArray:
            return dual_terms(c, x, lam).value.sum(axis=-1, keepdims=True) - lam * c.bandwidth

        return np.where(bound(free) >= bound(priced), free, priced)
