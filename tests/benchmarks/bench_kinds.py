"""Processor time of one device's round by kind, in turns: zeroed, frozen and sparse at the same numbers of steps.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_kinds.py

Reports of error curves are part of frozen and sparse rounds, the probe of zeroed and frozen ones.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import get_args

import numpy as np

import fltrain as ft
from fltrain.config import UpdateKind
from fltrain.engine import make_replica
from fltrain.local import device_round
from fltrain.loop import one_thread

RATIO, ROUNDS = 0.9, 40


def main() -> None:
    """Print the median over rounds for each model and number of pruned steps."""
    rng = np.random.default_rng(0)
    images = rng.random((600, 1, 28, 28), dtype=np.float32)
    data = ft.Dataset("noise", images, rng.integers(10, size=600), classes=10)
    (share,) = ft.partition(data, 1, "iid", 0)
    with one_thread():
        for model in ("mlp", "cnn"):
            split = ft.Split(ft.build_model(model, data, seed=0), personal=("head",))
            for steps in (5, 20):
                base = ft.TrainConfig(personal_steps=6, pruned_steps=steps)
                configs = {kind: replace(base, update=kind) for kind in get_args(UpdateKind)}
                replicas = {kind: make_replica(split, config) for kind, config in configs.items()}
                u, personal = split.initial_global(), split.initial_personal()
                took: dict[str, list[float]] = {kind: [] for kind in configs}
                for t in range(ROUNDS if model == "mlp" else ROUNDS // 4):
                    for kind, config in configs.items():
                        began = time.process_time()
                        device_round(replicas[kind], u, personal, share, config, RATIO, t, 0)
                        took[kind].append(time.process_time() - began)
                said = ", ".join(f"{kind} {1e3 * np.median(each):.2f} ms" for kind, each in took.items())
                print(f"{model}, {steps} pruned steps: {said}", flush=True)


if __name__ == "__main__":
    main()
