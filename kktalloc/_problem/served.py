"""Which problems the compiled kernel takes.

It takes problems whose pruning error is linear, a power law or a table: those without a limit on a device's own
bandwidth, a clock or electronics, and, by an engine of its own, those with a clock or electronics. NumPy takes every
kind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import Linear, PowerLaw, Table
from kktalloc._problem.kernel import kernel, warn_of_the_slow_engine
from kktalloc._problem.problem import Problem

# Of kernel/problem.h: kinds of curves, and the most points of a table.
_POWER_LAW, _TABLE = 1, 2
_MOST_POINTS = 30000

# Of kernel/module.c: tables of what is found and judged of devices with a clock, with an entry per device and per
# problem.
CLOCK_TABLES = 13, 18


def serving(problem: Problem) -> Any:
    """The kernel if it takes this kind of problem, else None: the one place that decides."""
    return None if problem.bandwidth_limited or problem.clocked else _serving_curve(problem)


def serving_clocks(problem: Problem) -> Any:
    """The kernel if it takes this kind of problem with a clock or electronics, else None."""
    return _serving_curve(problem) if problem.clocked else None


def _serving_curve(problem: Problem) -> Any:
    curve = problem.pruning_error
    known = type(curve) in (Linear, PowerLaw) or (type(curve) is Table and np.shape(curve.error)[-1] <= _MOST_POINTS)
    if not known or problem.shape[-1] == 0:
        return None
    module = kernel()
    if module is None:
        warn_of_the_slow_engine(math.prod(problem.shape))
    return module


def serving_prices(problem: Problem) -> Any:
    """The kernel if it can be asked what these devices keep at a price, else None."""
    return _serving_curve(problem)


def serving_floors(problem: Problem) -> Any:
    """The kernel if it takes what is asked of the floors alone, for which curves play no part, else None."""
    return None if problem.shape[-1] == 0 or problem.bandwidth_limited or problem.clocked else kernel()


def curve_columns(problem: Problem) -> tuple[int, FloatArray, FloatArray, FloatArray | None] | None:
    """The pruning error as the kernel takes it: its kind and its arrays, per device where they are; None for linear."""
    curve = problem.pruning_error
    if type(curve) is PowerLaw:
        exponent, scale = (v.reshape(problem.sizes) if v.ndim else v for v in map(np.asarray, vars(curve).values()))
        return _POWER_LAW, exponent, scale, None
    if type(curve) is Table:
        arrays = (np.asarray(v) for v in (curve.pruning_ratio, curve.error, curve.slopes))
        ratio, error, slopes = (v.reshape(*problem.sizes, v.shape[-1]) if v.ndim > 1 else v for v in arrays)
        return _TABLE, ratio, error, slopes
    return None
