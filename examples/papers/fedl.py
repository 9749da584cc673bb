"""FEDL (Dinh et al., IEEE/ACM Trans. Networking 29 (2021) 398): energy and time of a round.

Their model: nothing is pruned. All phones compute until a common moment, then send one after the other in the whole
band (TDMA); the cost is the energy of all and a weight times the time. It falls into two convex problems: the clocks
with the computing time, and the shares of the sending time; both are solved to optimality here, as in the paper.
Sending one after the other in the whole band takes the energy of sending side by side in shares of it, so that the
model is one of ours with a common moment added.
Constants are those of the authors' own code of the model (Tran et al., INFOCOM 2019; github.com/nhatminh/FEDL-INFOCOM,
julia/Setting.jl and TrafficGen.jl, phones that differ): 5 to 10 MB of samples, 10 to 30 cycles/bit, 0.3 GHz to a top
of 1 to 2 GHz, 2e-28/2 J/cycle/Hz^2, 25,000 nats, 1 MHz, noise of 1e-10 W, 2 to 50 m at 1e-4 m^4/d^4 with Rayleigh
fading, and of its weights of time 0.5 J/s. Ten phones. Limits of power (0.2 to 1 W there) are left out of both: with
them sending in turns takes more than sending side by side.

Optimum: `kktalloc.least_cost`, in which each phone sends as soon as it has computed.

Found: own method 3.997, optimum 3.936, 1.55 % apart; 0.29 ms and 1.7 s.

Run: python examples/papers/fedl.py
"""

from __future__ import annotations

import numpy as np
from comparison import ROUNDS, SLOWEST_HZ, SWITCHED_CAPACITANCE, Comparison, certified, processors, side_by_side
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

import kktalloc as ka

TIME_WEIGHT, NARROW_HZ, NO_LIMIT_W = 0.5, 1e6, 1e4


def problem() -> ka.Problem:
    """Ten phones; see above."""
    rng = np.random.default_rng(6)
    gain = 1e-4 * rng.uniform(2.0, 50.0, 10) ** -4 * rng.standard_exponential(10)
    cycles, fastest_hz = processors(rng, 10)
    devices = ka.Devices(
        gain, NO_LIMIT_W, 25e3 / np.log(2.0), cycles / fastest_hz,
        pruned_compute_j=SWITCHED_CAPACITANCE * cycles * fastest_hz**2, clock_min=SLOWEST_HZ / fastest_hz,
        clock_max=1.0, pruning_ratio_max=0.0,
    )  # fmt: skip
    return ka.Problem(ka.Cell(NARROW_HZ, 1e-10 / NARROW_HZ, 60.0), devices)


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


def compare(rounds: int = ROUNDS) -> Comparison:
    """Costs, in J."""
    cell = problem()
    own, best, *seconds = side_by_side(
        lambda: own_method(cell), lambda: certified(ka.least_cost(cell, time_weight=TIME_WEIGHT)), rounds
    )
    return Comparison("FEDL", "J", own, float(best.cost), float(best.lower_bound), *seconds)


if __name__ == "__main__":
    print(compare())
