"""Pruning-error curves ``e(rho)``: what dropping the fraction rho costs. Convex and non-decreasing on [0, 1].

The paper's bound is linear in rho; a curve measured on a real model usually starts flatter. Any convex curve keeps the
allocation problem convex, and the solver needs only its value, slope and curvature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arrays import FloatArray, as_float64


class PruningError(Protocol):
    """What a curve must offer; arguments and results have the shape of `rho`, which ends in the K devices."""

    def value(self, rho: FloatArray) -> FloatArray:
        """``e(rho)``."""

    def slope(self, rho: FloatArray) -> FloatArray:
        """``e'(rho)``; at a corner any slope between the two sides."""

    def curvature(self, rho: FloatArray) -> FloatArray:
        """``e''(rho)`` where it exists."""

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> PruningError:
        """The curve of the problems that the boolean mask `keep` selects from a batch flattened to `shape`."""


def check_curve(curve: PruningError, shape: tuple[int, ...]) -> None:
    """Hold a handed curve against what a curve must be, at 33 ratios and next to them, for every device of `shape`.

    Secants of a convex curve rise, and its slope at a point lies between those of the two secants that meet there.

    Raises
    ------
    ValueError
        It is not finite, not non-decreasing or not convex, or its slope is not that of its values.
    """
    name = type(curve).__name__
    ratios = np.linspace(0.0, 1.0, 33)
    step = 2.0**-20
    points = np.unique(np.clip(np.concatenate([ratios - step, ratios, ratios + step]), 0.0, 1.0))

    def at(rho: float, what: str) -> FloatArray:
        found = getattr(curve, what)(np.full(shape, rho))
        if np.shape(found) != shape:
            raise ValueError(f"pruning_error ({name}): {what} has shape {np.shape(found)} for ratios of shape {shape}")
        return np.asarray(found, dtype=float)

    def refuse(where: np.ndarray, rho: float, why: str, *values: FloatArray) -> None:
        if not where.any():
            return
        index = tuple(int(i) for i in np.argwhere(where)[0])
        shown = why.format(*(f"{v[index]:.6g}" for v in values))
        raise ValueError(f"pruning_error ({name}), device {list(index)} at a ratio of {rho:.6g}: {shown}")

    with np.errstate(all="ignore"):
        size = np.abs(at(1.0, "value"))
        before, secant, steepest = at(points[0], "value"), np.zeros(shape), np.zeros(shape)
        for low, high in pairwise(points):
            after = at(high, "value")
            refuse(~np.isfinite(before) | ~np.isfinite(after), low, "the value is {}", before)
            rounding = 16.0 * np.finfo(np.float64).eps * np.maximum(np.abs(after), size) / (high - low)
            rise = (after - before) / (high - low)
            steepest = np.maximum(steepest, rise)
            # A millionth is left to slopes that were themselves measured from values.
            within = rounding + 1e-6 * steepest
            refuse(rise < -within, low, "the value falls, by {} per unit of the ratio", -rise)
            refuse(rise < secant - within, low, "not convex: the slope falls from {} to {}", secant, rise)
            slope = at(low, "slope")
            off = ~(slope >= secant - within) | ~(slope <= rise + within)
            refuse(off, low, "the slope is said to be {}, but the value rises by {} per unit", slope, rise)
            bend = at(low, "curvature")
            refuse(~(bend >= -within), low, "the curvature is {}, not >= 0", bend)
            before, secant = after, rise
        slope = at(1.0, "slope")
        refuse(
            ~(slope >= secant - within),
            1.0,
            "the slope is said to be {}, but the value rises by {} per unit",
            slope,
            secant,
        )


