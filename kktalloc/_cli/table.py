"""A solution for a human."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

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
LIMITS = {
    "FLOOR": "pruning limit",
    "ENERGY": "energy",
    "KINK": "energy and peak power",
    "PEAK": "peak power",
    "SATURATED": "nothing: keeps all",
    "TOTAL_POWER": "total power",
    "BANDWIDTH_MAX": "its bandwidth cap",
    "CLOCK": "energy, clock balanced",
    "CLOCK_MIN": "energy, slowest clock",
    "EARLY_FINISH": "energy, done early",
}


def solution_table(solution: Solution) -> str:
    """For a human: one line per device, the objective, prices and certificate, problem by problem."""
    from kktalloc._problem.regime import Regime

    columns = []
    for heading, name, prefixes in _COLUMNS:
        values = np.asarray(getattr(solution, name))
        top = np.nanmax(np.abs(values), initial=0.0)
        shown = next((p for p, size in prefixes.items() if top >= size), list(prefixes)[-1])
        columns.append((f"{heading}/{shown}", values / prefixes[shown]))
    if solution.problem.clocked:
        columns.append(("clock", np.asarray(solution.clock)))
    judged, lines = solution.certificate, []
    for index in np.ndindex(solution.problem.batch_shape):
        status: Any = np.asarray(solution.status, dtype=object)[index]
        if index:
            lines.append(f"problem {list(index)}: {status.name.lower()}")
        if status.name == "INFEASIBLE":
            continue
        lines.append("device" + "".join(f"{h:>15}" for h, _ in columns) + "  limited by")
        for k, code in enumerate(solution.regime[index]):
            lines.append(
                f"{k:6d}" + "".join(f"{v[index][k]:15.4f}" for _, v in columns) + f"  {LIMITS[Regime(code).name]}"
            )
        lines += ["", f"weighted pruning ratio     {solution.objective[index]:.9f}"]
        lines.append("prices: fall of the objective per unit more")
        for f in fields(solution.prices):
            if (price := getattr(solution.prices, f.name)) is not None:
                lines.append(f"  {f.name:<25}{_numbers(price[index])}")
        lines.append(f"certificate: {'holds' if judged.passed[index] else 'REFUSED'} at {judged.tolerance:g}")
        for name, value in {**judged.residuals, "duality_gap": judged.duality_gap}.items():
            lines.append(f"  {name:<25}{_numbers(value[index])}")
        lines.append("")
    return "".join(f"{line}\n" for line in lines)


def _numbers(values: Any) -> str:
    return " ".join(f"{v:.4g}" for v in np.atleast_1d(values))
