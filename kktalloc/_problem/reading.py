"""Fields of a cell and its devices as they were given: validated, and of one shape."""

from __future__ import annotations

import warnings
from math import prod
from operator import is_, itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arguments import in_range, joint_shape
from kktalloc._problem.arrays import FloatArray, Home, as_float64, common_home, home_of
from kktalloc._problem.fields import CELL, CLOCKED, DEVICES, OPTIONAL, RANGES, Cell, Devices, Values

_PLAIN = tuple(CLOCKED.values())
clock_values = itemgetter(*CLOCKED)
"""Of a dictionary of fields: those of clocks and electronics."""

# For the kernel: the bounds of every field, in order.
_BOUNDS = np.array([RANGES[name] for name in (*CELL, *DEVICES)], dtype=np.float64)


def validated(table: str, name: str, value: Any, module: Any, homes: dict[str, Home]) -> FloatArray:
    """`value` as float64, or a ValueError that names the field, the index and the value.

    Float64 arrays in C order are taken as they are. `homes` collects where arrays of other libraries came from.
    """
    low, open_low, high = RANGES[name]
    if type(value) is float:
        array = np.array(value)
        if (low < value if open_low else low <= value) and value <= high:
            return array
    else:
        array = _as_float64(table, name, value, homes)
        if module is not None and module.in_range(array, low, open_low, high):
            return array
    in_range(f"{table}.{name}", array, low, open_low, high)
    return array


def _as_float64(table: str, name: str, value: Any, homes: dict[str, Home]) -> FloatArray:
    """`value` as `as_float64` has it; `homes` learns where it came from."""
    home = None if type(value) is np.ndarray else home_of(value)
    if home is not None:
        homes[f"{table}.{name}"] = home
        common_home(homes)  # refuses a second device before anything is fetched from it
    return as_float64(f"{table}.{name}", value)


