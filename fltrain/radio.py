"""The bridge from radio to training: a planner that asks `kktalloc` each round, for phones on any channel.

Say what cell, phones and channels are like, and who chooses the round::

    phones = radio.Phones(flop_per_s=2e9, joule_per_flop=1e-9, tx_power_max_w=0.2)
    cell = Radio(ka.Cell(5e6, 4e-21, 1.0), phones, Drives(traces))
    ft.train(split, shares, config, RadioPlanner(cell, AdaptivePlanner))              # deadline, kind, ratios: chosen
    ft.train(split, shares, config, RadioPlanner(cell, partial(Deadline, deadline_s=0.4)))
    ft.train(split, shares, config, RadioPlanner(cell, Unpruned))

A plan depends on the round's number and on what `Workload` tells of the rounds before (clock, energy spent, reported
changes), so that a resumed run is planned as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kktalloc as ka
from fltrain.accounting import Workload
from fltrain.adapt import AdaptivePlanner, Build, Choice
from fltrain.plan import RoundPlan
from kktalloc._problem.arguments import expect, in_range
from kktalloc._problem.arrays import as_float64
from kktalloc.links import Downlink, Link, Sent, receive
from kktalloc.plan import most_progress
from kktalloc.radio import Clock, Phones, Work, audience, served

__all__ = ["Chooser", "Deadline", "Radio", "RadioPlanner", "Unpruned"]

_FOREVER_S = 1e9


@dataclass(frozen=True)
class Radio:
    """Cell, phones and channels of a run.

    Parameters
    ----------
    cell
        Bandwidth and noise; its deadline is replaced by the planner's.
    phones
        What phones are; numbers or arrays (K,). Energy budgets here are for one round.
    link
        Their channels: `kktalloc.links.Gains`, `Fading`, `Drives`, or any object with these methods.
    downlink
        How the model reaches them: at the rate of the worst listener, at a given rate in bit/s, or, None, at once.
    battery_j
        Energy for all rounds, a number or (K,). Each round may take an even share of what is left, so that what one
        round saves is there for the next ones.
    rounds
        Over how many rounds; needed with `battery_j`.
    """

    cell: ka.Cell
    phones: Phones
    link: Link
    downlink: Downlink | float | None = None
    battery_j: ArrayLike = inf
    rounds: int | None = None

    def __post_init__(self) -> None:  # noqa: D105
        expect("cell", self.cell, ka.Cell)
        expect("phones", self.phones, Phones)
        in_range("battery_j", as_float64("battery_j", self.battery_j), 0.0, False, inf)
        if self.downlink is not None and not isinstance(self.downlink, Downlink):
            in_range("downlink", as_float64("downlink", self.downlink), 0.0, True, inf)
        if self.rounds is None and not np.isinf(self.battery_j).all():
            raise ValueError("battery_j is shared among rounds: say how many with rounds=")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds must be >= 1, got {self.rounds}")

    def check(self, devices: int) -> None:
        """A ValueError that names the field which is given for another number of phones."""
        given = {f"phones.{field.name}": getattr(self.phones, field.name) for field in fields(self.phones)}
        for name, value in (given | {"battery_j": self.battery_j}).items():
            if np.shape(value) not in ((), (devices,)):
                raise ValueError(f"{name}: shape {np.shape(value)}, training has {devices} devices")

    def build(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> tuple[ka.Cell, ka.Devices]:
        """Cell and devices of a round for the phones `asked` (S,), whose workload is `work`; see `adapt.Build`."""
        gain = self.link.gain(round_index, work.elapsed_s)[asked]
        phones = served(self.phones, asked)
        if self.rounds is not None:
            battery = np.asarray(self.battery_j, dtype=np.float64)
            left = (battery[asked] if battery.ndim else battery) - work.spent_j
            share = np.maximum(left, 0.0) / max(self.rounds - round_index, 1)
            phones = replace(phones, energy_budget_j=np.minimum(phones.energy_budget_j, share))
        rate = self.downlink.bit_per_s(gain) if isinstance(self.downlink, Downlink) else self.downlink or inf
        return self.cell, Clock(self.cell, phones, rate).devices(Work.of(work), gain)


class Chooser(Protocol):
    """Who chooses a round for given phones: `AdaptivePlanner`, `Deadline`, `Unpruned`."""

    def choose(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> Choice:
        """The round for the phones `asked` (S,), whose workload is `work`."""
        ...

    def possible(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> ka.Problem:
        """The easiest round that it may choose: who has no part in a solution of this one is not asked."""
        ...


@dataclass(frozen=True)
class Deadline:
    """Rounds of the configured kind with a given deadline: as little pruning as it allows, by the joint optimum.

    Parameters
    ----------
    build
        See `Radio.build`.
    deadline_s
        Of every round.
    curve
        The error that is minimised; None: the ratio itself, as in the bound of zeroed rounds.
    """

    build: Build
    deadline_s: float
    curve: ka.PruningError | None = None

    def choose(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> Choice:
        """The optimum; InfeasibleError if these phones have none."""
        return Choice.of(None, self.deadline_s, ka.solve(self.possible(round_index, asked, work)))

    def possible(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> ka.Problem:
        """The problem itself."""
        cell, devices = self.build(round_index, asked, work)
        return ka.Problem(replace(cell, deadline_s=self.deadline_s), devices, self.curve)


@dataclass(frozen=True)
class Unpruned:
    """Everybody trains and sends everything; bandwidth is divided so that the round ends soonest."""

    build: Build

    def choose(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> Choice:
        """The shortest round; InfeasibleError if some phone lacks the energy for any."""
        best = most_progress({"unpruned": self.possible(round_index, asked, work)})
        return Choice.of(None, best.deadline_s, best.solution)

    def possible(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> ka.Problem:
        """A round with all the time in the world."""
        cell, devices = self._built(round_index, asked, work)
        return ka.Problem(replace(cell, deadline_s=_FOREVER_S), devices)

    def _built(self, round_index: int, asked: NDArray[np.int64], work: Workload) -> tuple[ka.Cell, ka.Devices]:
        whole = work.unmasked() if work.mask_size.any() else work
        cell, devices = self.build(round_index, asked, whole)
        return cell, replace(devices, pruning_ratio_max=0.0)


@dataclass(frozen=True)
class RadioPlanner:
    """Plans each round for phones on a radio; see `fltrain.Planner`.

    Phones without service are left out, and so is, by `kktalloc.select`, whom the cell cannot serve: by the deadline,
    with its energy, or with a broadcast that waits for the worst listener. Where channels move during a round an upload
    may come late: the server waits `patience` times the planned length, then goes on without it. Its phone is charged
    for the time on the air all the same.

    Parameters
    ----------
    radio
        Cell, phones, channels.
    chooser : callable
        Makes who chooses from `Radio.build`: `AdaptivePlanner`, `Unpruned`, ``partial(Deadline, deadline_s=0.4)``.
    patience
        How much longer than planned the server waits, >= 1.
    retry_s
        A round in which nobody can be asked takes this long. The first of them is warned of, and the history's column
        ``not_asked`` says why.
    """

    radio: Radio
    chooser: Callable[[Build], Chooser] = AdaptivePlanner
    patience: float = 2.0
    retry_s: float = 1.0

    def __post_init__(self) -> None:  # noqa: D105
        if not 1.0 <= self.patience < inf:
            raise ValueError(f"patience must be finite and >= 1, got {self.patience}")
        if not 0.0 < self.retry_s < inf:
            raise ValueError(f"retry_s must be finite and > 0, got {self.retry_s}")

    def __call__(self, round_index: int, workload: Workload) -> RoundPlan:
        """Plan one round."""
        chooser = self.chooser(self.radio.build)
        gain = self.radio.link.gain(round_index, workload.elapsed_s)
        if gain.shape != workload.weight.shape:
            raise ValueError(f"link has {len(gain)} phones, training has {len(workload.weight)} devices")
        self.radio.check(len(gain))
        found = audience(
            np.where(workload.selected, gain, 0.0),
            lambda heard: chooser.possible(round_index, heard, workload.of(heard)),
            worst_listener=isinstance(self.radio.downlink, Downlink),
        )
        asked, not_asked = found.asked, np.where(workload.selected, found.missing, "")
        ratio, latency_s, energy_j = np.zeros((3, len(gain)))
        participates, lost = np.zeros((2, len(gain)), dtype=np.bool_)
        if not len(asked):
            return RoundPlan(ratio, latency_s, energy_j, participates, round_s=self.retry_s, not_asked=not_asked)
        best = chooser.choose(round_index, asked, workload.of(asked))
        sent = self._sent(best, asked, gain[asked], workload.elapsed_s)
        limit_s = self.patience * float(best.latency_s.max())
        received = receive(self.radio.link, sent, workload.elapsed_s, limit_s)
        efficiency = np.broadcast_to(self.radio.phones.pa_efficiency, gain.shape)[asked]
        on_air_more_s = received.on_air_s - best.upload_s
        participates[asked], lost[asked] = True, received.late
        ratio[asked], latency_s[asked] = best.pruning_ratio, received.until_s
        energy_j[asked] = np.maximum(best.energy_j + best.tx_power_w * on_air_more_s / efficiency, 0.0)
        return RoundPlan(ratio, latency_s, energy_j, participates, best.update, lost, not_asked=not_asked)

    def _sent(self, best: Choice, asked: NDArray[np.int64], gain: NDArray[np.float64], now_s: float) -> Sent:
        """The uploads of a round that begins at `now_s`."""
        noise = float(np.asarray(self.radio.cell.noise_psd_w_per_hz))
        band, power, ready_s = best.bandwidth_hz, best.tx_power_w, best.latency_s - best.upload_s
        per_hz = np.divide(gain * power, noise * band, out=np.zeros_like(band), where=band > 0)
        bits = best.upload_s * band * np.log2(1.0 + per_hz)
        return Sent(asked, now_s + ready_s, best.upload_s, bits, band, power / noise)
