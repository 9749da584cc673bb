"""Devices with a clock: random cells of ten over the plain cell, and what large cells take for each device.

``PYTHONPATH=tests python tests/benchmarks/clocks.py``, and ``--large 10000 100000 1000000``.

Random cells are `clock_cell` of ``tests/clock_cases.py``, which meet far more corners than phones do; large cells are
those of phones, on one thread. Each takes turns with the plain cell of as many devices, small ones several times in a
row so that caches are warm. The least processor time of the turns counts for both; certificates are included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

import numpy as np
from allocator_peers import cell_of, clocked_cell_of
from clock_cases import clock_cell
from questions import questions

import kktalloc as ka
from kktalloc import _command


def _seconds(call: Callable[[], object], calls: int) -> float:
    """Processor time of each of several calls in a row."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


def _in_turns(clocked: ka.Problem, plain: Callable[[], object], calls: int, repeats: int) -> tuple[float, float]:
    """The least seconds of both."""
    turns = [(_seconds(lambda: ka.solve(clocked), calls), _seconds(plain, 3 * calls)) for _ in range(repeats)]
    own, other = np.min(turns, axis=0)
    return float(own), float(other)


def _random_cells(first: int, cells: int, repeats: int) -> None:
    plain, _ = questions()
    found = []
    for seed in range(first, first + cells):
        problem = clock_cell(np.random.default_rng(seed), 10, roomy=True)
        if ka.solve(problem, throw=False).diagnosis is None:
            found.append(_in_turns(problem, plain, 10, repeats))
    own, other = np.array(found).T
    ratios = own / other
    half, most, slowest = np.quantile(ratios, [0.5, 0.9, 1.0])
    print(f"{ratios.size} feasible cells over the plain one ({np.median(other) * 1e6:.3g} us): half within {half:.3g}, "
          f"90 % within {most:.3g}, all within {slowest:.3g}; {np.mean(ratios <= 10.0):.0%} within 10")  # fmt: skip


def _large_cells(sizes: list[int], repeats: int) -> None:
    print("| devices | with a clock | each | plain | each | certificate, gap |\n|---|---|---|---|---|---|")
    for K in sizes:
        clocked, usual = ka.Problem(*clocked_cell_of(K)), ka.Problem(*cell_of(K))
        solution = ka.solve(clocked)
        own, other = _in_turns(clocked, lambda p=usual: ka.solve(p), 1, repeats)  # type: ignore[misc]
        print(f"| {K:,} | {own * 1e3:.3g} ms | {own / K * 1e6:.3g} us | {other * 1e3:.3g} ms | {other / K * 1e6:.2g} us"
              f" | {solution.certificate.ok}, {float(solution.certificate.duality_gap):.0e} |", flush=True)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first cell; each has its own")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--large", type=int, nargs="+", metavar="K", help="large cells of so many devices instead")
    args = parser.parse_args()
    if args.large:
        os.environ["KKTALLOC_THREADS"] = "1"
        _large_cells(args.large, args.repeats)
    else:
        _random_cells(args.seed, args.cells, args.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(_command.run("clocks", main))
