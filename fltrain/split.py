"""Any ``nn.Module`` split into a shared global part u and a personal part v."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass(frozen=True)
class PersonalState:
    """What a device keeps between rounds and never sends.

    Parameters
    ----------
    v : float32 tensor (n_personal,)
        Personal parameters.
    buffers : tuple of tensors
        The model's buffers, such as batch-norm statistics, in the model's order.
    unsent : float32 tensor (n_global,), or (0,)
        Change of the global part that was not sent so far, to be added to the next; empty without error feedback.
    """

    v: torch.Tensor
    buffers: tuple[torch.Tensor, ...]
    unsent: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of it, for storage and transport; `of` is the inverse."""
        return (self.v, self.unsent, *self.buffers)

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor]) -> PersonalState:
        """From what `tensors` gave."""
        v, unsent, *buffers = tensors
        return cls(v, tuple(buffers), unsent)


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
        model = copy.deepcopy(self.model)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for names, flat in ((self.global_names, u), (self.personal_names, personal.v)):
                sizes = [parameters[n].numel() for n in names]
                for name, value in zip(names, torch.split(flat, sizes), strict=True):
                    parameters[name].copy_(value.view(parameters[name].shape))
            for mine, given in zip(model.buffers(), personal.buffers, strict=True):
                mine.copy_(given)
        return model

    def _flat(self, names: tuple[str, ...]) -> torch.Tensor:
        parameters = dict(self.model.named_parameters())
        parts = [parameters[n].detach().reshape(-1) for n in names]
        return torch.cat(parts) if parts else torch.empty(0)


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")
