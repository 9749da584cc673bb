"""Processor time of one plan of `AdaptivePlanner`: ten devices that have reported, the cell of docs/training.md.

OMP_NUM_THREADS=1 python tests/benchmarks/bench_plan.py
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner

DEVICES, PLANS = 10, 100


def build(round_index: int, asked: NDArray[np.int64], work: ft.Workload) -> tuple[ka.Cell, ka.Devices]:
    """The example of the docs."""
    fading = np.random.default_rng((0, round_index)).exponential(size=DEVICES)
    local = work.personal_flops + work.probe_flops + work.dense_flops
    return ka.Cell(1e6, noise_psd_w_per_hz=4e-21, deadline_s=1.0), ka.Devices(
        channel_gain=1e-10 * fading[asked],
        tx_power_max_w=0.2,
        payload_bits=work.payload_bits,
        overhead_bits=work.overhead_bits,
        pruned_compute_s=work.pruned_flops / 2e9,
        fixed_latency_s=local / 2e9,
    )


def main() -> None:
    """Print the least time of a plan, for one kind of round and for both, in turns."""
    data = ft.load_digits()
    shares = ft.partition(data, DEVICES, "shards", 0, classes_per_device=2)
    split = ft.Split(ft.build_model("mlp", data, seed=0), personal=("head",))
    seen: list[ft.Workload] = []

    def watched(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        seen.append(workload)
        return AdaptivePlanner(build)(round_index, workload)

    ft.train(split, shares, ft.TrainConfig(rounds=2, update="sparse", averaging="fill"), watched, progress=False)
    planners = {
        "sparse": AdaptivePlanner(build, kinds=("sparse",)),
        "frozen": AdaptivePlanner(build, kinds=("frozen",)),
        "sparse and frozen": AdaptivePlanner(build),
    }
    took: dict[str, list[float]] = {name: [] for name in planners}
    for t in range(PLANS):
        for name, planner in planners.items():
            began = time.process_time()
            planner(t, seen[-1])
            took[name].append(time.process_time() - began)
    for name, times in took.items():
        print(f"{name:>18}: {1e3 * min(times):5.1f} ms at best, {1e3 * np.median(times):5.1f} ms in the median")


if __name__ == "__main__":
    main()
