"""The one protocol through which allocations reach training, and the check of what comes through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from fltrain.accounting import Workload
from fltrain.config import TrainConfig, UpdateKind


@dataclass(frozen=True)
class RoundPlan:
    """One round's allocation, arrays (K,).

    Parameters
    ----------
    pruning_ratio : (K,)
        rho_k in [0, 1].
    latency_s : (K,)
        Time from broadcast to the end of the device's upload.
    energy_j : (K,)
        Energy the device spends in the round.
    participates : bool (K,)
        Who takes part. Entries of the others are ignored, as are devices not selected for the round.
    update : str, optional
        Kind of the round, as in `TrainConfig`; None: the configuration's.
    """

    pruning_ratio: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    participates: NDArray[np.bool_]
    update: UpdateKind | None = None


class Planner(Protocol):
    """Decides a round from its number and workload.

    It should be a pure function of its arguments (seed random channels with `round_index`), so that a resumed
    run sees what an uninterrupted one would have seen.
    """

    def __call__(self, round_index: int, workload: Workload) -> RoundPlan:
        """Plan round `round_index`, counted from 0."""
        ...


def check_plan(plan: RoundPlan, workload: Workload, config: TrainConfig) -> RoundPlan:
    """The plan with arrays of the right type, restricted to selected devices.

    Raises
    ------
    ValueError
        What the planner returned is no plan, or has a wrong entry for a participating device: names field, device and
        value.
    """
    if not isinstance(plan, RoundPlan):
        raise ValueError(_no_plan(plan))
    K = len(workload.selected)
    for name in ("pruning_ratio", "latency_s", "energy_j", "participates"):
        value = getattr(plan, name)
        if np.ma.is_masked(value) or np.asarray(value).dtype.kind not in "biuf":
            raise ValueError(f"plan.{name} must hold one number for each of {K} devices, got {value!r:.200}")
        shape = np.shape(value)
        if shape != (K,):
            raise ValueError(f"plan.{name} must have shape ({K},), got {shape}")
    takes_part = np.asarray(plan.participates)
    odd = np.flatnonzero((takes_part != 0) & (takes_part != 1))
    if odd.size:
        raise ValueError(f"plan.participates[{odd[0]}] must be True or False, got {takes_part[odd[0]]}")
    participates = (takes_part != 0) & workload.selected
    clean = {}
    for name, most in (("pruning_ratio", 1.0), ("latency_s", np.inf), ("energy_j", np.inf)):
        value = np.asarray(getattr(plan, name), dtype=np.float64)
        wrong = participates & ~(np.isfinite(value) & (value >= 0.0) & (value <= most))
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            allowed = "in [0, 1]" if most == 1.0 else "finite and >= 0"
            raise ValueError(f"plan.{name}[{k}] must be {allowed}, got {value[k]}")
        clean[name] = np.where(participates, value, 0.0)
    kind = config.update if plan.update is None else plan.update
    if kind not in get_args(UpdateKind):
        raise ValueError(f"plan.update must be one of {', '.join(get_args(UpdateKind))}, got {kind!r}")
    if kind == "sparse" and config.structure == "units":
        raise ValueError("plan.update must not be sparse when structure is units")
    prunes = np.flatnonzero(clean["pruning_ratio"])
    if prunes.size:
        k, rho = prunes[0], clean["pruning_ratio"][prunes[0]]
        if not config.pruning:
            raise ValueError(f"plan.pruning_ratio[{k}] is {rho}, but the configuration says pruning=False")
        probed = kind != "sparse" and config.importance in ("movement", "taylor")
        if probed and not config.probe_steps:
            raise ValueError(
                f"plan.pruning_ratio[{k}] is {rho}, but importance {config.importance} needs probe_steps >= 1"
            )
    return RoundPlan(participates=participates, update=kind, **clean)


def _no_plan(returned: object) -> str:
    """What to say of something else that a planner returned."""
    said = f"the planner must return a RoundPlan, got {type(returned).__name__}"
    if returned is None:
        return f"{said}: it ends without a return"
    if hasattr(returned, "pruning_ratio") and hasattr(returned, "latency_s"):  # a solution of kktalloc
        return f"{said}: make it RoundPlan(s.pruning_ratio, s.latency_s, s.energy_j, participates) of that solution s"
    return said
