"""The round that makes the most progress per second: its deadline, and which of several kinds of round.

A round that loses the share E of the squared change that training would have made keeps about the share 1 - E of the
progress: half the squared length of the step less half that of its error, over the same without error. With the curves
and weights of the problem that share is its objective, so a round of length T makes (1 - E(T)) / T per second, or
(1 - E(T))^power / T where more of a round is worth less and less. What a round costs later ones counts as its time,
too: what it moved of the model is what devices must receive before the next. No round that takes more than the inverse
of what another makes per second can make more, since none keeps more than all: that ends the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._problem.arguments import expect, expect_whole, one_number
from kktalloc._problem.arrays import FloatArray, as_float64
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown
from kktalloc._problem.variant import variant
from kktalloc._questions.least import least_deadline
from kktalloc._questions.solution import Solution, solve

_SLACK = 1e-6  # a deadline equal to the least feasible one leaves no interior
_FOREVER_S = 1e9
Later = Callable[[FloatArray], ArrayLike]
"""Seconds (n,) that rounds add to later ones, from their pruning ratios (n, K)."""
_LADDER: FloatArray = 4.0 ** np.arange(12.0)  # times the least deadline: what is tried first, to know where to look


@dataclass(frozen=True, eq=False, repr=False)
class Progress(Shown):
    """The round with the most progress per second.

    Parameters
    ----------
    name
        Of its kind.
    deadline_s
        Its length.
    solution
        The optimal allocation at that deadline.
    power
        That of its kind of round.
    later_s
        What it adds to the length of later rounds.
    """

    name: str
    deadline_s: float
    solution: Solution
    power: float = 1.0
    later_s: float = 0.0

    @property
    def loss(self) -> float:
        """E: the objective of the allocation, the share of the squared change that pruning loses."""
        return float(np.asarray(self.solution.objective))

    @property
    def progress_per_s(self) -> float:
        """(1 - E)^power / T: the kept share of a whole round's progress, per second that it takes now and later."""
        return float(per_second(self.loss, self.deadline_s + self.later_s, self.power))

    def _shown(self) -> tuple[str, Rows]:
        line, rows = self.solution._shown()
        return f"{self.name}, deadline {self.deadline_s:.4g} s, {self.progress_per_s:.4g} per s; {line}", rows


def per_second(loss: ArrayLike, time_s: ArrayLike, power: float) -> FloatArray:
    """(1 - E)^power / T, shape of the arguments; a round that loses more than all makes none."""
    return np.asarray(np.maximum(1.0 - np.asarray(loss), 0.0) ** power / np.asarray(time_s), dtype=np.float64)


def most_progress(
    rounds: Mapping[str, Problem],
    *,
    deadline_s: float | None = None,
    points: int = 24,
    power: float | Mapping[str, float] = 1.0,
    later_s: Later | None = None,
) -> Progress:
    """The deadline and the kind of round that make the most progress per second, (1 - E)^power / T.

    Parameters
    ----------
    rounds
        Kinds of round by name. Each is one problem: devices and cell as this kind loads them, weights in proportion to
        each device's squared change, and as its curve the share of that change that pruning loses. Its own deadline
        does not matter. In an unpruned round `pruning_ratio_max` is 0. Of equally good ones the first is taken.
    deadline_s
        Of every kind, in place of the search; the least possible one of a kind that needs more.
    points
        Deadlines in the scan, evenly spaced in their logarithm between the least possible one and the longest that can
        be best, and again between the neighbours of the best of them; 2 or more.
    power
        In (0, 1]. 1: progress is in proportion to the kept share. Less: what a round loses is made up for in part by
        the rounds after it, so that shorter ones are better. The allocation at a deadline does not depend on it. One
        for all kinds of round, or one by the name of each.
    later_s
        What a round adds to the length of later ones, in seconds (n,), as a function of pruning ratios (n, K): a next
        broadcast that is the shorter the more was pruned. T is then the deadline and what is added; negative values
        shorten it. It must not grow with the ratios. The allocation at a deadline does not depend on it, either.
        Default: nothing.

    Raises
    ------
    InfeasibleError
        No kind is possible at any deadline: says what the first lacks.
    ValueError
        No kinds, a problem that is a batch or has no devices, an argument out of range, a `power` that does not name
        the kinds or names another, or a `later_s` that returns another shape, no finite numbers, or so little that a
        round takes no time.
    TypeError
        Something else than problems by name, or a `later_s` that is no function.
    """
    expect("rounds", rounds, Mapping)
    if not rounds:
        raise ValueError("rounds must name at least one kind of round, got none")
    for name, problem in rounds.items():
        expect(f"rounds[{name!r}]", problem, Problem)
        if problem.batch_shape or not problem.shape[-1]:
            raise ValueError(f"rounds[{name!r}] must be one problem with devices, got shape {problem.shape}")
    if deadline_s is not None:
        deadline_s = one_number("deadline_s", deadline_s, 0.0, True)
    expect_whole("points", points, 2)
    powers = _powers(rounds, power)
    if not (later_s is None or callable(later_s)):
        raise TypeError(f"later_s: expected a function, got {type(later_s).__name__}")
    found = [
        best
        for name, problem in rounds.items()
        if (best := _Search(name, problem, points, powers[name], later_s).best(deadline_s)) is not None
    ]
    if not found:
        name, problem = next(iter(rounds.items()))
        return Progress(
            name, _FOREVER_S, solve(variant(problem, deadline_s=_FOREVER_S))
        )  # raises: says what is missing
    return max(found, key=lambda one: one.progress_per_s)


