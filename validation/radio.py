"""A seeded cell: where the phones are, how each round's channel fades, how fast they compute, and from all
that the allocation problem of every round at once (batch axis = rounds)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

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
    handsets = ka_radio.Phones(
        flop_per_s=radio.clock_hz / phones.cycles_per_flop,
        joule_per_flop=radio.switched_capacitance * radio.clock_hz**2 * phones.cycles_per_flop,
        tx_power_max_w=channel.dbm_to_w(radio.tx_power_dbm),
        pa_efficiency=radio.pa_efficiency,
        energy_budget_j=inf if radio.energy_budget_j is None else radio.energy_budget_j,
    )
    return bridge.Radio(cell, handsets, links.Gains(phones.channel_gain), _downlink(radio))


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

    Computing is C = cycles_per_flop * FLOPs cycles, C / f seconds and kappa C f^2 joules. The broadcast is one
    transmission for all over the whole band, see `links.Downlink`.
    """
    joule_per_cycle = radio.switched_capacitance * radio.clock_hz**2
    local_flops = workload.personal_flops + workload.probe_flops + workload.dense_flops
    local_cycles = local_flops * phones.cycles_per_flop
    pruned_cycles = workload.pruned_flops * phones.cycles_per_flop
    return Demand(
        broadcast_s=workload.broadcast_bits.max() / _downlink(radio).bit_per_s(phones.channel_gain)[..., None],
        local_s=local_cycles / radio.clock_hz,
        local_j=local_cycles * joule_per_cycle,
        pruned_s=pruned_cycles / radio.clock_hz,
        pruned_j=pruned_cycles * joule_per_cycle,
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
    devices = len(phones.distance_m)

    def lay(values: FloatArray) -> FloatArray:
        full = np.broadcast_to(values, phones.channel_gain.shape)
        return full if shared_band else full[..., None]

    cell = ka.Cell(
        bandwidth_hz=radio.bandwidth_hz if shared_band else radio.bandwidth_hz / devices,
        noise_psd_w_per_hz=uplink_noise_psd_w_per_hz(radio),
        deadline_s=deadline_s,
    )
    return ka.Problem(
        cell,
        ka.Devices(
            channel_gain=lay(phones.channel_gain),
            tx_power_max_w=channel.dbm_to_w(radio.tx_power_dbm),
            payload_bits=lay(need.payload_bits),
            overhead_bits=lay(need.overhead_bits),
            pruned_compute_s=lay(need.pruned_s),
            fixed_latency_s=lay(need.broadcast_s + need.local_s),
            energy_budget_j=inf if radio.energy_budget_j is None else radio.energy_budget_j,
            pruned_compute_j=lay(need.pruned_j),
            fixed_energy_j=lay(need.local_j),
            pa_efficiency=radio.pa_efficiency,
            pruning_ratio_max=pruning_ratio_max,
            weight=lay(need.weight),
        ),
        pruning_error,
    )
