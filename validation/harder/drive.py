"""Rounds along measured drives: who can be asked, what is allocated, and when the uploads really arrive.

An allocation sees the channels of the moment in which its round begins. The uploads then go out at the rates that the
drives allow second by second, silent during handovers and outages, and the server waits for them only so long. Nothing
here depends on training, so a whole run is driven before it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import kktalloc as ka
from kktalloc import channel
from kktalloc.links import Drives, Sent, receive
from kktalloc.radio import audience
from kktalloc.traces import Trace

from ..config import Radio
from ..radio import Demand, Phones, demand, problem, uplink_noise_psd_w_per_hz
from ..schemes import Allocation, Scheme

if TYPE_CHECKING:
    from fltrain import Workload

FloatArray = NDArray[np.float64]
UNSENT = "upload too late"
"""Why an update is missing whose phone was asked for it."""
RETRY_S = 1.0
"""If no phone can be asked the server tries again when the drives' next rows are there."""


@dataclass(frozen=True)
class Fleet:
    """K phones, each on a drive of its own."""

    drives: Drives
    """Where each phone is when the first round begins."""
    cycles_per_flop: FloatArray
    """(K,)."""


@dataclass(frozen=True)
class Rules:
    """How a round goes on the road; the sources are beside the fields of the study's config."""

    radio: Radio
    patience: float
    handover_s: float


@dataclass(frozen=True)
class Journey:
    """What happened in R rounds to K phones; arrays (R, K) unless stated."""

    end_s: FloatArray
    """(R,) since the first round began."""
    planned_s: FloatArray
    """(R,) how long the allocation said that the round would take."""
    asked: NDArray[np.bool_]
    arrived: NDArray[np.bool_]
    missing: NDArray[np.str_]
    """Why there is no update: an outage (see `kktalloc.traces`), what `kktalloc.radio.audience` says, or `UNSENT`;
    empty if arrived."""
    handover: NDArray[np.bool_]
    """Whether the phone is in another cell than in the round before, or was handed over in between."""
    gain: FloatArray
    """Path gain when the round begins."""
    pruning_ratio: FloatArray
    latency_s: FloatArray
    """Of the asked: until their upload arrived, or the server stopped waiting."""
    energy_j: FloatArray
    worst_residual: float
    """Largest normalised residual of the certificates of all rounds, see `schemes.Allocation`."""


def start(traces: tuple[Trace, ...], rules: Rules, horizon_s: float, seed: int) -> Fleet:
    """Phones of one seed: at random on their drives, `horizon_s` or more before the end, with random processors.

    Raises
    ------
    ValueError
        A drive is shorter than the horizon.
    """
    place, chips = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    spare = np.array([trace.duration_s - horizon_s for trace in traces])
    if (spare < 0).any():
        trace = traces[int(np.argmin(spare))]
        raise ValueError(f"drive {trace.name} lasts {trace.duration_s:g} s, horizon_s = {horizon_s:g} is longer")
    offset_s = np.floor(place.uniform(0, 1, len(traces)) * spare)
    radio = rules.radio
    return Fleet(
        Drives(traces, offset_s, radio.antennas, rules.handover_s),
        chips.uniform(*radio.cycles_per_flop, len(traces)),
    )


def go(
    rules: Rules,
    fleet: Fleet,
    workload: Workload,
    scheme: Scheme,
    *,
    deadline_s: float = np.inf,
    static: bool = False,
    rounds: int | None = None,
    until_s: float = np.inf,
) -> Journey:
    """Drive `rounds` rounds, or as many as end by `until_s` (at least one).

    A phone in an outage is not asked. A scheme that prunes asks no more phones than can meet `deadline_s`, by
    `kktalloc.select`; one that does not waits for all. A `static` plan is made once, for the mean gain in dB of every
    drive, and asks whoever is in service.
    """  # fmt: skip
    radio, drives = rules.radio, fleet.drives
    mean_gain = radio.antennas * channel.db_to_linear([trace.mean_gain_db() for trace in drives.traces])
    ever = mean_gain > 0  # a drive may be without any service
    fixed = _allocate(radio, fleet, workload, scheme, mean_gain, ever, deadline_s) if static else None
    table: list[dict[str, NDArray[Any]]] = []
    now, before, worst = 0.0, 0.0, 0.0
    while rounds is None or len(table) < rounds:
        gain, missing = drives.gain(len(table), now), drives.outage(now).astype("<U24")
        asked = gain > 0
        if fixed is not None:
            plan = replace(
                _part(fixed, asked[ever]), broadcast_s=_need(radio, fleet, workload, gain, asked).broadcast_s
            )
        else:
            if scheme.pruned:
                missing, asked = _select(radio, fleet, workload, gain, deadline_s, missing)
            plan = _allocate(radio, fleet, workload, scheme, gain, asked, deadline_s)
        row = _on_the_road(rules, fleet, workload, plan, asked, now)
        missing[asked & ~row["arrived"]] = UNSENT
        moved = drives.handovers(before, now) > 0
        row |= {"missing": missing, "handover": moved, "gain": gain / radio.antennas}
        now, before, worst = float(row["end_s"]), now, max(worst, plan.worst_residual)
        if table and now > until_s:
            break
        table.append(row)
    columns = {f.name: np.array([row[f.name] for row in table]) for f in fields(Journey) if f.name in table[0]}
    return Journey(**columns, worst_residual=worst)


