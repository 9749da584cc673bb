"""Training of plain networks in compiled code: linear layers, convolutions over rows or images, ReLU, max-pooling.

Autograd spends much of a step on networks this small outside matrix products, and products with 32 samples are far
from the processor's peak in the usual libraries. The compiled module ``_chain`` (see ``kernel/chain.h``) takes all
steps of a device at once, in the memory of the parameters themselves. Without it, training is plain autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kktalloc._extension import load

_chain, _ = load("fltrain._chain", interface=2)  # the number in kernel/module.c; None where there was no compiler

_MOST_LINKS, _MOST_TAPS, _MOST_VALUES, _MOST_WEIGHTS = 64, 127, 1 << 24, 1 << 30  # as in kernel/chain.h and module.c


class Update(NamedTuple):
    """What SGD does to one parameter: its step size, and a float32 mask that its slope is multiplied by."""

    parameter: torch.Tensor
    rate: float
    mask: torch.Tensor | None = None


_Layer = nn.Linear | nn.Conv1d | nn.Conv2d
_Pool = nn.MaxPool1d | nn.MaxPool2d
_DIMENSIONS: dict[type[nn.Module], int] = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2}
_POOLED: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2}


@dataclass(frozen=True)
class Link:
    """A linear layer or convolution, with what comes just before it and after it."""

    layer: _Layer
    flattened: bool
    """Whether it reads images flattened to vectors."""
    relu: bool = False
    pool: tuple[int, int] = (1, 1)
    """Rows and columns of the rectangles whose greatest value is kept."""


_Layers = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Chain:
    """An ``nn.Sequential`` that compiled code can train, seen through to its layers."""

    links: list[Link]
    flattened: bool
    """Whether its outputs are flattened."""

    def sgd(
        self, updates: Sequence[Update], x: torch.Tensor, y: torch.Tensor, batches: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """SGD steps on softmax cross-entropy.

        Parameters
        ----------
        updates : sequence of Update
            Parameters to train, in place; the others stay as they are.
        x, y : tensors (n, ...), (n,)
            Samples.
        batches : int64 (steps, B)
            Rows of each step.

        Returns
        -------
        float32 (steps,), or None
            Loss of each step. None: nothing was done, for compiled code does not take arguments of this kind.
        """
        seen = self._for_kernel(x, updates)
        if isinstance(seen, str) or len(seen[1]) != 1 or y.dtype != torch.int64:
            return None
        losses = np.empty(len(batches), dtype=np.float32)
        samples = x.contiguous().numpy(), y.contiguous().numpy(), len(y)
        _chain.train(seen[0], _chain.sets(), *samples, np.ascontiguousarray(batches), *batches.shape, losses)
        return losses

    def outputs(self, x: torch.Tensor) -> torch.Tensor | None:
        """Outputs for all of `x`; None as above."""
        seen = self._for_kernel(x, [])
        if isinstance(seen, str):
            return None
        out = torch.empty(len(x), *seen[1])
        _chain.outputs(seen[0], _chain.sets(), x.contiguous().numpy(), len(x), out.numpy())
        return out.flatten(1) if self.flattened else out

    def declines(self, x: torch.Tensor) -> str:
        """Why `sgd` does nothing on samples like these; empty where it trains."""
        seen = self._for_kernel(x, [])
        if isinstance(seen, str):
            return seen
        return "" if len(seen[1]) == 1 else f"outputs have shape {seen[1]}, not one row a sample"

    def _for_kernel(self, x: torch.Tensor, updates: Sequence[Update]) -> tuple[_Layers, tuple[int, ...]] | str:
        """The layers as `_chain` reads them, and the shape of an output; else why it cannot."""
        given = {id(update.parameter): update for update in updates}
        own = [p for link in self.links for p in link.layer.parameters()]
        masks = [update.mask for update in updates if update.mask is not None]
        if not all(_is_plain(t) for t in (x.contiguous(), *own, *masks)) or not given.keys() <= {id(p) for p in own}:
            return f"inputs are {x.dtype} or weights no plain float32 tensors of the model's own layers"

        def of(p: torch.Tensor) -> tuple[Any, ...]:
            _, rate, mask = given.get(id(p), Update(p, 0.0))
            return p.detach().numpy(), rate, None if mask is None else mask.numpy()

        layers, shape = [], tuple(x.shape[1:])
        for link in self.links:
            layer = link.layer
            if link.flattened:
                shape = (math.prod(shape),)
            outputs, inputs = layer.weight.shape[:2]
            dimensions = _DIMENSIONS[type(layer)]
            if len(shape) != 1 + dimensions or shape[0] != inputs:
                return f"a {type(layer).__name__} is asked with samples of shape {shape}"
            # A row of samples is an image of one row, a vector one of a single pixel.
            image, kernel, padding = _sides(shape[1:], dimensions, 1), (1, 1), (0, 0)
            if not isinstance(layer, nn.Linear):
                kernel, padding = _sides(layer.kernel_size, dimensions, 1), _sides(layer.padding, dimensions, 0)
            high, wide = (n + 2 * p for n, p in zip(image, padding, strict=True))
            ends = (high - kernel[0] + 1) // link.pool[0], (wide - kernel[1] + 1) // link.pool[1]
            too_large = max(inputs, outputs) * high * wide > _MOST_VALUES or layer.weight.numel() > _MOST_WEIGHTS
            if min(ends) < 1 or too_large:
                what = "too large" if too_large else "smaller than what passes over them"
                return f"samples or weights of a {type(layer).__name__} are {what}: {shape}"
            sizes = inputs, outputs, *image, *kernel, *padding, *link.pool, link.relu
            # A layer without a bias is one whose bias is zero and never trained.
            bias = layer.weight.new_zeros(outputs) if layer.bias is None else layer.bias
            layers.append((*sizes, of(layer.weight), of(bias)))
            shape = (outputs, *ends[2 - dimensions :])
        return tuple(layers), shape


def chain_of(model: nn.Module) -> Chain | None:
    """What `model` is made of, if compiled code is there and can train it; else None."""
    found = chain_or_reason(model)
    return found if isinstance(found, Chain) else None


def chain_or_reason(model: nn.Module) -> Chain | str:
    """What `model` is made of, if compiled code is there and can train it; else why not."""
    if _chain is None:
        return "the compiled code is not installed"
    if type(model) is not nn.Sequential:
        return f"the model is a {type(model).__name__}, not an nn.Sequential"
    links: list[Link] = []
    flattened = False
    # Each place a layer stands at: `named_children` passes over one that stands twice.
    for name, child in zip(model._modules, model, strict=True):
        if hooked(child) or hooked(model):
            return f"hooks run when {name} is called"
        last = links[-1] if links else None
        if _trains(child):
            links.append(Link(child, flattened))
            flattened = False
        elif type(child) is nn.Flatten and (child.start_dim, child.end_dim) == (1, -1):
            flattened = True
        elif type(child) is nn.ReLU and last and not last.relu:
            links[-1] = replace(last, relu=True)  # above or below the pooling: the values and slopes are the same
        elif _pools(child, last) and not flattened:
            links[-1] = replace(links[-1], pool=_sides(child.kernel_size, _POOLED[type(child)], 1))
        else:
            settings = f" ({', '.join(odd)})" if (odd := _odd(child)) else ""
            return f"compiled code has no {type(child).__name__} like {name}{settings}"
    parameters = [id(p) for link in links for p in link.layer.parameters()]
    if len(set(parameters)) < len(parameters):
        return "layers share parameters"
    return Chain(links, flattened) if 1 <= len(links) <= _MOST_LINKS else f"the model has {len(links)} layers"


def hooked(module: nn.Module) -> bool:
    """Whether somebody else's code runs when `module` is called."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks) or "forward" in vars(module)


