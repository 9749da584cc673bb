"""One line of the catalogue: what a paper's own method reaches, the exact optimum, the gap, and the time of both.

Also the constants that stand in where a paper's own are not known to us, each with its source. They give no deadline,
energy budget or number of phones: those are chosen in each file, so that the limits bind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np

import kktalloc as ka
from kktalloc.channel import MACRO_3GPP, dbm_to_w, noise_psd_w_per_hz, place_in_annulus, shadowing

ROUNDS = 5  # of both methods in turns


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
        Seconds of processor time of both, the least of several runs in turns.
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
        return round(100.0 * (self.own / self.best - 1.0), 6) + 0.0  # no minus before a zero

    def __str__(self) -> str:
        """A line for the terminal."""
        times = f"{shown_s(self.own_s)} and {shown_s(self.best_s)} of processor time"
        return (
            f"{self.paper}: own method {self.own:.5g}, optimum {self.best:.5g} {self.unit} (proved to "
            f"{abs(self.best - self.bound) / self.best:.0e}): {self.gap_percent:.2f} % above it; {times}"
        )


def two_digits(value: float) -> str:
    """Without an exponent."""
    return f"{float(f'{value:.2g}'):g}"


def shown_s(seconds: float) -> str:
    """Two digits, in ms or s."""
    return f"{two_digits(seconds)} s" if seconds >= 1.0 else f"{two_digits(1e3 * seconds)} ms"


def side_by_side(own: Callable[[], Any], best: Callable[[], Any], rounds: int) -> tuple[Any, Any, float, float]:
    """Both answers, and the least seconds of processor time of each; they take turns, so that a load meets both."""
    own_s, best_s = [], []
    for _ in range(rounds):
        start = process_time()
        of_own = own()
        between = process_time()
        of_best = best()
        own_s.append(between - start)
        best_s.append(process_time() - between)
    return of_own, of_best, min(own_s), min(best_s)


def channels(devices: int, seed: int) -> tuple[np.ndarray, float]:
    """Gains of phones in a cell, and the noise in W/Hz.

    Path loss 128.1 + 37.6 log10(d/km) dB, shadowing of 8 dB and a noise figure of 5 dB over -174 dBm/Hz: 3GPP TR
    36.814. A disc of 250 m: about the square of 500 m of Yang et al. 2021.
    """
    rng = np.random.default_rng(seed)
    distance = place_in_annulus(rng, devices, 250.0, MACRO_3GPP.min_distance_m)
    return MACRO_3GPP.gain(distance) * shadowing(rng, devices, MACRO_3GPP.shadowing_std_db), noise_psd_w_per_hz(
        noise_figure_db=5.0
    )


def certified(answer: Any) -> Any:
    """The answer, of which the certificate must say that it is the optimum."""
    assert answer.status is ka.Status.OPTIMAL
    return answer


def processors(rng: np.random.Generator, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Cycles of a round, and the fastest clock in Hz: FEDL's authors' code (see fedl.py), phones that differ.

    5 to 10 MB of samples, 10 to 30 cycles/bit, a top of 1 to 2 GHz.
    """
    cycles = rng.integers(10, 31, devices) * rng.uniform(5.0, 10.0, devices) * 8e6
    return cycles, rng.uniform(1e9, 2e9, devices)


SLOWEST_HZ = 0.3e9  # FEDL's authors' code
SWITCHED_CAPACITANCE = 1e-28  # J/cycle/Hz^2: Yang et al. 2021; FEDL's authors' code
PEAK_W = dbm_to_w(23.0)  # a phone's most: 3GPP TS 36.101, power class 3
BAND_HZ = 5e6  # one carrier: 3GPP TS 36.104, table 5.6-1
VALUES = 199_210  # weights of the 2NN of McMahan et al., AISTATS 2017
VALUE_BITS = 32  # single precision
