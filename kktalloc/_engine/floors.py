"""What the floors of every device take, and the least that serves them, by the compiled kernel."""

from __future__ import annotations

from contextvars import ContextVar
from enum import IntEnum

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.served import serving_floors
from kktalloc._problem.stats import enter

_OF_PROBLEM, _OF_DEVICE = 5, 4  # of kernel/problem.h

# Set while a question is asked again, of NumPy alone.
numpy_alone: ContextVar[bool] = ContextVar("kktalloc_numpy_alone", default=False)


class Question(IntEnum):
    """In the order of kernel/problem.h, which tells what is answered."""

    FLOORS = 0
    CELLS = 1
    DEADLINE = 2
    ENERGY = 3
    LEVEL = 4
    SELECTION = 5


# Those that search for nothing, and are part of every engine's answer.
_PLAIN = (Question.FLOORS, Question.SELECTION)


def ask(problem: Problem, question: Question) -> tuple[FloatArray, FloatArray] | None:
    """The answer for each problem, shape ``(4, N)``, and for each device, ``(4, N, K)``; None where NumPy serves."""
    module = serving_floors(problem)
    if module is None or numpy_alone.get():
        return None
    N, K = problem.sizes
    of_problem, of_device = np.empty((_OF_PROBLEM, N)), np.empty((_OF_DEVICE, N, K))
    module.least(int(question), *problem.columns, N, K, of_problem, of_device)
    if question not in _PLAIN:
        enter("compiled", int(of_problem[-1].sum()))
    return of_problem[:-1], of_device
