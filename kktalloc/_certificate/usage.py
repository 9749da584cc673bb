"""Judge the questions at a given pruning ratio: the least that its rates can cost, whatever the prices.

Every device has a rate r to reach in the time that is left, which at bandwidth b takes the power
``p(b) = b (e^(r/b) - 1) / g``, convex in b. Its tangent at any efficiency y supports it from below,
``p(b) >= (r e^y - b e^y phi(y)) / g``. So ``lam b + c p(b)`` is at least a linear function of b, which is least at one
end of ``[least bandwidth at the most power, cell or own limit]``: a bound for any lam, c and y. Nothing here knows how
an allocation was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._certificate import compiled
from kktalloc._certificate.certificate import Certificate, feasibility
from kktalloc._certificate.clocked import terms
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_for, phi
from kktalloc._problem.allocation import LN2, Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import CERTIFIED, FEASIBLE, LEAST
from kktalloc._problem.variant import variant

_CLAIMED = ("upload_s", "latency_s", "energy_j")


def judge_energy(
    problem: Problem, found: Allotment, total_energy_j: FloatArray, per_hz: FloatArray, per_w: FloatArray
) -> Certificate:
    """Whether an allocation takes the least energy, at prices in J per Hz and per W, shape ``(...)``.

    The gap is relative to the energy and what the budgets are worth.
    """
    d, per_w = problem.of_devices, np.asarray(per_w)
    kept = 1.0 - np.asarray(found.pruning_ratio)
    by_s = _of_cell(problem, "deadline_s")
    left = by_s[..., None] - d("fixed_latency_s") - d("pruned_compute_s") * kept
    spent = _least_cost(problem, found, by_s, per_hz, left / d("pa_efficiency") + per_w[..., None])
    rest = d("fixed_energy_j") + d("pruned_compute_j") * kept
    budgets = np.asarray(per_hz) * _of_cell(problem, "bandwidth_hz") + per_w * _watts(problem)
    total = np.asarray(total_energy_j)
    with np.errstate(all="ignore"):
        gap = (total - ((spent + rest).sum(axis=-1) - budgets)) / np.maximum(total + budgets, 1e-300)
    residuals = _feasible(problem, found)
    off = np.abs(total - np.asarray(found.energy_j).sum(axis=-1)) / np.maximum(total, 1e-300)
    residuals["consistency"] = np.maximum(residuals["consistency"], np.where(np.isnan(off), np.inf, off))
    residuals["dual"] = np.maximum(np.maximum(-np.asarray(per_hz), -per_w), 0.0)
    return _verdict(residuals, gap, per_hz, per_w)


def judge_bandwidth(problem: Problem, found: Allotment, hz_per_w: FloatArray) -> Certificate:
    """Whether a problem's bandwidth is the least that will do, given an allocation of it and the worth of a watt in Hz.

    The gap is relative to the bandwidth and what the cap on total power is worth.
    """
    B = _of_cell(problem, "bandwidth_hz")
    if problem.clocked:
        used = _least_with_clocks(problem, found).sum(axis=-1)
        return _verdict(_feasible(problem, found), (B - used) / B, np.ones_like(B), hz_per_w)
    by_s, per_w, gap = _of_cell(problem, "deadline_s"), np.asarray(hz_per_w), np.full(B.shape, np.inf)
    for price in _prices(per_w):
        with np.errstate(all="ignore"):
            found_gap = (B - _net_hz(problem, found, by_s, price)) / (B + price * _watts(problem))
        gap, per_w = np.fmin(gap, found_gap), np.where(found_gap < gap, price, per_w)
    # Seldom needed: only where rounding may be all that the gap is.
    blur = _rounding_hz(problem, found.pruning_ratio).sum(axis=-1) / B if (gap > CERTIFIED).any() else 0.0
    return _verdict(_feasible(problem, found), gap, np.ones_like(B), per_w, blur)


def judge_deadline(
    problem: Problem, found: Allotment, hz_per_w: FloatArray, block_hz: FloatArray | None = None
) -> Certificate:
    """Whether a problem's deadline is the least that will do: a hair less must take more bandwidth than there is.

    The residual ``least`` is the bandwidth that would be to spare then, relative to the cell's.
    """
    B = _of_cell(problem, "bandwidth_hz")
    by_s = _of_cell(problem, "deadline_s")
    sooner = variant(problem, deadline_s=by_s * (1.0 - LEAST))
    if block_hz is None:
        # At the efficiencies of the deadline itself, where bandwidth and power are traded at their worth.
        nets = [_net_hz(sooner, found, by_s, price) for price in _prices(np.asarray(hz_per_w))]
        used = nets[0] if len(nets) == 1 else np.fmax(*nets)
    else:
        size = np.asarray(block_hz)
        floors = _uploads(sooner, found.pruning_ratio).least_hz
        blocks = np.ceil(floors / size[..., None] * (1.0 - FEASIBLE))
        most = np.floor(np.asarray(problem.devices.bandwidth_max_hz) / size[..., None] * (1.0 + FEASIBLE))
        beyond = (blocks > most).any(axis=-1) | (blocks.sum(axis=-1) > np.floor(B / size * (1.0 + FEASIBLE)))
        used = np.where(beyond, np.inf, 0.0)
    residuals = _feasible(problem, found)
    residuals["least"] = np.where(np.isnan(used), np.inf, np.maximum((B - used) / B, 0.0))
    return _verdict(residuals, np.zeros_like(B), np.ones_like(B), hz_per_w)


def judge_clock_deadline(
    problem: Problem, found: Allotment, sooner: Problem, there: Allotment, block_hz: FloatArray | None = None
) -> Certificate:
    """The same for devices with a clock and electronics, from an allocation `there` of the problem a hair sooner.

    Where a device has none there, its floor is out of reach.
    """
    B = _of_cell(problem, "bandwidth_hz")
    floors = np.where(np.isfinite(there.bandwidth_hz), _least_with_clocks(sooner, there), np.inf)
    if block_hz is None:
        used = floors.sum(axis=-1)
    else:
        size = np.asarray(block_hz)
        blocks = np.ceil(floors / size[..., None] * (1.0 - FEASIBLE)).sum(axis=-1)
        used = np.where(blocks > np.floor(B / size * (1.0 + FEASIBLE)), np.inf, 0.0)
    residuals = _feasible(problem, found)
    residuals["least"] = np.where(np.isnan(used), np.inf, np.maximum((B - used) / B, 0.0))
    return _verdict(residuals, np.zeros_like(B), np.ones_like(B), np.zeros_like(B))


def _least_with_clocks(problem: Problem, at: Allotment) -> FloatArray:
    """A lower bound on the bandwidth that each device's keep ratio takes, Hz."""
    held = np.nan_to_num(np.asarray(at.bandwidth_hz), posinf=0.0)
    priced = terms(
        problem, at.pruning_ratio, held, np.nan_to_num(at.tx_power_w), at.clock, np.ones(problem.batch_shape)
    )
    return priced.least


