"""Liu, Ratnarajah, Sellathurai, Eldar, IEEE Trans. Signal Processing 2024 (arXiv 2309.01816): pruning and bandwidth.

Their model: each phone prunes the fraction rho of the shared part, trains, and sends what is left at a fixed power,
all by one deadline; the convergence bound asks for the least sum of ratios, and bandwidth is what the phones share.
Their method, as its abstract tells it: closed forms from the KKT conditions for pruning and bandwidth. The forms here
are derived anew from the model, one block at a time, and were not compared with the paper's line by line. With the
rate per hertz r held, what is kept is ``q = T r b / (a r b + S)``, concave in b, so that ``b = (sqrt(T S r/mu) -
S)/(a r)`` where positive, with mu such that the bands fill the cell; then r follows from the new bands. That the rate
per hertz falls as the band grows is not in the derivative.
Constants are not the paper's: its abstract alone could be read, and no code of its authors was found. From other
sources, named in comparison.py: path loss, shadowing and noise (3GPP TR 36.814), 23 dBm (TS 36.101), 5 MHz (TS
36.104), samples, cycles and clocks (FEDL's authors' code), 199,210 weights (McMahan et al. 2017) of 32 bits. Chosen,
without a source: ten phones, a deadline of 1 s.

Optimum: `kktalloc.solve`, with its certificate.

Found: own method 0.48677, optimum 0.48632, 0.09 % apart; 20 ms and 0.24 ms.

Run: python examples/papers/liu2024.py
"""

from __future__ import annotations

import numpy as np
from comparison import (
    BAND_HZ,
    PEAK_W,
    ROUNDS,
    VALUE_BITS,
    VALUES,
    Comparison,
    certified,
    channels,
    processors,
    side_by_side,
)
from scipy.optimize import brentq

import kktalloc as ka

DEADLINE_S = 1.0
RATE_STEPS = 50  # of the rate per hertz; it has settled long before


def problem(band_hz: float = BAND_HZ) -> ka.Problem:
    """Ten phones; see above."""
    gain, noise = channels(10, seed=0)
    cycles, fastest_hz = processors(np.random.default_rng(1), 10)
    phones = ka.Devices(gain, PEAK_W, VALUES * VALUE_BITS, cycles / fastest_hz)
    return ka.Problem(ka.Cell(band_hz, noise, DEADLINE_S), phones)


def own_method(problem: ka.Problem) -> np.ndarray:
    """Pruning ratios of the closed forms, shape ``(K,)``."""
    d, cell = problem.devices, problem.cell
    B, T, snr_hz = cell.bandwidth_hz[0], cell.deadline_s[0], d.channel_gain * d.tx_power_max_w / cell.noise_psd_w_per_hz
    b = np.full(problem.shape, B / problem.shape[0])
    for _ in range(RATE_STEPS):
        rate = np.log2(1.0 + snr_hz / b)

        def bands(log_mu: float, rate: np.ndarray = rate) -> np.ndarray:
            free = (np.sqrt(T * d.payload_bits * rate / np.exp(log_mu)) - d.payload_bits) / (d.pruned_compute_s * rate)
            time = T - d.pruned_compute_s  # left for an unpruned upload; who has none takes any band
            full = np.where(time > 0.0, d.payload_bits / (rate * np.maximum(time, 1e-9)), np.inf)
            return np.clip(free, 1e-9 * B, full)

        high = np.log(T * rate / d.payload_bits).max()
        b = (
            bands(brentq(lambda m: bands(m).sum() - B, high - 40.0, high))
            if bands(high - 40.0).sum() > B
            else bands(-99)
        )
    rate = b * np.log2(1.0 + snr_hz / b)
    return 1.0 - np.minimum(T * rate / (d.pruned_compute_s * rate + d.payload_bits), 1.0)


def compare(rounds: int = ROUNDS) -> Comparison:
    """Means of the pruning ratios."""
    cell = problem()
    own, best, *seconds = side_by_side(lambda: own_method(cell), lambda: certified(ka.solve(cell)), rounds)
    objective = float(best.objective)
    bound = objective - float(best.certificate.duality_gap)
    return Comparison("Liu et al. 2024", "mean pruning ratio", float(own.mean()), objective, bound, *seconds)


def gap_in_the_narrowest_carrier() -> float:
    """By how many per cent the method is above the optimum with 1.4 MHz (3GPP TS 36.104, table 5.6-1)."""
    cell = problem(band_hz=1.4e6)
    return 100.0 * (float(own_method(cell).mean()) / float(certified(ka.solve(cell)).objective) - 1.0)


if __name__ == "__main__":
    print(compare())
    print(f"with 1.4 MHz: {gap_in_the_narrowest_carrier():.2f} % above it")
