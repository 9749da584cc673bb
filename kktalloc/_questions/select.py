"""Device selection: whom to leave out when the cell cannot serve everyone.

A device that cannot meet its floor by itself, whatever the bandwidth, has to go. The rest can be served exactly when
their floor bandwidths together fit, so what is left is a knapsack with those as sizes:

- fewest dropped: any m devices need at least the bandwidth of the m smallest, hence keeping the smallest floors for as
  long as they fit keeps as many as possible;
- least weight dropped: the knapsack proper, by its undominated partial selections (Nemhauser and Ullmann 1969), cut
  back by the linear relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kktalloc._certificate.certificate import Certificate
from kktalloc._engine.floors import Question, ask
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import FEASIBLE
from kktalloc._problem.variant import WHOLE, refuse_total_power, variant
from kktalloc._questions.diagnosis import BANDWIDTH, RESOURCES, Diagnosis, floors_of
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged
from kktalloc._questions.solution import Solution, solve

STATES = 5_000


@dataclass(frozen=True, eq=False, repr=False)
class Selection(Shown, Judged):
    """Whom the cell serves, and why not the others.

    Parameters
    ----------
    kept
        Shape ``(..., K)``, bool.
    resource
        Why a device was dropped, shape ``(..., K)``: ``"deadline"``, ``"energy"``, ``"peak_power"`` or
        ``"bandwidth_max"`` where it cannot meet its floor by itself (see `Diagnosis`), ``"bandwidth"`` where the others
        need the bandwidth; ``""`` where it was kept.
    kept_weight
        Aggregation weight of the kept devices, of 1 for all, shape ``(...)``.
    weight_bound
        What no feasible selection's weight exceeds, shape ``(...)``. By weight: equal to `kept_weight` where the
        search finished, which proves it optimal.
    solution
        The optimal allocation of the kept devices, their weights normalised to sum 1. Dropped devices are in its
        arrays with pruning ratio 1 and no bandwidth, power, time or energy. Where nobody is kept it is ``OPTIMAL`` all
        the same, the solution of an empty cell: `kept` tells.
    """

    problem: Problem
    kept: np.ndarray
    resource: np.ndarray
    kept_weight: FloatArray
    weight_bound: FloatArray
    solution: Solution

    @property
    def diagnosis(self) -> Diagnosis | None:  # type: ignore[override]
        """None: whom the cell cannot serve was dropped."""
        return self.solution.diagnosis

    @property
    def certificate(self) -> Certificate:
        """The verdict on the solution of those who were kept."""
        return self.solution.certificate

    def _shown(self) -> tuple[str, Rows]:
        one = not self.problem.batch_shape
        return f"{self.message}; {headline(self)}", device_table(
            self.solution, **{"dropped for": self.resource} if one else {}
        )

    @cached_property
    def message(self) -> str:
        """One line: how many devices were dropped, of all problems together, and why."""
        dropped = self.resource != ""
        reasons, counts = np.unique(self.resource[dropped], return_counts=True)
        why = ", ".join(f"{n} for {reason}" for reason, n in zip(reasons, counts, strict=True))
        return f"{dropped.size - dropped.sum()} of {dropped.size} devices kept" + (f"; dropped {why}" if why else "")


@speaks_arrays
@measured
def select(problem: Problem, by: Literal["count", "weight"] = "count") -> Selection:
    """Drop the fewest devices, or the least weight, so that the rest can be served; solve for the rest.

    Parameters
    ----------
    problem
        One problem or a batch. A cap on total power binds the solution, but must not cost a device its place.
    by
        ``"count"`` drops the fewest devices, exactly; of equal floors the lighter go first. ``"weight"`` drops the
        least aggregation weight: exactly as long as no more than 5,000 partial selections have to be kept apart at a
        time, else the best of those most promising, with the bound to tell how far off it can be.

    Raises
    ------
    ValueError
        If `by` is neither, or those whose floors fit the bandwidth need more than the total power: then somebody would
        have to go for power's sake.
    """
    if by not in ("count", "weight"):
        raise ValueError(f"by = {by!r}: one of 'count', 'weight'")
    asked = ask(problem, Question.SELECTION)
    if asked is None or by == "weight":
        weight = np.asarray(problem.devices.weight).reshape(problem.sizes)
    if asked is not None:
        (held, bound, *_), (floors, lacks, smallest, _) = asked
        kept, lacks = smallest > 0.0, lacks.astype(np.intp)
        bound = np.maximum(held, bound)
    else:
        floors, lacks, _ = floors_of(problem)
        kept = _smallest(floors, weight)
        held = np.where(kept, weight, 0.0).sum(axis=1)
        bound = np.maximum(np.array([_relaxed(w, b) for w, b in zip(weight, floors, strict=True)], dtype=float), held)
    if by == "weight":
        found = [_heaviest(w, b) for w, b in zip(weight, floors, strict=True)]
        kept = np.array([k for k, _ in found], dtype=bool).reshape(floors.shape)
        proven = np.array([p for _, p in found], dtype=bool)
        held = np.where(kept, weight, 0.0).sum(axis=1)
        bound = np.where(proven, held, np.maximum(bound, held))

    served = kept.reshape(problem.shape)
    why = np.where(floors < np.inf, BANDWIDTH, lacks)
    resource = RESOURCES[np.where(kept, 0, why)].reshape(problem.shape)
    batch = problem.batch_shape
    try:
        rest = solve(_rest(problem, served))
    except InfeasibleError as error:
        refuse_total_power(problem, error.diagnosis.total_power_needed_w, "select", WHOLE)
        raise
    return Selection(
        problem, served, resource, held.reshape(batch), bound.reshape(batch), rest
    )  # whose solution is judged and closed


def _rest(problem: Problem, kept: np.ndarray) -> Problem:
    """The problem of the kept devices, the others present but with nothing to do."""
    if kept.all():
        return problem
    idle = {
        "channel_gain": 0.0, "tx_power_max_w": 0.0, "overhead_bits": 0.0, "fixed_latency_s": 0.0,
        "pruned_compute_s": 0.0, "pruned_compute_j": 0.0, "fixed_energy_j": 0.0, "energy_budget_j": np.inf,
        "pruning_ratio_max": 1.0, "fixed_compute_s": 0.0, "fixed_compute_j": 0.0,
    }  # fmt: skip
    changes: dict[str, Any] = {
        name: np.where(kept, given, value)
        for name, value in idle.items()
        if isinstance(given := problem.of_devices(name), np.ndarray) or given != value
    }
    weight = np.where(kept, problem.of_devices("weight"), 0.0)
    # Nobody of any weight left: then all kept count alike, and if nobody is kept the weights do not matter.
    some = weight.any(axis=-1, keepdims=True)
    if not some.all():
        weight = np.where(some, weight, np.where(kept.any(axis=-1, keepdims=True), kept, 1.0))
    return variant(problem, weight=weight, **changes)


def _smallest(floors: FloatArray, weight: FloatArray) -> np.ndarray:
    """The smallest floors for as long as they fit, of equal ones the heavier; shape ``(N, K)``."""
    order = np.lexsort((-weight, floors), axis=1)
    fits = np.cumsum(np.take_along_axis(floors, order, 1), axis=1) <= 1.0 + 0.5 * FEASIBLE
    kept = np.zeros(floors.shape, dtype=bool)
    np.put_along_axis(kept, order, fits, 1)
    return kept


def _by_density(weight: FloatArray, size: FloatArray) -> np.ndarray:
    """Devices that may be kept at all, the most weight per bandwidth first; without a floor before all others."""
    fits = np.flatnonzero(size <= 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(size[fits] > 0.0, weight[fits] / size[fits], np.inf)
    return fits[np.argsort(-density, kind="stable")]


def _relaxed(weight: FloatArray, size: FloatArray) -> float:
    """The most weight that fits if devices could be split."""
    order = _by_density(weight, size)
    filled = np.concatenate([[0.0], np.cumsum(size[order])])
    part = np.clip((1.0 - filled[:-1]) / np.where(size[order] > 0.0, size[order], 1.0), 0.0, 1.0)
    return float((weight[order] * np.where(size[order] > 0.0, part, 1.0)).sum())


def _heaviest(weight: FloatArray, size: FloatArray) -> tuple[np.ndarray, bool]:
    """The heaviest devices that fit together, shape ``(K,)``, and whether they are proven to be.

    Decides one device after the other, the most weight per bandwidth first. Of the partial selections it keeps those
    that no other beats in both size and weight, and that may still lead beyond the best complete one.
    """
    capacity = 1.0 + 0.5 * FEASIBLE
    order = _by_density(weight, size)
    w, b = weight[order], size[order]
    n = order.size
    if n == 0:
        return np.zeros(weight.size, dtype=bool), True
    heavy, wide = np.concatenate([[0.0], np.cumsum(w)]), np.concatenate([[0.0], np.cumsum(b)])
    held, used = np.zeros(1), np.zeros(1)
    history: list[tuple[np.ndarray, np.ndarray]] = []  # per device, for each state: the one before, device taken
    best, stage, state, stop, proven = -1.0, 0, 0, 0, True
    for i in range(n + 1):
        # Completed greedily until one does not fit; bounded by the share of that one that would.
        end = np.maximum(np.searchsorted(wide, wide[i] + capacity - used, side="right") - 1, i)
        whole = held + heavy[end] - heavy[i]
        top = int(np.argmax(whole))
        if whole[top] > best:
            best, stage, state, stop = float(whole[top]), i, top, int(end[top])
        next_one = np.minimum(end, n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = w[next_one] * (capacity - used - (wide[end] - wide[i])) / b[next_one]
        alive = np.flatnonzero((end < n) & (whole + part > best * (1.0 + 1e-14)))
        if alive.size == 0:  # always so behind the last device
            break
        take = alive[used[alive] + b[i] <= capacity]
        before = np.concatenate([alive, take])
        taken = np.arange(before.size) >= alive.size
        held, used = held[before] + np.where(taken, w[i], 0.0), used[before] + np.where(taken, b[i], 0.0)
        rank = np.lexsort((-held, used))
        record = np.maximum.accumulate(held[rank])
        rank = rank[np.concatenate([[True], record[1:] > record[:-1]])]
        if rank.size > STATES:
            proven = False
            rank = rank[np.sort(np.argsort(-(held[rank] - used[rank] * w[i] / b[i]))[:STATES])]
        held, used = held[rank], used[rank]
        history.append((before[rank], taken[rank]))
    kept = np.zeros(weight.size, dtype=bool)
    kept[order[stage:stop]] = True
    for i in range(stage - 1, -1, -1):
        before, taken = history[i]
        kept[order[i]] = taken[state]
        state = int(before[state])
    # What still fits besides costs nothing: devices of no weight.
    for k in order[np.argsort(b, kind="stable")]:
        if not kept[k] and size[kept].sum() + size[k] <= capacity:
            kept[k] = True
    return kept, proven
