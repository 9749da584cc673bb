"""Pruning-error curves ``e(rho)``: what dropping the fraction rho costs. Convex and non-decreasing on [0, 1].

The paper's bound is linear in rho; a curve measured on a real model usually starts flatter. Any convex curve keeps the
allocation problem convex, and the solver needs only its value, slope and curvature. A curve that is straight between
corners says so by `breaks` and `slopes`; then a device's answer is that to a linear error, piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong


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


class PiecewiseLinear(Protocol):
    """A curve of straight pieces."""

    @property
    def breaks(self) -> FloatArray:
        """Ratios at which the slope jumps, ascending along the last axis; shape ``(m,)`` or ``(..., K, m)``."""

    @property
    def slopes(self) -> FloatArray:
        """Slope of each piece, one more than there are breaks, non-decreasing; shape as that of `breaks`."""


def is_piecewise(curve: PruningError) -> TypeGuard[PiecewiseLinear]:
    """Whether a curve consists of straight pieces: the one place that decides."""
    return hasattr(curve, "slopes")


def slope_of(curve: PiecewiseLinear, piece: np.ndarray) -> FloatArray:
    """Slope of the piece of that number, shape of `piece`, which ends in the K devices."""
    if curve.slopes.ndim == 1:
        return np.asarray(curve.slopes[piece])
    return np.asarray(np.take_along_axis(curve.slopes, piece[..., None], axis=-1)[..., 0])


def spread(curve: PruningError, shape: tuple[int, ...]) -> PruningError:
    """The curve with what it holds per device broadcast to the problem's shape ``(..., K)``."""
    if not callable(getattr(curve, "value", None)):
        raise TypeError(f"pruning_error: expected a curve such as Linear or PowerLaw, got {curve!r:.60}")
    if isinstance(curve, PowerLaw | Table):
        return curve.spread(shape)
    if not isinstance(curve, Linear):
        check_curve(curve, shape)
    return curve


@dataclass(frozen=True)
class Linear:
    """``e(rho) = rho``: the bound's own term (theory: "Convergence bound")."""

    @property
    def breaks(self) -> FloatArray:
        """None: it is a single piece."""
        return np.empty(0)

    @property
    def slopes(self) -> FloatArray:
        """That of the single piece, 1."""
        return np.ones(1)

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
    """``e(rho) = scale * rho ** exponent``.

    Parameters
    ----------
    exponent
        >= 1 and finite: a scalar, or an array that broadcasts to ``(..., K)``.
    scale
        Error of dropping everything, > 0 and finite; a scalar, or an array that broadcasts to ``(..., K)``.

    Raises
    ------
    ValueError
        If an entry is no number or out of range: below an exponent of 1 the curve would not be convex.
    """

    exponent: ArrayLike
    scale: ArrayLike = 1.0

    def __post_init__(self) -> None:
        for name, least, rule in (("exponent", 1.0, ">= 1"), ("scale", np.nextafter(0.0, 1.0), "> 0")):
            values = as_float64(name, getattr(self, name))
            ok = np.isfinite(values) & (values >= least)
            if not ok.all():
                raise ValueError(f"{first_wrong(name, values, ok)}: must be {rule} and finite")
            object.__setattr__(self, name, values)

    def value(self, rho: FloatArray) -> FloatArray:
        """``scale rho ** n``."""
        return np.asarray(self.scale) * rho ** np.asarray(self.exponent)

    def slope(self, rho: FloatArray) -> FloatArray:
        """``scale n rho ** (n - 1)``."""
        n = np.asarray(self.exponent)
        return np.asarray(self.scale) * (n * rho ** (n - 1.0))

    def curvature(self, rho: FloatArray) -> FloatArray:
        """``scale n (n - 1) rho ** (n - 2)``, kept finite at rho = 0."""
        n = np.asarray(self.exponent)
        return np.asarray(self.scale) * (n * (n - 1.0) * np.maximum(rho, 1e-150) ** (n - 2.0))

    def spread(self, shape: tuple[int, ...]) -> PowerLaw:
        """The same with exponents and scales that are no scalars broadcast to `shape`."""
        each = {name: _spread(name, getattr(self, name), shape) for name in ("exponent", "scale")}
        if all(values is getattr(self, name) for name, values in each.items()):
            return self
        other = object.__new__(PowerLaw)  # known to be in order
        vars(other).update(each)
        return other

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> PowerLaw:
        """Exponents and scales of the selected problems."""
        values = {name: np.asarray(getattr(self, name)) for name in ("exponent", "scale")}
        return replace(self, **{name: v if v.ndim == 0 else v.reshape(shape)[keep] for name, v in values.items()})


