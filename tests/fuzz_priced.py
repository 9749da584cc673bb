"""Long fuzz of energy and time as costs, and of bits: ``python tests/fuzz_priced.py --cells 2000 --seed 300``.

Chunks of cells ask `least_cost` (without clocks, with them), `solve_priced` (a price of energy, a shared budget, both)
and `solve_bits` in turns. Every outcome must be certified, or an infeasibility that golden sections on the original
constraints confirm; wrong input must be refused with its field named. On a share of the cells:

- `least_cost` against golden sections over the deadline of `ka.least_energy`, and with clocks against IPOPT (by CasADi)
  on the geometric program in logarithms, which is convex;
- `solve_priced` against `solve` at a price of 0 and with a shared budget beyond need, and its prices of bandwidth, of
  the shared budget, and energies, against differences on both sides, between which convexity puts them;
- `solve_bits` against every choice of bits, bound below and answer above; and its gap against the largest step of one
  device from one offer to the next, read off the lower envelope of what single devices reach.

Exit code 1 if anything else happened.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import pairwise, product
from typing import Any

import numpy as np
from clock_cases import GOLDEN, all_in_one, brute_bandwidth_hz, clock_cells, rows
from fuzz_report import report
from numpy.typing import NDArray
from priced_cells import CURVES, NOISE, Units, bit_cell, one_cell, plain_cells, with_own_limits

import kktalloc as ka
from kktalloc import _command
from kktalloc._problem.variant import rows as some_of
from kktalloc._problem.variant import variant

FloatArray = NDArray[np.float64]
Judged = tuple[Counter[str], dict[str, float], list[str]]
Change = Callable[[float], dict[str, Any]]
CHUNK = 100  # cells of one number of devices
OF_BITS = 10  # times fewer where bits are chosen: cells are solved one by one, and against all choices
DEVICES = (1, 2, 3, 5, 8)
STEP = 1e-3  # relative, of differences
SEARCHED = 4  # one of so many cells is held against a search
COMPARED = 2  # most devices of a cell with clocks whose costs are also compared beside it
MOST_CHOSEN = 3  # most devices whose bits are tried in every combination


def judge(seed: int, number: int) -> Judged:
    """Chunk `number` of a seed: what came out, the worst of each figure, and what is wrong."""
    warnings.filterwarnings("ignore", "devices.channel_gain")  # units of every size
    rng = np.random.default_rng([seed, number])
    name, ask = QUESTIONS[number % len(QUESTIONS)]
    counts, worst, wrong = ask(rng, DEVICES[number // len(QUESTIONS) % len(DEVICES)])
    wrong += _accepted(rng)
    return (
        Counter({f"{name}: {what}": n for what, n in counts.items()}),
        {f"{name}: {what}": value for what, value in worst.items()},
        [f"chunk {number}, {name}{line}" for line in wrong],
    )


def _levelled(rng: np.random.Generator, problem: ka.Problem) -> tuple[ka.Problem, FloatArray]:
    """Floors around what each device can keep, some beyond it; and the power that the cell draws, shape ``(N,)``."""
    solution = ka.solve(problem, throw=False)
    rho = np.where(np.isfinite(solution.pruning_ratio), solution.pruning_ratio, 0.5)
    level = np.clip(rho + (1.0 - rho) * rng.uniform(-0.1, 0.6, (rho.shape[0], 1)), 0.0, 1.0)
    spent = np.nan_to_num(solution.energy_j.sum(axis=-1), nan=1.0)
    return variant(problem, pruning_ratio_max=level), np.maximum(spent, 1e-12) / np.asarray(problem.cell.deadline_s)[
        :, 0
    ]


def _outcomes(problem: ka.Problem, answer: Any) -> tuple[Counter[str], dict[str, float], list[str], NDArray[np.bool_]]:
    """Statuses, the worst gap and residual, what is refused or wrongly called infeasible, and which are optimal."""
    status = np.array([s.name for s in answer.status])
    q = 1.0 - np.asarray(problem.devices.pruning_ratio_max)
    floors = brute_bandwidth_hz(all_in_one(problem), q.ravel()).reshape(problem.shape)
    floors = np.where(floors > np.asarray(problem.devices.bandwidth_max_hz) * (1.0 - 1e-9), np.inf, floors)
    fits = floors.sum(axis=1) <= np.asarray(problem.cell.bandwidth_hz)[:, 0] * (1.0 - 1e-9)
    gap = np.asarray(answer.certificate.duality_gap)
    wrong = [f"[{i}]: refused, gap {gap[i]:.1e}" for i in np.flatnonzero(status == "UNCERTIFIED")]
    wrong += [f"[{i}]: called infeasible" for i in np.flatnonzero(fits & (status == "INFEASIBLE"))]
    wrong += [f"[{i}]: a bound above the cost, by {-gap[i]:.1e}" for i in np.flatnonzero(gap < -1e-9)]
    fine = status == "OPTIMAL"
    certificate = answer.certificate
    worst = {"gap": float(np.abs(certificate.duality_gap[fine]).max(initial=0.0))}
    worst["residual"] = max(float(np.max(np.asarray(v)[fine], initial=0.0)) for v in certificate.residuals.values())
    return Counter(status.tolist()), worst, wrong, fine


def _some(rng: np.random.Generator, fine: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.flatnonzero(fine & (rng.random(fine.size) < 1.0 / SEARCHED))


def _weights(rng: np.random.Generator, around: FloatArray) -> FloatArray:
    """Decades around a value; one of twenty is 0."""
    return np.where(rng.random(around.shape) < 0.05, 0.0, around * 10.0 ** rng.uniform(-2.0, 2.0, around.shape))


def _cost(rng: np.random.Generator, devices: int, clocks: bool) -> tuple[Counter[str], dict[str, float], list[str]]:
    drawn = clock_cells(rng, CHUNK, devices, roomy=True) if clocks else plain_cells(rng, CHUNK, devices)
    problem, watts = _levelled(rng, with_own_limits(rng, drawn))
    per_s, per_j = _weights(rng, watts), np.ones(problem.shape)
    if clocks:
        per_j = _weights(rng, per_j)
    units = Units.drawn(rng, CHUNK)
    asked = {"problem": units.of(problem), "time_weight": per_s * units.j / units.s, "energy_weight": per_j}
    least = ka.least_cost(**asked, throw=False)
    counts, worst, wrong, fine = _outcomes(problem, least)
    some = _some(rng, fine)
    if not some.size:
        return counts, worst, wrong
    if clocks:
        found = np.array([_geometric_program(rows(problem, i), per_s[i], per_j[i]) for i in some])
    else:
        found = _best_deadline(some_of(problem, np.isin(np.arange(fine.size), some)), per_s[some])
    off = (least.cost[some] / units.j[some] - found) / np.maximum(found, 1e-300)
    told = np.isfinite(off)  # IPOPT says itself where it did not end
    counts["searched"] = int(told.sum())
    counts["search within 1e-6"] = int((np.abs(off[told]) <= 1e-6).sum())
    worst["above search"] = float(off[told].max(initial=-np.inf))
    wrong += [f"[{i}]: above the search by {x:.1e}" for i, x in zip(some, off, strict=True) if x > 1e-7]
    if not clocks:
        wrong += [f"[{i}]: below the search by {-x:.1e}" for i, x in zip(some, off, strict=True) if x < -1e-6]
    if clocks and devices > COMPARED:
        return counts, worst, wrong

    part, w, v = some_of(asked["problem"], np.isin(np.arange(fine.size), some)), asked["time_weight"][some], per_j[some]
    d, B, T = part.devices, *(np.asarray(getattr(part.cell, n))[:, 0] for n in ("bandwidth_hz", "deadline_s"))
    own_j = np.where(np.isfinite(d.energy_budget_j), d.energy_budget_j, 0.0)
    asked = {"problem": part, "time_weight": w, "energy_weight": v}
    worths = {
        "bandwidth": least.bandwidth_price_per_hz[some] * B,
        "deadline": least.deadline_price_per_s[some] * T,
        "budgets": (least.energy_price_per_j[some] * own_j).sum(axis=-1),
        "time weight": -w * least.deadline_s[some],
        "energy weight": -(v * least.energy_j[some]).sum(axis=-1),
    }
    changes: dict[str, Change] = {
        "bandwidth": lambda f: {"problem": variant(part, bandwidth_hz=B * f)},
        "deadline": lambda f: {"problem": variant(part, deadline_s=T * f)},
        "budgets": lambda f: {"problem": variant(part, energy_budget_j=np.asarray(d.energy_budget_j) * f)},
        "time weight": lambda f: {"time_weight": w * f},
        "energy weight": lambda f: {"energy_weight": v * f},
    }
    _differences(ka.least_cost, asked, least.cost[some], worths, changes, some, counts, wrong, 0.0 * B)
    return counts, worst, wrong


def _differences(
    question: Any, asked: dict[str, Any], cost: FloatArray, worths: dict[str, FloatArray],
    changes: dict[str, Change], some: NDArray[np.intp], counts: Counter[str], wrong: list[str], most: FloatArray,
) -> None:  # fmt: skip
    """Hold what all there is of a resource is worth at its price against costs with a little less and more of it.

    The cost is convex in what there is of bandwidth, time and energy, and concave in the weights, so that the price
    lies between the slopes on either side. Costs are exact to 1e-9 of themselves, the worths and `most`.
    """
    scale = most + np.abs(cost) + sum(np.abs(worth) for worth in worths.values())
    for name, worth in worths.items():
        less, more = (question(**asked | changes[name](f), throw=False).cost for f in (1.0 - STEP, 1.0 + STEP))
        one, two = (cost - more) / STEP, (less - cost) / STEP
        low, high = np.fmin(one, two), np.fmax(one, two)
        with np.errstate(invalid="ignore"):
            out = np.where(np.isnan(one + two), 0.0, np.maximum(low - worth, worth - high) - 3e-6 * scale)
        counts[f"differences of {name}"] = int(np.isfinite(one + two).sum())
        wrong += [
            f"[{i}]: {name}: {v:.6e} outside {a:.6e} to {z:.6e}"
            for i, v, a, z, o in zip(some, worth, low, high, out, strict=True)
            if o > 0.0
        ]


def _best_deadline(problem: ka.Problem, per_s: FloatArray) -> FloatArray:
    """The least cost that golden sections over the deadline find, with the least energy of each."""
    low, high = np.asarray(ka.least_deadline(problem)) * (1.0 + 1e-11), np.asarray(problem.cell.deadline_s)[:, 0]

    def cost(T: FloatArray) -> FloatArray:
        spent = ka.least_energy(variant(problem, deadline_s=T), throw=False).total_energy_j
        return np.where(np.isnan(spent), np.inf, spent + per_s * T)

    best = np.minimum(cost(low), cost(high))
    for _ in range(40):
        one, two = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        at_one, at_two = cost(one), cost(two)
        best = np.minimum(best, np.minimum(at_one, at_two))
        low, high = np.where(at_one <= at_two, low, one), np.where(at_one <= at_two, two, high)
    return best


def _geometric_program(problem: ka.Problem, per_s: float, per_j: FloatArray) -> float:
    """The least cost by IPOPT in the logarithms of times, bandwidths, powers and clocks; NaN where it does not end."""
    ca = import_module("casadi")
    d, cell, K = problem.devices, problem.cell, problem.shape[0]
    T, B = float(cell.deadline_s[0]), float(cell.bandwidth_hz[0])
    q = 1.0 - np.asarray(d.pruning_ratio_max)
    nats = (d.payload_bits * q + d.overhead_bits) * np.log(2.0)
    work, heat = d.pruned_compute_s * q + d.fixed_compute_s, d.pruned_compute_j * q + d.fixed_compute_j
    z, length = ca.SX.sym("z", 4 * K), ca.SX.sym("length")
    t, b, p, s = (z[i * K : (i + 1) * K] for i in range(4))  # shares of T, B, the peak and the fastest clock
    g, cost, shares = [], per_s * T * ca.exp(length), 0.0
    for k in range(K):
        taken, spent = d.fixed_latency_s[k] / T, d.fixed_energy_j[k]
        if nats[k] > 0.0:
            y = ca.exp(float(np.log(nats[k] / (T * B))) - t[k] - b[k])
            most = float(np.log(d.channel_gain[k] / cell.noise_psd_w_per_hz[0] * d.tx_power_max_w[k] * T / nats[k]))
            g.append(y + ca.log((1.0 - ca.exp(-y)) / y) - most - p[k] - t[k])
            taken += ca.exp(t[k])
            shares += ca.exp(b[k])
            if d.bandwidth_max_hz[k] < B:
                g.append(b[k] - float(np.log(d.bandwidth_max_hz[k] / B)))
            spent += d.tx_power_max_w[k] * T / d.pa_efficiency[k] * ca.exp(p[k] + t[k])
            spent += d.circuit_power_w[k] * T * ca.exp(t[k])
        if work[k] > 0.0:
            taken += work[k] / (d.clock_max[k] * T) * ca.exp(-s[k])
            spent += heat[k] * d.clock_max[k] ** 2 * ca.exp(2.0 * s[k])
        g.append(taken * ca.exp(-length) - 1.0)
        if np.isfinite(d.energy_budget_j[k]):
            g.append(spent / float(d.energy_budget_j[k]) - 1.0)
        cost += float(per_j[k]) * spent
    g.append(shares - 1.0)
    scale = float(per_j @ np.minimum(np.asarray(d.energy_budget_j), 1e3) + per_s * T) or 1.0
    quiet = {"print_level": 0, "sb": "yes", "max_iter": 500, "tol": 1e-10, "bound_relax_factor": 0.0}
    options = {"print_time": False, "show_eval_warnings": False, "ipopt": quiet}
    x = ca.vertcat(z, length)
    solver = ca.nlpsol("cost", "ipopt", {"x": x, "f": cost / scale, "g": ca.vertcat(*g)}, options)
    low = np.concatenate([np.full(3 * K, -25.0), np.log(np.maximum(d.clock_min / d.clock_max, 1e-11)), [-25.0]])
    start = np.concatenate([np.full(K, -1.0), np.full(K, -np.log(K + 1.0)), np.full(K, -0.5), 0.3 * low[3 * K :]])
    end = solver(x0=np.maximum(start, low), lbx=low, ubx=0.0, ubg=0.0)
    sound = solver.stats()["success"] and float(np.asarray(end["g"]).max()) <= 1e-9
    return float(end["f"]) * scale if sound else np.nan


def _priced(
    rng: np.random.Generator, devices: int, price: bool, shared: bool
) -> tuple[Counter[str], dict[str, float], list[str]]:
    problem = variant(with_own_limits(rng, plain_cells(rng, CHUNK, devices)), CURVES[int(rng.integers(3))])
    solution = ka.solve(problem, throw=False)
    spent = np.maximum(np.nan_to_num(solution.energy_j.sum(axis=-1), nan=1.0), 1e-9)
    if rng.random() < 0.5:  # some cells without room for their floors
        short = np.where(rng.random(CHUNK) < 0.2, 10.0 ** rng.uniform(-4.0, 0.0, CHUNK), 1.0)
        problem = variant(problem, bandwidth_hz=np.asarray(problem.cell.bandwidth_hz)[:, 0] * short)
    per_j = _weights(rng, np.broadcast_to(1.0 / spent[:, None], problem.shape)) if price else np.zeros(problem.shape)
    units, ask = Units.drawn(rng, CHUNK), partial(ka.solve_priced, throw=False)
    asked = {"problem": units.of(problem), "energy_price_per_j": per_j / units.j[:, None]}
    answer = ask(**asked)
    if shared:
        least = ka.least_energy(problem, throw=False).total_energy_j
        reach = np.nan_to_num(np.maximum(answer.total_energy_j / units.j - least, 0.0))
        total = np.nan_to_num(least, nan=1.0) * (1.0 + 1e-8) + reach * rng.uniform(0.01, 1.3, CHUNK) + 1e-300
        asked["shared_energy_j"] = total * units.j
        answer = ask(**asked)
    counts, worst, wrong, fine = _outcomes(problem, answer)
    counts["shared budget used up"] = int((np.nan_to_num(answer.shared_price_per_j) > 0.0).sum())

    some = _some(rng, fine)
    if not some.size:
        return counts, worst, wrong
    part = some_of(asked["problem"], np.isin(np.arange(fine.size), some))
    asked = {"problem": part} | {name: values[some] for name, values in asked.items() if name != "problem"}
    error = np.asarray(part.devices.weight) * part.pruning_error.value(np.ones(part.shape))
    exact = ka.solve(part)
    limit = ask(part, shared_energy_j=1e6 * exact.energy_j.sum(axis=-1) + units.j[some])
    far = np.abs(limit.cost - exact.objective) / error.sum(axis=-1)
    worst["from solve at no price"] = float(far.max())
    wrong += [f"[{i}]: {x:.1e} from solve at no price" for i, x in zip(some, far, strict=True) if not x <= 1e-9]
    wrong += [f"[{i}]: a budget beyond need has a price" for i in some[limit.shared_price_per_j > 0.0]]

    B, w, within = np.asarray(part.cell.bandwidth_hz)[:, 0], asked["energy_price_per_j"], asked.get("shared_energy_j")
    worths = {"bandwidth": answer.bandwidth_price_per_hz[some] * B}
    changes: dict[str, Change] = {"bandwidth": lambda f: {"problem": variant(part, bandwidth_hz=B * f)}}
    if within is not None:
        worths["shared budget"] = answer.shared_price_per_j[some] * within
        changes["shared budget"] = lambda f: {"shared_energy_j": within * f}
    if price:
        worths["energy price"] = -(w * answer.energy_j[some]).sum(axis=-1)
        changes["energy price"] = lambda f: {"energy_price_per_j": w * f}
    _differences(ka.solve_priced, asked, answer.cost[some], worths, changes, some, counts, wrong, error.sum(axis=-1))
    return counts, worst, wrong


def _bits(rng: np.random.Generator, devices: int) -> tuple[Counter[str], dict[str, float], list[str]]:
    counts, worst, wrong = Counter[str](), {"gap": 0.0, "gap over a step": 0.0}, []
    for i in range(CHUNK // OF_BITS):
        K = 1 + (devices + i) % MOST_CHOSEN
        problem = bit_cell(rng, K)
        bits = np.sort(rng.choice([1, 2, 3, 4, 6, 8, 12, 16], int(rng.integers(2, 5)), replace=False))
        rounding = 10.0 ** rng.uniform(-2.0, 0.3) / 4.0**bits
        error_on = str(rng.choice(["kept", "all"]))
        answer = ka.solve_bits(problem, bits, rounding, error_on=error_on, throw=False)  # type: ignore[arg-type]
        counts[f"{answer.status.name}, {K} device{'s' * (K > 1)}"] += 1
        each = _choices(problem, bits, rounding, error_on)
        best = float(np.nanmin(each, initial=np.inf))
        if answer.diagnosis is not None:
            fewest = variant(problem, payload_bits=np.asarray(problem.devices.payload_bits) * bits[0] / 32.0)
            q = 1.0 - np.asarray(problem.devices.pruning_ratio_max)
            floors = brute_bandwidth_hz(fewest, q)
            fits = bool((floors <= np.asarray(problem.devices.bandwidth_max_hz) * (1.0 - 1e-9)).all())
            if fits and floors.sum() <= float(problem.cell.bandwidth_hz[0]) * (1.0 - 1e-9):
                wrong.append(f"[{i}]: called infeasible")
            continue
        if not answer.certificate.ok:
            wrong.append(f"[{i}]: refused, {answer.certificate.worst}")
            continue
        low, high, gap = float(answer.lower_bound), float(answer.objective), float(answer.gap)
        if not low - 1e-9 <= best <= high + 1e-9:
            wrong.append(f"[{i}]: {best} is the best of all choices, not within {low} and {high}")
        counts["the best choice"] += high <= best + 1e-9
        step = _largest_step(problem, bits, rounding, error_on)
        worst["gap"] = max(worst["gap"], gap)
        worst["gap over a step"] = max(worst["gap over a step"], gap - step)
        if gap > step + 1e-9:
            wrong.append(f"[{i}]: gap {gap:.6g}, one device's step is {step:.6g}")
    return counts, worst, wrong


def _at_offers(
    problem: ka.Problem, bits: FloatArray, rounding: FloatArray, error_on: str, hz: FloatArray | None = None
) -> ka.Problem:
    """The plain problem with bits and rounding errors of shape ``(N, K)``, of each row its bandwidth."""
    curve = problem.pruning_error
    ratio, error = (
        (np.asarray(curve.pruning_ratio), np.asarray(curve.error))
        if isinstance(curve, ka.Table)
        else (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    )
    total = error + rounding[..., None] * (np.ones_like(ratio) if error_on == "all" else 1.0 - ratio)
    # A device may drop more than it has to.
    total = np.minimum.accumulate(total[..., ::-1], axis=-1)[..., ::-1]
    payload = np.asarray(problem.devices.payload_bits) * bits / 32.0
    table = ka.Table(np.broadcast_to(ratio, total.shape), total)
    more = {} if hz is None else {"bandwidth_hz": hz}
    return variant(problem, table, payload_bits=payload, **more)


def _choices(problem: ka.Problem, bits: FloatArray, rounding: FloatArray, error_on: str) -> FloatArray:
    """Objectives of all choices of bits; NaN where one cannot be."""
    picks = np.array(list(product(range(bits.size), repeat=problem.shape[0])))
    return np.asarray(ka.solve(_at_offers(problem, bits[picks], rounding[picks], error_on), throw=False).objective)


def _largest_step(problem: ka.Problem, bits: FloatArray, rounding: FloatArray, error_on: str) -> float:
    """The most that one device's error falls along a chord of its lower envelope from one offer to another.

    Each device alone, at each offer, on a grid of bandwidths; a grid's cell more at both ends.
    """
    B, d, grid = float(problem.cell.bandwidth_hz[0]), problem.devices, np.geomspace(1e-7, 1.0, 160)
    largest = 0.0
    for k in range(problem.shape[0]):
        fields = {n: np.asarray(v)[k : k + 1] for n, v in vars(d).items()} | {"weight": 1.0}
        alone = ka.Problem(one_cell(problem), ka.Devices(**fields), problem.pruning_error)
        offer = np.repeat(np.arange(bits.size), grid.size)[:, None]
        hz = np.tile(grid * B, bits.size)
        reached = ka.solve(_at_offers(alone, bits[offer], rounding[offer], error_on, hz), throw=False).objective
        error = float(np.asarray(d.weight)[k]) * np.asarray(reached).reshape(bits.size, grid.size)
        error = np.where(np.isnan(error), np.inf, error)
        pick, least = error.argmin(axis=0), error.min(axis=0)
        served = np.flatnonzero(np.isfinite(least))
        hull = _lower_hull(grid[served], least[served])
        ends = served[hull]
        for a, z in pairwise(ends):
            if pick[a] != pick[z] or z > a + 1:
                before, after = max(a - 1, served[0]), min(z + 1, grid.size - 1)
                largest = max(largest, float(least[before] - least[after]))
    return largest


def _lower_hull(x: FloatArray, y: FloatArray) -> list[int]:
    hull: list[int] = []
    for i in range(x.size):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return hull


def _accepted(rng: np.random.Generator) -> list[str]:
    """Wrong input that was not refused with its field named."""
    good = ka.Problem(ka.Cell(1e6, NOISE, 1.0), ka.Devices([2e-12, 4e-11], 0.1, 4e6, 0.2, pruned_compute_j=0.02))
    bad = float(rng.choice([np.nan, np.inf, -(10.0 ** rng.uniform(-9.0, 9.0))]))
    offers, rounding = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.02, 0.001])
    asked: list[tuple[str, Any]] = [
        ("time_weight", lambda: ka.least_cost(good, time_weight=bad, pruning_ratio=0.9)),
        ("energy_weight[1]", lambda: ka.least_cost(good, time_weight=1.0, energy_weight=[1.0, bad])),
        ("pruning_ratio", lambda: ka.least_cost(good, time_weight=1.0, pruning_ratio=bad)),
        ("total_power_w", lambda: ka.least_cost(variant(good, total_power_w=1e-4), time_weight=1.0, pruning_ratio=0.9)),
        ("energy_price_per_j[0]", lambda: ka.solve_priced(good, energy_price_per_j=[bad, 1.0])),
        ("energy_price_per_j", lambda: ka.solve_priced(good, energy_price_per_j=[1.0, 1.0, 1.0])),
        ("shared_energy_j", lambda: ka.solve_priced(good, shared_energy_j=bad)),
        ("circuit_power_w[0]", lambda: ka.solve_priced(variant(good, circuit_power_w=0.1), energy_price_per_j=1.0)),
        ("clock_max[0]", lambda: ka.solve_priced(variant(good, clock_max=2.0), energy_price_per_j=1.0)),
        ("shared_energy_j", lambda: ka.solve_priced(variant(good, pruning_ratio_max=0.9), shared_energy_j=1e-9)),
        ("bits", lambda: ka.solve_bits(good, [1.0, bad, 4.0], rounding)),
        ("bits", lambda: ka.solve_bits(good, offers[::-1], rounding)),
        ("rounding_error", lambda: ka.solve_bits(good, offers, rounding * bad)),
        ("rounding_error", lambda: ka.solve_bits(good, offers, rounding[::-1])),
        ("full_bits", lambda: ka.solve_bits(good, offers, rounding, full_bits=bad)),
    ]
    name, ask = asked[int(rng.integers(len(asked)))]
    try:
        ask()
    except ValueError as refused:
        return [] if name in str(refused) and "\n" not in str(refused) else [f": {name} = {bad}: said {refused}"]
    return [f": {name} = {bad} was not refused"]


QUESTIONS: tuple[tuple[str, Any], ...] = (
    ("cost", partial(_cost, clocks=False)),
    ("cost with clocks", partial(_cost, clocks=True)),
    ("price", partial(_priced, price=True, shared=False)),
    ("shared budget", partial(_priced, price=False, shared=True)),
    ("price and shared budget", partial(_priced, price=True, shared=True)),
    ("bits", _bits),
)


def _size(number: int) -> int:
    """Cells of a chunk."""
    return CHUNK // OF_BITS if QUESTIONS[number % len(QUESTIONS)][0] == "bits" else CHUNK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help=f"number of the first chunk of {CHUNK} cells")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    cells: list[int] = []
    while sum(cells) < args.cells:
        cells.append(_size(args.first + len(cells)))
    return report(judge, [(args.seed, args.first + i) for i in range(len(cells))], cells, args.workers)


if __name__ == "__main__":
    sys.exit(_command.run("fuzz_priced", main))
