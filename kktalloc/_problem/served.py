"""Which problems the compiled kernel takes, and with how many threads.

It takes linear pruning error without a cap on total power; NumPy takes every kind.
"""

from __future__ import annotations

import os
from typing import Any

from kktalloc._problem.curves import Linear
from kktalloc._problem.kernel import kernel
from kktalloc._problem.problem import Problem

# Below this a second thread costs more than it saves.
_THREADED_DEVICES = 16384


def serving(problem: Problem) -> Any:
    """The kernel if it takes this kind of problem, else None: the one place that decides."""
    common = problem.shape[-1] > 0 and not problem.capped and isinstance(problem.pruning_error, Linear)
    return kernel() if common else None


def threads(problem: Problem) -> int:
    N, K = problem.sizes
    if N * K < _THREADED_DEVICES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
