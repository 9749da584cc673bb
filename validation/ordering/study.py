"""What is run: several allocations of the same cells at one short deadline, with the step held alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..config import DATASETS, Radio, Training

FloatArray = NDArray[np.float64]
MODULES = ("config", "radio", "schemes", "study", "ordering/allocations", "ordering/study")
"""Modules that make the numbers."""

FIRST_SEED = 720
_APART = 1000
"""Seeds of one cell's trainings lie this far apart."""


@dataclass(frozen=True)
class OrderingStudy:
    """Sparse uploads; the server takes the plain mean, so that its step does not depend on the masks.

    Deadline, radius, rate, rounds and repeats were chosen on seeds below 100.
    """

    name: str = "ordering"
    seeds: tuple[int, ...] = tuple(range(FIRST_SEED, FIRST_SEED + 8))
    allocations: tuple[str, ...] = (
        "equal", "linear", "power2", "power4", "power8", "common", "measured",
    )  # fmt: skip
    deadline_fraction: float = 0.25
    """Of the mean unpruned round: where the tail sums have their knee. A round in which equal shares cannot meet that
    is as much longer, for every allocation."""
    server_rate: float = 2.0
    rounds: int = 60
    repeats: int = 4
    """Of each training, with other batches: the objective says nothing of a single draw of them."""
    pilot_rounds: int = 20
    """Of unpruned training, whose reports are the measured tail sums."""
    radio: Radio = field(default_factory=lambda: Radio(cell_radius_m=250.0, pruning_ratio_max=0.995))
    training: Training = field(default_factory=lambda: Training(personal_steps=6, **DATASETS["digits"]))
    """More personal steps than pruned ones, as in LocalAlt."""


CONFIG = OrderingStudy()
_SEEDS = {"mnist": tuple(range(730, 738)), "fashion_mnist": (*range(740, 748), *range(995, 1011), *range(1120, 1144))}
"""Eight each; on Fashion-MNIST sixteen and then twenty-four more, since fewer left open whether the rank correlation
reaches 0.9."""


def on(dataset: str) -> OrderingStudy:
    """The study on ``digits``, ``mnist`` or ``fashion_mnist``, with seeds and so cells of its own.

    On the larger ones trainings are fewer and shorter.
    """
    if dataset == "digits":
        return CONFIG
    training = Training(**{"dataset": dataset, "personal_steps": CONFIG.training.personal_steps, **DATASETS[dataset]})
    return replace(CONFIG, seeds=_SEEDS[dataset], rounds=40, repeats=2, training=training)


def cases(config: OrderingStudy, data_dir: Path | None = None) -> dict[str, Case]:
    """One case per seed: all its allocations."""
    return {f"seed{seed}": partial(run, config, seed, data_dir) for seed in config.seeds}


def run(config: OrderingStudy, seed: int, data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Measure the tail sums, allocate in each way, predict and train."""
    import fltrain as ft

    from .. import schemes
    from ..radio import demand, draw_phones
    from ..study import load_data, work
    from .allocations import allocate, lost, measure, train

    training = replace(config.training, rounds=config.rounds)
    data = load_data(training, data_dir)
    shares = ft.partition(
        data, training.devices, training.partition, seed,
        classes_per_device=training.classes_per_device, samples_per_device=training.samples_per_device,
        test_fraction=training.test_fraction,
    )  # fmt: skip
    phones = draw_phones(config.radio, training.devices, config.rounds, seed)
    unpruned = demand(config.radio, phones, work(training, data, shares, schemes.SCHEMES["partial"], seed)[2])
    asked_s = config.deadline_fraction * float(schemes.unpruned_round_s(config.radio, phones, unpruned).mean())
    split, base, _ = work(training, data, shares, schemes.SCHEMES["joint"], seed)
    sparse = replace(base, update="sparse", averaging="fill", server_rate=config.server_rate)
    need = demand(config.radio, phones, ft.count_workload(split, sparse, shares))
    equal = schemes.equal(config.radio, phones, need, asked_s)
    curves = measure(split, sparse, shares, config.pilot_rounds, need.weight)

    def accuracies(ratio: FloatArray) -> FloatArray:
        """(repeats, rounds)"""
        draws = [replace(sparse, seed=seed + _APART * repeat) for repeat in range(config.repeats)]
        return np.array([[r["accuracy"] for r in train(split, draw, shares, ratio).records] for draw in draws])

    found = []
    for name in config.allocations:
        plan = allocate(name, config.radio, phones, need, equal.deadline_s, curves)
        if not np.allclose(plan.latency_s.max(axis=1), equal.deadline_s, rtol=1e-4):
            raise ValueError(f"seed {seed}: {name} does not keep the deadline")
        accuracy = accuracies(plan.pruning_ratio)
        found.append(
            {
                "allocation": name,
                "seed": seed,
                "predicted": float(lost(curves, plan.pruning_ratio).mean()),
                "predicted_linear": float((plan.pruning_ratio @ need.weight).mean()),
                "accuracy_averaged": float(accuracy.mean()),
                "accuracy_averaged_each": accuracy.mean(axis=1).tolist(),
                "accuracy": float(accuracy[:, -10:].mean()),
                "longer": float(equal.late.mean()),
                "worst_residual": plan.worst_residual,
            }
        )
    return found
