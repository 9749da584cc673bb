"""The convergence bounds in numbers: every term by name, their preconditions checked.

The theorems (derived and machine-checked in `kktalloc.proof`, stated in ``docs/verification.md``): over R rounds of
split training with pruned or sparse rounds,

    mean over rounds of [ gradient_weight E|grad_u F|^2 + personal_weight sum_k alpha_k sum_i E|grad_v F_k|^2 ]
        <= initial_gap + pruning + coverage_bias + heterogeneity_drift + variance + personal_variance,

where the gradient in u is taken on the coordinates that some device keeps (on all where uploads are sparse). Every
quantity has the unit of F. From norms alone (`Constants`) the first theorem holds; where a run measures what pruning
does to the gradient (`GradientErrors`) the second does too and the lesser is reported; sparse uploads
(`UploadErrors`, `FeedbackErrors`) have theorems of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._bound.checks import Array, PreconditionError, hold, per_device, positive, weights, within
from kktalloc._bound.inputs import (
    Constants,
    Errors,
    FeedbackErrors,
    GradientErrors,
    Schedule,
    UploadErrors,
    Young,
)
from kktalloc._bound.objective import Objective, RoundKind, objective
from kktalloc._bound.parts import BoundTerms, MeasuredTerms, Parts
from kktalloc._bound.theorems import from_norms, measured

__all__ = [
    "BoundTerms",
    "Constants",
    "Errors",
    "FeedbackErrors",
    "GradientErrors",
    "MeasuredTerms",
    "Objective",
    "PreconditionError",
    "RoundKind",
    "Schedule",
    "UploadErrors",
    "Young",
    "allocator_weights",
    "best_young",
    "bound",
    "objective",
]


# What `best_young` tries; any choice is valid, more of them gain little.
_NOISE_GRID = (0.01, 0.1, 0.5, 1.0, 4.0)
_GRADIENT_GRID = (0.25, 1.0, 4.0)
_KEPT_GRID = (0.1, 0.3, 1.0, 3.0, 10.0)
_SPARE_GRID = (0.0, 0.5, 0.9, 0.99)
_ALTERNATIONS = 8


def bound(
    constants: Constants,
    schedule: Schedule,
    pruning_ratio: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    *,
    young: Young | Literal["best"] | None = None,
    errors: Errors | None = None,
) -> BoundTerms:
    """Evaluate the bound.

    Parameters
    ----------
    constants, schedule
        Of shape ``(...)`` each, or numbers.
    pruning_ratio
        rho, shape ``(..., K)``, in [0, 1]; the mean over the rounds where it changes. A last axis of 1
        stands for the weighted mean over devices, which is all that the bound depends on. The first theorem needs
        it; None where only measured errors shall count. With uploads it is checked, and plays no part.
    weight
        Aggregation weights alpha, shape ``(..., K)``, >= 0, normalised to sum 1; default uniform.
    young
        Free parameters; default s = p = r = 1, plain polarisation. "best": each theorem with its own `best_young`.
    errors
        What a run measured. `GradientErrors`: both theorems for pruned rounds are evaluated, and the lesser
        guarantee is returned, entry by entry. `UploadErrors`, `FeedbackErrors`: the theorems for sparse uploads.

    Returns
    -------
    BoundTerms
        Each term of shape ``(...)``; `MeasuredTerms` with `errors`.

    Raises
    ------
    ValueError
        Names the field, the index and the value that is out of range.
    PreconditionError
        A ValueError: names the precondition of the theorem that does not hold, the index and its value.
    TypeError
        Neither a pruning ratio nor errors, or errors of another kind.
    """
    if isinstance(young, str) and young != "best":
        raise ValueError(f"young = {young!r:.60}: must be a Young, or 'best'")
    if pruning_ratio is not None:
        per_device("pruning_ratio", pruning_ratio, 1.0)
    candidates = []
    if pruning_ratio is not None and (errors is None or isinstance(errors, GradientErrors)):
        candidates.append(_Theorem("coverage", lambda y: from_norms(constants, schedule, pruning_ratio, weight, y)))
    if errors is not None:
        candidates.append(_Theorem("start", lambda y: measured(constants, schedule, errors, weight, y)))
    if not candidates:
        raise TypeError("pruning_ratio: the first theorem needs it; without it pass errors")
    found = [
        theorem.at(theorem.best() if isinstance(young, str) else Young() if young is None else young)
        for theorem in candidates
    ]
    for parts, _ in found:
        parts.check_steps()
    if len(found) == 1:
        parts, terms = found[0]
        parts.check(terms)
    else:
        terms = _lesser(*found)
    if errors is None:
        return BoundTerms(*(getattr(terms, field.name) for field in fields(BoundTerms)))
    return terms


def allocator_weights(
    constants: Constants, schedule: Schedule, weight: ArrayLike, *, young: Young | None = None
) -> Array:
    """What one unit of each device's pruning ratio adds to the bound from norms.

    The pruning term is ``sum_k w_k rho_k`` with these ``w_k``, proportional to the aggregation weights: an
    allocation that minimises ``sum_k alpha_k rho_k`` minimises the bound. What errors were measured give instead is
    `objective`.

    Parameters
    ----------
    constants, schedule, weight, young
        As in `bound`, whose errors it raises.

    Returns
    -------
    ndarray
        Shape ``(..., K)``, in the unit of F.
    """
    alpha = weights(weight, 1)
    all_pruned = bound(constants, schedule, np.ones_like(alpha), alpha, young=young).pruning
    return np.asarray(all_pruned[..., None] * alpha)


def best_young(
    constants: Constants,
    schedule: Schedule,
    pruning_ratio: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    *,
    errors: Errors | None = None,
) -> Young:
    """Free parameters that make `BoundTerms.gradient_bound` small.

    The split of start against drift (s of the first theorem, v of the others) and y by their closed forms in turn
    (steps "best s" and "best y" of `kktalloc.proof`: each is the least given the other), s of the second theorem by
    its own (``s = sqrt(e)/beta``), for p, q, r and f on a grid; the best of these.

    Parameters and errors are those of `bound`; each field of the result has shape ``(...)``. With `errors` the
    parameters are those of the theorem for these errors.
    """
    if errors is not None:
        theorem = _Theorem("start", lambda y: measured(constants, schedule, errors, weight, y))
    elif pruning_ratio is not None:
        theorem = _Theorem("coverage", lambda y: from_norms(constants, schedule, pruning_ratio, weight, y))
    else:
        raise TypeError("pruning_ratio: the first theorem needs it; without it pass errors")
    theorem.parts(Young(spare=0.5)).check_steps()
    young = theorem.best()
    least = np.where(theorem.valid(young), theorem.at(young)[1].gradient_bound, np.inf)
    condition = "gradient condition: no free parameters leave |grad_u F|^2 a weight;"
    hold(condition, np.isfinite(least), least, PreconditionError)
    return young


@dataclass(frozen=True)
class _Theorem:
    """One theorem with all but its free parameters put in."""

    split: Literal["coverage", "start"]  # which of them parts start from drift
    parts: Callable[[Young], Parts]

    def at(self, young: Young) -> tuple[Parts, MeasuredTerms]:
        """Its terms; the preconditions are the caller's to check."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = self.parts(young)
            return parts, parts.terms(positive(self.split, getattr(young, self.split)), within("lean", young.lean, 0.0))

    def valid(self, young: Young) -> NDArray[np.bool_]:
        parts, terms = self.at(young)
        return parts.valid(terms)

    def best(self) -> Young:
        """See `best_young`; 1 or 0, as they are by default, where nothing will do."""
        dimensions = self.at(Young(spare=0.5))[1].total.ndim
        plain = self.parts(Young(spare=0.5))
        axes = (_NOISE_GRID, _GRADIENT_GRID, _KEPT_GRID if plain.theorem == "gradient errors" else (1.0,), _SPARE_GRID)
        combinations = [row for row in itertools.product(*axes) if row[-1] or plain.theorem != "error feedback"]
        noise, gradient, kept, spare = np.array(combinations).T.reshape(4, -1, *(1,) * dimensions)
        coverage = np.array(np.nan if plain.theorem == "gradient errors" else 1.0)  # NaN: at its best
        with np.errstate(all="ignore"):  # where no split or y will do, the guarantee below is set to infinity
            parts = self.parts(Young(coverage, noise, gradient, 0.0, spare, 1.0, kept))
            lean = np.zeros(())
            split = parts.best_split(lean)
            for _ in range(_ALTERNATIONS):
                lean = parts.best_lean(split)
                split = parts.best_split(lean)
            terms = parts.terms(split, lean)
            found = np.where(parts.valid(terms), terms.gradient_bound, np.inf)
        pick = np.nan_to_num(found, nan=np.inf).argmin(axis=0, keepdims=True)
        best = [
            np.take_along_axis(np.broadcast_to(value, found.shape), pick, axis=0)[0]
            for value in (split, noise, gradient, lean, spare, kept)
        ]
        young = Young(coverage, best[1], best[2], best[3], best[4], best[0], best[5])
        return replace(young, coverage=best[0], start=1.0, kept=1.0) if self.split == "coverage" else young


def _lesser(first: tuple[Parts, MeasuredTerms], second: tuple[Parts, MeasuredTerms]) -> MeasuredTerms:
    """The terms of the lesser guarantee, entry by entry; ValueError where neither theorem applies."""
    guarantees = []
    for parts, terms in (first, second):
        with np.errstate(divide="ignore", invalid="ignore"):
            guarantees.append(np.where(parts.valid(terms), terms.gradient_bound, np.inf))
    neither = ~np.isfinite(guarantees[0]) & ~np.isfinite(guarantees[1])
    left = second[1].gradient_weight
    condition = "gradient condition: neither theorem leaves |grad_u F|^2 a positive weight;"
    hold(condition, ~neither, left, PreconditionError)
    pick = guarantees[0] <= guarantees[1]
    names = [field.name for field in fields(MeasuredTerms)]
    return MeasuredTerms(*(np.where(pick, getattr(first[1], name), getattr(second[1], name)) for name in names))
