"""Training of plain networks in compiled code: linear layers, convolutions, ReLU and max-pooling in a row.

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

_chain, _ = load("fltrain._chain", interface=1)  # the number in kernel/module.c; None where there was no compiler

_MOST_LINKS, _MOST_POOL, _MOST_VALUES, _MOST_WEIGHTS = 64, 11, 1 << 24, 1 << 30  # as in kernel/chain.h and module.c


class Update(NamedTuple):
    """What SGD does to one parameter: its step size, and a float32 mask that its slope is multiplied by."""

    parameter: torch.Tensor
    rate: float
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Link:
    """A linear layer or convolution, with what comes just before it and after it."""

    layer: nn.Linear | nn.Conv2d
    flattened: bool
    """Whether it reads images flattened to vectors."""
    relu: bool = False
    pool: int = 1
    """Side of the squares whose greatest value is kept."""


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
        own = [p for link in self.links for p in (link.layer.weight, link.layer.bias) if p is not None]
        masks = [update.mask for update in updates if update.mask is not None]
        if not all(_is_plain(t) for t in (x.contiguous(), *own, *masks)) or not given.keys() <= {id(p) for p in own}:
            return f"inputs are {x.dtype} or weights no plain float32 tensors of the model's own layers"

        def of(p: torch.Tensor | None) -> tuple[Any, ...]:
            assert p is not None
            _, rate, mask = given.get(id(p), Update(p, 0.0))
            return p.detach().numpy(), rate, None if mask is None else mask.numpy()

        layers, shape = [], tuple(x.shape[1:])
        for link in self.links:
            layer = link.layer
            if link.flattened:
                shape = (math.prod(shape),)
            image: tuple[int, ...] = (*shape, 1, 1)
            kernel, padding = (1, 1), (0, 0)
            if isinstance(layer, nn.Conv2d):
                image, kernel, padding = shape, _pair(layer.kernel_size), _pair(layer.padding)
            outputs, inputs = layer.weight.shape[:2]
            if len(image) != 3 or image[0] != inputs:
                return f"a {type(layer).__name__} is asked with samples of shape {shape}"
            high, wide = (n + 2 * p for n, p in zip(image[1:], padding, strict=True))
            ends = (high - kernel[0] + 1) // link.pool, (wide - kernel[1] + 1) // link.pool
            too_large = max(inputs, outputs) * high * wide > _MOST_VALUES or layer.weight.numel() > _MOST_WEIGHTS
            if min(ends) < 1 or too_large:
                what = "too large" if too_large else "smaller than what passes over them"
                return f"samples or weights of a {type(layer).__name__} are {what}: {shape}"
            sizes = inputs, outputs, *image[1:], *kernel, *padding, link.pool, link.relu
            layers.append((*sizes, of(layer.weight), of(layer.bias)))
            shape = (outputs, *ends) if isinstance(layer, nn.Conv2d) else (outputs,)
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
        elif _pools(child) and last and isinstance(last.layer, nn.Conv2d) and last.pool == 1 and not flattened:
            links[-1] = replace(last, pool=_pair(child.kernel_size)[0])
        else:
            return f"compiled code has no {type(child).__name__} like {name}{_odd(child)}"
    if len({id(p) for link in links for p in link.layer.parameters()}) < 2 * len(links):
        return "layers share parameters"
    return Chain(links, flattened) if 1 <= len(links) <= _MOST_LINKS else f"the model has {len(links)} layers"


def hooked(module: nn.Module) -> bool:
    """Whether somebody else's code runs when `module` is called."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks) or "forward" in vars(module)


def _trains(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    if type(module) is nn.Linear:
        return module.bias is not None
    if type(module) is not nn.Conv2d or module.bias is None or isinstance(module.padding, str):
        return False
    return (module.stride, module.dilation, module.groups, module.padding_mode) == ((1, 1), (1, 1), 1, "zeros")


def _pools(module: nn.Module) -> TypeGuard[nn.MaxPool2d]:
    if type(module) is not nn.MaxPool2d or module.ceil_mode or module.return_indices:
        return False
    sides = {*_pair(module.kernel_size), *_pair(module.stride)}
    return (
        len(sides) == 1
        and max(sides) <= _MOST_POOL
        and _pair(module.padding) == (0, 0)
        and _pair(module.dilation) == (1, 1)
    )


def _odd(module: nn.Module) -> str:
    """The settings of a layer of a known type that compiled code does not take."""
    plain: dict[str, Any] = {}
    if type(module) is nn.Linear or type(module) is nn.Conv2d:
        plain = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
    elif type(module) is nn.MaxPool2d:
        plain = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    odd = [f"{name}={getattr(module, name)}" for name, usual in plain.items() if getattr(module, name, usual) != usual]
    if isinstance(getattr(module, "padding", None), str):
        odd.append(f"padding={module.padding!r}")
    if plain and getattr(module, "bias", plain) is None:
        odd.append("bias=False")
    if type(module) is nn.MaxPool2d and not odd:
        sides = {*_pair(module.kernel_size), *_pair(module.stride)}
        if len(sides) > 1 or max(sides) > _MOST_POOL:
            odd = [f"kernel_size={module.kernel_size}", f"stride={module.stride}"]
    return f" ({', '.join(odd)})" if odd else ""


def _pair(size: Any) -> tuple[int, int]:
    rows, columns = (size, size) if isinstance(size, int) else size
    return rows, columns


def _is_plain(t: torch.Tensor) -> bool:
    return t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous()
