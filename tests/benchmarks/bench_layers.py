"""What compiled code saves, and could save on layers that it does not take: steps beside their floating-point floor.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_layers.py

The floor is the time that a step's counted operations take at the rate of torch's matrix product of 1024 x 1024 on the
same thread. Where compiled code takes the network, its steps are timed beside autograd's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
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


def small(pool: nn.Module | None = None, *, bias: bool = True, stride: int = 1) -> nn.Sequential:
    """Two convolutions and a head, as `fltrain.build_model` makes them, or strides instead of pools."""
    pools = [nn.Identity() if stride > 1 else pool or nn.MaxPool2d(2) for _ in range(2)]
    first, second = (nn.Conv2d(*ends, 3, stride, padding=1, bias=bias) for ends in ((3, 32), (32, 64)))
    body = [first, nn.ReLU(), pools[0], second, nn.ReLU(), pools[1], nn.Flatten()]
    return nn.Sequential(*(layer for layer in body if not isinstance(layer, nn.Identity)), nn.LazyLinear(10))


def _per_step(stage: Stage, updates: list[Update], x: torch.Tensor, y: torch.Tensor, rows: NDArray[np.int64]) -> float:
    return seconds(lambda: stage.sgd(updates, x, y, rows)) / STEPS


def main() -> None:
    """Print a line per network and batch size."""
    blank = ft.Dataset("blank", np.zeros((20, 3, 32, 32), np.float32), np.arange(20) % 10, classes=10)
    one_dimensional = nn.Sequential(
        nn.Conv1d(9, 32, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool1d(2), nn.Flatten(), nn.Linear(64 * 32, 10),
    )  # fmt: skip
    image = (3, 32, 32)
    networks = {
        "strided, no bias, batch norm (study harder)": (_network(CONFIG.channels, blank, 0), image),
        "strides alone": (small(stride=2), image),
        "average pooling": (small(nn.AvgPool2d(2)), image),
        "convolutions with bias, square pools": (small(), image),
        "without bias": (small(bias=False), image),
        "rectangular pools": (small(nn.MaxPool2d((4, 1))), image),
        "Conv1d": (one_dimensional, (9, 128)),
    }
    with one_thread():
        square = torch.randn(1024, 1024)
        rate = 2 * 1024**3 / seconds(lambda: square @ square)
        print(f"matrix product: {rate / 1e9:.0f} GFLOP/s")
        for name, (model, shape) in networks.items():
            for batch in (16, 32):
                x, y = torch.randn(batch * STEPS, *shape), torch.randint(10, (batch * STEPS,))
                model(x[:2])  # a lazy layer takes its size here
                with FlopCounterMode(display=False) as counter:
                    nn.functional.cross_entropy(model(x[:batch]), y[:batch]).backward()  # type: ignore[no-untyped-call]
                updates, rows = (
                    [Update(p, 0.01) for p in model.parameters()],
                    np.arange(batch * STEPS).reshape(STEPS, batch),
                )
                floor = counter.get_total_flops() / rate
                plain, fast = (Stage(model, fast=fast) for fast in (False, True))
                took = {
                    how: _per_step(stage, updates, x, y, rows)
                    for how, stage in (("autograd", plain), ("compiled", fast))
                }
                if fast.why:
                    del took["compiled"]
                told = (f"{how} {1e3 * t:.1f} ms a step, floor / time {floor / t:.2f}" for how, t in took.items())
                print(f"{name}, batch {batch}: {'; '.join(told)}")


if __name__ == "__main__":
    main()
