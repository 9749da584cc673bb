"""Checks that know the physical problem in (q, b, p) and nothing of the reduced form or the solver."""

from __future__ import annotations

from typing import Any

import numpy as np
from clock_cases import brute_bandwidth_hz
from numpy.typing import NDArray
from scipy.optimize import minimize

from kktalloc._problem.problem import Problem

FloatArray = NDArray[np.float64]


def physical(problem: Problem) -> dict[str, Any]:
    """The data of one problem under the short names of the theory, arrays of shape (K,) and floats."""
    c, d = problem.cell, problem.devices
    if problem.batch_shape:
        raise ValueError("one problem at a time")
    return {
        "B": float(np.asarray(c.bandwidth_hz)[0]),
        "P_tot": np.inf if c.total_power_w is None else float(np.asarray(c.total_power_w)[0]),
        "T": np.asarray(c.deadline_s) - np.asarray(d.fixed_latency_s),
        "g": np.asarray(d.channel_gain) / np.asarray(c.noise_psd_w_per_hz),
        "P": np.asarray(d.tx_power_max_w),
        "S": np.asarray(d.payload_bits),
        "S0": np.asarray(d.overhead_bits),
        "a": np.asarray(d.pruned_compute_s),
        "E": np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j),
        "eps": np.asarray(d.pruned_compute_j),
        "eta": np.asarray(d.pa_efficiency),
        "q_min": 1.0 - np.asarray(d.pruning_ratio_max),
        "alpha": np.asarray(d.weight),
    }


def rate_bps(b: FloatArray, g: FloatArray, p: FloatArray) -> FloatArray:
    """Shannon rate ``b log2(1 + g p/b)``, 0 at b = 0."""
    safe = np.where(b > 0, b, 1.0)
    return np.where(b > 0, safe * np.log1p(g * p / safe) / np.log(2.0), 0.0)


def largest_power_w(v: dict[str, Any], q: FloatArray) -> FloatArray:
    """The most power that peak and energy budget allow at q; NaN where no time or no energy is left."""
    t = v["T"] - v["a"] * q
    left = v["E"] - v["eps"] * q
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.minimum(v["P"], v["eta"] * left / t)
    return np.where((t > 0) & (left >= 0), p, np.nan)


def best_keep_ratio(v: dict[str, Any], b: FloatArray, P: FloatArray | None = None) -> FloatArray:
    """Largest q in [0, 1] for a given bandwidth, by bisection on the physical constraints."""
    v = v if P is None else v | {"P": P}

    def fits(q: FloatArray) -> NDArray[np.bool_]:
        p = largest_power_w(v, q)
        return (v["T"] - v["a"] * q) * rate_bps(b, v["g"], p) >= v["S"] * q + v["S0"]  # False where NaN

    low, high = np.zeros_like(b), np.ones_like(b)
    high_fits = fits(high)
    for _ in range(200):
        middle = (low + high) / 2
        ok = fits(middle)
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return np.where(high_fits, 1.0, low)


def most_kept(problem: Problem, b: FloatArray) -> FloatArray:
    """Largest q in [0, 1] for bandwidths that suffice for the floors, by bisection, with clocks and without."""
    v = physical(problem)
    if not problem.clocked:
        return np.maximum(best_keep_ratio(v, b), v["q_min"])
    low, high = v["q_min"], np.ones(b.shape)
    high_fits = brute_bandwidth_hz(problem, high, 60) <= b
    for _ in range(50):
        middle = (low + high) / 2
        fits = brute_bandwidth_hz(problem, middle, 60) <= b
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(high_fits, 1.0, low)


def floor_bandwidth_hz(problem: Problem) -> FloatArray:
    """The least bandwidth with which each device reaches its floor, by bisection; inf where none does.

    For devices with a clock or electronics, by golden sections over the upload's time.
    """
    v = physical(problem)
    q = v["q_min"]
    if problem.clocked:
        return brute_bandwidth_hz(problem, q)
    need = v["S"] * q + v["S0"]
    t, p = v["T"] - v["a"] * q, largest_power_w(v, q)
    idle = (need == 0) & (v["E"] >= 0) & (v["T"] >= 0)
    wideband = t * v["g"] * p / np.log(2.0)
    possible = (wideband > need) & ~idle  # NaN compares False
    high = np.ones_like(q)
    for _ in range(400):  # double until it carries the need
        carried = t * rate_bps(high, v["g"], p)
        high = np.where(possible & (carried < need), 2 * high, high)
    low = np.where(possible, 0.0, high)
    for _ in range(1200):  # halving from a power of two: enough for the smallest double
        middle = (low + high) / 2
        if np.all((middle == low) | (middle == high)):
            break
        enough = t * rate_bps(middle, v["g"], p) >= need
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(idle, 0.0, np.where(possible, high, np.inf))


