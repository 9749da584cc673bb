"""Conic solvers as peers: what they answer is compared, and that they give up says nothing about our answer."""

from __future__ import annotations

import warnings
from math import nan
from typing import Any

import cvxpy as cp


def conic_value(program: cp.Problem) -> float:
    """The optimum by Clarabel, tried again with shorter steps; NaN where it says itself that it did not get there.

    On which problems it breaks off depends on the instruction set of the machine.
    """
    attempts: list[dict[str, Any]] = [{}, {"max_step_fraction": 0.9}]
    for options in attempts:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # the status says it
            try:
                program.solve(solver="CLARABEL", **options)
            except cp.SolverError:
                continue
        if program.status == "optimal":
            return float(program.value)
    return nan
