"""From the bound to a plan: which round deadline makes the most of the time there is.

Short rounds are many but prune hard, long ones are few but prune little. With the solved allocation's pruning error
``rho_bar(T)`` in the bound of `kktalloc.bound` the guarantee depends on the deadline T and the number of rounds R
alone, and falls with both. So R rounds in a total time are best at ``T = T_total / R``, and R rounds to a target at
the least T that meets it: what is left is a search over whole numbers of rounds. It is not unimodal in general: a
coarse scan over the whole range comes first and is then refined around its best point until it is exhaustive there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem, expect
from kktalloc._problem.variant import variant
from kktalloc._questions.least import LeastEnergy, least_bandwidth, least_deadline, least_energy
from kktalloc._questions.solution import Solution, solve
from kktalloc.bound import BoundTerms, Constants, Schedule, Young, bound

__all__ = [
    "Curve",
    "LeastEnergy",
    "Plan",
    "least_bandwidth",
    "least_deadline",
    "least_energy",
    "plan",
    "time_to_target",
]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curve:
    """What the search looked at, in order of the deadline; arrays of one length.

    Parameters
    ----------
    deadline_s, rounds
        One choice: that many rounds of that length.
    pruning_error
        ``sum alpha_k e(rho_k)`` of the optimal allocation; for the linear error the weighted mean pruning ratio.
    gradient_bound
        `BoundTerms.gradient_bound` of that choice.
    """

    deadline_s: FloatArray
    rounds: IntArray
    pruning_error: FloatArray
    gradient_bound: FloatArray

    @property
    def total_time_s(self) -> FloatArray:
        """``rounds * deadline_s``."""
        return self.rounds * self.deadline_s


@dataclass(frozen=True, eq=False)
class Plan:
    """A number of rounds and their deadline.

    Parameters
    ----------
    rounds, deadline_s
        How many rounds of which length.
    solution
        The optimal allocation at that deadline.
    terms
        The bound, term by term.
    curve
        Everything that was tried on the way.
    """

    rounds: int
    deadline_s: float
    solution: Solution
    terms: BoundTerms
    curve: Curve

    @property
    def total_time_s(self) -> float:
        """Time of all rounds together."""
        return self.rounds * self.deadline_s

    @property
    def pruning_error(self) -> float:
        """``sum alpha_k e(rho_k)`` of every round."""
        return float(self.solution.objective)

    @property
    def gradient_bound(self) -> float:
        """What the theorem guarantees of the mean squared gradient over the rounds."""
        return float(self.terms.gradient_bound)


@speaks_arrays
def plan(
    problem: Problem,
    constants: Constants,
    schedule: Schedule,
    total_time_s: float,
    *,
    young: Young | None = None,
    scan: int = 65,
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

    Returns
    -------
    Plan
        The best whole number of rounds that the search found, ``total_time_s / rounds`` each. Every number is tried
        where there are at most `scan` of them; beyond that the best is found if the guarantee has one valley between
        neighbours of the best scanned point.

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
    planner = _Planner(problem, constants, schedule, young, scan)
    total_time_s = _positive("total_time_s", total_time_s)
    shortest = float(least_deadline(problem))
    most = np.floor(total_time_s / shortest * (1.0 + 1e-12)) if shortest > 0.0 else np.inf
    if most < 1.0:
        solve(variant(problem, deadline_s=total_time_s))  # raises, and says what is missing
        raise ValueError(f"total_time_s = {total_time_s}: the shortest round takes {shortest:.6g} s")
    # Without a floor there is no shortest round; rounds of a 2^-50th of the time are as good as none.
    most = min(most, 2.0**50)

    def evaluate(rounds: IntArray) -> FloatArray:
        return planner.gradient_bound(total_time_s / rounds, rounds)

    best = _search(evaluate, int(most), scan)
    return planner.plan(total_time_s / best, best)


@speaks_arrays
def time_to_target(
    problem: Problem,
    constants: Constants,
    schedule: Schedule,
    gradient_bound: float,
    *,
    young: Young | None = None,
    scan: int = 65,
) -> Plan:
    """The fastest plan whose guarantee meets a target.

    Parameters
    ----------
    problem, constants, schedule, young, scan
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
    gradient_bound = _positive("gradient_bound", gradient_bound)
    planner = _Planner(problem, constants, schedule, young, scan)
    reach = _Reach(problem)
    # The guarantee is affine in the pruning error and in 1 / rounds.
    fixed, per_error = planner.affine(_FOREVER)
    initial = planner.affine(1.0)[0] - fixed
    room = gradient_bound * (1.0 + 1e-13) - fixed - per_error * reach.least_error
    if not room > 0.0:
        least = fixed + per_error * reach.least_error
        raise ValueError(f"gradient_bound = {gradient_bound}: no plan gets to {least:.6g} or below")
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
    most = max(int(min(upper / reach.deadline(allowed(np.array([_FOREVER])))[0], 2.0**50)) + 1, fewest)

    def evaluate(rounds: IntArray) -> FloatArray:
        deadline = reach.deadline(allowed(rounds))
        enough = np.isfinite(deadline)
        planner.gradient_bound(deadline[enough], rounds[enough])
        return rounds * deadline

    best = _search(evaluate, most, scan, fewest)
    return planner.plan(float(reach.deadline(allowed(np.array([best])))[0]), best)


