"""Which problems the compiled kernel takes.

It takes linear pruning error without a cap on total power; NumPy takes every kind.
"""

from __future__ import annotations

import math
from typing import Any

from kktalloc._problem.curves import Linear
from kktalloc._problem.kernel import kernel, warn_of_the_slow_engine
from kktalloc._problem.problem import Problem


def serving(problem: Problem) -> Any:
    """The kernel if it takes this kind of problem, else None: the one place that decides."""
    common = problem.shape[-1] > 0 and not problem.capped and isinstance(problem.pruning_error, Linear)
    if not common:
        return None
    warn_of_the_slow_engine(math.prod(problem.shape))
    return kernel()
