"""What is asked: one or many cells, each with K devices that share its bandwidth."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from math import inf, prod
from operator import itemgetter
from typing import Any

import numpy as np

from kktalloc._command import printable
from kktalloc._problem.arguments import expect, joint
from kktalloc._problem.arrays import FloatArray, Home, common_home
from kktalloc._problem.curves import Linear, PruningError, spread
from kktalloc._problem.fields import CELL, CLOCKED, DEVICES, OPTIONAL, RANGES, Cell, Devices, Values
from kktalloc._problem.kernel import kernel
from kktalloc._problem.reading import (
    check_clocks,
    clock_values,
    labels,
    looked_at,
    normalised,
    usual,
    validated,
    warn_of_gain,
    with_a_clock,
)
from kktalloc._problem.shown import Rows, Shown, counted, span

_LINEAR = Linear()
# In the order of kernel/problem.h.
_compiled_values = itemgetter(*(name for name in DEVICES if name != "bandwidth_max_hz" and name not in CLOCKED))


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
        found = None if module is None else usual(module, cell, devices)
        shape, cell_values, device_values = found or looked_at(cell, devices, module, homes)
        device_values["weight"] = normalised(device_values.get("weight"), shape, module)
        if not _derived:
            warn_of_gain(device_values["channel_gain"], module)
        vars(self).update(
            shape=shape,
            home=common_home(homes) if homes else None,
            pruning_error=_LINEAR if pruning_error is None else spread(pruning_error, shape),
            _cell=cell_values,
            _devices=device_values,
            _names=None if devices.name is None else labels(devices.name, shape),
            clocked=with_a_clock(device_values),
        )
        if self.clocked:
            check_clocks(device_values)

    @cached_property
    def cell(self) -> Cell:
        """What is shared, each field broadcast to ``(..., 1)``."""
        columns = (*self.shape[:-1], 1)
        return Cell(**{name: _widened(np.asarray(v)[..., None], columns) for name, v in self._cell.items()})

    @cached_property
    def devices(self) -> Devices:
        """Who shares it, each field broadcast to ``(..., K)``; the weights sum to 1, no name is an empty one."""
        names = labels(None, self.shape) if self._names is None else self._names
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
                names = None if value is None else labels(value, self.shape)
                continue
            table, values = ("cell", of_cell) if name in CELL else ("devices", of_devices)
            if name not in RANGES:
                raise TypeError(f"not a field of a problem: {name}")
            if value is None and name in OPTIONAL:
                values.pop(name, None)
                continue
            given = validated(table, name, value, module, homes)
            wide = (*given.shape, 1) if table == "cell" else given.shape
            if wide != self.shape and given.ndim and joint(wide, self.shape) != self.shape:
                return self._widened_by(pruning_error, changes)
            values[name] = given
        if "weight" in changes:
            of_devices["weight"] = normalised(of_devices.get("weight"), self.shape, module)
        made = object.__new__(Problem)
        vars(made).update(
            shape=self.shape, home=common_home(homes), _cell=of_cell, _devices=of_devices, _names=names,
            pruning_error=self.pruning_error if pruning_error is None else spread(pruning_error, self.shape),
            clocked=with_a_clock(of_devices),
        )  # fmt: skip
        if made.clocked:
            check_clocks(of_devices)
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
        cell: dict[str, Any] = {n: np.asarray(v)[..., 0] for n in CELL if (v := getattr(self.cell, n)) is not None}
        devices: dict[str, Any] = {f.name: getattr(self.devices, f.name) for f in fields(Devices)}
        cell |= {n: v for n, v in changes.items() if n in CELL}
        devices |= {n: v for n, v in changes.items() if n not in CELL}
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
        columns = self._devices["bandwidth_max_hz"], *clock_values(self._devices)
        if len(self.shape) <= 2:
            return columns
        return tuple(np.broadcast_to(v, self.shape).reshape(self.sizes) for v in columns)

    @cached_property
    def _flat_columns(self) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
        cell = (self._cell.get(name, inf) for name in CELL)
        devices = _compiled_values(self._devices)
        return (
            tuple(np.broadcast_to(v, self.batch_shape).reshape(-1) for v in cell),
            tuple(np.broadcast_to(v, self.shape).reshape(self.sizes) for v in devices),
        )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: one entry per problem."""
        return self.shape[:-1]


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
