"""Long fuzz of the allocator: ``python tests/fuzz_allocator.py --count 100000 --seed 0``.

Case i of a seed is always the same problem: ``--first i --count 1`` draws it again. Every outcome must be a certified
solution, an infeasibility that a search without the solver confirms (or cannot tell from feasible in doubles), or,
for input made bad on purpose, a ValueError that names the field. One problem in twenty (every
one with ``--beside 1``) also goes through blocks, min-max, the least of each budget, selection and (some) plans, which
searches of their own judge (`fuzz_variants`). In one case of five some devices are made unable to send: without gain,
power, energy, time or weight. ``--clock SHARE`` gives devices of so many cases clocks, electronics and computing that
is not pruned, over as many powers of ten; a cap on total power that binds must then be refused by name.
``--engines both`` solves each problem by NumPy alone, too: both must end alike, with objectives no further apart than
their certificates leave open: the gaps, and what an ulp of the data is worth (the resolution). Those are counted that
differ by no more than the latter.
The summary counts ``optimal`` and ``infeasible`` in problems, of which a case that is a batch has several, the rest in
cases. Exit code 1 if anything else happened.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import fuzz_variants
import numpy as np
from independent import floor_bandwidth_hz, physical
from numpy.typing import NDArray
from tqdm import tqdm

import kktalloc as ka
from kktalloc import _command
from kktalloc._problem.variant import rows, variant

FloatArray = NDArray[np.float64]
CHUNK = 20
GAP = "gap in full"  # what an ulp of the data is worth included; the other figures are beyond that
APART = "engines apart"  # of their objectives, over its range
BESIDE = 20  # one problem in so many goes through the other solvers too
DEAD = 0.2  # of the cases have devices that cannot send
OWN = 0.2  # of the cases have curves, and limits on bandwidth, of each device
CLOCKED = 0.0  # of the cases have devices with a clock and electronics
CLOCK = ("circuit_power_w", "clock_min", "clock_max", "fixed_compute_s", "fixed_compute_j")
NEWER = ("bandwidth_max_hz", "name", *CLOCK)  # not drawn by `draw`, for the others to stay what they were
MAY_BE_ZERO = (
    "channel_gain", "tx_power_max_w", "pruned_compute_s", "overhead_bits", "fixed_latency_s", "energy_budget_j",
    "pruned_compute_j", "fixed_energy_j", "pruning_ratio_max", "weight",
)  # fmt: skip
CELL = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s", "total_power_w")


@dataclass
class Case:
    """Arguments of a problem; `bad` names the field that was made invalid."""

    cell: dict[str, Any]
    devices: dict[str, Any]
    curve: ka.PruningError | None = None
    bad: str = ""


@dataclass
class Tally:
    """What happened in a number of cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[float, int]] = field(default_factory=dict)  # residual, case
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.outcomes += other.outcomes
        for name, (value, case) in other.worst.items():
            self.seen(name, value, case)
        self.wrong += other.wrong

    def seen(self, name: str, value: float, case: int) -> None:
        if value > self.worst.get(name, (-1.0, 0))[0]:
            self.worst[name] = (value, case)


def scale(rng: np.random.Generator, *shape: int, decades: float = 12.0) -> FloatArray:
    return 10.0 ** rng.uniform(-decades, decades, shape)


