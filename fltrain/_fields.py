"""Checks of single fields that a user sets: each refusal is one line with the field and its value."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any


def shown(value: Any) -> str:
    """The value on one line, cut where it is long."""
    return " ".join(f"{value!r:.200}".split())


def whole_number(name: str, value: Any, *, least: int) -> int:
    """The value as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {shown(value)}")
    return int(value)


def real_number(name: str, value: Any, what: str, holds: Callable[[float], bool]) -> float:
    """The value as a float; `what` says in words where it `holds`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or not holds(float(value)):
        raise ValueError(f"{name} must be {what}, got {shown(value)}")
    return float(value)


def truth(name: str, value: Any) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless the value is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {shown(value)}")
