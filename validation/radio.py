"""A seeded cell: where the phones are, how each round's channel fades, how fast they compute, and from all
that the allocation problem of every round at once (batch axis = rounds)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kktalloc as ka
from kktalloc import channel, links
from kktalloc import radio as ka_radio

from .config import Radio

if TYPE_CHECKING:
    from fltrain import Workload
    from fltrain import radio as bridge

FloatArray = NDArray[np.float64]
_T = TypeVar("_T", ka_radio.Phones, ka_radio.Work)

PATH_LOSS = {"macro_3gpp": channel.MACRO_3GPP, "hotzone_3gpp": channel.HOTZONE_3GPP}
"""Path-loss laws by the name that a config uses; shadowing and least distance belong to the law."""


@dataclass(frozen=True)
class Phones:
    """What is drawn once per seed; K devices, R rounds."""

    distance_m: FloatArray
    """(K,) to the base station."""
    path_gain: FloatArray
    """(K,) linear, path loss and shadowing."""
    channel_gain: FloatArray
    """(R, K) linear |h|^2 summed over the antennas, path gain included."""
    cycles_per_flop: FloatArray
    """(K,)."""


def draw_phones(radio: Radio, devices: int, rounds: int, seed: int) -> Phones:
    """Positions, shadowing, per-round fading and processors of one seed.

    Each quantity has its own stream, so a longer study sees the same cell and the same first rounds.
    """
    place, shade, fade, chips = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4))
    law = PATH_LOSS[radio.path_loss]
    distance_m = channel.place_in_annulus(place, devices, radio.cell_radius_m, law.min_distance_m)
    path_gain = law.gain(distance_m) * channel.shadowing(shade, devices, law.shadowing_std_db)
    fading = channel.rayleigh_mrc(fade, (rounds, devices), radio.antennas)
    return Phones(distance_m, path_gain, path_gain * fading, chips.uniform(*radio.cycles_per_flop, devices))


def cell_of(radio: Radio, phones: Phones) -> bridge.Radio:
    """The same cell and phones as `fltrain.radio` takes them: one row of gains a round."""
    from fltrain import radio as bridge  # with torch

    cell = ka.Cell(radio.bandwidth_hz, uplink_noise_psd_w_per_hz(radio), 1.0)
    return bridge.Radio(cell, _handsets(radio, phones), links.Gains(phones.channel_gain), _downlink(radio))


def _handsets(radio: Radio, phones: Phones) -> ka_radio.Phones:
    """Computing is C = cycles_per_flop * FLOPs cycles, C / f seconds and kappa C f^2 joules."""
    return ka_radio.Phones(
        flop_per_s=radio.clock_hz / phones.cycles_per_flop,
        joule_per_flop=radio.switched_capacitance * radio.clock_hz**2 * phones.cycles_per_flop,
        tx_power_max_w=channel.dbm_to_w(radio.tx_power_dbm),
        pa_efficiency=radio.pa_efficiency,
        energy_budget_j=inf if radio.energy_budget_j is None else radio.energy_budget_j,
    )


def _downlink(radio: Radio) -> links.Downlink:
    return links.Downlink(
        float(channel.dbm_to_w(radio.server_tx_power_dbm)),
        radio.bandwidth_hz,
        channel.noise_psd_w_per_hz(noise_figure_db=radio.device_noise_figure_db),
        radio.antennas,
    )


@dataclass(frozen=True)
class Demand:
    """What one round costs each phone before anything is decided; seconds and joules, (R, K) or (K,)."""

    work: ka_radio.Work
    broadcast_s: FloatArray
    """(R, 1): until the device with the worst downlink has the model."""
    local_s: FloatArray
    """(K,) personal steps, probe, and what pruning does not save of the others."""
    local_j: FloatArray
    pruned_s: FloatArray
    """(K,) pruned steps at keep ratio 1."""
    pruned_j: FloatArray
    payload_bits: FloatArray
    overhead_bits: FloatArray
    weight: FloatArray
    """(K,) aggregation weights."""


def demand(radio: Radio, phones: Phones, workload: Workload) -> Demand:
    """Counted work as time and energy on these phones.

    The broadcast is one transmission for all over the whole band, see `links.Downlink`.
    """
    work = ka_radio.Work.of(workload)
    cell = ka.Cell(radio.bandwidth_hz, uplink_noise_psd_w_per_hz(radio), 1.0)
    # A clock without a broadcast: what is left of the fixed time is the phone's own.
    alone = ka_radio.Clock(cell, _handsets(radio, phones)).devices(work, phones.channel_gain)
    rate = _downlink(radio).bit_per_s(phones.channel_gain)
    return Demand(
        work=work,
        broadcast_s=workload.broadcast_bits.max() / rate[..., None],
        local_s=np.asarray(alone.fixed_latency_s),
        local_j=np.asarray(alone.fixed_energy_j),
        pruned_s=np.asarray(alone.pruned_compute_s),
        pruned_j=np.asarray(alone.pruned_compute_j),
        payload_bits=workload.payload_bits,
        overhead_bits=workload.overhead_bits,
        weight=workload.weight,
    )


def uplink_noise_psd_w_per_hz(radio: Radio) -> float:
    """Thermal noise raised by the base station's noise figure."""
    return channel.noise_psd_w_per_hz(noise_figure_db=radio.noise_figure_db)


def problem(
    radio: Radio,
    phones: Phones,
    need: Demand,
    deadline_s: ArrayLike,
    *,
    pruning_ratio_max: ArrayLike,
    shared_band: bool = True,
    pruning_error: ka.PruningError | None = None,
) -> ka.Problem:
    """Allocation problems of all rounds, shape (R, K); `pruning_error` is linear by default, as in the bound.

    With `shared_band` false each device gets an equal slice that it cannot give away: R x K problems of one
    device, shape (R, K, 1). `deadline_s` has the batch shape, or broadcasts to it.
    """
    handsets, work, gain = _handsets(radio, phones), need.work, phones.channel_gain
    rate, band_hz = _downlink(radio).bit_per_s(gain), radio.bandwidth_hz
    if not shared_band:
        handsets, work, gain, rate = _alone(handsets), _alone(work), gain[..., None], rate[:, None]
        band_hz /= len(phones.distance_m)
    clock = ka_radio.Clock(
        ka.Cell(band_hz, uplink_noise_psd_w_per_hz(radio), deadline_s),
        replace(handsets, pruning_ratio_max=pruning_ratio_max),
        rate,
    )
    return clock.problem(work, gain, pruning_error)


def _alone(of: _T) -> _T:
    """Each phone as the only one of a problem: values (K,) as (K, 1)."""
    every = {field.name: getattr(of, field.name) for field in fields(of)}
    return replace(of, **{name: value[:, None] for name, value in every.items() if np.ndim(value)})
