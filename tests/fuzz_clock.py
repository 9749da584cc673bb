"""Long fuzz of devices with a clock and electronics: ``python tests/fuzz_clock.py --cells 10000 --seed 300``.

Cells of 1, 2, 3, 5 and 8 devices. Every outcome must be a certified solution, whose power is balanced to 1e-10 wherever
energy is shared between clock and radio or the electronics end an upload early, or an infeasibility that golden
sections on the original constraints confirm. `--starts` n > 0 also runs IPOPT (by CasADi) from n
random points on the original variables, keep ratio, upload time, bandwidth, power and clock of each device: the
objective of the solution must not be above the best of them, made exactly feasible, by more than 1e-9 of its scale.
That search knows nothing of the solver: with `--record FILE` what it finds is kept, one line per chunk of cells, and
not searched again, so that a run that was broken off goes on, and another solver is compared in seconds.
Exit code 1 if anything else happened.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from clock_cases import all_in_one, brute_bandwidth_hz, clock_cells
from fuzz_report import report
from numpy.typing import NDArray

import kktalloc as ka
from kktalloc import _command

FloatArray = NDArray[np.float64]
DEVICES = (1, 2, 3, 5, 8)
CHUNK = 200  # cells of one number of devices
HALVINGS = 42


Judged = tuple[Counter[str], dict[str, float], list[str], list[float | None] | None]


def judge(seed: int, number: int, starts: int, known: list[float | None] | None = None) -> Judged:
    """Chunk `number` of a seed: what came out, the worst of each figure, what is wrong, and the best of IPOPT.

    `known` is the last of an earlier run: objectives, None where it was not asked.
    """
    rng = np.random.default_rng([seed, number])
    problem = clock_cells(rng, CHUNK, DEVICES[number % len(DEVICES)])
    solution = ka.solve(problem, throw=False)
    status = np.array([s.name for s in solution.status])
    counts = Counter(status.tolist())
    wrong = [f"chunk {number}[{i}]: {solution.certificate.worst}" for i in np.flatnonzero(status == "UNCERTIFIED")]
    floors = _least(problem, 1.0 - np.asarray(problem.devices.pruning_ratio_max))
    B = np.asarray(problem.cell.bandwidth_hz)[:, 0]
    feasible = floors.sum(axis=1) <= B * (1.0 - 1e-9)
    wrong += [f"chunk {number}[{i}]: called infeasible" for i in np.flatnonzero(feasible & (status == "INFEASIBLE"))]
    fine = status == "OPTIMAL"
    counts.update(ka.Regime(int(code)).name.lower() for code in solution.regime[fine].ravel())
    worst = {"power balance": float(_imbalance(problem, solution)[fine].max(initial=0.0))}
    if worst["power balance"] > 1e-10:
        wrong.append(f"chunk {number}: power is off balance by {worst['power balance']:.1e}")
    residuals = {"gap": solution.certificate.duality_gap, **solution.certificate.residuals}
    worst |= {name: float(np.max(values[fine], initial=0.0)) for name, values in residuals.items()}
    if starts and known is None:
        known = _searched(problem, floors, feasible, starts, rng)
    if known is not None:
        best = np.array([np.inf if v is None else v for v in known])
        compared = fine & np.isfinite(best)
        above = np.where(compared, solution.objective, 0.0) - np.where(compared, best, 0.0)
        counts["compared with IPOPT"] = int(compared.sum())
        counts["IPOPT within 1e-6"] = int((above[compared] >= -1e-6).sum())
        worst["above IPOPT"] = float(above[compared].max(initial=-np.inf))
        wrong += [f"chunk {number}[{i}]: above IPOPT by {above[i]:.1e}" for i in np.flatnonzero(above > 1e-9)]
    return counts, worst, wrong, known


def _searched(
    problem: ka.Problem, floors: FloatArray, feasible: NDArray[np.bool_], starts: int, rng: np.random.Generator
) -> list[float | None]:
    """The best objective that IPOPT reaches in each feasible cell."""
    shares = np.zeros(problem.shape)
    for i in np.flatnonzero(feasible):
        shares[i] = _ipopt(problem, i, starts, rng)
    best = _objective_at(problem, floors, shares * np.asarray(problem.cell.bandwidth_hz))
    return [float(v) if ok and np.isfinite(v) else None for v, ok in zip(best, feasible, strict=True)]


def _imbalance(problem: ka.Problem, solution: ka.Solution) -> FloatArray:
    """``p_c + 2 (j/c) s^3 = (p/eta) psi(y)``, relative, where the devices should meet it; shape ``(N, K)``."""
    d = problem.devices
    with np.errstate(all="ignore"):
        g = np.asarray(d.channel_gain) / np.asarray(problem.cell.noise_psd_w_per_hz)
        y = np.log1p(g * solution.tx_power_w / solution.bandwidth_hz)
        radio = solution.tx_power_w / np.asarray(d.pa_efficiency) * (y * np.exp(y) / np.expm1(y) - 1.0)
        clock = 2.0 * np.asarray(d.pruned_compute_j) / np.asarray(d.pruned_compute_s) * solution.clock**3
        drawn = np.asarray(d.circuit_power_w) + np.where(solution.regime == ka.Regime.CLOCK, clock, 0.0)
        balanced = np.isin(solution.regime, (ka.Regime.CLOCK, ka.Regime.EARLY_FINISH))
        # Next to no efficiency at all y is what rounding leaves of it.
        return np.where(balanced & (y > 1e-3), np.abs(drawn - radio) / radio, 0.0)


def _least(problem: ka.Problem, q: FloatArray, steps: int = 90) -> FloatArray:
    """Least bandwidths by golden sections, shape ``(N, K)``."""
    return brute_bandwidth_hz(all_in_one(problem), q.ravel(), steps).reshape(problem.shape)


def _row(problem: ka.Problem, i: int) -> dict[str, FloatArray]:
    return {n: np.asarray(getattr(problem.devices, n))[i] for n in ka.Devices.__dataclass_fields__}


def _objective_at(problem: ka.Problem, floors: FloatArray, hz: FloatArray) -> FloatArray:
    """What bandwidths reach once they are made feasible, shape ``(N,)``: floors first, each device keeps all it can."""
    with np.errstate(invalid="ignore"):
        spare = np.asarray(problem.cell.bandwidth_hz) - floors.sum(axis=1, keepdims=True)
        beyond = np.maximum(hz - floors, 0.0)
        hz = floors + beyond * np.minimum(1.0, spare / np.maximum(beyond.sum(axis=1, keepdims=True), 1e-300))
    low, high = 1.0 - np.asarray(problem.devices.pruning_ratio_max), np.ones(hz.shape)
    all_of_it = _least(problem, high) <= hz
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        fits = _least(problem, middle, 50) <= hz
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    reached = (np.asarray(problem.devices.weight) * (1.0 - np.where(all_of_it, 1.0, low))).sum(axis=1)
    return np.where(spare[:, 0] >= 0.0, reached, np.inf)


CELL = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")
_SOLVERS: dict[int, Any] = {}


def _ipopt(problem: ka.Problem, i: int, starts: int, rng: np.random.Generator) -> FloatArray:
    """Shares of the bandwidth at the best of what IPOPT ends at from random points, on the original variables."""
    ca = import_module("casadi")
    d, K = _row(problem, i), problem.shape[-1]
    if K not in _SOLVERS:
        _SOLVERS[K] = _program(ca, K)
    solver = _SOLVERS[K]
    T = float(np.asarray(problem.cell.deadline_s)[i, 0]) - d["fixed_latency_s"]
    B, noise = (float(np.asarray(getattr(problem.cell, n))[i, 0]) for n in CELL[:2])
    joules = np.maximum(d["energy_budget_j"] - d["fixed_energy_j"], 1e-300)
    data = np.concatenate([
        d["weight"],
        d["payload_bits"] * np.log(2.0) / (T * B), d["overhead_bits"] * np.log(2.0) / (T * B),
        d["channel_gain"] * d["tx_power_max_w"] / (noise * B),
        d["pruned_compute_s"] / (T * d["clock_max"]), d["fixed_compute_s"] / (T * d["clock_max"]),
        d["pruned_compute_j"] * d["clock_max"] ** 2 / joules, d["fixed_compute_j"] * d["clock_max"] ** 2 / joules,
        d["tx_power_max_w"] * T / (d["pa_efficiency"] * joules), d["circuit_power_w"] * T / joules,
    ])  # fmt: skip
    low = np.concatenate([1.0 - d["pruning_ratio_max"], np.full(3 * K, 1e-9), d["clock_min"] / d["clock_max"]])
    found: list[tuple[float, FloatArray]] = []
    for _ in range(starts):
        start = np.concatenate([
            rng.uniform(0.01, 0.6, K), rng.uniform(0.05, 0.9, K), rng.dirichlet(np.ones(K)),
            rng.uniform(0.05, 1.0, 2 * K),
        ])  # fmt: skip
        end = solver(x0=np.maximum(start, low), p=data, lbx=low, ubx=1.0, lbg=0.0, ubg=np.inf)
        # What it leaves violated counts against it, so that a broken-off run is not the best.
        missed = float(np.maximum(-np.asarray(end["g"]), 0.0).max())
        found.append((float(end["f"]) + 1e3 * missed, np.asarray(end["x"]).ravel()[2 * K : 3 * K]))
    return np.maximum(min(found, key=lambda one: one[0])[1], 0.0)


def _program(ca: Any, K: int) -> Any:
    """The non-convex program of K devices: q, t, b, p and s, each a share of its largest value."""
    z, data = ca.SX.sym("z", 5 * K), ca.SX.sym("data", 10 * K)
    q, t, b, p, s = (z[k * K : (k + 1) * K] for k in range(5))
    alpha, S, S0, snr, c, c0, j, j0, radio, circuit = (data[k * K : (k + 1) * K] for k in range(10))
    rows = ca.vertcat(
        t * b * ca.log1p(snr * p / b) / (S + S0) - (S * q + S0) / (S + S0),
        1.0 - t - (c * q + c0) / s,
        1.0 - (j * q + j0) * s**2 - (radio * p + circuit) * t,
        1.0 - ca.sum1(b),
    )
    quiet = {"print_level": 0, "sb": "yes", "max_iter": 300, "tol": 1e-10, "bound_relax_factor": 0.0}
    options = {"print_time": False, "show_eval_warnings": False, "ipopt": quiet}
    return ca.nlpsol("cell", "ipopt", {"x": z, "p": data, "f": ca.dot(alpha, 1.0 - q), "g": rows}, options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first chunk of 200 cells")
    parser.add_argument("--starts", type=int, default=0, help="starts of IPOPT per cell")
    parser.add_argument("--record", type=Path, help="what IPOPT finds is kept there, and taken from there")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    known: dict[int, list[float | None]] = {}
    if args.record and args.record.exists():
        kept = [json.loads(line) for line in args.record.read_text().splitlines()]
        known = {
            line["chunk"]: line["best"] for line in kept if (line["seed"], line["starts"]) == (args.seed, args.starts)
        }
    chunks = range(args.first, args.first + -(-args.cells // CHUNK))

    def ended(number: int, found: tuple[Any, ...]) -> None:
        if args.record and found[3] is not None and chunks[number] not in known:
            with args.record.open("a") as file:
                line = {"seed": args.seed, "starts": args.starts, "chunk": chunks[number], "best": found[3]}
                print(json.dumps(line), file=file)

    jobs = [(args.seed, chunk, args.starts, known.get(chunk)) for chunk in chunks]
    return report(judge, jobs, [CHUNK] * len(jobs), args.workers, ended)


if __name__ == "__main__":
    sys.exit(_command.run("fuzz_clock", main))