@dataclass(frozen=True, eq=False)
class Table:
    """A measured curve: non-decreasing errors at pruning ratios from 0 to 1, straight between them.

    Parameters
    ----------
    pruning_ratio, error
        Ratios strictly increasing from 0 to 1, errors finite and non-decreasing, n >= 2 of them along the last axis.
        Each of shape ``(n,)``, the same for all devices, or ``(..., K, n)``.
    hull
        What stands in for measurements that are not convex. ``"minorant"``: the greatest convex curve below them, the
        faithful fit. ``"majorant"``: a convex curve above them, for where the objective must stay a bound. Among those
        that touch the measurements at one point and leave it with the steepest slopes met so far (to the left: the
        flattest), it is the one with the least area.

    Attributes
    ----------
    hull_gap
        By how much that curve is off at most, a number or shape ``(..., K)``; 0 where the measurements are convex.
    breaks, slopes
        Ratios strictly between 0 and 1 at which the slope may jump, and the slope of each piece.

    Raises
    ------
    ValueError
        Names the entry that breaks one of these rules.
    """

    pruning_ratio: ArrayLike
    error: ArrayLike
    hull: Literal["minorant", "majorant"] = "minorant"
    hull_gap: ArrayLike = field(init=False)
    breaks: FloatArray = field(init=False, repr=False)
    slopes: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.hull not in ("minorant", "majorant"):
            raise ValueError(f"hull = {self.hull!r:.60}: one of 'minorant', 'majorant'")
        rho, e = as_float64("pruning_ratio", self.pruning_ratio), as_float64("error", self.error)
        if rho.ndim < 1 or e.ndim < 1 or rho.shape[-1] != e.shape[-1] or e.shape[-1] < 2:
            raise ValueError(
                f"pruning_ratio {rho.shape} and error {e.shape}: must be equally long, with 2 points or more"
            )
        if not ((rho[..., 0] == 0.0) & (rho[..., -1] == 1.0)).all():
            i = tuple(np.argwhere((rho[..., 0] != 0.0) | (rho[..., -1] != 1.0))[0])
            where = f"[{', '.join(map(str, i))}]" if i else ""
            raise ValueError(f"pruning_ratio{where} from {rho[i][0]} to {rho[i][-1]}: must cover 0 to 1")
        with np.errstate(invalid="ignore"):
            growing = np.isfinite(e) & _from_second(np.diff(e) >= 0.0)
        for name, values, ok, rule in (
            ("pruning_ratio", rho, _from_second(np.diff(rho) > 0.0), "strictly increasing"),
            ("error", e, growing, "finite and non-decreasing"),
        ):
            if not ok.all():
                raise ValueError(f"{first_wrong(name, values, ok)}: must be {rule}")
        try:
            both = np.broadcast_shapes(rho.shape, e.shape)
        except ValueError:
            raise ValueError(f"pruning_ratio {rho.shape} and error {e.shape}: do not broadcast") from None
        shared, n = len(both) == 1, both[-1]
        e = np.broadcast_to(e, both)
        x, y = (np.broadcast_to(v, both).reshape(-1, n) for v in (rho, e))
        curve, slopes, corner = (_minorant if self.hull == "minorant" else _majorant)(x, y)
        gap = np.max(np.abs(y - curve), axis=-1, initial=0.0).reshape(both[:-1])
        if shared:  # only its corners matter
            rho, curve, slopes = rho[corner[0]], curve[0][corner[0]], slopes[0][corner[0][:-1]]
        self._hold(
            pruning_ratio=rho,
            error=curve if shared else curve.reshape(both),
            hull_gap=float(gap) if shared else gap,
            breaks=rho[..., 1:-1],
            slopes=slopes if shared else slopes.reshape(*both[:-1], n - 1),
        )

    def _hold(self, **arrays: ArrayLike) -> None:
        for name, values in arrays.items():
            object.__setattr__(self, name, values)

    def _with(self, **arrays: ArrayLike) -> Table:
        """The same with other arrays, which are known to be in order."""
        other = object.__new__(Table)
        other._hold(**(vars(self) | arrays))
        return other

    def value(self, rho: FloatArray) -> FloatArray:
        """Linear interpolation."""
        x, e = np.asarray(self.pruning_ratio), np.asarray(self.error)
        if e.ndim == 1:
            return np.interp(rho, x, e)
        piece = self._piece(rho)
        start, height = (
            np.take_along_axis(np.broadcast_to(v, (*piece.shape, e.shape[-1])), piece[..., None], axis=-1)[..., 0]
            for v in (x, e)
        )
        return np.asarray(height + slope_of(self, piece) * (rho - start))

    def slope(self, rho: FloatArray) -> FloatArray:
        """Slope of the piece to the right of rho, of the last piece at 1."""
        return slope_of(self, self._piece(rho))

    def curvature(self, rho: FloatArray) -> FloatArray:
        """0 on every piece."""
        return np.zeros_like(rho)

    def _piece(self, rho: FloatArray) -> np.ndarray:
        """Number of the piece to the right of rho."""
        if self.breaks.ndim == 1:
            return np.asarray(np.searchsorted(self.breaks, rho, side="right"))
        piece = np.zeros(np.shape(rho), dtype=np.int64)
        for j in range(self.breaks.shape[-1]):
            piece += rho >= self.breaks[..., j]
        return piece

    def spread(self, shape: tuple[int, ...]) -> Table:
        """The same with curves that are not shared by all devices broadcast to `shape`."""
        if np.ndim(self.error) == 1:
            return self
        names = ("error", "slopes", *(("pruning_ratio", "breaks") if self.breaks.ndim > 1 else ()))
        each = {name: np.asarray(getattr(self, name)) for name in names}
        if all(values.shape[:-1] == shape for values in each.values()):
            return self
        return self._with(**{name: _spread(name, v, (*shape, v.shape[-1])) for name, v in each.items()})

    def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> Table:
        """Curves of the selected problems; itself where all devices share one."""
        if np.ndim(self.error) == 1:
            return self
        names = ("error", "slopes", *(("pruning_ratio", "breaks") if self.breaks.ndim > 1 else ()))
        each = {name: np.asarray(getattr(self, name)) for name in names}
        return self._with(**{name: v.reshape(*shape, v.shape[-1])[keep] for name, v in each.items()})


