"""One line of the catalogue: what a paper's own method reaches, the exact optimum, the gap, and the time of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

import kktalloc as ka
from kktalloc.channel import MACRO_3GPP, dbm_to_w, noise_psd_w_per_hz, place_in_annulus, shadowing


@dataclass(frozen=True)
class Comparison:
    """A paper's own method beside the optimum of the same model; lower is better.

    Parameters
    ----------
    paper, unit
        Which, and what is minimised.
    own, best, bound
        What its method reaches, the optimum, and what nothing can beat: a proof that it is one.
    own_s, best_s
        Seconds of both, the best of a few runs.
    """

    paper: str
    unit: str
    own: float
    best: float
    bound: float
    own_s: float
    best_s: float

    @property
    def gap_percent(self) -> float:
        """By how much the paper's own method is above the optimum."""
        return 100.0 * (self.own / self.best - 1.0)

    def __str__(self) -> str:
        """A line for the terminal."""
        times = f"{1e3 * self.own_s:.3g} ms and {1e3 * self.best_s:.3g} ms"
        return (
            f"{self.paper}: own method {self.own:.5g}, optimum {self.best:.5g} {self.unit} (proved to "
            f"{abs(self.best - self.bound) / self.best:.0e}): {self.gap_percent:.2f} % above it; {times}"
        )


def timed(question: Callable[[], Any], runs: int = 3) -> tuple[Any, float]:
    """The answer, and the seconds that it took at best."""
    seconds = []
    for _ in range(runs):
        start = perf_counter()
        answer = question()
        seconds.append(perf_counter() - start)
    return answer, min(seconds)


def channels(devices: int, seed: int, radius_m: float = 500.0) -> tuple[np.ndarray, float]:
    """Gains of phones in a cell (path loss of 3GPP TR 36.814, shadowing of 8 dB), and the noise in W/Hz."""
    rng = np.random.default_rng(seed)
    distance = place_in_annulus(rng, devices, radius_m, MACRO_3GPP.min_distance_m)
    return MACRO_3GPP.gain(distance) * shadowing(rng, devices, MACRO_3GPP.shadowing_std_db), noise_psd_w_per_hz(
        noise_figure_db=5.0
    )


def certified(answer: Any) -> Any:
    """The answer, of which the certificate must say that it is the optimum."""
    assert answer.status is ka.Status.OPTIMAL
    return answer


PEAK_W = dbm_to_w(23.0)  # a phone's most, 3GPP TS 36.101
