"""Any ``nn.Module`` split into a shared global part u and a personal part v."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fltrain.dense import dense_chain
from fltrain.frozen import stages


@dataclass(frozen=True)
class PersonalState:
    """What a device keeps between rounds and never sends.

    Parameters
    ----------
    v : float32 tensor (n_personal,)
        Personal parameters.
    buffers : tuple of tensors
        The model's buffers, such as batch-norm statistics, in the model's order.
    """

    v: torch.Tensor
    buffers: tuple[torch.Tensor, ...]


class Split:
    """A model and the names of the parameters that stay on the device.

    Parameters
    ----------
    model : nn.Module
        Any module with float32 parameters, on the CPU. It is copied, never changed. Parameters with
        ``requires_grad=False`` belong to neither part: they are constants that every device already has.
    personal : sequence of str
        Parameter names, or module names whose parameters all stay home. Empty: everything is global (FedAvg).
        Buffers are always personal.

    Raises
    ------
    ValueError
        A name that matches no parameter, a split that leaves nothing global, or a parameter type other
        than float32.
    """

    def __init__(self, model: nn.Module, personal: Sequence[str] = ("head",)) -> None:
        if isinstance(personal, str):
            raise ValueError(f"personal must be a sequence of names, got the string {personal!r}")
        self.model = copy.deepcopy(model)
        self.personal = tuple(personal)
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        for name, p in named.items():
            if p.dtype != torch.float32 or p.device.type != "cpu":
                raise ValueError(f"parameter {name} must be float32 on the CPU, got {p.dtype} on {p.device}")
        for prefix in self.personal:
            if not any(_under(name, prefix) for name in named):
                raise ValueError(f"personal names {prefix!r}, which is no parameter of {', '.join(named)}")
        self.personal_names = tuple(n for n in named if any(_under(n, prefix) for prefix in self.personal))
        self.global_names = tuple(n for n in named if n not in self.personal_names)
        if not self.global_names:
            raise ValueError(f"personal={self.personal!r} leaves no global parameter to share")
        self.n_global = sum(named[n].numel() for n in self.global_names)
        self.n_personal = sum(named[n].numel() for n in self.personal_names)

    def initial_global(self) -> torch.Tensor:
        """The model's global parameters as one float32 vector (n_global,), a copy."""
        return self._flat(self.global_names)

    def initial_personal(self) -> PersonalState:
        """The model's personal parameters and buffers, a copy."""
        return PersonalState(self._flat(self.personal_names), tuple(b.detach().clone() for b in self.model.buffers()))

    def assemble(self, u: torch.Tensor, personal: PersonalState) -> nn.Module:
        """A model of its own with global part `u` (n_global,) and the given personal part."""
        replica = Replica(self)
        replica.load(u, personal)
        return copy.deepcopy(replica.model)

    def _flat(self, names: tuple[str, ...]) -> torch.Tensor:
        parameters = dict(self.model.named_parameters())
        parts = [parameters[n].detach().reshape(-1) for n in names]
        return torch.cat(parts) if parts else torch.empty(0)


class Replica:
    """A working copy whose parameters are views into flat vectors, so that one call moves a whole part.

    Parameters
    ----------
    split : Split
        What is copied.
    fast : bool
        Allow what changes speed but results only by rounding: channels-last images, on which CPU pooling
        and convolution are up to twice as fast, and features computed once while only the personal part
        trains (`frozen`), fully connected networks without autograd (`dense`). False is plain autograd.

    Attributes
    ----------
    u, v : float32 tensors (n_global,), (n_personal,)
        Writing here writes the model.
    global_parameters, personal_parameters : list of nn.Parameter
        Views into them, in the order of the split's names.
    frozen : Stages or None
        The part below all personal parameters and the rest, if computing the first once is exact.
    dense, dense_upper : list of nn.Linear, or None
        The layers of the whole model, and of what is not frozen, if they are plain fully connected ones.
    """

    def __init__(self, split: Split, *, fast: bool = False) -> None:
        self.model = copy.deepcopy(split.model)
        parameters = dict(self.model.named_parameters())
        self.global_parameters = [parameters[n] for n in split.global_names]
        self.personal_parameters = [parameters[n] for n in split.personal_names]
        self.u = _as_views(self.global_parameters)
        self.v = _as_views(self.personal_parameters)
        self.frozen = stages(self.model, self.personal_parameters) if fast else None
        self.dense = dense_chain(self.model) if fast else None
        self.dense_upper = dense_chain(self.frozen.upper) if self.frozen else None
        convolves = any(isinstance(module, nn.Conv2d) for module in self.model.modules())
        self._images = torch.channels_last if fast and convolves else None

    def batch(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs in the memory layout that suits the model."""
        if self._images is None or x.ndim != 4:
            return x
        return x.to(memory_format=self._images)

    def load(self, u: torch.Tensor, personal: PersonalState) -> None:
        """Copy a global vector and one device's personal state in."""
        self.u.copy_(u)
        self.v.copy_(personal.v)
        self.load_buffers(personal.buffers)

    def load_buffers(self, buffers: tuple[torch.Tensor, ...]) -> None:
        """Copy buffers in."""
        for mine, given in zip(self.model.buffers(), buffers, strict=True):
            mine.copy_(given)

    def buffers(self) -> tuple[torch.Tensor, ...]:
        """A copy of the buffers as they are now."""
        return tuple(b.clone() for b in self.model.buffers())

    def personal_state(self) -> PersonalState:
        """A copy of the personal part as it is now."""
        return PersonalState(self.v.clone(), self.buffers())

    def train_only(self, *, train_u: bool, train_v: bool) -> list[nn.Parameter]:
        """Freeze the parts that are not to train; returns the parameters that are."""
        for p in self.global_parameters:
            p.requires_grad_(train_u)
        for p in self.personal_parameters:
            p.requires_grad_(train_v)
        return self.global_parameters * train_u + self.personal_parameters * train_v


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _as_views(parameters: list[nn.Parameter]) -> torch.Tensor:
    sizes = [p.numel() for p in parameters]
    flat = torch.zeros(sum(sizes))
    for p, value in zip(parameters, torch.split(flat, sizes), strict=True):
        value.copy_(p.detach().reshape(-1))
        p.data = value.view(p.shape)
    return flat
