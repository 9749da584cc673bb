"""What a frozen round loses beside what a sparse upload loses, both measured on whole changes; allocates nothing.

    python -m validation.kinds.frozen [--dataset fashion_mnist --data-dir DIR] [--seed 395]

A frozen round chooses its mask by a probe, before training. So of a change that was trained whole it would have kept
the coordinates that the probe moved most, not those that training moved most. Both losses are printed at a few ratios,
mean over devices and rounds, with the power of the sparse one that comes nearest to the frozen one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import optimize

import fltrain as ft
from fltrain.local import device_round
from fltrain.replica import Replica

RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
WATCHED = (1, 3, 6, 10, 15, 20)
"""Rounds after which the next one's changes are looked at."""


def lost(replica: Replica, u: torch.Tensor, personal: ft.PersonalState, share: ft.DeviceData,
         config: ft.TrainConfig, at: tuple[int, int]) -> tuple[list[float], list[float]]:  # fmt: skip
    """Share of a whole change's square outside what a sparse upload keeps, and outside what a frozen round keeps."""
    whole = device_round(replica, u, personal, share, config, 0.0, *at)
    assert whole.values is not None
    square = (whole.values - u).double().square()
    found: tuple[list[float], list[float]] = ([], [])
    for ratio in RATIOS:
        for of, losses in zip((config, replace(config, update="frozen")), found, strict=True):
            mask = device_round(replica, u, personal, share, of, ratio, *at).mask
            losses.append(float(square[~mask].sum() / square.sum()) if mask is not None else 0.0)
    return found


def tails(
    split: ft.Split, shares: list[ft.DeviceData], config: ft.TrainConfig
) -> tuple[list[list[float]], list[list[float]]]:
    """Losses of both kinds, one row per device and watched round of unpruned training."""
    replica = Replica(split, fast=True)
    sparse, frozen = [], []

    def look(t: int, u: torch.Tensor, personal: Sequence[ft.PersonalState]) -> None:
        if t in WATCHED:
            for k, share in enumerate(shares):
                mine, other = lost(replica, u, personal[k], share, config, (t + 1, k))
                sparse.append(mine)
                frozen.append(other)

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        nothing = np.zeros(len(shares))
        return ft.RoundPlan(nothing, nothing, nothing, nothing == 0)

    ft.train(split, shares, config, planner, progress=False, observer=look)
    return sparse, frozen


def power(sparse: list[list[float]], frozen: list[list[float]]) -> float:
    """The exponent with which the first losses come nearest to the second, by least squares."""
    a, b = np.array(sparse), np.array(frozen)
    return float(optimize.minimize_scalar(lambda p: np.sum((a**p - b) ** 2), bounds=(0.05, 1.0), method="bounded").x)


def task(dataset: str, data_dir: Path | None, seed: int) -> tuple[ft.Split, list[ft.DeviceData], ft.TrainConfig]:
    """Network, data and local updates of the study that trains on this data set."""
    if dataset == "cifar10":
        from ..drives.study import task as driven
        from ..drives.tuned import CONFIG

        assert data_dir is not None
        split, shares, config = driven(CONFIG, CONFIG.entries[0], data_dir, seed)
    else:
        from ..config import DATASETS, Training
        from ..schemes import SCHEMES
        from ..study import load_data, work

        training = replace(Training(dataset=dataset, personal_steps=6), **DATASETS[dataset])  # type: ignore[arg-type]
        data = load_data(training, data_dir)
        shares = ft.partition(
            data, training.devices, training.partition, seed, classes_per_device=training.classes_per_device,
            samples_per_device=training.samples_per_device, test_fraction=training.test_fraction,
        )  # fmt: skip
        split, config, _ = work(training, data, shares, SCHEMES["joint"], seed)
    rounds = max(WATCHED) + 1
    return split, shares, replace(config, rounds=rounds, pruning=True, update="sparse", averaging="fill")


def main() -> None:
    """Print both tails and the exponent."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", default="digits", choices=["digits", "mnist", "fashion_mnist", "cifar10"])
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--seed", type=int, default=395)
    asked = options.parse_args()
    torch.set_num_threads(1)
    sparse, frozen = tails(*task(asked.dataset, asked.data_dir, asked.seed))
    print("ratio   " + "".join(f"{ratio:7.2f}" for ratio in RATIOS))
    for name, rows in (("sparse", sparse), ("frozen", frozen)):
        print(f"{name:8}" + "".join(f"{value:7.3f}" for value in np.mean(rows, axis=0)))
    print(f"{asked.dataset}, seed {asked.seed}: frozen is nearest to sparse ** {power(sparse, frozen):.2f}")


if __name__ == "__main__":
    main()
