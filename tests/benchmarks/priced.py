"""Processor time of ten devices that pay for energy or choose bits, certificate included; best of several, in turns.

PYTHONPATH=tests python tests/benchmarks/priced.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from allocator_peers import cell_of, clocked_cell_of

import kktalloc as ka


def questions(K: int = 10) -> dict[str, Callable[[], Any]]:
    """By the names of the rows: what is asked of the cell that the other benchmarks take, and of its clocks."""
    problem, clocked = ka.Problem(*cell_of(K)), ka.Problem(*clocked_cell_of(K))
    free = ka.solve(problem)
    joules = float(np.sum(free.energy_j))
    level = np.minimum(1.0, np.asarray(free.pruning_ratio) + 0.1)
    kept = np.minimum(1.0, np.asarray(ka.solve(clocked).pruning_ratio) + 0.1)
    watts = joules / float(np.ravel(problem.cell.deadline_s)[0])
    bits = np.array([1, 2, 4, 8])

    return {
        "solve_priced, a price": lambda: ka.solve_priced(problem, energy_price_per_j=0.5 / joules),
        "solve_priced, a shared budget": lambda: ka.solve_priced(problem, shared_energy_j=0.8 * joules),
        "least_cost": lambda: ka.least_cost(problem, time_weight=watts, pruning_ratio=level),
        "least_cost, clocks and electronics": lambda: ka.least_cost(clocked, time_weight=watts, pruning_ratio=kept),
        "solve_bits, four offers": lambda: ka.solve_bits(problem, bits, 0.5 / 4.0**bits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    asked = questions()
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(parser.parse_args().repeats):
        for name, ask in asked.items():
            start = time.process_time()
            answer = ask()
            assert answer.certificate.ok
            seconds[name].append(time.process_time() - start)
    print("| ten devices | processor time |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {min(values):.2g} s |")


if __name__ == "__main__":
    main()
