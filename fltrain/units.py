"""Structured masks: whole units and channels are dropped, so that a smaller network is what really trains.

A unit is an output of a linear layer or a channel of a convolution. Dropping it drops its row of weights, its
bias, its batch-norm scale and shift, and the columns of the next layer that read it. All its outputs are then
zero, provided that everything between two layers maps zero to zero, so the dense network with the mask and
the compact network without the dropped units compute the same.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fltrain.chain import Update, hooked
from fltrain.split import Split

_ZERO_TO_ZERO = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_OF_IMAGES = _ZERO_TO_ZERO[-5:]  # these work along axes that are units after a linear layer
_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class _Layer:
    """A linear layer or convolution, by the names of its modules, and whether its units may be dropped."""

    name: str
    norm: str | None
    units: int
    inputs: int
    prunable: bool
    interleaved: bool
    """Whether the units below change fastest along its inputs (a linear layer per time step, then flattened), and
    not slowest (channels of images, flattened)."""


class UnitMap:
    """The units of a split model, and the coordinates of the global part that belong to each.

    Parameters
    ----------
    split : Split
        Its model must be an ``nn.Sequential`` of linear layers, convolutions, batch norm and layers that map
        zero to zero.

    Raises
    ------
    ValueError
        Names the first child that structured masks cannot see through, or says that no unit may be dropped.
    """

    def __init__(self, split: Split) -> None:
        self._layers, self._model = _layers(split), split.model
        if not any(layer.prunable for layer in self._layers):
            raise ValueError("structure=units needs a global layer before the last one; there is none")
        parameters = dict(split.model.named_parameters())
        self._shapes = [(name, parameters[name].shape) for name in split.global_names]
        self.count = sum(layer.units for layer in self._layers if layer.prunable)
        """Units that may be dropped, in all layers together."""

    def choose(self, scores: torch.Tensor, pruning_ratio: float) -> list[torch.Tensor]:
        """Which units to keep, per layer, bool (units,).

        The units of least mean score go first, until at least the share `pruning_ratio` of the global
        coordinates is gone; the best unit of every layer stays, whatever the ratio.
        """
        totals, sizes = self._per_unit(scores), self._per_unit(torch.ones_like(scores))
        ranked: list[tuple[float, int, int]] = []
        for index, (layer, total, size) in enumerate(zip(self._layers, totals, sizes, strict=True)):
            if layer.prunable:
                mean = (total / size).tolist()
                best = max(range(layer.units), key=mean.__getitem__)
                ranked += [(mean[i], index, i) for i in range(layer.units) if i != best]
        ranked.sort()
        allowed = (1.0 - pruning_ratio) * scores.numel()
        low, high = 0, len(ranked)  # the least number of dropped units that is enough
        while low < high:
            middle = (low + high) // 2
            if int(self.mask(self._without(ranked[:middle])).sum()) <= allowed:
                high = middle
            else:
                low = middle + 1
        return self._without(ranked[:low])

    def mask(self, keep: list[torch.Tensor]) -> torch.Tensor:
        """The mask of the global part, bool (n_global,), that keeps these units."""
        rows, columns = self._reach(keep)
        parts = []
        for name, shape in self._shapes:
            module = name.rpartition(".")[0]
            part = torch.ones(shape, dtype=torch.bool)
            if module in rows:
                part &= rows[module].view(-1, *(1,) * (len(shape) - 1))
            if module in columns and len(shape) > 1:
                part &= columns[module].view(1, -1, *(1,) * (len(shape) - 2))
            parts.append(part.reshape(-1))
        return torch.cat(parts)

    def droppable(self, keep: list[torch.Tensor]) -> list[torch.Tensor]:
        """The part of such a choice that was free, which is what a device must send: bool vectors."""
        return [kept for kept, layer in zip(keep, self._layers, strict=True) if layer.prunable]

    def compact(self, model: nn.Module, keep: list[torch.Tensor]) -> Compact:
        """The network of the kept units alone, with the parameters and statistics of `model`."""
        rows, columns = self._reach(keep)
        small = copy.deepcopy(model)
        full = dict(model.named_modules())
        pairs = []
        for name, module in small.named_modules():
            if name not in rows and name not in columns:
                continue
            row = rows.get(name)
            column = columns.get(name)
            for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                whole = getattr(full[name], kind, None)
                if whole is None:
                    continue
                index = [torch.arange(size) for size in whole.shape[:2]]
                if row is not None and index:
                    index[0] = torch.nonzero(row).squeeze(1)
                if column is not None and whole.ndim > 1:
                    index[1] = torch.nonzero(column).squeeze(1)
                at = (index[0][:, None], index[1][None, :]) if len(index) == 2 else tuple(index)
                part = whole.detach()[at].clone()
                if isinstance(whole, nn.Parameter):
                    setattr(module, kind, nn.Parameter(part, requires_grad=whole.requires_grad))
                else:
                    module.register_buffer(kind, part)
                pairs.append((whole, getattr(module, kind), at))
            _resize(module)
        return Compact(small, pairs)

    def verify(self, x: torch.Tensor) -> None:
        """Compare the smaller network with the masked one on real inputs.

        What the names of layers cannot tell, such as along which axis batch norm works on these inputs, shows here.

        Parameters
        ----------
        x : tensor (n, ...)
            Inputs of the model.

        Raises
        ------
        ValueError
            Without half of its units, the two give other outputs.
        """
        keep = [torch.arange(layer.units) % 2 == 0 if layer.prunable else torch.ones(layer.units, dtype=torch.bool)
                for layer in self._layers]  # fmt: skip
        model = copy.deepcopy(self._model).eval()
        parameters = dict(model.named_parameters())
        parts = torch.split(self.mask(keep), [shape.numel() for _, shape in self._shapes])
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for (name, shape), part in zip(self._shapes, parts, strict=True):
                parameters[name].copy_(torch.randn(shape, generator=draw) * part.view(shape))
            masked = model(x.clone())
            try:
                small = self.compact(model, keep).model(x.clone())
            except Exception:
                small = torch.full_like(masked, torch.nan)
        if small.shape != masked.shape or not torch.allclose(
            small, masked, rtol=1e-3, atol=1e-3 * float(masked.abs().max())
        ):
            raise ValueError(
                "structure=units cannot see through this model on these inputs: without half of its units, the smaller "
                "network gives other outputs than the masked one"
            )

    def restore_statistics(self, model: nn.Module, keep: list[torch.Tensor], before: Sequence[torch.Tensor]) -> None:
        """Give dropped channels back the statistics they had: nothing was seen of them."""
        rows, _ = self._reach(keep)
        for (name, mine), old in zip(model.named_buffers(), before, strict=True):
            module = name.rpartition(".")[0]
            if module in rows and mine.ndim == 1:
                mine[~rows[module]] = old[~rows[module]]

    def _without(self, dropped: list[tuple[float, int, int]]) -> list[torch.Tensor]:
        keep = [torch.ones(layer.units, dtype=torch.bool) for layer in self._layers]
        for _, index, unit in dropped:
            keep[index][unit] = False
        return keep

    def _reach(self, keep: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """By module name: kept rows of layers and norms, and kept columns of layers."""
        rows, columns = {}, {}
        for index, layer in enumerate(self._layers):
            rows[layer.name] = keep[index]
            if layer.norm:
                rows[layer.norm] = keep[index]
            if index:  # a linear layer reads height x width values of each channel, or one of each time step
                below = keep[index - 1]
                times = layer.inputs // len(below)
                columns[layer.name] = below.repeat(times) if layer.interleaved else below.repeat_interleave(times)
        return rows, columns

    def _per_unit(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Sum of a vector (n_global,) over the coordinates of each unit, per layer (units,)."""
        sums = [torch.zeros(layer.units, dtype=torch.float64) for layer in self._layers]
        owner = {layer.name: i for i, layer in enumerate(self._layers)}
        norms = {layer.norm: i for i, layer in enumerate(self._layers) if layer.norm}
        sizes = [shape.numel() for _, shape in self._shapes]
        for (name, shape), part in zip(self._shapes, torch.split(values.double(), sizes), strict=True):
            module = name.rpartition(".")[0]
            index = owner.get(module, norms.get(module))
            assert index is not None
            sums[index] += part.view(shape[0], -1).sum(dim=1)
            if module in owner and index and len(shape) > 1:
                by_column = part.view(shape[0], shape[1], -1).sum(dim=(0, 2))
                units = self._layers[index - 1].units
                shape_of, along = ((-1, units), 0) if self._layers[index].interleaved else ((units, -1), 1)
                sums[index - 1] += by_column.view(shape_of).sum(dim=along)
        return sums


