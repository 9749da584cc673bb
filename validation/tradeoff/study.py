"""What is run: two dozen settings of deadline, bandwidth, power and energy, trained for the same number of rounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..cases import Case
from ..config import DATASETS, Radio, Training, seeds

MODULES = ("config", "radio", "schemes", "study", "tradeoff/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class Setting:
    """What differs from the base setting; None: as there."""

    name: str
    varied: str
    """deadline, bandwidth, power, energy, several or none."""
    deadline_fraction: float = 0.4
    """Of the mean unpruned round of the base radio."""
    bandwidth_hz: float | None = None
    tx_power_dbm: float | None = None
    energy_share: float | None = None
    """Energy budget over the most that any phone spends in a round of the base setting."""


def _settings() -> tuple[Setting, ...]:
    found = [Setting("base", "none")]
    found += [
        Setting(f"deadline{x:g}", "deadline", deadline_fraction=x) for x in (0.25, 0.3, 0.35, 0.5, 0.6, 0.7, 0.85)
    ]
    found += [Setting(f"bandwidth{x:g}MHz", "bandwidth", bandwidth_hz=1e6 * x) for x in (2, 3, 4, 6.5, 8, 12)]
    found += [Setting(f"power{x:g}dBm", "power", tx_power_dbm=x) for x in (8.0, 13.0, 18.0, 28.0)]
    found += [Setting(f"energy{x:g}", "energy", energy_share=x) for x in (0.4, 0.5, 0.6, 0.8)]
    found += [
        Setting("early-wide", "several", deadline_fraction=0.3, bandwidth_hz=10e6),
        Setting("late-narrow", "several", deadline_fraction=0.6, bandwidth_hz=2.5e6),
        Setting("late-soft", "several", deadline_fraction=0.6, tx_power_dbm=13.0),
    ]
    return tuple(found)


@dataclass(frozen=True)
class TradeoffStudy:
    """The joint scheme on digits under many radio settings; the cell and all else is the same for each."""

    name: str = "tradeoff"
    seeds: tuple[int, ...] = seeds(5)
    settings: tuple[Setting, ...] = field(default_factory=_settings)
    pruning_ratio_max: float = 0.95
    """More than in the other studies, so that settings differ more."""
    rounds: int = 50
    """For every setting: what is compared is what pruning costs, not how many rounds fit."""
    last: int = 10
    """Rounds at the end over which accuracy, loss and gradient are averaged."""
    training: Training = field(default_factory=lambda: Training(**DATASETS["digits"]))


CONFIG = TradeoffStudy()


def cases(config: TradeoffStudy) -> dict[str, Case]:
    """One case per setting and seed."""
    return {
        f"{setting.name}-seed{seed}": partial(run, config, setting, seed)
        for seed in config.seeds
        for setting in config.settings
    }


def run(config: TradeoffStudy, setting: Setting, seed: int) -> dict[str, Any]:
    """Allocate, train, and measure at the end; `predicted` is the allocator's objective, the mean pruning ratio."""
    import torch

    import fltrain as ft

    from ..radio import demand, draw_phones
    from ..schemes import SCHEMES, joint, unpruned_round_s
    from ..study import load_data, work

    training = config.training
    data = load_data(training, None)
    shares = ft.partition(
        data, training.devices, training.partition, seed,
        classes_per_device=training.classes_per_device, test_fraction=training.test_fraction,
    )  # fmt: skip
    base = replace(Radio(), pruning_ratio_max=config.pruning_ratio_max)
    phones = draw_phones(base, training.devices, config.rounds, seed)
    reference = demand(base, phones, work(training, data, shares, SCHEMES["partial"], seed)[2])
    whole = float(unpruned_round_s(base, phones, reference).mean())
    split, train_config, workload = work(training, data, shares, SCHEMES["joint"], seed)

    radio = base
    if setting.energy_share is not None:
        free = joint(base, phones, demand(base, phones, workload), 0.4 * whole)
        radio = replace(radio, energy_budget_j=setting.energy_share * float(free.energy_j.max()))
    if setting.bandwidth_hz is not None:
        radio = replace(radio, bandwidth_hz=setting.bandwidth_hz)
    if setting.tx_power_dbm is not None:
        radio = replace(radio, tx_power_dbm=setting.tx_power_dbm)
    plan = joint(radio, phones, demand(radio, phones, workload), setting.deadline_fraction * whole)

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        everyone = np.ones(training.devices, dtype=bool)
        t = round_index
        return ft.RoundPlan(plan.pruning_ratio[t], plan.latency_s[t], plan.energy_j[t], everyone)

    losses, gradients = [], []

    def observer(t: int, u: torch.Tensor, personal: Any) -> None:
        if t < config.rounds - config.last:
            return
        loss, slope = 0.0, torch.zeros_like(u)
        for share, own, alpha in zip(shares, personal, workload.weight, strict=True):
            model = split.assemble(u, own)
            value = torch.nn.functional.cross_entropy(model(share.train_x), share.train_y)
            named = dict(model.named_parameters())
            parts = torch.autograd.grad(value, [named[n] for n in split.global_names])
            slope += alpha * torch.cat([part.reshape(-1) for part in parts])
            loss += alpha * value.item()
        losses.append(loss)
        gradients.append(float(slope.square().sum()))

    history = ft.train(
        split, shares, replace(train_config, rounds=config.rounds), planner, progress=False, observer=observer
    )
    accuracy = [record["accuracy"] for record in history.records]
    return {
        "setting": setting.name,
        "varied": setting.varied,
        "seed": seed,
        "predicted": float((plan.pruning_ratio @ workload.weight).mean()),
        "late": float(plan.late.mean()),
        "accuracy": float(np.mean(accuracy[-config.last :])),
        "accuracy_averaged": float(np.mean(accuracy)),
        "loss": float(np.mean(losses)),
        "gradient_sq": float(np.mean(gradients)),
        "worst_residual": plan.worst_residual,
    }
