"""A problem as a scenario file that `load_scenario` reads back."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from kktalloc._durable import write_durably
from kktalloc._problem.arguments import expect
from kktalloc._problem.curves import Linear
from kktalloc._problem.fields import Cell, Devices
from kktalloc._problem.problem import Problem


def save_scenario(problem: Problem, path: str | Path) -> None:
    """Write a scenario file, whole or not at all; `load_scenario` reads the same numbers back.

    Fields that have their default value are left out. Weights are written as they are normalised.

    Parameters
    ----------
    problem
        One problem or a batch, with the linear pruning error: a scenario file holds no curve.
    path
        A file that ends in ``.toml`` or ``.json``.

    Raises
    ------
    ValueError
        Another ending, another curve, or no devices.
    OSError
        The file cannot be written.
    """
    expect("problem", problem, Problem)
    suffix = Path(path).suffix.lower()
    if suffix not in (".toml", ".json"):
        raise ValueError(f"{path}: a scenario file ends in .toml or .json")
    if not isinstance(problem.pruning_error, Linear):
        raise ValueError(f"{path}: a scenario file holds no curve, and pruning_error is {problem.pruning_error!r:.80}")
    if 0 in problem.shape:
        raise ValueError(f"{path}: no devices to write, shape {problem.shape}")
    tables = scenario_tables(problem)
    if suffix == ".json":
        text = json.dumps(_finite(tables), indent=2, allow_nan=False) + "\n"
    else:
        text = "\n".join(
            f"[{name}]\n" + "".join(f"{field} = {_toml(value)}\n" for field, value in table.items())
            for name, table in tables.items()
        )
    write_durably(path, text)


def scenario_tables(problem: Problem) -> dict[str, dict[str, Any]]:
    """The tables `cell` and `devices` of a scenario file, as numbers and nested lists; defaults left out."""
    tables: dict[str, dict[str, Any]] = {}
    for name, kind, given in (("cell", Cell, problem._cell), ("devices", Devices, problem._devices)):
        table = tables[name] = {}
        if name == "devices" and (labels := problem.devices.name) is not None and np.asarray(labels).astype(bool).any():
            table["name"] = np.asarray(labels).tolist()
        for field in fields(kind):
            value = given.get(field.name)
            if value is None or _is_default(field, value, problem):
                continue
            if field.name == "channel_gain":  # one field at least tells how many devices there are
                value = np.broadcast_to(value, problem.shape)
            table[field.name] = np.asarray(value).tolist()
    return tables


def _is_default(field: Any, value: Any, problem: Problem) -> bool:
    array = np.asarray(value)
    if field.name == "weight":
        return bool((array == 1.0 / problem.shape[-1]).all())
    if field.default in (MISSING, None) or array.dtype.kind not in "fiub":
        return False
    return bool((array == field.default).all())


def _finite(value: Any) -> Any:
    """JSON has no infinity: there it is a string."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return "inf" if value == math.inf else value


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
