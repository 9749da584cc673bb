"""The schemes that are compared: who keeps a personal part, who prunes, and how each round is allocated.

Each allocator gets every advantage that its scheme leaves open, so that a difference is the scheme's own:
unpruned rounds share the band for the earliest finish, and the equal scheme picks, knowing the round's
channel as the joint one does, the least common pruning ratio that meets the deadline.

A round that cannot meet its deadline even at the pruning floor takes the least time in which every device
can take part, and is counted as late: nobody is left out, and the time is charged.
A round that could do without pruning ends as soon as that allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kktalloc as ka

from .config import Radio
from .radio import Demand, Phones, problem, uplink_noise_psd_w_per_hz

FloatArray = NDArray[np.float64]

FIXED_RATIO = 0.5
"""Pruning ratio of the schemes that fix it once and for all."""
# A deadline equal to the least feasible one leaves no interior; this much more is 1 us per second.
_SLACK = 1e-6


@dataclass(frozen=True)
class Allocation:
    """What every device does in every round; arrays (R, K) unless stated."""

    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    broadcast_s: FloatArray
    local_s: FloatArray
    """Personal steps and probe."""
    pruned_s: FloatArray
    """Pruned training steps."""
    upload_s: FloatArray
    energy_j: FloatArray
    deadline_s: FloatArray
    """(R,) the deadline that the round was allocated for."""
    late: NDArray[np.bool_]
    """(R,) whether that had to be later than the study's deadline."""
    worst_residual: float
    """Largest normalised residual of the certificate: all KKT conditions for an optimal allocation,
    feasibility alone for one that does not claim to be optimal."""

    @property
    def latency_s(self) -> FloatArray:
        """(R, K) from the start of the round to the last bit of each device."""
        return self.broadcast_s + self.local_s + self.pruned_s + self.upload_s

    def within(self, budget_s: float) -> Allocation:
        """The first rounds, as many as end within `budget_s` of simulated time; at least one."""
        ends = np.cumsum(self.latency_s.max(axis=1))
        # The budget is itself a sum of rounds: rounding and the slack must not cost the last one.
        rounds = max(1, int(np.searchsorted(ends, budget_s * (1 + 2 * _SLACK), side="right")))
        cut: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        cut |= {name: value[:rounds] for name, value in cut.items() if isinstance(value, np.ndarray)}
        return Allocation(**cut)


Allocator = Callable[[Radio, Phones, Demand, float], Allocation]


@dataclass(frozen=True)
class Scheme:
    """One line of the comparison."""

    title: str
    summary: str
    personal: bool
    """Whether part of the model stays on the device."""
    pruned: bool
    """Whether a mask is chosen and sent."""
    allocate: Allocator
    """(radio, phones, demand, deadline_s) -> Allocation."""
    importance: Literal["movement", "magnitude", "taylor", "random"] | None = None
    """Importance score; None: the study's."""


def earliest(
    radio: Radio, phones: Phones, need: Demand, deadline_s: float, *, pruning_ratio: float = 0.0
) -> Allocation:
    """One pruning ratio, 0 by default; the band is shared so that the slowest device finishes as early as possible."""
    least = _least_s(radio, phones, need, pruning_ratio)
    finish = _possible(least, radio, pruning_ratio) * (1 + _SLACK)
    asked = problem(radio, phones, need, finish, pruning_ratio_max=pruning_ratio)
    return _from_solution(need, ka.solve(asked), finish, np.zeros(len(finish), dtype=bool))


def joint(
    radio: Radio,
    phones: Phones,
    need: Demand,
    deadline_s: float,
    *,
    pruning_error: ka.PruningError | None = None,
) -> Allocation:
    """Pruning, bandwidth and power of all devices by the exact solution."""
    limit = radio.pruning_ratio_max
    least = _possible(_least_s(radio, phones, need, limit), radio, limit)
    deadline, late = _round_deadline(deadline_s, least, _least_s(radio, phones, need, 0.0))
    asked = problem(radio, phones, need, deadline, pruning_ratio_max=limit, pruning_error=pruning_error)
    return _from_solution(need, ka.solve(asked), deadline, late)


def allocation_only(radio: Radio, phones: Phones, need: Demand, deadline_s: float) -> Allocation:
    """One pruning ratio for all, the least that meets the deadline with the band shared as well as it can be."""
    limit = radio.pruning_ratio_max
    least = _possible(_least_s(radio, phones, need, limit), radio, limit)
    deadline, late = _round_deadline(deadline_s, least, _least_s(radio, phones, need, 0.0))
    low, high = np.zeros(len(deadline)), np.full(len(deadline), limit)
    for _ in range(30):  # to 1e-9
        middle = (low + high) / 2
        enough = _least_s(radio, phones, need, middle[:, None]) <= deadline
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    asked = problem(radio, phones, need, deadline, pruning_ratio_max=high[:, None])
    return _from_solution(need, ka.solve(asked), deadline, late)


