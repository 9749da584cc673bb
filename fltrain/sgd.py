"""SGD on a module, in plain autograd or by the faster ways that fit it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fltrain.dense import Update, dense_chain, dense_steps


class Stage:
    """A module and how it is best trained.

    Parameters
    ----------
    module : nn.Module
        From inputs to logits.
    fast : bool
        Allow slopes in closed form where the module is a plain fully connected network, and channels-last
        images where it convolves: pooling and convolution on a CPU are up to twice as fast on them.
    """

    def __init__(self, module: nn.Module, *, fast: bool) -> None:
        self.module = module
        self._dense = dense_chain(module) if fast else None
        self._convolves = fast and any(isinstance(part, nn.Conv2d) for part in module.modules())

    def lay_out(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs in the memory format that suits the module."""
        return x.to(memory_format=torch.channels_last) if self._convolves and x.ndim == 4 else x

    def loss_and_slopes(
        self, parameters: Sequence[torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Softmax cross-entropy of a mini-batch and its gradient, zero for a parameter that is not used."""
        loss = functional.cross_entropy(self.module(self.lay_out(x)), y)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return loss.detach(), slopes

    def sgd(self, updates: Sequence[Update], x: torch.Tensor, y: torch.Tensor, batches: NDArray[np.int64]) -> float:
        """One step per row of `batches` on the parameters in `updates`; returns the mean loss."""
        if self._dense is not None:
            return float(dense_steps(self._dense, updates, x, y, batches).mean())
        parameters = [update.parameter for update in updates]
        losses = []
        for rows in torch.from_numpy(batches):
            loss, slopes = self.loss_and_slopes(parameters, x[rows], y[rows])
            losses.append(loss)
            with torch.no_grad():
                for (p, rate, mask), slope in zip(updates, slopes, strict=True):
                    p.add_(slope if mask is None else slope * mask, alpha=-rate)
        return float(torch.stack(losses).mean())
