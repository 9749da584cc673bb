"""A problem with some fields replaced: what plans, blocks and selections ask of the solver."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arrays import first_wrong
from kktalloc._problem.curves import PruningError
from kktalloc._problem.fields import CLOCKED, Cell, Devices
from kktalloc._problem.problem import Problem


def variant(problem: Problem, pruning_error: PruningError | None = None, **changes: ArrayLike | None) -> Problem:
    """The same problem with its curve, named cell fields (shape ``(...)``) or device fields (``(..., K)``) replaced."""
    return problem.replaced(pruning_error, changes)


def at_level(problem: Problem, pruning_ratio: ArrayLike | None) -> Problem:
    """The problem with a pruning level asked for as the limit, shape ``(..., K)``; itself for None."""
    if pruning_ratio is None:
        return problem
    try:
        return variant(problem, pruning_ratio_max=pruning_ratio)
    except ValueError as error:  # in the words of the caller, who named no field
        raise ValueError(str(error).replace("devices.pruning_ratio_max", "pruning_ratio")) from None


WHOLE = "exact under one budget alone"  # what chooses among whole things
UNPROVED = "not known to be convex under a cap that binds"


def refuse_total_power(problem: Problem, power_w: ArrayLike, name: str, why: str) -> None:
    """Raise where the cap on total power binds, shape ``(...)`` of the power that it would take without one.

    `why` tells what keeps `name` from one: `WHOLE` or `UNPROVED`. What fits it all the same stays optimal. Where a
    clock or electronics are the reason, `name` tells them (`clock_fields`): without them the cap may bind.
    """
    total = problem.cell.total_power_w
    if total is None:
        return
    binds = np.asarray(power_w) > np.asarray(total)[..., 0] * (1.0 + 1e-12)
    if binds.any():
        index = tuple(int(i) for i in np.argwhere(binds)[0])
        field = f"cell.total_power_w{list(index) if index else ''}"
        value = np.asarray(total)[(*index, 0)]
        needed = np.asarray(power_w)[index]
        raise ValueError(f"{field} = {value}: {name}, {why}, would take {needed:.6g} W")


def clock_fields(problem: Problem) -> str:
    """What says that devices have a clock or electronics: each such field at its first device that has one."""
    given = {name: np.asarray(getattr(problem.devices, name)) for name in CLOCKED}
    return ", ".join(
        first_wrong(f"devices.{name}", values, values == CLOCKED[name])
        for name, values in given.items()
        if (values != CLOCKED[name]).any()
    )


def refuse_clocks(problem: Problem, name: str, why: str) -> None:
    """Raise where devices have a clock or electronics, which `name` can not take: every field that says so."""
    if problem.clocked:
        raise ValueError(f"{clock_fields(problem)}: {name} {why}")


def rows(problem: Problem, keep: np.ndarray) -> Problem:
    """The problems that the boolean mask `keep` selects from the flattened batch, as a batch of one dimension."""
    count, devices = keep.size, problem.shape[-1]
    cell: dict[str, Any] = {
        f.name: None if value is None else np.broadcast_to(np.asarray(value)[..., 0], problem.batch_shape).ravel()[keep]
        for f in fields(Cell)
        for value in (getattr(problem.cell, f.name),)
    }
    each: dict[str, Any] = {
        f.name: np.asarray(getattr(problem.devices, f.name)).reshape(count, devices)[keep] for f in fields(Devices)
    }
    curve = problem.pruning_error.rows(keep, (count, devices))
    return Problem(Cell(**cell), Devices(**each), curve, _derived=True)
