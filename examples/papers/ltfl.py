"""LTFL (Hou et al., arXiv 2507.09546, 2025): transmit power, pruning and bits per value.

Their model: phones with bands of their own choose transmit power, pruning ratio and bits per value, for the least
convergence gap within delay and energy: a term for what is pruned and one for the rounding of every value, here ``rho
+ c/(2^v - 1)^2``, c = 0.5. Packet errors, the third of their terms, are left out.
Their method: at a power, closed forms of ratio and bits; the power by Bayesian optimisation. Ours of it: at a power
and a whole number of bits the ratio is explicit, the least that fits delay and energy; the best of the bits is taken,
and the power is searched at 25 points as a Gaussian process would at the best of luck: a grid, refined twice.
Constants are chosen: ten phones with 100 kHz each, 1e5 values, 0.2 to 0.6 s and 0.05 J of computing, 0.07 J, 1 s.

Optimum: with bands of their own the phones are apart, so that `kktalloc.solve` for every whole number of bits, in one
batch, and the best of them per phone is the optimum of the whole model, errors on all coordinates included.

Found: own method 0.012467, optimum 0.012453, 0.11 % apart; 0.49 ms and 0.92 ms.

Run: python examples/papers/ltfl.py
"""

from __future__ import annotations

import numpy as np
from comparison import PEAK_W, ROUNDS, Comparison, channels, side_by_side

import kktalloc as ka

VALUES, NOISE_OF_BITS = 1e5, 0.5
BITS = np.arange(1, 17)
ROUNDING = NOISE_OF_BITS / (2.0**BITS - 1.0) ** 2
BAND_HZ, DEADLINE_S = 1e5, 1.0


def phones() -> tuple[np.ndarray, np.ndarray, float]:
    """Gains, seconds of computing, and noise of ten phones."""
    gain, noise = channels(10, seed=9, radius_m=300.0)
    return gain, np.random.default_rng(10).uniform(0.2, 0.6, 10), noise


def problem() -> ka.Problem:
    """A batch of one cell for each phone and number of bits, shape ``(10, 16, 1)``."""
    gain, compute_s, noise = phones()
    devices = ka.Devices(
        gain[:, None, None], PEAK_W, (VALUES * BITS)[None, :, None], compute_s[:, None, None], overhead_bits=1e3,
        energy_budget_j=0.07, pruned_compute_j=0.05,
    )  # fmt: skip
    return ka.Problem(ka.Cell(BAND_HZ, noise, DEADLINE_S), devices)


def own_method() -> np.ndarray:
    """Error of each phone, shape ``(10,)``."""
    gain, compute_s, noise = (np.asarray(v) for v in phones())

    def errors(power: np.ndarray) -> np.ndarray:
        """Of the best ratio and bits at powers of shape ``(10, n)``."""
        p, a, bits = power[..., None], compute_s[:, None, None], VALUES * BITS
        rate = BAND_HZ * np.log2(1.0 + gain[:, None, None] * p / (noise * BAND_HZ))
        in_time = (DEADLINE_S - 1e3 / rate) / (a + bits / rate)
        in_budget = (0.07 - p * 1e3 / rate) / (0.05 + p * bits / rate)
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
