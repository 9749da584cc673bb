"""The planner's side of a cell of `validation.radio`, and the common ratio with every advantage of the planner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner, Build, Choice

from ..config import Radio
from ..radio import Phones, cell_of

_SLACK = 1e-6
FloatArray = NDArray[np.float64]


def of_phones(radio: Radio, phones: Phones, energy_budget_j: FloatArray | None = None) -> Build:
    """Cell and devices of each round, for the planner; `energy_budget_j` (K,) replaces the radio's budget."""
    cell = cell_of(radio, phones)
    if energy_budget_j is not None:
        cell = replace(cell, phones=replace(cell.phones, energy_budget_j=energy_budget_j))
    return cell.build


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
        if not np.isfinite(least_s).any():
            raise ValueError(f"round {round_index} is possible at none of the common ratios {self.ratios}")
        share = weight / weight.sum()
        loss = np.array(
            [share @ np.broadcast_to(curve.value(np.full(len(asked), r)), len(asked)) for r in ratios[:, 0]]
        )
        best = int(np.argmax((1.0 - loss) / least_s))
        one = slice(best, best + 1)
        solution = ka.solve(problem(one, least_s[one]))
        s = solution
        arrays = [a[0] for a in (s.pruning_ratio, s.latency_s, s.energy_j, s.bandwidth_hz, s.tx_power_w, s.upload_s)]
        return Choice("sparse", float(least_s[best]), float(loss[best]), *arrays)
