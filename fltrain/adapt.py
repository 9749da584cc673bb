"""The planner that asks `kktalloc` every round: kind of the round, deadline and allocation, from what devices reported.

`kktalloc.plan.most_progress` chooses: the round that makes the most progress per second, (1 - E)^power / T, where E is
the share of the devices' squared change that pruning loses. Here problems are made from workloads: weights are the
devices' squared changes, curves their error curves, both as last reported, and masks are counted at the ratios that are
found. Where only what moved is broadcast, T counts the broadcast that a round causes, not the one it begins with. A
round in which nobody prunes, E = 0, is always among those it chooses from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

import kktalloc as ka
from fltrain._fields import one_of, real_number, shown, whole_number
from fltrain.accounting import Workload, mask_keep
from fltrain.config import UpdateKind
from fltrain.curve import ERROR_RATIOS, FROZEN_POWER, Changes
from fltrain.plan import RoundPlan
from kktalloc._problem.shown import Rows, Shown, table
from kktalloc._questions.progress import Later, per_second
from kktalloc.plan import most_progress
from kktalloc.radio import audience

__all__ = [
    "AdaptivePlanner",
    "Build",
    "Choice",
]

Kind = Literal["sparse", "frozen"]
Progress = Literal["total", "each"]
Build = Callable[[int, NDArray[np.int64], Workload], tuple[ka.Cell, ka.Devices]]
"""Makes cell and devices of a round's number, the numbers (S,) of the devices that are asked, and their workload. The
devices come in this order; deadline and weights are replaced by the planner's. What a broadcast takes of
`fixed_latency_s` is to be in proportion to ``workload.broadcast_bits``."""
_UNPRUNED = "unpruned"
_FOREVER_S = 1e9
_MADE_UP_FOR, _LOST = 0.25, 0.5  # powers of what a round keeps, by what becomes of the rest
_Built = Callable[[Workload], tuple[ka.Cell, ka.Devices]]


@dataclass(frozen=True, repr=False)
class Choice(Shown):
    """A round that could be planned; arrays (S,) over the devices that are asked.

    Parameters
    ----------
    update : str, or None
        Kind of the round; None: as the run is configured.
    deadline_s : float
        For which it was allocated.
    loss : float
        Share of the squared change that pruning loses, as far as it is known.
    pruning_ratio, latency_s, energy_j : float64 (S,)
        As in `RoundPlan`.
    bandwidth_hz, tx_power_w, upload_s : float64 (S,)
        How each device sends, and how long.
    power : float
        Of the kept share, as progress counts it.
    later_s : float
        How much longer the next broadcast takes than this one, as far as it is known.
    """

    update: UpdateKind | None
    deadline_s: float
    loss: float
    pruning_ratio: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    bandwidth_hz: NDArray[np.float64]
    tx_power_w: NDArray[np.float64]
    upload_s: NDArray[np.float64]
    power: float = 1.0
    later_s: float = 0.0

    def _shown(self) -> tuple[str, Rows]:
        names = ("pruning_ratio", "latency_s", "energy_j", "bandwidth_hz", "tx_power_w", "upload_s")
        asked = [str(k) for k in range(len(self.pruning_ratio))]
        line = f"{self.update or 'as configured'}, deadline {self.deadline_s:.4g} s, loss {self.loss:.4g}"
        return line, table("asked", asked, {name: getattr(self, name) for name in names})

    @classmethod
    def of(
        cls,
        update: UpdateKind | None,
        deadline_s: float,
        solution: ka.Solution,
        power: float = 1.0,
        later_s: float = 0.0,
    ) -> Choice:
        """The round that a solution of one problem says."""
        names = ("pruning_ratio", "latency_s", "energy_j", "bandwidth_hz", "tx_power_w", "upload_s")
        arrays = {name: np.asarray(getattr(solution, name)) for name in names}
        return cls(update, deadline_s, float(np.asarray(solution.objective)), power=power, later_s=later_s, **arrays)

    @property
    def progress_per_s(self) -> float:
        """What the planner maximises: the kept share of a whole round's progress, per second now and later."""
        return float(per_second(self.loss, self.deadline_s + self.later_s, self.power))