def draw(rng: np.random.Generator) -> Case:
    """A case: built around a hidden feasible point two times in three, else every field by itself."""
    K = int(rng.choice([0, 1, 1, 2, 3, 5, 10, 30]))
    shape = (int(rng.integers(1, 4)), K) if rng.random() < 0.2 else (K,)
    decades = float(rng.choice([0.5, 3.0, 6.0, 12.0]))
    hidden = rng.random() < 2 / 3
    case = _around_a_point(rng, shape, decades) if hidden else _anything(rng, shape, decades)
    d = case.devices
    for name in MAY_BE_ZERO:
        if rng.random() < 0.04:
            d[name] = np.where(rng.random(shape) < 0.5, 0.0, d[name])
    if rng.random() < 0.1:
        d["energy_budget_j"] = np.full(shape, np.inf)
    if rng.random() < 0.1 and K > 1:  # identical devices
        case.devices = d = {name: np.broadcast_to(np.asarray(v)[..., :1], shape) for name, v in d.items()}
    if not np.asarray(d["weight"]).any(axis=-1).all():
        d["weight"] = None
    if rng.random() < 0.15:
        share = 10 ** rng.uniform(-3, 0.3) if hidden else scale(rng, decades=decades)
        case.cell["total_power_w"] = np.asarray(d["tx_power_max_w"]).sum(axis=-1) * share
    if rng.random() < 0.15:
        table = _table(rng.random(3), float(np.min(d["pruning_ratio_max"], initial=1.0)))
        case.curve = table if rng.random() < 0.5 else ka.PowerLaw(float(rng.choice([1.0, 1.5, 2.0, 4.0])))
    if rng.random() < 0.1:
        _spoil(rng, case)
    return case


def deaden(rng: np.random.Generator, case: Case) -> None:
    """Make some devices unable to send, or worthless, each in one of the ways there are."""
    d, shape = case.devices, np.shape(case.devices["channel_gain"])
    ways: dict[str, Any] = {
        "channel_gain": 0.0, "tx_power_max_w": 0.0, "energy_budget_j": 0.0, "fixed_energy_j": d["energy_budget_j"],
        "fixed_latency_s": np.asarray(case.cell["deadline_s"])[..., None], "weight": 0.0,
    }  # fmt: skip
    which = np.where(rng.random(shape) < 0.4, rng.integers(len(ways), size=shape), -1)
    # They may drop everything and have nothing else to send, or no problem with one of them has a solution.
    idle = {"pruning_ratio_max": 1.0, "overhead_bits": 0.0, "pruned_compute_j": 0.0}
    for way, (name, value) in enumerate(ways.items()):
        if d[name] is not None:
            d[name] = np.where((which == way) & np.isfinite(value), value, d[name])
    for name, value in idle.items():
        d[name] = np.where(which >= 0, value, d[name])
    if d["weight"] is not None and not d["weight"].any(axis=-1).all():
        d["weight"] = None


def narrow(rng: np.random.Generator, case: Case) -> None:
    """Give devices curves, or limits on their bandwidth, of their own."""
    d, shape = case.devices, np.shape(case.devices["channel_gain"])
    what = rng.random(3)
    if what[0] < 0.6:
        B = np.asarray(case.cell["bandwidth_hz"])[..., None]
        share = 10.0 ** rng.uniform(-4.0, 0.5, shape) * rng.choice([1.0, 1.0, 0.0], shape, p=[0.5, 0.47, 0.03])
        d["bandwidth_max_hz"] = np.where(rng.random(shape) < 0.6, B * share, np.inf)
    if what[1] < 0.4:
        case.curve = ka.PowerLaw(rng.choice([1.0, 1.5, 2.0, 4.0, 16.0], shape), scale(rng, *shape, decades=2.0))
    elif what[1] < 0.8:
        n = int(rng.choice([2, 4, 9]))
        ratios = np.linspace(0.0, 1.0, n)
        if rng.random() < 0.5:
            inner = np.sort(rng.uniform(0.01, 0.99, (*shape, n - 2)), axis=-1) + 1e-4 * np.arange(n - 2)
            ends = np.zeros((*shape, 1))
            ratios = np.concatenate([ends, inner, ends + 1.0], axis=-1)
        rises = rng.exponential(size=(*shape, n - 1)) * (rng.random((*shape, n - 1)) < 0.8)
        errors = np.concatenate([np.zeros((*shape, 1)), np.cumsum(rises, axis=-1)], axis=-1)
        case.curve = ka.Table(ratios, errors, "minorant" if what[2] < 0.5 else "majorant")