def _feasible(problem: Problem, found: Allotment) -> dict[str, FloatArray]:
    claims = {name: getattr(found, name) for name in (*_CLAIMED, *(("clock",) if problem.clocked else ()))}
    return feasibility(problem, found.pruning_ratio, found.bandwidth_hz, found.tx_power_w, claims)


def _verdict(
    residuals: dict[str, FloatArray],
    gap: FloatArray,
    per_hz: FloatArray,
    per_w: FloatArray,
    resolution: FloatArray | float = 0.0,
) -> Certificate:
    gap = np.where(np.isnan(gap), np.inf, gap)
    blur = np.zeros(gap.shape) + (np.nan_to_num(resolution) if np.ndim(resolution) else resolution)
    return Certificate(residuals, gap, np.asarray(per_hz), np.asarray(per_w), blur, CERTIFIED)


def _of_cell(problem: Problem, name: str) -> FloatArray:
    """A field of the cell, shape ``(...)``."""
    return np.broadcast_to(problem.of_cell(name), problem.batch_shape)


def _watts(problem: Problem) -> FloatArray:
    return _of_cell(problem, "total_power_w") if problem.capped else np.zeros(problem.batch_shape)


@np.errstate(all="ignore")
def _rounding_hz(problem: Problem, pruning_ratio: FloatArray) -> FloatArray:
    """What an ulp of the data is worth in each device's least bandwidth, shape ``(..., K)``.

    Time and energy left for the upload are differences: where computing takes nearly all, their last digits are those
    of the whole. Near the wideband limit the bandwidth hangs on them by the inverse of the SNR.
    """
    d, sent = problem.devices, _uploads(problem, pruning_ratio)
    left = np.asarray(problem.cell.deadline_s) - sent.busy
    # Of peak power it is not the energy that is short.
    short = np.asarray(d.pa_efficiency) * sent.energy < np.asarray(d.tx_power_max_w) * left
    error = np.finfo(np.float64).eps * (
        4.0
        + np.asarray(problem.cell.deadline_s) / left
        + np.where(short, np.asarray(d.energy_budget_j) / sent.energy, 0.0)
    )
    wideband = sent.least_hz * np.expm1(sent.steepest)
    less = wideband / np.expm1(np.minimum(efficiency_for(sent.rate / wideband * (1.0 + error)), EFFICIENCY_MAX))
    return np.where(np.isfinite(less) & (sent.rate > 0.0), np.abs(less - sent.least_hz), 0.0)


