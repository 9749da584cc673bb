"""What is run: a ladder of cells whose phones differ more and more, each trained with own ratios and with common ones.

On every rung the planner and the common ratio choose their own deadlines, by the same measure of progress per second.
What the planner expects to gain is that measure's logarithm for its plan less that for the common ratio which the same
measure likes best that round, on the same reports. Both count what each phone keeps of its own change. Counted by all
phones' squared change together, rounds that serve those with a large change first, up to 13 times the median, look as
if they gained up to 12 %; nothing is seen of that in the accuracy, and training goes as well without (seeds 80 to 82;
docs/results/earlier holds the study so counted, on seeds 400 to 407). The loss that is trained, the planner and the
accuracy all count a phone by its training samples; the mean over phones, all alike, is kept beside it. The server takes
the plain mean at one rate, so that the step does not depend on the masks. Ratios that are fixed for all rounds are
reported beside: the best of 0.8 to 0.99 on seed 80, and those about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..config import DATASETS, Radio, Training, to_dict
from ..radio import PATH_LOSS, Phones, demand
from ..schemes import earliest

if TYPE_CHECKING:
    import fltrain as ft
    from fltrain.config import Broadcast

FloatArray = NDArray[np.float64]
MODULES = ("config", "radio", "schemes", "study", "adaptive/planners", "difference/study")
"""Modules that make the numbers."""
JOINT, COMMON = "joint", "common"


@dataclass(frozen=True)
class Rung:
    """In what the phones of a cell differ; by default they are alike but for their channels' fading and classes."""

    name: str
    distance_spread: float = 1.0
    """Farthest over nearest phone; where it is more than 1 each has its own shadowing, too."""
    speed_spread: float = 1.0
    """Fastest over slowest processor."""
    data_spread: float = 1.0
    """Most over fewest training samples; devices count by their samples."""
    binding_share: float = 0.0
    """Of the phones whose energy budget binds."""


RUNGS = (
    Rung("alike"),
    Rung("speed", speed_spread=30.0),
    Rung("data", data_spread=8.0),
    Rung("distance", distance_spread=10.0),
    Rung("energy", binding_share=0.5),
    Rung("distance-data", distance_spread=10.0, data_spread=8.0),
    Rung("distance-energy", distance_spread=10.0, binding_share=0.5),
    Rung("all", distance_spread=10.0, speed_spread=30.0, data_spread=8.0, binding_share=0.5),
)


@dataclass(frozen=True)
class DifferenceStudy:
    """Digits, sparse uploads. Server rate, rounds, rungs and ratios were chosen on seeds below 100."""

    name: str = "difference"
    seeds: tuple[int, ...] = tuple(range(1080, 1112))
    rungs: tuple[Rung, ...] = RUNGS
    distance_m: float = 300.0
    """Geometric mean of the distances."""
    radiated_share: float = 0.03
    """Budget of a phone whose energy binds: its computing, and this share of what it radiates in an unpruned round."""
    common_ratios: tuple[float, ...] = (0.9, 0.95, 0.98, 0.99)
    """Fixed ones, beside the common ratio that is chosen anew each round. A round is as short as its ratio allows: at
    one ratio no other length makes as much progress per second. Where energy budgets make it impossible, that round
    takes the next at which devices report."""
    server_rate: float = 2.0
    rounds: int = 50
    personal_steps: int = 6
    progress: Literal["total", "each"] = "each"
    """What both schemes count, see `AdaptivePlanner`."""
    progress_power: float = 0.5
    """Of what a round keeps, in its progress. On seeds 80 to 82 own ratios had 0.2 to 0.8 points more of accuracy
    averaged over time with it than with 1, on the four rungs of one difference at most but speed; 0.7 and 0.3 had as
    much or less."""
    pruning_ratio_max: float = 0.995
    error_feedback: bool = False
    """Whether devices keep what they do not send."""
    broadcast: Broadcast = "whole"
    """What devices receive, in every scheme, see `fltrain.TrainConfig`."""
    radio: Radio = field(default_factory=Radio)
    training: Training = field(default_factory=lambda: Training(**DATASETS["digits"]))

    @property
    def schemes(self) -> tuple[str, ...]:
        """By name: the planner, the common ratio of each round, and fixed ones."""
        return (JOINT, COMMON, *(f"{COMMON}-{ratio:g}" for ratio in self.common_ratios))


CONFIG = DifferenceStudy()
KEPT = DifferenceStudy(
    seeds=tuple(range(1112, 1120)),
    common_ratios=(0.95, 0.98, 0.99, 0.995),
    progress_power=0.25,
    error_feedback=True,
    broadcast="moved",
)
"""The same where devices keep what they do not send and receive what moved. On seeds 80 to 82, with phones alike or
unlike in data or energy, own ratios had 0.4 to 0.7 points more with this power than with 0.5, and as much as with 0.15;
the ratios are those about the best there."""


class _Measure(TypedDict):
    """How planners value a round, alike for own ratios and common ones."""

    pruning_ratio_max: float
    progress: Literal["total", "each"]
    progress_power: float


def run_config(config: DifferenceStudy) -> dict[str, Any]:
    """What one run's numbers depend on: more seeds or rungs leave finished runs valid."""
    return {name: value for name, value in to_dict(config).items() if name not in ("seeds", "rungs", "common_ratios")}