def _positive(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number, got {value!r:.60}") from None
    if not 0.0 < number < np.inf:
        raise ValueError(f"{name} = {value}: must be > 0 and finite")
    return number


_FOREVER = 1e300  # rounds: as good as infinitely many


class _Planner:
    """Evaluates choices of deadline and rounds, and remembers them."""

    def __init__(
        self, problem: Problem, constants: Constants, schedule: Schedule, young: Young | None, scan: int
    ) -> None:
        expect("constants", constants, Constants)
        expect("schedule", schedule, Schedule)
        if young is not None:
            expect("young", young, Young)
        if problem.batch_shape:
            raise ValueError(f"problem: one at a time, got a batch of shape {problem.batch_shape}")
        if not problem.shape[-1]:
            raise ValueError("problem: has no devices to plan for")
        if not isinstance(scan, int | np.integer) or scan < 3:
            raise ValueError(f"scan = {scan!r:.60}: must be a whole number, at least 3")
        self.problem, self.constants, self.schedule, self.young = problem, constants, schedule, young
        # A measured error may exceed 1, which counts as that much more of D^2.
        self.most_error = float(np.max(problem.pruning_error.value(np.ones(problem.shape)), initial=1.0))
        self.tried: list[tuple[FloatArray, IntArray, FloatArray, FloatArray]] = []

    def terms(self, rounds: ArrayLike, error: ArrayLike) -> BoundTerms:
        """The bound at a pruning error, each of shape ``(...)``; the weights matter to its variance."""
        terms = bound(
            self.constants,
            replace(self.schedule, rounds=rounds),
            np.minimum(np.asarray(error) / self.most_error, 1.0)[..., None],
            self.problem.devices.weight,
            young=self.young,
        )
        return replace(terms, pruning=self.most_error * terms.pruning)

    def affine(self, rounds: float) -> tuple[float, float]:
        """The guarantee without pruning, and what a unit of pruning error adds."""
        none, all_of_it = self.terms(rounds, np.array([0.0, 1.0])).gradient_bound
        return float(none), float(all_of_it - none)

    def gradient_bound(self, deadline_s: FloatArray, rounds: IntArray) -> FloatArray:
        """Guarantee of each choice, shape ``(n,)``; ``inf`` where the deadline is too short."""
        error = np.asarray(solve(variant(self.problem, deadline_s=deadline_s), throw=False).objective)
        fine = np.isfinite(error)
        value = np.full(error.shape, np.inf)
        value[fine] = self.terms(rounds[fine], error[fine]).gradient_bound
        self.tried.append((deadline_s, rounds, error, value))
        return value

    def plan(self, deadline_s: float, rounds: int) -> Plan:
        """The chosen plan, solved and certified."""
        solution = solve(variant(self.problem, deadline_s=deadline_s))
        columns = [np.concatenate(c) for c in zip(*self.tried, strict=True)]
        order = np.unique(columns[0], return_index=True)[1]
        order = order[np.isfinite(columns[2][order])]
        curve = Curve(*(c[order] for c in columns))
        return Plan(rounds, deadline_s, solution, self.terms(rounds, solution.objective), curve)


class _Reach:
    """The pruning error that deadlines reach, and the least deadline that reaches an error."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.shortest = float(least_deadline(problem))
        if self.shortest == np.inf:
            solve(problem)  # raises, and says what is missing
        # Far beyond the point where more time stops helping; with no limit on energy that is unpruned training.
        unpruned = float(least_deadline(problem, 0.0))
        own = float(np.asarray(problem.cell.deadline_s)[0])
        longest = 2.0 * unpruned if np.isfinite(unpruned) else max(self.shortest, own) * 2.0**40
        first = max(self.shortest, longest * 2.0**-100)  # where nothing has to be sent or computed, as good as none
        deadlines = np.unique(np.append(np.geomspace(first, longest, 129), [first, longest]))
        errors = self.error(deadlines)[0]
        fine = np.isfinite(errors)
        # The envelope keeps rounding from making the curve rise.
        self.deadlines, self.errors = deadlines[fine], np.minimum.accumulate(errors[fine])
        self.least_error = float(self.errors[-1])

    def error(self, deadline_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Pruning error at each deadline, NaN where infeasible, and its fall per second."""
        solution = solve(variant(self.problem, deadline_s=deadline_s), throw=False)
        return np.asarray(solution.objective), np.asarray(solution.prices.deadline_per_s)

    def deadline(self, error: FloatArray) -> FloatArray:
        """Least deadline whose pruning error is at most `error`, shape ``(n,)``; ``inf`` where none is.

        Newton's method with the shadow price of the deadline as slope, within a bracket.
        """
        error = np.asarray(error, dtype=float)
        possible, easy = error >= self.least_error, error >= self.errors[0]
        after = np.searchsorted(-self.errors, -error, side="left")  # first deadline that reaches the error
        after = np.clip(after, 1, self.deadlines.size - 1)
        low, high = self.deadlines[after - 1], self.deadlines[after]
        todo = np.flatnonzero(possible & ~easy)
        at, before = high.copy(), np.full(error.shape, np.inf)
        for _ in range(100):
            if not todo.size:
                break
            reached, slope = self.error(at[todo])
            excess = reached - error[todo]
            fits = excess <= 1e-14
            low[todo], high[todo] = np.where(fits, low[todo], at[todo]), np.where(fits, at[todo], high[todo])
            with np.errstate(divide="ignore", invalid="ignore"):
                newton = at[todo] + excess / slope
            lo, hi = low[todo], high[todo]
            quick = (newton > lo) & (newton < hi) & (np.abs(excess) <= 0.5 * before[todo])
            before[todo] = np.abs(excess)
            at[todo] = np.where(quick, newton, np.sqrt(lo * hi))
            # Where more time changes nothing the error says nothing: only the bracket does.
            todo = todo[~(((np.abs(excess) <= 1e-14) & (slope > 0.0)) | (hi - lo <= 1e-14 * hi))]
        return np.select([easy, possible], [self.deadlines[0], high], np.inf)


def _search(evaluate: Callable[[IntArray], FloatArray], most: int, scan: int, fewest: int = 1) -> int:
    """The whole number in ``[fewest, most]`` with the least value: a scan, refined around its best point."""
    low, high = fewest, most
    best, least = fewest, np.inf
    while True:
        points = np.unique(np.round(np.geomspace(low, high, scan)).astype(np.int64))
        if high - low < scan:
            points = np.arange(low, high + 1)
        values = evaluate(points)
        i = int(np.argmin(values))
        if values[i] < least:
            best, least = int(points[i]), float(values[i])
        if high - low < scan:
            return best
        low, high = int(points[max(i - 1, 0)]), int(points[min(i + 1, points.size - 1)])
