"""Results as JSON holds them, with the field names of the library."""

from __future__ import annotations

import math
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kktalloc import Diagnosis, Solution

_ARRAYS = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "objective")


def solution_object(solution: Solution) -> dict[str, Any]:
    """The JSON object: the solution's field names, or `status` and `diagnosis` where there is none.

    In a batch every entry is an array over the problems, with null where a problem has no solution.
    """
    status = np.asarray(solution.status, dtype=object)
    found: dict[str, Any] = {"status": _plain(status)}
    if solution.diagnosis is not None:
        found["diagnosis"] = _diagnosis_object(solution.diagnosis)
    if all(s.name == "INFEASIBLE" for s in status.flat):
        return found
    found |= {name: _plain(getattr(solution, name)) for name in _ARRAYS}
    found["regime"] = _plain(np.vectorize(_regime_name, otypes=[object])(solution.regime))
    found["prices"] = _plain({f.name: getattr(solution.prices, f.name) for f in fields(solution.prices)})
    judged = solution.certificate
    found["certificate"] = {"ok": judged.ok} | _plain({f.name: getattr(judged, f.name) for f in fields(judged)})
    return found


def _diagnosis_object(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says, `devices` as indices; null stands for "no amount would do"."""
    short = np.asarray(diagnosis.devices)
    return {
        "message": diagnosis.message,
        "devices": _plain(np.flatnonzero(short) if short.ndim == 1 else [np.flatnonzero(row) for row in _rows(short)]),
        "resource": _plain(diagnosis.resource),
        "bandwidth_needed_hz": _plain(diagnosis.bandwidth_needed_hz),
        "deadline_needed_s": _plain(diagnosis.deadline_needed_s),
        "total_power_needed_w": _plain(diagnosis.total_power_needed_w),
    }


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def _regime_name(code: int) -> str | None:
    from kktalloc._problem.regime import Regime

    return Regime(code).name.lower() if code >= 0 else None


def _plain(value: Any) -> Any:
    """`value` in JSON's types: arrays as nested lists, an enum by its name, NaN and infinity as null."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
