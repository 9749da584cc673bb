"""The compiled engine (``kktalloc/kernel``).

It follows the same equations as the NumPy engine, which is the reference, and both meet the same certificate.
"""

from __future__ import annotations

import math

import numpy as np

from kktalloc._problem.allocation import Allocation
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import Table
from kktalloc._problem.problem import Problem
from kktalloc._problem.served import curve_columns, serving
from kktalloc._problem.threads import threads_for

_SOLVED = 0  # of the states in kernel/problem.h

_HUGE_PAGE = 1 << 21  # bytes
_LARGE = 1 << 19  # entries, of two such pages: from here on NumPy asks for them


def _on_huge_pages(shape: tuple[int, ...]) -> FloatArray:
    """An array to be filled that starts on a huge page: memory that the system clears in single pages, as the threads
    come upon it, takes a tenth of the time of a large solution.
    """
    size = 8 * math.prod(shape)
    raw = np.empty((1 - (-size // _HUGE_PAGE)) * _HUGE_PAGE, np.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    return raw[start : start + size].view(np.float64).reshape(shape)


def solve(problem: Problem, threads: int | None = None) -> Allocation | None:
    """Allocation by the compiled kernel, or None where it does not serve."""
    module = serving(problem)
    if module is None:
        return None
    shape, batch = problem.shape, problem.batch_shape
    new = _on_huge_pages if math.prod(shape) >= _LARGE else np.empty
    rho, b, p, upload, latency, energy = (new(shape) for _ in range(6))
    regime, state = np.empty(shape, np.int8), np.empty(batch, np.int8)
    objective, price, per_w, scratch = np.empty(batch), np.empty(batch), np.empty(batch), new((2, *shape))
    curve = curve_columns(problem)
    piece = np.empty(shape, np.int16) if isinstance(problem.pruning_error, Table) else None
    module.solve(
        *problem.columns, curve, *problem.sizes, threads_for(math.prod(problem.sizes), threads),
        rho, b, p, upload, latency, energy, regime, objective, price, per_w, state, scratch, piece,
    )  # fmt: skip
    solved = np.asarray(state == _SOLVED)
    return Allocation(rho, b, p, upload, latency, energy, objective, regime, price, per_w, solved, scratch)
