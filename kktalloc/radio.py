"""A radio clock for any federated loop: from what a round asks and what phones are to seconds and joules.

Needs no torch. A loop of your own says once what a round costs (`Work`: FLOPs, bits) and what phones are (`Phones`),
and asks each round::

    clock = radio.Clock(cell, phones, broadcast_bit_per_s=2e7)
    cost = clock.unpruned(work, channel_gain)     # everybody sends everything, bandwidth divided to end soonest
    cost = clock.pruned(work, channel_gain)       # the exact joint allocation at the cell's deadline
    seconds, joules = seconds + cost.round_s, joules + cost.energy_j.sum()

``cost.solution.pruning_ratio`` is what each phone prunes. `fltrain` counts the same: `Work.of` takes its workload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._problem.arguments import FINITE, expect, in_range, joint_shape
from kktalloc._problem.arrays import as_float64
from kktalloc._problem.curves import PruningError
from kktalloc._problem.fields import Cell, Devices
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, counted, span, table
from kktalloc._questions.least import least_deadline
from kktalloc._questions.select import select
from kktalloc._questions.solution import Solution, solve

__all__ = [
    "BROADCAST",
    "NO_SERVICE",
    "Audience",
    "Clock",
    "Phones",
    "RoundCost",
    "Work",
    "audience",
    "served",
]

FloatArray = NDArray[np.float64]

NO_SERVICE = "no service"
"""Why a phone is not asked: it has no channel."""
BROADCAST = "broadcast"
"""Why a phone is not asked: its downlink is so slow that waiting for it would cost others the round."""


class Counted(Protocol):
    """What `fltrain.count_workload` returns; arrays (K,)."""

    @property
    def personal_flops(self) -> FloatArray: ...
    @property
    def probe_flops(self) -> FloatArray: ...
    @property
    def dense_flops(self) -> FloatArray: ...
    @property
    def pruned_flops(self) -> FloatArray: ...
    @property
    def payload_bits(self) -> FloatArray: ...
    @property
    def overhead_bits(self) -> FloatArray: ...
    @property
    def broadcast_bits(self) -> FloatArray: ...
    @property
    def weight(self) -> FloatArray: ...


@dataclass(frozen=True)
class Work:
    """What one round asks of each phone; numbers or arrays (K,).

    Parameters
    ----------
    pruned_flops
        Of the training steps that pruning shortens, at keep ratio 1.
    payload_bits
        Of the upload, at keep ratio 1.
    local_flops
        Of what is computed whatever is pruned.
    overhead_bits
        Sent whatever is pruned: headers, masks.
    broadcast_bits
        Of the model that the server sends to all.
    weight
        Of each phone in the aggregation; None for equal ones.
    """

    pruned_flops: ArrayLike
    payload_bits: ArrayLike
    local_flops: ArrayLike = 0.0
    overhead_bits: ArrayLike = 0.0
    broadcast_bits: ArrayLike = 0.0
    weight: ArrayLike | None = None

    def __post_init__(self) -> None:
        """Look at every field."""
        _look_at("work", self)

    @classmethod
    def of(cls, counted: Counted) -> Work:
        """The work that `fltrain.count_workload` has counted."""
        return cls(
            pruned_flops=counted.pruned_flops,
            payload_bits=counted.payload_bits,
            local_flops=counted.personal_flops + counted.probe_flops + counted.dense_flops,
            overhead_bits=counted.overhead_bits,
            broadcast_bits=counted.broadcast_bits,
            weight=counted.weight,
        )


@dataclass(frozen=True)
class Phones:
    """What phones are; numbers or arrays (K,).

    Parameters
    ----------
    flop_per_s
        What a phone's processor sustains: its clock over cycles per FLOP.
    joule_per_flop
        What a FLOP costs: ``kappa f^2`` per cycle of a processor with switched capacitance kappa at clock f, times
        cycles per FLOP.
    tx_power_max_w
        Peak radiated power.
    pa_efficiency
        Radiated over drawn power of the amplifier, in (0, 1].
    energy_budget_j
        For one round; ``inf`` for no limit.
    pruning_ratio_max
        The most a phone may prune, in [0, 1].
    """

    flop_per_s: ArrayLike
    joule_per_flop: ArrayLike
    tx_power_max_w: ArrayLike
    pa_efficiency: ArrayLike = 1.0
    energy_budget_j: ArrayLike = inf
    pruning_ratio_max: ArrayLike = 1.0

    def __post_init__(self) -> None:
        """Look at every field."""
        _look_at("phones", self)


@dataclass(frozen=True, repr=False)
class RoundCost(Shown):
    """One round on the clock.

    Parameters
    ----------
    round_s
        Until the last upload has arrived, shape ``(...)``.
    latency_s, energy_j
        Of every phone, shape ``(..., K)``.
    solution
        The allocation: who prunes how much, with which bandwidth and power, and its certificate.
    """

    round_s: FloatArray
    latency_s: FloatArray
    energy_j: FloatArray
    solution: Solution

    def _shown(self) -> tuple[str, Rows]:
        line, rows = self.solution._shown()
        return f"{span(self.round_s)} s, {span(self.energy_j.sum(axis=-1))} J; {line}", rows


@dataclass(frozen=True)
class Clock:
    """Times rounds of any federated loop.

    Parameters
    ----------
    cell
        Bandwidth, noise and the deadline of pruned rounds.
    phones
        Who takes part.
    broadcast_bit_per_s
        Rate at which the server's model reaches all; a number, or shape ``(...)`` for a batch of rounds.
    """

    cell: Cell
    phones: Phones
    broadcast_bit_per_s: ArrayLike = inf

    def __post_init__(self) -> None:
        """Look at every field."""
        expect("cell", self.cell, Cell)
        expect("phones", self.phones, Phones)
        rate = as_float64("broadcast_bit_per_s", self.broadcast_bit_per_s)
        in_range("broadcast_bit_per_s", rate, *_POSITIVE[:2], inf)

    def problem(self, work: Work, channel_gain: ArrayLike, pruning_error: PruningError | None = None) -> Problem:
        """The allocation problem of a round, or of a batch of rounds.

        Parameters
        ----------
        work
            What the round asks.
        channel_gain
            ``(..., K)`` linear.
        pruning_error
            As in `Problem`.
        """
        return Problem(self.cell, self.devices(work, channel_gain), pruning_error)

    def devices(self, work: Work, channel_gain: ArrayLike) -> Devices:
        """The phones as the allocator takes them; arguments as in `problem`."""
        phones = self.phones
        expect("work", work, Work)
        shapes = {"channel_gain": np.shape(as_float64("channel_gain", channel_gain))}
        for whose, given in (("phones", phones), ("work", work)):
            shapes |= {f"{whose}.{name}": value.shape for name, value in _values(whose, given).items()}
        joint_shape(shapes)
        speed, price, local, pruned = (
            as_float64(name, value)
            for name, value in (
                ("phones.flop_per_s", phones.flop_per_s),
                ("phones.joule_per_flop", phones.joule_per_flop),
                ("work.local_flops", work.local_flops),
                ("work.pruned_flops", work.pruned_flops),
            )
        )
        rate = as_float64("broadcast_bit_per_s", self.broadcast_bit_per_s)[..., None]
        return Devices(
            channel_gain=channel_gain,
            tx_power_max_w=phones.tx_power_max_w,
            payload_bits=work.payload_bits,
            overhead_bits=work.overhead_bits,
            pruned_compute_s=pruned / speed,
            fixed_latency_s=np.max(work.broadcast_bits) / rate + local / speed,
            energy_budget_j=phones.energy_budget_j,
            pruned_compute_j=pruned * price,
            fixed_energy_j=local * price,
            pa_efficiency=phones.pa_efficiency,
            pruning_ratio_max=phones.pruning_ratio_max,
            weight=work.weight,
        )

    def pruned(self, work: Work, channel_gain: ArrayLike, pruning_error: PruningError | None = None) -> RoundCost:
        """A round in which every phone prunes as little as the cell's deadline allows, by the joint optimum.

        Raises
        ------
        InfeasibleError
            Some phone cannot meet the deadline even at its largest pruning ratio.
        """
        return _cost(solve(self.problem(work, channel_gain, pruning_error)))

    def unpruned(self, work: Work, channel_gain: ArrayLike) -> RoundCost:
        """A round in which everybody trains and sends everything, bandwidth divided so that it ends soonest.

        Raises
        ------
        InfeasibleError
            Some phone cannot do it at any deadline: no channel, no power, or too little energy.
        """
        dense = replace(self, phones=replace(self.phones, pruning_ratio_max=0.0))
        shortest = np.asarray(least_deadline(dense.problem(work, channel_gain)))
        # A hair later: at the very edge of feasibility rounding decides. Where none will do, one that is long for all
        # that could, so that what is missing is told of nobody else.
        longest = np.maximum(_FOREVER_S, 1e3 * np.max(shortest, where=np.isfinite(shortest), initial=0.0))
        later = replace(self.cell, deadline_s=np.where(np.isfinite(shortest), shortest * (1.0 + 1e-9), longest))
        return _cost(solve(replace(dense, cell=later).problem(work, channel_gain)))


_FOREVER_S = 1e9
# Least, whether it is excluded, and most, of every field.
_AT_LEAST_0, _POSITIVE = (0.0, False, FINITE), (0.0, True, FINITE)
_LIMITS = {
    "flop_per_s": _POSITIVE,
    "joule_per_flop": _AT_LEAST_0,
    "tx_power_max_w": _AT_LEAST_0,
    "pa_efficiency": (0.0, True, 1.0),
    "energy_budget_j": (0.0, False, inf),
    "pruning_ratio_max": (0.0, False, 1.0),
    "pruned_flops": _AT_LEAST_0,
    "payload_bits": _POSITIVE,
    "local_flops": _AT_LEAST_0,
    "overhead_bits": _AT_LEAST_0,
    "broadcast_bits": _AT_LEAST_0,
    "weight": _AT_LEAST_0,
}


def _values(table: str, given: Phones | Work) -> dict[str, FloatArray]:
    """The fields that are given, as arrays."""
    of = {field.name: getattr(given, field.name) for field in fields(given)}
    return {name: as_float64(f"{table}.{name}", value) for name, value in of.items() if value is not None}


def _look_at(table: str, given: Phones | Work) -> None:
    """A ValueError that names the field, the index and the value that is no number, or out of range."""
    for name, value in _values(table, given).items():
        in_range(f"{table}.{name}", value, *_LIMITS[name])


def _cost(solution: Solution) -> RoundCost:
    latency = np.asarray(solution.latency_s)
    return RoundCost(latency.max(axis=-1), latency, np.asarray(solution.energy_j), solution)


def served(phones: Phones, of: NDArray[np.bool_] | NDArray[np.int64]) -> Phones:
    """The phones that take part in a round: those where `of` (K,) is True, or of these numbers (S,)."""
    expect("phones", phones, Phones)
    if np.asarray(of).dtype.kind not in "biu":
        raise ValueError(f"of: expected numbers of phones, or True and False, got {of!r:.60}")
    changed: dict[str, Any] = {}
    for field in fields(phones):
        value = np.asarray(getattr(phones, field.name))
        changed[field.name] = value[of] if value.ndim else value
    return Phones(**changed)


@dataclass(frozen=True, repr=False)
class Audience(Shown):
    """Whom a round asks.

    Parameters
    ----------
    asked : int (S,)
        Numbers of the phones, ascending.
    missing : str (K,)
        Why each phone is not asked: `NO_SERVICE`, `BROADCAST`, or the resource that `kktalloc.select` names; empty for
        the asked.
    """

    asked: NDArray[np.int64]
    missing: NDArray[np.str_]

    def _shown(self) -> tuple[str, Rows]:
        names = [str(k) for k in range(len(self.missing))]
        return f"{len(self.asked)} of {counted(len(names), 'phone')} asked", table(
            "phone", names, {"not asked for": self.missing}
        )


def audience(
    channel_gain: ArrayLike, problem: Callable[[NDArray[np.int64]], Problem], *, worst_listener: bool = True
) -> Audience:
    """The most phones that a round can serve.

    A broadcast goes at the rate of its worst listener, so that one hopeless phone could cost all others the round:
    audiences are tried from everybody down to the best channel alone, until no smaller one could serve more.

    Parameters
    ----------
    channel_gain
        ``(K,)`` linear; 0 where there is no service.
    problem : callable
        The easiest round for the phones of these numbers (S,): who has no part in a solution of it is not asked.
    worst_listener
        Whether the broadcast waits for the worst listener. Otherwise leaving somebody out helps nobody, and everybody
        is tried only.
    """
    gain = as_float64("channel_gain", channel_gain)
    if gain.ndim != 1:
        raise ValueError(f"channel_gain: shape {gain.shape}, must be (K,)")
    if not callable(problem):
        raise TypeError(f"problem: expected a function of the phones' numbers, got {type(problem).__name__}")
    there = np.flatnonzero(gain > 0)
    by_gain = there[np.argsort(-gain[there], kind="stable")]
    asked, missing = there[:0], np.where(gain > 0, "", NO_SERVICE).astype("<U24")
    for size in range(len(by_gain), 0, -1):
        if size <= len(asked):
            break
        heard = np.sort(by_gain[:size])
        chosen = select(problem(heard))
        kept = np.reshape(chosen.kept, size)
        if kept.sum() > len(asked) or size == len(by_gain):
            asked = heard[kept]
            missing[by_gain[size:]] = BROADCAST
            missing[heard] = np.reshape(chosen.resource, size)
        if not worst_listener:
            break
    return Audience(asked, missing)
