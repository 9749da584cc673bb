"""A device's working memory: the split model laid out for fast loading and training."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from fltrain.config import Structure
from fltrain.frozen import lower_and_upper
from fltrain.sgd import Stage
from fltrain.split import PersonalState, Split
from fltrain.units import UnitMap


class Replica:
    """A working copy whose parameters are views into flat vectors, so that one call moves a whole part.

    Parameters
    ----------
    split : Split
        What is copied.
    fast : bool
        Allow what changes speed but results only by rounding: see `Stage`, and `frozen` for features that are
        computed once while only the personal part trains, and `units` for networks made smaller. False is
        plain autograd on the whole masked model.
    structure : str
        What masks drop, as in `TrainConfig`.

    Attributes
    ----------
    u, v : float32 tensors (n_global,), (n_personal,)
        Writing here writes the model.
    global_parameters, personal_parameters : list of nn.Parameter
        Views into them, in the order of the split's names.
    whole : Stage
        The model, to be trained.
    lower, upper : Stage, or None
        The part below all personal parameters and the rest, if computing the first once is exact.
    units : UnitMap or None
        The units that structured masks drop.
    """

    def __init__(self, split: Split, *, fast: bool = False, structure: Structure = "weights") -> None:
        self.model = copy.deepcopy(split.model)
        parameters = dict(self.model.named_parameters())
        self.global_parameters = [parameters[n] for n in split.global_names]
        self.personal_parameters = [parameters[n] for n in split.personal_names]
        self.u = _as_views(self.global_parameters)
        self.v = _as_views(self.personal_parameters)
        self.fast = fast
        self.whole = Stage(self.model, fast=fast)
        parts = lower_and_upper(self.model, self.personal_parameters) if fast else None
        self.lower = Stage(parts[0], fast=True) if parts else None
        self.upper = Stage(parts[1], fast=True) if parts else None
        self.units = UnitMap(split) if structure == "units" else None

    def stats(self, x: torch.Tensor, often: Sequence[bool]) -> dict[str, str]:
        """How this model is trained on samples like `x` (n, ...), and why so.

        `often` (K,): see `fltrain.local.uses_often`.
        """
        why = self.whole.why_on(x)
        once = "not computed apart: no layer lies below the personal part that is sure to give the same again"
        if self.lower is not None:
            once = "not computed apart: no device's personal steps use each sample often enough in the first round"
            if any(often):
                devices = f"{sum(often)} of {len(often)} devices"
                once = f"computed once on {devices}, whose personal steps use each sample often in the first round"
        return {
            "steps": f"autograd: {why}" if why else "compiled",
            "features": once if self.fast else "not computed apart: fast is False",
            "network": "the kept units alone in zeroed rounds" if self.units and self.fast else "whole",
        }

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


def _as_views(parameters: list[nn.Parameter]) -> torch.Tensor:
    sizes = [p.numel() for p in parameters]
    flat = torch.zeros(sum(sizes))
    for p, value in zip(parameters, torch.split(flat, sizes), strict=True):
        value.copy_(p.detach().reshape(-1))
        p.data = value.view(p.shape)
    return flat
