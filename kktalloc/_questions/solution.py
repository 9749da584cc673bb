"""`solve`: validated problem in, certified allocation out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np

from kktalloc._certificate import compiled as compiled_judge
from kktalloc._certificate.certificate import Certificate, certify, read_verdict
from kktalloc._certificate.prices import Prices, prices
from kktalloc._device.reduced import reduce
from kktalloc._engine import compiled
from kktalloc._engine.clearing import clear
from kktalloc._problem.allocation import Allocation, outcome
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.threads import check_threads
from kktalloc._problem.variant import rows
from kktalloc._questions.diagnosis import Diagnosis, diagnose


class Status(StrEnum):
    """How a problem ended; the value is advice."""

    OPTIMAL = "optimal: certified by its KKT residuals and duality gap"
    UNCERTIFIED = "uncertified: a residual exceeds the tolerance; see certificate.worst and rescale the problem"
    INFEASIBLE = "infeasible: not all devices can meet their pruning limit; see diagnosis"

    @property
    def has_solution(self) -> bool:
        """Whether the arrays hold an allocation to use."""
        return self is Status.OPTIMAL


class InfeasibleError(ValueError):
    """No allocation meets every floor. ``diagnosis`` names devices and resource and says what would do."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.message)
        self.diagnosis = diagnosis

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[Diagnosis]]:
        # An exception is pickled with its message, from which this one cannot be made.
        return type(self), (self.diagnosis,)


class UncertifiedError(ArithmeticError):
    """The certificate refused the solver's answer. ``solution`` holds it, with the certificate."""

    def __init__(self, solution: Solution) -> None:
        name, value = solution.certificate.worst
        super().__init__(f"the certificate refuses the allocation: {name} = {value:.3g}")
        self.solution = solution

    def __reduce__(self) -> tuple[type[UncertifiedError], tuple[Solution]]:
        return type(self), (self.solution,)


@dataclass(frozen=True, eq=False)
class Solution:
    """An allocation. Device arrays have shape ``(..., K)``, the rest the batch shape ``(...)``.

    Entries of infeasible problems are NaN. For a problem given in tensors the arrays are tensors where those were, but
    for ``problem``, ``diagnosis``, ``status`` and ``certificate``.

    Parameters
    ----------
    pruning_ratio
        rho, the fraction of the global part that each device drops.
    bandwidth_hz, tx_power_w
        Uplink bandwidth and radiated power. Where bandwidth is to spare, devices hold the least they need.
    upload_s, latency_s
        Time of the upload, and of the whole round up to its last bit.
    energy_j
        Energy of the whole round.
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
    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    upload_s: FloatArray
    latency_s: FloatArray
    energy_j: FloatArray
    objective: FloatArray
    regime: np.ndarray
    prices: Prices
    diagnosis: Diagnosis | None

    @cached_property
    def status(self) -> Status | np.ndarray:
        """How the problem ended, as the certificate sees it; for a batch an array of `Status`."""
        passed = self.certificate.passed
        infeasible = np.zeros_like(passed) if self.diagnosis is None else ~self.diagnosis.feasible
        code = np.select([infeasible, passed], [2, 0], 1)
        members = (Status.OPTIMAL, Status.UNCERTIFIED, Status.INFEASIBLE)
        if not code.ndim:
            return members[int(code)]
        return np.array(members, dtype=object)[code]

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not."""
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
        )


