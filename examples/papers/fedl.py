"""FEDL (Dinh et al., IEEE/ACM Trans. Networking 29 (2021) 398): energy and time of a round.

Their model: nothing is pruned. All phones compute until a common moment, then send one after the other in the whole
band (TDMA); the cost is the energy of all and a weight times the time. It falls into two convex problems: the clocks
with the computing time, and the shares of the sending time; both are solved to optimality here, as in the paper.
Sending one after the other in the whole band takes the energy of sending side by side in shares of it, so that the
model is one of ours with a common moment added.
Constants chosen after what is publicly known of the paper, not checked against its text: 10 to 20 cycles/bit and 5 to
10 MB of samples, 2e-28/2 J/cycle/Hz^2, 0.3 to 2 GHz, 1 MHz, 25 kB.
Chosen freely: channels of comparison.py, a weight of time of 0.5 J/s, peak power that does not bind.

Optimum: `kktalloc.least_cost`, in which each phone sends as soon as it has computed.

Run: python examples/papers/fedl.py
"""

from __future__ import annotations

import numpy as np
from comparison import Comparison, certified, channels, timed
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

import kktalloc as ka

FASTEST_HZ, TIME_WEIGHT = 2e9, 0.5


def problem() -> ka.Problem:
    """Ten phones; see above."""
    gain, noise = channels(10, seed=5, radius_m=100.0)
    rng = np.random.default_rng(6)
    cycles = rng.uniform(10, 20, 10) * rng.uniform(5, 10, 10) * 8e6
    devices = ka.Devices(
        gain, 2.0, 200e3, cycles / FASTEST_HZ, pruned_compute_j=1e-28 * cycles * FASTEST_HZ**2,
        clock_min=0.15, clock_max=1.0, pruning_ratio_max=0.0,
    )  # fmt: skip
    return ka.Problem(ka.Cell(1e6, noise, 60.0), devices)


def own_method(problem: ka.Problem) -> float:
    """Cost of the two problems, in J."""
    d, cell = problem.devices, problem.cell
    B, g, nats = cell.bandwidth_hz[0], d.channel_gain / cell.noise_psd_w_per_hz, d.payload_bits * np.log(2.0)

    def computing(log_t: float) -> float:
        clock = np.clip(d.pruned_compute_s / np.exp(log_t), d.clock_min, d.clock_max)
        return float((d.pruned_compute_j * clock**2).sum() + TIME_WEIGHT * np.exp(log_t))

    first = np.log((d.pruned_compute_s / d.clock_max).max())
    slow = np.log((d.pruned_compute_s / d.clock_min).max())
    computed = minimize_scalar(computing, bounds=(first, slow), method="bounded", options={"xatol": 1e-12}).fun

    # A share of the sending time is worth TIME_WEIGHT: e^y (y - 1) + 1 = TIME_WEIGHT g/B, y the efficiency.
    y = 1.0 + lambertw((TIME_WEIGHT * g / B - 1.0) / np.e).real
    power = B * np.expm1(y) / g
    assert (power <= d.tx_power_max_w).all()
    shares = nats / (B * y)
    return float(computed + (power * shares).sum() + TIME_WEIGHT * shares.sum())


def compare() -> Comparison:
    """Costs, in J."""
    cell = problem()
    own, own_s = timed(lambda: own_method(cell))
    best, best_s = timed(lambda: certified(ka.least_cost(cell, time_weight=TIME_WEIGHT)))
    return Comparison("FEDL", "J", own, float(best.cost), float(best.lower_bound), own_s, best_s)


if __name__ == "__main__":
    print(compare())