def cases(config: DifferenceStudy, data_dir: None = None) -> dict[str, Case]:
    """One case per rung, scheme and seed; digits come with scikit-learn, from no folder."""
    return {
        f"{scheme}-{rung.name}-seed{seed}": partial(run, config, rung, scheme, seed)
        for seed in config.seeds
        for rung in config.rungs
        for scheme in config.schemes
    }


def spread(over: float, count: int, rng: np.random.Generator) -> FloatArray:
    """`count` numbers of geometric mean 1 in any order, evenly apart in logarithm; greatest over least is `over`."""
    return np.asarray(rng.permutation(over ** np.linspace(-0.5, 0.5, count)))


def unlike_phones(config: DifferenceStudy, rung: Rung, seed: int) -> tuple[Phones, FloatArray, NDArray[np.bool_]]:
    """Phones of a rung, how much data each has over the mean, and whose energy budget binds."""
    from kktalloc import channel

    places, chips, sizes, budgets, shade, fade = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)
    )
    K = config.training.devices
    law = PATH_LOSS[config.radio.path_loss]
    distance_m = config.distance_m * spread(rung.distance_spread, K, places)
    path_gain = law.gain(distance_m) * channel.shadowing(
        shade, K, law.shadowing_std_db if rung.distance_spread > 1.0 else 0.0
    )
    gain = path_gain * channel.rayleigh_mrc(fade, (config.rounds, K), config.radio.antennas)
    cycles = float(np.sqrt(np.prod(config.radio.cycles_per_flop))) * spread(rung.speed_spread, K, chips)
    binds = budgets.permutation(K) < round(rung.binding_share * K)
    return Phones(distance_m, path_gain, gain, cycles), spread(rung.data_spread, K, sizes), binds


def run(config: DifferenceStudy, rung: Rung, scheme: str, seed: int) -> dict[str, Any]:
    """Train one scheme on one rung; for the planner also what it expects to gain on the common ratio."""
    import torch

    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner

    from ..adaptive.planners import CommonPlanner, of_phones
    from ..schemes import SCHEMES
    from ..study import load_data, work

    torch.set_num_threads(1)
    training = replace(config.training, rounds=config.rounds, personal_steps=config.personal_steps)
    data = load_data(training, None)
    phones, amount, binds = unlike_phones(config, rung, seed)
    shares = ft.partition(
        data, training.devices, training.partition, seed,
        classes_per_device=training.classes_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip
    shares = [_cut(share, a / amount.max()) for share, a in zip(shares, amount, strict=True)]
    split, base, _ = work(training, data, shares, SCHEMES["joint"], seed)
    train_config = replace(
        base,
        update="sparse",
        averaging="fill",
        server_rate=config.server_rate,
        aggregation="samples",
        error_feedback=config.error_feedback,
        broadcast=config.broadcast,
    )
    counted = ft.count_workload(split, train_config, shares)
    whole = demand(config.radio, phones, counted.unmasked())
    plan = earliest(config.radio, phones, whole, 1.0)
    computing_j = whole.local_j + whole.pruned_j
    radiated_j = (plan.energy_j - computing_j).mean(axis=0)
    budget_j = np.where(binds, computing_j + config.radiated_share * radiated_j, np.inf)

    build = of_phones(config.radio, phones, budget_j)
    by: _Measure = {
        "pruning_ratio_max": config.pruning_ratio_max,
        "progress": config.progress,
        "progress_power": config.progress_power,
    }
    chosen_common = CommonPlanner(build, **by)
    planner: AdaptivePlanner
    if scheme == JOINT:
        planner = AdaptivePlanner(build, kinds=("sparse",), **by)
    elif scheme == COMMON:
        planner = chosen_common
    else:
        always = float(scheme.removeprefix(f"{COMMON}-"))
        higher = tuple(ratio for ratio in chosen_common.ratios if ratio > always)
        planner = replace(chosen_common, ratios=(always, *higher), first_possible=True)
    gains: list[float] = []

    def watched(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        if scheme == JOINT and workload.changes is not None:
            asked = planner.served(round_index, workload)
            mine, other = (p.choose(round_index, asked, workload.of(asked)) for p in (planner, chosen_common))
            gains.append(float(np.log(mine.progress_per_s / other.progress_per_s)))
        return planner(round_index, workload)

    history = ft.train(split, shares, train_config, watched, progress=False)
    records = history.records
    ratios = np.array([record["pruning_ratio_per_device"] for record in records])
    return {
        "rung": rung.name,
        "scheme": scheme,
        "seed": seed,
        "accuracy": [float(counted.weight @ record["accuracy_per_device"]) for record in records],
        "accuracy_alike": [record["accuracy"] for record in records],
        "time_s": [record["wall_clock_s"] for record in records],
        "expected_gain": float(np.mean(gains)) if gains else None,
        "pruning_ratio": float(np.mean([record["mean_pruning_ratio"] for record in records])),
        "ratio_spread": float(np.mean(ratios.max(axis=1) - ratios.min(axis=1))),
        "unpruned_round_s": float(plan.latency_s.max(axis=1).mean()),
        "train_config": train_config.to_dict(),
    }


def _cut(share: ft.DeviceData, part: float) -> ft.DeviceData:
    """The first part of the training samples, a batch's worth at least; held-out samples stay."""
    count = max(32, round(part * len(share.train_y)))
    return replace(share, train_x=share.train_x[:count], train_y=share.train_y[:count])
