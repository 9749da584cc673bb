"""An allocation: what an engine hands back, and what bandwidth, power and pruning ratio imply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.fields import CLOCK_EXPONENT
from kktalloc._problem.problem import Problem

LN2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class Allotment:
    """What devices get, and what follows from it: the fields that every answer shares, shape ``(..., K)``.

    Parameters
    ----------
    pruning_ratio
        rho, the fraction of the global part that each device drops.
    bandwidth_hz, tx_power_w
        Uplink bandwidth and radiated power. Where bandwidth is to spare, devices hold the least they need.
    upload_s, latency_s
        Time of the upload, and of the whole round up to its last bit.
    energy_j
        Energy of the whole round.
    clock
        Relative clock of the device's processor; 1 where it has no choice.
    """

    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    upload_s: FloatArray
    latency_s: FloatArray
    energy_j: FloatArray
    clock: FloatArray


@dataclass(frozen=True, eq=False)
class Allocation(Allotment):
    """What an engine found: an allotment with objective, prices and ``solved`` of shape ``(...)``.

    Where ``solved`` is False the other entries are void: the problem is infeasible, or beyond the kernel, so that NumPy
    has the last word.
    """

    objective: FloatArray
    regime: np.ndarray
    price_per_hz: FloatArray
    price_per_w: FloatArray
    solved: np.ndarray
    scratch: FloatArray | None = None  # (2, ..., K), free for what comes next


@lru_cache(maxsize=32, typed=True)
def same_for_all(value: float | bool, shape: tuple[int, ...]) -> np.ndarray:
    """An array of one value that takes no memory and cannot be written into."""
    return np.broadcast_to(value, shape)


def fixed_clock(shape: tuple[int, ...], found: np.ndarray | None = None) -> FloatArray:
    """A clock of 1 for every device, read-only; NaN where `found`, broadcast to `shape`, is False."""
    if found is None or found.all():
        return same_for_all(1.0, shape)
    return np.broadcast_to(np.where(found, 1.0, np.nan), shape)


@np.errstate(all="ignore")
def outcome(
    problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, clock: FloatArray | None = None
) -> dict[str, FloatArray]:
    """Upload time, latency, energy, clock (``(..., K)``) and objective (``(...)``) that an allocation implies.

    Devices with a choice of clock that is not told take the slowest that is in time.
    """
    d, q = problem.of_devices, 1.0 - rho
    bits = d("payload_bits") * q + d("overhead_bits")
    snr = d("channel_gain") * p / (np.asarray(problem.of_cell("noise_psd_w_per_hz"))[..., None] * b)
    # Compared so that the NaN of an infeasible problem stays NaN.
    rate = np.where(b <= 0.0, 0.0, b * np.log1p(snr) / LN2)
    upload = np.where(bits <= 0.0, 0.0, bits / rate)
    objective = (d("weight") * problem.pruning_error.value(rho)).sum(axis=-1)
    if problem.clocked:
        work = d("pruned_compute_s") * q + d("fixed_compute_s")
        if clock is None:
            window = np.asarray(problem.of_cell("deadline_s"))[..., None] - d("fixed_latency_s")
            clock = np.clip(work / (window - upload), d("clock_min"), d("clock_max"))
        heat = (d("pruned_compute_j") * q + d("fixed_compute_j")) * clock ** (CLOCK_EXPONENT - 1)
        sent = np.where(upload <= 0.0, 0.0, (p / d("pa_efficiency") + d("circuit_power_w")) * upload)
        return {
            "upload_s": upload,
            "latency_s": d("fixed_latency_s") + work / clock + upload,
            "energy_j": d("fixed_energy_j") + heat + sent,
            "clock": clock,
            "objective": objective,
        }
    energy = np.where(upload <= 0.0, 0.0, p * upload / d("pa_efficiency"))
    return {
        "upload_s": upload,
        "latency_s": d("fixed_latency_s") + d("pruned_compute_s") * q + upload,
        "energy_j": d("fixed_energy_j") + d("pruned_compute_j") * q + energy,
        "clock": fixed_clock(problem.shape, ~np.isnan(rho)),
        "objective": objective,
    }
