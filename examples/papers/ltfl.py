"""LTFL (Hou et al., arXiv 2507.09546, 2025): transmit power, pruning and bits per value.

Their model: phones with bands of their own choose transmit power, pruning ratio and bits per value, for the least
convergence gap within delay and energy: a term for what is pruned and one for the rounding of every value, here ``rho
+ c/(2^v - 1)^2``, c = 0.5. Packet errors, the third of their terms, are left out.
Their method: at a power, closed forms of ratio and bits; the power by Bayesian optimisation. Ours of it: at a power
and a whole number of bits the ratio is explicit, the least that fits delay and energy; the best of the bits is taken,
and the power is searched at 25 points as a Gaussian process would at the best of luck: a grid, refined twice.
Constants are not the paper's: its abstract alone could be read, and no code of its authors was found. From other
sources, named in comparison.py: path loss, shadowing and noise (3GPP TR 36.814), 23 dBm (TS 36.101), 5 MHz (TS
36.104), samples, cycles and clocks (FEDL's authors' code), 1e-28 J/cycle/Hz^2 (Yang et al. 2021), 199,210 weights
(McMahan et al. 2017). Chosen, without a source: ten phones with a tenth of the band each, the fastest clock, two
32-bit ends of the values' range, 1 to 16 bits, c, 1 s, 0.15 J.

Optimum: with bands of their own the phones are apart, so that `kktalloc.solve` for every whole number of bits, in one
batch, and the best of them per phone is the optimum of the whole model, errors on all coordinates included.

Found: own method 0.49306, optimum 0.49306, 0.00 % apart; 0.64 ms and 0.73 ms.

Run: python examples/papers/ltfl.py
"""

from __future__ import annotations

import numpy as np
from comparison import (
    BAND_HZ,
    PEAK_W,
    ROUNDS,
    SWITCHED_CAPACITANCE,
    VALUE_BITS,
    VALUES,
    Comparison,
    channels,
    processors,
    side_by_side,
)

import kktalloc as ka

NOISE_OF_BITS = 0.5
BITS = np.arange(1, 17)
ROUNDING = NOISE_OF_BITS / (2.0**BITS - 1.0) ** 2
OWN_HZ = BAND_HZ / 10
RANGE_BITS = 2 * VALUE_BITS  # the least and the largest value, as they are
DEADLINE_S, BUDGET_J = 1.0, 0.15


def phones() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Gains, seconds and joules of computing, and noise of ten phones."""
    gain, noise = channels(10, seed=9)
    cycles, fastest_hz = processors(np.random.default_rng(10), 10)
    return gain, cycles / fastest_hz, SWITCHED_CAPACITANCE * cycles * fastest_hz**2, noise


def problem() -> ka.Problem:
    """A batch of one cell for each phone and number of bits, shape ``(10, 16, 1)``."""
    gain, compute_s, compute_j, noise = phones()
    devices = ka.Devices(
        gain[:, None, None], PEAK_W, (VALUES * BITS)[None, :, None], compute_s[:, None, None],
        overhead_bits=RANGE_BITS, energy_budget_j=BUDGET_J, pruned_compute_j=compute_j[:, None, None],
    )  # fmt: skip
    return ka.Problem(ka.Cell(OWN_HZ, noise, DEADLINE_S), devices)


def own_method() -> np.ndarray:
    """Error of each phone, shape ``(10,)``."""
    gain, compute_s, compute_j, noise = phones()

    def errors(power: np.ndarray) -> np.ndarray:
        """Of the best ratio and bits at powers of shape ``(10, n)``."""
        p, bits = power[..., None], VALUES * BITS
        a, e = compute_s[:, None, None], compute_j[:, None, None]
        rate = OWN_HZ * np.log2(1.0 + gain[:, None, None] * p / (noise * OWN_HZ))
        in_time = (DEADLINE_S - RANGE_BITS / rate) / (a + bits / rate)
        in_budget = (BUDGET_J - p * RANGE_BITS / rate) / (e + p * bits / rate)
        kept = np.clip(np.minimum(in_time, in_budget), 0.0, 1.0)
        return np.asarray((1.0 - kept + ROUNDING).min(axis=-1))

    low, high = np.full(10, np.log(1e-4 * PEAK_W)), np.full(10, np.log(PEAK_W))
    for _ in range(3):
        grid = np.linspace(low, high, 25, axis=1)
        found = errors(np.exp(grid))
        at = found.argmin(axis=1)
        rows = np.arange(10)
        low, high = grid[rows, np.maximum(at - 1, 0)], grid[rows, np.minimum(at + 1, 24)]
    return found.min(axis=1)


def optimum() -> tuple[float, float]:
    """The least mean error, and its lower bound."""
    answer = ka.solve(problem())
    assert answer.certificate.ok
    whole = answer.objective + ROUNDING
    bound = whole - np.maximum(answer.certificate.duality_gap, 0.0)
    return float(whole.min(axis=1).mean()), float(bound.min(axis=1).mean())


def compare(rounds: int = ROUNDS) -> Comparison:
    """Means of the errors."""
    own, (best, bound), *seconds = side_by_side(own_method, optimum, rounds)
    return Comparison("LTFL", "mean error", float(own.mean()), best, bound, *seconds)


if __name__ == "__main__":
    print(compare())
