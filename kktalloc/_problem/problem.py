"""What is asked: one or many cells, each with K devices that share its bandwidth.

Field names, units and shapes are those of a scenario file; nothing here knows how a problem is solved.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import inf, prod
from operator import is_, itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._command import printable
from kktalloc._problem.arrays import FloatArray, Home, as_float64, common_home, first_wrong, home_of
from kktalloc._problem.curves import Linear, PruningError, spread
from kktalloc._problem.kernel import kernel
from kktalloc._problem.shown import Rows, Shown, counted, span


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
    bandwidth_max_hz
        The most bandwidth that a device can use, >= 0; ``inf`` for no limit.
    circuit_power_w
        Power that the electronics draw while the device sends, >= 0.
    clock_min, clock_max
        Bounds of its processor's clock, > 0, relative to the clock at which the compute times and energies hold: at
        relative clock s computing takes 1/s of the time and s^2 times the energy.
    fixed_compute_s
        Time of the computing that is not pruned, at relative clock 1, >= 0.
    fixed_compute_j
        Its energy at relative clock 1, >= 0; to ``fixed_compute_s`` as ``pruned_compute_j`` to ``pruned_compute_s``.
    name
        Labels, strings, for messages; None for none.
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
    bandwidth_max_hz: ArrayLike = inf
    circuit_power_w: ArrayLike = 0.0
    clock_min: ArrayLike = 1.0
    clock_max: ArrayLike = 1.0
    fixed_compute_s: ArrayLike = 0.0
    fixed_compute_j: ArrayLike = 0.0
    name: ArrayLike | None = None


# Lower bound, whether it is excluded, upper bound; NaN is outside every interval.
FINITE = np.finfo(np.float64).max
_RANGES: dict[str, tuple[float, bool, float]] = {
    "bandwidth_hz": (0.0, True, FINITE),
    "noise_psd_w_per_hz": (0.0, True, FINITE),
    "deadline_s": (0.0, True, FINITE),
    "total_power_w": (0.0, False, FINITE),
    "channel_gain": (0.0, False, FINITE),
    "tx_power_max_w": (0.0, False, FINITE),
    "payload_bits": (0.0, True, FINITE),
    "overhead_bits": (0.0, False, FINITE),
    "pruned_compute_s": (0.0, False, FINITE),
    "fixed_latency_s": (0.0, False, FINITE),
    "energy_budget_j": (0.0, False, inf),
    "pruned_compute_j": (0.0, False, FINITE),
    "fixed_energy_j": (0.0, False, FINITE),
    "pa_efficiency": (0.0, True, 1.0),
    "pruning_ratio_max": (0.0, False, 1.0),
    "weight": (0.0, False, FINITE),
    "bandwidth_max_hz": (0.0, False, inf),
    "circuit_power_w": (0.0, False, FINITE),
    "clock_min": (0.0, True, FINITE),
    "clock_max": (0.0, True, FINITE),
    "fixed_compute_s": (0.0, False, FINITE),
    "fixed_compute_j": (0.0, False, FINITE),
}

# Without these a device is the plain one: fixed clock, no electronics, nothing computed that is not pruned or fixed.
_OF_CLOCKS = ("circuit_power_w", "clock_min", "clock_max", "fixed_compute_s", "fixed_compute_j")
_CLOCKED = {f.name: f.default for f in fields(Devices) if f.name in _OF_CLOCKS}  # what says nothing of a clock
_PLAIN = tuple(_CLOCKED.values())
CLOCK_EXPONENT = 3  # n: the power of a processor grows as its clock to this, so the energy of a task as clock^(n - 1)


_LINEAR = Linear()
Values = FloatArray | float

_CELL = tuple(f.name for f in fields(Cell))
_DEVICES = tuple(f.name for f in fields(Devices) if f.name != "name")  # those that are numbers
# In the order of kernel/problem.h.
_COMPILED = tuple(name for name in _DEVICES if name != "bandwidth_max_hz" and name not in _CLOCKED)
_OPTIONAL = ("total_power_w", "weight")

_compiled_values = itemgetter(*_COMPILED)
_clock_values = itemgetter(*_CLOCKED)

# For the kernel: the bounds of every field, in order.
_BOUNDS = np.array([_RANGES[name] for name in (*_CELL, *_DEVICES)], dtype=np.float64)


def _validated(table: str, name: str, value: Any, module: Any, homes: dict[str, Home]) -> FloatArray:
    """`value` as float64, or a ValueError that names the field, the index and the value.

    Float64 arrays in C order are taken as they are. `homes` collects where arrays of other libraries came from.
    """
    low, open_low, high = _RANGES[name]
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


def in_range(name: str, array: FloatArray, low: float, open_low: bool, high: float) -> None:
    """A ValueError that names the field, the index and the value, where one is beyond its limits.

    An upper limit of `FINITE` says that it must be finite.
    """
    ok = (array > low if open_low else array >= low) & (array <= high)
    if not ok.all():
        bounds = [] if low == -FINITE else [f"{'> ' if open_low else '>= '}{low:g}"]
        bounds += ["finite"] if high == FINITE else [] if high == inf else [f"<= {high:g}"]
        raise ValueError(f"{first_wrong(name, array, ok)}: must be {' and '.join(bounds)}")


def one_number(
    name: str, given: ArrayLike, low: float = -FINITE, open_low: bool = False, high: float = FINITE
) -> float:
    """An argument that is one real number within its limits, as `in_range` has them, or a ValueError that names it."""
    array = as_float64(name, given)
    if array.ndim:
        raise ValueError(f"{name}: shape {array.shape}, must be one number")
    in_range(name, array, low, open_low, high)
    return float(array)


def _as_float64(table: str, name: str, value: Any, homes: dict[str, Home]) -> FloatArray:
    """`value` as `as_float64` has it; `homes` learns where it came from."""
    home = None if type(value) is np.ndarray else home_of(value)
    if home is not None:
        homes[f"{table}.{name}"] = home
        common_home(homes)  # refuses a second device before anything is fetched from it
    return as_float64(f"{table}.{name}", value)


def _labels(names: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """The devices' names broadcast to `shape`, empty for none, or a ValueError that says which is no name."""
    if names is None:
        return np.broadcast_to(np.array(""), shape)
    given = np.asarray(names)
    if given.dtype.kind != "U":
        objects: Any = np.asarray(names, dtype=object)
        for index, label in np.ndenumerate(objects):
            if label is not None and not isinstance(label, str):
                raise ValueError(f"devices.name{list(index) or ''} = {label!r:.60}: must be a string")
        given = np.where(objects == np.array(None), "", objects).astype(str)
    elif not isinstance(names, np.ndarray):  # among strings NumPy makes a string of every number
        return _labels(np.asarray(names, dtype=object), shape)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(f"devices.name: shape {given.shape} does not fit {shape}") from None