def labels(names: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """The devices' names broadcast to `shape`, empty for none, or a ValueError that says which is no name."""
    if names is None:
        return np.broadcast_to(np.array(""), shape)
    try:
        given = np.asarray(names)
    except ValueError:  # lists of unequal lengths
        raise ValueError(f"devices.name = {names!r:.60}: must be an array of strings") from None
    if given.dtype.kind != "U":
        objects: Any = np.asarray(names, dtype=object)
        for index, label in np.ndenumerate(objects):
            if label is not None and not isinstance(label, str):
                raise ValueError(f"devices.name{list(index) or ''} = {label!r:.60}: must be a string")
        given = np.where(objects == np.array(None), "", objects).astype(str)
    elif not isinstance(names, np.ndarray):  # among strings NumPy makes a string of every number
        return labels(np.asarray(names, dtype=object), shape)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(f"devices.name: shape {given.shape} does not fit {shape}") from None


def usual(
    module: Any, cell: Cell, devices: Devices
) -> tuple[tuple[int, ...], dict[str, Values], dict[str, Values]] | None:
    """Shape and fields of one problem that the kernel finds in order; None for what has to be looked at in Python."""
    of_cell, of_devices = {**vars(cell)}, {**vars(devices)}
    of_devices.pop("name", None)
    if tuple(of_cell) != CELL or tuple(of_devices) != DEVICES:  # a class derived from these may hold others
        return None
    K = module.usual((*of_cell.values(), *of_devices.values()), _BOUNDS, np.ndarray, np.float64)
    if K is None:
        return None
    if of_cell["total_power_w"] is None:
        del of_cell["total_power_w"]
    if of_devices["weight"] is None:
        del of_devices["weight"]
    return (K,), of_cell, of_devices


def looked_at(
    cell: Cell, devices: Devices, module: Any, homes: dict[str, Home]
) -> tuple[tuple[int, ...], dict[str, Values], dict[str, Values]]:
    """The same for any input, or a ValueError that names what is wrong with it."""
    of_cell, of_devices = (
        {
            name: validated(table, name, value, module, homes)
            for name in names
            if (value := getattr(given, name)) is not None or name not in OPTIONAL
        }
        for table, names, given in (("cell", CELL, cell), ("devices", DEVICES, devices))
    )
    return _common_shape(of_cell, of_devices), {**of_cell}, {**of_devices}


def with_a_clock(devices: dict[str, Values]) -> bool:
    """Whether some device has a clock, electronics or computing that is not pruned."""
    if all(map(is_, clock_values(devices), _PLAIN)):  # nobody has said anything of it
        return False
    return not all(
        v == plain if isinstance(v := devices[name], float) else (v == plain).all() for name, plain in CLOCKED.items()
    )


def check_clocks(devices: dict[str, Values]) -> None:
    """Refuse clocks whose bounds cross, and computing of another efficiency than the pruned: convexity rests on it."""
    low, high = np.broadcast_arrays(devices["clock_min"], devices["clock_max"])
    if (low > high).any():
        index = tuple(int(i) for i in np.argwhere(low > high)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(f"devices.clock_min{where} = {low[index]!s}: must be <= clock_max = {high[index]!s}")
    names = ("fixed_compute_s", "fixed_compute_j", "pruned_compute_s", "pruned_compute_j")
    fixed_s, fixed_j, pruned_s, pruned_j = np.broadcast_arrays(*(devices[name] for name in names))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # As watts, where both are computing at all; and joules of no time only where the pruned have none either.
        watts, ours = pruned_j / pruned_s, fixed_j / fixed_s
        off = np.where(
            (fixed_s > 0.0) & (pruned_s > 0.0),
            np.abs(ours - watts) > 1e-9 * np.maximum(ours, watts),
            np.where(fixed_s > 0.0, pruned_j > 0.0, (fixed_j > 0.0) & (pruned_s > 0.0)),
        )
    if off.any():
        index = tuple(int(i) for i in np.argwhere(off)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(
            f"devices.fixed_compute_j{where} = {fixed_j[index]!s}: must be to fixed_compute_s = {fixed_s[index]!s} as "
            f"pruned_compute_j = {pruned_j[index]!s} to pruned_compute_s = {pruned_s[index]!s}"
        )


def warn_of_gain(gain: Values, module: Any) -> None:
    """Warn of a gain above 1."""
    if gain <= 1.0 if isinstance(gain, float) else module is not None and module.in_range(gain, 0.0, False, 1.0):
        return
    gain = np.asarray(gain)
    if not (gain > 1.0).any():
        return
    index = np.argwhere(gain > 1.0)[0].tolist()
    warnings.warn(
        f"devices.channel_gain{index or ''} = {gain[tuple(index)]!s}: more than 1, so that more power would arrive "
        "than was sent; if this is a path loss in dB, take kktalloc.channel.db_to_linear(-loss_db)",
        stacklevel=3,
    )


def normalised(weight: Values | None, shape: tuple[int, ...], module: Any) -> FloatArray:
    """The weights over their sum, which broadcast to `shape`."""
    K = shape[-1]
    if weight is None:
        return np.array(1.0 / K) if K else np.ones(0)
    weight = np.asarray(weight)
    if module is not None and weight.shape == shape and K:
        alpha = np.empty(shape)
        flat = weight if weight.ndim == 1 else weight.reshape(-1, K)
        some = module.normalise(flat, prod(shape[:-1]), K, alpha)
    else:
        spread = np.broadcast_to(weight, shape)
        # Dividing by the largest first keeps the sum of huge weights finite.
        top = spread.max(axis=-1, keepdims=True, initial=0.0)
        some = not K or bool((top > 0).all())
        alpha = spread / np.where(top > 0, top, 1.0)
        alpha = alpha / alpha.sum(axis=-1, keepdims=True) if some and K else alpha
    if not some:
        where = np.argwhere(~np.atleast_1d(weight > 0).any(axis=-1))[0].tolist()
        raise ValueError(f"devices.weight{where or ''}: at least one weight of each problem must be > 0")
    return alpha


def _common_shape(cell: dict[str, FloatArray], devices: dict[str, FloatArray]) -> tuple[int, ...]:
    """Shape ``(..., K)`` that every field broadcasts to; the error names the first field that does not fit."""
    # The usual case at once: one problem, each field a scalar or one value per device.
    usual = {v.shape for v in devices.values()} - {()}
    if len(usual) == 1 and all(v.shape == () for v in cell.values()) and len(only := usual.pop()) == 1:
        return only
    # A cell field has no device axis: a trailing 1 stands in for it.
    shapes = {f"devices.{n}": v.shape for n, v in devices.items()}
    return joint_shape(shapes | {f"cell.{n}": (*v.shape, 1) for n, v in cell.items()})
