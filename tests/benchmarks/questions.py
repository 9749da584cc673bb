"""What each question costs beside a plain solve of the same 10 devices, taking turns in one run.

PYTHONPATH=tests python tests/benchmarks/questions.py [--repeats 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from allocator_peers import cell_of, clocked_cell_of

import kktalloc as ka

TURN = 2e-3  # seconds of one turn, so that caches are warm and the clock's own steps do not matter


@dataclass(frozen=True)
class Question:
    """One row: what is asked, the ratio to a plain solve that it should not exceed, and how its answer is judged."""

    ask: Callable[[], Any]
    most: float
    verdict: Callable[[Any], str]


def of_solution(answer: Any) -> str:
    """Gap and status of what carries a certificate."""
    gap = float(np.max(answer.certificate.duality_gap))
    return f"{str(answer.status).partition(':')[0]}; gap {gap:.1e}"


def of_number(value: Any) -> str:
    """A number is returned only where its verdict holds."""
    return f"certified; {float(value):.6g}"


def questions(K: int = 10) -> tuple[Callable[[], Any], dict[str, Question]]:
    """The plain solve, and everything else that can be asked of the same cell."""
    cell, devices = cell_of(K)
    problem = ka.Problem(cell, devices)
    plain = ka.solve(problem)
    clocked = ka.Problem(*clocked_cell_of(K))
    half = ka.Problem(replace(cell, total_power_w=0.5 * float(plain.tx_power_w.sum())), devices)
    # Floors at what the plain solution keeps take all of the bandwidth: twice as much is more than there is.
    level = np.minimum(1.0, plain.pruning_ratio + 0.05)
    crowded = ka.Problem(
        replace(cell, bandwidth_hz=0.5 * cell.bandwidth_hz), replace(devices, pruning_ratio_max=plain.pruning_ratio)
    )

    def refused() -> Exception:
        try:
            ka.solve(crowded)
        except ka.InfeasibleError as error:
            return error
        raise AssertionError("two floors' worth in half the bandwidth")

    def infeasible(answer: Any) -> str:
        assert not answer.diagnosis.feasible
        return "infeasible, as it should be"

    return lambda: ka.solve(problem), {
        "clock and electronics": Question(lambda: ka.solve(clocked), 10, of_solution),
        "half the total power": Question(lambda: ka.solve(half), 10, of_solution),
        "min-max": Question(lambda: ka.solve_minmax(problem), 10, of_solution),
        "min-max, half the total power": Question(lambda: ka.solve_minmax(half), np.inf, of_solution),
        "least deadline": Question(lambda: ka.least_deadline(problem, level), 15, of_number),
        "least bandwidth": Question(lambda: ka.least_bandwidth(problem, level), 15, of_number),
        "least energy": Question(lambda: ka.least_energy(problem, level), 15, of_solution),
        "infeasible, raising": Question(refused, 4, infeasible),
        "infeasible, throw=False": Question(lambda: ka.solve(crowded, throw=False), 3, infeasible),
        "select on an infeasible cell": Question(lambda: ka.select(crowded), 6, of_solution),
    }


def measure(repeats: int, K: int = 10) -> tuple[float, dict[str, tuple[float, str]]]:
    """Seconds of a plain solve; of each question the ratio to it, and what was made of its answer."""
    plain, asked = questions(K)
    runs = {"": plain} | {name: q.ask for name, q in asked.items()}
    verdicts = {name: q.verdict(q.ask()) for name, q in asked.items()}
    calls = {}
    for name, run in runs.items():
        start = time.perf_counter()
        run()
        run()
        calls[name] = max(1, round(TURN / (time.perf_counter() - start) * 2))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    # Whoever else is at work on the machine only ever adds time: the quickest tenth of the turns tells.
    taken = {name: statistics.quantiles(values, n=10)[0] for name, values in seconds.items()}
    return taken[""], {name: (taken[name] / taken[""], verdicts[name]) for name in asked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write the ratios there")
    options = parser.parse_args()
    plain, found = measure(options.repeats)
    asked = questions()[1]
    print(f"plain solve of 10 devices: {plain * 1e6:.1f} us")
    print("| question | asked | measured | |\n|---|---|---|---|")
    for name, (ratio, verdict) in found.items():
        limit = f"<= {asked[name].most:g}" if np.isfinite(asked[name].most) else ""
        print(f"| K = 10: {name} / plain solve | {limit} | {ratio:.3g} | {verdict} |")
    if options.json:
        options.json.write_text(json.dumps({"plain_s": plain} | {n: r for n, (r, _) in found.items()}, indent=1))


if __name__ == "__main__":
    main()
