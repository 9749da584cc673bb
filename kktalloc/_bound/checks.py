"""Checks of arguments and preconditions: one clear line that names what is wrong, where, and the value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class PreconditionError(ValueError):
    """The input is in range, but the theorem says nothing about it: a step is too large, or drift takes everything."""


def hold(condition: str, holds: NDArray[np.bool_], value: Array, error: type[ValueError] = ValueError) -> None:
    """Raise an error that names the condition, the first index where it fails and the value there."""
    if np.all(holds):
        return
    holds, value = np.broadcast_arrays(holds, value)
    index = tuple(int(i) for i in np.argwhere(~np.asarray(holds))[0])
    where = f" at index {index}" if index else ""
    shown = repr(float(value[index])).removesuffix(".0")  # in full: the value may pass the limit by an ulp
    raise error(f"{condition} violated{where}: value {shown}")


def numbers(name: str, value: ArrayLike) -> Array:
    """The value as float64 where it is real numbers in a rectangular array, else a ValueError."""
    try:
        given = np.asarray(value)
        if given.dtype.kind in "biufO":
            return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or objects that are no numbers
        pass
    raise ValueError(f"{name}: expected real numbers, got {value!r:.60}")


def fit(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ValueError that names the first field whose shape does not broadcast with those before it."""
    so_far: tuple[int, ...] = ()
    for name, shape in shapes.items():
        try:
            so_far = np.broadcast_shapes(so_far, shape)
        except ValueError:
            raise ValueError(f"{name}: shape {shape} does not fit {so_far} of the other fields") from None


def within(
    name: str, value: ArrayLike, lower: float, upper: float = np.inf, *, strict: bool = False, whole: bool = False
) -> Array:
    """The value as float64 where it is finite and within the limits, else a ValueError."""
    array = numbers(name, value)
    limit = f"{name}: must be {'whole' if whole else 'finite'} and " + ("positive" if strict else f"at least {lower:g}")
    limit += "" if upper == np.inf else f" and at most {upper:g}"
    above = array > lower if strict else array >= lower
    fits = np.isfinite(array) & (np.equal(array, np.floor(array)) | (not whole))
    hold(f"{limit};", fits & above & (array <= upper), array)
    return array


def positive(name: str, value: ArrayLike, upper: float = np.inf) -> Array:
    """The value as float64 where it is positive and finite, else a ValueError."""
    return within(name, value, 0.0, upper, strict=True)


def per_device(name: str, value: ArrayLike, upper: float = np.inf) -> Array:
    """As `within`, at least 0, with a last axis of devices."""
    array = within(name, value, 0.0, upper)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name}: needs a last axis of devices, got shape {array.shape}")
    return array


def weights(weight: ArrayLike | None, devices: int) -> Array:
    """Aggregation weights that sum to 1 over the last axis."""
    if weight is None:
        return np.full(devices, 1.0 / devices)
    alpha = within("weight", weight, 0.0)
    if alpha.ndim == 0 or alpha.shape[-1] == 0 or devices not in (1, alpha.shape[-1]):
        raise ValueError(f"weight: needs a last axis of {devices} devices, got shape {alpha.shape}")
    most = alpha.max(axis=-1, keepdims=True)
    hold("weight: must not be all zero", most > 0, most)
    alpha = alpha / most  # so that the sum of very large weights is finite
    return np.asarray(alpha / alpha.sum(axis=-1, keepdims=True))
