"""The planner's side of a cell of `validation.radio`, and the common ratio with every advantage of the planner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner, Build, Choice
from kktalloc import channel

from ..config import Radio
from ..radio import Phones, demand, uplink_noise_psd_w_per_hz

_SLACK = 1e-6
FloatArray = NDArray[np.float64]


def of_phones(radio: Radio, phones: Phones, energy_budget_j: FloatArray | None = None) -> Build:
    """Cell and devices of each round, for the planner; `energy_budget_j` (K,) replaces the radio's budget."""
    default_j = inf if radio.energy_budget_j is None else radio.energy_budget_j

    def build(round_index: int, asked: NDArray[np.int64], work: ft.Workload) -> tuple[ka.Cell, ka.Devices]:
        gain = phones.channel_gain[round_index, asked]
        here = Phones(
            phones.distance_m[asked], phones.path_gain[asked], gain[None], phones.cycles_per_flop[asked]
        )  # of one round
        need = demand(radio, here, work)
        return ka.Cell(radio.bandwidth_hz, uplink_noise_psd_w_per_hz(radio), 1.0), ka.Devices(
            channel_gain=gain,
            tx_power_max_w=channel.dbm_to_w(radio.tx_power_dbm),
            payload_bits=need.payload_bits,
            overhead_bits=need.overhead_bits,
            pruned_compute_s=need.pruned_s,
            fixed_latency_s=need.broadcast_s[0] + need.local_s,
            energy_budget_j=default_j if energy_budget_j is None else energy_budget_j[asked],
            pruned_compute_j=need.pruned_j,
            fixed_energy_j=need.local_j,
            pa_efficiency=radio.pa_efficiency,
        )

    return build


@dataclass(frozen=True)
class CommonPlanner(AdaptivePlanner):
    """One pruning ratio for all, chosen each round by the planner's own measure; band and power solved."""

    ratios: tuple[float, ...] = tuple(ft.ERROR_RATIOS)
    """From which it chooses, those up to `pruning_ratio_max`; of one alone, every round has that ratio."""

    def choose(self, round_index: int, asked: NDArray[np.int64], work: ft.Workload) -> Choice:
        """The common ratio, of those at which devices report, with the most progress per second."""
        curve, weight = self._objective(work)
        ratios = np.array([ratio for ratio in self.ratios if ratio <= self.pruning_ratio_max])[:, None]
        keep = np.clip(1.0 - ratios, 1e-3, 0.5)

        def problem(i: slice, deadline_s: NDArray[np.float64] | float) -> ka.Problem:
            rows = []
            for ratio, at in zip(ratios[i], keep[i], strict=True):
                counted = work.as_round("sparse", at) if ratio > 0.0 else work.unmasked()
                cell, devices = self.build(round_index, asked, counted)
                rows.append(devices)
            bits = [np.stack([np.broadcast_to(getattr(d, name), len(asked)) for d in rows])
                    for name in ("payload_bits", "overhead_bits")]  # fmt: skip
            devices = replace(
                rows[0], payload_bits=bits[0], overhead_bits=bits[1], pruning_ratio_max=ratios[i], weight=weight
            )
            return ka.Problem(replace(cell, deadline_s=deadline_s), devices)

        every = slice(None)
        least_s = np.asarray(ka.least_deadline(problem(every, np.ones(len(ratios))))) * (1.0 + _SLACK)
        share = weight / weight.sum()
        loss = np.array(
            [share @ np.broadcast_to(curve.value(np.full(len(asked), r)), len(asked)) for r in ratios[:, 0]]
        )
        best = int(np.argmax((1.0 - loss) / least_s))
        one = slice(best, best + 1)
        solution = ka.solve(problem(one, least_s[one]))
        arrays = solution.pruning_ratio[0], solution.latency_s[0], solution.energy_j[0]
        return Choice("sparse", float(least_s[best]), float(loss[best]), *arrays)