@dataclass(frozen=True, eq=False)
class _Uploads:
    """What is to be sent at a pruning ratio, shape ``(..., K)``."""

    bits: FloatArray
    busy: FloatArray  # time that is not left for them
    energy: FloatArray  # what the budget leaves for them, J; below 0 where it does not suffice for the rest
    rate: FloatArray  # nat/s
    gain: FloatArray  # Hz/W
    steepest: FloatArray  # efficiency at the most power, nat/s/Hz
    least_hz: FloatArray  # bandwidth at the most power, inf where none will do


@np.errstate(all="ignore")
def _uploads(problem: Problem, pruning_ratio: FloatArray) -> _Uploads:
    d, q = problem.devices, 1.0 - np.asarray(pruning_ratio)
    bits = np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits)
    busy = np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s) * q
    left = np.asarray(problem.cell.deadline_s) - busy
    energy = np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j) - np.asarray(d.pruned_compute_j) * q
    most = np.minimum(np.asarray(d.tx_power_max_w), np.asarray(d.pa_efficiency) * np.maximum(energy, 0.0) / left)
    late = np.where(bits > 0.0, left <= 0.0, left < 0.0)
    rate = np.where(late, np.inf, np.where(bits > 0.0, bits * LN2 / left, 0.0))
    received = np.asarray(d.channel_gain) / np.asarray(problem.cell.noise_psd_w_per_hz)
    wideband = received * np.where(late, 0.0, most)
    load = rate / wideband
    steepest = np.minimum(efficiency_for(load), EFFICIENCY_MAX)
    hz = np.where(rate > 0.0, np.where(load < 1.0, wideband / np.expm1(steepest), np.inf), 0.0)
    beyond = hz > np.asarray(d.bandwidth_max_hz) * (1.0 + FEASIBLE)
    return _Uploads(bits, busy, energy, rate, received, steepest, np.where(beyond, np.inf, hz))


def _prices(per_w: FloatArray) -> list[FloatArray]:
    """Prices of a watt to take a bound at, of which any will do: the one that came, and none, for power to spare."""
    return [per_w, np.zeros_like(per_w)] if per_w.any() else [per_w]


def _net_hz(problem: Problem, found: Allotment, by_s: FloatArray, hz_per_w: FloatArray) -> FloatArray:
    """A lower bound on the bandwidth that serves every device's keep ratio within the cap on total power."""
    used = _least_cost(problem, found, by_s, np.ones_like(hz_per_w), hz_per_w[..., None]).sum(axis=-1)
    with np.errstate(all="ignore"):
        return np.asarray(used - hz_per_w * _watts(problem))


def _least_cost(
    problem: Problem, found: Allotment, by_s: FloatArray, per_hz: FloatArray, per_w: FloatArray
) -> FloatArray:
    """A lower bound on ``per_hz b + per_w p`` of each device, shape ``(..., K)``, by tangents at the efficiencies that
    its bandwidth leads to by the deadline `by_s`.

    `by_s` and `per_hz` have shape ``(...)``, `per_w` broadcasts to ``(..., K)``.
    """
    bounds = compiled.least_cost(problem, found.pruning_ratio, found.bandwidth_hz, by_s, per_hz, per_w)
    return _cost_by_numpy(problem, found, by_s, per_hz, per_w) if bounds is None else bounds


@np.errstate(all="ignore")
def _cost_by_numpy(
    problem: Problem, found: Allotment, by_s: FloatArray, per_hz: FloatArray, per_w: FloatArray
) -> FloatArray:
    """The same by NumPy, which takes every kind of problem."""
    sent = _uploads(problem, found.pruning_ratio)
    low = sent.least_hz
    high = np.minimum(np.asarray(problem.cell.bandwidth_hz), np.asarray(problem.devices.bandwidth_max_hz))
    rate = sent.bits * LN2 / (by_s[..., None] - sent.busy)
    y = np.clip(np.nan_to_num(rate / np.asarray(found.bandwidth_hz), nan=0.0), 0.0, sent.steepest)
    worth = np.where(np.asarray(per_w) > 0.0, per_w / sent.gain * np.exp(y), 0.0)
    slope = np.asarray(per_hz)[..., None] - worth * phi(y)
    ends = np.minimum(slope * np.minimum(low, high), slope * high)
    return np.where(sent.rate > 0.0, np.where(np.isfinite(low), worth * sent.rate + ends, np.inf), 0.0)