@dataclass(frozen=True)
class Compact:
    """A smaller network and where each of its tensors lies in the whole one."""

    model: nn.Module
    pairs: list[tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]]

    def updates(self, updates: Sequence[Update]) -> list[Update]:
        """The same updates on the small network, where no mask is needed."""
        counterpart = {id(large): small for large, small, _ in self.pairs}
        return [Update(counterpart[id(p)], rate) for p, rate, _ in updates]

    def write_back(self) -> None:
        """Copy the small network's parameters and statistics into the whole one."""
        with torch.no_grad():
            for whole, small, at in self.pairs:
                whole[at] = small


def _layers(split: Split) -> list[_Layer]:
    model = split.model
    if type(model) is not nn.Sequential or hooked(model):
        raise ValueError(f"structure=units needs an nn.Sequential, got {type(model).__name__}")
    found: list[tuple[str, nn.Linear | nn.Conv2d, str | None, bool]] = []
    flattened = False
    seen: set[int] = set()
    for name, child in model._modules.items():
        assert child is not None
        last = found[-1][1] if found else None
        if id(child) in seen and any(True for _ in child.parameters()):
            raise ValueError(f"structure=units cannot see through {name}, a {type(child).__name__} that stands twice")
        seen.add(id(child))
        if type(child) in (nn.Linear, nn.Conv2d) and not hooked(child):
            assert isinstance(child, nn.Linear | nn.Conv2d)
            if isinstance(child, nn.Conv2d) and child.groups != 1:
                raise ValueError(f"structure=units cannot see through {name}: a convolution in groups")
            if last is not None and not _reads(child, last, flattened):
                raise ValueError(
                    f"structure=units cannot see through {name}: its {child.weight.shape[1]} inputs are not the "
                    f"{len(last.weight)} units of {found[-1][0]}, channel by channel or flattened"
                )
            found.append((name, child, None, isinstance(last, nn.Linear)))
            flattened = False
        elif isinstance(child, _NORM) and found and _normalises(child, found[-1][1]) and not found[-1][2]:
            found[-1] = (*found[-1][:2], name, found[-1][3])
        elif type(child) is nn.Flatten and (child.start_dim, child.end_dim) == (1, -1) and not hooked(child):
            flattened = True
        elif (
            type(child) not in _ZERO_TO_ZERO
            or hooked(child)
            or (type(child) in _OF_IMAGES and (isinstance(last, nn.Linear) or flattened))
        ):
            raise ValueError(f"structure=units cannot see through {name}, a {type(child).__name__}")
    shared = set(split.global_names)
    trained = {name for name, _ in model.named_parameters()}
    layers = []
    for i, (name, child, norm, interleaved) in enumerate(found):
        own = {n for n in trained if n.rpartition(".")[0] in (name, norm)}
        units, inputs = child.weight.shape[:2]
        layers.append(_Layer(name, norm, units, inputs, own <= shared and i + 1 < len(found), interleaved))
    return layers


def _reads(layer: nn.Linear | nn.Conv2d, below: nn.Linear | nn.Conv2d, flattened: bool) -> bool:
    """Whether it is known which inputs of `layer` come from which unit of the layer below."""
    units, inputs = len(below.weight), layer.weight.shape[1]
    if flattened:
        return isinstance(layer, nn.Linear) and inputs % units == 0
    return type(layer) is type(below) and inputs == units


def _normalises(norm: nn.BatchNorm1d | nn.BatchNorm2d, layer: nn.Linear | nn.Conv2d) -> bool:
    fits = isinstance(norm, nn.BatchNorm1d) or isinstance(layer, nn.Conv2d)
    return norm.affine and fits and norm.num_features == len(layer.weight) and not hooked(norm)


def _resize(module: nn.Module) -> None:
    """Make a module's own numbers agree with its weights."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, _NORM):
        module.num_features = len(module.weight)
