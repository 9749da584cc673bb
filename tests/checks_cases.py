"""A short training, and a small model with a place to misbehave."""

from __future__ import annotations

from typing import Any

import torch
from fltrain_cases import Constant, shares
from torch import nn

import fltrain as ft

QUICK: dict[str, Any] = {"rounds": 2, "personal_steps": 2, "pruned_steps": 2}


def train(model: nn.Module, data: Any = None, personal: tuple[str, ...] = ("head",), **options: Any) -> ft.History:
    config = ft.TrainConfig(**(QUICK | options))
    given = shares() if data is None else data
    return ft.train(ft.Split(model, personal), given, config, Constant(len(given), 0.5), progress=False)


class Net(nn.Module):
    """A small model with a place to misbehave."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc(self.before(x).flatten(1))))