def _spread(name: str, values: ArrayLike, shape: tuple[int, ...]) -> ArrayLike:
    if np.ndim(values) == 0 or np.shape(values) == shape:
        return values
    try:
        return np.broadcast_to(np.asarray(values), shape)
    except ValueError:
        raise ValueError(f"pruning_error.{name}: shape {np.shape(values)} does not fit {shape}") from None


def _from_second(ok: np.ndarray) -> np.ndarray:
    """What holds of each entry and the one before it; nothing comes before the first."""
    return np.concatenate([np.ones((*ok.shape[:-1], 1), dtype=bool), ok], axis=-1)


def _minorant(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Greatest convex minorant of each row, its slopes, and which points are corners of it; shape ``(R, n)``.

    Andrew's monotone chain, lower half: a point joins the chain of corners, those that then lie above it leave.
    """
    R, n = x.shape
    rows, last = np.arange(R), np.zeros(R, dtype=np.int64)  # of the chain, which starts as the first point
    chain = np.zeros((R, n), dtype=np.int64)
    for i in range(1, n):
        todo = rows
        while (todo := todo[last[todo] > 0]).size:
            a, b = chain[todo, last[todo] - 1], chain[todo, last[todo]]
            flat = (y[todo, b] - y[todo, a]) * (x[todo, i] - x[todo, b])
            steep = (y[todo, i] - y[todo, b]) * (x[todo, b] - x[todo, a])
            todo = todo[~(flat < steep)]
            last[todo] -= 1
        last += 1
        chain[rows, last] = i
    corner = np.zeros((R, n), dtype=bool)
    for position in range(n):
        some = rows[last >= position]
        corner[some, chain[some, position]] = True
    at = np.broadcast_to(np.arange(n), (R, n))
    before = np.maximum.accumulate(np.where(corner, at, 0), axis=-1)
    after = np.minimum.accumulate(np.where(corner, at, n - 1)[:, ::-1], axis=-1)[:, ::-1]
    start, end = before[:, :-1], after[:, 1:]
    (x0, x1), (y0, y1) = (tuple(np.take_along_axis(v, k, axis=-1) for k in (start, end)) for v in (x, y))
    slopes = np.maximum.accumulate((y1 - y0) / (x1 - x0), axis=-1)
    curve = np.where(corner, y, 0.0)
    curve[:, :-1] = np.where(corner[:, :-1], y[:, :-1], y0 + slopes * (x[:, :-1] - x0))
    return curve, slopes, corner


def _majorant(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """The convex majorant that `Table` describes, its slopes, and which points are corners of it."""
    step = np.diff(x)
    measured = np.diff(y) / step
    best, best_slopes, least = y, measured, np.full((len(x), 1), np.inf)
    for touch in range(x.shape[-1]):
        right = measured[:, touch:]
        if touch:  # no flatter than what comes before
            right = np.maximum(right, measured[:, touch - 1 : touch])
        slopes = np.concatenate(
            [
                np.minimum.accumulate(measured[:, :touch][:, ::-1], axis=-1)[:, ::-1],
                np.maximum.accumulate(right, axis=-1),
            ],
            axis=-1,
        )
        rise = np.concatenate([np.zeros((len(x), 1)), np.cumsum(slopes * step, axis=-1)], axis=-1)
        curve = rise + (y[:, touch] - rise[:, touch])[:, None]
        # What rounding leaves below a measurement is lifted: the curve has to be a bound.
        curve = curve + np.maximum(y - curve, 0.0).max(axis=-1, keepdims=True)
        area = (0.5 * (curve[:, 1:] + curve[:, :-1]) * step).sum(axis=-1, keepdims=True)
        better = area < least
        best, best_slopes = np.where(better, curve, best), np.where(better, slopes, best_slopes)
        least = np.minimum(least, area)
    ends = np.ones((len(x), 1), dtype=bool)
    return best, best_slopes, np.concatenate([ends, best_slopes[:, 1:] > best_slopes[:, :-1], ends], axis=-1)
