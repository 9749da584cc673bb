"""The form of a scenario file as JSON Schema, made from the dataclasses: editors complete and check by it."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any

from kktalloc._problem.arguments import FINITE
from kktalloc._problem.fields import RANGES, Cell, Devices


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of scenario files, with every field's meaning, unit and range.

    Write it with ``kktalloc schema > scenario.schema.json``; VS Code (Even Better TOML) then takes
    ``#:schema ./scenario.schema.json`` in the first line of a scenario, and JSON files ``"json.schemas"``.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kktalloc scenario",
        "description": "One allocation problem, or a batch of them in nested arrays. SI units, nothing in dB.",
        "type": "object",
        "properties": {"cell": _table(Cell), "devices": _table(Devices)},
        "required": ["cell", "devices"],
        "additionalProperties": False,
    }


def _table(kind: type[Cell] | type[Devices]) -> dict[str, Any]:
    meanings = _meanings(kind)
    properties, required = {}, []
    for field in fields(kind):
        entry = {"description": meanings[field.name], **_values(field.name)}
        if field.default is MISSING:
            required.append(field.name)
        else:
            if field.default is not None:
                entry["default"] = "inf" if field.default == float("inf") else field.default
            entry["anyOf"] = [*entry["anyOf"], {"type": "null"}]
        properties[field.name] = entry
    said = inspect.getdoc(kind) or ""
    return {
        "description": said.split("\n")[0],
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _values(name: str) -> dict[str, Any]:
    """A number in the field's range, or arrays of them, as deep as a batch is."""
    if name not in RANGES:  # labels
        one: dict[str, Any] = {"type": "string"}
    else:
        low, open_low, high = RANGES[name]
        one = {"type": "number", "exclusiveMinimum" if open_low else "minimum": low}
        if high < FINITE:
            one["maximum"] = high
    choices = [one] if name not in RANGES or RANGES[name][2] <= FINITE else [one, {"const": "inf"}]
    for _ in range(3):
        choices.append({"type": "array", "minItems": 1, "items": {"anyOf": list(choices)}})
    return {"anyOf": choices}


def _meanings(kind: type) -> dict[str, str]:
    """What the docstring's section of parameters says of each field."""
    said = (inspect.getdoc(kind) or "").partition("Parameters\n----------\n")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in said.splitlines():
        if match := re.fullmatch(r"(\w+(?:, \w+)*)(?: : .*)?", line):
            names = match[1].split(", ")
            found |= dict.fromkeys(names, "")
        elif names and line.startswith("    "):
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
        elif line:
            names = []
    return found
