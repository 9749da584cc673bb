"""How much progress sparse uploads make where unsent changes are kept, and where they are forgotten.

    python -m validation.kinds.kept [--dataset fashion_mnist --data-dir DIR] [--seed 1030] [--rate 4]

An upload is counted to first order: it makes as much progress as it points along the change that the same device makes
one round later, from other samples. Printed is what all uploads of some rounds make over what the whole changes would
have made, and the power of the kept share that comes to the same. All devices prune alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import fltrain as ft
from fltrain.local import device_round
from fltrain.replica import Replica

from .frozen import task

RATIOS = (0.95, 0.98, 0.99)
PARTS = ((0, 20), (20, 60), (60, 120))
"""Rounds, from and to, that are told apart: at first, little has been kept back."""
_NOTHING = torch.empty(0)


def sums(
    split: ft.Split, shares: list[ft.DeviceData], config: ft.TrainConfig, ratio: float, rounds: int
) -> NDArray[np.float64]:
    """Over devices, of each round that another one follows, (rounds - 1, 4).

    Upload times next change, whole change times next change, square of the upload, and square of what it is taken from.
    """
    replica = Replica(split, fast=True)
    rows = np.zeros((rounds, 4))
    last: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(t: int, u: torch.Tensor, personal: Sequence[ft.PersonalState]) -> None:
        for k, share in enumerate(shares):
            # What the next round will be: its draws depend on its number and the device alone.
            upload = device_round(replica, u, personal[k], share, config, ratio, t + 1, k)
            fresh = replace(personal[k], unsent=_NOTHING)
            whole = device_round(replica, u, fresh, share, config, 0.0, t + 1, k)
            assert upload.values is not None
            assert whole.values is not None
            sent, change = (upload.values - u).double(), (whole.values - u).double()
            if upload.mask is not None:
                sent *= upload.mask
            if k in last:
                rows[t, :2] += [float(before @ change) for before in last[k]]
            last[k] = sent, change
            square = float(sent.square().sum())
            rows[t + 1 : t + 2, 2:] += square, square + upload.pruning_error_sq

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        nothing = np.zeros(len(shares))
        return ft.RoundPlan(nothing + ratio, nothing, nothing, nothing == 0)

    ft.train(split, shares, replace(config, rounds=rounds), planner, progress=False, observer=look)
    return rows[1:]


def told(rows: NDArray[np.float64]) -> tuple[float, float, float]:
    """Progress over that of whole changes, share that is kept, and the power of it that is the progress."""
    upload, whole, sent, taken = rows.sum(axis=0)
    progress, kept = upload / whole, sent / taken
    return progress, kept, float(np.log(progress) / np.log(kept)) if progress > 0.0 and kept < 1.0 else float("nan")


def main() -> None:
    """Print a line for each ratio, kept or forgotten, and part of training."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", default="digits", choices=["digits", "mnist", "fashion_mnist"])
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--seed", type=int, default=1030)
    options.add_argument("--rate", type=float, default=4.0)
    asked = options.parse_args()
    torch.set_num_threads(1)
    split, shares, config = task(asked.dataset, asked.data_dir, asked.seed)
    print("unsent     ratio  rounds    progress  kept share  power")
    for feedback in (True, False):
        for ratio in RATIOS:
            of = replace(config, server_rate=asked.rate, error_feedback=feedback)
            rows = sums(split, shares, of, ratio, PARTS[-1][1])
            for begin, end in PARTS:
                progress, kept, power = told(rows[begin:end])
                name = "kept" if feedback else "forgotten"
                print(f"{name:10} {ratio:5.2f}  {f'{begin}-{end}':8}  {progress:8.2f}  {kept:10.3f}  {power:5.2f}")


if __name__ == "__main__":
    main()
