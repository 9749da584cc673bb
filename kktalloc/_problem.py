"""What is asked: one or many cells, each with K devices that share its bandwidth.

Field names, units and shapes are those of a scenario file; nothing here knows how a problem is solved.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._pruning_error import FloatArray as FloatArray
from kktalloc._pruning_error import Linear, PowerLaw, PruningError


@dataclass(frozen=True, eq=False)
class Cell:
    """What the devices of one cell share. Each field is a scalar or an array of the batch shape ``(...)``.

    Parameters
    ----------
    bandwidth_hz
        Uplink bandwidth to divide, > 0.
    noise_psd_w_per_hz
        One-sided noise power spectral density at the receiver, > 0.
    deadline_s
        Time from the start of a round to the last received bit, > 0.
    total_power_w
        Cap on the sum of transmit powers, >= 0, or None for none.
    """

    bandwidth_hz: ArrayLike
    noise_psd_w_per_hz: ArrayLike
    deadline_s: ArrayLike
    total_power_w: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class Devices:
    """The devices. Each field is a scalar or an array that broadcasts to ``(..., K)``; SI units, no dB.

    Parameters
    ----------
    channel_gain
        ``|h|^2``, linear, path loss and array gain included, >= 0.
    tx_power_max_w
        Peak radiated power, >= 0.
    payload_bits
        Upload of the unpruned global part, > 0; a device that keeps the fraction q sends ``q * payload_bits``.
    pruned_compute_s
        Time of the pruned training steps at keep ratio 1, >= 0; proportional to the keep ratio.
    overhead_bits
        Sent whatever is pruned (mask, headers), >= 0.
    fixed_latency_s
        Broadcast, personal steps and probe, >= 0.
    energy_budget_j
        Energy for the round, >= 0; ``inf`` for no limit.
    pruned_compute_j
        Energy of the pruned training steps at keep ratio 1, >= 0.
    fixed_energy_j
        Energy that is spent whatever is decided, >= 0; subtracted from the budget first.
    pa_efficiency
        Radiated power over power drawn by the amplifier, in (0, 1].
    pruning_ratio_max
        The most a device may prune, in [0, 1]; 1 means that it may drop everything.
    weight
        Aggregation weight alpha_k >= 0, normalised to sum 1 over the last axis; None for uniform.
    """

    channel_gain: ArrayLike
    tx_power_max_w: ArrayLike
    payload_bits: ArrayLike
    pruned_compute_s: ArrayLike
    overhead_bits: ArrayLike = 0.0
    fixed_latency_s: ArrayLike = 0.0
    energy_budget_j: ArrayLike = inf
    pruned_compute_j: ArrayLike = 0.0
    fixed_energy_j: ArrayLike = 0.0
    pa_efficiency: ArrayLike = 1.0
    pruning_ratio_max: ArrayLike = 1.0
    weight: ArrayLike | None = None


# Lower bound, whether it is excluded, upper bound; NaN is outside every interval.
_FINITE = np.finfo(np.float64).max
_RANGES: dict[str, tuple[float, bool, float]] = {
    "bandwidth_hz": (0.0, True, _FINITE),
    "noise_psd_w_per_hz": (0.0, True, _FINITE),
    "deadline_s": (0.0, True, _FINITE),
    "total_power_w": (0.0, False, _FINITE),
    "channel_gain": (0.0, False, _FINITE),
    "tx_power_max_w": (0.0, False, _FINITE),
    "payload_bits": (0.0, True, _FINITE),
    "overhead_bits": (0.0, False, _FINITE),
    "pruned_compute_s": (0.0, False, _FINITE),
    "fixed_latency_s": (0.0, False, _FINITE),
    "energy_budget_j": (0.0, False, inf),
    "pruned_compute_j": (0.0, False, _FINITE),
    "fixed_energy_j": (0.0, False, _FINITE),
    "pa_efficiency": (0.0, True, 1.0),
    "pruning_ratio_max": (0.0, False, 1.0),
    "weight": (0.0, False, _FINITE),
}


def _validated(table: str, name: str, value: Any) -> FloatArray:
    """`value` as float64, or a ValueError that names the field, the index and the value."""
    field = f"{table}.{name}"
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{field}: expected numbers, got {value!r:.80}") from None
    low, open_low, high = _RANGES[name]
    ok = (array > low if open_low else array >= low) & (array <= high)
    if not ok.all():
        index = tuple(int(i) for i in np.argwhere(~ok)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        bound = f"{'> ' if open_low else '>= '}{low:g}"
        bound += " and finite" if high == _FINITE else "" if high == inf else f" and <= {high:g}"
        raise ValueError(f"{field}{where} = {array[index]!s}: must be {bound}")
    return array


@dataclass(frozen=True, eq=False, init=False)
class Problem:
    """A validated allocation problem, or a batch of them.

    Parameters
    ----------
    cell, devices
        What is shared, and who shares it.
    pruning_error
        The curve ``e`` of the objective ``sum alpha_k e(rho_k)``: `Linear` (the default, the bound's own), `PowerLaw`
        or a measured `Table`.

    Every device field is broadcast to ``(..., K)`` and every cell field to ``(..., 1)``, so that they combine
    without further care. Arrays are read-only views where broadcasting made them.

    Raises
    ------
    ValueError
        One line that names the first offending field, its index and its value, or the shapes that do not match.
    """

    cell: Cell
    devices: Devices
    pruning_error: PruningError
    shape: tuple[int, ...]

    def __init__(self, cell: Cell, devices: Devices, pruning_error: PruningError | None = None) -> None:
        cell_values = {
            f.name: _validated("cell", f.name, getattr(cell, f.name))
            for f in fields(Cell)
            if getattr(cell, f.name) is not None
        }
        device_values = {
            f.name: _validated("devices", f.name, getattr(devices, f.name))
            for f in fields(Devices)
            if getattr(devices, f.name) is not None
        }
        shape = _common_shape(cell_values, device_values)
        alpha = device_values.pop("weight", np.ones(()))
        alpha = np.broadcast_to(alpha, shape)
        # Dividing by the largest first keeps the sum of huge weights finite.
        top = alpha.max(axis=-1, keepdims=True, initial=0.0)
        if shape[-1] and not (top > 0).all():
            raise ValueError("devices.weight: at least one weight of each problem must be > 0")
        alpha = alpha / np.where(top > 0, top, 1.0)
        alpha = alpha / alpha.sum(axis=-1, keepdims=True) if shape[-1] else alpha
        spread = {name: np.broadcast_to(v, shape) for name, v in device_values.items()}
        columns = {name: np.broadcast_to(v[..., None], (*shape[:-1], 1)) for name, v in cell_values.items()}
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "pruning_error", _spread_curve(pruning_error or Linear(), shape))
        object.__setattr__(self, "cell", Cell(**columns))
        object.__setattr__(self, "devices", Devices(**spread, weight=alpha))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: one entry per problem."""
        return self.shape[:-1]


def _spread_curve(curve: PruningError, shape: tuple[int, ...]) -> PruningError:
    """The curve with its per-device exponents, if it has any, broadcast to the problem's shape."""
    if not isinstance(curve, PowerLaw) or np.ndim(curve.exponent) == 0:
        return curve
    try:
        return PowerLaw(np.broadcast_to(np.asarray(curve.exponent), shape))
    except ValueError:
        raise ValueError(f"pruning_error.exponent: shape {np.shape(curve.exponent)} does not fit {shape}") from None


def _common_shape(cell: dict[str, FloatArray], devices: dict[str, FloatArray]) -> tuple[int, ...]:
    """Shape ``(..., K)`` that every field broadcasts to; the error names the first field that does not fit."""
    # A cell field has no device axis: a trailing 1 stands in for it.
    shapes = {f"devices.{n}": v.shape for n, v in devices.items()}
    shapes |= {f"cell.{n}": (*v.shape, 1) for n, v in cell.items()}
    common: tuple[int, ...] = (1,)
    for field, shape in shapes.items():
        try:
            common = np.broadcast_shapes(common, shape)
        except ValueError:
            raise ValueError(
                f"{field}: shape {shape} does not broadcast with {common} of the fields before it"
            ) from None
    return common
