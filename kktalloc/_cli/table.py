"""A solution for a human."""

from __future__ import annotations

from dataclasses import fields
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from kktalloc._command import printable

if TYPE_CHECKING:
    from kktalloc import Solution

_COLUMNS: tuple[tuple[str, str, dict[str, float]], ...] = (  # heading, field, unit prefixes, largest first
    ("pruned", "pruning_ratio", {"%": 1e-2}),
    ("bandwidth", "bandwidth_hz", {"MHz": 1e6, "kHz": 1e3, "Hz": 1.0}),
    ("power", "tx_power_w", {"W": 1.0, "mW": 1e-3, "uW": 1e-6}),
    ("upload", "upload_s", {"s": 1.0, "ms": 1e-3, "us": 1e-6}),
    ("latency", "latency_s", {"s": 1.0, "ms": 1e-3, "us": 1e-6}),
    ("energy", "energy_j", {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6}),
)
_WIDTH = 80  # of a terminal
LIMITS = {
    "FLOOR": "pruning limit",
    "ENERGY": "energy",
    "KINK": "energy, peak power",
    "PEAK": "peak power",
    "SATURATED": "nothing: keeps all",
    "TOTAL_POWER": "total power",
    "BANDWIDTH_MAX": "its bandwidth cap",
    "CLOCK": "energy: balanced",
    "CLOCK_MIN": "energy: least clock",
    "EARLY_FINISH": "energy: done early",
}


def solution_table(solution: Solution) -> str:
    """For a human: one line per device, the objective, prices and certificate, problem by problem."""
    from kktalloc._problem.regime import Regime

    columns = []
    for heading, name, prefixes in _COLUMNS:
        values = np.asarray(getattr(solution, name))
        top = np.nanmax(np.abs(values), initial=0.0)
        shown = next((p for p, size in prefixes.items() if top >= size), list(prefixes)[-1])
        columns.append((heading, shown, values / prefixes[shown]))
    if solution.problem.clocked:
        columns.append(("clock", "", np.asarray(solution.clock)))
    names = np.asarray(solution.problem.devices.name)
    judged, lines = solution.certificate, []
    for index in np.ndindex(solution.problem.batch_shape):
        status: Any = np.asarray(solution.status, dtype=object)[index]
        if index:
            lines.append(f"problem {list(index)}: {status.name.lower()}")
        if status.name == "INFEASIBLE":
            continue
        limits = [LIMITS[Regime(code).name] for code in solution.regime[index]]
        called = [str(name) or str(k) for k, name in enumerate(names[index])]
        table = [_aligned("device", "", called), *(_aligned(h, u, _digits(v[index])) for h, u, v in columns)]
        texts = ["limited by", "", *limits]
        lines += [
            f"{''.join(row)[1:]}  {text}".rstrip() for row, text in zip(zip(*table, strict=True), texts, strict=True)
        ]
        lines += ["", f"weighted pruning ratio     {solution.objective[index]:.9f}"]
        lines.append("prices: fall of the objective per unit more")
        for f in fields(solution.prices):
            if (price := getattr(solution.prices, f.name)) is not None:
                lines += _row(f.name, price[index])
        lines.append(f"certificate: {'holds' if judged.passed[index] else 'REFUSED'} at {judged.tolerance:g}")
        for name, value in {**judged.residuals, "duality_gap": judged.duality_gap}.items():
            lines += _row(name, value[index])
        lines.append("")
    return "".join(f"{line}\n" for line in lines)


def _digits(values: np.ndarray) -> list[str]:
    return [f"{v:.3f}" for v in values]


def _aligned(heading: str, unit: str, cells: list[str]) -> list[str]:
    """A column of text, flush right, a space before it."""
    column = [printable(cell) for cell in (heading, unit, *cells)]
    width = 1 + max(map(len, column))
    return [cell.rjust(width) for cell in column]


def _row(name: str, values: Any) -> list[str]:
    """A name and its numbers, in lines of at most `_WIDTH` characters."""
    numbers = " ".join(f"{v:.4g}" for v in np.atleast_1d(values))
    return wrap(numbers, _WIDTH, initial_indent=f"  {name:<23}", subsequent_indent=" " * 25)
