"""What is run: unpruned training, the planner's rounds, one common ratio and the seed paper's scheme, in one cell.

The server rate is tuned for the unpruned scheme: the study `tuning` trains it at several rates on seeds below 100. All
schemes of `adaptive` then take the rate that reached the target first, with a mean whose step does not depend on masks,
so that what differs between them is not the step. Untuned, and with the mean over those who kept a coordinate, they
are reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..cases import Case
from ..config import DATASETS, Radio, Training, to_dict

MODULES = ("config", "radio", "schemes", "study", "adaptive/study", "adaptive/planners")
"""Modules that make the numbers."""
FIRST_SEED = 300
"""Reported seeds: none of them was looked at before."""


@dataclass(frozen=True)
class Entry:
    """One scheme with its server step."""

    scheme: Literal["unpruned", "joint", "common", "paper"]
    server_rate: float
    averaging: Literal["covered", "fill"] = "fill"

    @property
    def name(self) -> str:
        """For files and tables."""
        mean = "" if self.scheme == "unpruned" else f"-{self.averaging}"
        return f"{self.scheme}{mean}-rate{self.server_rate:g}"


UNTUNED = Entry("unpruned", 1.0)
PAPER = Entry("paper", 1.0, "covered")


@dataclass(frozen=True)
class AdaptiveStudy:
    """Sparse uploads as the planner runs them, on one data set."""

    name: str = "adaptive"
    dataset: Literal["digits", "fashion_mnist", "mnist"] = "digits"
    seeds: tuple[int, ...] = tuple(range(FIRST_SEED, FIRST_SEED + 5))
    entries: tuple[Entry, ...] = (
        UNTUNED, Entry("unpruned", 2.0), Entry("joint", 2.0), Entry("common", 2.0), Entry("joint", 1.0, "covered"),
        PAPER,
    )  # fmt: skip
    """The paper's scheme: zeroed rounds, its linear objective, deadline 0.4 of the unpruned round, ratios up to 0.8."""
    rounds: int = 60
    """Of every scheme; those that prune take less time for them."""
    pruning_ratio_max: float = 0.99
    paper_deadline: float = 0.4
    radio: Radio = field(default_factory=Radio)


CONFIG = AdaptiveStudy()
TUNING = AdaptiveStudy(
    name="tuning", seeds=(60, 61), entries=tuple(Entry("unpruned", rate) for rate in (1.0, 2.0, 3.0))
)


def run_config(config: AdaptiveStudy) -> dict[str, Any]:
    """What one run's numbers depend on: more seeds or entries leave finished runs valid."""
    return {name: value for name, value in to_dict(config).items() if name not in ("seeds", "entries")}


def cases(config: AdaptiveStudy, data_dir: Path | None = None) -> dict[str, Case]:
    """One case per seed and entry."""
    return {
        f"{entry.name}-seed{seed}": partial(run, config, entry, seed, data_dir)
        for seed in config.seeds
        for entry in config.entries
    }


def run(config: AdaptiveStudy, entry: Entry, seed: int, data_dir: Path | None) -> dict[str, Any]:
    """Train one entry at one seed; accuracy and clock after every round, and what was planned."""
    import torch

    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner

    from ..radio import demand, draw_phones
    from ..schemes import SCHEMES, Allocation, earliest, joint, unpruned_round_s
    from ..study import load_data, work
    from .planners import CommonPlanner, of_phones

    torch.set_num_threads(1)
    training = replace(Training(dataset=config.dataset, rounds=config.rounds), **DATASETS[config.dataset])
    data = load_data(training, data_dir)
    shares = ft.partition(
        data, training.devices, training.partition, seed, classes_per_device=training.classes_per_device,
        samples_per_device=training.samples_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip
    phones = draw_phones(config.radio, training.devices, config.rounds, seed)
    reference = demand(config.radio, phones, work(training, data, shares, SCHEMES["partial"], seed)[2])
    unpruned_s = unpruned_round_s(config.radio, phones, reference)
    # What no pruning shortens: the broadcast and the slowest phone's training, all of it dense.
    floor_s = reference.broadcast_s[:, 0] + float((reference.local_s + reference.pruned_s).max())

    split, train_config, workload = work(
        training, data, shares, SCHEMES["partial" if entry.scheme == "unpruned" else "joint"], seed
    )
    train_config = replace(train_config, server_rate=entry.server_rate, averaging=entry.averaging)
    planner: ft.Planner
    if entry.scheme in ("joint", "common"):
        train_config = replace(train_config, update="sparse")
        kind = AdaptivePlanner if entry.scheme == "joint" else CommonPlanner
        planner = kind(of_phones(config.radio, phones), pruning_ratio_max=config.pruning_ratio_max)
    else:
        need = demand(config.radio, phones, workload)
        plan: Allocation = (
            earliest(config.radio, phones, need, 1.0)
            if entry.scheme == "unpruned"
            else joint(config.radio, phones, need, config.paper_deadline * float(unpruned_s.mean()))
        )

        def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
            t = round_index
            return ft.RoundPlan(plan.pruning_ratio[t], plan.latency_s[t], plan.energy_j[t], workload.selected)

    history = ft.train(split, shares, train_config, planner, progress=False)
    records = history.records
    return {
        "entry": entry.name,
        "seed": seed,
        "accuracy": [record["accuracy"] for record in records],
        "time_s": [record["wall_clock_s"] for record in records],
        "pruning_ratio": [record["mean_pruning_ratio"] for record in records],
        "energy_j": float(np.mean([record["energy_j"] for record in records])),
        "error_curve": records[-1]["error_curve"],
        "unpruned_round_s": float(unpruned_s.mean()),
        "floor": float(np.mean(floor_s / unpruned_s)),
        "train_config": train_config.to_dict(),
    }
