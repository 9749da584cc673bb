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

_ASKED = ("problem", "menu", "diagnosis")  # what was asked, and what has a place of its own

if TYPE_CHECKING:
    import pandas as pd

    from kktalloc._questions.diagnosis import Diagnosis

Answer: TypeAlias = Any
"""Any `Judged`, which has this module's functions as methods: its type would close a circle of imports."""


def answer_object(answer: Answer) -> dict[str, Any]:
    """The JSON object: the answer's field names, or `status` and `diagnosis` where there is none.

    In a batch every entry is an array over the problems, with null where a problem has no solution.
    """
    status = np.asarray(answer.status, dtype=object)
    found: dict[str, Any] = {"status": plain(status)}
    if answer.diagnosis is not None:
        found["diagnosis"] = _diagnosis_object(answer.diagnosis)
    if all(s.name == "INFEASIBLE" for s in status.flat):
        return found
    for name in (f.name for f in fields(answer) if f.name not in _ASKED):
        value = getattr(answer, name)
        if name == "regime":
            value = np.vectorize(_regime_name, otypes=[object])(value)
        elif name == "prices":
            prices = {f.name: getattr(value, f.name) for f in fields(value)}
            value = {name: price for name, price in prices.items() if price is not None}
        elif name == "solution":
            value = answer_object(value)
        found[name] = plain(value)
    judged = answer.certificate
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


def answer_frame(answer: Answer) -> pd.DataFrame:
    """One row per device, problem by problem, a column for all that the answer says of each; NaN if infeasible."""
    import pandas as pd  # only for those who ask

    shape = answer.problem.shape
    levels = [*(f"problem_{axis}" for axis in range(len(shape) - 2)), "problem"][: len(shape) - 1]
    where = np.indices(shape).reshape(len(shape), -1)
    index: pd.Index = pd.Index(where[0], name="device")
    if levels:
        index = pd.MultiIndex.from_arrays(list(where), names=[*levels, "device"])
    columns = {name: values.reshape(-1) for name, values in _of_devices(answer).items()}
    if "regime" in columns:
        columns["regime"] = np.array([_regime_name(int(code)) for code in columns["regime"]], dtype=object)
    names = np.asarray(answer.problem.devices.name)
    if (names != "").any():
        columns = {"name": names.reshape(-1), **columns}
    return pd.DataFrame(columns, index=index)


def _of_devices(answer: Answer) -> dict[str, np.ndarray]:
    """The arrays that have an entry for each device; those of the solution that the answer holds come first."""
    held = _of_devices(answer.solution) if hasattr(answer, "solution") else {}
    own = {f.name: np.asarray(getattr(answer, f.name)) for f in fields(answer) if f.name not in (*_ASKED, "solution")}
    return held | {name: values for name, values in own.items() if values.shape == answer.problem.shape}


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
