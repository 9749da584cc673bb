"""`solve`: validated problem in, certified allocation out."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kktalloc._certificate import compiled as compiled_judge
from kktalloc._certificate.certificate import Certificate, certify, read_clock_verdict, read_verdict
from kktalloc._certificate.prices import Prices, prices
from kktalloc._device.clocked import clocked_form
from kktalloc._device.reduced import reduce
from kktalloc._engine import clock_engine, compiled, compiled_clocks, numpy_engine
from kktalloc._problem.allocation import Allocation, Allotment, fixed_clock, same_for_all
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown
from kktalloc._problem.stats import enter, measured
from kktalloc._problem.threads import check_threads
from kktalloc._problem.variant import UNPROVED, clock_fields, refuse_total_power, rows
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline, limits
from kktalloc._questions.judgement import InfeasibleError, Judged, close, nothing_to_judge

if TYPE_CHECKING:
    pass


_CLOCK_PRICES = ("clock_max", "clock_min", "circuit_power_per_w")


@dataclass(frozen=True, eq=False, repr=False)
class Solution(Shown, Judged, Allotment):
    """An allocation. Device arrays have shape ``(..., K)``, the rest the batch shape ``(...)``.

    Entries of infeasible problems are NaN. For a problem given in tensors the arrays are tensors where those were, but
    for ``problem``, ``diagnosis``, ``status`` and ``certificate``.

    Parameters
    ----------
    pruning_ratio
        rho, the fraction of the global part that each device drops.
    bandwidth_hz, tx_power_w
        Uplink bandwidth (Hz) and radiated power (W). Where bandwidth is to spare, devices hold the least they need.
    upload_s, latency_s
        Time of the upload, and of the whole round up to its last bit, s.
    energy_j
        Energy of the whole round, J.
    clock
        Relative clock of the device's processor; 1 where it has no choice.
    objective
        ``sum alpha_k e(rho_k)``, which for the linear error is ``sum alpha_k rho_k``.
    regime
        `Regime` values: what stops each device from keeping more; -1 where infeasible.
    prices
        Shadow prices of the budgets.
    diagnosis
        For infeasible problems what is missing, else None.
    """

    problem: Problem
    objective: FloatArray
    regime: np.ndarray
    prices: Prices
    diagnosis: Diagnosis | None

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not."""
        if (said := vars(self).get("_verdict")) is not None:  # these very arrays were judged as they were made
            worth = self.prices
            if self.problem.clocked:
                return read_clock_verdict(said, worth.bandwidth_per_hz, worth.total_power_per_w)
            passed = vars(self).get("_certified")
            return read_verdict(said, worth.bandwidth_per_hz, worth.total_power_per_w, passed=passed)
        limits = self.prices.bandwidth_max_per_hz
        claims: dict[str, Any] = {"bandwidth_max_per_hz": limits} if self.problem.bandwidth_limited else {}
        return certify(
            self.problem,
            self.pruning_ratio,
            self.bandwidth_hz,
            self.tx_power_w,
            bandwidth_price_per_hz=self.prices.bandwidth_per_hz,
            total_power_price_per_w=self.prices.total_power_per_w,
            upload_s=self.upload_s,
            latency_s=self.latency_s,
            energy_j=self.energy_j,
            objective=self.objective,
            deadline_per_s=self.prices.deadline_per_s,
            energy_per_j=self.prices.energy_per_j,
            peak_power_per_w=self.prices.peak_power_per_w,
            regime=self.regime,
            **claims | self._clock_claims(),
        )

    def _clock_claims(self) -> dict[str, Any]:
        """What is said of clocks and electronics, where there are any: without them all is as the kernel judges it."""
        if not self.problem.clocked:
            return {}
        return {"clock": self.clock} | {n: getattr(self.prices, n) for n in _CLOCK_PRICES}

    def _shown(self) -> tuple[str, Rows]:
        one = not self.problem.batch_shape
        line = headline(self, f"objective {float(self.objective):.6g}" if one else "")
        return line, device_table(self, **{"limit": limits(self.regime)} if one else {})


