"""The compiled engine (``kktalloc/kernel``).

It follows the same equations as the NumPy engine, which is the reference, and both meet the same certificate. One call
solves and has the compiled judge judge the arrays that it returns; they are views of one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._problem.allocation import Allocation, fixed_clock
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.served import curve_columns, serving
from kktalloc._problem.stats import enter
from kktalloc._problem.threads import threads_for
from kktalloc._problem.tolerances import CERTIFIED

_SOLVED = 0  # of the states in kernel/problem.h

# Tables of the block, as kernel/module.c lays them out: six of the allocation and two of prices with an entry per
# device; objective, prices of bandwidth, total power and deadline, prices tried and the verdict with one per problem.
_DEVICE_TABLES, _BEFORE_VERDICT, _VERDICT = 8, 5, 12

_HUGE_PAGE = 1 << 21  # bytes
_LARGE = 1 << 19  # entries, of two such pages: from here on NumPy asks for them


@dataclass(eq=False)
class Answer:
    """What the kernel found.

    Parameters
    ----------
    device
        Pruning ratio, bandwidth, power, upload time, latency, energy, and prices of energy and of peak power, which are
        void where not all problems are solved; ``(8, ..., K)``.
    each
        Objective, price per Hz, price per W, price of the deadline, prices tried, and the verdict: ``(17, ...)``.
    regime, state
        Of each device, ``(..., K)``, and of each problem, ``(...)``.
    solved, certified
        Whether all problems are solved, and the judge accepts them.
    """

    device: FloatArray
    each: FloatArray
    regime: np.ndarray
    state: np.ndarray
    solved: bool
    certified: bool

    @property
    def verdict(self) -> FloatArray:
        """What the compiled judge says, as `kktalloc._certificate.certificate.read_verdict` takes it."""
        return self.each[_BEFORE_VERDICT:]

    def allocation(self) -> Allocation:
        """The same as every engine hands it back."""
        rho, b, p, upload, latency, energy = self.device[:6]
        objective, per_hz, per_w = self.each[:3]
        solved = np.asarray(self.state == _SOLVED)
        found = rho, b, p, upload, latency, energy, fixed_clock(rho.shape, solved[..., None])
        return Allocation(*found, objective, self.regime, per_hz, per_w, solved, self.device[6:])


def _on_huge_pages(size: int) -> FloatArray:
    """An array to be filled that starts on a huge page: memory that the system clears in single pages, as the threads
    come upon it, takes a tenth of the time of a large solution.
    """
    raw = np.empty((1 - (-8 * size // _HUGE_PAGE)) * _HUGE_PAGE, np.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    return raw[start : start + 8 * size].view(np.float64)


def solve(problem: Problem, threads: int | None = None) -> Answer | None:
    """Answer of the compiled kernel, or None where it does not serve."""
    module = serving(problem)
    if module is None:
        return None
    shape = problem.shape
    batch = shape[:-1]
    N, K = problem.sizes
    size, each = N * K, (_BEFORE_VERDICT + _VERDICT) * N
    block = (_on_huge_pages if size >= _LARGE else np.empty)(_DEVICE_TABLES * size + each)
    codes = np.empty(size + N, np.int8)
    solved, certified, tried = module.solve(
        *problem.columns, curve_columns(problem), N, K, threads_for(size, threads), block, codes, CERTIFIED
    )
    enter("compiled", int(tried))
    return Answer(
        block[: _DEVICE_TABLES * size].reshape(_DEVICE_TABLES, *shape),
        block[_DEVICE_TABLES * size :].reshape(_BEFORE_VERDICT + _VERDICT, *batch),
        codes[:size].reshape(shape),
        codes[size:].reshape(batch),
        bool(solved),
        bool(certified),
    )