def _powers(rounds: Mapping[str, Problem], power: float | Mapping[str, float]) -> dict[str, float]:
    """Of each kind of round."""
    if not isinstance(power, Mapping):
        return dict.fromkeys(rounds, one_number("power", power, 0.0, True, 1.0))
    for name in power:
        if name not in rounds:
            raise ValueError(f"power[{name!r}]: there is no such kind of round, only {', '.join(map(repr, rounds))}")
    for name in rounds:
        if name not in power:
            raise ValueError(f"power must be one for all kinds of round or name each, got none for {name!r}")
    return {name: one_number(f"power[{name!r}]", power[name], 0.0, True, 1.0) for name in rounds}


@dataclass(frozen=True)
class _Search:
    """For the best deadline of one kind of round."""

    name: str
    problem: Problem
    points: int
    power: float
    later: Later | None

    def best(self, deadline_s: float | None) -> Progress | None:
        """Deadline and allocation of the round of this kind with the most progress per second, if any is possible."""
        problem = self.problem
        least_s = float(least_deadline(problem)) * (1.0 + _SLACK)
        if not np.isfinite(least_s):
            return None
        if least_s == 0.0 and deadline_s is None:
            remedy = "give devices pruning_ratio_max < 1, overhead_bits or fixed_latency_s"
            raise ValueError(f"rounds[{self.name!r}] takes no time when all is pruned, so that none is best: {remedy}")
        if deadline_s is None:
            prunes = np.any(problem.devices.pruning_ratio_max)
            deadline_s = self._searched_s(least_s) if prunes else least_s
        at_s = max(deadline_s, least_s)
        solution = solve(variant(problem, deadline_s=at_s), throw=False)
        if not solution.certificate.passed:
            return None
        later_s = float(self._later_s(np.asarray(solution.pruning_ratio)[None], np.array([at_s]))[0])
        return Progress(self.name, at_s, solution, self.power, later_s)

    def _searched_s(self, least_s: float) -> float:
        tried_s: FloatArray = least_s * _LADDER
        rate = self._progress_per_s(tried_s)
        # Nothing adds less to later rounds than the hardest pruning does.
        hardest = np.broadcast_to(self.problem.of_devices("pruning_ratio_max"), self.problem.shape)[None]
        least_later_s = float(self._later_s(hardest, np.array([least_s]))[0])
        longest_s = 1.0 / rate.max() - least_later_s if rate.max() > 0.0 else tried_s[-1]
        shortest_s = least_s
        for _ in range(2):
            tried_s = np.geomspace(shortest_s, max(longest_s, shortest_s), self.points, dtype=np.float64)
            rate = self._progress_per_s(tried_s)
            best = int(np.argmax(rate))
            shortest_s, longest_s = tried_s[max(best - 1, 0)], tried_s[min(best + 1, self.points - 1)]
        return float(tried_s[best])

    def _progress_per_s(self, deadline_s: FloatArray) -> FloatArray:
        """Progress per second at each of these deadlines (n,); 0 where there is no allocation."""
        solution = solve(variant(self.problem, deadline_s=deadline_s), throw=False)
        there = np.asarray(solution.certificate.passed)
        loss = np.where(there, solution.objective, 1.0)
        ratios = np.where(there[:, None], solution.pruning_ratio, self.problem.of_devices("pruning_ratio_max"))
        return per_second(loss, deadline_s + self._later_s(ratios, deadline_s), self.power)

    def _later_s(self, pruning_ratio: FloatArray, deadline_s: FloatArray) -> FloatArray:
        """Added to later rounds by those of these ratios (n, K) and lengths (n,)."""
        if self.later is None:
            return np.zeros_like(deadline_s)
        added_s = as_float64("later_s", self.later(pruning_ratio))
        if added_s.shape != deadline_s.shape:
            raise ValueError(f"later_s must return shape {deadline_s.shape}, got {added_s.shape}")
        total_s = deadline_s + added_s
        wrong = np.flatnonzero(~(np.isfinite(total_s) & (total_s > 0.0)))
        if wrong.size:
            length_s, added = deadline_s[wrong[0]], added_s[wrong[0]]
            raise ValueError(f"later_s must be finite and > -{length_s:.6g} s, the length of the round, got {added}")
        return added_s
