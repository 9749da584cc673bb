"""Every public name of the package, loaded when the first of them is asked for."""

from kktalloc._certificate.certificate import Certificate, certify
from kktalloc._certificate.prices import Prices
from kktalloc._certificate.reference import ReferenceSolution, solve_reference
from kktalloc._problem.curves import Linear, PowerLaw, PruningError, Table
from kktalloc._problem.fields import Cell, Devices
from kktalloc._problem.kernel import Engine, engine
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.save import save_scenario
from kktalloc._problem.scenario import load_scenario
from kktalloc._problem.schema import scenario_schema
from kktalloc._problem.stats import Stats
from kktalloc._questions.bits import BitSolution, solve_bits
from kktalloc._questions.blocks import BlockSolution, solve_blocks
from kktalloc._questions.cost import LeastCost, least_cost
from kktalloc._questions.diagnosis import Diagnosis
from kktalloc._questions.judgement import InfeasibleError, Status, UncertifiedError
from kktalloc._questions.least import LeastEnergy, least_bandwidth, least_deadline, least_energy
from kktalloc._questions.minmax import MinMaxSolution, solve_minmax
from kktalloc._questions.priced import PricedSolution, solve_priced
from kktalloc._questions.queue import EnergyQueue
from kktalloc._questions.select import Selection, select
from kktalloc._questions.solution import Solution, solve

__all__ = [
    "BitSolution",
    "BlockSolution",
    "Cell",
    "Certificate",
    "Devices",
    "Diagnosis",
    "EnergyQueue",
    "Engine",
    "InfeasibleError",
    "LeastCost",
    "LeastEnergy",
    "Linear",
    "MinMaxSolution",
    "PowerLaw",
    "PricedSolution",
    "Prices",
    "Problem",
    "PruningError",
    "ReferenceSolution",
    "Regime",
    "Selection",
    "Solution",
    "Stats",
    "Status",
    "Table",
    "UncertifiedError",
    "certify",
    "engine",
    "least_bandwidth",
    "least_cost",
    "least_deadline",
    "least_energy",
    "load_scenario",
    "save_scenario",
    "scenario_schema",
    "select",
    "solve",
    "solve_bits",
    "solve_blocks",
    "solve_minmax",
    "solve_priced",
    "solve_reference",
]
