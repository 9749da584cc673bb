"""The reduced form, the way in and the way back: the exact convex equivalent of the allocation problem.

The substitution ``u = q / t`` (keep ratio per second of upload) makes rate and energy constraints affine in u on
one side (theory: section "It has an exact convex form"). Here u is counted in units of one per window, ``s = u T``,
bandwidth in units of the cell's, power in units of the device's peak and rates in nats, so every number is a pure
ratio and no later step meets a 1e-21 W/Hz beside a 1e7 Hz:

    rate0 + rate1 s <= b ln(1 + snr p / b),   p <= min(1, power0 + power1 s),   s_min <= s <= s_max,   sum b <= 1
    q = s / (1 + compute s),   sum power_share p <= 1,   minimise sum weight e(1 - q)
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np

from kktalloc._device.at_bandwidth import best_at
from kktalloc._device.form import Reduced
from kktalloc._problem.allocation import outcome
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.variant import refuse_clocks


def reduce(problem: Problem, deadline_s: FloatArray | None = None) -> Reduced:
    """Reduced form of a problem; devices that cannot meet even their floor are flagged, not raised.

    `deadline_s`, shape ``(..., 1)``, stands in for the cell's own.
    """
    refuse_clocks(problem, "this question", "does not take clocks, electronics and computing that is not pruned")
    d, cell = problem.devices, problem.cell
    bandwidth, noise_psd, deadline, gain, peak, payload, compute_s, overhead, fixed_s = (
        np.asarray(v)
        for v in (
            cell.bandwidth_hz, cell.noise_psd_w_per_hz, cell.deadline_s if deadline_s is None else deadline_s,
            d.channel_gain, d.tx_power_max_w,
            d.payload_bits, d.pruned_compute_s, d.overhead_bits, d.fixed_latency_s,
        )
    )  # fmt: skip
    budget, compute_j, fixed_j = (np.asarray(v) for v in (d.energy_budget_j, d.pruned_compute_j, d.fixed_energy_j))
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)

    window = deadline - fixed_s
    # Who has nothing to send and nothing to compute needs no time.
    late = np.where((q_min > 0.0) | (overhead > 0.0), window - compute_s * q_min <= 0.0, window < 0.0)
    in_time = window > 0.0
    window = np.where(in_time, window, deadline)  # a placeholder: late devices are reported, never solved
    compute = compute_s / window
    energy = budget - fixed_j
    drained = energy - compute_j * q_min < 0.0
    energy = np.maximum(energy, 0.0)

    with np.errstate(over="ignore", divide="ignore"):
        nats = log(2.0) / (window * bandwidth)
    limited = np.isfinite(energy) & (peak > 0.0)
    # Powers in peaks; a device with no peak power is stopped by its zero SNR, not by energy.
    drain = np.asarray(d.pa_efficiency) / (window * np.where(peak > 0.0, peak, 1.0))
    finite_energy = np.where(limited, energy, 0.0)
    with np.errstate(divide="ignore"):
        room_min, room_max = 1.0 - compute * q_min, 1.0 - compute
        s_min = q_min / np.where(late, 1.0, room_min)
        s_max = np.where(room_max > 0.0, 1.0 / np.maximum(room_max, 0.0), np.inf)
    # Without gain, power, energy or time a device can send nothing: it stays at its floor.
    total = np.inf if cell.total_power_w is None else np.asarray(cell.total_power_w)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        own = np.asarray(d.bandwidth_max_hz)
        heard = np.where(own > 0.0, gain * peak, 0.0)  # with no bandwidth nothing is heard
        snr = heard / (noise_psd * bandwidth)
    mute = (heard == 0.0) | (energy == 0.0) | (np.asarray(total) == 0.0) | ~in_time
    s_full = np.where(mute, s_min, np.maximum(s_max, s_min))
    full = {
        "weight": d.weight,
        "compute": compute,
        "rate0": overhead * nats,
        "rate1": (payload + compute * overhead) * nats,
        "power0": np.where(limited, drain * energy, np.inf),
        "power1": np.where(limited, drain * (compute * finite_energy - np.asarray(d.pruned_compute_j)), 0.0),
        "snr": np.where(mute, 0.0, snr),
        "s_min": s_min,
        "s_max": s_full,
        "s_full": s_full,
        "b_max": np.where(own > 0.0, own / bandwidth, np.inf),
        "q_min": q_min,
        "power_share": np.where(mute, 0.0, peak / np.where(mute, 1.0, total)),
        "late": late,
        "drained": drained,
    }  # fmt: skip
    flat = (int(np.prod(problem.batch_shape)), problem.shape[-1])
    given = {k: np.asarray(v) for k, v in full.items()}
    # Nearly always of that shape already: asking first is quicker than broadcasting.
    spread = {k: v if v.shape == problem.shape else np.broadcast_to(v, problem.shape) for k, v in given.items()}
    arrays = {k: v.reshape(flat) for k, v in spread.items()}
    form = Reduced(**arrays, error=problem.pruning_error.rows(np.ones(flat[:1], dtype=bool), flat))
    if not problem.bandwidth_limited:
        return form
    # More bandwidth always lets a device keep more: a limit on it is one on s.
    own_limit = form.b_max < np.inf
    most = best_at(form, np.where(own_limit, form.b_max, 1.0)).s
    return replace(form, s_max=np.where(own_limit, np.clip(most, form.s_min, form.s_max), form.s_max))


def scatter(
    problem: Problem, solved: np.ndarray, values: np.ndarray, missing: float = np.nan, dtype: type = float
) -> np.ndarray:
    """Values of the problems that the flat mask `solved` selects in the batch's shape, `missing` elsewhere."""
    if values.dtype == dtype and solved.all():
        return values.reshape((*problem.batch_shape, *values.shape[1:]))
    out = np.full((solved.size, *values.shape[1:]), missing, dtype=dtype)
    out[solved] = values
    return out.reshape((*problem.batch_shape, *values.shape[1:]))


def invert(
    problem: Problem,
    solved: np.ndarray,
    pruning_ratio: FloatArray,
    b: FloatArray,
    p: FloatArray,
    clock: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """The way back: what cells of bandwidth and peaks of power are in Hz and W, and the times, energies and objective.

    Parameters
    ----------
    problem
        That `reduce` was given.
    solved
        Which of its problems the arrays are of, a flat mask; the others become NaN.
    pruning_ratio, b, p, clock
        Shape ``(n, K)``; the clock where devices have one.

    Returns
    -------
    dict
        By the names of `Allotment`, shape ``(..., K)``, and ``objective``, ``(...)``.
    """
    rho = scatter(problem, solved, pruning_ratio)
    bandwidth = scatter(problem, solved, b) * np.asarray(problem.of_cell("bandwidth_hz"))[..., None]
    power = scatter(problem, solved, p) * problem.of_devices("tx_power_max_w")
    allocation = {"pruning_ratio": rho, "bandwidth_hz": bandwidth, "tx_power_w": power}
    own = None if clock is None else scatter(problem, solved, clock)
    return allocation | outcome(problem, rho, bandwidth, power, own)
