"""What the page shows: the allocator's, the bound's and the planner's answers for one position of the sliders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from kktalloc import InfeasibleError, Solution, least_deadline, solve
from kktalloc.bound import BoundTerms, Constants, Schedule, bound
from kktalloc.plan import Curve, Plan, plan, time_to_target

from .controls import Controls, Dial, Scenario, bound_inputs

_T = TypeVar("_T")
_FOREVER = 1e300  # rounds: as good as infinitely many
_MOST_ROUNDS = 2**50


@dataclass(frozen=True, eq=False)
class Course:
    """A training run as the bound sees it: so many rounds of that length, with the optimal allocation in each.

    Parameters
    ----------
    rounds, deadline_s
        How many rounds of which length.
    pruning_error
        The allocation's objective; for the linear error the weighted mean pruning ratio.
    terms
        The bound, term by term.
    """

    rounds: int
    deadline_s: float
    pruning_error: float
    terms: BoundTerms

    @property
    def total_time_s(self) -> float:
        """Time of all rounds together."""
        return self.rounds * self.deadline_s

    @property
    def guarantee(self) -> float:
        """Upper bound on the mean squared gradient over the rounds."""
        return float(self.terms.gradient_bound)


@dataclass(frozen=True, eq=False)
class View:
    """The answer at the deadline that is set; what does not exist is None, and a line in `notes` says why.

    Parameters
    ----------
    solution
        The allocation, or None where the problem is infeasible.
    infeasible
        The allocator's diagnosis, "" where there is a solution.
    remedies
        Where it is infeasible: slider and first position at which it alone would do.
    in_time
        As many rounds as fit in the total time.
    to_target
        As few rounds as reach the target.
    notes
        Lines about what does not exist.
    """

    solution: Solution | None
    infeasible: str
    remedies: tuple[tuple[Dial, int], ...]
    in_time: Course | None
    to_target: Course | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Outlook:
    """The planner's answer: what the best deadline would give; None and `notes` as in `View`.

    Parameters
    ----------
    in_time
        The best guarantee within the total time.
    to_target
        The fastest way to the target.
    curve
        What was tried for `in_time`.
    notes
        Lines about what does not exist.
    """

    in_time: Course | None
    to_target: Course | None
    curve: Curve | None
    notes: tuple[str, ...]


def look(scenario: Scenario, controls: Controls, dials: tuple[Dial, ...]) -> View:
    """The allocation for one position of the sliders, and what the bound says of training with it.

    Parameters
    ----------
    scenario, controls
        What is explored, and where the sliders are.
    dials
        Sliders among which a remedy is sought where the problem is infeasible.

    Returns
    -------
    View
        Nothing is raised for settings that have no solution or break a precondition of the theorem.
    """
    solution = solve(scenario.problem_at(controls), throw=False)
    if solution.diagnosis is not None:
        return View(None, solution.diagnosis.message, _remedies(scenario, controls, dials), None, None, ())
    fixed = _AtDeadline(
        controls.deadline_s,
        float(solution.objective),
        *bound_inputs(controls),
        np.asarray(solution.problem.devices.weight),
    )
    in_time, first = _attempt(lambda: fixed.within(controls.total_time_s))
    to_target, second = _attempt(lambda: fixed.to(controls.target))
    return View(solution, "", (), in_time, to_target, _notes(first, second))


def look_ahead(scenario: Scenario, controls: Controls) -> Outlook:
    """What the planner makes of one position of the sliders; the deadline that is set does not matter.

    Slower than `look`: it solves a few hundred problems. Raises no more than that.
    """
    problem = scenario.problem_at(controls)
    asked = (problem, *bound_inputs(controls))
    in_time, first = _attempt(lambda: plan(*asked, controls.total_time_s))
    to_target, second = _attempt(lambda: time_to_target(*asked, controls.target))
    if in_time is None and np.isfinite(shortest := float(least_deadline(problem))) and not first:
        first = f"total time {controls.total_time_s:.6g} s: the shortest round takes {shortest:.6g} s"
    return Outlook(
        None if in_time is None else _course(in_time),
        None if to_target is None else _course(to_target),
        None if in_time is None else in_time.curve,
        _notes(first, second),
    )


def _attempt(ask: Callable[[], _T]) -> tuple[_T | None, str]:
    """The answer, or None and the line that says why there is none; "" where the diagnosis says it better."""
    try:
        return ask(), ""
    except InfeasibleError:
        return None, ""
    except ValueError as error:
        return None, str(error)


def _notes(in_time: str, to_target: str) -> tuple[str, ...]:
    """One line per reason, which says what there is none of."""
    if in_time and in_time == to_target:
        return (f"no guarantee and no predicted time: {in_time}",)
    lines = (("guarantee", in_time), ("predicted time", to_target))
    return tuple(f"no {missing}: {why}" for missing, why in lines if why)


def _course(chosen: Plan) -> Course:
    return Course(chosen.rounds, chosen.deadline_s, chosen.pruning_error, chosen.terms)


@dataclass(frozen=True, eq=False)
class _AtDeadline:
    """Rounds of one length, with one allocation's pruning error in each."""

    deadline_s: float
    pruning_error: float
    constants: Constants
    schedule: Schedule
    weight: ArrayLike

    def terms(self, rounds: float) -> BoundTerms:
        return bound(self.constants, replace(self.schedule, rounds=rounds), [self.pruning_error], self.weight)

    def course(self, rounds: int) -> Course:
        return Course(rounds, self.deadline_s, self.pruning_error, self.terms(rounds))

    def within(self, total_time_s: float) -> Course:
        """As many rounds as fit."""
        rounds = int(total_time_s / self.deadline_s * (1.0 + 1e-12))
        if rounds < 1:
            raise ValueError(f"total time {total_time_s:.6g} s: not one round of {self.deadline_s:.6g} s fits")
        return self.course(rounds)

    def to(self, target: float) -> Course:
        """As few rounds as reach the target: the guarantee is affine in 1 / rounds."""
        least, one = (float(self.terms(rounds).gradient_bound) for rounds in (_FOREVER, 1.0))
        room = target * (1.0 + 1e-13) - least
        if not room > 0.0 or (one - least) / room > _MOST_ROUNDS:
            raise ValueError(
                f"target {target:.6g}: rounds of {self.deadline_s:.6g} s do not get to {least:.6g} or below"
            )
        rounds = max(int(np.ceil((one - least) / room)), 1)
        while self.course(rounds).guarantee > target * (1.0 + 1e-12):
            rounds += 1  # what rounding took
        return self.course(rounds)


_MORE_HELPS = ("deadline_s", "bandwidth_hz", "tx_power_dbm", "energy_budget_j", "total_power_dbm")


def _remedies(scenario: Scenario, controls: Controls, dials: tuple[Dial, ...]) -> tuple[tuple[Dial, int], ...]:
    """Of each budget the first position at which it alone would do: with more of one, feasible stays feasible."""
    found = []
    for dial in dials:
        if dial.field not in _MORE_HELPS or not _feasible(scenario, controls, dial, high := len(dial.values) - 1):
            continue
        low = dial.values.index(getattr(controls, dial.field))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _feasible(scenario, controls, dial, middle) else (middle, high)
        found.append((dial, high))
    return tuple(found)


def _feasible(scenario: Scenario, controls: Controls, dial: Dial, position: int) -> bool:
    moved = replace(controls, **{dial.field: dial.values[position]})
    return solve(scenario.problem_at(moved), throw=False).diagnosis is None
