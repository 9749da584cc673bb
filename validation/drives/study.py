"""What is run: unpruned training and the planner's rounds, both on phones that are driven along measured drives.

Phones, drives, data and network are those of `validation.harder`; every round is planned by
`fltrain.radio.RadioPlanner` from the channels of the moment in which it begins. Uploads then go out at the rates that
the drives allow, and what is late by the server's patience is lost, for every scheme alike.

A phone that is without service all the time takes part in no scheme, and what its head, as it was drawn, makes of the
shared part is luck. So accuracy is that of the phones which unpruned rounds would ask at least once.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..adaptive.study import constant
from ..cases import Case
from ..config import to_dict
from ..harder.drive import Rules, start
from ..harder.study import HarderStudy, _data, _network, drives
from ..measures import WINDOW

if TYPE_CHECKING:
    import fltrain as ft
    from fltrain.adapt import Kind
    from fltrain.config import Broadcast
    from fltrain.radio import Radio as RadioOf

MODULES = (
    "config", "measures", "radio", "schemes", "adaptive/planners", "harder/traces", "harder/drive", "harder/study",
    "drives/study",
)  # fmt: skip
"""Modules that make the numbers."""


@dataclass(frozen=True)
class Entry:
    """One scheme with its server step and kinds of round."""

    scheme: Literal["unpruned", "joint", "common"]
    """``common``: one pruning ratio for all phones, planned alike, by sparse uploads."""
    server_rate: float
    averaging: Literal["covered", "fill"] = "fill"
    kinds: tuple[Kind, ...] = ("sparse", "frozen")
    """From which the planner chooses."""
    error_feedback: bool = False
    deadline: float | None = None
    """Over the mean unpruned round; None: the planner's choice."""
    steps: tuple[int, int] | None = None
    """Personal and global steps of a round; None: those of the cell. Rounds are as many more as they have fewer."""
    by_speed: int | None = None
    """Samples of a step, on the mean over phones whose batches are in proportion to their speeds, so that all of them
    are done with training at about the same time; None: batches of the cell's size for all."""

    @property
    def family(self) -> str:
        """What is tuned: all but the rate, the steps, the deadline and the batches."""
        if self.scheme == "unpruned":
            return self.scheme
        kind = "" if len(self.kinds) > 1 else f"-{self.kinds[0]}"
        return f"{self.scheme}-{self.averaging}{kind}" + ("-feedback" if self.error_feedback else "")

    @property
    def name(self) -> str:
        """For files and tables."""
        steps = "" if self.steps is None else f"-steps{self.steps[0]}and{self.steps[1]}"
        batches = "" if self.by_speed is None else f"-speed{self.by_speed}"
        return f"{self.family}{steps}{batches}-rate{self.server_rate:g}" + (
            "" if self.deadline is None else f"-{self.deadline:g}"
        )

    def more(self, cell: HarderStudy) -> float:
        """How many times as many rounds there are as with the cell's steps, so that as many steps are made."""
        if self.steps is None:
            return 1.0
        return (cell.personal_steps + cell.pruned_steps) / sum(self.steps)


@dataclass(frozen=True)
class DrivesStudy:
    """CIFAR-10 on measured drives."""

    name: str = "drives"
    seeds: tuple[int, ...] = ()
    """One seed fixes data split, places on the drives, processors, first weights and batches for all schemes."""
    entries: tuple[Entry, ...] = ()
    rounds: int = 40
    """Of unpruned training."""
    pruned_rounds: int = 85
    """Of planned rounds, which are about half as long: all of them together take about as much time."""
    cell: HarderStudy = field(default_factory=lambda: HarderStudy(personal_steps=6, importance="movement"))
    """More personal steps than pruned ones: the LocalAlt schedule. Frozen rounds report by movement alone."""
    pruning_ratio_max: float = 0.99
    progress_power: float = 0.25
    """As the planner counts what a sparse round keeps; of a frozen one it counts the root."""
    broadcast: Broadcast = "moved"
    """What phones receive, in every scheme, see `fltrain.TrainConfig`."""


def run_config(config: DrivesStudy) -> dict[str, Any]:
    """What one run's numbers depend on: more seeds or entries leave finished runs valid."""
    return {name: value for name, value in to_dict(config).items() if name not in ("seeds", "entries")}


def cases(config: DrivesStudy, data_dir: Path) -> dict[str, Case]:
    """One case per seed and entry."""
    return {
        f"{entry.name}-seed{seed}": partial(run, config, entry, seed, data_dir)
        for seed in config.seeds
        for entry in config.entries
    }


def on_drives(cell: HarderStudy, data_dir: Path, seed: int) -> RadioOf:
    """Cell, phones and drives of one seed, those of `validation.harder`, as `fltrain` takes them."""
    from ..radio import Phones, cell_of

    rules = Rules(cell.radio, cell.patience, cell.handover_s)
    fleet = start(drives(cell, data_dir), rules, cell.horizon_s, seed)
    nowhere = np.full(len(fleet.cycles_per_flop), np.nan)  # a drive tells gains, and no distance
    phones = Phones(nowhere, nowhere, nowhere[None], fleet.cycles_per_flop)
    return replace(cell_of(cell.radio, phones), link=fleet.drives)


