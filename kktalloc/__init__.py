"""Exact joint pruning, bandwidth, power and energy allocation for federated learning over wireless networks."""

from kktalloc._blocks import BlockSolution, solve_blocks
from kktalloc._certificate import Certificate
from kktalloc._diagnosis import Diagnosis
from kktalloc._files import load_scenario
from kktalloc._least import LeastEnergy, least_bandwidth, least_deadline, least_energy
from kktalloc._minmax import MinMaxSolution, solve_minmax
from kktalloc._prices import Prices
from kktalloc._problem import Cell, Devices, Problem
from kktalloc._pruning_error import Linear, PowerLaw, PruningError, Table
from kktalloc._reference import ReferenceSolution, solve_reference
from kktalloc._regime import Regime
from kktalloc._select import Selection, select
from kktalloc._solution import InfeasibleError, Solution, Status, UncertifiedError, certify, solve

__all__ = [
    "BlockSolution",
    "Cell",
    "Certificate",
    "Devices",
    "Diagnosis",
    "InfeasibleError",
    "LeastEnergy",
    "Linear",
    "MinMaxSolution",
    "PowerLaw",
    "Prices",
    "Problem",
    "PruningError",
    "ReferenceSolution",
    "Regime",
    "Selection",
    "Solution",
    "Status",
    "Table",
    "UncertifiedError",
    "certify",
    "least_bandwidth",
    "least_deadline",
    "least_energy",
    "load_scenario",
    "select",
    "solve",
    "solve_blocks",
    "solve_minmax",
    "solve_reference",
]
