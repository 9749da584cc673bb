"""What compiled code could save on layers that it does not take: steps of autograd beside their floating-point floor.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_layers.py

The floor is the time that a step's counted operations take at the rate of torch's matrix product of 1024 x 1024 on the
same thread. Compiled steps of a like network are timed beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fltrain as ft
from fltrain.chain import Update
from fltrain.loop import one_thread
from fltrain.sgd import Stage
from validation.harder.study import CONFIG, _network

STEPS, REPEATS = 5, 9


def seconds(work: Callable[[], object]) -> float:
    """Median processor time."""
    took = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return float(np.median(took))


def small(pool: type[nn.Module] = nn.MaxPool2d, *, bias: bool = True) -> nn.Sequential:
    """Two convolutions and a head, as `fltrain.build_model` makes them."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=bias), nn.ReLU(), pool(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        pool(2), nn.Flatten(), nn.Linear(64 * 64, 10),
    )  # fmt: skip


def main() -> None:
    """Print a line per network and batch size."""
    blank = ft.Dataset("blank", np.zeros((20, 3, 32, 32), np.float32), np.arange(20) % 10, classes=10)
    one_dimensional = nn.Sequential(
        nn.Conv1d(9, 32, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool1d(2), nn.Flatten(), nn.Linear(64 * 32, 10),
    )  # fmt: skip
    networks = {
        "strided, no bias, batch norm (study harder)": (_network(CONFIG.channels, blank, 0), (3, 32, 32)),
        "a convolution without bias": (small(bias=False), (3, 32, 32)),
        "average pooling": (small(nn.AvgPool2d), (3, 32, 32)),
        "Conv1d": (one_dimensional, (9, 128)),
        "all of it compiled": (small(), (3, 32, 32)),
    }
    with one_thread():
        square = torch.randn(1024, 1024)
        rate = 2 * 1024**3 / seconds(lambda: square @ square)
        print(f"matrix product: {rate / 1e9:.0f} GFLOP/s")
        for name, (model, shape) in networks.items():
            for batch in (16, 32):
                x, y = torch.randn(batch * STEPS, *shape), torch.randint(10, (batch * STEPS,))
                with FlopCounterMode(display=False) as counter:
                    nn.functional.cross_entropy(model(x[:batch]), y[:batch]).backward()  # type: ignore[no-untyped-call]
                stage, updates = Stage(model, fast=True), [Update(p, 0.01) for p in model.parameters()]
                rows = np.arange(batch * STEPS).reshape(STEPS, batch)
                took = seconds(lambda: stage.sgd(updates, x, y, rows)) / STEPS  # noqa: B023
                floor = counter.get_total_flops() / rate
                how = "compiled" if not stage.why else "autograd"
                print(f"{name}, batch {batch}: {how}, {1e3 * took:.1f} ms a step, floor / time {floor / took:.2f}")


if __name__ == "__main__":
    main()