def tick(rng: np.random.Generator, case: Case) -> None:
    """Give devices clocks, electronics and computing that is not pruned.

    At one clock, within its bounds for most, they are what they were, but for what that and the electronics take.
    """
    d, shape = case.devices, np.shape(case.devices["channel_gain"])
    decades = float(rng.choice([0.5, 3.0, 9.0]))

    def some(share: float) -> NDArray[np.bool_]:
        return rng.random(shape) < share

    clock = scale(rng, *shape, decades=decades)
    work, heat = np.asarray(d["pruned_compute_s"]) * clock, np.asarray(d["pruned_compute_j"]) / clock**2
    work = np.where(some(0.15), 0.0, work)
    heat = np.where(some(0.1), 0.0, heat)
    d["clock_min"] = clock * np.where(some(0.25), 1.0, 10.0 ** rng.uniform(-decades, 0.05, shape))
    d["clock_max"] = np.maximum(
        d["clock_min"], clock * np.where(some(0.25), 1.0, 10.0 ** rng.uniform(-0.05, decades, shape))
    )
    # What is not pruned takes the place of a part of the fixed latency, or comes on top.
    latency, share = np.asarray(d["fixed_latency_s"]), np.where(some(0.5), 0.0, rng.random(shape))
    extra = np.where(some(0.7), latency, np.asarray(d["pruned_compute_s"])) * share * clock
    d["fixed_latency_s"] = np.where(extra > 0.0, latency * (1.0 - share), latency)
    with np.errstate(all="ignore"):
        extra_heat = np.where((work > 0.0) & (extra > 0.0), extra * (heat / work), np.where(work > 0.0, 0.0, heat))
    extra = np.where((work == 0.0) & (heat > 0.0), 0.0, extra)  # its joules would take no time
    lasting = np.maximum(np.asarray(case.cell["deadline_s"])[..., None] - d["fixed_latency_s"], 0.0)
    d["circuit_power_w"] = np.where(some(0.4), 0.0, d["tx_power_max_w"] * 10.0 ** rng.uniform(-decades, 1.0, shape))
    more = extra_heat * clock**2 + np.where(some(0.7), d["circuit_power_w"] * lasting, 0.0)
    d["energy_budget_j"] = np.where(some(0.8), d["energy_budget_j"] + more, d["energy_budget_j"])
    d |= {"pruned_compute_s": work, "pruned_compute_j": heat, "fixed_compute_s": extra, "fixed_compute_j": extra_heat}
    if rng.random() < 0.8:
        case.cell.pop("total_power_w", None)


def _table(steps: FloatArray, floor: float) -> ka.Table:
    """A table of three pieces or of twenty; it may start flat, and have a break where pruning may go no further."""
    ratios = [0.0, 0.3, 0.8, 1.0]
    if steps[1] < 0.3 and 0.0 < floor < 0.8:
        ratios[1] = floor
    if steps[2] < 0.2:
        many = np.linspace(0.0, 1.0, 21)
        return ka.Table(many, many ** (1.0 + 3.0 * steps[0]))
    return ka.Table(ratios, np.cumsum([0.0, steps[0] if steps[0] > 0.3 else 0.0, *steps[1:]]))


