"""While the personal part trains, the global part is frozen: what lies below it need be computed only once.

This is exact only if that lower stage gives each sample the same output whenever it is asked, so it is
looked for among layers that are known to: no dropout, no batch statistics, no code of unknown behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fltrain.chain import hooked

_PURE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Flatten,
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LayerNorm,
    nn.GroupNorm,
)


def lower_and_upper(model: nn.Module, personal: Iterable[nn.Parameter]) -> tuple[nn.Sequential, nn.Sequential] | None:
    """Cut an ``nn.Sequential`` just below its first personal parameter; the two parts share its modules.

    Returns None if the model is another kind of module, nothing lies below, nothing is personal, or something
    below might give a sample another output when asked again.
    """
    own = {id(p) for p in personal}
    if type(model) is not nn.Sequential or not own or hooked(model):
        return None
    children = list(model)
    cut = next(i for i, child in enumerate(children) if any(id(p) in own for p in child.parameters()))
    if cut == 0 or not all(_is_pure(child) for child in children[:cut]):
        return None
    return nn.Sequential(*children[:cut]), nn.Sequential(*children[cut:])


def _is_pure(module: nn.Module) -> bool:
    if hooked(module):
        return False
    if type(module) is nn.Sequential:
        return all(_is_pure(child) for child in module)
    return type(module) in _PURE
