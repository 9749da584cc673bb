"""Any ``nn.Module`` split into a shared global part u and a personal part v."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from kktalloc._problem.shown import Rows, Shown


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


class Split(Shown):
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
        A name that matches no parameter, a split that leaves nothing global, a parameter of another type than
        float32 or with a value that is not finite, or one tensor that is both personal and global (tied weights).
    """

    def __init__(self, model: nn.Module, personal: Sequence[str] = ("head",)) -> None:
        if isinstance(personal, str):
            raise ValueError(f"personal must be a sequence of names, got the string {personal!r}")
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        _require_apart(model)
        _require_registered(model)
        try:
            self.model = copy.deepcopy(model)
        except Exception as error:
            raise ValueError(f"the model cannot be copied: {str(error).splitlines()[0]}") from None
        self.personal = tuple(personal)
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        for name, p in named.items():
            if p.dtype != torch.float32 or p.device.type != "cpu":
                raise ValueError(f"parameter {name} must be float32 on the CPU, got {p.dtype} on {p.device}")
            if not bool(torch.isfinite(p).all()):
                raise ValueError(f"parameter {name} holds a number that is not finite")
        # A tied parameter has several names, of which the model's own list gives the first alone.
        names: dict[int, list[str]] = {id(p): [] for p in named.values()}
        for name, p in self.model.named_parameters(remove_duplicate=False):
            if p.requires_grad:
                names[id(p)].append(name)
        every = [name for aliases in names.values() for name in aliases]
        for prefix in self.personal:
            if not any(_under(name, prefix) for name in every):
                raise ValueError(f"personal names {prefix!r}, which is no parameter of {', '.join(every)}")
        home = [name for name in every if any(_under(name, prefix) for prefix in self.personal)]
        for aliases in names.values():
            away = [name for name in aliases if name not in home]
            if away and len(away) < len(aliases):
                mine = next(name for name in aliases if name in home)
                raise ValueError(
                    f"{mine} is personal and {away[0]} is not, but they are one tensor (tied weights): name both in "
                    "personal, or neither"
                )
        self.personal_names = tuple(n for n in named if n in home)
        self.global_names = tuple(n for n in named if n not in home)
        if not self.global_names:
            raise ValueError(f"personal={self.personal!r} leaves no global parameter to share")
        self.n_global = sum(named[n].numel() for n in self.global_names)
        self.n_personal = sum(named[n].numel() for n in self.personal_names)

    def _shown(self) -> tuple[str, Rows]:
        home = f" ({', '.join(self.personal)})" if self.personal else ""
        model = type(self.model).__name__
        return f"{model}, {self.n_global:,} global parameters, {self.n_personal:,} personal{home}", ()

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


def _require_apart(model: nn.Module) -> None:
    """Refuse tensors that share memory: a copy of the model would hold them apart, and train another model."""
    spans: list[tuple[int, int, str]] = []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} has no shape yet: run the model once on an input before it is split")
        if tensor.numel() and tensor.device.type == "cpu" and tensor.layout == torch.strided:
            last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            spans.append((tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size(), name))
    spans.sort()
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ValueError(f"{one} and {other} share memory but are two tensors; tie them as one nn.Parameter")


def _require_registered(model: nn.Module) -> None:
    """Refuse layers in a plain list or dictionary: torch does not know their parameters, and they would never train."""
    known = {id(part) for part in (*model.modules(), *model.parameters())}

    def strangers(value: object, depth: int = 3) -> bool:
        if isinstance(value, nn.Module | nn.Parameter):
            return id(value) not in known
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return depth > 0 and any(strangers(part, depth - 1) for part in inside)

    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if not attribute.startswith("_") and strangers(value):
                where = f"{name}.{attribute}" if name else attribute
                raise ValueError(
                    f"{where} holds layers that are not part of the model; use nn.ModuleList or nn.ModuleDict"
                )
