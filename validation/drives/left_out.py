"""What it would be worth to leave the slowest phones out of a round on the measured drives; plans, trains nothing.

    python -m validation.drives.left_out DIR

`DIR` as of `drives`. By the planner's own measure, progress per second, in which who is left out makes no progress.
Unpruned rounds get the same offer. Error curves are those that the planner takes before phones have reported.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .study import DrivesStudy, on_drives, task
from .tuned import TUNING

SEEDS = (60, 61)
LEFT_OUT = (0, 1, 2, 3)
EVERY_S, ROUNDS = 20.0, 10
"""Rounds are planned as if they began so far apart, so many of them."""


def worth(
    config: DrivesStudy, data_dir: Path, seed: int, left_out: tuple[int, ...] = LEFT_OUT, rounds: int = ROUNDS
) -> dict[str, NDArray[np.float64]]:
    """Planned and unpruned: mean progress per second without the slowest, over that with everyone, (left_out,)."""
    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner
    from fltrain.radio import Chooser, Unpruned

    joint = next(entry for entry in config.entries if entry.scheme == "joint")
    split, shares, train_config = task(config, joint, data_dir, seed)
    radio = on_drives(config.cell, data_dir, seed)
    workload = ft.count_workload(split, train_config, shares)
    choosers: dict[str, Chooser] = {
        "planned": AdaptivePlanner(radio.build, kinds=("sparse", "frozen"), progress_power=1.0),
        "unpruned": Unpruned(radio.build),
    }
    slowest_first = np.argsort(np.asarray(radio.phones.flop_per_s))
    found: dict[str, list[list[float]]] = {name: [] for name in choosers}
    for t in range(rounds):
        now = replace(workload, elapsed_s=t * EVERY_S)
        served = radio.link.gain(t, now.elapsed_s) > 0
        for name, chooser in choosers.items():
            row = []
            for count in left_out:
                asked = np.sort(slowest_first[count:])
                asked = asked[served[asked]]
                if not len(asked):
                    row.append(0.0)
                    continue
                choice = chooser.choose(t, asked, now.of(asked))
                lost = choice.loss if name == "planned" else 0.0
                row.append((float(workload.weight[asked].sum()) - lost) / choice.deadline_s)
            found[name].append(row)
    means = {name: np.mean(rows, axis=0) for name, rows in found.items()}
    return {name: mean / mean[0] for name, mean in means.items()}


def main() -> None:
    """Print both."""
    for seed in SEEDS:
        for name, values in worth(TUNING, Path(sys.argv[1]), seed).items():
            print(f"seed {seed}, {name}, without the {LEFT_OUT} slowest: " + ", ".join(f"{v:.2f}" for v in values))


if __name__ == "__main__":
    main()