def _around_a_point(rng: np.random.Generator, shape: tuple[int, ...], decades: float) -> Case:
    batch, one = shape[:-1], (*shape[:-1], 1)
    deadline, noise = scale(rng, *one, decades=decades), scale(rng, *one, decades=decades)
    T = deadline * rng.choice([1.0, 0.5, 0.01], shape)
    fixed = np.where(deadline > T, deadline - T, 0.0)
    T = deadline - fixed
    q = rng.choice([0.0, 1e-9, 0.01, 0.5, 0.99, 1.0], shape) if rng.random() < 0.3 else rng.uniform(0.01, 1, shape)
    a = T * np.where(rng.random(shape) < 0.3, 0.0, rng.uniform(0, 0.99, shape)) / np.maximum(q, 1e-3)
    t = T - a * q
    P, b = scale(rng, *shape, decades=decades), scale(rng, *shape, decades=decades)
    if rng.random() < 0.5:
        b = np.broadcast_to(b[..., :1], shape)
    x = 10 ** rng.uniform(-min(decades, 6), decades, shape)
    p = P * rng.choice([1.0, 1.0, 0.1, 1e-6], shape)
    gain = x * b * noise / p
    bits = t * b * np.log1p(x) / np.log(2)
    S0 = bits * np.where(rng.random(shape) < 0.5, 0.0, rng.uniform(0, 0.9, shape))
    S = np.where(q > 0, (bits - S0) / np.where(q > 0, q, 1.0), bits + 1e-12)
    eta = rng.choice([1.0, 0.3], shape)
    transmit = p * t / eta
    eps = transmit * np.where(rng.random(shape) < 0.5, 0.0, scale(rng, *shape, decades=min(decades, 4)))
    budget = transmit + eps * q
    extra = np.where(rng.random(shape) < 0.5, 0.0, budget * scale(rng, *shape, decades=min(decades, 3)))
    budget = np.where((p == P) & (rng.random(shape) < 0.6), np.inf, budget)
    q_min = np.where(rng.random(shape) < 0.4, 0.0, q * rng.choice([1.0, 0.9, 0.1], shape))
    spare = rng.choice([-0.1, 1e-9, 1e-3, 0.3, 10.0], batch)
    return Case(
        {
            "bandwidth_hz": np.maximum(b.sum(axis=-1), 1e-300) * (1 + spare),
            "noise_psd_w_per_hz": noise[..., 0],
            "deadline_s": deadline[..., 0],
        },
        {
            "channel_gain": gain, "tx_power_max_w": P, "payload_bits": S, "pruned_compute_s": a, "overhead_bits": S0,
            "fixed_latency_s": fixed, "energy_budget_j": budget + extra, "pruned_compute_j": eps,
            "fixed_energy_j": extra, "pa_efficiency": eta, "pruning_ratio_max": 1 - q_min,
            "weight": scale(rng, *shape, decades=decades),
        },
    )  # fmt: skip


def _anything(rng: np.random.Generator, shape: tuple[int, ...], decades: float) -> Case:
    cell = {name: scale(rng, *shape[:-1], decades=decades) for name in CELL[:3]}
    names = (name for name in ka.Devices.__dataclass_fields__ if name not in NEWER)
    devices = {name: scale(rng, *shape, decades=decades) for name in names}
    devices["pa_efficiency"] = np.minimum(devices["pa_efficiency"], 1.0)
    rho_max = rng.choice([1.0, 1.0, 1 - 1e-12, 0.5, 0.0], shape)
    return Case(cell, devices | {"pruning_ratio_max": rho_max})


def _spoil(rng: np.random.Generator, case: Case) -> None:
    """Make one entry of one field invalid."""
    table = case.cell if rng.random() < 0.3 else case.devices
    name = str(rng.choice([n for n, v in table.items() if v is not None]))
    values = np.array(table[name], dtype=float)
    bad = [np.nan, -np.inf, -1.0] + ([np.inf] if name != "energy_budget_j" else [])
    bad += [0.0] if name in ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s", "payload_bits") else []
    if not values.size or rng.random() < 0.1:
        # K + 2 entries fit neither K nor 1; where they might fit, a word stands in.
        K = np.shape(case.devices["channel_gain"])[-1]
        table[name], case.bad = (np.ones(K + 2), "shape") if table is case.devices and K > 1 else ("many", name)
    else:
        values[tuple(int(rng.integers(n)) for n in values.shape)] = float(rng.choice(bad))
        table[name], case.bad = values, name


