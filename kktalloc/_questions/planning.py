"""What plans search: choices of deadline and rounds, evaluated and remembered."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._bound.checks import numbers
from kktalloc._bound.objective import PRUNED
from kktalloc._problem.arguments import expect, expect_whole
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, counted, span
from kktalloc._problem.stats import Stats
from kktalloc._problem.variant import variant
from kktalloc._questions.least import least_deadline
from kktalloc._questions.solution import Solution, solve
from kktalloc.bound import (
    BoundTerms,
    Constants,
    FeedbackErrors,
    GradientErrors,
    Objective,
    Schedule,
    UploadErrors,
    Young,
    best_young,
    bound,
)


class UnreachableError(ValueError):
    """No plan does what was asked; the message says what can be done."""


IntArray = NDArray[np.int64]
Errors = GradientErrors | UploadErrors | FeedbackErrors


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Shown):
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

    def _shown(self) -> tuple[str, Rows]:
        return (
            f"{counted(len(self.deadline_s), 'choice')}, rounds of {span(self.deadline_s)} s, guarantees"
            f" {span(self.gradient_bound)}",
            (),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Shown):
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
    stats
        What the search cost.
    """

    rounds: int
    deadline_s: float
    solution: Solution
    terms: BoundTerms
    curve: Curve
    stats: Stats | None = field(default=None, init=False, repr=False)

    def _shown(self) -> tuple[str, Rows]:
        what = f"{counted(self.rounds, 'round')} of {self.deadline_s:.4g} s, mean squared gradient at most"
        line, rows = self.solution._shown()
        return f"{what} {self.gradient_bound:.4g}, pruning error {self.pruning_error:.4g}; {line}", rows

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


_FITS, _GAIN = 4, 1e-3  # how often free parameters are fitted to a plan, and for how much more
_ALL_PRUNED = 1 - 1e-9  # a pruning ratio from which on a device does nothing
_TINY = np.finfo(np.float64).tiny
FOREVER = 1e300  # rounds: as good as infinitely many


class Planner:
    """Evaluates choices of deadline and rounds, and remembers them."""

    def __init__(
        self,
        problem: Problem,
        constants: Constants,
        schedule: Schedule,
        young: Young | None,
        scan: int,
        objective: Objective | None,
        errors: Errors | None,
    ) -> None:
        expect("problem", problem, Problem)
        expect("constants", constants, Constants)
        expect("schedule", schedule, Schedule)
        if young is not None:
            expect("young", young, Young)
        if (objective is None) != (errors is None):
            raise ValueError("objective and errors: pass both, or neither")
        if objective is not None and errors is not None:
            expect("objective", objective, Objective)
            if objective.scale.ndim:
                raise ValueError(f"objective: one at a time, got a batch of shape {objective.scale.shape}")
            objective.errors(errors, 0.0)  # raises where these errors are of another kind of round
        for one in (constants, schedule, young, errors):
            if one is None:
                continue
            for name, value in vars(one).items():
                if name not in PRUNED and (shape := numbers(name, value).shape):
                    raise ValueError(f"{name}: a plan needs one number, got shape {shape}")
        if problem.batch_shape:
            raise ValueError(f"problem: one at a time, got a batch of shape {problem.batch_shape}")
        if not problem.shape[-1]:
            raise ValueError("problem: has no devices to plan for")
        expect_whole("scan", scan, 3)
        self.weight = problem.devices.weight  # of the aggregation
        self.problem = problem if objective is None else objective.problem(problem)
        self.constants, self.schedule, self.young = constants, schedule, young
        self.objective, self.errors = objective, errors
        self.fits = young is None and errors is not None
        # A measured error may exceed 1, which counts as that much more of D^2.
        self.most_error = float(np.max(self.problem.pruning_error.value(np.ones(problem.shape)), initial=1.0))
        self.tried: list[tuple[FloatArray, IntArray, FloatArray, FloatArray]] = []

    def fitted(self, rounds: ArrayLike, error: ArrayLike, value: Callable[[FloatArray], FloatArray]) -> Planner:
        """The same with the free parameters that are best where `value` of the guarantee is least, if none are given.

        `rounds` and `error` are points to look at, of one shape ``(n,)``.
        """
        if not self.fits or self.objective is None or self.errors is None:
            return self
        rounds, error = np.asarray(rounds, dtype=float), np.asarray(error, dtype=float)
        at = self.objective.errors(self.errors, error)
        schedule = replace(self.schedule, rounds=rounds)
        young = best_young(self.constants, schedule, weight=self.weight, errors=at)
        terms = bound(self.constants, schedule, weight=self.weight, young=young, errors=at)
        least = int(np.argmin(value(terms.gradient_bound)))
        chosen = {f.name: np.broadcast_to(getattr(young, f.name), error.shape)[least] for f in fields(young)}
        if isinstance(at, GradientErrors):  # s at its best there, and then fixed: the bound stays affine in the error
            charge = np.maximum(np.asarray(at.coverage_charge), _TINY)
            chosen["coverage"] = np.clip(np.sqrt(self.objective.error(error[least]) / charge), 1e-9, 1e9)
        found = copy(self)
        found.young, found.tried = Young(**chosen), []
        return found

    def terms(self, rounds: ArrayLike, error: ArrayLike) -> BoundTerms:
        """The bound at a pruning error, each of shape ``(...)``; the weights matter to its variance."""
        schedule = replace(self.schedule, rounds=rounds)
        if self.objective is not None and self.errors is not None:
            errors = self.objective.errors(self.errors, error)
            return bound(self.constants, schedule, weight=self.weight, young=self.young, errors=errors)
        terms = bound(
            self.constants,
            schedule,
            np.minimum(np.asarray(error) / self.most_error, 1.0)[..., None],
            self.weight,
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


class Reach:
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

    def coarse(self) -> tuple[FloatArray, FloatArray]:
        """Some deadlines and the pruning error at each, for a first look."""
        few = np.unique(np.append(np.arange(0, self.deadlines.size, 4), self.deadlines.size - 1))
        return self.deadlines[few], self.errors[few]

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


def search(evaluate: Callable[[IntArray], FloatArray], most: int, scan: int, fewest: int = 1) -> int:
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


def warned(plan: Plan) -> Plan:
    """The plan, with a UserWarning where it prunes everything and nothing gives a round a least length."""
    all_pruned = np.all(np.asarray(plan.solution.pruning_ratio) >= _ALL_PRUNED)
    if all_pruned and not float(least_deadline(plan.solution.problem)) > 0.0:
        message = (
            f"the best plan prunes everything, in {plan.rounds} rounds of {plan.deadline_s:.3g} s: it "
            "rests on constants (gradients, heterogeneity and errors) that are held at what they were measured to be. "
            "Give devices pruning_ratio_max < 1, overhead_bits or fixed_latency_s"
        )
        warnings.warn(message, stacklevel=2)
    return plan


def fitted(planner: Planner, once: Callable[[Planner], Plan], value: Callable[[Plan], float]) -> Plan:
    """The plan with free parameters fitted to it, for as long as that makes it better; with given ones, the plan."""
    best = once(planner)
    for _ in range(_FITS if planner.fits else 0):
        planner = planner.fitted([best.rounds], [best.pruning_error], lambda guarantee: guarantee)
        found = once(planner)
        gained = 1.0 - value(found) / value(best)
        best = found if gained > 0.0 else best
        if gained < _GAIN:
            break
    return best
