"""The planner's side of a cell of `validation.radio`, and the common ratio with every advantage of the planner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain.accounting import mask_keep
from fltrain.adapt import AdaptivePlanner, Build, Choice
from kktalloc._questions.progress import per_second
from kktalloc.plan import most_progress

from ..config import Radio
from ..radio import Phones, cell_of

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
    """From which it chooses, those up to `pruning_ratio_max`."""
    first_possible: bool = False
    """Whether it takes the first of them that is possible instead of the one with the most progress per second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "sparse" not in self.kinds:
            raise ValueError(f"kinds must have sparse in it, got {self.kinds!r}: a common ratio plans no other rounds")

    def choose(self, round_index: int, asked: NDArray[np.int64], work: ft.Workload) -> Choice:
        """The common ratio with the most progress per second, or the first; the round is as short as it allows."""
        curve, weight = self._objective(work)
        ratios = np.array([ratio for ratio in self.ratios if ratio <= self.pruning_ratio_max])
        problems = []
        for ratio in ratios:
            counted = work.as_round("sparse", mask_keep(ratio)) if ratio > 0.0 else work.as_round("sparse").unmasked()
            cell, devices = self.build(round_index, asked, counted)
            limited = replace(devices, pruning_ratio_max=np.full(len(asked), ratio), weight=weight)
            problems.append(ka.Problem(cell, limited, curve))
        least_s = np.array([float(ka.least_deadline(problem)) for problem in problems])
        possible = np.flatnonzero(np.isfinite(least_s))
        if not len(possible):
            raise ValueError(f"round {round_index} is possible at none of the common ratios {self.ratios}")
        share = weight / weight.sum()
        loss = np.array([share @ np.broadcast_to(curve.value(np.full(len(asked), r)), len(asked)) for r in ratios])
        later = self._later(lambda counted: self.build(round_index, asked, counted), work)
        later_s = np.zeros_like(ratios) if later is None else np.asarray(later(np.tile(ratios[:, None], len(asked))))
        power = self.power_of("sparse", work)
        rate = per_second(loss, least_s + later_s, power)
        best = int(possible[0] if self.first_possible else np.argmax(rate))
        found = most_progress({"sparse": problems[best]}, deadline_s=float(least_s[best]))
        choice = Choice.of("sparse", found.deadline_s, found.solution, power, float(later_s[best]))
        return replace(choice, loss=float(loss[best]))
