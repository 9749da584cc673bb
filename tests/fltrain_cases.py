"""Small inputs shared by the tests of fltrain."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import fltrain as ft

torch.set_num_threads(1)  # tiny models: more threads would only wait for each other


@cache
def digits() -> ft.Dataset:
    return ft.load_digits()


@cache
def shares(devices: int = 4, samples: int = 80) -> tuple[ft.DeviceData, ...]:
    return tuple(ft.partition(digits(), devices, seed=1, classes_per_device=3, samples_per_device=samples))


def numbered(n: int, classes: int = 5) -> ft.Dataset:
    """A data set in which every input is its own index, so that a deal can be traced."""
    y = np.arange(n) % classes
    return ft.Dataset("numbered", np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1), y, classes)


class Constant:
    """A planner that plans the same round every time."""

    def __init__(self, devices: int, rho: float = 0.0, latency_s: float = 1.0, energy_j: float = 2.0) -> None:
        self.plan = ft.RoundPlan(
            np.full(devices, rho),
            np.full(devices, latency_s),
            np.full(devices, energy_j),
            np.ones(devices, dtype=bool),
        )

    def __call__(self, round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        return self.plan


class TinyModel(torch.nn.Module):
    """Two logits from three global weights and two personal biases: [w0 x0 + w2 x2 + b0, w1 x1 + b1]."""

    def __init__(self, w: list[float]) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w))
        self.b = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.w * x.flatten(1)
        return torch.stack([z[:, 0] + z[:, 2], z[:, 1]], dim=1) + self.b


def one_sample(x: list[float], y: int) -> ft.DeviceData:
    inputs, label = torch.tensor(x).reshape(1, 1, 1, -1), torch.tensor([y])
    return ft.DeviceData(inputs, label, inputs, label)
