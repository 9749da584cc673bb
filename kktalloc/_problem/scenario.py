"""Scenario files: TOML or JSON, tables `cell` and `devices` with the field names of `Cell` and `Devices`."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import MISSING, fields
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any

from kktalloc._problem.kernel import kernel
from kktalloc._problem.problem import Cell, Devices, Problem, unlimited

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
        return problem_from_tables(_parsed(path))
    except RecursionError:
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
        raise ValueError(f"expected the tables cell and devices, got {_shown(tables)}")
    _known("table", tables, list(_TABLES))
    built: dict[str, Any] = {}
    for table, kind in _TABLES.items():
        if table not in tables:
            raise ValueError(f"missing table {table}")
        content = tables[table]
        if not isinstance(content, dict):
            raise ValueError(f"{table}: expected a table of fields, got {_shown(content)}")
        _known("field", content, [f.name for f in fields(kind)], within=f"{table}.")
        given = {
            k: v if k == "name" else _numbers(f"{table}.{k}", v, unlimited(k))
            for k, v in content.items()
            if v is not None
        }
        for f in fields(kind):
            if f.default is MISSING and f.name not in given:
                raise ValueError(f"missing field {table}.{f.name}")
        built[table] = kind(**given)
    return Problem(built["cell"], built["devices"])


def _parsed(path: str | Path) -> Any:
    """Parsed content of the file; every way to be unreadable becomes a ValueError."""
    try:
        if str(path) == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed")
            # The bytes: JSON is UTF-8 whatever the terminal's language; a stream put in its place may have none.
            stream = getattr(sys.stdin, "buffer", sys.stdin)
            given = stream.read()
            return _json(given.decode("utf-8-sig") if isinstance(given, bytes) else given)
        suffix = Path(path).suffix.lower()
        if suffix not in (".toml", ".json"):
            raise ValueError("a scenario file ends in .toml or .json")
        text = Path(path).read_text(encoding="utf-8-sig")  # editors on some systems write a byte order mark
        return tomllib.loads(text) if suffix == ".toml" else _json(text)
    except OSError as error:
        raise ValueError(f"cannot read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except ValueError as error:
        if "int_max_str_digits" not in str(error):
            raise
        raise ValueError("a whole number has more digits than Python reads") from None


def _json(text: str) -> Any:
    """Strict JSON: no NaN or Infinity literals, no key twice."""

    def constant(literal: str) -> Any:
        raise ValueError(f'not valid JSON: {literal} (write "inf", a string, for no limit)')

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ValueError(f"{key} is given twice")
            seen[key] = value
        return seen

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)


def _known(what: str, given: dict[str, Any], names: list[str], within: str = "") -> None:
    """Refuse a key that is not among `names`, with the nearest one as a suggestion."""
    for key in given:
        if key not in names:
            close = get_close_matches(str(key), names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
            raise ValueError(f"unknown {what} {within}{key:.80} ({hint})")


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
        raise ValueError(f"{field}: expected a number or an array of numbers, got {_shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{field}: a number beyond the range of double precision") from None


def _shape(item: Any) -> tuple[int, ...]:
    """Shape of nested lists that are known to be rectangular."""
    return (len(item), *_shape(item[0])) if isinstance(item, list) else ()


def _shown(value: Any) -> str:
    """A short repr for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
