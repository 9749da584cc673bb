"""What is run: cells of many deadlines, bandwidths, powers and energy budgets, each allocated by several objectives.

Two objectives predict how each will train, both known before: the mean pruning ratio, which the linear pruning error
charges, and the share of the squared change that is not sent, from the tail sums of an unpruned pilot. Both are of one
round, so what they order is accuracy after the same number of rounds. Between deadlines a phone with more time prunes
less by either, and the question is what a second is worth: there each objective predicts progress per second, the kept
share of a whole round's progress over the round's length, as the planner counts it, and what it orders is accuracy
averaged over the same simulated time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..cases import Case
from ..config import DATASETS, Radio, Training

MODULES = ("config", "radio", "schemes", "study", "measures", "ordering/allocations", "tradeoff/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class Setting:
    """What differs from the base setting; None: as there."""

    name: str
    varied: str
    """deadline, bandwidth, power, energy or none."""
    deadline_fraction: float = 0.25
    """Of the mean unpruned round of the base radio. A round in which equal shares cannot meet that is as much longer,
    for every allocation."""
    bandwidth_hz: float | None = None
    tx_power_dbm: float | None = None
    energy_share: float | None = None
    """Energy budget: the most that any phone computes, and this share of the most that any radiates in an unpruned
    round."""


def _settings() -> tuple[Setting, ...]:
    found = [Setting("base", "none")]
    found += [Setting(f"deadline{x:g}", "deadline", deadline_fraction=x) for x in (0.22, 0.3, 0.4, 0.6)]
    found += [Setting(f"bandwidth{x:g}MHz", "bandwidth", bandwidth_hz=1e6 * x) for x in (4, 8)]
    found += [Setting(f"power{x:g}dBm", "power", tx_power_dbm=x) for x in (10.0, 16.0)]
    found += [Setting(f"energy{x:g}", "energy", energy_share=x) for x in (0.01, 0.03)]
    return tuple(found)


@dataclass(frozen=True)
class TradeoffStudy:
    """Digits, sparse uploads; the server takes the plain mean, so that its step does not depend on the masks.

    Settings, server rate and rounds were chosen on seeds below 100.
    """

    name: str = "tradeoff"
    seeds: tuple[int, ...] = tuple(range(700, 708))
    settings: tuple[Setting, ...] = field(default_factory=_settings)
    allocations: tuple[str, ...] = ("equal", "common", "linear", "power8", "measured")
    rounds: int = 40
    """Over which accuracy is compared where rounds are counted."""
    unpruned_rounds: float = 10.0
    """The end of the time over which accuracy is compared where time is counted, in mean unpruned rounds: 40 rounds of
    the base. It begins after one, when every setting has an accuracy."""
    server_rate: float = 2.0
    pilot_rounds: int = 20
    """Of unpruned training, whose reports are the measured tail sums."""
    radio: Radio = field(default_factory=lambda: Radio(pruning_ratio_max=0.995))
    training: Training = field(default_factory=lambda: Training(personal_steps=6, **DATASETS["digits"]))
    """More personal steps than pruned ones, as in LocalAlt."""


CONFIG = TradeoffStudy()


def cases(config: TradeoffStudy) -> dict[str, Case]:
    """One case per seed: all its settings and allocations."""
    return {f"seed{seed}": partial(run, config, seed) for seed in config.seeds}


def run(config: TradeoffStudy, seed: int) -> list[dict[str, Any]]:
    """Measure the tail sums; for each setting and allocation predict and train."""
    import fltrain as ft

    from ..measures import time_average
    from ..ordering.allocations import allocate, lost, measure, train
    from ..radio import demand, draw_phones
    from ..schemes import SCHEMES, earliest, equal, unpruned_round_s
    from ..study import load_data, work

    training = config.training
    data = load_data(training, None)
    shares = ft.partition(
        data, training.devices, training.partition, seed,
        classes_per_device=training.classes_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip
    shortest = min(setting.deadline_fraction for setting in config.settings)
    drawn = max(config.rounds, math.ceil(config.unpruned_rounds / shortest))
    base, every = config.radio, draw_phones(config.radio, training.devices, drawn, seed)
    reference = demand(base, every, work(training, data, shares, SCHEMES["partial"], seed)[2])
    whole = float(unpruned_round_s(base, every, reference).mean())
    split, plain, _ = work(training, data, shares, SCHEMES["joint"], seed)
    sparse = replace(plain, update="sparse", averaging="fill", server_rate=config.server_rate)
    workload = ft.count_workload(split, sparse, shares)
    curves = measure(split, sparse, shares, config.pilot_rounds, workload.weight)
    need = demand(base, every, workload.unmasked())
    computing_j = need.local_j + need.pruned_j
    radiated_j = earliest(base, every, need, whole).energy_j - computing_j

    found = []
    for setting in config.settings:
        radio = base
        if setting.energy_share is not None:
            radio = replace(radio, energy_budget_j=float(computing_j.max() + setting.energy_share * radiated_j.max()))
        if setting.bandwidth_hz is not None:
            radio = replace(radio, bandwidth_hz=setting.bandwidth_hz)
        if setting.tx_power_dbm is not None:
            radio = replace(radio, tx_power_dbm=setting.tx_power_dbm)
        rounds = max(config.rounds, math.ceil(config.unpruned_rounds / setting.deadline_fraction))
        phones = replace(every, channel_gain=every.channel_gain[:rounds])
        need = demand(radio, phones, workload)
        slowest = equal(radio, phones, need, setting.deadline_fraction * whole)
        for name in config.allocations:
            plan = allocate(name, radio, phones, need, slowest.deadline_s, curves)
            round_s = plan.latency_s.max(axis=1)
            ratio = plan.pruning_ratio
            loss = {"linear": ratio @ workload.weight, "measured": lost(curves, ratio)}
            accuracy = [record["accuracy"] for record in train(split, sparse, shares, ratio).records]
            found.append(
                {
                    "setting": setting.name,
                    "varied": setting.varied,
                    "allocation": name,
                    "seed": seed,
                    "round": float(round_s.mean()) / whole,
                    "longer": float(slowest.late.mean()),
                    **{f"loss_{of}": float(each[: config.rounds].mean()) for of, each in loss.items()},
                    **{f"progress_{of}": float((1.0 - each).sum() / round_s.sum()) for of, each in loss.items()},
                    "accuracy_rounds": float(np.mean(accuracy[: config.rounds])),
                    "accuracy_end": float(np.mean(accuracy[config.rounds - 10 : config.rounds])),
                    "accuracy_time": time_average(
                        (accuracy, np.cumsum(round_s)), whole, config.unpruned_rounds * whole
                    ),
                    "worst_residual": plan.worst_residual,
                }
            )
    return found
