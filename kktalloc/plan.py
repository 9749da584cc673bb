"""From the bound to a plan: which round deadline makes the most of the time there is.

Short rounds are many but prune hard, long ones are few but prune little. With the solved allocation's pruning error
``rho_bar(T)`` in the bound of `kktalloc.bound` the guarantee depends on the deadline T and the number of rounds R
alone, and falls with both. So R rounds in a total time are best at ``T = T_total / R``, and R rounds to a target at
the least T that meets it: what is left is a search over whole numbers of rounds. It is not unimodal in general: a
coarse scan over the whole range comes first and is then refined around its best point until it is exhaustive there.

`plan`, `time_to_target` and `choose_round` go by the proven guarantee, before training, with constants that are assumed
or were measured. `most_progress` goes by how much of a round's change pruning keeps, as devices report it while they
train: it takes no constants, proves nothing, and is what `fltrain.adapt.AdaptivePlanner` asks in every round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arguments import expect, one_number
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, table
from kktalloc._problem.stats import measured
from kktalloc._problem.variant import variant
from kktalloc._questions.judgement import InfeasibleError
from kktalloc._questions.least import LeastEnergy, least_bandwidth, least_deadline, least_energy
from kktalloc._questions.planning import (
    FOREVER,
    Curve,
    Errors,
    IntArray,
    Plan,
    Planner,
    Reach,
    UnreachableError,
    fitted,
    search,
    warned,
)
from kktalloc._questions.progress import Progress, most_progress
from kktalloc._questions.solution import solve
from kktalloc.bound import Constants, Objective, PreconditionError, Schedule, Young

__all__ = [
    "Candidate",
    "Choice",
    "Curve",
    "LeastEnergy",
    "Plan",
    "Progress",
    "UnreachableError",
    "choose_round",
    "least_bandwidth",
    "least_deadline",
    "least_energy",
    "most_progress",
    "plan",
    "time_to_target",
]


@speaks_arrays
@measured
def plan(
    problem: Problem,
    constants: Constants,
    schedule: Schedule,
    total_time_s: float,
    *,
    young: Young | None = None,
    scan: int = 65,
    objective: Objective | None = None,
    errors: Errors | None = None,
) -> Plan:
    """The deadline that makes the guarantee best when training may take a given time.

    Parameters
    ----------
    problem
        One problem with a device or more; its own deadline does not matter. Channels are taken to stay as they are.
    constants, young
        As in `kktalloc.bound.bound`, numbers.
    schedule
        As there; its own number of rounds does not matter.
    total_time_s
        For all rounds together, > 0.
    scan
        Points of the coarse scan over the number of rounds, and of each refinement.
    objective, errors
        Both or neither: weights and curves of `kktalloc.bound.objective` in place of the problem's own, and the rest of
        what the theorem for such rounds needs (what pruning does in it is put in by the plan). The problem's weights
        stay those of the aggregation. Without `young` the free parameters are then fitted to the plan.

    Returns
    -------
    Plan
        The best whole number of rounds that the search found, ``total_time_s / rounds`` each. Every number is tried
        where there are at most `scan` of them; beyond that the best is found if the guarantee has one valley between
        neighbours of the best scanned point. All constants and `errors` are held at their values, however much a plan
        prunes and however many rounds it has.

    Warns
    -----
    UserWarning
        The best plan prunes everything: nothing gives a round a least length, and the bound counts pruning for little.

    Raises
    ------
    InfeasibleError
        Not even one round fits in the time.
    ValueError
        The problem is a batch or has no devices, an argument is out of range, or the theorem's preconditions do not
        hold.
    TypeError
        Something else than a problem, constants, a schedule and Young's parameters.
    """
    planner = Planner(problem, constants, schedule, young, scan, objective, errors)
    problem = planner.problem
    total_time_s = one_number("total_time_s", total_time_s, 0.0, True)
    shortest = float(least_deadline(problem))
    most = np.floor(total_time_s / shortest * (1.0 + 1e-12)) if shortest > 0.0 else np.inf
    if most < 1.0:
        solve(variant(problem, deadline_s=total_time_s))  # raises, and says what is missing
        raise UnreachableError(f"total_time_s = {total_time_s}: the shortest round takes {shortest:.6g} s")
    # Without a floor there is no shortest round; rounds of a 2^-50th of the time are as good as none.
    most = min(most, 2.0**50)

    def once(planner: Planner) -> Plan:
        def evaluate(rounds: IntArray) -> FloatArray:
            return planner.gradient_bound(total_time_s / rounds, rounds)

        best = search(evaluate, int(most), scan)
        return planner.plan(total_time_s / best, best)

    if planner.fits:
        deadlines, errors_there = Reach(problem).coarse()
        planner = planner.fitted(total_time_s / deadlines, errors_there, lambda guarantee: guarantee)
    return warned(fitted(planner, once, lambda found: found.gradient_bound))


@speaks_arrays
@measured
def time_to_target(
    problem: Problem,
    constants: Constants,
    schedule: Schedule,
    gradient_bound: float,
    *,
    young: Young | None = None,
    scan: int = 65,
    objective: Objective | None = None,
    errors: Errors | None = None,
) -> Plan:
    """The fastest plan whose guarantee meets a target.

    Parameters
    ----------
    problem, constants, schedule, young, scan, objective, errors
        As in `plan`.
    gradient_bound
        The target, > 0: `BoundTerms.gradient_bound` shall not exceed it (by more than rounding, 1e-12 relative).

    Returns
    -------
    Plan
        For each number of rounds the least deadline that meets the target, and of these the one with the least total
        time; the search is that of `plan`.

    Raises
    ------
    ValueError
        No number of rounds of any length meets the target: the message says what can be met.
    TypeError
        As in `plan`.
    """
    gradient_bound = one_number("gradient_bound", gradient_bound, 0.0, True)
    planner = Planner(problem, constants, schedule, young, scan, objective, errors)
    reach = Reach(planner.problem)

    def once(planner: Planner) -> Plan:
        # The guarantee is affine in the pruning error and in 1 / rounds.
        fixed, per_error = planner.affine(FOREVER)
        initial = planner.affine(1.0)[0] - fixed
        room = gradient_bound * (1.0 + 1e-13) - fixed - per_error * reach.least_error
        if not room > 0.0:
            least = fixed + per_error * reach.least_error
            raise UnreachableError(f"gradient_bound = {gradient_bound}: no plan gets to {least:.6g} or below")
        fewest = max(int(initial / room) - 1, 1)  # what rounding lets in here, `allowed` keeps out

        def allowed(rounds: ArrayLike) -> FloatArray:
            # A target that a plan meets exactly must not be missed by rounding.
            slack = gradient_bound * (1.0 + 1e-13) - fixed - initial / np.asarray(rounds, dtype=float)
            return slack / per_error if per_error > 0.0 else np.where(slack >= 0.0, np.inf, -np.inf)

        def total_time(rounds: IntArray) -> FloatArray:
            return rounds * reach.deadline(allowed(rounds))

        # No number of rounds gets by with less than the deadline of infinitely many: that bounds the search.
        upper = total_time(fewest + np.array([1, 2, 3, fewest])).min()
        # One more, for the quotient rounds.
        most = max(int(min(upper / reach.deadline(allowed(np.array([FOREVER])))[0], 2.0**50)) + 1, fewest)

        def evaluate(rounds: IntArray) -> FloatArray:
            deadline = reach.deadline(allowed(rounds))
            enough = np.isfinite(deadline)
            planner.gradient_bound(deadline[enough], rounds[enough])
            return rounds * deadline

        best = search(evaluate, most, scan, fewest)
        return planner.plan(float(reach.deadline(allowed(np.array([best])))[0]), best)

    if planner.fits:  # at the fastest of some choices that meet the target
        deadlines, errors_there = reach.coarse()
        rounds, which = (grid.ravel() for grid in np.meshgrid(np.geomspace(1.0, 1e8, 49), np.arange(deadlines.size)))
        total = rounds * deadlines[which]

        def time(guarantee: FloatArray) -> FloatArray:
            missed = total.max() * np.maximum(guarantee / gradient_bound - 1.0, 0.0) * 1e9
            return np.asarray(total + missed)

        planner = planner.fitted(rounds, errors_there[which], time)
    return warned(fitted(planner, once, lambda found: found.total_time_s))


@dataclass(frozen=True)
class Candidate:
    """A kind of round that training could use, with all that differs between kinds.

    Parameters
    ----------
    problem
        Devices and cell as this kind of round loads them: its payload, what pruning saves of
        computing and what not.
    objective, errors
        As in `plan`; both None for the bound from norms.
    constants, schedule
        Those of this kind, as in `plan`.
    """

    problem: Problem
    constants: Constants
    schedule: Schedule
    objective: Objective | None = None
    errors: Errors | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Shown):
    """Which kind of round to use.

    Parameters
    ----------
    name
        Of the best candidate.
    plans
        The best plan of each candidate that has one.
    refused
        Why each of the others has none: infeasible, out of reach, or beyond what its theorem covers.
    """

    name: str
    plans: dict[str, Plan]
    refused: dict[str, str]

    def _shown(self) -> tuple[str, Rows]:
        numbers = {"rounds": "rounds", "deadline": "deadline_s", "guarantee": "gradient_bound"}
        columns = {head: [getattr(plan, name) for plan in self.plans.values()] for head, name in numbers.items()}
        line = f"{self.name} of {', '.join(self.plans)}"
        line += "".join(f"; {name} refused: {why}" for name, why in self.refused.items())
        return line, table("kind", list(self.plans), columns)

    @property
    def plan(self) -> Plan:
        """That of the best candidate."""
        return self.plans[self.name]


def choose_round(
    candidates: Mapping[str, Candidate],
    *,
    total_time_s: float | None = None,
    gradient_bound: float | None = None,
    scan: int = 65,
) -> Choice:
    """The kind of round that is best for a total time, or that meets a target first.

    Guarantees are compared as they are, and they are not all of the same thing: those of zeroed and frozen rounds, and
    the bound from norms, are of the gradient on the coordinates that some device keeps, those of sparse rounds of the
    whole gradient. The first are the weaker statement, so that a choice of zeroed or frozen rounds against sparse ones
    is fair only where every coordinate is kept by someone in every round. A choice of sparse rounds is fair as it is.

    Parameters
    ----------
    candidates
        By name, such as "zeroed", "frozen" and "sparse".
    total_time_s, gradient_bound
        One of them: the kind whose `plan` has the least guarantee, or whose `time_to_target` is the least.
    scan
        As in `plan`.

    Raises
    ------
    ValueError
        Not one of the two is given, a candidate's input is out of range (the message names the candidate), or none
        has a plan: the message says why for each.
    """
    expect("candidates", candidates, Mapping)
    for name, its in candidates.items():
        expect(f"candidates[{name!r}]", its, Candidate)
    if not candidates or (total_time_s is None) == (gradient_bound is None):
        raise ValueError("choose_round: needs candidates, and one of total_time_s and gradient_bound")
    plans: dict[str, Plan] = {}
    refused: dict[str, str] = {}
    for name, its in candidates.items():
        known = its.problem, its.constants, its.schedule
        try:
            if total_time_s is not None:
                plans[name] = plan(*known, total_time_s, scan=scan, objective=its.objective, errors=its.errors)
            elif gradient_bound is not None:
                plans[name] = time_to_target(
                    *known, gradient_bound, scan=scan, objective=its.objective, errors=its.errors
                )
        except (InfeasibleError, PreconditionError, UnreachableError) as error:
            refused[name] = str(error)
        except (TypeError, ValueError) as error:  # a mistake in one candidate must not hand the choice to another
            raise type(error)(f"candidates[{name!r}]: {error}") from error
    if not plans:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    least = {
        name: found.total_time_s if total_time_s is None else found.gradient_bound for name, found in plans.items()
    }
    return Choice(min(least, key=least.__getitem__), plans, refused)
