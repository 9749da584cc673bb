"""The reduced form: the exact convex equivalent of the allocation problem, one row of numbers per device.

The substitution ``u = q / t`` (keep ratio per second of upload) makes rate and energy constraints affine in u on
one side (theory: section "It has an exact convex form"). Here u is counted in units of one per window, ``s = u T``,
bandwidth in units of the cell's, power in units of the device's peak and rates in nats, so every number is a pure
ratio and no later step meets a 1e-21 W/Hz beside a 1e7 Hz:

    rate0 + rate1 s <= b ln(1 + snr p / b),   p <= min(1, power0 + power1 s),   s_min <= s <= s_max,   sum b <= 1
    q = s / (1 + compute s),   sum power_share p <= 1,   minimise sum weight e(1 - q)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import log

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import PruningError
from kktalloc._problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Reduced:
    """The reduced problem. Every field has shape ``(N, K)``: batch dimensions are flattened to one."""

    weight: FloatArray  # alpha
    compute: FloatArray  # A = pruned compute time / window
    rate0: FloatArray  # nat/s of the overhead, per Hz of the cell
    rate1: FloatArray  # the same per unit of s
    power0: FloatArray  # energy-limited power at s = 0, in peaks; inf where energy is no limit
    power1: FloatArray  # its slope in s
    snr: FloatArray  # gamma: SNR at peak power spread over the whole bandwidth
    s_min: FloatArray
    s_max: FloatArray  # inf where the pruned steps at keep ratio 1 do not fit the window
    q_min: FloatArray
    power_share: FloatArray  # a device's peak over the cell's total power; 0 where that is no limit
    error: PruningError  # e(rho); the objective is sum weight e(1 - q)
    late: np.ndarray  # bool: the floor's compute does not fit the deadline
    drained: np.ndarray  # bool: the floor's compute does not fit the energy budget

    def rows(self, keep: np.ndarray) -> Reduced:
        """The problems selected by the boolean mask `keep` of shape ``(N,)``."""
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "error"}
        return Reduced(**arrays, error=self.error.rows(keep, self.weight.shape))

    def power_limit(self, s: FloatArray) -> FloatArray:
        """The most power at s, in peaks; a constant limit stays one at an infinite s."""
        return np.clip(
            self.power0 + np.multiply(self.power1, s, out=np.zeros(s.shape), where=self.power1 != 0.0), 0.0, 1.0
        )

    def keep_ratio(self, s: FloatArray) -> FloatArray:
        """The keep ratio q at s."""
        return s / (1.0 + self.compute * s)


def reduce(problem: Problem, deadline_s: FloatArray | None = None) -> Reduced:
    """Reduced form of a problem; devices that cannot meet even their floor are flagged, not raised.

    `deadline_s`, shape ``(..., 1)``, stands in for the cell's own.
    """
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
        heard = gain * peak
        snr = heard / (noise_psd * bandwidth)
    mute = (heard == 0.0) | (energy == 0.0) | (np.asarray(total) == 0.0) | ~in_time
    full = {
        "weight": d.weight,
        "compute": compute,
        "rate0": overhead * nats,
        "rate1": (payload + compute * overhead) * nats,
        "power0": np.where(limited, drain * energy, np.inf),
        "power1": np.where(limited, drain * (compute * finite_energy - np.asarray(d.pruned_compute_j)), 0.0),
        "snr": np.where(mute, 0.0, snr),
        "s_min": s_min,
        "s_max": np.where(mute, s_min, np.maximum(s_max, s_min)),
        "q_min": q_min,
        "power_share": np.where(mute, 0.0, peak / np.where(mute, 1.0, total)),
        "late": late,
        "drained": drained,
    }  # fmt: skip
    flat = (int(np.prod(problem.batch_shape)), problem.shape[-1])
    arrays = {k: np.broadcast_to(v, problem.shape).reshape(flat) for k, v in full.items()}
    return Reduced(**arrays, error=problem.pruning_error.rows(np.ones(flat[:1], dtype=bool), flat))
