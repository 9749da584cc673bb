"""What is run: unpruned training, the planner's rounds, one common ratio and the scheme of Liu et al., in one cell.

Every family of schemes is tuned by one rule: the study `tuning` trains it in several settings on seeds below 100, and
`adaptive` reports the one that reached the target first, on other seeds. With a mean over all devices no step depends
on masks, so that what differs between schemes is not the step; the mean over those who kept a coordinate is beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import schemes
from ..cases import Case
from ..config import DATASETS, Radio, Training, to_dict
from ..schemes import Allocator

if TYPE_CHECKING:
    import fltrain as ft
    from fltrain.config import Broadcast, UpdateKind

MODULES = (
    "config",
    "radio",
    "schemes",
    "study",
    "adaptive/study",
    "adaptive/planners",
    "adaptive/subjects",
    "adaptive/writers",
)
"""Modules that make the numbers."""
KEEP = 0.07
"""Keep ratio at which the masks of rounds that are not planned from reports are counted: within 5 % of an upload from
0.02 to 0.3."""
Dataset = Literal["digits", "fashion_mnist", "mnist", "writers", "subjects"]
"""``writers``: scikit-learn's digits, each device one writer (see `writers`). ``subjects``: exercises, each device one
person with a smartwatch (see `subjects`)."""
Model = Literal["mlp", "cnn"]
Loaded = Literal["digits", "fashion_mnist", "mnist", "subjects"]
PACKAGES: dict[Loaded, str] = {"digits": "scikit-learn", "subjects": "seglearn"}
"""What the data sets come with that come from no folder."""
Kind = Literal["zeroed", "frozen", "sparse", "chosen"]
"""Of rounds; ``chosen``: frozen or sparse, as the planner chooses."""


@dataclass(frozen=True)
class Entry:
    """One scheme with the kind of its rounds, its server step and, unless the planner chooses it, its deadline."""

    scheme: Literal["unpruned", "joint", "common", "equal", "pruning_only", "fixed", "paper"]
    """``joint`` and ``common`` are planned round by round (`fltrain.adapt`, `CommonPlanner`), unless rounds are zeroed;
    the others are allocated without reports, see `validation.schemes`. ``paper``: zeroed rounds, the linear objective,
    ratios up to 0.8."""
    server_rate: float
    averaging: Literal["covered", "fill"] = "fill"
    kind: Kind = "sparse"
    deadline: float | None = None
    """Over the mean unpruned round; None: the planner's choice, or a scheme that has none."""
    ratio: float = 0.9
    """Of the scheme that always prunes as much: 0.9 is near the knee of the error curve."""
    batch_size: int = 32
    """Samples of a training step: fewer make rounds shorter, and more of them are needed."""

    @property
    def family(self) -> str:
        """What is tuned: all but rate, deadline, ratio and batch size."""
        if self.scheme == "unpruned":
            return self.scheme
        return f"{self.scheme}-{self.averaging}" + ("" if self.kind == "sparse" else f"-{self.kind}")

    @property
    def name(self) -> str:
        """For files and tables."""
        deadline = "" if self.deadline is None else f"-deadline{self.deadline:g}"
        ratio = "" if self.ratio == Entry.ratio else f"-ratio{self.ratio:g}"
        batch = "" if self.batch_size == Entry.batch_size else f"-batch{self.batch_size}"
        return f"{self.family}-rate{self.server_rate:g}{deadline}{ratio}{batch}"


UNTUNED = Entry("unpruned", 1.0)
PAPER = Entry("paper", 1.0, "covered", "zeroed", 0.4)


@dataclass(frozen=True)
class AdaptiveStudy:
    """Unpruned training and schemes that prune in one cell per seed, on one data set."""

    name: str = "adaptive"
    dataset: Dataset = "digits"
    model: Model = "mlp"
    seeds: tuple[int, ...] = ()
    """One seed fixes data split, cell, fading, first weights and batches for all schemes."""
    entries: tuple[Entry, ...] = ()
    rounds: int = 60
    """Of the unpruned schemes."""
    pruned_rounds: int = 160
    """Of the others, whose rounds are shorter: where uploads are most of a round, all that are planned take less time
    together."""
    personal_steps: int = 6
    """More than the pruned ones, five: the LocalAlt schedule."""
    pruning_ratio_max: float = 0.99
    progress_power: float = 0.25
    """As the planner, and a common ratio planned alike, count what a sparse round keeps."""
    frozen_power: float = 0.5
    """The same of frozen rounds, which lose for good what they do not train."""
    error_feedback: bool = True
    """Whether devices keep what they do not send, in sparse rounds of every scheme: pruned hard, training ends lower
    otherwise."""
    broadcast: Broadcast = "moved"
    """What devices receive, in every scheme, see `fltrain.TrainConfig`."""
    radio: Radio = field(default_factory=Radio)


def run_config(config: AdaptiveStudy) -> dict[str, Any]:
    """What one run's numbers depend on: more seeds or entries leave finished runs valid."""
    return {name: value for name, value in to_dict(config).items() if name not in ("seeds", "entries")}


def cases(config: AdaptiveStudy, data_dir: Path | None = None) -> dict[str, Case]:
    """One case per seed and entry."""
    return {
        f"{entry.name}-seed{seed}": partial(run, config, entry, seed, data_dir)
        for entry in config.entries
        for seed in config.seeds
    }


def loaded(dataset: Dataset) -> Loaded:
    """What is loaded for a data set of the study."""
    return "digits" if dataset == "writers" else dataset


@lru_cache(maxsize=1)
def samples(dataset: Loaded, data_dir: Path | None) -> ft.Dataset:
    """What is dealt to devices, or ValueError or FileNotFoundError if it cannot be had."""
    from ..study import load_data
    from . import subjects

    if dataset == "subjects":
        return subjects.windows().data
    return load_data(Training(dataset=dataset), data_dir)


