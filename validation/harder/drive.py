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
from kktalloc.traces import Trace

from ..config import Radio
from ..radio import Demand, Phones, demand, problem, uplink_noise_psd_w_per_hz
from ..schemes import Allocation, Scheme

if TYPE_CHECKING:
    from fltrain import Workload

FloatArray = NDArray[np.float64]
UNSENT = "upload too late"
"""Why an update is missing whose phone was asked for it."""
BROADCAST = "broadcast"
"""Why a phone is not asked whose downlink is so slow that waiting for it would cost others the round."""
RETRY_S = 1.0
"""If no phone can be asked the server tries again when the drives' next rows are there."""


@dataclass(frozen=True)
class Fleet:
    """K phones, each on a drive of its own."""

    traces: tuple[Trace, ...]
    offset_s: FloatArray
    """(K,) where on its drive each phone is when the first round begins."""
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
    """Why there is no update: an outage (see `traces`), what `kktalloc.select` says, or `UNSENT`; empty if arrived."""
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


def start(traces: tuple[Trace, ...], radio: Radio, horizon_s: float, seed: int) -> Fleet:
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
    return Fleet(
        traces, np.floor(place.uniform(0, 1, len(traces)) * spare), chips.uniform(*radio.cycles_per_flop, len(traces))
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
    radio = rules.radio
    mean_gain = channel.db_to_linear([trace.mean_gain_db() for trace in fleet.traces])
    ever = mean_gain > 0  # a drive may be without any service
    fixed = _allocate(radio, fleet, workload, scheme, mean_gain, ever, deadline_s)[0] if static else None
    table: list[dict[str, NDArray[Any]]] = []
    now, before, worst = 0.0, None, 0.0
    while rounds is None or len(table) < rounds:
        steps = [trace.step(at) for trace, at in zip(fleet.traces, fleet.offset_s + now, strict=True)]
        gain, missing = (
            np.array([getattr(trace, name)[i] for trace, i in zip(fleet.traces, steps, strict=True)])
            for name in ("gain", "outage")
        )
        served, missing = gain > 0, missing.astype("<U24")
        if fixed is not None:
            asked, plan = served, _part(fixed, served[ever])
            plan = replace(plan, broadcast_s=_need(radio, fleet, workload, gain, served).broadcast_s)
        elif scheme.pruned:
            kept = _select(radio, fleet, workload, gain, served, deadline_s, missing)
            plan, asked = _allocate(radio, fleet, workload, scheme, gain, kept, deadline_s)
        else:
            plan, asked = _allocate(radio, fleet, workload, scheme, gain, served, deadline_s)
        row = _on_the_road(rules, fleet, workload, plan, asked, now)
        missing[asked & ~row["arrived"]] = UNSENT
        past = steps if before is None else before
        moved = [
            bool(t.handover[a + 1 : b + 1].any()) for t, a, b in zip(fleet.traces, past, steps, strict=True)
        ]  # fmt: skip
        row |= {"missing": missing, "handover": np.array(moved), "gain": gain}
        now, before, worst = float(row["end_s"]), steps, max(worst, plan.worst_residual)
        if table and now > until_s:
            break
        table.append(row)
    columns = {f.name: np.array([row[f.name] for row in table]) for f in fields(Journey) if f.name in table[0]}
    return Journey(**columns, worst_residual=worst)


def _phones(radio: Radio, fleet: Fleet, gain: FloatArray, of: NDArray[np.bool_]) -> Phones:
    """The chosen phones in one round; the distance to a cell is not known from a drive."""
    total = radio.antennas * gain[None, of]
    return Phones(np.full(int(of.sum()), np.nan), gain[of], total, fleet.cycles_per_flop[of])


def _need(radio: Radio, fleet: Fleet, workload: Workload, gain: FloatArray, of: NDArray[np.bool_]) -> Demand:
    part = workload.of(of)
    return demand(radio, _phones(radio, fleet, gain, of), part)


def _select(
    radio: Radio, fleet: Fleet, workload: Workload, gain: FloatArray, served: NDArray[np.bool_], deadline_s: float,
    missing: NDArray[np.str_],
) -> NDArray[np.bool_]:  # fmt: skip
    """The most phones that the cell can serve by the deadline, (K,); writes into `missing` why not the others.

    The broadcast goes at the rate of its worst listener, so one hopeless phone could cost all others the deadline:
    audiences are tried from everybody to the best channel alone, until no smaller one could serve more.
    """
    order = np.flatnonzero(served)[np.argsort(-gain[served], kind="stable")]
    kept, why = np.zeros_like(served), missing.copy()
    for size in range(len(order), 0, -1):
        if size <= kept.sum():
            break
        heard = np.isin(np.arange(len(gain)), order[:size])
        phones, need = _phones(radio, fleet, gain, heard), _need(radio, fleet, workload, gain, heard)
        chosen = ka.select(problem(radio, phones, need, deadline_s, pruning_ratio_max=radio.pruning_ratio_max))
        if chosen.kept.sum() > kept.sum() or size == len(order):
            kept = np.zeros_like(served)
            kept[heard] = chosen.kept[0]
            why = np.where(served & ~heard, BROADCAST, missing)
            why[heard] = chosen.resource[0]
    missing[:] = why
    return kept


def _allocate(
    radio: Radio,
    fleet: Fleet,
    workload: Workload,
    scheme: Scheme,
    gain: FloatArray,
    asked: NDArray[np.bool_],
    deadline_s: float,
) -> tuple[Allocation, NDArray[np.bool_]]:
    """The scheme's allocation of one round among the asked, whose arrays are (1, number asked)."""  # fmt: skip
    if not asked.any():
        none = np.zeros((1, 0))
        return Allocation(none, none, none, none, none, none, none, none, np.zeros(1), np.zeros(1, bool), 0.0), asked
    phones, need = _phones(radio, fleet, gain, asked), _need(radio, fleet, workload, gain, asked)
    return scheme.allocate(radio, phones, need, deadline_s), asked


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
    per_gain = radio.antennas * plan.tx_power_w[0] / uplink_noise_psd_w_per_hz(radio)
    phones = np.flatnonzero(asked)
    begin = fleet.offset_s[asked] + now
    done = np.array(
        [
            fleet.traces[k].sent_at(float(begin[i] + ready[i]), bits[i], plan.bandwidth_hz[0, i], per_gain[i],
                                    rules.handover_s)
            for i, k in enumerate(phones)
        ]
    ) - begin  # fmt: skip
    planned = float(plan.deadline_s[0])
    limit = rules.patience * planned
    arrived = done <= limit
    length = (done.max() if arrived.all() else limit) if len(phones) else RETRY_S
    latency = np.minimum(done, limit)
    on_air = np.maximum(0.0, latency - ready)
    computing = plan.energy_j[0] - plan.tx_power_w[0] * plan.upload_s[0] / radio.pa_efficiency
    energy = computing + plan.tx_power_w[0] * on_air / radio.pa_efficiency

    def all_phones(values: NDArray[Any]) -> NDArray[Any]:
        full = np.zeros(len(asked), dtype=values.dtype)
        full[asked] = values
        return full

    return {
        "end_s": np.array(now + length),
        "planned_s": np.array(planned),
        "asked": asked,
        "arrived": all_phones(arrived),
        "pruning_ratio": all_phones(plan.pruning_ratio[0]),
        "latency_s": all_phones(latency),
        "energy_j": all_phones(energy),
    }
