"""What the sliders set: their positions, and the problem and constants that a choice of positions stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf

import numpy as np

from kktalloc import Cell, Devices, Problem
from kktalloc.bound import Constants, Schedule
from kktalloc.channel import w_to_dbm

_STEPS = 80
"""Positions to either side of the start of a logarithmic slider."""
_MOST_DEVICES = 40
_NEGLIGIBLE_S = 1e-9  # of computing: below, a factor on it changes nothing


@dataclass(frozen=True)
class Controls:
    """One position of every slider; SI units but for the two in dBm.

    Parameters
    ----------
    deadline_s, bandwidth_hz
        Of the cell.
    tx_power_dbm
        Peak power of the strongest device; the others keep their ratio to it.
    energy_budget_j
        Largest energy budget per round; the others keep their ratio to it. ``inf``: no device is limited.
    total_power_dbm
        Cap on the sum of powers, or None where the problem has none.
    devices
        The first so many of the problem; beyond its number they are repeated from the first on.
    compute_factor
        Times the problem's own time of the pruned training steps.
    total_time_s
        Of training, all rounds together.
    target
        Of the guarantee on the mean squared gradient.
    smoothness, gradient_noise_var, pruning_radius, heterogeneity, coverage, initial_gap
        Constants of the bound, see `kktalloc.bound.Constants`; the first two hold for both parts of the model.
    local_steps, learning_rate
        As in `kktalloc.bound.Schedule`, for both parts of the model.
    """

    deadline_s: float
    bandwidth_hz: float
    tx_power_dbm: float
    energy_budget_j: float
    total_power_dbm: float | None
    devices: float
    compute_factor: float
    total_time_s: float
    target: float
    smoothness: float = 1.0
    pruning_radius: float = 0.3
    gradient_noise_var: float = 0.1
    heterogeneity: float = 0.1
    coverage: float = 0.9
    initial_gap: float = 2.3  # cross-entropy of ten classes before training, ln 10, rounded
    local_steps: float = 5
    learning_rate: float = 0.02


@dataclass(frozen=True)
class Dial:
    """A slider: its positions in rising order, each with the text that shows it.

    Parameters
    ----------
    field
        Of `Controls`.
    title
        What it is called on the page.
    values, labels
        Positions; no two labels are equal.
    start
        Index of the position at which it stands when the page opens.
    """

    field: str
    title: str
    values: tuple[float, ...]
    labels: tuple[str, ...]
    start: int


@dataclass(frozen=True, eq=False)
class Scenario:
    """The problem that is explored, and where the sliders start.

    Parameters
    ----------
    problem
        One problem, not a batch, with devices, in which somebody may send and some limited device may spend energy.

    Raises
    ------
    ValueError
        One line that says why the problem cannot be explored.
    """

    problem: Problem

    def __post_init__(self) -> None:
        """Refuse what the sliders cannot vary."""
        if self.problem.batch_shape:
            raise ValueError(f"problem: one at a time, got a batch of shape {self.problem.batch_shape}")
        if not self.problem.shape[-1]:
            raise ValueError("devices: there are none, and so nothing to vary")
        if not self._peak_w > 0.0:
            raise ValueError("devices.tx_power_max_w: all zero, there is no power to vary")
        if not self._largest_budget_j > 0.0:
            raise ValueError("devices.energy_budget_j: 0 J wherever it is finite, there is no budget to vary")

    @property
    def _peak_w(self) -> float:
        return float(np.max(self.problem.devices.tx_power_max_w))

    @property
    def _largest_budget_j(self) -> float:
        """Of those that are finite; ``inf`` where none is."""
        budgets = np.asarray(self.problem.devices.energy_budget_j)
        limited = budgets[np.isfinite(budgets)]
        return float(limited.max()) if limited.size else inf

    def start(self, target: float = 1.0) -> Controls:
        """The problem's own numbers, and a training time of 1000 of its rounds."""
        cell = self.problem.cell
        deadline_s = float(np.asarray(cell.deadline_s)[0])
        cap = None if cell.total_power_w is None else float(np.asarray(cell.total_power_w)[0])
        return Controls(
            deadline_s=deadline_s,
            bandwidth_hz=float(np.asarray(cell.bandwidth_hz)[0]),
            tx_power_dbm=float(w_to_dbm(self._peak_w)),
            energy_budget_j=self._largest_budget_j,
            total_power_dbm=float(w_to_dbm(cap)) if cap else None,
            devices=self.problem.shape[-1],
            compute_factor=1.0,
            total_time_s=1000.0 * deadline_s,
            target=target,
        )

    def problem_at(self, controls: Controls) -> Problem:
        """The problem with the sliders there; at `start` it is the given one."""
        own, cell, devices = self.start(), self.problem.cell, self.problem.devices
        index = np.arange(int(controls.devices)) % self.problem.shape[-1]
        changed = {f.name: np.asarray(getattr(devices, f.name))[index] for f in fields(Devices)}
        power = 10.0 ** ((controls.tx_power_dbm - own.tx_power_dbm) / 10.0)
        changed["tx_power_max_w"] = changed["tx_power_max_w"] * power
        changed["pruned_compute_s"] = changed["pruned_compute_s"] * controls.compute_factor
        if np.isinf(own.energy_budget_j) or np.isinf(controls.energy_budget_j):
            changed["energy_budget_j"] = np.full(index.size, controls.energy_budget_j)
        else:
            changed["energy_budget_j"] = changed["energy_budget_j"] * (controls.energy_budget_j / own.energy_budget_j)
        cap = cell.total_power_w
        if cap is not None and controls.total_power_dbm is not None and own.total_power_dbm is not None:
            cap = np.asarray(cap)[0] * 10.0 ** ((controls.total_power_dbm - own.total_power_dbm) / 10.0)
        elif cap is not None:
            cap = np.asarray(cap)[0]
        return Problem(
            Cell(controls.bandwidth_hz, np.asarray(cell.noise_psd_w_per_hz)[0], controls.deadline_s, cap),
            Devices(**changed),
            self.problem.pruning_error,
        )

    def dials(self, target: float) -> tuple[tuple[Dial, ...], tuple[Dial, ...]]:
        """Sliders of the radio and of training time, and those of the bound's constants."""
        at, devices = self.start(target), self.problem.devices
        radio = [
            _logarithmic("deadline_s", "Round deadline", at.deadline_s, 8.0, "s"),
            _logarithmic("bandwidth_hz", "Bandwidth of the cell", at.bandwidth_hz, 16.0, "Hz"),
            _linear("tx_power_dbm", "Peak power of the strongest device", at.tx_power_dbm, (-20.0, 10.0), 0.5, "dBm"),
            self._energy(at),
        ]
        if at.total_power_dbm is not None:
            radio.append(
                _linear("total_power_dbm", "Cap on total power", at.total_power_dbm, (-20.0, 10.0), 0.5, "dBm")
            )
        count = int(at.devices)
        radio.append(
            _listed("devices", f"Devices (repeated beyond {count})", range(1, max(_MOST_DEVICES, count) + 1), count)
        )
        if np.max(devices.pruned_compute_s) > _NEGLIGIBLE_S:
            radio.append(_logarithmic("compute_factor", "Compute time, times the file's", 1.0, 8.0, ""))
        radio.append(_logarithmic("total_time_s", "Training time in all", at.total_time_s, 100.0, "s"))
        radio.append(_logarithmic("target", "Target for the guarantee", at.target, 10.0, ""))
        bound = (
            _logarithmic("smoothness", "Smoothness L", at.smoothness, 32.0, ""),
            _logarithmic("pruning_radius", "Pruning radius D", at.pruning_radius, 32.0, ""),
            _logarithmic("gradient_noise_var", "Gradient noise σ²", at.gradient_noise_var, 100.0, ""),
            _logarithmic("heterogeneity", "Heterogeneity δ²", at.heterogeneity, 100.0, ""),
            _listed("coverage", "Coverage Γ", np.round(np.linspace(0.05, 1.0, 20), 2), at.coverage),
            _logarithmic("initial_gap", "Initial gap F₀ − F*", at.initial_gap, 32.0, ""),
            _listed("local_steps", "Local steps τ", range(1, 21), at.local_steps),
            _logarithmic("learning_rate", "Learning rate η", at.learning_rate, 32.0, ""),
        )
        return tuple(radio), bound

    def _energy(self, at: Controls) -> Dial:
        """Around the largest budget, or the most that a round could cost; the last position is no limit."""
        base = at.energy_budget_j
        if np.isinf(base):
            d = self.problem.devices
            sending = np.asarray(d.tx_power_max_w) / np.asarray(d.pa_efficiency) * at.deadline_s
            base = float(f"{np.max(np.asarray(d.fixed_energy_j) + np.asarray(d.pruned_compute_j) + sending):.3g}")
        title = "Largest energy budget per round"
        dial = _logarithmic("energy_budget_j", title, base, 16.0, "J")
        start = len(dial.values) if np.isinf(at.energy_budget_j) else dial.start
        return Dial(dial.field, dial.title, (*dial.values, inf), (*dial.labels, "no limit"), start)


