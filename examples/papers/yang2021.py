"""Yang, Chen, Saad, Hong, Shikh-Bahaei (IEEE Trans. Wireless Communications 20 (2021) 1935): least energy of a round.

Their model: nothing is pruned. Phones choose the clock of their processor, transmit power, the time of their upload
and a share of the band, for the least total energy within a time; the local accuracy, which fixes how often they
compute, is given here.
Their method (Algorithm 1): blocks in turns, from a feasible start. With the times of the uploads given, the clock is
the slowest in time and bandwidth and power have closed forms in Lambert's function and one price; with those given,
the times are the shortest that carry the payload. As every payload then just goes through in its time, the second
block has nothing left to change, and the times stay those of the start (in the paper they move as the local accuracy
does). So the start decides: half of the round would cost 3.9 times the optimum. Here it is the best of 99 starts with
the same share of the round for each phone.
Constants after what is publicly known of the paper, not checked against its text: 28.1 kbit, 20 MHz, clocks up to
2 GHz, 10 to 30 kcycles a sample, 500 samples, 1e-28 J/cycle/Hz^2, 10 dBm, path loss and shadowing. The noise figure
is that of 3GPP TR 36.814. Chosen, without a source: ten phones, eight local iterations, 0.5 s.

Optimum: `kktalloc.least_cost` with seconds that cost nothing: times, clocks, powers and bands at once, one convex
problem.

Found: own method 0.0033518, optimum 0.0033351, 0.50 % apart; 42 ms and 260 ms.

Run: python examples/papers/yang2021.py
"""

from __future__ import annotations

import numpy as np
from comparison import ROUNDS, SWITCHED_CAPACITANCE, Comparison, certified, channels, side_by_side
from scipy.optimize import brentq
from scipy.special import lambertw

import kktalloc as ka
from kktalloc.channel import dbm_to_w

FASTEST_HZ = 2e9


def problem() -> ka.Problem:
    """Ten phones; see above."""
    gain, noise = channels(10, seed=3)
    cycles = 8 * 500 * np.random.default_rng(4).uniform(1e4, 3e4, 10)
    devices = ka.Devices(
        gain, dbm_to_w(10.0), 28.1e3, cycles / FASTEST_HZ,
        pruned_compute_j=SWITCHED_CAPACITANCE * cycles * FASTEST_HZ**2, clock_min=0.01, clock_max=1.0,
        pruning_ratio_max=0.0,
    )  # fmt: skip
    return ka.Problem(ka.Cell(20e6, noise, 0.5), devices)


def own_method(problem: ka.Problem) -> float:
    """Total energy of the blocks in turns, from the best of 99 starts, in J."""
    return min(in_turns(problem, share) for share in np.linspace(0.01, 0.99, 99))


def in_turns(problem: ka.Problem, share: float) -> float:
    """The same from a share of the round for each upload; infinite where that is no start."""
    d, cell = problem.devices, problem.cell
    B, T, g = cell.bandwidth_hz[0], cell.deadline_s[0], d.channel_gain / cell.noise_psd_w_per_hz
    nats = d.payload_bits * np.log(2.0)
    t = np.full(problem.shape, share * T)
    total = np.inf
    for _ in range(20):
        clock = np.maximum(d.pruned_compute_s / (T - t), d.clock_min)

        def bands(log_price: float, t: np.ndarray = t) -> np.ndarray:
            y = 1.0 + lambertw((np.exp(log_price) * g / t - 1.0) / np.e).real  # e^y (y - 1) + 1 = price g/t
            return nats / (t * np.maximum(y, 1e-12))

        cheapest, dearest = np.log(1e-9 * (t / g).min()), np.log(1e9 * (t / g).max())
        b = bands(brentq(lambda m: np.log(bands(m).sum() / B), cheapest, dearest))
        p = b * np.expm1(nats / (t * b)) / g
        if (p > d.tx_power_max_w).any() or (clock > d.clock_max).any():
            return np.inf
        t = nats / (b * np.log1p(g * p / b))
        last, total = total, float((d.pruned_compute_j * clock**2 + p * t).sum())
        if total >= last * (1.0 - 1e-12):
            break
    return total


def compare(rounds: int = ROUNDS) -> Comparison:
    """Total energies, in J."""
    cell = problem()
    own, best, *seconds = side_by_side(
        lambda: own_method(cell), lambda: certified(ka.least_cost(cell, time_weight=0.0)), rounds
    )
    return Comparison("Yang et al. 2021", "J", own, float(best.cost), float(best.lower_bound), *seconds)


if __name__ == "__main__":
    print(compare())
