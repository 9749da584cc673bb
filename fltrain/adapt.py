"""The planner that asks `kktalloc` every round: kind of the round, deadline and allocation, from what devices reported.

A round that loses the share E of the devices' squared change keeps the share 1 - E of the progress that the whole
change would have made: half the squared length of the step less half that of its error, over the same without error. A
round of length T thus makes (1 - E) / T progress per second, and the planner takes the round with the most of it. E is
the allocator's objective: the sum over devices of weight times squared change times error curve, both as last reported.
A round in which nobody prunes, E = 0, is always among those it chooses from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kktalloc as ka
from fltrain.accounting import Workload
from fltrain.config import UpdateKind
from fltrain.curve import ERROR_RATIOS, Changes
from fltrain.plan import RoundPlan
from kktalloc._problem.shown import Rows, Shown, table
from kktalloc.radio import audience

__all__ = [
    "AdaptivePlanner",
    "Build",
    "Choice",
]

Kind = Literal["sparse", "frozen"]
Progress = Literal["total", "each"]
Build = Callable[[int, NDArray[np.int64], Workload], tuple[ka.Cell, ka.Devices]]
"""Makes cell and devices of a round's number, the numbers (S,) of the devices that are asked, and their workload. The
devices come in this order; deadline and weights are replaced by the planner's."""
_SLACK = 1e-6  # a deadline equal to the least feasible one leaves no interior
_KEEP = (
    0.07  # keep ratio at which masks are counted exactly; from 0.02 to 0.3, uploads are counted 5 % too large at most
)
FROZEN_POWER = 0.5
"""What a frozen round loses is about what a sparse upload would lose to this power, both as shares of the squared
change: 0.53 to 0.59 on perceptrons with one probe step and five pruned ones (``python -m validation.kinds.frozen``)."""
_LONGEST = 16.0  # the longest deadline that is tried over the shortest
_FOREVER_S = 1e9


@dataclass(frozen=True, repr=False)
class Choice(Shown):
    """A round that could be planned; arrays (S,) over the devices that are asked.

    Parameters
    ----------
    update : str, or None
        Kind of the round; None: as the run is configured.
    deadline_s : float
        For which it was allocated.
    loss : float
        Share of the squared change that pruning loses, as far as it is known.
    pruning_ratio, latency_s, energy_j : float64 (S,)
        As in `RoundPlan`.
    bandwidth_hz, tx_power_w, upload_s : float64 (S,)
        How each device sends, and how long.
    """

    update: UpdateKind | None
    deadline_s: float
    loss: float
    pruning_ratio: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    bandwidth_hz: NDArray[np.float64]
    tx_power_w: NDArray[np.float64]
    upload_s: NDArray[np.float64]

    def _shown(self) -> tuple[str, Rows]:
        names = ("pruning_ratio", "latency_s", "energy_j", "bandwidth_hz", "tx_power_w", "upload_s")
        asked = [str(k) for k in range(len(self.pruning_ratio))]
        line = f"{self.update or 'as configured'}, deadline {self.deadline_s:.4g} s, loss {self.loss:.4g}"
        return line, table("asked", asked, {name: getattr(self, name) for name in names})

    @property
    def progress_per_s(self) -> float:
        """What the planner maximises: the kept share of a whole round's progress, per second."""
        return (1.0 - self.loss) / self.deadline_s


