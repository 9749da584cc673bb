"""Scenario files: TOML or JSON, tables `cell` and `devices` with the field names of `Cell` and `Devices`."""

from __future__ import annotations

from dataclasses import MISSING, fields
from math import inf
from pathlib import Path
from typing import Any

from kktalloc._problem.fields import Cell, Devices, unlimited
from kktalloc._problem.kernel import kernel
from kktalloc._problem.problem import Problem
from kktalloc._problem.tables import known, read_tables, shown, table_of

_TABLES: dict[str, type[Cell] | type[Devices]] = {"cell": Cell, "devices": Devices}


def load_scenario(path: str | Path) -> Problem:
    """Read a scenario file.

    A file holds two tables, `cell` and `devices`, with exactly the field names of `kktalloc.Cell` and
    `kktalloc.Devices`. A value is a number or an array of numbers, one per device; nested arrays describe a
    batch of problems. JSON has no infinity: there `energy_budget_j` and `bandwidth_max_hz` take the string
    ``"inf"`` for no limit. `devices.name` holds strings. Null in place of an optional field means that it is not given.

    Parameters
    ----------
    path
        A file that ends in ``.toml`` or ``.json``, or ``-`` for JSON on standard input.

    Returns
    -------
    Problem
        The validated problem.

    Raises
    ------
    ValueError
        One line that names the file, and the table, field and value that are wrong.
    """
    kernel()  # an engine that there is not is no fault of the file
    name = "<stdin>" if str(path) == "-" else str(path)
    try:
        return problem_from_tables(read_tables(path, "a scenario"))
    except RecursionError:  # of an array
        raise ValueError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from None


def problem_from_tables(tables: Any) -> Problem:
    """Build a `Problem` from a parsed scenario file: a dict with the tables `cell` and `devices`.

    Raises
    ------
    ValueError
        One line that names the table, the field and the value that are wrong.
    """
    if not isinstance(tables, dict):
        raise ValueError(f"expected the tables cell and devices, got {shown(tables)}")
    known("table", tables, list(_TABLES))
    built: dict[str, Any] = {}
    for table, kind in _TABLES.items():
        needed = [f.name for f in fields(kind) if f.default is MISSING]
        content = table_of(tables, table, [f.name for f in fields(kind)], needed)
        given = {k: v if k == "name" else _numbers(f"{table}.{k}", v, unlimited(k)) for k, v in content.items()}
        built[table] = kind(**given)
    return Problem(built["cell"], built["devices"])


def _numbers(field: str, value: Any, infinite: bool) -> Any:
    """`value` as a float or nested lists of floats; anything else, and ragged arrays, are refused."""
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{field}: an empty array; at least one device is needed")
        items = [_numbers(f"{field}[{i}]", v, infinite) for i, v in enumerate(value)]
        depths = {_shape(item) for item in items}
        if len(depths) > 1:
            raise ValueError(f"{field}: rows of unequal length")
        return items
    if isinstance(value, str) and infinite and value in ("inf", "+inf", "Infinity"):
        return inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{field}: expected a number or an array of numbers, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{field}: a number beyond the range of double precision") from None


def _shape(item: Any) -> tuple[int, ...]:
    """Shape of nested lists that are known to be rectangular."""
    return (len(item), *_shape(item[0])) if isinstance(item, list) else ()
