"""What is run: one cell that grows with its band, and many cells in one call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import kktalloc as ka
from kktalloc import channel

from ..cases import Case
from ..config import Radio, seeds
from ..radio import Phones, draw_phones

MODULES = ("config", "radio", "scale/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class ScaleStudy:
    """Phones of `Radio`, the work of the MNIST network of the other studies, bandwidth in proportion to phones."""

    name: str = "scale"
    seeds: tuple[int, ...] = seeds(5)
    devices: tuple[int, ...] = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
    cells: tuple[int, ...] = (1, 10, 100, 1000)
    devices_per_cell: int = 100
    bandwidth_per_device_hz: float = 0.5e6
    """As in the other studies: 5 MHz for 10 phones."""
    deadline_s: float = 0.2
    """About the deadline of the MNIST study."""
    payload_bits: float = 32.0 * 108_736
    """784-128-64 without its head, float32."""
    overhead_bits: float = 108_864.0
    pruned_flops: float = 5 * 32 * 6 * 108_736.0
    """Five steps on 32 samples: forward, and backward for weights and inputs."""
    fixed_latency_s: float = 0.02
    """Broadcast and personal steps."""
    pruning_ratio_max: float = 0.95
    admitted_share: float = 10.0
    """A phone takes part if alone, with this many times the mean bandwidth, it can meet the deadline; shadowing leaves
    some of 10^5 phones without any usable link."""


CONFIG = ScaleStudy()


def cases(config: ScaleStudy) -> dict[str, Case]:
    """One case per size and seed, and one per number of cells."""
    found: dict[str, Case] = {
        f"cell{count}-seed{seed}": partial(one_cell, config, count, seed)
        for count in config.devices
        for seed in config.seeds
    }
    return found | {f"cells{count}": partial(many_cells, config, count) for count in config.cells}


def one_cell(config: ScaleStudy, devices: int, seed: int) -> dict[str, Any]:
    """Solve one cell; also with 1 % more bandwidth, which the price predicts."""
    phones, admitted = _phones(config, devices, seed)
    before = _problem(config, phones, 1.0)
    started = time.perf_counter()
    solution = ka.solve(before)
    wall_s = time.perf_counter() - started
    more = ka.solve(_problem(config, phones, 1.01))
    gained = float(solution.objective[0] - more.objective[0])
    extra_hz = 0.01 * float(np.asarray(before.cell.bandwidth_hz)[0, 0])
    return {
        "devices": devices,
        "seed": seed,
        "admitted": admitted,
        "objective": float(solution.objective[0]),
        "gained": gained,
        "gain_predicted": float(np.ravel(solution.prices.bandwidth_per_hz)[0]) * extra_hz,
        "worst_residual": solution.certificate.worst[1],
        "wall_s": wall_s,
    }


def many_cells(config: ScaleStudy, cells: int) -> dict[str, Any]:
    """All cells in one call, and the first ten one by one: the answers must be the same."""
    draws = [_phones(config, config.devices_per_cell, config.seeds[0] + 1000 + i)[0] for i in range(cells)]
    # A batch has one number of devices: every cell gives as many admitted phones as the poorest cell has.
    least = min(len(p.distance_m) for p in draws)
    phones = Phones(*(np.concatenate([_row(p, name, least) for p in draws]) for name in Phones.__dataclass_fields__))
    asked = _problem(config, phones, 1.0)
    started = time.perf_counter()
    solution = ka.solve(asked)
    wall_s = time.perf_counter() - started
    alone = [
        ka.solve(_problem(config, Phones(*(getattr(phones, n)[i : i + 1] for n in Phones.__dataclass_fields__)), 1.0))
        for i in range(min(cells, 10))
    ]
    away = max(float(abs(s.objective[0] - solution.objective[i])) for i, s in enumerate(alone))
    return {
        "cells": cells,
        "devices": least,
        "objective": float(solution.objective.mean()),
        "largest_difference": away,
        "worst_residual": solution.certificate.worst[1],
        "wall_s": wall_s,
    }


def _row(phones: Phones, name: str, count: int) -> Any:
    """The first `count` phones of one cell as a batch of one."""
    return np.atleast_2d(getattr(phones, name))[:, :count]


def _phones(config: ScaleStudy, devices: int, seed: int) -> tuple[Phones, float]:
    """Phones that can take part, and their share of all."""
    drawn = draw_phones(Radio(), devices, 1, seed)
    alone = Phones(drawn.distance_m, drawn.path_gain, drawn.channel_gain.T, drawn.cycles_per_flop[:, None])
    single = _problem(config, alone, config.admitted_share)
    able = np.asarray(ka.least_deadline(single)) <= config.deadline_s
    kept = Phones(
        drawn.distance_m[able], drawn.path_gain[able], drawn.channel_gain[:, able], drawn.cycles_per_flop[able]
    )
    return kept, float(able.mean())


def _problem(config: ScaleStudy, phones: Phones, band: float) -> ka.Problem:
    """Cells in rows, with `band` times the band that the phones of one row have together."""
    shape = phones.channel_gain.shape
    compute = config.pruned_flops * np.broadcast_to(phones.cycles_per_flop, shape) / Radio().clock_hz
    cell = ka.Cell(
        bandwidth_hz=band * config.bandwidth_per_device_hz * shape[1],
        noise_psd_w_per_hz=channel.noise_psd_w_per_hz(noise_figure_db=Radio().noise_figure_db),
        deadline_s=np.full(shape[0], config.deadline_s),
    )
    devices = ka.Devices(
        channel_gain=phones.channel_gain,
        tx_power_max_w=channel.dbm_to_w(Radio().tx_power_dbm),
        payload_bits=config.payload_bits,
        overhead_bits=config.overhead_bits,
        pruned_compute_s=compute,
        fixed_latency_s=config.fixed_latency_s,
        pruning_ratio_max=config.pruning_ratio_max,
    )
    return ka.Problem(cell, devices)