def task(
    config: DrivesStudy, entry: Entry, data_dir: Path, seed: int
) -> tuple[ft.Split, list[ft.DeviceData], ft.TrainConfig]:
    """Network, data of each phone, and local updates."""
    import fltrain as ft

    cell, pruned = config.cell, entry.scheme != "unpruned"
    data = _data(cell.dataset, data_dir)
    shares = ft.partition(
        data, cell.devices, "shards", seed, classes_per_device=cell.classes_per_device,
        samples_per_device=cell.samples_per_device, test_fraction=cell.test_fraction,
    )  # fmt: skip
    split = ft.Split(_network(cell.channels, data, seed), personal=cell.personal)
    personal_steps, global_steps = entry.steps or (cell.personal_steps, cell.pruned_steps)
    return (
        split,
        shares,
        ft.TrainConfig(
            rounds=round(entry.more(cell) * (config.pruned_rounds if pruned else config.rounds)),
            personal_steps=personal_steps,
            probe_steps=cell.probe_steps,
            pruned_steps=global_steps,
            batch_size=cell.batch_size
            if entry.by_speed is None
            else batches(entry.by_speed, on_drives(cell, data_dir, seed)),
            learning_rate_global=cell.learning_rate,
            learning_rate_personal=cell.learning_rate,
            pruning=pruned,
            importance=cell.importance,
            update=entry.kinds[0],
            averaging=entry.averaging,
            server_rate=entry.server_rate,
            error_feedback=entry.error_feedback,
            broadcast=config.broadcast,
            seed=seed,
        ),
    )


def batches(mean: int, radio: RadioOf) -> list[int]:
    """Samples of each phone's steps, (K,): in proportion to its speed, about so many on the mean, two at least."""
    speed = np.asarray(radio.phones.flop_per_s)
    sizes: list[int] = np.maximum(np.rint(mean * speed / speed.mean()), 2).astype(int).tolist()  # batch norm needs two
    return sizes


def run(config: DrivesStudy, entry: Entry, seed: int, data_dir: Path) -> dict[str, Any]:
    """Train one entry at one seed; accuracy and clock after every round, and what was planned."""
    import torch
    from tqdm import tqdm

    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner
    from fltrain.radio import RadioPlanner, Unpruned

    from ..adaptive.planners import CommonPlanner

    torch.set_num_threads(1)
    cell, pruned = config.cell, entry.scheme != "unpruned"
    split, shares, train_config = task(config, entry, data_dir, seed)
    radio = on_drives(cell, data_dir, seed)
    workload = ft.count_workload(split, train_config, shares)
    whole = RadioPlanner(radio, Unpruned, patience=cell.patience)
    fixed = None
    if entry.deadline is not None:
        mean_s, _ = planned(whole, workload, round(entry.more(cell) * config.rounds))
        fixed = constant(entry.deadline * mean_s)
    plain = replace(train_config, pruning=False, error_feedback=False, batch_size=cell.batch_size)
    _, served = planned(whole, ft.count_workload(split, plain, shares), config.rounds)
    adaptive = partial(
        CommonPlanner if entry.scheme == "common" else AdaptivePlanner,
        kinds=entry.kinds,
        pruning_ratio_max=config.pruning_ratio_max,
        deadline_s=fixed,
        progress_power={"sparse": config.progress_power, "frozen": 0.5},
    )
    planner = RadioPlanner(radio, adaptive if pruned else Unpruned, patience=cell.patience)
    pause = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=train_config.rounds, desc=f"{entry.name}, seed {seed}", mininterval=pause, leave=False) as bar:

        def watched(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
            bar.update(round_index - bar.n)
            return planner(round_index, workload)

        history = ft.train(split, shares, train_config, watched, progress=False)
    records = history.records
    accuracy = np.array([record["accuracy_per_device"] for record in records], dtype=float)
    return {
        "entry": entry.name,
        "family": entry.family,
        "seed": seed,
        "window": round(WINDOW * entry.more(cell)),
        "accuracy": accuracy[:, served].mean(axis=1).tolist(),
        "accuracy_of_all": accuracy.mean(axis=1).tolist(),
        "worst_accuracy": accuracy[:, served].min(axis=1).tolist(),
        "served": np.flatnonzero(served).tolist(),
        "time_s": [record["wall_clock_s"] for record in records],
        "pruning_ratio": [record["mean_pruning_ratio"] or 0.0 for record in records],
        "energy_j": float(np.mean([record["energy_j"] for record in records])),
        "error_curve": records[-1]["error_curve"],
        "kinds": dict(Counter(record["update"] for record in records)) if pruned else {},
        "participants": float(np.mean([record["participants"] for record in records])),
        "lost": sum(len(record["lost"]) for record in records),
        "slowest_training_s": float((_trained(workload) / np.asarray(radio.phones.flop_per_s)).max()),
        "held_out_samples": sum(
            len(share.test_y) for share, is_served in zip(shares, served, strict=True) if is_served
        ),
        "train_config": train_config.to_dict(),
    }


def planned(planner: ft.Planner, workload: ft.Workload, rounds: int) -> tuple[float, NDArray[np.bool_]]:
    """Of rounds that are planned and not trained: mean length in seconds, and (K,) which phones any of them asks."""
    now, served = 0.0, np.zeros(len(workload.weight), dtype=np.bool_)
    for t in range(rounds):
        plan = planner(t, replace(workload, elapsed_s=now))
        now += plan.round_s if plan.round_s is not None else float(plan.latency_s.max())
        served |= plan.participates
    return now / rounds, served


def _trained(work: ft.Workload) -> Any:
    """FLOPs of a round in which everything trains, (K,)."""
    return work.personal_flops + work.dense_flops + work.pruned_flops
