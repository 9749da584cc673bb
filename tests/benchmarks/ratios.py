"""The allocator's speed as ratios against its peers, interleaved in one run; prints the table of docs/speed.md.

In processor time of the calling thread; large problems by the clock on the wall, too.

PYTHONPATH=tests python tests/benchmarks/ratios.py [--peers-at-10000] [--peers-alone] [--write docs/speed.md]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import questions
from allocator_peers import Ipopt, Parametrised, Slsqp, cell_of, clocked_cell_of, repaired
from tqdm import tqdm

import kktalloc as ka
from kktalloc._problem.threads import usable_processors

CALLS, PEERS_CALLS = 100, 5  # in a row, of ours and of each peer's

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


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Seconds of each, taking turns: the quickest eighth, for whoever else is at work on the machine only adds time."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    if repeats == 1:
        return {name: taken[0] for name, taken in seconds.items()}
    return {name: min(taken) if repeats < 8 else statistics.quantiles(taken, n=8)[0] for name, taken in seconds.items()}


def turns(runs: dict[str, tuple[Callable[[], object], int]], repeats: int) -> dict[str, tuple[float, float]]:
    """Processor seconds of a call of each by two measures, both the quickest eighth of its turns.

    Who has the turn makes so many calls in a row, as a scheduler does in its loop: the mean of all but the first. And
    the first of them, which finds the caches as another program has left them.
    """
    first: dict[str, list[float]] = {name: [] for name in runs}
    rest: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (run, calls) in runs.items():
            start = time.thread_time()
            run()
            once = time.thread_time()
            for _ in range(calls):
                run()
            rest[name].append((time.thread_time() - once) / calls)
            first[name].append(once - start)
    quickest = {name: [statistics.quantiles(v, n=8)[0] for v in (rest[name], first[name])] for name in runs}
    return {name: (loop, once) for name, (loop, once) in quickest.items()}


def ours(given: tuple[ka.Cell, ka.Devices]) -> ka.Certificate:
    """Validation, solution and certificate."""
    certificate = ka.solve(ka.Problem(*given)).certificate
    assert certificate.ok
    return certificate


def curves(shape: tuple[int, ...], seed: int = 0) -> dict[str, ka.PruningError | None]:
    """Errors of the kinds that the kernel serves: the linear one; power laws and tables, common and of each device."""
    rng = np.random.default_rng(seed)
    exponent, scale = rng.uniform(1.5, 3.0, shape), rng.uniform(0.5, 2.0, shape)
    ratio = np.linspace(0.0, 1.0, 9)
    return {
        "linear": None,
        "power law": ka.PowerLaw(2.0),
        "power laws, one per device": ka.PowerLaw(exponent, scale),
        "table of 9 points": ka.Table(ratio, ratio**2),
        "tables of 9 points, one per device": ka.Table(ratio, scale[..., None] * ratio ** exponent[..., None]),
    }


def certified(problem: ka.Problem, calls: int = 1, threads: int | None = None) -> ka.Solution:
    """The solution, `calls` times over."""
    for _ in range(calls):
        solution = ka.solve(problem, threads=threads)
    return solution


def verdict(problem: ka.Problem) -> str:
    """Status, gap, and whether the kernel did it alone."""
    solution = ka.solve(problem)
    assert solution.certificate.ok
    assert solution.stats is not None
    gap = float(np.max(np.abs(solution.certificate.duality_gap)))
    return f"optimal, gap {gap:.1e}, {solution.stats.engine}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-at-10000", action="store_true", help="about a minute of Clarabel and IPOPT")
    parser.add_argument("--peers-alone", action="store_true", help="nothing but the comparison with other solvers")
    parser.add_argument("--repeats", type=int, default=9)
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
        peers: dict[str, Callable[[], Any]] = {
            "CVXPY+Clarabel cold": lambda problem=problem: (None, ka.solve_reference(problem).bandwidth_hz),
            "IPOPT": ipopt.solve,
        }
        if K == 10:
            peers["CVXPY re-solved with parameters"] = Parametrised(problem).solve
            peers["SciPy SLSQP"] = Slsqp(problem).solve
        answers = {name: run()[1] for name, run in peers.items()}
        gap = float(ours(given).duality_gap)
        asked = {10: ("400", "100"), 10_000: ("300", "50")}[K]
        least = dict(zip(peers, asked, strict=False))
        runs = {
            "kktalloc": (lambda given=given: ours(given), CALLS),
            **{name: (run, PEERS_CALLS) for name, run in peers.items()},
        }
        if K == 10:
            t = turns(runs, 12)
        else:
            alone = interleaved({name: run for name, (run, _) in runs.items()}, 1, time.thread_time)
            t = {name: (seconds, seconds) for name, seconds in alone.items()}
        for name in peers:
            (loop, once), (our_loop, our_once) = t[name], t["kktalloc"]
            most = f">= {least[name]}" if name in least else ""
            what = f"K = {K}: {name} / kktalloc" + (", calls in a row" if K == 10 else "")
            gaps = f"gap {repaired(problem, answers[name]):.1e} against {gap:.1e}"
            row(what, most, loop / our_loop, f"{loop * 1e3:.3g} / {our_loop * 1e3:.3g} ms; {gaps}")
            if K == 10:
                row(f"K = {K}: the same, one call between the others'", "", once / our_once,
                    f"{once * 1e3:.3g} / {our_once * 1e3:.3g} ms")  # fmt: skip

    if options.peers_alone:
        return

    given = cell_of(10)
    of_kind = {name: ka.Problem(*given, curve) for name, curve in curves((10,)).items()}
    build = lambda: [ka.Problem(*given) for _ in range(CALLS)]  # noqa: E731
    t = interleaved(
        {"build": build} | {name: partial(certified, problem, CALLS) for name, problem in of_kind.items()},
        40,
        time.thread_time,
    )
    row("K = 10: building the problem / solving it", "<= 1", t["build"] / t["linear"],
        f"{t['build'] / CALLS * 1e6:.3g} / {t['linear'] / CALLS * 1e6:.3g} us")  # fmt: skip
    for name, most in (("power laws, one per device", 3), ("tables of 9 points, one per device", 4)):
        row(f"K = 10: {name} / linear", f"<= {most}", t[name] / t["linear"], verdict(of_kind[name]))

    shape = 1_000, 10
    batch = cell_of(10, problems=1_000)
    of_kind = {name: ka.Problem(*batch, curve) for name, curve in curves(shape).items()}
    t = interleaved({name: partial(certified, problem) for name, problem in of_kind.items()}, 40, time.thread_time)
    for name, problem in list(of_kind.items())[1:]:
        row(f"1,000 x 10 in one call: {name} / linear", "<= 3", t[name] / t["linear"],
            f"{t[name] * 1e3:.3g} / {t['linear'] * 1e3:.3g} ms; {verdict(problem)}")  # fmt: skip

    cells = {name: cell_of(K) for name, K in (("all", 1_000_000), ("middle", 100_000), ("small", 10_000))}
    cells["many"] = cell_of(10, problems=10_000)
    large = cells["all"]
    t = interleaved(
        {name: partial(ours, which) for name, which in cells.items()},
        options.repeats,
    )
    row("10,000 x 10 in one call / 1 x 100,000", "<= 2", t["many"] / t["middle"],
        f"{t['many'] * 1e3:.3g} ms / {t['middle'] * 1e3:.3g} ms")  # fmt: skip
    row("time per device, 10^6 / 10^4", "<= 2", t["all"] / t["small"] / 100, f"{t['small'] * 1e3:.3g} ms at 10^4")
    clocks = {K: ka.Problem(*clocked_cell_of(K)) for K in (10_000, 100_000)}
    t = interleaved({str(K): partial(certified, problem) for K, problem in clocks.items()}, options.repeats)
    row("clock and electronics: time per device, 10^5 / 10^4", "<= 2", t["100000"] / t["10000"] / 10,
        f"{t['10000'] * 1e3:.3g} ms at 10^4; {verdict(clocks[100_000])}")  # fmt: skip
    for name, curve in curves((1_000_000,)).items():
        problem, linear = ka.Problem(*large, curve), curve is None
        note = verdict(problem)
        solution = ka.solve(problem)
        b, p = solution.bandwidth_hz, solution.tx_power_w
        g = np.asarray(large[1].channel_gain) / large[0].noise_psd_w_per_hz
        del solution

        def expression(b: np.ndarray = b, g: np.ndarray = g, p: np.ndarray = p) -> np.ndarray:
            return b * np.log2(1 + g * p / b)

        runs = {"expression": expression, "solve": partial(certified, problem)}
        t = interleaved(runs, options.repeats)
        runs["solve"] = partial(certified, problem, threads=1)
        alone = interleaved(runs, options.repeats, time.thread_time)
        what = "solve with certificate / `b*np.log2(1+g*p/b)`" if linear else f"{name} / the same expression"
        row(f"K = 10^6: {what}", "<= 11" if linear else "<= 30", alone["solve"] / alone["expression"],
            f"one thread each, processor time; {note}; by the clock {t['solve'] * 1e3:.3g} ms of "
            f"{usable_processors()} threads / {t['expression'] * 1e3:.3g} ms of one")  # fmt: skip
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    # Freed arrays go back at once, so that the high-water mark counts those alive.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    command = [sys.executable, "-c", MEMORY.format(path=here), "VmHWM"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    row(
        "K = 10^6: arrays of length K beyond the inputs, at the peak, validation included",
        "<= 10",
        float(done.stdout),
        "VmHWM, fresh process",
    )
    for name, (ratio, said) in questions.measure(options.repeats * 4)[1].items():
        most = questions.questions()[1][name].most
        row(f"K = 10: {name} / plain solve", f"<= {most:g}" if np.isfinite(most) else "", ratio, said)
    lines = ["| what | asked | measured | |", "|---|---|---|---|", *(f"| {' | '.join(r)} |" for r in rows)]
    print("\n".join(lines))
    if options.write:
        text = options.write.read_text()
        start, end = (text.index(mark) for mark in ("<!-- table -->", "<!-- end -->"))
        options.write.write_text(text[:start] + "<!-- table -->\n" + "\n".join(lines) + "\n" + text[end:])


if __name__ == "__main__":
    main()
