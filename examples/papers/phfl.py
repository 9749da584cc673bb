"""Pervej, Jin, Dai, PHFL (arXiv 2308.01562, 2023), one base station: pruning ratio, clock and power of each phone.

Their model: each phone has bands of its own (physical resource blocks that somebody else has dealt out), and chooses
pruning ratio, clock of its processor and transmit power for the least weighted pruning error within a deadline and an
energy budget.
Their method: the problem is not convex as it stands, so constraints are replaced by convex approximations around the
last point and the convex problem is solved, until nothing changes (SCA). Ours of it: time and energy linearised in
the logarithms of what is kept, clock and power, within a shrinking distance, a linear program each time; from half of
the peak, half of the clock and a feasible ratio. One tier of their four, weights alike.
Constants are not the paper's: its abstract alone could be read, and no code of its authors was found. From other
sources, named in comparison.py: path loss, shadowing and noise (3GPP TR 36.814), 23 dBm (TS 36.101), 5 MHz (TS
36.104), samples, cycles, clocks from 0.3 GHz (FEDL's authors' code), 1e-28 J/cycle/Hz^2 (Yang et al. 2021), 199,210
weights (McMahan et al. 2017) of 32 bits. Chosen, without a source: ten phones with a tenth of the band each, 1 s,
0.15 J.

Optimum: `kktalloc.solve` of ten cells with one phone each. What dealing out the band beforehand costs is the second
line.

Found: own method 0.53558, optimum 0.53554, 0.01 % apart; 890 ms and 0.35 ms.

Run: python examples/papers/phfl.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparison import (
    BAND_HZ,
    PEAK_W,
    ROUNDS,
    SLOWEST_HZ,
    SWITCHED_CAPACITANCE,
    VALUE_BITS,
    VALUES,
    Comparison,
    certified,
    channels,
    processors,
    side_by_side,
)
from scipy.optimize import linprog

import kktalloc as ka

DEADLINE_S, BUDGET_J = 1.0, 0.15
STEPS, SHRINK = 60, 0.7


def problem() -> ka.Problem:
    """Ten phones in one cell; see above."""
    gain, noise = channels(10, seed=7)
    cycles, fastest_hz = processors(np.random.default_rng(8), 10)
    devices = ka.Devices(
        gain, PEAK_W, VALUES * VALUE_BITS, cycles / fastest_hz, energy_budget_j=BUDGET_J,
        pruned_compute_j=SWITCHED_CAPACITANCE * cycles * fastest_hz**2, clock_min=SLOWEST_HZ / fastest_hz,
        clock_max=1.0,
    )  # fmt: skip
    return ka.Problem(ka.Cell(BAND_HZ, noise, DEADLINE_S), devices)


def on_its_own(problem: ka.Problem) -> ka.Problem:
    """The same phones, each with an equal share of the band: a batch of cells with one phone."""
    d, cell, K = problem.devices, problem.cell, problem.shape[0]
    each = {name: np.asarray(value)[:, None] for name, value in vars(d).items() if name not in ("weight", "name")}
    return ka.Problem(replace(cell, bandwidth_hz=cell.bandwidth_hz / K), ka.Devices(**each))


def own_method(problem: ka.Problem) -> np.ndarray:
    """Pruning ratios of the successive approximation, shape ``(K,)``."""
    d, cell, K = problem.devices, problem.cell, problem.shape[0]
    b, noise, T = cell.bandwidth_hz[0] / K, cell.noise_psd_w_per_hz[0], cell.deadline_s[0]
    ratios = []
    for k in range(K):
        compute_s, compute_j, gain = d.pruned_compute_s[k], d.pruned_compute_j[k], d.channel_gain[k]
        bits, budget, peak = d.payload_bits[k], d.energy_budget_j[k], d.tx_power_max_w[k]
        low = np.log([1e-6, d.clock_min[k], 1e-6 * peak])
        high = np.log([1.0, d.clock_max[k], peak])

        def rows(x: np.ndarray, data: tuple[float, ...] = (compute_s, compute_j, gain, bits, budget)) -> np.ndarray:
            seconds, joules, g, S, E = data
            q, s, p = np.exp(x)
            t = S * q / (b * np.log2(1.0 + g * p / (noise * b)))
            return np.log([(seconds * q / s + t) / T, (joules * q * s * s + p * t) / E])

        x, reach = np.log([0.5, 0.5 * d.clock_max[k], 0.5 * peak]), 0.5
        for _ in range(60):  # a feasible start: keep less until it fits
            if rows(x).max() <= 0.0:
                break
            x[0] -= 0.1
        for _ in range(STEPS):
            base = rows(x)
            slopes = np.array([(rows(x + 1e-6 * e) - base) / 1e-6 for e in np.eye(3)]).T
            within = list(zip(np.maximum(low - x, -reach), np.minimum(high - x, reach), strict=True))
            step = linprog([-1.0, 0.0, 0.0], A_ub=slopes, b_ub=-base, bounds=within).x
            new = x + step if step is not None else x
            while rows(new).max() > 0.0 and new[0] > x[0]:  # the linear rows are not on the safe side
                new[0] = max(x[0], new[0] - 1e-3)
            if rows(new).max() <= 0.0 and new[0] > x[0]:
                x = new
            else:
                reach *= SHRINK
        ratios.append(1.0 - np.exp(x[0]))
    return np.array(ratios)


def compare(rounds: int = ROUNDS) -> Comparison:
    """Means of the pruning ratios."""
    cell = problem()
    alone = on_its_own(cell)
    own, best, *seconds = side_by_side(lambda: own_method(cell), lambda: certified_all(ka.solve(alone)), rounds)
    objective, gap = float(best.objective.mean()), float(np.mean(best.certificate.duality_gap))
    return Comparison("PHFL", "mean pruning ratio", float(own.mean()), objective, objective - gap, *seconds)


def certified_all(answer: ka.Solution) -> ka.Solution:
    """The answer of a batch, each certified."""
    assert answer.certificate.ok
    return answer


def with_the_band_shared() -> float:
    """The mean pruning ratio where the band is dealt out together with all else."""
    return float(certified(ka.solve(problem())).objective)


if __name__ == "__main__":
    print(compare())
    print(f"with the band shared as well: {with_the_band_shared():.4f}")