@speaks_arrays
@measured
def solve(problem: Problem, throw: bool = True, threads: int | None = None) -> Solution:
    """Allocate pruning, bandwidth and power exactly, by the KKT conditions of the convex form.

    What the certificate refuses of the compiled engine is solved by NumPy; what it refuses still is priced anew.

    Parameters
    ----------
    problem
        One problem or a batch; each problem of a batch gets its own status.
    throw
        Raise where a problem has no certified solution; with False inspect ``status`` and ``diagnosis``.
    threads
        Most threads of the compiled engine, >= 1; the numbers do not depend on it. By default the environment's
        ``KKTALLOC_THREADS``, else ``OMP_NUM_THREADS``, else the processors that this process may use (affinity and
        control group), and one for a small problem.

    Raises
    ------
    ValueError, TypeError
        `threads`, or what the environment says instead, is no whole number >= 1; or a cap on total power binds, and
        devices have a clock or electronics: names all of them.
    InfeasibleError
        Some device cannot meet its floor, or together they need more bandwidth than there is.
    UncertifiedError
        The certificate refuses the answer (numerically hopeless input).
    """
    check_threads(threads)
    answer: compiled.Answer | compiled_clocks.ClockAnswer | None
    if problem.clocked:
        answer = timed = compiled_clocks.solve(problem, threads)
        if timed is not None and timed.solved and (solution := _with_clocks(problem, timed)).certificate.ok:
            return _within_cap(problem, solution)
    else:
        answer = plain = compiled.solve(problem, threads)
        if plain is not None and plain.certified:
            return _certified(problem, plain)
    unsolved = answer is None or not answer.solved
    diagnosis = _what_is_missing(problem, throw) if unsolved else None
    if diagnosis is not None and not diagnosis.feasible.any():
        return _nothing_found(problem, diagnosis)
    kernel = None if answer is None else answer.allocation()
    found = _solve_numpy(problem, diagnosis, kernel) if kernel is None or unsolved else kernel
    solution = _within_cap(problem, _judged(problem, found, diagnosis, threads))
    if solution.certificate.ok:
        return close(solution, throw)
    if kernel is not None and (retry := kernel.solved & _refused(solution)).any():
        diagnosis = diagnosis if unsolved else _what_is_missing(problem, throw)
        found = _solve_numpy(problem, diagnosis, replace(found, solved=found.solved & ~retry))
        solution = _judged(problem, found, diagnosis, threads)
        if nothing_to_judge(solution):
            return solution
    solution = _priced_anew(solution, found)
    return close(solution, throw)


def _certified(problem: Problem, answer: compiled.Answer) -> Solution:
    """What the kernel has solved, judged and priced: its arrays as they are, in objects that are filled at once."""
    rho, b, p, upload, latency, energy, energy_per_j, peak_power_per_w = answer.device
    each = answer.each
    worth = object.__new__(Prices)
    vars(worth).update(
        bandwidth_per_hz=each[1], deadline_per_s=each[3], total_power_per_w=each[2], energy_per_j=energy_per_j,
        peak_power_per_w=peak_power_per_w, bandwidth_max_per_hz=same_for_all(0.0, problem.shape),
    )  # fmt: skip
    solution = object.__new__(Solution)
    vars(solution).update(
        pruning_ratio=rho, bandwidth_hz=b, tx_power_w=p, upload_s=upload, latency_s=latency, energy_j=energy,
        clock=fixed_clock(problem.shape), problem=problem, objective=each[0], regime=answer.regime, prices=worth,
        diagnosis=None, _verdict=answer.verdict, _certified=True,
    )  # fmt: skip
    return solution


def _with_clocks(problem: Problem, answer: compiled_clocks.ClockAnswer) -> Solution:
    """The same for devices with a clock and electronics, whatever the judge says."""
    rho, b, p, upload, latency, energy, clock, *each = answer.device
    objective, per_hz, deadline = answer.each[:3]
    none = np.zeros(problem.batch_shape)
    found = rho, b, p, upload, latency, energy, clock
    solution = Solution(*found, problem, objective, answer.regime, Prices(per_hz, deadline, none, *each), None)
    vars(solution)["_verdict"] = answer.verdict
    return solution


def _within_cap(problem: Problem, solution: Solution) -> Solution:
    """The same; with a clock or electronics a cap on total power may stand, but not bind."""
    if problem.clocked and problem.capped:
        with_them = f"an allocation with {clock_fields(problem)}"
        refuse_total_power(problem, np.nansum(solution.tx_power_w, axis=-1), with_them, UNPROVED)
    return solution


def _what_is_missing(problem: Problem, throw: bool) -> Diagnosis | None:
    diagnosis = diagnose(problem)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    return diagnosis