def expect(name: str, given: Any, kind: type) -> None:
    """Raise a TypeError that names an argument which is not of its kind."""
    if not isinstance(given, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(given).__name__}")


def expect_whole(name: str, given: Any, least: int) -> None:
    """Raise a ValueError that names an argument which is no whole number, or below `least`."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < least:
        raise ValueError(f"{name} = {given!r:.60}: must be a whole number >= {least}")


def unlimited(name: str) -> bool:
    """Whether a field may be infinite, which is no limit then."""
    return _RANGES[name][2] == inf


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Problem(Shown):
    """A validated allocation problem, or a batch of them.

    Parameters
    ----------
    cell, devices
        What is shared, and who shares it.
    pruning_error
        The curve ``e`` of the objective ``sum alpha_k e(rho_k)``: `Linear` (the default, the bound's own), `PowerLaw`,
        a measured `Table`, or any other with the methods of `PruningError`, whose values and slopes are held against
        each other.

    Notes
    -----
    Every device field is broadcast to ``(..., K)`` and every cell field to ``(..., 1)``, so that they combine
    without further care; these views are read-only. Float64 arrays are not copied: what is written into them later
    changes the problem, unvalidated. PyTorch tensors (detached from their graph) and arrays that follow the array API
    standard may be mixed with NumPy and numbers; the computation is NumPy in float64, the results are of their kind.

    A cell with no devices, K = 0, is a problem too; its solution is empty.

    Raises
    ------
    ValueError
        One line that names the first offending field, its index and its value, or the shapes that do not match, or
        the array that lies on another device than those before it. A curve that is not convex or not non-decreasing,
        or whose slope is not that of its values.
    TypeError
        Something else than a cell, devices and a curve.

    Warns
    -----
    UserWarning
        A channel gain above 1, as a path loss in dB would be.
    """

    pruning_error: PruningError
    shape: tuple[int, ...]
    clocked: bool  # whether some device has a clock, electronics or computing that is not pruned (`_device.clocked`)
    home: Home | None = field(repr=False)  # where the arrays came from and the results go; None for NumPy
    _cell: dict[str, Values] = field(repr=False)  # as given, not yet broadcast
    _devices: dict[str, Values] = field(repr=False)
    _names: np.ndarray | None = field(repr=False)  # of the devices, broadcast

    def __init__(
        self, cell: Cell, devices: Devices, pruning_error: PruningError | None = None, *, _derived: bool = False
    ) -> None:
        # `_derived` is a problem made of another's fields, which has warned of them.
        expect("cell", cell, Cell)
        expect("devices", devices, Devices)
        module = kernel()
        homes: dict[str, Home] = {}
        usual = None if module is None else _usual(module, cell, devices)
        shape, cell_values, device_values = usual or _looked_at(cell, devices, module, homes)
        device_values["weight"] = _normalised(device_values.get("weight"), shape, module)
        if not _derived:
            _warn_of_gain(device_values["channel_gain"], module)
        vars(self).update(
            shape=shape,
            home=common_home(homes) if homes else None,
            pruning_error=_LINEAR if pruning_error is None else spread(pruning_error, shape),
            _cell=cell_values,
            _devices=device_values,
            _names=None if devices.name is None else _labels(devices.name, shape),
            clocked=_with_a_clock(device_values),
        )
        if self.clocked:
            _check_clocks(device_values)

    @cached_property
    def cell(self) -> Cell:
        """What is shared, each field broadcast to ``(..., 1)``."""
        columns = (*self.shape[:-1], 1)
        return Cell(**{name: _widened(np.asarray(v)[..., None], columns) for name, v in self._cell.items()})

    @cached_property
    def devices(self) -> Devices:
        """Who shares it, each field broadcast to ``(..., K)``; the weights sum to 1, no name is an empty one."""
        names = _labels(None, self.shape) if self._names is None else self._names
        return Devices(**{n: _widened(np.asarray(v), self.shape) for n, v in self._devices.items()}, name=names)

    def of_cell(self, name: str) -> Values:
        """One field of the cell as it was given, to broadcast to ``(...)``: quicker than `cell`, which has them all."""
        return self._cell[name]

    def of_devices(self, name: str) -> Values:
        """One field of the devices as it was given: it broadcasts to ``(..., K)``."""
        return self._devices[name]

    def replaced(self, pruning_error: PruningError | None, changes: dict[str, Any]) -> Problem:
        """The same with another curve and other fields, which are looked at; see `kktalloc._problem.variant`."""
        module, homes = kernel(), dict[str, Home]()
        of_cell, of_devices, names = {**self._cell}, {**self._devices}, self._names
        for name, value in changes.items():
            if name == "name":
                names = None if value is None else _labels(value, self.shape)
                continue
            table, values = ("cell", of_cell) if name in _CELL else ("devices", of_devices)
            if name not in _RANGES:
                raise TypeError(f"not a field of a problem: {name}")
            if value is None and name in _OPTIONAL:
                values.pop(name, None)
                continue
            given = _validated(table, name, value, module, homes)
            wide = (*given.shape, 1) if table == "cell" else given.shape
            if wide != self.shape and given.ndim and _joint(wide, self.shape) != self.shape:
                return self._widened_by(pruning_error, changes)
            values[name] = given
        if "weight" in changes:
            of_devices["weight"] = _normalised(of_devices.get("weight"), self.shape, module)
        made = object.__new__(Problem)
        vars(made).update(
            shape=self.shape, home=common_home(homes), _cell=of_cell, _devices=of_devices, _names=names,
            pruning_error=self.pruning_error if pruning_error is None else spread(pruning_error, self.shape),
            clocked=_with_a_clock(of_devices),
        )  # fmt: skip
        if made.clocked:
            _check_clocks(of_devices)
        # What is broadcast already need not be again.
        for table, kind, fresh in (("cell", Cell, of_cell), ("devices", Devices, of_devices)):
            if (seen := vars(self).get(table)) is None or (table == "devices" and "name" in changes):
                continue
            changed = changes.keys() & vars(seen).keys()
            if not changed:
                vars(made)[table] = seen
                continue
            twin = object.__new__(kind)
            vars(twin).update(vars(seen))
            for name in changed:
                shape, value = self.shape, fresh.get(name)
                if value is not None and table == "cell":
                    shape, value = (*self.shape[:-1], 1), np.asarray(value)[..., None]
                vars(twin)[name] = None if value is None else _widened(np.asarray(value), shape)
            vars(made)[table] = twin
        return made

    def _widened_by(self, pruning_error: PruningError | None, changes: dict[str, Any]) -> Problem:
        """The same where the changes make a batch of the problem, or do not fit it, which is said then."""
        cell: dict[str, Any] = {n: np.asarray(v)[..., 0] for n in _CELL if (v := getattr(self.cell, n)) is not None}
        devices: dict[str, Any] = {f.name: getattr(self.devices, f.name) for f in fields(Devices)}
        cell |= {n: v for n, v in changes.items() if n in _CELL}
        devices |= {n: v for n, v in changes.items() if n not in _CELL}
        return Problem(Cell(**cell), Devices(**devices), pruning_error or self.pruning_error, _derived=True)

    def _shown(self) -> tuple[str, Rows]:
        count, devices = self.sizes
        of = f"{counted(count, 'problem')} of " if self.batch_shape else ""
        cell = f"{span(self._cell['bandwidth_hz'])} Hz, deadline {span(self._cell['deadline_s'])} s"
        cap = f", total power {span(self._cell['total_power_w'])} W" if self.capped else ""
        error = type(self.pruning_error).__name__
        return f"{of}{counted(devices, 'device')}, {cell}{cap}, pruning error {error}", ()

    @property
    def capped(self) -> bool:
        """Whether there is a cap on total power."""
        return "total_power_w" in self._cell

    @property
    def bandwidth_limited(self) -> bool:
        """Whether some device has a bandwidth that it cannot exceed."""
        limit = self._devices["bandwidth_max_hz"]
        return limit < inf if isinstance(limit, float) else not (limit == inf).all()

    def device(self, index: tuple[int, ...]) -> str:
        """How messages call a device: its number within the cell, and its name if it has one."""
        label = "" if self._names is None else printable(str(self._names[index]))
        return f"{index[-1]} ({label})" if label else f"{index[-1]}"

    @property
    def sizes(self) -> tuple[int, int]:
        """How many problems, and devices in each."""
        return prod(self.shape[:-1]), self.shape[-1]

    @property
    def columns(self) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
        """Fields of cell (an infinite cap for none) and devices, which broadcast to ``(N,)`` and ``(N, K)``."""
        if len(self.shape) > 2:
            return self._flat_columns
        c = self._cell
        of_cell = c["bandwidth_hz"], c["noise_psd_w_per_hz"], c["deadline_s"], c.get("total_power_w", inf)
        return of_cell, _compiled_values(self._devices)

    @property
    def clock_columns(self) -> tuple[Values, ...]:
        """Fields of the devices that clocks and electronics add, and their own bandwidth, which broadcast likewise."""
        columns = self._devices["bandwidth_max_hz"], *_clock_values(self._devices)
        if len(self.shape) <= 2:
            return columns
        return tuple(np.broadcast_to(v, self.shape).reshape(self.sizes) for v in columns)

    @cached_property
    def _flat_columns(self) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
        cell = (self._cell.get(name, inf) for name in _CELL)
        devices = _compiled_values(self._devices)
        return (
            tuple(np.broadcast_to(v, self.batch_shape).reshape(-1) for v in cell),
            tuple(np.broadcast_to(v, self.shape).reshape(self.sizes) for v in devices),
        )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: one entry per problem."""
        return self.shape[:-1]


def _joint(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that both broadcast to, None where there is none."""
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None


def _widened(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """A read-only view of that shape: `numpy.broadcast_to`, quicker for numbers and for what has the shape already."""
    if values.shape == shape:
        view = values.view()
    elif values.size == 1:
        view = np.ndarray(shape, values.dtype, values, 0, (0,) * len(shape))
    else:
        return np.broadcast_to(values, shape)
    view.flags.writeable = False
    return view


def _usual(
    module: Any, cell: Cell, devices: Devices
) -> tuple[tuple[int, ...], dict[str, Values], dict[str, Values]] | None:
    """Shape and fields of one problem that the kernel finds in order; None for what has to be looked at in Python."""
    of_cell, of_devices = {**vars(cell)}, {**vars(devices)}
    of_devices.pop("name", None)
    if tuple(of_cell) != _CELL or tuple(of_devices) != _DEVICES:  # a class derived from these may hold others
        return None
    K = module.usual((*of_cell.values(), *of_devices.values()), _BOUNDS, np.ndarray, np.float64)
    if K is None:
        return None
    if of_cell["total_power_w"] is None:
        del of_cell["total_power_w"]
    if of_devices["weight"] is None:
        del of_devices["weight"]
    return (K,), of_cell, of_devices


def _looked_at(
    cell: Cell, devices: Devices, module: Any, homes: dict[str, Home]
) -> tuple[tuple[int, ...], dict[str, Values], dict[str, Values]]:
    """The same for any input, or a ValueError that names what is wrong with it."""
    of_cell, of_devices = (
        {
            name: _validated(table, name, value, module, homes)
            for name in names
            if (value := getattr(given, name)) is not None or name not in _OPTIONAL
        }
        for table, names, given in (("cell", _CELL, cell), ("devices", _DEVICES, devices))
    )
    return _common_shape(of_cell, of_devices), {**of_cell}, {**of_devices}


def _with_a_clock(devices: dict[str, Values]) -> bool:
    """Whether some device has a clock, electronics or computing that is not pruned."""
    if all(map(is_, _clock_values(devices), _PLAIN)):  # nobody has said anything of it
        return False
    return not all(
        v == plain if isinstance(v := devices[name], float) else (v == plain).all() for name, plain in _CLOCKED.items()
    )


def _check_clocks(devices: dict[str, Values]) -> None:
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


def _warn_of_gain(gain: Values, module: Any) -> None:
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


def _normalised(weight: Values | None, shape: tuple[int, ...], module: Any) -> FloatArray:
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


def joint_shape(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """What these shapes broadcast to, at least one-dimensional; the error names the first field that does not fit."""
    common: tuple[int, ...] = (1,)
    for name, shape in shapes.items():
        try:
            common = np.broadcast_shapes(common, shape)
        except ValueError:
            other = next(n for n, before in shapes.items() if _joint(shape, before) is None)
            raise ValueError(f"{name}: shape {shape} does not broadcast with {shapes[other]} of {other}") from None
    return common
