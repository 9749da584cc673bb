"""The compiled judge, a fast twin of `kktalloc._certificate.certificate` for the problems that the kernel takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from kktalloc._problem.allocation import Allocation
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.served import CLOCK_TABLES, curve_columns, serving, serving_clocks, serving_floors
from kktalloc._problem.threads import threads_for

# Rows of what `judge` finds, in the order of kernel/problem.h; the gap and the resolution follow.
RESIDUALS = (
    "primal_rate", "primal_energy", "primal_peak_power", "primal_bandwidth", "primal_total_power",
    "primal_pruning", "dual", "complementarity", "stationarity", "consistency",
)  # fmt: skip
# The same of devices with a clock, in the order of kernel/clock_problem.h.
CLOCK_RESIDUALS = (
    "primal_rate", "primal_energy", "primal_peak_power", "primal_bandwidth", "primal_bandwidth_max",
    "primal_total_power", "primal_pruning", "primal_clock", "consistency", "dual", "complementarity", "stationarity",
)  # fmt: skip
_DEVICE_CLAIMS = ("upload_s", "latency_s", "energy_j", "energy_per_j", "peak_power_per_w")
_CLAIMS = frozenset((*_DEVICE_CLAIMS, "objective", "deadline_per_s", "regime"))


def judge(
    problem: Problem,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    per_hz: FloatArray,
    per_w: FloatArray,
    claimed: dict[str, FloatArray],
) -> FloatArray | None:
    """Certificate by the compiled kernel: `RESIDUALS`, gap and resolution stacked, ``(12, ...)``; None if not served.

    `claimed` holds arrays of full shape under the names that `kktalloc.certify` takes.
    """
    module = serving(problem)
    if module is None or not claimed.keys() <= _CLAIMS:
        return None
    verdict = np.empty((len(RESIDUALS) + 2, *problem.batch_shape))
    _call_judge(module, problem, rho, b, p, per_hz, per_w, claimed, verdict, (None, None, None))
    return verdict


def judge_and_price(
    problem: Problem, found: Allocation, threads: int | None = None
) -> tuple[FloatArray, tuple[FloatArray, FloatArray, FloatArray]] | None:
    """The verdict of `judge` on an allocation, and the shadow prices that belong to it, in one pass.

    The prices are those of the deadline, ``(...)``, and of energy and peak power, ``(..., K)``.
    """
    module = serving(problem)
    if module is None:
        return None
    verdict = np.empty((len(RESIDUALS) + 2, *problem.batch_shape))
    per_device = np.empty((2, *problem.shape)) if found.scratch is None else found.scratch
    priced = np.empty(problem.batch_shape), per_device[0], per_device[1]
    claimed = {name: getattr(found, name) for name in ("upload_s", "latency_s", "energy_j", "objective", "regime")}
    allocation = found.pruning_ratio, found.bandwidth_hz, found.tx_power_w, found.price_per_hz, found.price_per_w
    _call_judge(module, problem, *allocation, claimed, verdict, priced, threads)
    return verdict, priced


def judge_and_price_clocks(problem: Problem, found: Allocation) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """The same for devices with a clock: verdict, price of the deadline, and those of energy, peak power, own
    bandwidth, the clock's upper and lower end and circuit power, ``(6, ..., K)``.
    """
    module = serving_clocks(problem)
    if module is None:
        return None
    (N, K), (of_device, of_problem) = problem.sizes, CLOCK_TABLES
    each = (
        found.pruning_ratio, found.bandwidth_hz, found.tx_power_w, found.upload_s, found.latency_s, found.energy_j,
        found.clock,
    )  # fmt: skip
    block, size = np.empty(of_device * N * K + of_problem * N), N * K
    of_devices, of_problems = block[: of_device * size].reshape(of_device, *problem.shape), block[of_device * size :]
    of_problems = of_problems.reshape(of_problem, *problem.batch_shape)
    for table, values in zip(of_devices, each, strict=False):
        table[...] = values
    of_problems[0], of_problems[1] = found.objective, found.price_per_hz
    codes = np.concatenate([np.ravel(_codes(found.regime)), np.zeros(N, np.int8)])  # type: ignore[arg-type]
    module.judge_clocks(
        *problem.columns, problem.clock_columns, curve_columns(problem), N, K, threads_for(size), block, codes
    )
    return of_problems[4:], of_problems[2], of_devices[len(each) :]


def _call_judge(
    module: Any,
    problem: Problem,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    per_hz: FloatArray,
    per_w: FloatArray,
    claimed: dict[str, FloatArray],
    verdict: FloatArray,
    priced: tuple[FloatArray | None, FloatArray | None, FloatArray | None],
    threads: int | None = None,
) -> None:
    N, K = problem.sizes

    def flat(values: FloatArray | None, *size: int) -> FloatArray | None:
        return values if values is None or values.ndim <= len(size) else values.reshape(size)

    module.judge(
        *problem.columns, curve_columns(problem), N, K, threads_for(N * K, threads),
        flat(rho, N, K), flat(b, N, K), flat(p, N, K), flat(per_hz, N), flat(per_w, N),
        *(flat(claimed.get(name), N, K) for name in _DEVICE_CLAIMS),
        flat(claimed.get("objective"), N), flat(claimed.get("deadline_per_s"), N), _codes(claimed.get("regime")),
        verdict, *priced,
    )  # fmt: skip


def _codes(regime: np.ndarray | None) -> np.ndarray | None:
    """Regimes as the kernel takes them; what is no whole small number becomes a code that no regime has."""
    if regime is None or regime.dtype == np.int8:
        return regime
    return np.where(np.isin(regime, list(Regime)), regime, -1).astype(np.int8, order="C")


def gap_of(verdict: FloatArray) -> FloatArray:
    """The duality gap of a verdict, shape ``(...)``."""
    return np.asarray(verdict[len(RESIDUALS)])


def least_cost(
    problem: Problem, rho: FloatArray, b: FloatArray, by_s: FloatArray, per_hz: FloatArray, per_w: FloatArray
) -> FloatArray | None:
    """Bounds on what the uploads cost (`kktalloc._certificate.usage`), shape ``(..., K)``; None if not served."""
    module = serving_floors(problem)
    if module is None:
        return None
    N, K = problem.sizes
    each = (v if v.ndim <= 2 else np.broadcast_to(v, problem.shape).reshape(N, K) for v in (rho, b, per_w))
    cost = np.empty((N, K))
    module.least_cost(*problem.columns, N, K, *each, per_hz.reshape(N), by_s.reshape(N), cost)
    return cost.reshape(problem.shape)
