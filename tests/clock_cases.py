"""Random cells whose devices have a clock and electronics, and a search for their least bandwidth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import kktalloc as ka

FloatArray = NDArray[np.float64]
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def clock_cell(rng: np.random.Generator, devices: int, roomy: bool = False) -> ka.Problem:
    """One cell, as of `clock_cells`."""
    return rows(clock_cells(rng, 1, devices, roomy), 0)


def rows(problem: ka.Problem, i: int) -> ka.Problem:
    """Problem i of a batch."""
    cell = (None if v is None else np.asarray(v)[i, 0] for v in vars(problem.cell).values())
    return ka.Problem(ka.Cell(*cell), ka.Devices(**{n: np.asarray(v)[i] for n, v in vars(problem.devices).items()}))


def all_in_one(problem: ka.Problem) -> ka.Problem:
    """The devices of a batch in one cell, their windows as they were."""
    deadline = np.asarray(problem.cell.deadline_s)
    longest = float(deadline.max())
    fields = {n: np.asarray(v).ravel() for n, v in vars(problem.devices).items()}
    fields["fixed_latency_s"] = fields["fixed_latency_s"] + np.broadcast_to(longest - deadline, problem.shape).ravel()
    return ka.Problem(
        ka.Cell(1.0, float(np.asarray(problem.cell.noise_psd_w_per_hz).ravel()[0]), longest), ka.Devices(**fields)
    )


def clock_cells(rng: np.random.Generator, cells: int, devices: int, roomy: bool = False) -> ka.Problem:
    """Cells with devices of all kinds; the bandwidth is what some random keep ratios take, times a random factor.

    `roomy` draws devices that can nearly all be served.
    """
    N, K = cells, devices

    def decades(low: float, high: float) -> FloatArray:
        return np.asarray(10.0 ** rng.uniform(low, high, (N, K)))

    some = rng.random((4, N, K)) < 0.5
    cycles, fastest = decades(6.0, 8.5 if roomy else 9.5), decades(8.0, 9.7)
    unit = fastest * decades(-1.0, 0.0)  # the clock at which times and energies are given
    slowest = np.maximum(np.where(some[0], fastest * decades(-2.0, -0.3), 0.0), unit * 1e-3)
    extra = np.where(some[1], 0.0, cycles * decades(-2.0, 0.0))
    watts = decades(-29.0, -26.0) * unit**3  # of computing at that clock
    payload = decades(4.0, 6.0 if roomy else 7.0)
    deadline = 10.0 ** rng.uniform(-0.3 if roomy else -1.0, 1.0, N)
    fields = {
        "channel_gain": decades(-6.0 if roomy else -7.0, -1.0),
        "tx_power_max_w": decades(-2.0, 0.5),
        "payload_bits": payload,
        "overhead_bits": np.where(some[2], 0.0, payload * decades(-3.0, -1.0 if roomy else 0.0)),
        "pruned_compute_s": cycles / unit,
        "pruned_compute_j": watts * cycles / unit,
        "fixed_compute_s": extra / unit,
        "fixed_compute_j": watts * extra / unit,
        "energy_budget_j": decades(-1.0 if roomy else -3.0, 1.0),
        "pa_efficiency": rng.uniform(0.2, 1.0, (N, K)),
        "circuit_power_w": np.where(some[3], 0.0, decades(-3.0, -0.5 if roomy else 0.3)),
        "clock_min": np.minimum(slowest, fastest) / unit,
        "clock_max": fastest / unit,
        "weight": rng.dirichlet(np.ones(K), N),
    }
    wide = ka.Problem(ka.Cell(np.ones(N), 1e-12, deadline), ka.Devices(**fields))
    taken = brute_bandwidth_hz(all_in_one(wide), rng.uniform(0.05, 0.95, N * K), 50).reshape(N, K)
    taken = np.where(np.isfinite(taken), taken, 0.0).sum(axis=1) * 10.0 ** rng.uniform(-0.5, 0.3, N)
    return ka.Problem(ka.Cell(np.where(taken > 0.0, taken, 1e6), 1e-12, deadline), ka.Devices(**fields))


def brute_bandwidth_hz(problem: ka.Problem, q: FloatArray, steps: int = 90) -> FloatArray:
    """Least bandwidth of each device of one problem that keeps q: golden sections over the upload's time.

    The original constraints alone; at a time the bandwidth is that of the efficiency which bisection finds. The search
    is over the logarithm of the upload's time over what is left for computing, so that either may be tiny.
    """
    d, cell = problem.devices, problem.cell
    T = np.asarray(cell.deadline_s)[0] - np.asarray(d.fixed_latency_s)
    nats = (np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits)) * np.log(2.0)
    work = np.asarray(d.pruned_compute_s) * q + np.asarray(d.fixed_compute_s)
    heat = np.asarray(d.pruned_compute_j) * q + np.asarray(d.fixed_compute_j)
    gain = np.asarray(d.channel_gain) / np.asarray(cell.noise_psd_w_per_hz)[0]
    budget = np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j)
    slow, fast = np.asarray(d.clock_min), np.asarray(d.clock_max)

    def hertz(t: FloatArray, clock: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            left = np.asarray(d.pa_efficiency) * (budget - np.asarray(d.circuit_power_w) * t - heat * clock**2)
            radiated = np.minimum(np.asarray(d.tx_power_max_w) * t, left)
            load = nats / (gain * radiated)  # y / (e^y - 1) of the efficiency y
            y = _efficiency(load)
            # Beyond what can be sent the excess guides the search.
            b = np.where((radiated > 0.0) & (load < 1.0), nats / (t * y), 1e200 * (2.0 - gain * radiated / nats))
        return np.where(nats > 0.0, b, 0.0)

    def split(z: FloatArray) -> FloatArray:
        computing = np.exp(-np.logaddexp(0.0, z)) * T
        with np.errstate(all="ignore"):
            clock = np.minimum(np.maximum(slow, np.where(work > 0.0, work / computing, 0.0)), fast)
        return hertz(np.exp(-np.logaddexp(0.0, -z)) * T, clock)

    with np.errstate(all="ignore"):
        slowest = np.maximum(slow, np.where(work > 0.0, work / T, 0.0))
        idle = (nats == 0.0) & (T >= 0.0) & (slowest <= fast) & (heat * slowest**2 <= budget)
        soonest = np.where(work > 0.0, work / fast, 0.0)
        possible = (T > 0.0) & (T - soonest > 0.0)
        end = np.where(possible, np.log((T - soonest) / soonest), 0.0)
    T = np.where(possible, T, 1.0)
    high = np.where(possible, np.clip(end, -80.0, 80.0), 0.0)
    low = np.minimum(np.full(high.shape, -80.0), high - 1.0)
    last = hertz(np.where(possible, T - soonest, 1.0), np.where(work > 0.0, fast, slow))
    for _ in range(steps):
        one, two = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = split(one) <= split(two)
        low, high = np.where(left, low, one), np.where(left, two, high)
    best = np.minimum(split(0.5 * (low + high)), last)
    return np.where(np.where(nats > 0.0, possible & (best < 1e150), idle), best, np.inf)


def _efficiency(load: FloatArray) -> FloatArray:
    """y with ``y / (e^y - 1) = load``: Newton's method on ``ln((e^y - 1)/y) = -ln load``, convex."""
    with np.errstate(all="ignore"):
        target = -np.log(np.where((load > 0.0) & (load < 1.0), load, 0.5))
        y = 2.0 * target
        for _ in range(12):
            small = y < 1e-2
            z = np.where(small, 1.0, y)
            value = np.where(small, y / 2.0 + y * y / 24.0 - y**4 / 2880.0, z + np.log(-np.expm1(-z) / z))
            slope = np.where(small, 0.5 + y / 12.0 - y**3 / 720.0, -1.0 / np.expm1(-z) - 1.0 / z)
            y = np.maximum(y - (value - target) / slope, 1e-300)
    return y
