"""What is run: in cells of other bandwidth with phones of other speed, the planner's choice beside what else there was.

Fashion-MNIST, one cell of `validation.adaptive` per seed. All schemes take the plain mean and the same server rate,
which `tuning` chose for unpruned training (`validation.adaptive.tuned`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..adaptive.study import MODULES as CELL_MODULES
from ..adaptive.study import AdaptiveStudy, Entry, run
from ..cases import Case
from ..config import to_dict

MODULES = (*CELL_MODULES, "kinds/study")
"""Modules that make the numbers."""
RATE = 4.0
UNPRUNED, CHOSEN = Entry("unpruned", RATE), Entry("joint", RATE, "fill", "chosen")
SWEPT = (
    *(Entry("joint", RATE, "fill", "sparse", deadline) for deadline in (0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.7)),
    *(Entry("joint", RATE, "fill", "frozen", deadline) for deadline in (0.2, 0.4, 0.6, 0.8)),
    Entry("joint", RATE, "fill", "zeroed", 0.4),
)
"""Kinds of round and deadlines over the mean unpruned round, with which the planner's choice is compared. A round that
is not possible by its deadline is as short as it can be."""


@dataclass(frozen=True)
class KindsStudy:
    """Bandwidth by compute speed."""

    name: str = "kinds"
    seeds: tuple[int, ...] = (1011, 1012, 1013, 1014)
    bandwidths_hz: tuple[float, ...] = (1.25e6, 5e6, 20e6)
    speeds: tuple[float, ...] = (0.0625, 1.0)
    """Processor speed over that of the other studies."""
    swept: tuple[Entry, ...] = SWEPT
    cell: AdaptiveStudy = field(default_factory=lambda: AdaptiveStudy(name="kinds", dataset="fashion_mnist"))


CONFIG = KindsStudy()


def run_config(config: KindsStudy) -> dict[str, Any]:
    """What one run's numbers depend on: more seeds, cells or entries leave finished runs valid."""
    return {"name": config.name, "cell": to_dict(config.cell)}


def cases(config: KindsStudy, data_dir: Path | None) -> dict[str, Case]:
    """One case per cell, entry and seed."""
    return {
        f"{entry.name}-{bandwidth / 1e6:g}MHz-speed{speed:g}-seed{seed}": partial(
            in_cell, config, bandwidth, speed, entry, seed, data_dir
        )
        for seed in config.seeds
        for entry in (UNPRUNED, CHOSEN, *config.swept)
        for speed in config.speeds
        for bandwidth in config.bandwidths_hz
    }


def in_cell(
    config: KindsStudy, bandwidth_hz: float, speed: float, entry: Entry, seed: int, data_dir: Path | None
) -> dict[str, Any]:
    """Train one entry in one cell."""
    low, high = config.cell.radio.cycles_per_flop
    radio = replace(config.cell.radio, bandwidth_hz=bandwidth_hz, cycles_per_flop=(low / speed, high / speed))
    found = run(replace(config.cell, radio=radio), entry, seed, data_dir)
    return {"bandwidth_hz": bandwidth_hz, "speed": speed, "kind": entry.kind, "deadline": entry.deadline, **found}
