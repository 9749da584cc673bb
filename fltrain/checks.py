"""What training is given, checked before it starts: data that fit, and a model that keeps to the rules of a round.

Each refusal is one line that names the device, the field and what to do.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fltrain._random import seeded
from fltrain.config import TrainConfig
from fltrain.data import Dataset
from fltrain.partition import DeviceData
from fltrain.split import Split
from fltrain.units import UnitMap

_TAKEN_AS = {torch.float64: torch.float32, torch.float16: torch.float32, torch.bfloat16: torch.float32}
_TAKEN_AS |= {torch.complex128: torch.complex64}
# Whole numbers that torch's layers do not take; bytes stay, for models that scale them.
_TAKEN_AS |= dict.fromkeys((torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64), torch.int64)
_INTERNAL = frozenset(vars(nn.Module()))  # torch's own: parameters, buffers, children, hooks


def check_shares(split: Split, shares: Sequence[DeviceData], config: TrainConfig) -> list[DeviceData]:
    """The same data as torch tensors that the model takes: float32 or whole-number inputs, int64 labels.

    Raises
    ------
    ValueError
        No device, a device without training or held-out data, data or labels that the model does not take, or a model
        that no round can run on: its outputs are no logits, it cannot make a step on a device's batch, it keeps
        something between calls, or structured masks cannot see through it.
    """
    if isinstance(shares, DeviceData | Dataset):
        raise ValueError(f"shares must be a list of DeviceData, one per device, got one {type(shares).__name__}")
    if not len(shares):
        raise ValueError("shares must hold at least one device, got none")
    taken = [check_share(k, share) for k, share in enumerate(shares)]
    first = taken[0].test_x
    for k, share in enumerate(taken):
        for part in ("train", "test"):
            x, name = getattr(share, f"{part}_x"), f"shares[{k}].{part}_x"
            if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
                raise ValueError(
                    f"{name} has inputs of shape {tuple(x.shape[1:])} and {x.dtype}, shares[0].test_x of "
                    f"{tuple(first.shape[1:])} and {first.dtype}"
                )
            if (x.is_floating_point() or x.is_complex()) and not bool(torch.isfinite(x).all()):
                raise ValueError(f"{name} holds a number that is not finite")
    classes = 1 + max(int(max(share.train_y.max(), share.test_y.max())) for share in taken)
    _require_logits(split, taken[0], classes)
    config.check_devices(len(taken))
    sizes = [min(config.batch_of(k), len(share.train_y)) for k, share in enumerate(taken)]
    _require_steps(split, taken, sizes)
    most = int(np.argmax(sizes))
    for training in (True, False):
        _require_stateless(split, taken[most], sizes[most], training=training)
    if config.pruning and config.structure == "units":
        UnitMap(split).verify(torch.cat([taken[0].train_x[:1], taken[0].test_x[:1]]))
    return taken


def check_share(k: int, share: DeviceData) -> DeviceData:
    """One device's data, checked for itself (see `check_shares`)."""
    if not isinstance(share, DeviceData):
        raise ValueError(f"shares[{k}] must be a DeviceData, got {type(share).__name__}")
    given = {name: value for name, value in vars(share).items() if name != "name"}
    parts = {name: _tensor(value, f"shares[{k}].{name}") for name, value in given.items()}
    for part in ("train", "test"):
        x, y = parts[f"{part}_x"], parts[f"{part}_y"]
        if not x.ndim or not y.ndim or len(y) == 0 or len(x) != len(y):
            sizes = [len(tensor) if tensor.ndim else 0 for tensor in (x, y)]
            raise ValueError(f"shares[{k}] has {sizes[0]} {part} inputs and {sizes[1]} labels")
        name = f"shares[{k}].{part}_y"
        if y.ndim != 1:
            one_hot = y.ndim == 2 and y.shape[1] > 1
            remedy = "one-hot labels become numbers by y.argmax(1)" if one_hot else "use y.reshape(-1)"
            raise ValueError(f"{name} must have shape ({len(y)},), got {tuple(y.shape)}; {remedy}")
        whole = y if y.is_floating_point() or y.is_complex() else y.to(torch.int64)
        if whole.dtype != torch.int64 or int(whole.min()) < 0:
            least = "" if y.is_complex() else f", least {whole.min().item()}"
            raise ValueError(f"{name} must hold labels 0, 1, ... as whole numbers, got {y.dtype}{least}")
        parts[f"{part}_x"], parts[f"{part}_y"] = x.to(_TAKEN_AS.get(x.dtype, x.dtype)), whole
    return DeviceData(**parts, name=share.name)


