"""Measures the allocator's calls at the commit that is checked out, keeps the figures, compares them with earlier ones.

    PYTHONPATH=tests python tests/benchmarks/history.py [--slower 1.3] [--against COMMIT] [--dry]

A time depends on the machine and on who else uses it. What is kept is the cost of a call in evaluations of one NumPy
expression, which takes turns with it, in processor time of one thread: commits measured in different places can be
compared. Every measured commit is a line of ``tests/benchmarks/history.jsonl``; commit it with what it measures. Exit
code 1 where a call costs more than that factor beyond the last commit measured before, or `--against`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from allocator_peers import cell_of
from tqdm import tqdm

import kktalloc as ka

KEPT = Path(__file__).with_suffix(".jsonl")
TURNS = 60
TURN_S = 2e-3  # of one turn, long beside the clock's own steps


def calls() -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    cell, devices = given = cell_of(10)
    problem = ka.Problem(*given)
    plain = ka.solve(problem)
    ratio, scale = np.linspace(0.0, 1.0, 9), np.linspace(0.5, 2.0, 10)
    level = np.minimum(1.0, plain.pruning_ratio + 0.05)
    batch = cell_of(10, problems=1_000)
    solved = {
        "solve": problem,
        "solve, power laws": ka.Problem(*given, ka.PowerLaw(np.linspace(1.5, 3.0, 10), scale)),
        "solve, tables": ka.Problem(*given, ka.Table(ratio, scale[:, None] * ratio**2)),
        "solve, half the total power": ka.Problem(
            replace(cell, total_power_w=0.5 * float(plain.tx_power_w.sum())), devices
        ),
        "solve 1,000 x 10": ka.Problem(*batch),
        "solve 1,000 x 10, tables": ka.Problem(*batch, ka.Table(ratio, ratio**2)),
        "solve 100,000": ka.Problem(*cell_of(100_000)),
    }
    crowded = ka.Problem(
        replace(cell, bandwidth_hz=0.5 * cell.bandwidth_hz), replace(devices, pruning_ratio_max=plain.pruning_ratio)
    )
    return {
        "build": lambda: ka.Problem(*given),
        **{name: lambda asked=asked: ka.solve(asked, threads=1) for name, asked in solved.items()},
        "min-max": lambda: ka.solve_minmax(problem),
        "least deadline": lambda: ka.least_deadline(problem, level),
        "least bandwidth": lambda: ka.least_bandwidth(problem, level),
        "infeasible": lambda: ka.solve(crowded, throw=False),
        "select": lambda: ka.select(crowded),
    }


def expression() -> Callable[[], np.ndarray]:
    """The yardstick: rates of 10,000 devices."""
    b, p, g = np.random.default_rng(0).uniform(0.5, 1.5, (3, 10_000))
    return lambda: b * np.log2(1 + g * p / b)


def seconds(call: Callable[[], Any], count: int) -> float:
    """Processor time of one call in a turn of `count`."""
    start = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - start) / count


def cost(call: Callable[[], Any], unit: Callable[[], Any], turns: int = TURNS) -> float:
    """Evaluations of the yardstick that one call takes; the quickest eighth of the turns tells, for others only add."""
    both = call, unit
    count = [max(1, round(TURN_S / max(min(seconds(one, 1) for _ in range(3)), 1e-7))) for one in both]
    taken = [[seconds(one, n) for one, n in zip(both, count, strict=True)] for _ in range(turns)]
    mine, its = (statistics.quantiles(of, n=8)[0] for of in zip(*taken, strict=True))
    return mine / its


def compare(then: dict[str, float], now: dict[str, float], slower: float) -> list[str]:
    """The calls that cost more than `slower` times what they did; a call that is new costs what it costs."""
    return [name for name, value in now.items() if name in then and value > slower * then[name]]


def git(*words: str) -> str:
    """What git says of this repository."""
    return subprocess.run(["git", *words], cwd=KEPT.parent, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slower", type=float, default=1.3, help="factor beyond which a call counts as slower")
    parser.add_argument("--against", help="commit to compare with; by default the last one that was measured")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    options = parser.parse_args()
    lines = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    known = {line["commit"]: line["cost"] for line in lines}
    head = git("rev-parse", "HEAD")
    before = [git("rev-parse", options.against)] if options.against else git("rev-list", "HEAD~1").split()
    earlier = next((commit for commit in before if commit in known), None)
    then, unit = known.get(earlier, {}), expression()
    now = {name: cost(call, unit) for name, call in tqdm(calls().items(), desc="calls")}
    print(f"| call | {earlier[:8] if earlier else 'none before'} | {head[:8]} | ratio |\n|---|---|---|---|")
    for name, value in now.items():
        was, ratio = (f"{then[name]:.3g}", f"{value / then[name]:.2f}") if name in then else ("", "")
        print(f"| {name} | {was} | {value:.3g} | {ratio} |")
    if not options.dry:
        line = {
            "commit": head, "date": git("show", "-s", "--format=%cs"), "machine": platform.machine(),
            "engine": str(ka.engine()), "cost": {name: float(f"{value:.4g}") for name, value in now.items()},
        }  # fmt: skip
        kept = [one for one in lines if one["commit"] != head]
        KEPT.write_text("".join(json.dumps(one) + "\n" for one in [*kept, line]))
    slower = compare(then, now, options.slower)
    if slower:
        print(f"slower by more than {options.slower:g} times: {', '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
