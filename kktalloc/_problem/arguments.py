"""Arguments that are looked at: one line names the one that is wrong, where in it, and its value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong

FINITE = np.finfo(np.float64).max
"""An upper limit of this says that a value must be finite."""


def in_range(name: str, array: FloatArray, low: float, open_low: bool, high: float) -> None:
    """A ValueError that names the field, the index and the value, where one is beyond its limits.

    An upper limit of `FINITE` says that it must be finite.
    """
    ok = (array > low if open_low else array >= low) & (array <= high)
    if not ok.all():
        bounds = [] if low == -FINITE else [f"{'> ' if open_low else '>= '}{low:g}"]
        bounds += ["finite"] if high == FINITE else [] if high == np.inf else [f"<= {high:g}"]
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


def expect(name: str, given: Any, kind: type) -> None:
    """Raise a TypeError that names an argument which is not of its kind."""
    if not isinstance(given, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {type(given).__name__}")


def expect_whole(name: str, given: Any, least: int) -> None:
    """Raise a ValueError that names an argument which is no whole number, or below `least`."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < least:
        raise ValueError(f"{name} = {given!r:.60}: must be a whole number >= {least}")


def joint_shape(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """What these shapes broadcast to, at least one-dimensional; the error names the first field that does not fit."""
    common: tuple[int, ...] = (1,)
    for name, shape in shapes.items():
        try:
            common = np.broadcast_shapes(common, shape)
        except ValueError:
            other = next(n for n, before in shapes.items() if joint(shape, before) is None)
            raise ValueError(f"{name}: shape {shape} does not broadcast with {shapes[other]} of {other}") from None
    return common


def joint(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that both broadcast to, None where there is none."""
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None
