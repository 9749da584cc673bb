"""Whole ranks of low-rank adapters (LoRA): who sends which rank, exactly but for one device's step.

An adapter of rank r sends ``r / r_max`` of the largest payload. What a rank takes of the band is the least bandwidth
of a cell with that one device; what it loses was measured. At a price of bandwidth each device takes the rank with
the least loss and price together, a corner of the lower envelope of its (bandwidth, loss); steps along the envelopes
are taken in the order of what they gain per hertz until one does not fit. The envelopes' optimum, with a part of that
step, is a lower bound.

Run: python examples/lora_ranks.py
"""

from __future__ import annotations

import numpy as np

import kktalloc as ka

RANKS = np.array([0, 4, 8, 16, 32, 64])
LOSS = np.array([1.0, 0.42, 0.27, 0.15, 0.06, 0.0])


def bandwidth_of_ranks(cell: ka.Cell, devices: ka.Devices, ranks: np.ndarray) -> np.ndarray:
    """Least bandwidth of each device at each rank, shape ``(K, n)``, in Hz; inf where none does."""
    problem = ka.Problem(cell, devices)
    each = {
        name: np.broadcast_to(np.asarray(value)[:, None, None], (problem.shape[0], len(ranks), 1))
        for name, value in vars(problem.devices).items()
        if name not in ("weight", "name")
    }
    return ka.least_bandwidth(ka.Problem(cell, ka.Devices(**each)), 1.0 - ranks[:, None] / ranks[-1])


def whole_ranks(hertz: np.ndarray, loss: np.ndarray, bandwidth_hz: float) -> tuple[np.ndarray, float, float]:
    """Index of each device's rank, the mean loss, and a lower bound on it; `hertz` and `loss` of shape ``(K, n)``."""
    K = len(hertz)
    steps = []
    for k in range(K):
        at = 0
        while (
            beyond := np.flatnonzero(np.isfinite(hertz[k]) & (hertz[k] > hertz[k, at]) & (loss[k] < loss[k, at]))
        ).size:
            gain = (loss[k, at] - loss[k, beyond]) / (hertz[k, beyond] - hertz[k, at])
            to = int(beyond[gain.argmax()])
            steps.append((-float(gain.max()), k, at, to))
            at = to
    chosen, left = np.zeros(K, dtype=int), bandwidth_hz - hertz[:, 0].sum()
    bound, open_steps = float(loss[:, 0].sum()), True
    for gain, k, at, to in sorted(steps):
        takes = hertz[k, to] - hertz[k, at]
        if open_steps:
            bound += gain * min(takes, left)
        if takes <= left and chosen[k] == at:
            chosen[k], left = to, left - takes
        else:
            open_steps = False  # what fits after this is a gift
    return chosen, float(loss[np.arange(K), chosen].mean()), bound / K


def main() -> None:
    """Eight phones, 2 MHz."""
    rng = np.random.default_rng(0)
    devices = ka.Devices(10 ** rng.uniform(-12, -10.5, 8), 0.1, 8e6, 0.02, fixed_latency_s=0.3)
    hertz = bandwidth_of_ranks(ka.Cell(2e6, 4e-21, 1.0), devices, RANKS)
    chosen, loss, bound = whole_ranks(hertz, np.tile(LOSS, (8, 1)), 2e6)
    print("ranks", RANKS[chosen], f"mean loss {loss:.4f}, no choice of whole ranks below {bound:.4f}")


if __name__ == "__main__":
    main()
