"""Budgets of energy over many rounds: a virtual queue per device makes a price of what it has overspent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arguments import FINITE, expect, in_range, one_number
from kktalloc._problem.arrays import FloatArray, as_float64
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, counted, number, span, table
from kktalloc._questions.priced import PricedSolution, solve_priced


@dataclass(frozen=True, eq=False, repr=False)
class EnergyQueue(Shown):
    """What each device has spent beyond its average budget, and the price of a joule that follows from it.

    After a round the backlog is ``Z <- max(Z + E - average_j, 0)``, and in the next a joule costs ``Z / patience_j2``:
    who has overspent finds energy dear (drift plus penalty; Neely, Stochastic Network Optimization, 2010, chapter 4).
    From ``Z(R) >= Z(0) + sum (E - average_j)`` the average over R rounds exceeds its budget by at most ``Z(R)/R``,
    whatever the channels do. A backlog rises only while the price is low enough to spend more than the budget, so that
    it stays within a bound in proportion to `patience_j2`, and the excess is O(1/R).

    Parameters
    ----------
    average_j
        What each device may spend per round on average, >= 0, shape ``(K,)``. More than its floor takes, or else the
        backlog grows for ever.
    patience_j2
        How much backlog a joule's price of 1 takes, > 0, in J per (objective per J). With more of it the objective
        comes as near to the best as one likes, by O(1/patience), and the budget is met later, by O(patience/R).
    backlog_j
        Z, >= 0, shape ``(K,)``; 0 to begin with.

    Raises
    ------
    ValueError
        A number out of range, or shapes that do not go together.
    """

    average_j: ArrayLike
    patience_j2: float
    backlog_j: ArrayLike = field(default=0.0)

    def __post_init__(self) -> None:
        _amounts("average_j", self.average_j)
        _amounts("backlog_j", self.backlog_j)
        one_number("patience_j2", self.patience_j2, 0.0, True)
        try:
            budget, backlog = np.broadcast_arrays(
                as_float64("average_j", self.average_j), as_float64("backlog_j", self.backlog_j)
            )
        except ValueError:
            raise ValueError(
                f"backlog_j {np.shape(self.backlog_j)} and average_j {np.shape(self.average_j)}: must go together"
            ) from None
        vars(self).update(average_j=budget, backlog_j=backlog)

    def _shown(self) -> tuple[str, Rows]:
        columns = {
            name: np.atleast_1d(getattr(self, name)) for name in ("average_j", "backlog_j", "energy_price_per_j")
        }
        devices = columns["average_j"].size
        line = f"{counted(devices, 'device')}, backlog {span(self.backlog_j)} J, patience {number(self.patience_j2)}"
        return line, table("device", [str(k) for k in range(devices)], columns)

    @property
    def energy_price_per_j(self) -> FloatArray:
        """Objective per J of each device in the next round, shape ``(K,)``."""
        return np.asarray(self.backlog_j) / self.patience_j2

    def solve(self, problem: Problem, **options: Any) -> PricedSolution:
        """The next round at these prices: `kktalloc.solve_priced`, which takes the options.

        Raises
        ------
        ValueError
            The queue is of another number of devices than the problem; and what `kktalloc.solve_priced` raises.
        TypeError
            Something else than a problem.
        """
        expect("problem", problem, Problem)
        price, devices = self.energy_price_per_j, problem.shape[-1]
        if price.ndim and price.shape[-1] not in (1, devices):
            raise ValueError(
                f"average_j: shape {price.shape} is that of {price.shape[-1]} devices, the problem has {devices}"
            )
        return solve_priced(problem, energy_price_per_j=price, **options)

    def after(self, energy_j: ArrayLike) -> EnergyQueue:
        """The queue after a round in which the devices have spent `energy_j`, shape ``(K,)``; 0 for who took no part.

        Raises
        ------
        ValueError
            A number out of range, or a shape that does not go with that of the queue.
        """
        spent, average = _amounts("energy_j", energy_j), np.asarray(self.average_j)
        try:
            np.broadcast_shapes(spent.shape, average.shape)
        except ValueError:
            raise ValueError(f"energy_j: shape {spent.shape} does not go with average_j {average.shape}") from None
        return replace(self, backlog_j=np.maximum(np.asarray(self.backlog_j) + spent - average, 0.0))


def _amounts(name: str, value: ArrayLike) -> FloatArray:
    """Finite amounts >= 0, or one line that names the first that is none."""
    values = as_float64(name, value)
    in_range(name, values, 0.0, False, FINITE)
    return values