def _trains(module: nn.Module) -> TypeGuard[_Layer]:
    return type(module) in _DIMENSIONS and not _odd(module)


def _pools(module: nn.Module, last: Link | None) -> TypeGuard[_Pool]:
    """Whether it can be taken with the layer below it: the first pool above a convolution of as many dimensions."""
    dimensions = _POOLED.get(type(module))
    below = last is not None and last.pool == (1, 1) and _DIMENSIONS[type(last.layer)] == dimensions
    return below and not _odd(module)


def _odd(module: nn.Module) -> list[str]:
    """The settings of a layer of a known type that compiled code does not take."""
    plain: dict[str, Any] = {}
    if _DIMENSIONS.get(type(module)):
        plain = {"stride": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
    elif type(module) in _POOLED:
        plain = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    given = {name: getattr(module, name) for name in plain}
    odd = [
        name for name, value in given.items() if {*(value if isinstance(value, tuple) else [value])} != {plain[name]}
    ]
    if isinstance(getattr(module, "padding", None), str):
        odd.append("padding")
    elif isinstance(module, _Pool) and not odd:
        kernel, stride = (_sides(size, _POOLED[type(module)], 1) for size in (module.kernel_size, module.stride))
        if kernel != stride or math.prod(kernel) > _MOST_TAPS:
            odd = ["kernel_size", "stride"]
    return [f"{name}={getattr(module, name)!r}" for name in odd]


def _sides(sizes: Any, dimensions: int, missing: int) -> tuple[int, int]:
    """Rows and columns of what a layer of so many dimensions names once for all, or one by one."""
    named = dimensions * (sizes,) if isinstance(sizes, int) else tuple(sizes)
    rows, columns = (2 - dimensions) * (missing,) + named
    return rows, columns


def _is_plain(t: torch.Tensor) -> bool:
    return t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous()
