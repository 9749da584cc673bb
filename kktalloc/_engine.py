"""Which engine serves a problem: the compiled kernel for the common kind, NumPy for every kind.

The kernel (``kktalloc/kernel``) is built where a C compiler is at hand. It takes linear pruning error without a cap on
total power; it follows the same equations as the NumPy engine, which is the reference, and both meet the same
certificate. The environment variable ``KKTALLOC_ENGINE`` = ``numpy`` or ``compiled`` forces one; ``compiled`` raises
`ImportError` where the kernel is missing.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kktalloc._pruning_error import FloatArray, Linear

if TYPE_CHECKING:
    from kktalloc._problem import Problem

try:
    _KERNEL: Any = import_module("kktalloc._kernel")
except ImportError:
    _KERNEL = None

_SOLVED = 0  # of the states in kernel/problem.h

_HUGE_PAGE = 1 << 21  # bytes
_LARGE = 1 << 19  # entries, of two such pages: from here on NumPy asks for them

# Below this a second thread costs more than it saves.
_THREADED_DEVICES = 16384

# Rows of what `judge` finds, in the order of kernel/problem.h; the gap and the resolution follow.
RESIDUALS = (
    "primal_rate", "primal_energy", "primal_peak_power", "primal_bandwidth", "primal_pruning", "dual",
    "complementarity", "stationarity", "consistency",
)  # fmt: skip
_DEVICE_CLAIMS = ("upload_s", "latency_s", "energy_j", "energy_per_j", "peak_power_per_w")
_CLAIMS = frozenset((*_DEVICE_CLAIMS, "objective", "deadline_per_s", "regime"))


def kernel() -> Any:
    """The compiled module, or None where NumPy serves."""
    wanted = os.environ.get("KKTALLOC_ENGINE", "")
    if wanted not in ("", "numpy", "compiled"):
        raise ValueError(f"KKTALLOC_ENGINE = {wanted}: numpy or compiled")
    if wanted == "compiled" and _KERNEL is None:
        raise ImportError(
            f"KKTALLOC_ENGINE=compiled, but the kktalloc in {Path(__file__).parent} has no compiled kernel: it was"
            " installed without a C compiler, or is a source tree without `pip install -e .`"
        )
    return None if wanted == "numpy" else _KERNEL


def _serving(problem: Problem) -> Any:
    """The kernel if it takes this kind of problem, else None: the one place that decides."""
    common = problem.shape[-1] > 0 and not problem.capped and isinstance(problem.pruning_error, Linear)
    return kernel() if common else None


def _threads(problem: Problem) -> int:
    N, K = problem.sizes
    if N * K < _THREADED_DEVICES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Allocation:
    """What an engine found; arrays of shape ``(..., K)``, or ``(...)`` for objective, prices and ``solved``.

    Where ``solved`` is False the other entries are void: the problem is infeasible, or beyond the kernel, so that NumPy
    has the last word.
    """

    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    upload_s: FloatArray
    latency_s: FloatArray
    energy_j: FloatArray
    objective: FloatArray
    regime: np.ndarray
    price_per_hz: FloatArray
    price_per_w: FloatArray
    solved: np.ndarray
    scratch: FloatArray | None = None  # (2, ..., K), free for what comes next


def _on_huge_pages(shape: tuple[int, ...]) -> FloatArray:
    """An array to be filled that starts on a huge page: memory that the system clears in single pages, as the threads
    come upon it, takes a tenth of the time of a large solution.
    """
    size = 8 * math.prod(shape)
    raw = np.empty((1 - (-size // _HUGE_PAGE)) * _HUGE_PAGE, np.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    return raw[start : start + size].view(np.float64).reshape(shape)


def solve(problem: Problem) -> Allocation | None:
    """Allocation by the compiled kernel, or None where it does not serve."""
    module = _serving(problem)
    if module is None:
        return None
    shape, batch = problem.shape, problem.batch_shape
    new = _on_huge_pages if math.prod(shape) >= _LARGE else np.empty
    rho, b, p, upload, latency, energy = (new(shape) for _ in range(6))
    regime, state = np.empty(shape, np.int8), np.empty(batch, np.int8)
    objective, price, scratch = np.empty(batch), np.empty(batch), new((2, *shape))
    module.solve(
        *problem.columns, *problem.sizes, _threads(problem),
        rho, b, p, upload, latency, energy, regime, objective, price, state, scratch,
    )  # fmt: skip
    solved = np.asarray(state == _SOLVED)
    return Allocation(rho, b, p, upload, latency, energy, objective, regime, price, np.zeros(batch), solved, scratch)


def judge(
    problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, per_hz: FloatArray, claimed: dict[str, FloatArray]
) -> FloatArray | None:
    """Certificate by the compiled kernel: `RESIDUALS`, gap and resolution stacked, ``(11, ...)``; None if not served.

    `claimed` holds arrays of full shape under the names that `kktalloc.certify` takes.
    """
    module = _serving(problem)
    if module is None or not claimed.keys() <= _CLAIMS:
        return None
    verdict = np.empty((len(RESIDUALS) + 2, *problem.batch_shape))
    _call_judge(module, problem, rho, b, p, per_hz, claimed, verdict, (None, None, None))
    return verdict


def judge_and_price(
    problem: Problem, found: Allocation
) -> tuple[FloatArray, tuple[FloatArray, FloatArray, FloatArray]] | None:
    """The verdict of `judge` on an allocation, and the shadow prices that belong to it, in one pass.

    The prices are those of the deadline, ``(...)``, and of energy and peak power, ``(..., K)``.
    """
    module = _serving(problem)
    if module is None:
        return None
    verdict = np.empty((len(RESIDUALS) + 2, *problem.batch_shape))
    per_device = np.empty((2, *problem.shape)) if found.scratch is None else found.scratch
    priced = np.empty(problem.batch_shape), per_device[0], per_device[1]
    claimed = {name: getattr(found, name) for name in ("upload_s", "latency_s", "energy_j", "objective", "regime")}
    allocation = found.pruning_ratio, found.bandwidth_hz, found.tx_power_w, found.price_per_hz
    _call_judge(module, problem, *allocation, claimed, verdict, priced)
    return verdict, priced


def _call_judge(
    module: Any,
    problem: Problem,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    per_hz: FloatArray,
    claimed: dict[str, FloatArray],
    verdict: FloatArray,
    priced: tuple[FloatArray | None, FloatArray | None, FloatArray | None],
) -> None:
    N, K = problem.sizes

    def flat(values: FloatArray | None, *size: int) -> FloatArray | None:
        return values if values is None or values.ndim <= len(size) else values.reshape(size)

    module.judge(
        *problem.columns, N, K, _threads(problem),
        flat(rho, N, K), flat(b, N, K), flat(p, N, K), flat(per_hz, N),
        *(flat(claimed.get(name), N, K) for name in _DEVICE_CLAIMS),
        flat(claimed.get("objective"), N), flat(claimed.get("deadline_per_s"), N), _codes(claimed.get("regime")),
        verdict, *priced,
    )  # fmt: skip


def _codes(regime: np.ndarray | None) -> np.ndarray | None:
    """Regimes as the kernel takes them; what is no whole small number becomes a code that no regime has."""
    if regime is None or regime.dtype == np.int8:
        return regime
    return np.where(np.isin(regime, np.arange(6)), regime, -1).astype(np.int8, order="C")
