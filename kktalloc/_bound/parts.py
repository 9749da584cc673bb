"""What all the theorems share: errors at the start parted from errors of drift, and what polarisation leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from kktalloc._bound.checks import Array, PreconditionError, hold
from kktalloc._problem.shown import Rows, Shown, span, table

LIMIT = 1e12  # split and y stay within it: 0 and infinity are limits that the theorems exclude


@dataclass(frozen=True, repr=False)
class BoundTerms(Shown):
    """The bound, term by term, each of shape ``(...)`` and in the unit of F.

    Attributes
    ----------
    initial_gap, pruning, coverage_bias, heterogeneity_drift, variance, personal_variance
        The terms of the right-hand side; `pruning` is linear in ``sum_k alpha_k rho_k``.
    gradient_weight, personal_weight
        What the left-hand side weighs the squared gradients in u and in v with.
    """

    initial_gap: Array
    pruning: Array
    coverage_bias: Array
    heterogeneity_drift: Array
    variance: Array
    personal_variance: Array
    gradient_weight: Array
    personal_weight: Array

    def _shown(self) -> tuple[str, Rows]:
        named = {f.name: np.asarray(value) for f in fields(self) if (value := getattr(self, f.name)) is not None}
        line = f"mean squared gradient at most {span(self.gradient_bound)}"
        if np.ndim(self.gradient_bound):
            return line, ()
        return line, table("term", list(named), {"value": [value.item() for value in named.values()]})

    @property
    def total(self) -> Array:
        """The right-hand side: sum of the six terms."""
        of_u = self.initial_gap + self.pruning + self.coverage_bias + self.heterogeneity_drift + self.variance
        return of_u + self.personal_variance

    @property
    def gradient_bound(self) -> Array:
        """What the theorem guarantees of the mean squared gradient in u: `total` over `gradient_weight`."""
        return self.total / self.gradient_weight


@dataclass(frozen=True, repr=False)
class MeasuredTerms(BoundTerms):
    """The bound from measured errors, term by term; `pruning` is what was pruned or kept back.

    Attributes
    ----------
    participation
        What devices that may be absent add.
    selection_noise
        What masks that depend on the noise of their round add.
    theorem
        Which theorem each entry is from: "norms", "gradient errors", "uploads" or "error feedback".
    rounds, server_rate
        What each entry was evaluated with; a rate of 1 where the theorem has none, ``a/(1 - beta)`` with momentum.
    """

    participation: Array
    selection_noise: Array
    theorem: NDArray[np.str_]
    rounds: Array
    server_rate: Array

    @property
    def total(self) -> Array:
        """The right-hand side: sum of the eight terms."""
        return super().total + self.participation + self.selection_noise

    def over_rounds(self) -> MeasuredTerms:
        """The guarantee for constants that change from round to round.

        Each entry of the last axis is one of the R rounds, evaluated with ``rounds=R``. The sides are means over
        rounds; `gradient_bound` is then of the squared gradients weighed with each round's own weight.

        Raises ValueError where the last axis is not R long, or where the server's rate changes over it with error
        feedback, whose theorem measures the shift in it.
        """
        count = self.theorem.shape[-1:]
        if not count:
            raise ValueError("over_rounds: needs a last axis of rounds, got a single entry")
        fits = self.rounds == count[0]
        hold(f"over_rounds: rounds must be the {count[0]} of the last axis;", fits, self.rounds)
        same = (self.server_rate == self.server_rate[..., :1]) | (self.theorem != "error feedback")
        hold("over_rounds: server_rate must be the same in every round with error feedback;", same, self.server_rate)
        means = {name: np.mean(value, axis=-1) for name, value in vars(self).items() if name != "theorem"}
        return MeasuredTerms(theorem=self.theorem[..., 0], **means)


@dataclass(frozen=True)
class Parts:
    """A theorem's terms before Young's split of start against drift, and y, are chosen.

    Terms at the start count ``n (1 + split)`` times and those of drift ``n (1 + 1/split)`` times, ``n = 1 + gain y``;
    `fixed` terms count once. Names are those of `MeasuredTerms`.
    """

    theorem: str
    half_step: Array  # a eta tau / 2
    gain: Array  # f (1 - eta L_u tau): what leaning can gain
    lost: Array  # what drift takes of the gradient weight, to be multiplied like drift
    start: Mapping[str, Array]
    drift: Mapping[str, Array]
    fixed: Mapping[str, Array]
    personal_weight: Array
    theta: Array
    headroom: Array
    personal_headroom: Array
    rounds: Array
    server_rate: Array = field(default_factory=lambda: np.ones(()))
    step_condition: str = "1 - eta L_u tau"  # what `headroom` is, in the theorem's symbols
    personal_condition: str = "1 - eta_v L_v / 2"
    alone: NDArray[np.bool_] = field(default_factory=lambda: np.array(False))  # nothing at the start to part from

    def check_steps(self) -> None:
        """Raise where a step size is beyond what any free parameters allow."""
        left = self.headroom
        hold(f"step condition: {self.step_condition} > 0", left > 0, left, PreconditionError)
        left = self.personal_headroom
        hold(f"personal step condition: {self.personal_condition} > 0", left > 0, left, PreconditionError)

    def check(self, terms: BoundTerms) -> None:
        """Raise where a precondition does not hold with the free parameters of these terms."""
        condition = "drift condition: theta = 1 - (1+p)(1+1/r) (eta L_u)^2 tau (tau-1)/2 > 0"
        hold(condition, self.theta > 0, self.theta, PreconditionError)
        left = terms.gradient_weight
        condition = "gradient condition: drift must leave |grad_u F|^2 a positive weight"
        hold(condition, left > 0, left, PreconditionError)

    def valid(self, terms: BoundTerms) -> NDArray[np.bool_]:
        """Where the preconditions hold with the free parameters of these terms."""
        return np.asarray((self.theta > 0) & (terms.gradient_weight > 0))

    def _weights(self, split: Array, lean: Array) -> tuple[Array, Array]:
        """What the terms at the start and those of drift are multiplied with."""
        leaning = 1 + self.gain * lean
        return leaning * (1 + split), leaning * np.where(self.alone, 1.0, 1 + 1 / split)

    def terms(self, split: Array, lean: Array) -> MeasuredTerms:
        """The bound's terms; its preconditions are the caller's to check."""
        at_start, drift = self._weights(split, lean)
        names = [name for name in MeasuredTerms.__dataclass_fields__ if name not in _NOT_SUMMED]
        summed = {
            name: at_start * self.start.get(name, 0.0) + drift * self.drift.get(name, 0.0) + self.fixed.get(name, 0.0)
            for name in names
        }
        summed["gradient_weight"] = self.half_step * (1 + self.gain * lean / (1 + lean)) - drift * self.lost
        summed["personal_weight"] = self.personal_weight
        summed["rounds"], summed["server_rate"] = self.rounds, self.server_rate
        values = {
            name: np.array(value) for name, value in zip(summed, np.broadcast_arrays(*summed.values()), strict=True)
        }
        return MeasuredTerms(theorem=np.full(values["pruning"].shape, self.theorem), **values)

    def _sum(self, of: Mapping[str, Array]) -> Array:
        return np.asarray(sum(of.values(), start=np.zeros(())))

    def best_split(self, lean: Array) -> Array:
        """The split that makes (B s^2 + T s + C)/(k s - k1) least (step "best s" of `kktalloc.proof`)."""
        leaning = 1 + self.gain * lean
        drifting = leaning * self._sum(self.drift)
        start, lost = leaning * self._sum(self.start), leaning * self.lost
        total = self._sum(self.fixed) + start + drifting
        ratio = lost / (self.half_step * (1 + self.gain * lean / (1 + lean)) - lost)
        root = np.sqrt(ratio**2 + (total * ratio + drifting) / start)
        return np.clip(np.nan_to_num(ratio + root, nan=LIMIT), 1 / LIMIT, LIMIT)

    def best_lean(self, split: Array) -> Array:
        """The y that makes (A + B y)/(C + D y/(1 + y) - F y) least (step "best y" of `kktalloc.proof`)."""
        factor = np.where(self.alone, 1.0, 1 + 1 / split)
        errors = factor * self._sum(self.drift) + (1 + split) * self._sum(self.start)
        fixed = self._sum(self.fixed) + errors
        cost, gained = errors * self.gain, self.half_step * self.gain
        left, fall = self.half_step - factor * self.lost, factor * self.lost * self.gain
        price = cost * left + fixed * fall
        root = np.sqrt(np.maximum(price**2 - (price + cost * gained) * (price - fixed * gained), 0.0))
        best = (root - price) / (price + cost * gained)
        return np.clip(np.nan_to_num(best, nan=0.0, posinf=LIMIT), 0.0, LIMIT)


_NOT_SUMMED = ("gradient_weight", "personal_weight", "theorem", "rounds", "server_rate")
