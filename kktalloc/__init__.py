"""Exact joint pruning, bandwidth, power and energy allocation for federated learning over wireless networks."""

from kktalloc._certificate import Certificate, certify
from kktalloc._diagnosis import Diagnosis, least_deadline
from kktalloc._kkt import Regime
from kktalloc._prices import Prices
from kktalloc._problem import Cell, Devices, Problem
from kktalloc._pruning_error import Linear, PowerLaw, PruningError, Table
from kktalloc._reference import ReferenceSolution, solve_reference
from kktalloc._solution import InfeasibleError, Solution, Status, UncertifiedError, solve

__all__ = [
    "Cell",
    "Certificate",
    "Devices",
    "Diagnosis",
    "InfeasibleError",
    "Linear",
    "PowerLaw",
    "Prices",
    "Problem",
    "PruningError",
    "ReferenceSolution",
    "Regime",
    "Solution",
    "Status",
    "Table",
    "UncertifiedError",
    "certify",
    "least_deadline",
    "solve",
    "solve_reference",
]
