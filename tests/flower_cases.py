"""A small federation for the tests of the Flower app, and the same run without Flower."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fltrain as ft

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
os.environ |= QUIET | {"OMP_NUM_THREADS": "1"}  # before flwr is imported

APP = Path(__file__).parents[1] / "examples" / "flower"
sys.path.insert(0, str(APP))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of Flower's own dependencies, at import
    import split_prune

RUN: dict[str, Any] = {"devices": 3, "rounds": 3, "seed": 0, "deadline-s": 0.5, "bandwidth-hz": 1e5}
RUN |= {"answer-s": 300.0, "gather-s": 300.0, "output": "", "checkpoint": "", "checkpoint-every": 1}


def in_process(run: dict[str, Any] = RUN, absent: Callable[[int], list[int]] = lambda t: []) -> ft.History:
    """The same federation by `fltrain.train`; devices `absent` from a round report no channel."""
    split, shares, config = split_prune.federation(run)
    allocate = split_prune.allocator(run)

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        gain = np.array([split_prune.channel_gain(0, k, round_index) for k in range(run["devices"])])
        gain[absent(round_index)] = np.nan
        return allocate(round_index, workload, gain)

    return ft.train(split, shares, config, planner, progress=False)