def judge(
    case: Case,
    number: int,
    deep: bool,
    every: int = BESIDE,
    planned: float = fuzz_variants.PLANNED,
    engines: str = "default",
) -> Tally:
    """Solve a case and hold the outcome against what is known of it."""
    tally = Tally()
    try:
        problem = ka.Problem(ka.Cell(**case.cell), ka.Devices(**case.devices), case.curve)
    except ValueError as error:
        named = any(f"{t}.{n}" in str(error) for t, n in _fields()) if case.bad == "shape" else case.bad in str(error)
        if not case.bad or not named:
            tally.wrong.append(f"case {number}: refused: {error}")
        tally.outcomes["refused by name"] += 1
        return tally
    if case.bad:
        tally.wrong.append(f"case {number}: bad {case.bad} was accepted")
        return tally
    if number % every == every - 1:
        found, asked = beside(problem, number, planned)
        tally.outcomes.update(asked)
        for text in found.values():
            tally.wrong.append(f"case {number}: {text}")
    try:
        solution = ka.solve(problem, throw=False)
    except ValueError as refused:
        if not (problem.clocked and problem.capped and "cell.total_power_w" in str(refused)):
            raise
        free = ka.solve(variant(problem, total_power_w=None), throw=False)
        total = np.asarray(problem.cell.total_power_w)[..., 0]
        if not (np.nansum(free.tx_power_w, axis=-1) > total).any():
            tally.wrong.append(f"case {number}: a cap that does not bind was refused: {refused}")
        tally.outcomes["cap with clocks refused by name"] += 1
        return tally
    if engines == "both":
        compare(problem, solution, number, tally)
    status = np.asarray(solution.status, dtype=object).reshape(-1)
    residuals = {n: np.asarray(v).reshape(-1) for n, v in solution.certificate.residuals.items()}
    residuals["duality_gap"] = np.asarray(np.abs(solution.certificate.duality_gap)).reshape(-1)
    resolution = np.asarray(solution.certificate.resolution).reshape(-1)
    for i, one in enumerate(status):
        single = rows(problem, np.arange(status.size) == i)
        if one is ka.Status.OPTIMAL:
            tally.outcomes["optimal"] += 1
            for name, values in residuals.items():
                # What rounding of the data is worth at the edge of feasibility is not the solver's error.
                blur = resolution[i] if name in ("duality_gap", "complementarity") else 0.0
                tally.seen(name, max(float(values[i] - blur), 0.0), number)
            tally.seen(GAP, float(residuals["duality_gap"][i]), number)
            if deep:
                again = ka.certify(problem, solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w)
                # The price that the certificate finds by itself may be a worse one, but its bound has to be a bound.
                gap, blur = (float(np.reshape(v, -1)[i]) for v in (again.duality_gap, again.resolution))
                if not gap >= -1e-9 - blur:
                    tally.wrong.append(f"case {number}[{i}]: a bound above the optimum by {-gap:.2g}")
        elif one is ka.Status.INFEASIBLE:
            tally.outcomes["infeasible"] += 1
            assert solution.diagnosis is not None
            if deep and not solution.diagnosis.message:  # the least deadline that it names takes a search
                tally.wrong.append(f"case {number}[{i}]: no message")
            if not infeasible(single):
                tally.wrong.append(f"case {number}[{i}]: called infeasible: {solution.diagnosis.message}")
        else:
            found = {n: float(v[i]) for n, v in residuals.items() if not v[i] <= 1e-9}
            tally.wrong.append(f"case {number}[{i}]: uncertified: {found}, resolution {resolution[i]:.2g}")
    return tally


def compare(problem: ka.Problem, solution: ka.Solution, number: int, tally: Tally) -> None:
    """Hold a solution against what NumPy alone finds; enter which engine served, and what it left to NumPy."""
    assert solution.stats is not None
    tally.outcomes[f"by {solution.stats.engine}"] += 1
    tally.outcomes["left to NumPy"] += solution.stats.retries
    with patched_environment("KKTALLOC_ENGINE", "numpy"):
        reference = ka.solve(problem, throw=False)
    status, other = (np.asarray(s.status, dtype=object).reshape(-1) for s in (solution, reference))
    ones = np.ones(problem.shape)
    curve, alpha = problem.pruning_error, np.asarray(problem.devices.weight)
    span = (alpha * (curve.value(ones) - curve.value(0.0 * ones))).sum(axis=-1)
    span = np.where(span > 0.0, span, 1.0)
    apart = np.ravel(np.abs(np.asarray(solution.objective) - np.asarray(reference.objective)) / span)
    worth = sum(np.ravel(s.certificate.resolution) for s in (solution, reference))
    gaps = sum(np.abs(np.ravel(s.certificate.duality_gap)) for s in (solution, reference))
    for i, (one, two) in enumerate(zip(status, other, strict=True)):
        if one is not two:
            tally.wrong.append(f"case {number}[{i}]: {one.name} by {solution.stats.engine}, {two.name} by NumPy")
        elif one is ka.Status.OPTIMAL:
            tally.seen(APART, float(apart[i]), number)
            tally.outcomes["apart by no more than an ulp of the data"] += bool(apart[i] <= worth[i])
            if not apart[i] <= worth[i] + gaps[i]:
                tally.wrong.append(f"case {number}[{i}]: engines {apart[i]:.2g} apart, resolution {worth[i]:.2g}")


