"""TT-Prune (Zhang, Deng, Mahmoodi, arXiv 2511.04653, 2025), one tier: a pruning ratio for all its users, and
bandwidth.

Their model: the users of a tier share one pruning ratio and the band, at fixed power, and all end within the tier's
time. With a single tier that is the least common ratio that a deadline allows.
Their method: KKT conditions per tier. At a ratio each user needs the band of the closed form ``b = r/y``, ``y`` the
efficiency at which its power just carries the rate r (Lambert's function); the ratio is where the bands fill the
cell.
Constants are not the paper's: its abstract alone could be read, and no code of its authors was found. They are those
of liu2024.py, from the sources named there.

Optimum of the model: `kktalloc.solve_minmax`. Its closed forms are exact, so there is no gap; what a single ratio
costs against a ratio for each user is the second line.

Found: own method 0.53684, optimum 0.53684, 0.00 % apart; 0.27 ms and 0.34 ms.

Run: python examples/papers/tt_prune.py
"""

from __future__ import annotations

import numpy as np
from comparison import ROUNDS, Comparison, certified, side_by_side
from liu2024 import problem
from scipy.optimize import brentq
from scipy.special import lambertw

import kktalloc as ka


def own_method(problem: ka.Problem) -> float:
    """The least common ratio by the closed form of the bands."""
    d, cell = problem.devices, problem.cell
    wideband = d.channel_gain * d.tx_power_max_w / cell.noise_psd_w_per_hz  # nat/s in an endless band

    def too_much(ratio: float) -> float:
        kept = 1.0 - ratio
        time = cell.deadline_s - d.pruned_compute_s * kept
        if (time <= 0.0).any():
            return 1.0
        nats = d.payload_bits * kept * np.log(2.0) / time
        load = nats / wideband
        if (load >= 1.0).any():
            return 1.0
        efficiency = -lambertw(-load * np.exp(-load), -1).real - load
        return float((nats / efficiency).sum() / cell.bandwidth_hz[0]) - 1.0

    return float(brentq(too_much, 1e-9, 1.0 - 1e-9, xtol=1e-14))


def compare(rounds: int = ROUNDS) -> Comparison:
    """The common pruning ratio."""
    cell = problem()
    own, best, *seconds = side_by_side(lambda: own_method(cell), lambda: certified(ka.solve_minmax(cell)), rounds)
    level, bound = float(best.level), float(best.lower_bound)
    return Comparison("TT-Prune, one tier", "common pruning ratio", own, level, bound, *seconds)


def against_own_ratios() -> tuple[float, float]:
    """The common ratio, and the mean of the best ratios of each user's own."""
    cell = problem()
    return float(ka.solve_minmax(cell).level), float(ka.solve(cell).objective)


if __name__ == "__main__":
    print(compare())
    print("one ratio for all: {:.4f}; a ratio each: {:.4f} on average".format(*against_own_ratios()))