def _phones(fleet: Fleet, gain: FloatArray, of: NDArray[np.bool_]) -> Phones:
    """The chosen phones in one round; neither the distance to a cell nor the mean gain is known from a drive."""
    unknown = np.full(int(of.sum()), np.nan)
    return Phones(unknown, unknown, gain[None, of], fleet.cycles_per_flop[of])


def _need(radio: Radio, fleet: Fleet, workload: Workload, gain: FloatArray, of: NDArray[np.bool_]) -> Demand:
    return demand(radio, _phones(fleet, gain, of), workload.of(of))


def _select(
    radio: Radio, fleet: Fleet, workload: Workload, gain: FloatArray, deadline_s: float, outage: NDArray[np.str_]
) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Why phones are not asked, (K,), and the most that the cell can serve by the deadline, (K,)."""

    def pruned_most(numbers: NDArray[np.int64]) -> ka.Problem:
        heard = np.isin(np.arange(len(gain)), numbers)
        need = _need(radio, fleet, workload, gain, heard)
        return problem(radio, _phones(fleet, gain, heard), need, deadline_s, pruning_ratio_max=radio.pruning_ratio_max)

    found = audience(gain, pruned_most)
    return np.where(gain > 0, found.missing, outage), np.isin(np.arange(len(gain)), found.asked)


def _allocate(
    radio: Radio, fleet: Fleet, workload: Workload, scheme: Scheme, gain: FloatArray, asked: NDArray[np.bool_],
    deadline_s: float,
) -> Allocation:  # fmt: skip
    """The scheme's allocation of one round among the asked, whose arrays are (1, number asked)."""
    if not asked.any():
        none = np.zeros((1, 0))
        return Allocation(none, none, none, none, none, none, none, none, np.zeros(1), np.zeros(1, bool), 0.0)
    need = _need(radio, fleet, workload, gain, asked)
    return scheme.allocate(radio, _phones(fleet, gain, asked), need, deadline_s)


def _part(plan: Allocation, of: NDArray[np.bool_]) -> Allocation:
    """The columns of some phones."""
    cut = {f.name: getattr(plan, f.name) for f in fields(plan)}
    return Allocation(**{n: v[:, of] if np.ndim(v) == 2 else v for n, v in cut.items()})


def _on_the_road(
    rules: Rules, fleet: Fleet, workload: Workload, plan: Allocation, asked: NDArray[np.bool_], now: float
) -> dict[str, NDArray[Any]]:
    """One round's row of a `Journey`: every upload at the rates that its drive allows."""
    radio = rules.radio
    ready = (plan.broadcast_s + plan.local_s + plan.pruned_s)[0]
    bits = workload.payload_bits[asked] * (1 - plan.pruning_ratio[0]) + workload.overhead_bits[asked]
    power = plan.tx_power_w[0]
    planned = float(plan.deadline_s[0])
    sent = Sent(
        np.flatnonzero(asked), ready, plan.upload_s[0], bits, plan.bandwidth_hz[0],
        power / uplink_noise_psd_w_per_hz(radio),
    )  # fmt: skip
    drives = replace(
        fleet.drives, offset_s=np.asarray(fleet.drives.offset_s) + now
    )  # counted from the beginning of this round
    received = receive(drives, sent, 0.0, rules.patience * planned)
    computing = plan.energy_j[0] - power * plan.upload_s[0] / radio.pa_efficiency
    energy = computing + power * received.on_air_s / radio.pa_efficiency
    length = received.until_s.max() if asked.any() else RETRY_S

    def all_phones(values: NDArray[Any]) -> NDArray[Any]:
        full = np.zeros(len(asked), dtype=values.dtype)
        full[asked] = values
        return full

    return {
        "end_s": np.array(now + length),
        "planned_s": np.array(planned),
        "asked": asked,
        "arrived": all_phones(~received.late),
        "pruning_ratio": all_phones(plan.pruning_ratio[0]),
        "latency_s": all_phones(received.until_s),
        "energy_j": all_phones(energy),
    }
