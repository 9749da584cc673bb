"""Allocations that are trained as they are given: by each objective, one of which an unpruned pilot measures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import kktalloc as ka
from kktalloc.bound import Objective, objective

from .. import schemes
from ..radio import Demand, Phones

if TYPE_CHECKING:
    import fltrain as ft

    from ..config import Radio

FloatArray = NDArray[np.float64]
_CURVES: dict[str, ka.PruningError | None] = {
    "linear": None, "power2": ka.PowerLaw(2.0), "power4": ka.PowerLaw(4.0), "power8": ka.PowerLaw(8.0),
}  # fmt: skip
MEASURED = "measured"
NAMES = ("equal", "common", *_CURVES, MEASURED)
"""Equal shares of the band and one ratio; one ratio with the band solved; and the joint optimum of each objective."""


def measure(
    split: ft.Split, config: ft.TrainConfig, shares: list[ft.DeviceData], rounds: int, weight: FloatArray
) -> Any:
    """Curves and weights of the bound's objective: tail sums of unpruned rounds, each by its squared change."""
    import fltrain as ft

    changes: list[ft.Changes] = []

    def watch(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        if workload.changes is not None:
            changes.append(workload.changes)
        return _plan(np.zeros(len(shares)))

    ft.train(split, shares, replace(config, rounds=rounds), watch, progress=False)
    squares = np.mean([c.change_sq[:, None] * c.error for c in changes if np.isfinite(c.change_sq).all()], axis=0)
    return objective("sparse", ft.ERROR_RATIOS, squares, weight, hull="minorant")


def lost(curves: Objective, ratio: FloatArray) -> FloatArray:
    """(rounds,) the measured objective of pruning ratios (rounds, phones)."""
    return np.array([curves.pruning_error.value(each) @ curves.weight for each in ratio])


def allocate(
    name: str, radio: Radio, phones: Phones, need: Demand, deadline_s: FloatArray, curves: Objective
) -> schemes.Allocation:
    """The allocation of this name, see `NAMES`, in rounds of `deadline_s` (rounds,) each."""
    asked: Any = deadline_s  # the schemes take one for each round as well
    if name == "equal":
        return schemes.equal(radio, phones, need, asked)
    if name == "common":
        return schemes.allocation_only(radio, phones, need, asked)
    if name == MEASURED:
        weighted = replace(need, weight=curves.weight)
        return schemes.joint(radio, phones, weighted, asked, pruning_error=curves.pruning_error)
    return schemes.joint(radio, phones, need, asked, pruning_error=_CURVES[name])


def train(split: ft.Split, config: ft.TrainConfig, shares: list[ft.DeviceData], ratio: FloatArray) -> ft.History:
    """Train with these pruning ratios (rounds, phones)."""
    import fltrain as ft

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        return _plan(ratio[round_index])

    return ft.train(split, shares, replace(config, rounds=len(ratio)), planner, progress=False)


def _plan(ratio: FloatArray) -> ft.RoundPlan:
    """Everyone takes part; what time and energy it takes is known without."""
    import fltrain as ft

    nothing = np.zeros(len(ratio))
    return ft.RoundPlan(ratio, nothing, nothing, np.ones(len(ratio), dtype=bool))