def _shares(config: AdaptiveStudy, training: Training, data: ft.Dataset, seed: int) -> list[ft.DeviceData]:
    import fltrain as ft

    from . import subjects, writers

    if config.dataset == "subjects":
        return subjects.shares(training.test_fraction, seed)
    if config.dataset == "writers":
        return writers.shares(data, training.devices, training.test_fraction, seed)
    return ft.partition(
        data, training.devices, training.partition, seed, classes_per_device=training.classes_per_device,
        samples_per_device=training.samples_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip


def run(config: AdaptiveStudy, entry: Entry, seed: int, data_dir: Path | None) -> dict[str, Any]:
    """Train one entry at one seed; accuracy and clock after every round, and what was planned."""
    import torch

    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner

    from ..radio import demand, draw_phones
    from ..schemes import SCHEMES, unpruned_round_s
    from ..study import work
    from .planners import CommonPlanner, of_phones

    torch.set_num_threads(1)
    rounds = config.rounds if entry.scheme == "unpruned" else config.pruned_rounds
    source = loaded(config.dataset)
    training = Training(model=config.model, rounds=rounds, personal_steps=config.personal_steps)
    training = replace(training, **DATASETS.get(source, {}), batch_size=entry.batch_size)
    data = samples(source, data_dir)
    shares = _shares(config, training, data, seed)
    phones = draw_phones(config.radio, training.devices, config.pruned_rounds, seed)
    reference = demand(config.radio, phones, work(training, data, shares, SCHEMES["partial"], seed)[2])
    unpruned_s = unpruned_round_s(config.radio, phones, reference)
    # What pruned uploads do not shorten: a whole broadcast, and the slowest phone's training, all of it dense.
    training_s = float((reference.local_s + reference.pruned_s).max())
    floor_s = reference.broadcast_s[:, 0] + training_s

    pruned = entry.scheme != "unpruned"
    split, train_config, _ = work(training, data, shares, SCHEMES["joint" if pruned else "partial"], seed)
    train_config = replace(
        train_config, server_rate=entry.server_rate, averaging=entry.averaging, broadcast=config.broadcast
    )
    mean_s = float(unpruned_s.mean())
    kinds: tuple[UpdateKind, ...] = ("sparse", "frozen") if entry.kind == "chosen" else (entry.kind,)
    if pruned:
        train_config = replace(train_config, update=kinds[0], error_feedback=config.error_feedback)
    planner: ft.Planner
    if planned(entry):
        of = AdaptivePlanner if entry.scheme == "joint" else CommonPlanner
        planner = of(
            of_phones(config.radio, phones),
            kinds=kinds,  # type: ignore[arg-type]
            pruning_ratio_max=config.pruning_ratio_max,
            deadline_s=None if entry.deadline is None else constant(entry.deadline * mean_s),
            progress_power={"sparse": config.progress_power, "frozen": config.frozen_power},
        )
    else:
        limit = 0.8 if entry.scheme == "paper" else config.pruning_ratio_max
        radio = replace(config.radio, pruning_ratio_max=limit)
        allocate = allocator(entry)

        def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
            counted = workload.as_round(kinds[0], KEEP) if pruned else workload
            now = replace(phones, channel_gain=phones.channel_gain[[round_index]])
            plan = allocate(radio, now, demand(radio, now, counted), (entry.deadline or 1.0) * mean_s)
            return ft.RoundPlan(plan.pruning_ratio[0], plan.latency_s[0], plan.energy_j[0], workload.selected)

    history = ft.train(split, shares, train_config, planner, progress=False)
    records = history.records
    return {
        "entry": entry.name,
        "family": entry.family,
        "seed": seed,
        "accuracy": [record["accuracy"] for record in records],
        "time_s": [record["wall_clock_s"] for record in records],
        "pruning_ratio": [record["mean_pruning_ratio"] for record in records],
        "energy_j": float(np.mean([record["energy_j"] for record in records])),
        "error_curve": records[-1]["error_curve"],
        "kinds": dict(Counter(record["update"] for record in records)),
        "late": sum(record["round_latency_s"] > 1.01 * entry.deadline * mean_s for record in records) / len(records)
        if entry.deadline
        else 0.0,
        "unpruned_round_s": mean_s,
        "floor": float(np.mean(floor_s / unpruned_s)),
        "training": float(np.mean(training_s / unpruned_s)),
        "held_out_samples": sum(len(share.test_y) for share in shares),
        "train_config": train_config.to_dict(),
    }


def planned(entry: Entry) -> bool:
    """Whether rounds are planned one by one, from what devices report."""
    return entry.kind != "zeroed" and (entry.scheme == "joint" or (entry.scheme == "common" and entry.deadline is None))


def constant(seconds: float) -> Callable[[int], float]:
    """The same deadline for every round."""
    return lambda round_index: seconds


def allocator(entry: Entry) -> Allocator:
    """What allocates the rounds of a scheme that is not planned round by round."""
    import kktalloc as ka

    steep = None if entry.scheme == "paper" else ka.PowerLaw(8.0)  # stands in for tail sums, which nobody reports here
    by_scheme: dict[str, Allocator] = {
        "unpruned": schemes.earliest,
        "joint": partial(schemes.joint, pruning_error=steep),
        "paper": schemes.joint,
        "common": schemes.allocation_only,
        "equal": schemes.equal,
        "pruning_only": schemes.pruning_only,
        "fixed": partial(schemes.earliest, pruning_ratio=entry.ratio),
    }
    return by_scheme[entry.scheme]
