"""How much progress sparse uploads make where unsent changes are kept, and where they are forgotten.

    python -m validation.kinds.kept [--dataset fashion_mnist --data-dir DIR] [--seed 1030] [--seeds 5] [--rate 4]

An upload is counted to first order: it makes as much progress as it points along the change that the same device makes
one round later, from other samples. Printed is what all uploads of some rounds make over what the whole changes would
have made, median over seeds, least and greatest; the share of the square that is sent, median; and the power of the
second median that is the first, below 0 if uploads make more than whole changes. All devices prune and count alike.
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
PARTS = ((1, 20), (21, 120))
"""Rounds after the first one, from and to, that are told apart: at first, little has been kept back."""
_NOTHING = torch.empty(0)


def sums(
    split: ft.Split, shares: list[ft.DeviceData], config: ft.TrainConfig, ratio: float, rounds: int
) -> NDArray[np.float64]:
    """Over devices, of so many rounds after the first one, (rounds, 4).

    Upload times next change, whole change times next change, square of the upload, and square of what it is taken from.

    Raises
    ------
    ValueError
        Training diverged: names the device and the round.
    """
    replica = Replica(split, fast=True)
    rows = np.zeros((rounds + 1, 4))
    last: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(t: int, u: torch.Tensor, personal: Sequence[ft.PersonalState]) -> None:
        for k, share in enumerate(shares):
            # What the next round will be: its draws depend on its number and the device alone.
            upload = device_round(replica, u, personal[k], share, config, ratio, t + 1, k)
            fresh = replace(personal[k], unsent=_NOTHING)
            whole = device_round(replica, u, fresh, share, config, 0.0, t + 1, k)
            if upload.values is None or whole.values is None:
                raise ValueError(f"device {k} diverged in round {t + 1}, at server_rate {config.server_rate:g}")
            sent, change = (upload.values - u).double(), (whole.values - u).double()
            if upload.mask is not None:
                sent *= upload.mask
            if k in last:
                rows[t - 1, :2] += [float(before @ change) for before in last[k]]
            last[k] = sent, change
            square = float(sent.square().sum())
            rows[t, 2:] += square, square + upload.pruning_error_sq

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        nothing = np.zeros(len(shares))
        return ft.RoundPlan(nothing + ratio, nothing, nothing, nothing == 0)

    ft.train(split, shares, replace(config, rounds=rounds + 1), planner, progress=False, observer=look)
    return rows[:rounds]


def told(rows: NDArray[np.float64]) -> tuple[float, float]:
    """Progress over that of whole changes, and the share of the square that is sent; rows (n, 4) as in `sums`."""
    upload, whole, sent, taken = rows.sum(axis=0)
    return float(upload / whole), float(sent / taken)


def power(progress: float, share: float) -> float:
    """Of the share that is sent, what the progress is; nan of none and of all."""
    return float(np.log(progress) / np.log(share)) if progress > 0.0 and 0.0 < share < 1.0 else float("nan")


def main() -> None:
    """Print a line for each ratio, kept or forgotten, and part of training."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", default="digits", choices=["digits", "mnist", "fashion_mnist"])
    options.add_argument("--data-dir", type=Path, help="of MNIST's and Fashion-MNIST's files; else they are downloaded")
    options.add_argument("--seed", type=int, default=1030, help="the first one")
    options.add_argument("--seeds", type=int, default=5, help="how many")
    options.add_argument("--rate", type=float, default=4.0, help="of the server")
    asked = options.parse_args()
    torch.set_num_threads(1)
    try:
        for name, least in (("seed", 0), ("seeds", 1)):
            if getattr(asked, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(asked, name)}")
        tasks = [task(asked.dataset, asked.data_dir, asked.seed + i) for i in range(asked.seeds)]
        print("unsent     ratio  rounds    progress              sent   power")
        for feedback in (True, False):
            for ratio in RATIOS:
                runs = [
                    sums(split, shares, replace(config, server_rate=asked.rate, error_feedback=feedback), ratio,
                         PARTS[-1][1])
                    for split, shares, config in tasks
                ]  # fmt: skip
                for first, end in PARTS:
                    progress, share = np.transpose([told(rows[first - 1 : end]) for rows in runs])
                    made, sent = float(np.median(progress)), float(np.median(share))
                    print(
                        f"{'kept' if feedback else 'forgotten':10} {ratio:5.2f}  {f'{first}-{end}':8}  {made:5.2f}  "
                        f"{f'{progress.min():.2f} to {progress.max():.2f}':14}  {sent:5.3f}  {power(made, sent):5.2f}",
                        flush=True,
                    )
    except (ValueError, OSError) as error:
        options.exit(2, f"kept: error: {error}\n")


if __name__ == "__main__":
    main()
