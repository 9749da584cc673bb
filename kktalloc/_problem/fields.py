"""What a cell and its devices are: the fields, their units and their ranges.

Field names, units and shapes are those of a scenario file; nothing here knows how a problem is solved.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

from numpy.typing import ArrayLike

from kktalloc._problem.arguments import FINITE
from kktalloc._problem.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class Cell:
    """What the devices of one cell share. Each field is a scalar or an array of the batch shape ``(...)``.

    Parameters
    ----------
    bandwidth_hz
        Uplink bandwidth to divide, > 0.
    noise_psd_w_per_hz
        One-sided noise power spectral density at the receiver, > 0.
    deadline_s
        Time from the start of a round to the last received bit, > 0.
    total_power_w
        Cap on the sum of transmit powers, >= 0, or None for none.
    """

    bandwidth_hz: ArrayLike
    noise_psd_w_per_hz: ArrayLike
    deadline_s: ArrayLike
    total_power_w: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class Devices:
    """The devices. Each field is a scalar or an array that broadcasts to ``(..., K)``; SI units, no dB.

    Parameters
    ----------
    channel_gain
        ``|h|^2``, linear, path loss and array gain included, >= 0.
    tx_power_max_w
        Peak radiated power, >= 0.
    payload_bits
        Upload of the unpruned global part, > 0; a device that keeps the fraction q sends ``q * payload_bits``.
    pruned_compute_s
        Time of the pruned training steps at keep ratio 1, >= 0; proportional to the keep ratio.
    overhead_bits
        Sent whatever is pruned (mask, headers), >= 0.
    fixed_latency_s
        Broadcast, personal steps and probe, >= 0.
    energy_budget_j
        Energy for the round, >= 0; ``inf`` for no limit.
    pruned_compute_j
        Energy of the pruned training steps at keep ratio 1, >= 0.
    fixed_energy_j
        Energy that is spent whatever is decided, >= 0; subtracted from the budget first.
    pa_efficiency
        Radiated power over power drawn by the amplifier, in (0, 1].
    pruning_ratio_max
        The most a device may prune, in [0, 1]; 1 means that it may drop everything.
    weight
        Aggregation weight alpha_k >= 0, normalised to sum 1 over the last axis; None for uniform.
    bandwidth_max_hz
        The most bandwidth that a device can use, >= 0; ``inf`` for no limit.
    circuit_power_w
        Power that the electronics draw while the device sends, >= 0.
    clock_min, clock_max
        Bounds of its processor's clock, > 0, relative to the clock at which the compute times and energies hold: at
        relative clock s computing takes 1/s of the time and s^2 times the energy.
    fixed_compute_s
        Time of the computing that is not pruned, at relative clock 1, >= 0.
    fixed_compute_j
        Its energy at relative clock 1, >= 0; to ``fixed_compute_s`` as ``pruned_compute_j`` to ``pruned_compute_s``.
    name
        Labels, strings, for messages; None for none.
    """

    channel_gain: ArrayLike
    tx_power_max_w: ArrayLike
    payload_bits: ArrayLike
    pruned_compute_s: ArrayLike
    overhead_bits: ArrayLike = 0.0
    fixed_latency_s: ArrayLike = 0.0
    energy_budget_j: ArrayLike = inf
    pruned_compute_j: ArrayLike = 0.0
    fixed_energy_j: ArrayLike = 0.0
    pa_efficiency: ArrayLike = 1.0
    pruning_ratio_max: ArrayLike = 1.0
    weight: ArrayLike | None = None
    bandwidth_max_hz: ArrayLike = inf
    circuit_power_w: ArrayLike = 0.0
    clock_min: ArrayLike = 1.0
    clock_max: ArrayLike = 1.0
    fixed_compute_s: ArrayLike = 0.0
    fixed_compute_j: ArrayLike = 0.0
    name: ArrayLike | None = None


Values = FloatArray | float

# Lower bound, whether it is excluded, upper bound; NaN is outside every interval.
RANGES: dict[str, tuple[float, bool, float]] = {
    "bandwidth_hz": (0.0, True, FINITE),
    "noise_psd_w_per_hz": (0.0, True, FINITE),
    "deadline_s": (0.0, True, FINITE),
    "total_power_w": (0.0, False, FINITE),
    "channel_gain": (0.0, False, FINITE),
    "tx_power_max_w": (0.0, False, FINITE),
    "payload_bits": (0.0, True, FINITE),
    "overhead_bits": (0.0, False, FINITE),
    "pruned_compute_s": (0.0, False, FINITE),
    "fixed_latency_s": (0.0, False, FINITE),
    "energy_budget_j": (0.0, False, inf),
    "pruned_compute_j": (0.0, False, FINITE),
    "fixed_energy_j": (0.0, False, FINITE),
    "pa_efficiency": (0.0, True, 1.0),
    "pruning_ratio_max": (0.0, False, 1.0),
    "weight": (0.0, False, FINITE),
    "bandwidth_max_hz": (0.0, False, inf),
    "circuit_power_w": (0.0, False, FINITE),
    "clock_min": (0.0, True, FINITE),
    "clock_max": (0.0, True, FINITE),
    "fixed_compute_s": (0.0, False, FINITE),
    "fixed_compute_j": (0.0, False, FINITE),
}

CELL = tuple(f.name for f in fields(Cell))
DEVICES = tuple(f.name for f in fields(Devices) if f.name != "name")
"""Those that are numbers."""
OPTIONAL = ("total_power_w", "weight")

_OF_CLOCKS = ("circuit_power_w", "clock_min", "clock_max", "fixed_compute_s", "fixed_compute_j")
CLOCKED = {f.name: f.default for f in fields(Devices) if f.name in _OF_CLOCKS}
"""What says nothing of a clock, by field. Without these a device is the plain one: fixed clock, no electronics, nothing
computed that is not pruned or fixed."""
CLOCK_EXPONENT = 3
"""n: the power of a processor grows as its clock to this, so the energy of a task as clock^(n - 1)."""


def unlimited(name: str) -> bool:
    """Whether a field may be infinite, which is no limit then."""
    return RANGES[name][2] == inf