def pruning_only(radio: Radio, phones: Phones, need: Demand, deadline_s: float) -> Allocation:
    """B/K hertz for each; every device prunes as little as meets the deadline within its slice."""
    deadline, late, alone = _alone(radio, phones, need, deadline_s)
    return _from_solution(need, alone, deadline, late)


def equal(radio: Radio, phones: Phones, need: Demand, deadline_s: float) -> Allocation:
    """One pruning ratio for all and B/K hertz for each; power as low as the deadline allows."""
    deadline, late, alone = _alone(radio, phones, need, deadline_s)
    common = alone.pruning_ratio[..., 0].max(axis=-1, keepdims=True)
    return _equal_shares(radio, phones, need, common, deadline, late)


def fixed_equal(radio: Radio, phones: Phones, need: Demand, deadline_s: float) -> Allocation:
    """`FIXED_RATIO` for all in every round and B/K hertz for each; the round ends as early as that allows.

    Nothing adapts to the deadline, so a round is late whenever the slowest device is.
    """
    least = _possible(_least_s(radio, phones, need, FIXED_RATIO, shared_band=False), radio, FIXED_RATIO)
    finish = least * (1 + _SLACK)
    common = np.full((len(finish), 1), FIXED_RATIO)
    return _equal_shares(radio, phones, need, common, finish, finish > deadline_s)


def _equal_shares(
    radio: Radio, phones: Phones, need: Demand, common: FloatArray, deadline: FloatArray, late: NDArray[np.bool_]
) -> Allocation:
    """A common ratio per round, shape (R, 1), and B/K hertz for each; power as low as the round's deadline allows."""
    shape = phones.channel_gain.shape
    ratio = np.broadcast_to(common, shape)
    bandwidth = np.full(shape, radio.bandwidth_hz / shape[-1])
    keep = 1 - ratio
    upload = deadline[:, None] - need.broadcast_s - need.local_s - need.pruned_s * keep
    rate = (need.payload_bits * keep + need.overhead_bits) / upload
    gain = phones.channel_gain / uplink_noise_psd_w_per_hz(radio)
    power = bandwidth / gain * np.expm1(np.log(2) * rate / bandwidth)
    energy = need.local_j + need.pruned_j * keep + power * upload / radio.pa_efficiency
    asked = problem(radio, phones, need, deadline, pruning_ratio_max=common)
    # Only whether the limits are kept is read: no price is searched for a bound on the objective.
    residuals = ka.certify(asked, ratio, bandwidth, power, bandwidth_price_per_hz=0.0).residuals
    infeasible = max(float(np.max(v)) for name, v in residuals.items() if name.startswith("primal_"))
    return _allocation(need, ratio, bandwidth, power, upload, deadline, late, energy, infeasible)


def _alone(
    radio: Radio, phones: Phones, need: Demand, deadline_s: float
) -> tuple[FloatArray, NDArray[np.bool_], ka.Solution]:
    """Deadlines, late rounds and solution, shape (R, K, 1), where everyone has an equal slice of the band."""
    limit = radio.pruning_ratio_max
    least, unpruned = (_least_s(radio, phones, need, r, shared_band=False) for r in (limit, 0.0))
    deadline, late = _round_deadline(deadline_s, _possible(least, radio, limit), unpruned)
    asked = problem(radio, phones, need, deadline[:, None], pruning_ratio_max=limit, shared_band=False)
    return deadline, late, ka.solve(asked)


def unpruned_round_s(radio: Radio, phones: Phones, need: Demand) -> FloatArray:
    """(R,) least time of a round in which nobody prunes, bandwidth shared to that end."""
    return _possible(_least_s(radio, phones, need, 0.0), radio, 0.0)


def _least_s(
    radio: Radio, phones: Phones, need: Demand, pruning_ratio: ArrayLike, *, shared_band: bool = True
) -> FloatArray:
    """(R,) least time of a round in which everyone prunes this much; inf where the energy never suffices."""
    # The deadline is what is asked for here, so that of the problem is of no account.
    asked = problem(radio, phones, need, 1.0, pruning_ratio_max=pruning_ratio, shared_band=shared_band)
    least = np.asarray(ka.least_deadline(asked)).reshape(len(phones.channel_gain), -1)
    return np.asarray(least.max(axis=-1))


def _possible(least: FloatArray, radio: Radio, pruning_ratio: float) -> FloatArray:
    """`least`, or a ValueError: only an energy budget can make a round impossible at any deadline."""
    if not np.isfinite(least).all():
        raise ValueError(
            f"energy_budget_j = {radio.energy_budget_j}: too little for round "
            f"{int(np.argmin(np.isfinite(least)))} at pruning ratio {pruning_ratio:g}"
        )
    return least


