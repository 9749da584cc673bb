"""What is run: several allocations of the same cells at one short deadline, with the step held alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..config import DATASETS, Radio, Training

FloatArray = NDArray[np.float64]
MODULES = ("config", "radio", "schemes", "study", "ordering/study")
"""Modules that make the numbers."""

FIRST_SEED = 300


@dataclass(frozen=True)
class OrderingStudy:
    """Sparse uploads on digits; the server takes the plain mean, so that its step does not depend on the masks.

    Deadline, radius, rate and rounds were chosen on seeds below 100.
    """

    name: str = "ordering"
    seeds: tuple[int, ...] = tuple(range(FIRST_SEED, FIRST_SEED + 8))
    allocations: tuple[str, ...] = (
        "equal", "pruning_only", "linear", "power2", "power4", "power8", "common", "measured",
    )  # fmt: skip
    deadline_fraction: float = 0.25
    """Of the mean unpruned round: where the tail sums have their knee."""
    server_rate: float = 2.0
    rounds: int = 60
    pilot_rounds: int = 20
    """Of unpruned training, whose reports are the measured tail sums."""
    radio: Radio = field(default_factory=lambda: Radio(cell_radius_m=250.0, pruning_ratio_max=0.995))
    training: Training = field(default_factory=lambda: Training(**DATASETS["digits"]))


CONFIG = OrderingStudy()


def cases(config: OrderingStudy) -> dict[str, Case]:
    """One case per seed: all its allocations."""
    return {f"seed{seed}": partial(run, config, seed) for seed in config.seeds}


def run(config: OrderingStudy, seed: int) -> list[dict[str, Any]]:
    """Measure the tail sums, allocate in each way, predict and train."""
    import fltrain as ft
    import kktalloc as ka
    from kktalloc.bound import objective

    from .. import schemes
    from ..radio import demand, draw_phones
    from ..study import load_data, work

    training = replace(config.training, rounds=config.rounds)
    data = load_data(training, None)
    shares = ft.partition(
        data, training.devices, training.partition, seed,
        classes_per_device=training.classes_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip
    phones = draw_phones(config.radio, training.devices, config.rounds, seed)
    unpruned = demand(config.radio, phones, work(training, data, shares, schemes.SCHEMES["partial"], seed)[2])
    deadline_s = config.deadline_fraction * float(schemes.unpruned_round_s(config.radio, phones, unpruned).mean())
    split, base, _ = work(training, data, shares, schemes.SCHEMES["joint"], seed)
    sparse = replace(base, update="sparse", averaging="fill", server_rate=config.server_rate)
    workload = ft.count_workload(split, sparse, shares)
    need = demand(config.radio, phones, workload)

    def train(ratio: FloatArray) -> ft.History:
        def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
            nothing = np.zeros(training.devices)
            return ft.RoundPlan(ratio[round_index], nothing, nothing, np.ones(training.devices, dtype=bool))

        return ft.train(split, shares, replace(sparse, rounds=len(ratio)), planner, progress=False)

    changes: list[ft.Changes] = []
    pilot = replace(sparse, rounds=config.pilot_rounds)

    def watch(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        if workload.changes is not None:
            changes.append(workload.changes)
        nothing = np.zeros(training.devices)
        return ft.RoundPlan(nothing, nothing, nothing, np.ones(training.devices, dtype=bool))

    ft.train(split, shares, pilot, watch, progress=False)
    squares = np.mean([c.change_sq[:, None] * c.error for c in changes if np.isfinite(c.change_sq).all()], axis=0)
    curves = objective("sparse", ft.ERROR_RATIOS, squares, need.weight, hull="minorant")

    def joint(curve: Any, weight: FloatArray | None = None) -> schemes.Allocation:
        asked = need if weight is None else replace(need, weight=weight)
        return schemes.joint(config.radio, phones, asked, deadline_s, pruning_error=curve)

    ways: dict[str, Callable[[], schemes.Allocation]] = {
        "equal": lambda: schemes.equal(config.radio, phones, need, deadline_s),
        "pruning_only": lambda: schemes.pruning_only(config.radio, phones, need, deadline_s),
        "common": lambda: schemes.allocation_only(config.radio, phones, need, deadline_s),
        "linear": lambda: joint(None),
        "power2": lambda: joint(ka.PowerLaw(2.0)),
        "power4": lambda: joint(ka.PowerLaw(4.0)),
        "power8": lambda: joint(ka.PowerLaw(8.0)),
        "power16": lambda: joint(ka.PowerLaw(16.0)),
        "measured": lambda: joint(curves.pruning_error, curves.weight),
    }
    found = []
    for name in config.allocations:
        plan = ways[name]()
        history = train(plan.pruning_ratio)
        lost = [curves.pruning_error.value(ratio) @ curves.weight for ratio in plan.pruning_ratio]
        accuracy = [record["accuracy"] for record in history.records]
        found.append(
            {
                "allocation": name,
                "seed": seed,
                "predicted": float(np.mean(lost)),
                "predicted_linear": float((plan.pruning_ratio @ need.weight).mean()),
                "accuracy_averaged": float(np.mean(accuracy)),
                "accuracy": float(np.mean(accuracy[-10:])),
                "late": float(plan.late.mean()),
                "worst_residual": plan.worst_residual,
            }
        )
    return found
