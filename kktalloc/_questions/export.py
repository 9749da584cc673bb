"""Solutions in other forms: JSON's types, a pandas frame, what a prompt shows."""

from __future__ import annotations

import math
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from kktalloc._certificate.certificate import verdict
from kktalloc._problem.regime import Regime
from kktalloc._problem.shown import Rows, counted, table

if TYPE_CHECKING:
    import pandas as pd

    from kktalloc._questions.diagnosis import Diagnosis

_ARRAYS = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "clock", "objective")

# A `kktalloc.Solution`, which is made of this module's functions: its type would close a circle of imports.
Solution: TypeAlias = Any
Answer: TypeAlias = Any
"""Any `Judged` with the arrays of an allotment."""


def solution_object(solution: Solution) -> dict[str, Any]:
    """The JSON object: the solution's field names, or `status` and `diagnosis` where there is none.

    In a batch every entry is an array over the problems, with null where a problem has no solution.
    """
    status = np.asarray(solution.status, dtype=object)
    found: dict[str, Any] = {"status": plain(status)}
    if solution.diagnosis is not None:
        found["diagnosis"] = _diagnosis_object(solution.diagnosis)
    if all(s.name == "INFEASIBLE" for s in status.flat):
        return found
    found |= {name: plain(getattr(solution, name)) for name in _ARRAYS}
    found["regime"] = plain(np.vectorize(_regime_name, otypes=[object])(solution.regime))
    prices = {f.name: getattr(solution.prices, f.name) for f in fields(solution.prices)}
    found["prices"] = plain({name: price for name, price in prices.items() if price is not None})
    judged = solution.certificate
    found["certificate"] = {"ok": judged.ok} | plain({f.name: getattr(judged, f.name) for f in fields(judged)})
    return found


def _diagnosis_object(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says, `devices` as indices; null stands for "no amount would do"."""
    short = np.asarray(diagnosis.devices)
    return {
        "message": diagnosis.message,
        "devices": plain(np.flatnonzero(short) if short.ndim == 1 else [np.flatnonzero(row) for row in _rows(short)]),
        "resource": plain(diagnosis.resource),
        "bandwidth_needed_hz": plain(diagnosis.bandwidth_needed_hz),
        "deadline_needed_s": plain(diagnosis.deadline_needed_s),
        "total_power_needed_w": plain(diagnosis.total_power_needed_w),
    }


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def _regime_name(code: int) -> str | None:
    return Regime(code).name.lower() if code >= 0 else None


def plain(value: Any) -> Any:
    """`value` in JSON's types: arrays as nested lists, an enum by its name, NaN and infinity as null."""
    if not isinstance(value, Enum) and hasattr(value, "__array__"):  # arrays of any library, and NumPy's numbers
        return plain(np.asarray(value).tolist())
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_PER_DEVICE = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j")


def solution_frame(solution: Solution) -> pd.DataFrame:
    """One row per device, problem by problem; what is infeasible is NaN."""
    import pandas as pd  # only for those who ask

    shape = solution.problem.shape
    levels = [*(f"problem_{axis}" for axis in range(len(shape) - 2)), "problem"][: len(shape) - 1]
    where = np.indices(shape).reshape(len(shape), -1)
    index: pd.Index = pd.Index(where[0], name="device")
    if levels:
        index = pd.MultiIndex.from_arrays(list(where), names=[*levels, "device"])
    columns = {name: np.asarray(getattr(solution, name)).reshape(-1) for name in (*_PER_DEVICE, "clock")}
    columns["regime"] = np.array([_regime_name(int(code)) for code in np.asarray(solution.regime).flat], dtype=object)
    names = np.asarray(solution.problem.devices.name)
    if (names != "").any():
        columns = {"name": names.reshape(-1), **columns}
    return pd.DataFrame(columns, index=index)


def headline(answer: Answer, numbers: str = "") -> str:
    """How the problems of an answer ended, its `numbers`, and the verdict on it."""
    count, devices = answer.problem.sizes
    statuses = [s.name.lower() for s in np.asarray(answer.status, dtype=object).reshape(-1)]
    if answer.problem.shape[:-1]:
        tally = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
        return f"{counted(count, 'problem')} of {counted(devices, 'device')}: {tally}{numbers and f', {numbers}'}"
    if statuses == ["infeasible"]:
        return f"{counted(devices, 'device')}, {answer.diagnosis.message if answer.diagnosis else 'infeasible'}"
    return ", ".join(filter(None, (statuses[0], counted(devices, "device"), numbers, verdict(answer.certificate))))


def device_table(answer: Answer, **columns: Any) -> Rows:
    """What each device of one problem gets, `columns` behind it; of a batch nothing, it would be no table to read."""
    problem = answer.problem
    if problem.shape[:-1] or not np.isfinite(np.asarray(answer.pruning_ratio)).all():
        return ()
    names = (*_PER_DEVICE, "clock") if problem.clocked and hasattr(answer, "clock") else _PER_DEVICE
    arrays = {name: getattr(answer, name) for name in names if hasattr(answer, name)}
    return table("device", [problem.device((k,)) for k in range(problem.shape[-1])], {**arrays, **columns})


def limits(regime: Any) -> np.ndarray:
    """Names of regimes, for a table."""
    return np.array([str(_regime_name(int(code))) for code in np.atleast_1d(regime)], dtype=object)
