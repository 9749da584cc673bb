"""The compiled engine for devices with a clock and electronics (``kktalloc/kernel/clocked.c``).

It follows the equations of `kktalloc._engine.clock_engine`, which is the reference. One call solves and has the
compiled judge (``kernel/clock_judge.c``) judge and price the arrays that it returns; they are views of one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._problem.allocation import Allocation
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.served import CLOCK_TABLES, curve_columns, serving_clocks, serving_prices
from kktalloc._problem.stats import enter
from kktalloc._problem.threads import threads_for

_SOLVED = 0  # of the states in kernel/problem.h


@dataclass(eq=False)
class ClockAnswer:
    """What the kernel found.

    Parameters
    ----------
    device
        Pruning ratio, bandwidth, power, upload time, latency, energy and clock; prices of energy, peak power, own
        bandwidth, the clock's upper and lower end and circuit power, which are void where not all problems are solved;
        ``(13, ..., K)``.
    each
        Objective, price per Hz, price of the deadline, prices tried, and the verdict: ``(18, ...)``.
    regime, state
        Of each device, ``(..., K)``, and of each problem, ``(...)``.
    solved
        Whether all problems are, and judged.
    """

    device: FloatArray
    each: FloatArray
    regime: np.ndarray
    state: np.ndarray
    solved: bool

    @property
    def verdict(self) -> FloatArray:
        """What the compiled judge says, as `kktalloc._certificate.certificate.read_clock_verdict` takes it."""
        return self.each[4:]

    def allocation(self) -> Allocation:
        """The same as every engine hands it back."""
        rho, b, p, upload, latency, energy, clock = self.device[:7]
        objective, per_hz = self.each[:2]
        solved = np.asarray(self.state == _SOLVED)
        nothing = np.where(solved, 0.0, np.nan)
        found = rho, b, p, upload, latency, energy, clock
        return Allocation(*found, objective, self.regime, per_hz, nothing, solved)


def solve(problem: Problem, threads: int | None = None) -> ClockAnswer | None:
    """Answer of the compiled kernel, or None where it does not serve. A cap on total power is not looked at."""
    module = serving_clocks(problem)
    if module is None:
        return None
    shape, (N, K) = problem.shape, problem.sizes
    size, (of_device, of_problem) = N * K, CLOCK_TABLES
    block = np.empty(of_device * size + of_problem * N)
    codes = np.empty(size + N, np.int8)
    cell, devices = problem.columns
    solved, tried = module.solve_clocks(
        cell, devices, problem.clock_columns, curve_columns(problem), N, K, threads_for(size, threads), block, codes
    )
    enter("compiled", int(tried))
    return ClockAnswer(
        block[: of_device * size].reshape(of_device, *shape),
        block[of_device * size :].reshape(of_problem, *shape[:-1]),
        codes[:size].reshape(shape),
        codes[size:].reshape(shape[:-1]),
        bool(solved),
    )


def kept(problem: Problem, log_price: float) -> FloatArray | None:
    """As `clock_engine.kept`, or None where the kernel does not serve."""
    module = serving_prices(problem)
    if module is None:
        return None
    N, K = problem.sizes
    out = np.empty((4, N, K))
    cell, devices = problem.columns
    module.keep_clocks(cell, devices, problem.clock_columns, curve_columns(problem), N, K, log_price, out)
    enter("compiled", N)
    return out