@dataclass(frozen=True)
class Linear:
    """``e(rho) = rho``: the bound's own term (theory: "Convergence bound")."""

    def value(self, rho: FloatArray) -> FloatArray:
        """``rho``."""
        return rho

    def slope(self, rho: FloatArray) -> FloatArray:
        """1."""
        return np.ones_like(rho)

    def curvature(self, rho: FloatArray) -> FloatArray:
        """0."""
        return np.zeros_like(rho)

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> Linear:
        """Itself."""
        return self


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """``e(rho) = rho ** exponent``, exponent >= 1: a scalar, or an array that broadcasts to ``(..., K)``.

    Raises
    ------
    ValueError
        If an exponent is no number, below 1 (the curve would not be convex) or not finite.
    """

    exponent: ArrayLike

    def __post_init__(self) -> None:
        n = as_float64("exponent", self.exponent)
        if not (np.isfinite(n) & (n >= 1.0)).all():
            index = tuple(int(i) for i in np.argwhere(~(np.isfinite(n) & (n >= 1.0)))[0])
            raise ValueError(f"exponent{list(index) if index else ''} = {n[index]!s}: must be >= 1 and finite")
        object.__setattr__(self, "exponent", n)

    def value(self, rho: FloatArray) -> FloatArray:
        """``rho ** n``."""
        return rho ** np.asarray(self.exponent)

    def slope(self, rho: FloatArray) -> FloatArray:
        """``n rho ** (n - 1)``."""
        n = np.asarray(self.exponent)
        return n * rho ** (n - 1.0)

    def curvature(self, rho: FloatArray) -> FloatArray:
        """``n (n - 1) rho ** (n - 2)``, kept finite at rho = 0."""
        n = np.asarray(self.exponent)
        return n * (n - 1.0) * np.maximum(rho, 1e-150) ** (n - 2.0)

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> PowerLaw:
        """Exponents of the selected problems."""
        n = np.asarray(self.exponent)
        return self if n.ndim == 0 else PowerLaw(n.reshape(shape)[keep])


@dataclass(frozen=True, eq=False)
class Table:
    """A measured curve: non-decreasing errors at pruning ratios from 0 to 1, the same for every device.

    Between the points the curve is straight. Measurements that are not convex are replaced by their greatest convex
    minorant, the tightest convex curve below them; ``hull_gap`` says by how much at most.

    Parameters
    ----------
    pruning_ratio, error
        Shape ``(n,)``, n >= 2; ratios strictly increasing from 0 to 1, errors finite and non-decreasing.

    Raises
    ------
    ValueError
        Names the entry that breaks one of these rules.
    """

    pruning_ratio: ArrayLike
    error: ArrayLike
    hull_gap: float = field(init=False)

    def __post_init__(self) -> None:
        rho, e = as_float64("pruning_ratio", self.pruning_ratio), as_float64("error", self.error)
        if rho.ndim != 1 or rho.shape != e.shape or rho.size < 2:
            raise ValueError(
                f"pruning_ratio {rho.shape} and error {e.shape}: must be equally long, with 2 points or more"
            )
        if rho[0] != 0.0 or rho[-1] != 1.0:
            raise ValueError(f"pruning_ratio from {rho[0]} to {rho[-1]}: must cover 0 to 1")
        rising = np.append(True, np.diff(rho) > 0.0)
        with np.errstate(invalid="ignore"):
            growing = np.isfinite(e) & np.append(True, np.diff(e) >= 0.0)
        for name, values, ok, rule in (
            ("pruning_ratio", rho, rising, "strictly increasing"),
            ("error", e, growing, "finite and non-decreasing"),
        ):
            if not ok.all():
                i = int(np.argmin(ok))
                raise ValueError(f"{name}[{i}] = {values[i]}: must be {rule}")
        corners = _lower_hull(rho, e)
        object.__setattr__(self, "hull_gap", float(np.max(e - np.interp(rho, rho[corners], e[corners]))))
        object.__setattr__(self, "pruning_ratio", rho[corners])
        object.__setattr__(self, "error", e[corners])

    @property
    def breaks(self) -> FloatArray:
        """Ratios strictly between 0 and 1 at which the slope jumps, shape ``(n - 2,)`` of the convex points."""
        return np.asarray(self.pruning_ratio)[1:-1]

    @property
    def slopes(self) -> FloatArray:
        """Slope of each piece, one more than there are breaks, non-decreasing but for rounding."""
        return np.asarray(np.diff(self.error) / np.diff(self.pruning_ratio))

    def value(self, rho: FloatArray) -> FloatArray:
        """Linear interpolation."""
        return np.interp(rho, np.asarray(self.pruning_ratio), np.asarray(self.error))

    def slope(self, rho: FloatArray) -> FloatArray:
        """Slope of the piece to the right of rho, of the last piece at 1."""
        return np.asarray(self.slopes[np.searchsorted(self.breaks, rho, side="right")])

    def curvature(self, rho: FloatArray) -> FloatArray:
        """0 on every piece."""
        return np.zeros_like(rho)

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> Table:
        """Itself: all devices share it."""
        return self


def _lower_hull(x: FloatArray, y: FloatArray) -> np.ndarray:
    """Indices of the points of the greatest convex minorant (Andrew's monotone chain, lower half)."""
    kept: list[int] = []
    for i in range(x.size):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (y[b] - y[a]) * (x[i] - x[b]) < (y[i] - y[b]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
