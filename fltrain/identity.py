"""What a run's result depends on, written down so that two runs can be compared."""

from __future__ import annotations

import copy
import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from fltrain.config import TrainConfig
from fltrain.partition import DeviceData
from fltrain.split import PersonalState, Split

_INTERNAL = frozenset(vars(nn.Module()))  # torch's own: parameters, buffers, children, hooks
_OUTPUTS = "outputs"
_SAMPLES, _TOLERANCE = 2, 1e-4
_DEPTH = 6
Identity = dict[str, Any]


def identity(split: Split, shares: Sequence[DeviceData], config: TrainConfig) -> Identity:
    """What must be equal for a run to go on from a checkpoint: all but ``rounds``, which may grow."""
    data = 0
    for share in shares:
        for tensor in share.tensors:
            data = _crc(tensor, data)
    own = config.to_dict() | of_model(split) | {"devices": len(shares), "data": data}
    return own | ({_OUTPUTS: _outputs(split, shares[0])} if shares else {})


def of_model(split: Split) -> Identity:
    """The split model: its parts, its constants and, module by module, all that is set on it."""
    initial = split.initial_personal()
    frozen = 0
    for p in split.model.parameters():
        frozen = frozen if p.requires_grad else _crc(p.detach(), frozen)
    return {
        "global parameters": list(split.global_names),
        "personal parameters": list(split.personal_names),
        "global values": split.n_global,
        "personal tensors": tensors_of(initial),
        "initial global part": _crc(split.initial_global()),
        "initial personal part": functools.reduce(lambda crc, t: _crc(t, crc), initial.tensors(), 0),
        "frozen parameters": frozen,
        **{f"module {name or 'itself'}": _module(m, _DEPTH) for name, m in split.model.named_modules()},
    }


def tensors_of(state: PersonalState) -> list[str]:
    """Types and shapes of a personal part, whose unsent change may be there or not."""
    return [f"{t.dtype} {tuple(t.shape)}" for t in (state.v, *state.buffers)]


def first_difference(known: object, wanted: Identity) -> str | None:
    """What differs first between the identity that was saved and the one that is wanted, or None."""
    if not isinstance(known, dict):
        return "it does not say which"
    for name in [*wanted, *(name for name in known if name not in wanted)]:
        was, now = known.get(name), wanted.get(name)
        if name == "rounds" or (name == _OUTPUTS and _close(was, now)):
            continue
        if name == _OUTPUTS:
            return "the model gives other outputs"
        if type(was) is not type(now) or was != now:
            if isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):  # one for each device
                k = next(k for k, pair in enumerate(zip(was, now, strict=True)) if pair[0] != pair[1])
                name, was, now = f"{name}[{k}]", was[k], now[k]
            return f"{name} was {was!r}, is {now!r}"
    return None


def _outputs(split: Split, share: DeviceData) -> list[float]:
    """What the model says of real data. Its class may be the user's own, and their code is not seen otherwise."""
    model = copy.deepcopy(split.model).eval()
    with torch.no_grad():
        logits = model(share.test_x[:_SAMPLES].clone())
    return [float(value) for value in logits.double().flatten()]


def _close(was: object, now: object) -> bool:
    """Equal up to what another processor's rounding makes of it."""
    if not isinstance(was, list) or not isinstance(now, list) or len(was) != len(now):
        return False
    if not all(isinstance(value, float) for value in was):
        return False
    size = max((abs(value) for value in now if math.isfinite(value)), default=0.0)
    return bool(np.allclose(was, now, rtol=_TOLERANCE, atol=_TOLERANCE * size, equal_nan=True))


def _module(module: nn.Module, depth: int) -> str:
    """Class and settings of one module; parameters, buffers and children have entries of their own."""
    settings = {name: value for name, value in vars(module).items() if name not in _INTERNAL}
    written = [f"{name}={_written(value, depth - 1)}" for name, value in sorted(settings.items())]
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        written += [f"{kind}={_written(hook, depth - 1)}" for hook in vars(module)[kind].values()]
    return f"{type(module).__qualname__}({', '.join(written)})"


def _written(value: Any, depth: int) -> str:
    """A setting as text that is the same in every process."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, torch.Tensor) else value
        return f"{array.dtype} {array.shape} {zlib.crc32(array.tobytes()):08x}"
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_written(k, 1)}: {_written(v, depth - 1)}" for k, v in value.items()) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(_written(v, depth - 1) for v in value)) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_written(v, depth - 1) for v in value) + "]"
    if isinstance(value, nn.Module):
        return _module(value, depth)
    if isinstance(value, functools.partial):
        return f"partial({', '.join(_written(v, depth - 1) for v in (value.func, *value.args, value.keywords))})"
    code = getattr(value, "__code__", None)
    if code is not None:  # a function; one without a name of its own is told by what it does
        own = f" {zlib.crc32(code.co_code + repr(code.co_names).encode()):08x}" if "<" in value.__qualname__ else ""
        return f"{value.__qualname__}{own}"
    if callable(value) and hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    if hasattr(value, "__dict__"):
        return f"{type(value).__qualname__}{_written(vars(value), depth - 1)}"
    return type(value).__qualname__


def _crc(tensor: torch.Tensor, start: int = 0) -> int:
    return zlib.crc32(tensor.contiguous().numpy().data, start)
