"""The one protocol through which allocations reach training, and the check of what comes through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from fltrain.accounting import Workload
from fltrain.config import TrainConfig, UpdateKind
from kktalloc._problem.shown import Rows, Shown, counted, table


@dataclass(frozen=True, repr=False)
class RoundPlan(Shown):
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
    lost : bool (K,), optional
        Of those who take part, whose upload will come too late or never. They are charged time and energy; nothing of
        theirs is aggregated, and their personal part stays as it was, as with any upload that is left out.
    round_s : float, optional
        How long the round takes; None: until the last latency of those who take part.
    not_asked : str (K,), optional
        Why each of those who do not take part was not asked, for the history; empty for the others, and for devices
        that were not drawn for the round.
    """

    pruning_ratio: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    participates: NDArray[np.bool_]
    update: UpdateKind | None = None
    lost: NDArray[np.bool_] | None = None
    round_s: float | None = None
    not_asked: NDArray[np.str_] | None = None

    def _shown(self) -> tuple[str, Rows]:
        took = np.asarray(self.participates, dtype=bool)
        latency = np.asarray(self.latency_s)[took]
        seconds = latency.max(initial=0.0) if self.round_s is None else self.round_s
        joules = np.asarray(self.energy_j)[took].sum()
        line = f"{took.sum()} of {counted(len(took), 'device')}, {seconds:.4g} s, {joules:.4g} J"
        arrays = {name: getattr(self, name) for name in ("pruning_ratio", "latency_s", "energy_j")}
        why = "" if self.not_asked is None else np.where(self.not_asked == "", "", np.char.add(": ", self.not_asked))
        said = np.where(
            took, "" if self.lost is None else np.where(self.lost, "lost", ""), np.char.add("not asked", why)
        )
        return f"{line}{f', {self.update}' if self.update else ''}", table(
            "device", [str(k) for k in range(len(took))], {**arrays, "remark": said} if said.any() else arrays
        )


class Planner(Protocol):
    """Decides a round from its number and workload.

    It should be a pure function of its arguments (seed random channels with `round_index`), so that a resumed
    run sees what an uninterrupted one would have seen. What came before is among its arguments: `Workload.elapsed_s`,
    `Workload.spent_j` and `Workload.changes`.
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
    for name in ("pruning_ratio", "latency_s", "energy_j", "participates", "lost"):
        value = getattr(plan, name)
        if value is None and name == "lost":
            continue
        if np.ma.is_masked(value) or np.asarray(value).dtype.kind not in "biuf":
            raise ValueError(f"plan.{name} must hold one number for each of {K} devices, got {value!r:.200}")
        shape = np.shape(value)
        if shape != (K,):
            raise ValueError(f"plan.{name} must have shape ({K},), got {shape}")
    participates = _truths("participates", plan.participates) & workload.selected
    lost = np.zeros(K, dtype=np.bool_) if plan.lost is None else _truths("lost", plan.lost) & participates
    clean = {}
    for name, most in (("pruning_ratio", 1.0), ("latency_s", np.inf), ("energy_j", np.inf)):
        value = np.asarray(getattr(plan, name), dtype=np.float64)
        wrong = participates & ~(np.isfinite(value) & (value >= 0.0) & (value <= most))
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            allowed = "in [0, 1]" if most == 1.0 else "finite and >= 0"
            raise ValueError(f"plan.{name}[{k}] must be {allowed}, got {value[k]}")
        clean[name] = np.where(participates, value, 0.0)
    round_s = plan.round_s
    if round_s is not None:
        if np.ndim(round_s) or np.asarray(round_s).dtype.kind not in "iuf" or not 0 <= round_s < np.inf:
            raise ValueError(f"plan.round_s must be finite and >= 0, got {round_s!r:.200}")
        round_s = float(round_s)
    why = plan.not_asked
    if why is not None:
        why = np.asarray(why)
        if why.shape != (K,) or why.dtype.kind != "U":
            raise ValueError(
                f"plan.not_asked must hold one string for each of {K} devices, got {plan.not_asked!r:.200}"
            )
        why = np.where(participates, "", why)
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
    return RoundPlan(participates=participates, update=kind, lost=lost, round_s=round_s, not_asked=why, **clean)


def _truths(name: str, value: NDArray[np.bool_]) -> NDArray[np.bool_]:
    array = np.asarray(value)
    odd = np.flatnonzero((array != 0) & (array != 1))
    if odd.size:
        raise ValueError(f"plan.{name}[{odd[0]}] must be True or False, got {array[odd[0]]}")
    return array != 0


def _no_plan(returned: object) -> str:
    """What to say of something else that a planner returned."""
    said = f"the planner must return a RoundPlan, got {type(returned).__name__}"
    if returned is None:
        return f"{said}: it ends without a return"
    if hasattr(returned, "pruning_ratio") and hasattr(returned, "latency_s"):  # a solution of kktalloc
        return f"{said}: make it RoundPlan(s.pruning_ratio, s.latency_s, s.energy_j, participates) of that solution s"
    return said