@dataclass(frozen=True)
class AdaptivePlanner:
    """Plans each round for the most progress per second; a pure function of its arguments.

    A device that no round can serve, for want of energy, of a channel or of time, is left out of this one.

    Parameters
    ----------
    build : callable
        Cell, devices and channels, see `Build`.
    kinds : sequence of str
        Kinds of pruned rounds to choose from, whatever ``TrainConfig.update`` says. The mask of a frozen round is
        chosen by a probe, before training, so that it loses more than a sparse upload would: `FROZEN_POWER`; where the
        configuration has no probe, frozen rounds are left out if there is another kind. Zeroed rounds are none: zeroing
        changes the gradient of the weights that are kept, which no curve of the change tells.
    pruning_ratio_max : float
        No device is asked to prune more, in [0, 1); at 0 nobody prunes.
    first : pruning-error curve
        Of every device in sparse rounds, until some have reported; its value to the power `FROZEN_POWER` in frozen
        ones.
    deadline_s : callable, optional
        Deadline of a round from its number, in place of the planner's choice; if the round is not possible by then, the
        least that is.
    curve : pruning-error curve, optional
        Of every device and kind of round, in place of what they report.
    points : int
        Deadlines in each scan of the search, see `kktalloc.plan.most_progress`.
    progress : str
        What a round keeps. ``"total"``: of all devices' squared change, so that whose change is large counts most.
        ``"each"``: of each device's own, averaged by weight.
    progress_power : float, or mapping from kinds to floats that has each of `kinds`, optional
        In (0, 1]: power of what a round keeps, in its progress, see `kktalloc.plan.most_progress`. Default: 0.25 for
        sparse rounds where devices keep what they do not send (``TrainConfig.error_feedback``): later rounds make up
        for most of what one loses, measured to first order on digits (``python -m validation.kinds.kept``). 0.5 for all
        other rounds, by trials.

    Raises
    ------
    ValueError
        An argument out of range, or a `build` that does not return cell and devices: names the field and the value.
    InfeasibleError
        Asked for a round that not even the hardest pruning makes possible for any device.
    """

    build: Build
    kinds: Sequence[Kind] = ("sparse", "frozen")
    pruning_ratio_max: float = 0.99
    first: ka.PruningError = field(default_factory=lambda: ka.PowerLaw(8.0))
    deadline_s: Callable[[int], float] | None = None
    curve: ka.PruningError | None = None
    points: int = 24
    progress: Progress = "total"
    progress_power: float | Mapping[Kind, float] | None = None

    def __post_init__(self) -> None:  # noqa: D105
        if not callable(self.build):
            raise ValueError(f"build must be a function of round, devices and workload, got {self.build!r:.200}")
        allowed = ", ".join(get_args(Kind))
        listed = isinstance(self.kinds, Sequence) and not isinstance(self.kinds, str)
        if not listed or not self.kinds or any(kind not in get_args(Kind) for kind in self.kinds):
            raise ValueError(f"kinds must be a sequence of {allowed}, one at least, got {self.kinds!r}")
        real_number("pruning_ratio_max", self.pruning_ratio_max, "in [0, 1)", lambda value: 0.0 <= value < 1.0)
        if self.deadline_s is not None and not callable(self.deadline_s):
            raise ValueError(f"deadline_s must be a function of the round's number, got {self.deadline_s!r:.200}")
        for name in ("first", "curve"):
            given = getattr(self, name)
            if not (callable(getattr(given, "value", None)) or (name == "curve" and given is None)):
                raise ValueError(f"{name} must be a pruning-error curve, got {given!r:.200}")
        one_of("progress", self.progress, get_args(Progress))
        self._check_powers()
        whole_number("points", self.points, least=2)

    def __call__(self, round_index: int, workload: Workload) -> RoundPlan:
        """Plan one round of the selected devices that it can serve."""
        asked = self.served(round_index, workload)
        best = self.choose(round_index, asked, workload.of(asked))
        plan = np.zeros((3, len(workload.selected)))
        plan[:, asked] = best.pruning_ratio, best.latency_s, best.energy_j
        participates = np.zeros_like(workload.selected)
        participates[asked] = True
        return RoundPlan(plan[0], plan[1], plan[2], participates, best.update)

    def served(self, round_index: int, workload: Workload) -> NDArray[np.int64]:
        """Numbers of the selected devices that a round can serve; of all selected if it can serve none."""
        selected = np.flatnonzero(workload.selected)
        patient = replace(self, deadline_s=None)  # too short a deadline is made longer and costs nobody the round

        def easiest(heard: NDArray[np.int64]) -> ka.Problem:
            return patient.possible(round_index, selected[heard], workload.of(selected[heard]))

        gain = np.broadcast_to(easiest(np.arange(len(selected))).devices.channel_gain, len(selected))
        kept = audience(gain, easiest).asked
        return selected[kept] if len(kept) else selected

    def choose(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> Choice:
        """The best round for these devices, whose workload `work` is."""
        fixed_s, kinds = self._fixed_s(round_index), self._kinds(work)
        built = partial(self._built, round_index, asked)
        later = self._later(built, work)
        rounds: dict[str, ka.Problem] = {}
        refused: list[ka.InfeasibleError] = []
        for kind in kinds:
            try:
                rounds[kind] = self._counted(kind, built, work, fixed_s, later)
            except ka.InfeasibleError as error:
                refused.append(error)
        whole = self._problem(kinds[0], built(work.as_round(kinds[0]).unmasked()), work, 0.0)
        if fixed_s is None:
            rounds = {_UNPRUNED: whole} | rounds
        elif not rounds or ka.least_deadline(whole) <= fixed_s:  # nothing is lost, and no time
            rounds, fixed_s = {_UNPRUNED: whole}, None
        try:
            best = self._most_progress(rounds, work, fixed_s, later)
        except ka.InfeasibleError:
            if not refused:
                raise
            raise refused[0] from None
        kind = kinds[0] if best.name == _UNPRUNED else cast(Kind, best.name)
        return Choice.of(kind, best.deadline_s, best.solution, best.power, best.later_s)

    def power_of(self, name: str, work: Workload) -> float:
        """The power of what a round of this kind keeps, in its progress; 1 for unpruned rounds, which keep all."""
        given = self.progress_power
        if name == _UNPRUNED:
            return 1.0
        if given is None:
            return _MADE_UP_FOR if work.unsent_kept and name == "sparse" else _LOST
        return given[cast(Kind, name)] if isinstance(given, Mapping) else given

    def _check_powers(self) -> None:
        if self.progress_power is None:
            return
        powers: dict[str, object] = {"progress_power": self.progress_power}
        if isinstance(self.progress_power, Mapping):
            given, known = shown(self.progress_power), get_args(Kind)
            if not set(self.kinds) <= set(self.progress_power):
                lacks = ", ".join(kind for kind in self.kinds if kind not in self.progress_power)
                raise ValueError(
                    f"progress_power must be one for all kinds or name each: it lacks {lacks}, got {given}"
                )
            if not set(self.progress_power) <= set(known):
                raise ValueError(f"progress_power must name no other kinds than {', '.join(known)}, got {given}")
            powers = {f"progress_power[{kind!r}]": value for kind, value in self.progress_power.items()}
        for name, value in powers.items():
            real_number(name, value, "a number in (0, 1]", lambda value: 0.0 < value <= 1.0)

    def _most_progress(
        self, rounds: dict[str, ka.Problem], work: Workload, fixed_s: float | None, later: Later | None
    ) -> ka.plan.Progress:
        powers = {name: self.power_of(name, work) for name in rounds}
        return most_progress(rounds, deadline_s=fixed_s, points=self.points, power=powers, later_s=later)

    def _later(self, built: _Built, work: Workload) -> Later | None:
        """How much longer the next broadcast takes than this one, from pruning ratios (n, S); None: as long."""
        if work.moves is None:
            return None
        bits, next_bits = float(work.broadcast_bits.max()), work.moves.next_bits
        twice, once = (
            np.asarray(built(replace(work, broadcast_bits=times * work.broadcast_bits))[1].fixed_latency_s)
            for times in (2.0, 1.0)
        )
        s_per_bit = float(np.max(twice - once)) / bits
        return lambda pruning_ratio: s_per_bit * (next_bits(pruning_ratio) - bits)

    def possible(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> ka.Problem:
        """The easiest round that it may plan: a device that has no part in a solution of this one cannot be asked."""
        fixed_s, kind = self._fixed_s(round_index), self._kinds(work)[0]
        built = partial(self._built, round_index, asked)
        cell, devices = built(work.as_round(kind, self._hardest(kind, built, work)))
        ratio_max = np.minimum(devices.pruning_ratio_max, self.pruning_ratio_max)
        deadline_s = _FOREVER_S if fixed_s is None else fixed_s
        return ka.Problem(replace(cell, deadline_s=deadline_s), replace(devices, pruning_ratio_max=ratio_max))

    def _kinds(self, work: Workload) -> list[Kind]:
        """The kinds that this workload has: without a probe no frozen round knows its mask."""
        probed = [kind for kind in self.kinds if kind != "frozen" or work.probing_flops.all()]
        return probed or list(self.kinds)

    def _fixed_s(self, round_index: int) -> float | None:
        if self.deadline_s is None:
            return None
        name = f"deadline_s({round_index})"
        return real_number(name, self.deadline_s(round_index), "a finite number > 0", lambda value: value > 0.0)

    def _built(self, round_index: int, asked: NDArray[np.int64], counted: Workload) -> tuple[ka.Cell, ka.Devices]:
        """What `build` says, if it is what it must be."""
        given = self.build(round_index, asked, counted)
        if not (isinstance(given, tuple) and [type(part) for part in given] == [ka.Cell, ka.Devices]):
            said = "None: it ends without a return" if given is None else f"{given!r:.200}"
            raise ValueError(f"build must return a Cell and Devices, got {said}")
        return given

    def _hardest(self, kind: Kind, built: _Built, work: Workload) -> NDArray[np.float64]:
        """Keep ratio at the hardest pruning, as masks are counted by."""
        _, devices = built(work.as_round(kind))
        return mask_keep(np.minimum(devices.pruning_ratio_max, self.pruning_ratio_max))

    def _counted(
        self, kind: Kind, built: _Built, work: Workload, fixed_s: float | None, later: Later | None
    ) -> ka.Problem:
        """The problem of this kind, with masks counted at about the ratios of its own best round."""
        # At the hardest pruning first: what is too large of a mask elsewhere is the divergence of the two keep ratios,
        # so that after one more count it is nothing to speak of.
        hardest = built(work.as_round(kind, self._hardest(kind, built, work)))
        rough = self._problem(kind, hardest, work, self.pruning_ratio_max)
        found = self._most_progress({kind: rough}, work, fixed_s, later)
        there = built(work.as_round(kind, mask_keep(found.solution.pruning_ratio)))
        return self._problem(kind, there, work, self.pruning_ratio_max)

    def _problem(
        self, kind: Kind, built: tuple[ka.Cell, ka.Devices], work: Workload, pruning_ratio_max: float
    ) -> ka.Problem:
        cell, devices = built
        curve, weight = self._objective(work, kind)
        ratio_max = np.minimum(devices.pruning_ratio_max, pruning_ratio_max)
        return ka.Problem(cell, replace(devices, pruning_ratio_max=ratio_max, weight=weight), curve)

    def _objective(self, work: Workload, kind: Kind = "sparse") -> tuple[ka.PruningError, NDArray[np.float64]]:
        """Error curve in rounds of this kind, and weight, of each device."""
        known = None if work.changes is None else _filled(work.changes)
        reported = known is not None and (work.weight * known.change_sq).any()
        sized = known is not None and reported and self.progress == "total"
        weight = work.weight * known.change_sq if known is not None and sized else work.weight
        if self.curve is not None:
            return self.curve, weight
        if known is not None and reported:
            return ka.Table(ERROR_RATIOS, known.error if kind == "sparse" else known.error**FROZEN_POWER), weight
        if kind == "sparse":
            return self.first, weight
        return ka.Table(ERROR_RATIOS, np.asarray(self.first.value(ERROR_RATIOS)) ** FROZEN_POWER), weight


def _filled(known: Changes) -> Changes | None:
    """Devices that have not reported yet are taken to be like the others; None if none has."""
    there = np.isfinite(known.change_sq)
    if not there.any():
        return None
    return Changes(
        np.where(there, known.change_sq, known.change_sq[there].mean()),
        np.where(there[:, None], known.error, known.error[there].mean(axis=0)),
    )
