"""What is run: the joint scheme in cells of other bandwidth with phones of other speed, all else as in the reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..cases import Case
from ..config import DATASETS, JOINT, REFERENCE, Study, Training, seeds

MODULES = ("config", "radio", "schemes", "study", "map/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class MapStudy:
    """Digits; the unpruned reference learns the same in every cell, only its clock differs: it is trained once."""

    name: str = "map"
    seeds: tuple[int, ...] = seeds(2)
    bandwidths_hz: tuple[float, ...] = (1.25e6, 2.5e6, 5e6, 10e6, 20e6)
    speeds: tuple[float, ...] = (0.25, 1.0, 4.0)
    """Processor speed over that of the reports."""
    comparison: Study = field(default_factory=lambda: Study(training=Training(**DATASETS["digits"])))


CONFIG = MapStudy()


def cases(config: MapStudy) -> dict[str, Case]:
    """The reference per seed, then one case per cell and seed."""
    found: dict[str, Case] = {f"reference-seed{s}": partial(reference, config, s) for s in config.seeds}
    return found | {
        f"joint-{bandwidth / 1e6:g}MHz-speed{speed:g}-seed{seed}": partial(joint, config, bandwidth, speed, seed)
        for seed in config.seeds
        for bandwidth in config.bandwidths_hz
        for speed in config.speeds
    }


def reference(config: MapStudy, seed: int) -> dict[str, Any]:
    """Accuracy of the unpruned scheme after every round."""
    run = _run(config.comparison, REFERENCE, seed)
    return {"seed": seed, "accuracy": [record["accuracy"] for record in run["history"]]}


def joint(config: MapStudy, bandwidth_hz: float, speed: float, seed: int) -> dict[str, Any]:
    """Accuracy and clock of the joint scheme in one cell, and the mean unpruned round there."""
    base = config.comparison.radio
    low, high = base.cycles_per_flop
    radio = replace(base, bandwidth_hz=bandwidth_hz, cycles_per_flop=(low / speed, high / speed))
    study = replace(config.comparison, radio=radio)
    run = _run(study, JOINT, seed)
    return {
        "seed": seed,
        "bandwidth_hz": bandwidth_hz,
        "speed": speed,
        "accuracy": [record["accuracy"] for record in run["history"]],
        "time_s": [record["wall_clock_s"] for record in run["history"]],
        "unpruned_round_s": run["deadline_s"] / study.deadline_fraction,
        "pruning_ratio": float(np.mean(run["allocation"]["pruning_ratio"])),
        "late": float(np.mean(run["allocation"]["late"])),
    }


def _run(study: Study, scheme: str, seed: int) -> dict[str, Any]:
    from ..study import load_data, run_one

    return run_one(study, load_data(study.training, None), scheme, seed)