def _nothing_found(problem: Problem, diagnosis: Diagnosis) -> Solution:
    """The solution where no problem has one: no numbers, in objects that are filled at once."""
    one, each = (np.full(shape, np.nan) for shape in (problem.batch_shape, problem.shape))
    worth = object.__new__(Prices)
    vars(worth).update(
        bandwidth_per_hz=one, deadline_per_s=one, total_power_per_w=one, energy_per_j=each, peak_power_per_w=each,
        bandwidth_max_per_hz=each,
    )  # fmt: skip
    if problem.clocked:
        vars(worth).update(dict.fromkeys(_CLOCK_PRICES, each))
    solution = object.__new__(Solution)
    vars(solution).update(
        pruning_ratio=each, bandwidth_hz=each, tx_power_w=each, upload_s=each, latency_s=each, energy_j=each,
        clock=each, problem=problem, objective=one, regime=np.full(problem.shape, -1, np.int8), prices=worth,
        diagnosis=diagnosis,
    )  # fmt: skip
    return solution


def _judged(problem: Problem, found: Allocation, diagnosis: Diagnosis | None, threads: int | None = None) -> Solution:
    """What was found, with its shadow prices; the certificate comes with them where the kernel serves."""
    allocation = found.pruning_ratio, found.bandwidth_hz, found.tx_power_w
    arrays = (*allocation, found.upload_s, found.latency_s, found.energy_j, found.clock)
    if diagnosis is not None and not diagnosis.feasible.any():
        return _nothing_found(problem, diagnosis)
    judged = compiled_judge.judge_and_price(problem, found, threads)
    timed = compiled_judge.judge_and_price_clocks(problem, found)
    if timed is not None:
        verdict, deadline, each = timed
        worth = Prices(found.price_per_hz, deadline, found.price_per_w, *each)
    elif judged is None:
        worth = prices(problem, *allocation, found.price_per_hz, found.price_per_w, found.clock)
    else:
        verdict, (deadline, energy, peak) = judged
        worth = Prices(found.price_per_hz, deadline, found.price_per_w, energy, peak, same_for_all(0.0, problem.shape))
    if diagnosis is not None:
        fine = diagnosis.feasible
        worth = replace(
            worth,
            **{
                name: np.where(fine if v.ndim == fine.ndim else fine[..., None], v, np.nan)
                for name, v in vars(worth).items()
                if v is not None
            },
        )
    solution = Solution(*arrays, problem, found.objective, found.regime, worth, diagnosis)
    if judged is not None or timed is not None:
        vars(solution)["_verdict"] = verdict
    return solution


def _refused(solution: Solution) -> np.ndarray:
    """Which problems the certificate refuses, though they are feasible."""
    refused = ~solution.certificate.passed
    return refused if solution.diagnosis is None else refused & solution.diagnosis.feasible


def _priced_anew(solution: Solution, found: Allocation) -> Solution:
    """The same at the prices that suit it best, where the certificate accepts it at those.

    Where a device's payload is next to nothing beside its overhead, what it keeps hangs on the last digits of its
    efficiency: the bandwidth still settles that, but the efficiency no longer tells the price.
    """
    refused = _refused(solution)
    if not refused.any():
        return solution
    allocation = (values[refused] for values in (solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w))
    best = certify(rows(solution.problem, refused.ravel()), *allocation)
    if not best.passed.any():
        return solution
    per_hz, per_w = np.array(found.price_per_hz), np.array(found.price_per_w)
    per_hz[refused] = np.where(best.passed, best.bandwidth_price_per_hz, per_hz[refused])
    per_w[refused] = np.where(best.passed, best.total_power_price_per_w, per_w[refused])
    return _judged(solution.problem, replace(found, price_per_hz=per_hz, price_per_w=per_w), solution.diagnosis)


def _solve_numpy(problem: Problem, diagnosis: Diagnosis | None, found: Allocation | None) -> Allocation:
    """The problems that `found` leaves unsolved, or all, by the NumPy engine, but for the infeasible."""
    fine = np.ones(problem.batch_shape, dtype=bool) if diagnosis is None else diagnosis.feasible
    known = np.zeros(problem.batch_shape, dtype=bool) if found is None else found.solved & fine
    if found is not None:
        enter("numpy", retries=int((fine & ~known).sum()))
    if problem.clocked:
        answer = clock_engine.solve(problem, clocked_form(problem), fine & ~known)
    else:
        answer = numpy_engine.solve(problem, reduce(problem), fine & ~known)
    if found is None or not known.any():
        return replace(answer, solved=fine)
    merged = {
        f.name: np.where(known if ours.ndim == known.ndim else known[..., None], getattr(found, f.name), ours)
        for f in fields(Allocation)
        if (ours := getattr(answer, f.name)) is not None
    }
    return Allocation(**merged | {"solved": fine})