def objective_at(problem: Problem, b: FloatArray, P: FloatArray | None = None) -> float:
    """Objective that bandwidths (and caps on power) reach once they are made exactly feasible; inf if they cannot be.

    Every device first gets what its floor needs, the rest is shared in proportion to what `b` gives beyond that, and
    each device keeps as much as it can: an upper bound on the optimum that no tolerance blurs.
    """
    v = physical(problem)
    floor = floor_bandwidth_hz(problem)
    spare = v["B"] - floor.sum()
    if not spare >= 0:
        return float("inf")
    beyond = np.maximum(b - floor, 0.0)
    b = floor + beyond * min(1.0, spare / max(float(beyond.sum()), 1e-300))
    q = np.maximum(best_keep_ratio(v, b, P), v["q_min"])
    return float(v["alpha"] @ (1 - q))


def is_feasible(problem: Problem) -> bool:
    """Whether any allocation exists; a total-power cap is not looked at."""
    return bool(floor_bandwidth_hz(problem).sum() <= physical(problem)["B"])


def slsqp(problem: Problem, rng: np.random.Generator, starts: int = 4) -> float:
    """Best objective of multi-start SLSQP on the non-convex (q, b, p) problem, made exactly feasible.

    Variables are q, shares of the bandwidth, and fractions of peak power; every row is divided by its own
    size. What SLSQP returns is off by its tolerance: only its bandwidths (and its powers, under a total-power
    cap) are used, see `objective_at`.
    """
    v = physical(problem)
    K = len(v["T"])
    capped = np.isfinite(v["P_tot"])
    budgeted = np.isfinite(v["E"])
    g = v["g"] * v["P"] / v["B"]
    scale = v["T"] * v["B"] * np.log2(1 + K * g) / K
    first = floor_bandwidth_hz(problem) / v["B"]

    def unpack(z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return z[:K], np.maximum(z[K : 2 * K], 1e-12), z[2 * K :]

    def rows(z: FloatArray) -> FloatArray:
        q, b, p = unpack(z)
        t = v["T"] - v["a"] * q
        carried = (t * v["B"] * b * np.log2(1 + g * p / b) - v["S"] * q - v["S0"]) / scale
        energy = 1 - (p * v["P"] * t / v["eta"] + v["eps"] * q)[budgeted] / v["E"][budgeted]
        rest = [1 - b.sum()] + ([1 - p @ v["P"] / v["P_tot"]] if capped else [])
        return np.concatenate([carried, energy, rest])

    def jacobian(z: FloatArray) -> FloatArray:
        q, b, p = unpack(z)
        t, x = v["T"] - v["a"] * q, g * p / b
        R = v["B"] * b * np.log2(1 + x)
        R_b = v["B"] * (np.log2(1 + x) - x / ((1 + x) * np.log(2)))
        R_p = v["B"] * g / ((1 + x) * np.log(2))
        top = np.hstack([np.diag(d / scale) for d in (-v["a"] * R - v["S"], t * R_b, t * R_p)])
        E = np.where(budgeted, v["E"], 1.0)
        middle = np.hstack(
            [
                np.diag((p * v["P"] * v["a"] / v["eta"] - v["eps"]) / E),
                np.zeros((K, K)),
                np.diag(-v["P"] * t / v["eta"] / E),
            ]
        )[budgeted]
        rest = [np.concatenate([np.zeros(K), -np.ones(K), np.zeros(K)])]
        if capped:
            rest.append(np.concatenate([np.zeros(2 * K), -v["P"] / v["P_tot"]]))
        return np.vstack([top, middle, *rest])

    slope = np.concatenate([-v["alpha"], np.zeros(2 * K)])
    best = np.inf
    for start in range(starts):
        weight = np.ones(K) if start == 0 else rng.dirichlet(np.ones(K)) * K
        b0 = first + max(0.0, 1 - first.sum()) * weight / K
        q0 = np.maximum(best_keep_ratio(v, b0 * v["B"]), v["q_min"])
        p0 = np.nan_to_num(largest_power_w(v, q0)) / np.where(v["P"] > 0, v["P"], 1.0)
        result = minimize(
            lambda z: float(slope @ z),
            np.concatenate([q0, b0, p0]),
            jac=lambda z: slope,
            bounds=[(lo, 1.0) for lo in v["q_min"]] + [(0.0, 1.0)] * (2 * K),
            constraints={"type": "ineq", "fun": rows, "jac": jacobian},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        _, b, p = unpack(np.asarray(result.x))
        P = v["P"] * np.clip(p, 0, 1)
        caps = P * min(1.0, v["P_tot"] / max(float(P.sum()), 1e-300)) if capped else None
        best = min(best, objective_at(problem, v["B"] * b, caps))
    return best