@contextmanager
def patched_environment(name: str, value: str) -> Iterator[None]:
    """The environment with a variable set, put back afterwards."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def beside(problem: ka.Problem, number: int, planned: float) -> tuple[dict[str, str], list[str]]:
    """What the other solvers get wrong on a problem, or on the first of a batch; and which were asked."""
    return fuzz_variants.check(single(problem), np.random.default_rng([number, 1]), infeasible_whole, planned)


def infeasible_whole(problem: ka.Problem) -> bool:
    """`infeasible` of a problem that is no batch."""
    return infeasible(rows(problem, np.ones(1, dtype=bool)))


def single(problem: ka.Problem) -> ka.Problem:
    """The first problem of a batch."""
    if not problem.batch_shape:
        return problem
    values = {"cell": CELL, "devices": tuple(ka.Devices.__dataclass_fields__)}
    cell, devices = (
        {n: None if (v := getattr(getattr(problem, table), n)) is None else np.asarray(v)[0] for n in names}
        for table, names in values.items()
    )
    cell = {n: None if v is None else v[0] for n, v in cell.items()}
    return ka.Problem(ka.Cell(**cell), ka.Devices(**devices), _first_of(problem.pruning_error))


def _first_of(curve: ka.PruningError) -> ka.PruningError:
    """The curve of the first problem of a batch."""
    if isinstance(curve, ka.PowerLaw):
        return ka.PowerLaw(*(v if np.ndim(v) == 0 else np.asarray(v)[0] for v in (curve.exponent, curve.scale)))
    if isinstance(curve, ka.Table) and np.ndim(curve.error) > 1:
        return ka.Table(*(v if np.ndim(v) == 1 else np.asarray(v)[0] for v in (curve.pruning_ratio, curve.error)))
    return curve


def _fields() -> list[tuple[str, str]]:
    return [("cell", n) for n in CELL] + [("devices", n) for n in ka.Devices.__dataclass_fields__]


def infeasible(problem: ka.Problem) -> bool:
    """Whether no allocation exists, or doubles cannot tell, by searches on the physical constraints."""
    c, d = problem.cell, problem.devices
    one = ka.Problem(
        ka.Cell(*(np.asarray(getattr(c, n))[0, 0] if getattr(c, n) is not None else None for n in CELL)),
        ka.Devices(**{n: np.asarray(getattr(d, n))[0] for n in ka.Devices.__dataclass_fields__}),
    )
    v = physical(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows of the search itself
        floors = floor_bandwidth_hz(one)
        own = np.asarray(d.bandwidth_max_hz)[0]
        if not floors.sum() <= v["B"] * (1 - 1e-9) or not (floors <= own * (1 - 1e-9))[floors > 0].all():
            return True
        return bool(np.isfinite(v["P_tot"]) and least_power_w(v, floors, own) >= v["P_tot"] * (1 - 1e-6))


def least_power_w(v: dict[str, Any], floors: FloatArray, own: FloatArray) -> float:
    """Least total power that carries the floors within the bandwidth, by bisection on the price of bandwidth."""
    bits = (v["S"] * v["q_min"] + v["S0"]) * np.log(2)
    sends = bits > 0
    r = (bits / (v["T"] - v["a"] * v["q_min"]))[sends]
    g, least, most = v["g"][sends], floors[sends], own[sends]
    if not sends.any():
        return 0.0

    def width(price: float) -> FloatArray:
        """Where d(power)/d(b) = -price: (e^y (y - 1) + 1)/g = price at y = r/b, in logarithms of y."""
        low, high = np.full(r.shape, -60.0), np.full(r.shape, np.log(690.0))
        for _ in range(90):
            y = np.exp((low + high) / 2)
            slope = np.where(y < 1e-4, 0.5 * y * y, np.exp(y) * (y - 1) + 1) / g
            low, high = np.where(slope < price, np.log(y), low), np.where(slope < price, high, np.log(y))
        return np.minimum(np.maximum(r / np.exp(low), least), most)

    low, high = -700.0, 700.0
    for _ in range(90):
        middle = (low + high) / 2
        low, high = (middle, high) if width(np.exp(middle)).sum() > v["B"] else (low, middle)
    b = width(np.exp(high))
    return float((b * np.expm1(r / b) / g).sum())


def drawn(seed: int, number: int, dead: float, own: float, clock: float = 0.0) -> Case:
    """A case of a seed, with the given chances that its devices cannot send, have limits of their own, or a clock."""
    case = draw(np.random.default_rng([seed, number]))
    for stream, share, change in ((1, dead, deaden), (2, own, narrow), (3, clock, tick)):
        chance = np.random.default_rng([seed, number, stream])
        if not case.bad and chance.random() < share:
            change(chance, case)
    return case


def run(
    seed: int,
    first: int,
    count: int,
    dead: float = 0.0,
    own: float = 0.0,
    every: int = BESIDE,
    planned: float = fuzz_variants.PLANNED,
    engines: str = "default",
    clock: float = 0.0,
) -> Tally:
    """Cases ``first`` to ``first + count`` of a seed."""
    tally = Tally()
    for number in range(first, first + count):
        case = drawn(seed, number, dead, own, clock)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "devices.channel_gain")  # fields of every scale
                warnings.filterwarnings("ignore", "the best plan prunes everything")  # as it may at such scales
                tally.add(judge(case, number, deep=number % 50 == 0, every=every, planned=planned, engines=engines))
        except Exception as error:  # whatever it is, it is a finding
            tally.wrong.append(f"case {number}: {type(error).__name__}: {error}")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="cases to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case: where to go on, what to repeat")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dead", type=float, default=DEAD, help="share of the cases with devices that cannot send")
    parser.add_argument("--own", type=float, default=OWN, help="share with curves and limits of each device's own")
    parser.add_argument("--clock", type=float, default=CLOCKED, help="share whose devices have clocks and electronics")
    parser.add_argument(
        "--beside", type=int, default=BESIDE, help="one case in so many goes through the other questions"
    )
    parser.add_argument(
        "--planned", type=float, default=fuzz_variants.PLANNED, help="share of those that is planned too"
    )
    parser.add_argument("--engines", choices=("default", "both"), default="default", help="both: NumPy alone, too")
    args = parser.parse_args()
    starts = range(args.first, args.first + args.count, CHUNK)
    sizes = [min(CHUNK, args.first + args.count - s) for s in starts]
    total = Tally()
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C workers end what they have in hand
    with ProcessPoolExecutor(args.workers, initializer=deaf) as pool, tqdm(total=args.count, unit="problem") as bar:
        one = partial(
            run, args.seed, dead=args.dead, own=args.own, every=args.beside, planned=args.planned,
            engines=args.engines, clock=args.clock,
        )  # fmt: skip
        for size, tally in zip(sizes, pool.map(one, starts, sizes), strict=True):
            total.add(tally)
            for line in tally.wrong:
                tqdm.write(line, file=sys.stderr)  # at once, whatever standard output is
            bar.update(size)
            bar.set_postfix(wrong=len(total.wrong))
    print(f"{'cases':32s} {args.count} from {args.first}, seed {args.seed}")
    for outcome, number in total.outcomes.most_common():
        print(f"{outcome:32s} {number}")
    for name, (value, number) in sorted(total.worst.items()):
        print(f"{name:32s} {value:.2e}  (case {number})")
    print(f"{'wrong':32s} {len(total.wrong)}")
    for line in total.wrong[:50]:
        print(line)
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(_command.run("fuzz_allocator", main))
