"""From the bound to the allocator: what the pruning term makes of measured curves, device by device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._bound.checks import Array, fit, hold, positive, weights, within
from kktalloc._bound.inputs import FeedbackErrors, GradientErrors, UploadErrors
from kktalloc._problem.arguments import expect
from kktalloc._problem.curves import Table
from kktalloc._problem.problem import Problem
from kktalloc._problem.variant import variant

RoundKind = Literal["zeroed", "frozen", "sparse"]
"""What a round prunes: weights set to zero, weights that do not move, or changes that are not sent."""
_AnyErrors = TypeVar("_AnyErrors", bound=GradientErrors | UploadErrors | FeedbackErrors)
_FIELD: dict[type, str] = {GradientErrors: "gradient_error", UploadErrors: "upload_error", FeedbackErrors: "residual"}
PRUNED = frozenset(_FIELD.values())  # what pruning makes of the errors, and a plan puts in
_ERRORS: dict[RoundKind, tuple[type, ...]] = {
    "zeroed": (GradientErrors,),
    "frozen": (UploadErrors,),  # nothing is kept back for later, so that there is no residual
    "sparse": (UploadErrors, FeedbackErrors),
}


@dataclass(frozen=True, eq=False)
class Objective:
    """What an allocation has to minimise for the bound's pruning term to be least.

    Parameters
    ----------
    kind
        Of round the curves were measured in.
    weight
        Of each device, shape ``(..., K)``, in sum 1: its aggregation weight times its error when all is pruned.
    pruning_error
        Each device's curve as a share of that error, convex, shape ``(..., K, n)``.
    scale
        ``sum_k alpha_k err_k(rho_k)`` is this times the allocator's objective, shape ``(...)``.
    """

    kind: RoundKind
    weight: Array
    pruning_error: Table
    scale: Array

    def problem(self, problem: Problem) -> Problem:
        """The same cell and devices, with these weights and curves for the allocator."""
        expect("problem", problem, Problem)
        return variant(problem, pruning_error=self.pruning_error, weight=self.weight)

    def error(self, value: ArrayLike) -> Array:
        """``sum_k alpha_k err_k`` of an allocation whose objective is `value`, shape ``(...)``."""
        return np.asarray(self.scale * np.asarray(value, dtype=np.float64))

    def errors(self, errors: _AnyErrors, value: ArrayLike) -> _AnyErrors:
        """`errors` with those that pruning makes replaced by those of an allocation whose objective is `value`.

        Raises TypeError where the theorem for these errors is not about this kind of round.
        """
        fitting = _ERRORS[self.kind]
        if not isinstance(errors, fitting):
            wanted = " or ".join(each.__name__ for each in fitting)
            raise TypeError(f"errors: objective of {self.kind} rounds needs {wanted}, got {type(errors).__name__}")
        change: dict[str, Any] = {_FIELD[type(errors)]: self.error(value)[..., None]}
        return replace(errors, **change)


def objective(
    kind: RoundKind,
    pruning_ratio: ArrayLike,
    error: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    size: ArrayLike = 1.0,
    factor: ArrayLike = 1.0,
    hull: Literal["minorant", "majorant"] = "majorant",
) -> Objective:
    """Weights and curves for the allocator, from what devices measured.

    The bound's pruning term grows with ``sum_k alpha_k err_k``, so an allocation that makes this sum least makes the
    bound least, whatever its other terms are. What ``err_k`` is depends on the kind of round:

    - *zeroed*: the change of the kept gradient when the rest is zero (`GradientErrors.gradient_error`), measured at a
      few ratios; absolute, with ``size = 1``.
    - *sparse*: the share of the squared change in its smallest coordinates (a tail sum, convex by construction) times
      ``size = E|Delta_k|^2``; with error feedback of residual plus change.
    - *frozen*: the same of what the whole gradient would have changed, off the mask.

    Parameters
    ----------
    kind
        "zeroed", "frozen" or "sparse".
    pruning_ratio
        Where the curves were measured, from 0 to 1, shape ``(n,)`` or ``(..., K, n)``.
    error
        Shape ``(..., K, n)``, >= 0. A measurement below that at a smaller ratio counts as much as that one.
    weight
        Aggregation weights alpha, shape ``(..., K)``, >= 0; default uniform.
    size
        What the curves are shares of, shape ``(..., K)`` or a number, >= 0.
    factor
        Largest ``P_j (1 - alpha(j))`` of sparse and frozen rounds, > 0: 1 where the server takes the plain sum,
        ``max(1, (1 - Gamma)/Gamma)`` where it takes the mean over those who sent a coordinate. Where
        nobody sends a coordinate, P_j is 1 and alpha(j) is 0: ``(1 - Gamma)/Gamma`` alone needs all to be sent.
    hull
        What stands in for curves that are not convex: see `Table`. "majorant" keeps the objective a bound.

    Returns
    -------
    Objective
        With weights, curves and the scale that the allocator's own, normalised, objective lacks.

    Raises
    ------
    ValueError
        Names the field, the index and the value that is out of range; or that no device has an error at all.
    """
    if kind not in get_args(RoundKind):
        raise ValueError(f"kind = {kind!r:.60}: one of {', '.join(get_args(RoundKind))}")
    curves = within("error", error, 0.0)
    if curves.ndim < 2 or curves.shape[-2] == 0:
        raise ValueError(f"error: needs axes of devices and ratios, got shape {curves.shape}")
    alpha = weights(weight, curves.shape[-2])
    curves = np.maximum.accumulate(curves, axis=-1)
    all_pruned = curves[..., -1]
    of, times = within("size", size, 0.0), positive("factor", factor)
    fit({"error": all_pruned.shape, "weight": alpha.shape, "size": of.shape, "factor": times.shape})
    loss = alpha * all_pruned * of * times
    scale = loss.sum(axis=-1)
    hold("error: some device must lose something when all is pruned", scale > 0, scale)
    shares = curves / np.where(all_pruned > 0, all_pruned, 1.0)[..., None]
    return Objective(kind, loss / scale[..., None], Table(pruning_ratio, shares, hull=hull), scale)