@speaks_arrays
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
        `threads`, or what the environment says instead, is no whole number >= 1.
    InfeasibleError
        Some device cannot meet its floor, or together they need more bandwidth than there is.
    UncertifiedError
        The certificate refuses the answer (numerically hopeless input).
    """
    check_threads(threads)
    kernel = found = compiled.solve(problem, threads)
    diagnosis: Diagnosis | None = None
    if found is None or not found.solved.all():
        found, diagnosis = _solve_numpy(problem, throw, kernel)
    solution = _judged(problem, found, diagnosis, threads)
    if solution.certificate.ok:
        return solution
    if kernel is not None and (retry := kernel.solved & _refused(solution)).any():
        found, diagnosis = _solve_numpy(problem, throw, replace(found, solved=found.solved & ~retry))
        solution = _judged(problem, found, diagnosis, threads)
    solution = _priced_anew(solution, found)
    if throw and not solution.certificate.ok:
        raise UncertifiedError(solution if problem.home is None else problem.home.receive(solution))
    return solution


def _judged(problem: Problem, found: Allocation, diagnosis: Diagnosis | None, threads: int | None = None) -> Solution:
    """What was found, with its shadow prices; the certificate comes with them where the kernel serves."""
    allocation = found.pruning_ratio, found.bandwidth_hz, found.tx_power_w
    arrays = (*allocation, found.upload_s, found.latency_s, found.energy_j, found.objective)
    judged = compiled_judge.judge_and_price(problem, found, threads)
    if judged is None:
        worth = prices(problem, *allocation, found.price_per_hz, found.price_per_w)
    else:
        verdict, (deadline, energy, peak) = judged
        worth = Prices(found.price_per_hz, deadline, found.price_per_w, energy, peak, np.zeros(problem.shape))
    if diagnosis is not None:
        fine = diagnosis.feasible
        worth = Prices(
            *(np.where(fine if v.ndim == fine.ndim else fine[..., None], v, np.nan) for v in vars(worth).values())
        )
    solution = Solution(problem, *arrays, found.regime, worth, diagnosis)
    if judged is not None:
        # The very arrays that it holds were judged.
        solution.__dict__["certificate"] = read_verdict(verdict, found.price_per_hz)
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


def _solve_numpy(problem: Problem, throw: bool, found: Allocation | None) -> tuple[Allocation, Diagnosis | None]:
    """The problems that `found` leaves unsolved, or all, by the NumPy engine; and what is missing where none can be."""
    form = reduce(problem)
    batch = problem.batch_shape
    diagnosis = diagnose(problem, form)
    if throw and diagnosis is not None:
        raise InfeasibleError(diagnosis)
    fine = np.ones(batch, dtype=bool) if diagnosis is None else diagnosis.feasible
    solved = np.zeros(batch, dtype=bool) if found is None else found.solved & fine
    todo = (fine & ~solved).ravel()
    part = form.rows(todo)
    cleared = clear(part)
    at = cleared.response
    B = np.broadcast_to(np.asarray(problem.cell.bandwidth_hz), (*batch, 1)).reshape(-1, 1)[todo]
    peak = np.asarray(problem.devices.tx_power_max_w).reshape(form.weight.shape)[todo]
    rho_max = np.asarray(problem.devices.pruning_ratio_max).reshape(form.weight.shape)[todo]
    q = part.keep_ratio(at.s)
    # 1 - rho must not round above the q that bandwidth and power were made for.
    rho = np.where(1.0 - (1.0 - q) > q, np.nextafter(1.0 - q, 2.0), 1.0 - q)
    rho = np.select(
        [at.regime == Regime.FLOOR, at.regime == Regime.SATURATED], [rho_max, 0.0], np.clip(rho, 0.0, rho_max)
    )

    def full(values: FloatArray, known: str, dtype: type = float, missing: float = np.nan) -> np.ndarray:
        out = np.full((todo.size, *values.shape[1:]), missing, dtype=dtype)
        out[todo] = values
        out = out.reshape((*batch, *values.shape[1:]))
        if found is not None:
            out[solved] = getattr(found, known)[solved]
        return out

    allocation = (
        full(rho, "pruning_ratio"),
        full(at.b * B, "bandwidth_hz"),
        full(at.p * peak, "tx_power_w"),
    )
    total = problem.cell.total_power_w
    watts = np.inf if total is None else np.broadcast_to(np.asarray(total), (*batch, 1)).reshape(-1)[todo]
    free = cleared.power_price == 0.0  # a cap of 0 W has no price
    per_w = np.divide(cleared.power_price, watts, out=np.zeros_like(cleared.power_price), where=~free)
    merged = Allocation(
        *allocation,
        **outcome(problem, *allocation),
        regime=full(at.regime, "regime", dtype=np.int8, missing=-1),
        price_per_hz=full(cleared.price / B[:, 0], "price_per_hz"),
        price_per_w=full(per_w, "price_per_w"),
        solved=fine,
    )
    return merged, diagnosis