@dataclass(frozen=True)
class AdaptivePlanner:
    """Plans each round for the most progress per second; a pure function of its arguments.

    A device that no round can serve, for want of energy, of a channel or of time, is left out of this one.

    Parameters
    ----------
    build : callable
        Cell, devices and channels, see `Build`.
    kinds : sequence of str
        Kinds of pruned rounds to choose from. The mask of a frozen round is chosen by a probe, before training, so that
        it loses more than a sparse upload would: `FROZEN_POWER`. Zeroed rounds are none: zeroing changes the gradient
        of the weights that are kept, which no curve of the change tells.
    pruning_ratio_max : float
        No device is asked to prune more, below 1.
    first : pruning-error curve
        Of every device in sparse rounds, until some have reported; its value to the power `FROZEN_POWER` in frozen
        ones.
    deadline_s : callable, optional
        Deadline of a round from its number, in place of the planner's choice; if the round is not possible by then, the
        least that is.
    curve : pruning-error curve, optional
        Of every device and kind of round, in place of what they report.
    points : int
        Deadlines that are tried, evenly spaced in their logarithm.
    progress : str
        What a round keeps. ``"total"``: of all devices' squared change, so that whose change is large counts most.
        ``"each"``: of each device's own, averaged by weight.

    Raises
    ------
    InfeasibleError
        Asked for a round that not even the hardest pruning makes possible for any device.
    """

    build: Build
    kinds: Sequence[Kind] = ("sparse",)
    pruning_ratio_max: float = 0.99
    first: ka.PruningError = field(default_factory=lambda: ka.PowerLaw(8.0))
    deadline_s: Callable[[int], float] | None = None
    curve: ka.PruningError | None = None
    points: int = 64
    progress: Progress = "total"

    def __call__(self, round_index: int, workload: Workload) -> RoundPlan:
        """Plan one round of the selected devices that it can serve."""
        asked = self.served(round_index, workload)
        best = self.choose(round_index, asked, workload.of(asked))
        plan = np.zeros((3, len(workload.selected)))
        plan[:, asked] = best.pruning_ratio, best.latency_s, best.energy_j
        participates = np.zeros_like(workload.selected)
        participates[asked] = True
        return RoundPlan(plan[0], plan[1], plan[2], participates, best.update)

    def served(self, round_index: int, workload: Workload) -> NDArray[np.int64]:
        """Numbers of the selected devices that a round can serve; of all selected if it can serve none."""
        selected = np.flatnonzero(workload.selected)
        patient = replace(self, deadline_s=None)  # too short a deadline is made longer and costs nobody the round

        def easiest(heard: NDArray[np.int64]) -> ka.Problem:
            return patient.possible(round_index, selected[heard], workload.of(selected[heard]))

        gain = np.broadcast_to(easiest(np.arange(len(selected))).devices.channel_gain, len(selected))
        kept = audience(gain, easiest).asked
        return selected[kept] if len(kept) else selected

    def choose(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> Choice:
        """The best round for these devices, whose workload `work` is."""

        def problem(kind: Kind, counted: Workload, most: float, deadline_s: ArrayLike = 1.0) -> ka.Problem:
            curve, weight = objective[kind]
            cell, devices = self.build(round_index, asked, counted)
            ratio_max = np.minimum(devices.pruning_ratio_max, most)
            devices = replace(devices, pruning_ratio_max=ratio_max, weight=weight)
            return ka.Problem(replace(cell, deadline_s=deadline_s), devices, curve)

        objective = {kind: self._objective(work, kind) for kind in self.kinds}
        whole = partial(problem, self.kinds[0], work.unmasked(), 0.0)
        unpruned_s = float(ka.least_deadline(whole())) * (1.0 + _SLACK)
        fixed_s = None if self.deadline_s is None else self.deadline_s(round_index)
        pruned = [
            choice
            for kind in self.kinds
            for choice in self._pruned(
                kind, work, partial(problem, kind, most=self.pruning_ratio_max), fixed_s, unpruned_s
            )
        ]
        best = max(pruned, key=lambda choice: choice.progress_per_s, default=None)
        in_time = unpruned_s < np.inf and (fixed_s is None or unpruned_s <= fixed_s)
        if best is not None and not (in_time and best.progress_per_s <= 1.0 / unpruned_s):
            return best
        return _solved(self.kinds[0], whole, np.array([min(unpruned_s, _FOREVER_S)]), throw=True)[0]

    def possible(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> ka.Problem:
        """The easiest round that it may plan: a device that has no part in a solution of this one cannot be asked."""
        cell, devices = self.build(round_index, asked, work.as_round(self.kinds[0], _KEEP))
        ratio_max = np.minimum(devices.pruning_ratio_max, self.pruning_ratio_max)
        deadline_s = _FOREVER_S if self.deadline_s is None else self.deadline_s(round_index)
        return ka.Problem(replace(cell, deadline_s=deadline_s), replace(devices, pruning_ratio_max=ratio_max))

    def _pruned(
        self,
        kind: Kind,
        work: Workload,
        problem: Callable[..., ka.Problem],
        fixed_s: float | None,
        unpruned_s: float,
    ) -> list[Choice]:
        """The best pruned round of one kind, if one is possible."""
        asked = partial(problem, work.as_round(kind, _KEEP))
        if fixed_s is not None or unpruned_s == np.inf:
            least_s = float(ka.least_deadline(asked())) * (1.0 + _SLACK)
            tried = least_s * np.geomspace(1.0, _LONGEST, self.points) if fixed_s is None else np.array([fixed_s])
            tried = np.maximum(tried, least_s)
        else:
            tried = unpruned_s * np.geomspace(1.0 / _LONGEST, 1.0, self.points)
        if not np.isfinite(tried).all():
            return []
        rounds = _solved(kind, asked, tried)
        return [max(rounds, key=lambda choice: choice.progress_per_s)] if rounds else []

    def _objective(self, work: Workload, kind: Kind = "sparse") -> tuple[ka.PruningError, NDArray[np.float64]]:
        """Error curve in rounds of this kind, and weight, of each device."""
        known = None if work.changes is None else _filled(work.changes)
        reported = known is not None and (work.weight * known.change_sq).any()
        sized = known is not None and reported and self.progress == "total"
        weight = work.weight * known.change_sq if known is not None and sized else work.weight
        if self.curve is not None:
            return self.curve, weight
        if known is not None and reported:
            return ka.Table(ERROR_RATIOS, known.error if kind == "sparse" else known.error**FROZEN_POWER), weight
        if kind == "sparse":
            return self.first, weight
        return ka.Table(ERROR_RATIOS, np.asarray(self.first.value(ERROR_RATIOS)) ** FROZEN_POWER), weight


def _filled(known: Changes) -> Changes | None:
    """Devices that have not reported yet are taken to be like the others; None if none has."""
    there = np.isfinite(known.change_sq)
    if not there.any():
        return None
    return Changes(
        np.where(there, known.change_sq, known.change_sq[there].mean()),
        np.where(there[:, None], known.error, known.error[there].mean(axis=0)),
    )


def _solved(
    kind: UpdateKind | None, problem: Callable[..., ka.Problem], deadline_s: NDArray[np.float64], *, throw: bool = False
) -> list[Choice]:
    """The optimal allocations, where there are any, at these deadlines."""
    solution = ka.solve(problem(deadline_s=deadline_s), throw=throw)
    return [
        Choice(
            kind,
            float(deadline_s[i]),
            float(solution.objective[i]),
            solution.pruning_ratio[i],
            solution.latency_s[i],
            solution.energy_j[i],
            solution.bandwidth_hz[i],
            solution.tx_power_w[i],
            solution.upload_s[i],
        )
        for i in np.flatnonzero(solution.certificate.passed)
    ]