def bound_inputs(controls: Controls) -> tuple[Constants, Schedule]:
    """What `kktalloc.bound.bound` takes; the number of rounds is for the caller to replace."""
    constants = Constants(
        smoothness_u=controls.smoothness,
        smoothness_v=controls.smoothness,
        gradient_noise_u_var=controls.gradient_noise_var,
        gradient_noise_v_var=controls.gradient_noise_var,
        pruning_radius=controls.pruning_radius,
        heterogeneity=controls.heterogeneity,
        coverage=controls.coverage,
        initial_gap=controls.initial_gap,
    )
    steps, rate = controls.local_steps, controls.learning_rate
    return constants, Schedule(1, steps, steps, rate, rate)


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """`value` to so many significant digits, with the prefix that keeps it between 1 and 1000; seconds take no k."""
    if value == 0.0 or not np.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    prefixes = [(size, p) for size, p in _PREFIXES if unit and not (unit == "s" and size > 1.0)] or [(1.0, "")]
    rounded = float(f"{value:.{digits}g}")
    size, prefix = next((pair for pair in prefixes if abs(rounded) >= pair[0]), prefixes[-1])
    shown = f"{rounded / size:#.{digits}g}".rstrip(".")
    if "e" in shown:
        shown = f"{rounded / size:,.0f}" if abs(rounded / size) >= 1.0 and abs(rounded) < 1e7 else f"{rounded / size:g}"
    return f"{shown} {prefix}{unit}".rstrip()


def _logarithmic(field: str, title: str, base: float, span: float, unit: str) -> Dial:
    """From a `span`-th of `base` to `span` times it; positions have three digits, but `base` is itself."""
    around = (float(f"{base * span ** (i / _STEPS):.3g}") for i in range(-_STEPS, _STEPS + 1))
    values = [base if i == _STEPS else value for i, value in enumerate(around)]
    return Dial(field, title, tuple(values), tuple(with_unit(v, unit) for v in values), _STEPS)


def _linear(field: str, title: str, base: float, reach: tuple[float, float], step: float, unit: str) -> Dial:
    below, above = (round(abs(r) / step) for r in reach)
    values = tuple(base + i * step for i in range(-below, above + 1))
    return Dial(field, title, values, tuple(f"{v:.1f} {unit}" for v in values), below)


def _listed(field: str, title: str, values: Sequence[float] | np.ndarray, start: float) -> Dial:
    listed = [v.item() if isinstance(v, np.generic) else v for v in values]
    return Dial(field, title, tuple(listed), tuple(f"{v:g}" for v in listed), listed.index(start))
