"""The allocator's speed as ratios against its peers, interleaved in one run; prints the table of docs/speed.md.

PYTHONPATH=tests python tests/benchmarks/ratios.py [--peers-at-10000] [--write docs/speed.md]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from allocator_peers import Ipopt, Parametrised, Slsqp, cell_of, repaired
from tqdm import tqdm

import kktalloc as ka

CALLS = 100  # of ours in one turn, which would else be over before the caches are warm

MEMORY = """
import sys
sys.path[:0] = {path!r}
import numpy as np, kktalloc as ka
from allocator_peers import cell_of
K = 1_000_000
given = cell_of(K)
def rss():
    for line in open("/proc/self/status"):
        if line.startswith(sys.argv[1]): return int(line.split()[1]) * 1024
ka.solve(ka.Problem(*cell_of(1000)))
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts here
before = rss()
s = ka.solve(ka.Problem(*given))
print((rss() - before) / (8 * K))
"""


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def ours(given: tuple[ka.Cell, ka.Devices]) -> ka.Certificate:
    """Validation, solution and certificate."""
    certificate = ka.solve(ka.Problem(*given)).certificate
    assert certificate.ok
    return certificate


def of_numpy(problems: int | None) -> dict[str, ka.Problem]:
    """The kinds of problems that the compiled kernel leaves to NumPy, of 10 devices each."""
    cell, devices = cell_of(10, problems=problems)
    half = 0.5 * ka.solve(ka.Problem(cell, devices)).tx_power_w.sum(axis=-1)
    ratios = np.linspace(0.0, 1.0, 6)
    return {
        "square error": ka.Problem(cell, devices, ka.PowerLaw(2.0)),
        "error from a table of 6 points": ka.Problem(cell, devices, ka.Table(ratios, ratios**2)),
        "half the total power": ka.Problem(replace(cell, total_power_w=half), devices),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-at-10000", action="store_true", help="about a minute of Clarabel and IPOPT")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, str, str, str]] = []

    def row(what: str, asked: str, got: float, note: str) -> None:
        rows.append((what, asked, f"{got:.3g}", note))
        tqdm.write(" | ".join(rows[-1]))

    sizes = [10, 10_000] if options.peers_at_10000 else [10]
    for K in tqdm(sizes, desc="peers"):
        given = cell_of(K)
        problem = ka.Problem(*given)
        ipopt = Ipopt(problem)
        runs: dict[str, Callable[[], object]] = {
            "kktalloc": lambda given=given: [ours(given) for _ in range(CALLS)],
            "cold": lambda problem=problem: ka.solve_reference(problem),
            "ipopt": ipopt.solve,
        }
        if K == 10:
            parametrised, slsqp = Parametrised(problem), Slsqp(problem)
            runs |= {"parametrised": parametrised.solve, "slsqp": slsqp.solve}
        t = interleaved(runs, 50 if K == 10 else 1)
        t["kktalloc"] /= CALLS
        theirs = {"cold": ka.solve_reference(problem).bandwidth_hz, "ipopt": ipopt.solve()[1]}
        gaps = {name: repaired(problem, bandwidth) for name, bandwidth in theirs.items()}
        gap = float(ours(given).duality_gap)
        took = f"{t['cold'] * 1e3:.3g} / {t['kktalloc'] * 1e3:.3g} ms"
        least = {10: ("200", "30"), 10_000: ("300", "50")}[K]
        row(f"K = {K}: CVXPY+Clarabel cold / kktalloc", f">= {least[0]}", t["cold"] / t["kktalloc"],
            f"{took}; gap {gaps['cold']:.1e} against {gap:.1e}")  # fmt: skip
        row(f"K = {K}: IPOPT / kktalloc", f">= {least[1]}", t["ipopt"] / t["kktalloc"],
            f"{t['ipopt'] * 1e3:.3g} ms; gap {gaps['ipopt']:.1e}")  # fmt: skip
        if K == 10:
            row("K = 10: CVXPY re-solved with parameters / kktalloc", "", t["parametrised"] / t["kktalloc"],
                f"{t['parametrised'] * 1e3:.3g} ms; gap {repaired(problem, parametrised.solve()[1]):.1e}")  # fmt: skip
            row("K = 10: SciPy SLSQP / kktalloc", "", t["slsqp"] / t["kktalloc"],
                f"{t['slsqp'] * 1e3:.3g} ms; gap {repaired(problem, slsqp.solve()[1]):.1e}")  # fmt: skip

    large, middle, small = (cell_of(K) for K in (1_000_000, 100_000, 10_000))
    many = cell_of(10, problems=10_000)
    solution = ka.solve(ka.Problem(*large))
    b, p = solution.bandwidth_hz, solution.tx_power_w
    g = np.asarray(large[1].channel_gain) / large[0].noise_psd_w_per_hz
    kept = ka.Problem(*large)
    t = interleaved(
        {
            "expression": lambda: b * np.log2(1 + g * p / b),
            "solve": lambda: ka.solve(kept),
            "all": lambda: ours(large),
            "middle": lambda: ours(middle),
            "small": lambda: ours(small),
            "many": lambda: ours(many),
        },
        options.repeats,
    )
    row("K = 10^6: solve with certificate / `b*np.log2(1+g*p/b)`", "<= 15", t["solve"] / t["expression"],
        f"{t['solve'] * 1e3:.3g} ms / {t['expression'] * 1e3:.3g} ms")  # fmt: skip
    row("K = 10^6: the same with validation", "", t["all"] / t["expression"], f"{t['all'] * 1e3:.3g} ms")
    row("10,000 x 10 in one call / 1 x 100,000", "<= 2", t["many"] / t["middle"],
        f"{t['many'] * 1e3:.3g} ms / {t['middle'] * 1e3:.3g} ms")  # fmt: skip
    row("time per device, 10^6 / 10^4", "<= 2", t["all"] / t["small"] / 100, f"{t['small'] * 1e3:.3g} ms at 10^4")
    t = interleaved(
        {f"{kind} {n}": partial(ka.solve, problem) for n in (None, 1000) for kind, problem in of_numpy(n).items()},
        options.repeats,
    )
    for kind in of_numpy(None):
        row(f"K = 10: {kind}, by the NumPy engine", "", t[f"{kind} None"] * 1e3,
            f"ms; {t[f'{kind} 1000']:.3g} ms each where 1000 are solved in one call")  # fmt: skip
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    # Freed arrays go back at once, so that the high-water mark counts those alive.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    command = [sys.executable, "-c", MEMORY.format(path=here), "VmHWM"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    row(
        "K = 10^6: arrays of length K beyond the inputs, at the peak, validation included",
        "<= 12",
        float(done.stdout),
        "VmHWM, fresh process",
    )
    lines = ["| what | asked | measured | |", "|---|---|---|---|", *(f"| {' | '.join(r)} |" for r in rows)]
    print("\n".join(lines))
    if options.write:
        text = options.write.read_text()
        start, end = (text.index(mark) for mark in ("<!-- table -->", "<!-- end -->"))
        options.write.write_text(text[:start] + "<!-- table -->\n" + "\n".join(lines) + "\n" + text[end:])


if __name__ == "__main__":
    main()