def _round_deadline(deadline_s: float, least: FloatArray, unpruned: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(R,) deadlines: the study's, later where infeasible, earlier where no pruning is needed."""
    late = least * (1 + _SLACK) > deadline_s
    return np.clip(deadline_s, least * (1 + _SLACK), unpruned * (1 + _SLACK)), late


def _from_solution(need: Demand, solution: ka.Solution, deadline: FloatArray, late: NDArray[np.bool_]) -> Allocation:
    """From a solution of shape (R, K), or of R x K problems of one device, shape (R, K, 1)."""
    ratio, bandwidth, power, upload, energy = (
        values.reshape(len(deadline), -1)
        for values in (
            solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w, solution.upload_s, solution.energy_j
        )
    )  # fmt: skip
    worst = solution.certificate.worst[1]
    return _allocation(need, ratio, bandwidth, power, upload, deadline, late, energy, worst)


def _allocation(
    need: Demand,
    ratio: FloatArray,
    bandwidth: FloatArray,
    power: FloatArray,
    upload: FloatArray,
    deadline: FloatArray,
    late: NDArray[np.bool_],
    energy: FloatArray,
    worst_residual: float,
) -> Allocation:
    shape = ratio.shape
    return Allocation(
        pruning_ratio=ratio,
        bandwidth_hz=bandwidth,
        tx_power_w=power,
        broadcast_s=np.broadcast_to(need.broadcast_s, shape),
        local_s=np.broadcast_to(need.local_s, shape),
        pruned_s=need.pruned_s * (1 - ratio),
        upload_s=upload,
        energy_j=energy,
        deadline_s=deadline,
        late=late,
        worst_residual=worst_residual,
    )


_SCORES: tuple[tuple[Literal["magnitude", "taylor", "random"], str, str], ...] = (
    ("magnitude", "magnitude", "their size; no probe is run"),
    ("taylor", "Taylor score", "|weight x gradient| over the probe"),
    ("random", "random masks", "chance; no probe is run"),
)

SCHEMES: dict[str, Scheme] = {
    "fedavg": Scheme(
        "FedAvg",
        "whole model shared, nothing pruned, band shared for the earliest finish",
        personal=False,
        pruned=False,
        allocate=earliest,
    ),
    "partial": Scheme(
        "Personal head, unpruned",
        "head stays on the device, nothing pruned, band shared for the earliest finish",
        personal=True,
        pruned=False,
        allocate=earliest,
    ),
    "fixed": Scheme(
        "Fixed pruning",
        f"head stays on the device; everyone always prunes {FIXED_RATIO:g}, band shared for the earliest finish",
        personal=True,
        pruned=True,
        allocate=partial(earliest, pruning_ratio=FIXED_RATIO),
    ),
    "fixed_equal": Scheme(
        "Fixed pruning, equal band",
        f"head stays on the device; everyone always prunes {FIXED_RATIO:g} and has B/K; rounds end when that allows",
        personal=True,
        pruned=True,
        allocate=fixed_equal,
    ),
    "equal": Scheme(
        "Equal pruning, equal band",
        "head stays on the device; one pruning ratio for all, the least that meets the deadline with B/K each",
        personal=True,
        pruned=True,
        allocate=equal,
    ),
    "pruning_only": Scheme(
        "Pruning only",
        "head stays on the device; every device prunes as little as meets the deadline with B/K",
        personal=True,
        pruned=True,
        allocate=pruning_only,
    ),
    "allocation_only": Scheme(
        "Allocation only",
        "head stays on the device; band and power solved, one pruning ratio for all, the least that meets the deadline",
        personal=True,
        pruned=True,
        allocate=allocation_only,
    ),
    "joint": Scheme(
        "Joint allocation",
        "head stays on the device; pruning, bandwidth and power of every device solved exactly",
        personal=True,
        pruned=True,
        allocate=joint,
    ),
    "shared": Scheme(
        "Joint, nothing personal",
        "whole model shared and pruned; pruning, bandwidth and power solved exactly",
        personal=False,
        pruned=True,
        allocate=joint,
    ),
    "quadratic": Scheme(
        "Joint, squared error",
        "as joint, but the objective is sum alpha rho^2: pruning is spread over the devices",
        personal=True,
        pruned=True,
        allocate=partial(joint, pruning_error=ka.PowerLaw(2.0)),
    ),
} | {
    score: Scheme(
        f"Joint, {name}",
        f"as joint, but weights are kept by {meaning}",
        personal=True,
        pruned=True,
        allocate=joint,
        importance=score,
    )
    for score, name, meaning in _SCORES
}
