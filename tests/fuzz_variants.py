"""The solvers beside `solve`, held against searches that do not know them: blocks, min-max, the least, select, plans.

`check` takes any single problem and returns what is wrong, by name; `fuzz_allocator` calls it on a part of its stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
from independent import best_keep_ratio, floor_bandwidth_hz, physical
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
    found = {
        "blocks": _blocks(problem, int(rng.choice([1, 2, 3, 7]))),
        "minmax": _minmax(problem, infeasible),
        "least": _least(problem, infeasible),
        "energy": _energy(problem, infeasible),
        "select": _select(problem),
        "plan": _plan(problem, rng) if rng.random() < planned else None,
    }
    return {name: text for name, text in found.items() if text}, [
        name for name, text in found.items() if text is not None
    ]


def _slips(problem: ka.Problem, s: Any) -> dict[str, float]:
    """Primal residuals of an allocation that exceed the tolerance."""
    verdict = ka.certify(problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w)
    residuals = {name: float(v) for name, v in verdict.residuals.items() if name.startswith("primal")}
    return {name: v for name, v in residuals.items() if not v <= TOLERANCE}


def _blocks(problem: ka.Problem, n: int) -> str | None:
    v, K = physical(problem), problem.shape[-1]
    if K > 3 or problem.capped or problem.bandwidth_limited:
        return None
    block = v["B"] / n
    s = ka.solve_blocks(problem, block, throw=False)
    ways = [np.array(w) for w in product(range(n + 1), repeat=K) if sum(w) <= n]
    floors = floor_bandwidth_hz(problem)
    costs = []
    for way in ways:
        if (floors <= way * block * (1 + TOLERANCE)).all():
            q = np.maximum(best_keep_ratio(v, way * block), v["q_min"])
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
