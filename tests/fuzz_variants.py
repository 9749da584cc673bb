"""The solvers beside `solve`, held against searches that do not know them: blocks, min-max, the least, select, plans.

And `solve` itself in other units, and where the fields of a clock are given as what they are without one. `check` takes
any single problem and returns what is wrong, by name; `fuzz_allocator` calls it on a part of its stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from independent import floor_bandwidth_hz, most_kept, physical
from numpy.typing import NDArray

import kktalloc as ka
from kktalloc._problem.variant import variant
from kktalloc.bound import Constants, Schedule, bound
from kktalloc.plan import plan, time_to_target

FloatArray = NDArray[np.float64]
Infeasible = Callable[[ka.Problem], bool]
TOLERANCE = 1e-9
APART = 1e-6  # relative; a search may not tell problems that are closer
PLANNED = 0.1  # of the problems: a plan takes hundreds of solutions
CONSTANTS = Constants(1.0, 1.0, 0.1, 0.1, 1.0, 0.1, 0.9, 0.05)
SCHEDULE = Schedule(rounds=1, local_steps=5, personal_steps=5, learning_rate_u=0.01, learning_rate_v=0.1)


def check(
    problem: ka.Problem, rng: np.random.Generator, infeasible: Infeasible, planned: float = PLANNED
) -> tuple[dict[str, str], list[str]]:
    """What is wrong, per solver, and who was asked; `infeasible` says of a problem whether no allocation exists."""
    n, is_planned = int(rng.choice([1, 2, 3, 7])), rng.random() < planned
    asked: dict[str, Callable[[], str | None]] = {
        "blocks": lambda: _blocks(problem, n),
        "minmax": lambda: _minmax(problem, infeasible),
        "least": lambda: _least(problem, infeasible),
        "energy": lambda: _energy(problem, infeasible),
        "select": lambda: _select(problem),
        "plan": lambda: _plan(problem, rng) if is_planned else None,
        "other units": lambda: _in_other_units(problem, rng, infeasible),
        "defaults": lambda: None if problem.clocked else _with_defaults(problem),
    }
    wrong, names = {}, []
    for name, ask in asked.items():
        try:
            text = ask()
        except ValueError as refused:
            # With clocks a cap on total power may stand, but not bind.
            if not (problem.clocked and problem.capped and "cell.total_power_w" in str(refused)):
                raise
            text, name = "", f"{name} refused by name"
        if text is not None:
            names.append(name)
        if text:
            wrong[name] = text
    return wrong, names


def _slips(problem: ka.Problem, s: Any) -> dict[str, float]:
    """Primal residuals of an allocation that exceed the tolerance."""
    clock = {"clock": s.clock} if problem.clocked else {}
    verdict = ka.certify(problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w, **clock)
    residuals = {name: float(v) for name, v in verdict.residuals.items() if name.startswith("primal")}
    return {name: v for name, v in residuals.items() if not v <= TOLERANCE}


def _in_other_units(problem: ka.Problem, rng: np.random.Generator, infeasible: Infeasible) -> str:
    """The same problem counted in other seconds, hertz, joules, received watts and clocks: the same pruning ratios."""
    s, hz, j, heard, clock = 10.0 ** rng.uniform(-4.0, 4.0, 5)
    watts, bits, cycles, heat = j / s, s * hz, s * clock, j / clock**2
    factors = {
        "bandwidth_hz": hz, "noise_psd_w_per_hz": heard * watts / hz, "deadline_s": s, "total_power_w": watts,
        "channel_gain": heard, "tx_power_max_w": watts, "payload_bits": bits, "overhead_bits": bits,
        "pruned_compute_s": cycles, "fixed_compute_s": cycles, "fixed_latency_s": s, "energy_budget_j": j,
        "pruned_compute_j": heat, "fixed_compute_j": heat, "fixed_energy_j": j, "circuit_power_w": watts,
        "clock_min": clock, "clock_max": clock, "bandwidth_max_hz": hz,
    }  # fmt: skip
    if not problem.clocked:
        factors |= {"clock_min": 1.0, "clock_max": 1.0, "pruned_compute_s": s, "pruned_compute_j": j}
    cell, devices = (
        {
            f.name: (np.asarray(v)[0] if table is problem.cell else np.asarray(v)) * factors.get(f.name, 1.0)
            for f in fields(table)
            if f.name != "name" and (v := getattr(table, f.name)) is not None
        }
        for table in (problem.cell, problem.devices)
    )
    try:
        other = ka.Problem(ka.Cell(**cell), ka.Devices(**devices), problem.pruning_error)
    except ValueError as refused:  # an extreme that left the range of doubles
        return "" if any(not 0.0 < f < 1e300 for f in (*cell.values(), *devices.values())) else f"units: {refused}"
    one, two = (ka.solve(p, throw=False) for p in (problem, other))
    if one.status is not two.status:
        edge = infeasible(problem) or infeasible(other)
        return "" if edge else f"{one.status.name}, but {two.status.name} in other units"
    if one.diagnosis is not None:
        return ""
    K, curve = problem.shape[-1], problem.pruning_error
    weight = np.asarray(problem.devices.weight)
    span = float((weight * (curve.value(np.ones(K)) - curve.value(np.zeros(K)))).sum()) or 1.0
    apart = abs(float(one.objective) - float(two.objective)) / span
    left = sum(abs(float(a.certificate.duality_gap)) + 4.0 * float(a.certificate.resolution) for a in (one, two))
    return "" if apart <= left + 1e-14 else f"{apart:.2g} apart in other units, where {left:.2g} is left open"


def _with_defaults(problem: ka.Problem) -> str:
    """Fields of a clock given as what they are without one leave every bit as it was."""
    given = {"circuit_power_w": 0.0, "clock_min": 1.0, "clock_max": 1.0, "fixed_compute_s": 0.0, "fixed_compute_j": 0.0}
    same = variant(problem, **{name: np.full(problem.shape, value) for name, value in given.items()})
    one, two = (ka.solve(p, throw=False) for p in (problem, same))
    names = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "clock", "objective")
    off = [n for n in names if not np.array_equal(getattr(one, n), getattr(two, n), equal_nan=True)]
    return f"defaults of a clock move {off}" if off else ""


def _blocks(problem: ka.Problem, n: int) -> str | None:
    v, K = physical(problem), problem.shape[-1]
    if K > 3 or problem.capped or problem.bandwidth_limited:
        return None
    block = v["B"] / n
    s = ka.solve_blocks(problem, block, throw=False)
    ways = [np.array(w, dtype=int) for w in product(range(n + 1), repeat=K) if sum(w) <= n]
    floors = floor_bandwidth_hz(problem)

    @cache
    def kept() -> FloatArray:
        """With 0 to n blocks, all at once, shape ``(n + 1, K)``."""
        each = {f.name: getattr(problem.devices, f.name) for f in fields(ka.Devices)}
        cell = {f.name: getattr(problem.cell, f.name) for f in fields(ka.Cell) if f.name != "total_power_w"}
        many = ka.Problem(
            ka.Cell(**{name: np.asarray(v)[0] for name, v in cell.items()}),
            ka.Devices(**{name: np.tile(np.asarray(v), n + 1) for name, v in each.items() if v is not None}),
        )
        return most_kept(many, np.repeat(np.arange(n + 1.0) * block, K)).reshape(n + 1, K)

    costs = []
    for way in ways:
        if (floors <= way * block * (1 + TOLERANCE)).all():
            q = kept()[way, np.arange(K)]
            costs.append(float(v["alpha"] @ problem.pruning_error.value(1 - q)))
    if s.diagnosis is not None:
        clearly = any((floors <= way * block * (1 - TOLERANCE)).all() for way in ways)
        return f"{n} blocks called infeasible" if clearly else ""
    if slips := _slips(problem, s):
        return f"{n} blocks: {slips}"
    span = max(float(v["alpha"] @ (problem.pruning_error.value(np.ones(K)))), 1e-300) if K else 1.0
    if not costs or float(s.objective) > min(costs) + 1e-7 * span:
        return f"{n} blocks: {float(s.objective)} where {min(costs, default=np.nan)} was found"
    return ""


def _minmax(problem: ka.Problem, infeasible: Infeasible) -> str:
    s, K = ka.solve_minmax(problem, throw=False), problem.shape[-1]
    if s.solution.diagnosis is not None:
        return "" if infeasible(problem) else "min-max called infeasible"
    if slips := _slips(problem, s.solution):
        return f"min-max: {slips}"
    level, weight = float(s.level), np.asarray(problem.devices.weight) * K
    reached = float(np.max(weight * s.solution.pruning_ratio, initial=0.0))
    if not reached <= level * (1 + TOLERANCE) + 1e-15:
        return f"min-max: level {level}, but {reached} in the allocation"
    lower = level * (1 - APART) - 1e-12
    if lower > 0.0:
        with np.errstate(divide="ignore"):
            most = np.minimum(np.asarray(problem.devices.pruning_ratio_max), lower / weight)
        if not infeasible(variant(problem, pruning_ratio_max=most)):
            return f"min-max: level {level}, but {lower} would do"
    return ""


def _least(problem: ka.Problem, infeasible: Infeasible) -> str:
    band, time = float(ka.least_bandwidth(problem)), float(ka.least_deadline(problem))
    for name, amount in (("bandwidth_hz", band), ("deadline_s", time)):
        if not 0.0 < amount < 1e300:
            continue
        # More bandwidth or time may save less power than the search tells apart.
        if not problem.capped and infeasible(variant(problem, **{name: amount * (1 + APART)})):
            return f"least {name} {amount} does not do"
        if amount > 1e-300 and not infeasible(variant(problem, **{name: amount * (1 - APART)})):
            return f"less than the least {name} {amount} does"
    return ""


def _energy(problem: ka.Problem, infeasible: Infeasible) -> str:
    s = ka.least_energy(problem, throw=False)
    if s.diagnosis is not None:
        return "" if infeasible(problem) else "least energy called infeasible"
    if slips := _slips(problem, s):
        return f"least energy: {slips}"
    total = float(s.total_energy_j)
    blur = TOLERANCE * (total + float(s.bandwidth_price_j_per_hz) * float(np.asarray(problem.cell.bandwidth_hz)[0]))
    if not abs(float(s.gap_j)) <= max(blur, 1e-300):
        return f"least energy: {total} with a gap of {float(s.gap_j)}"
    return ""


def _select(problem: ka.Problem) -> str | None:
    K = problem.shape[-1]
    if K > 5 or problem.capped or problem.bandwidth_limited:
        return None
    floors, B = floor_bandwidth_hz(problem), physical(problem)["B"]
    weight = np.asarray(problem.devices.weight)
    sets = [list(c) for r in range(K + 1) for c in combinations(range(K), r)]
    fit = [c for c in sets if floors[c].sum() <= B * (1 - TOLERANCE)]
    for by, size in (("count", np.ones(K)), ("weight", weight)):
        s = ka.select(problem, by)  # type: ignore[arg-type]
        held = float(size[s.kept].sum())
        if not floors[s.kept].sum() <= B * (1 + TOLERANCE):
            return f"select by {by}: {s.kept} does not fit"
        if held < max(float(size[c].sum()) for c in fit) * (1 - TOLERANCE):
            return f"select by {by}: {s.kept} holds {held}, more is possible"
    return ""


def _plan(problem: ka.Problem, rng: np.random.Generator) -> str | None:
    """Against every number of rounds up to 64; and whether the time it takes to get there is the time there was."""
    if not problem.shape[-1]:
        return None
    shortest, own = float(ka.least_deadline(problem)), float(np.asarray(problem.cell.deadline_s)[0])
    total = (shortest if 0.0 < shortest < np.inf else own) * float(rng.uniform(1.0, 60.0))
    if not 0.0 < total < 1e300:
        return ""
    try:
        best = plan(problem, CONSTANTS, SCHEDULE, total, scan=17)
    except ka.InfeasibleError:
        return "" if shortest > total * (1 - TOLERANCE) else f"no plan for {total} s, where a round takes {shortest}"
    if not abs(best.total_time_s / total - 1) <= 1e-12:
        return f"a plan of {best.total_time_s} s for {total} s"
    rounds = np.arange(1, min(total / shortest, 64.0) + 1) if shortest > 0.0 else np.arange(1, 65)
    error = np.asarray(ka.solve(variant(problem, deadline_s=total / rounds), throw=False).objective)
    fine = np.isfinite(error)
    # A table may exceed 1: as much more of the radius squared.
    most = max(1.0, float(problem.pruning_error.value(np.ones(problem.shape)).max()))
    constants = replace(CONSTANTS, pruning_radius=np.sqrt(most))
    share = np.minimum(error[fine, None] / most, 1.0)  # a weighted sum may pass the largest error by an ulp
    values = bound(constants, replace(SCHEDULE, rounds=rounds[fine]), share).gradient_bound
    if fine.any() and not best.gradient_bound <= float(values.min()) * (1 + TOLERANCE):
        return f"plan of {best.rounds} rounds: {best.gradient_bound} where {values.min()} was found"
    target = best.gradient_bound * (1 + TOLERANCE)
    back = time_to_target(problem, CONSTANTS, SCHEDULE, target, scan=17)
    if not (back.gradient_bound <= target * (1 + 1e-11) and back.total_time_s <= total * (1 + 1e-7)):
        return f"time to {target}: {back.gradient_bound} in {back.total_time_s} s, where {total} s would do"
    return ""
