"""Tangents to what a device costs at prices: its least over each range is a lower bound, by convexity alone.

What a device radiates to send L nats in t seconds and bandwidth b, ``e = t b (e^y - 1)/g`` with ``y = L/(t b)``, is a
jointly convex function of t and b, and of q and b where the clock stands still, so that t and L are affine in q: the
determinants of its Hessian have the sign of ``2 y^2 e^y - m``, and ``m = y e^y - e^y + 1``, the integral of ``s e^s``
from 0 to y, is at most ``y^2 e^y``. Its derivatives:

    de/db = -t m/g,   de/dt = -b m/g,   de/dL = e^y/g

So is the Lagrangian of a device, with a price W >= its own of a joule, pi of peak power, lam and kappa of bandwidth and
theta of its time. It is nowhere below its tangent at the allocation, and a tangent is least at an end of each range:
a bound for any prices, which is tight where the tangent is flat. Nothing here knows how an allocation was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._problem.allocation import LN2, Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem

# Relative. How near counts as at its own bandwidth: the certificate's tolerance, for nearer no answer is told apart.
AT_LIMIT = 1e-9


@dataclass(frozen=True, eq=False)
class Bound:
    """What prices make of each device, shape ``(..., K)``."""

    value: FloatArray  # its least cost at the prices, less what its own limits are worth
    second: FloatArray  # theta: what it pays for a second of the round
    joule: FloatArray  # what it would pay for a joule of its budget
    worth: FloatArray  # of all its limits together: what rounding them moves


@dataclass(frozen=True, eq=False)
class Physical:
    """An allocation in physical units, shape ``(..., K)``."""

    q: FloatArray
    nats: FloatArray
    t: FloatArray
    b: FloatArray
    e: FloatArray
    s: FloatArray  # clock
    work: FloatArray  # seconds at clock 1
    heat: FloatArray  # joules at clock 1
    g: FloatArray
    y: FloatArray
    most_hz: FloatArray
    window: FloatArray
    budget: FloatArray  # less what is spent whatever is decided
    own: FloatArray  # the device's own bandwidth limit


def physical(problem: Problem, found: Allotment) -> Physical:
    """An allocation as the tangents need it."""
    d, cell = problem.devices, problem.cell
    q, b, p = 1.0 - np.asarray(found.pruning_ratio), np.asarray(found.bandwidth_hz), np.asarray(found.tx_power_w)
    nats = (np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits)) * LN2
    g = np.asarray(d.channel_gain) / np.asarray(cell.noise_psd_w_per_hz)
    y = np.where(b > 0.0, np.log1p(g * p / b), 1.0)
    t = np.where((nats > 0.0) & (b > 0.0), nats / (b * y), 0.0)
    own = np.asarray(d.bandwidth_max_hz)
    return Physical(
        q, nats, t, b, p * t, np.asarray(found.clock),
        np.asarray(d.pruned_compute_s) * q + np.asarray(d.fixed_compute_s),
        np.asarray(d.pruned_compute_j) * q + np.asarray(d.fixed_compute_j),
        g, y, np.minimum(np.asarray(cell.bandwidth_hz), own),
        np.asarray(cell.deadline_s) - np.asarray(d.fixed_latency_s),
        np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j), own,
    )  # fmt: skip


def least_tangent(slope: FloatArray, at: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """The least of ``slope (x - at)`` over ``[low, high]``."""
    return np.minimum(slope * (low - at), slope * (high - at))


def better(best: Bound | None, new: Bound) -> Bound:
    """Of each device the bound that is higher."""
    return new if best is None else chosen(new.value > best.value, new, best)


def chosen(take: np.ndarray, new: Bound, old: Bound) -> Bound:
    """The new bound where it is taken, the old one elsewhere."""
    return Bound(*(np.where(take, n, o) for n, o in zip(vars(new).values(), vars(old).values(), strict=True)))
