"""SGD on a module, in plain autograd or by the faster ways that fit it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fltrain.chain import Update, chain_or_reason

_CHUNK = 256  # samples; larger batches of images fall out of the processor's cache


class Stage:
    """A module and how it is best trained.

    Parameters
    ----------
    module : nn.Module
        From inputs to logits.
    fast : bool
        Allow compiled code where the module is a plain network (see `chain`); elsewhere channels-last images if
        it convolves: pooling and convolution on a CPU are up to twice as fast on them.
    """

    def __init__(self, module: nn.Module, *, fast: bool) -> None:
        self.module = module
        found = chain_or_reason(module) if fast else "fast is False"
        self._chain = None if isinstance(found, str) else found
        self.why = found if isinstance(found, str) else ""
        """Why steps are plain autograd for this network; empty where compiled code may take them."""
        self._convolves = fast and any(isinstance(part, nn.Conv2d) for part in module.modules())

    def why_on(self, x: torch.Tensor) -> str:
        """The same for samples like these; empty where compiled code takes the steps."""
        return self._chain.declines(x) if self._chain else self.why

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs for all of `x`, without gradient."""
        done = self._chain.outputs(x) if self._chain else None
        if done is not None:
            return done
        with torch.no_grad():
            # A copy: a module may write into its input, and these are the user's own data.
            return torch.cat([self.module(self._lay_out(part.clone())) for part in torch.split(x, _CHUNK)])

    def loss_and_slopes(
        self, parameters: Sequence[torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Softmax cross-entropy of a mini-batch and its gradient, zero for a parameter that is not used."""
        loss = functional.cross_entropy(self.module(self._lay_out(x)), y)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return loss.detach(), slopes

    def sgd(self, updates: Sequence[Update], x: torch.Tensor, y: torch.Tensor, batches: NDArray[np.int64]) -> float:
        """One step per row of `batches` on the parameters in `updates`; returns the mean loss, NaN of no step."""
        if not len(batches):
            return float("nan")
        losses = self._chain.sgd(updates, x, y, batches) if self._chain else None
        if losses is not None:
            return float(losses.mean())
        parameters = [update.parameter for update in updates]
        loss_of_step = []
        for rows in torch.from_numpy(batches):
            loss, slopes = self.loss_and_slopes(parameters, x[rows], y[rows])
            loss_of_step.append(loss)
            with torch.no_grad():
                for (p, rate, mask), slope in zip(updates, slopes, strict=True):
                    p.add_(slope if mask is None else slope * mask, alpha=-rate)
        return float(torch.stack(loss_of_step).mean())

    def _lay_out(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs in the memory format that suits the module."""
        return x.to(memory_format=torch.channels_last) if self._convolves and x.ndim == 4 else x