def _tensor(value: Any, name: str) -> torch.Tensor:
    """A tensor or NumPy array as a dense CPU tensor."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(f"{name} has masked entries, which hold no number; drop them or fill them in")
        value = value.data
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            raise ValueError(f"{name} must hold numbers, got an array of {value.dtype}")
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name} must be a torch tensor or a NumPy array, got {type(value).__name__}")
    if value.device.type != "cpu" or value.layout != torch.strided or value.is_quantized:
        raise ValueError(
            f"{name} must be a dense tensor on the CPU, got {value.layout} on {value.device}: .to_dense().cpu()"
        )
    return value.detach()


def _require_logits(split: Split, share: DeviceData, classes: int) -> None:
    shape, dtype = tuple(share.test_x.shape[1:]), share.test_x.dtype
    model = copy.deepcopy(split.model).eval()
    x = torch.cat([share.train_x[:1], share.test_x[:1]])
    for n in (2, 1):
        try:
            with torch.no_grad():
                logits = model(x[:n].clone())
        except Exception as error:
            whole = "; pixels and measurements must be float32: x.float()" if not dtype.is_floating_point else ""
            raise ValueError(
                f"the model does not take inputs of shape {shape} and {dtype}: {_line(error)}{whole}"
            ) from None
        if not isinstance(logits, torch.Tensor):
            raise ValueError(
                f"the model must return logits (n, classes), got a {type(logits).__name__}; wrap it in a module that "
                "returns the logits alone"
            )
        if logits.ndim != 2 or len(logits) != n or not logits.is_floating_point():
            raise ValueError(
                f"the model must return logits ({n}, classes) for {n} inputs, got {logits.dtype} {tuple(logits.shape)}"
            )
    if logits.shape[1] < classes:
        raise ValueError(f"the model has {logits.shape[1]} outputs, the labels need {classes}")


def _require_steps(split: Split, shares: Sequence[DeviceData], sizes: Sequence[int]) -> None:
    """One step forward and back for each size of batch that a device has."""
    first = {size: k for k, size in reversed(list(enumerate(sizes)))}
    for size, k in sorted(first.items()):
        share, model = shares[k], copy.deepcopy(split.model).train()
        try:
            with seeded(0):
                loss = functional.cross_entropy(model(share.train_x[:size].clone()), share.train_y[:size])
                loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            few = ", all that the device has; give it more" if size == len(share.train_y) else "; raise batch_size"
            few = few if size == 1 else ""
            samples = "1 sample" if size == 1 else f"{size} samples"
            raise ValueError(
                f"shares[{k}].train_x: the model cannot train on {samples}{few} ({_line(error)})"
            ) from None


def _require_stateless(split: Split, share: DeviceData, size: int, *, training: bool) -> None:
    """Refuse a model whose answer depends on what it was asked before.

    One copy sees other samples first. Then both have the same parameters, buffers and random numbers, and see the same
    samples. What they answer, and what they hold afterwards besides parameters and buffers, must be the same: all else
    would travel from device to device, and with the number of workers it would travel otherwise.
    """
    x = share.train_x[:size]
    other = torch.cat([share.train_x, share.test_x]).flip(0)[:size]
    fresh, used = (copy.deepcopy(split.model).train(training) for _ in range(2))
    mode = "training" if training else "evaluation"
    try:
        with seeded(0):
            expected = fresh(x.clone())
        with seeded(1):
            used(other.clone())
        with torch.no_grad():
            for mine, given in zip(_tensors(used), _tensors(split.model), strict=True):
                mine.copy_(given)
        with seeded(0):
            found = used(x.clone())
    except Exception as error:
        raise ValueError(f"the model can be used only once in {mode}: {_line(error)}") from None
    for (name, before), (_, after) in zip(fresh.named_modules(), used.named_modules(), strict=False):
        for attribute in sorted((vars(before).keys() | vars(after).keys()) - _INTERNAL):
            if not _same(vars(before).get(attribute), vars(after).get(attribute)):
                where = f"{name}.{attribute}" if name else attribute
                raise ValueError(
                    f"the model keeps {where} from one call to the next in {mode}, which would travel from device to "
                    f"device; make it a buffer (register_buffer), which stays with its device"
                )
    if not _same(found, expected):
        raise ValueError(
            f"the model gives the same inputs another answer when it is asked again in {mode}: it keeps something "
            "outside its parameters and buffers, or draws from another generator than torch's"
        )


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _same(a: Any, b: Any, depth: int = 8) -> bool:
    """Whether two values are equal as far as can be told; tensors and arrays to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.is_sparse == b.is_sparse and _same_numbers(a, b)
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, nn.Module) or depth == 0:
        return True  # a child is looked at by its own name
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key], depth - 1) for key in a)
    if isinstance(a, str | bytes | int | float | complex | None.__class__):
        return bool(a == b) or a != a
    if isinstance(a, Sequence) or hasattr(a, "maxlen"):
        return len(a) == len(b) and all(_same(x, y, depth - 1) for x, y in zip(a, b, strict=True))
    return not hasattr(a, "__dict__") or callable(a) or _same(vars(a), vars(b), depth - 1)


def _same_numbers(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _line(error: Exception) -> str:
    """The first line of what somebody else's code says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
