"""What is run: sweeps over pruning ratio, local steps, masks and noise, and over the kinds of round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..cases import Case

if TYPE_CHECKING:
    from fltrain.config import Averaging, UpdateKind

    from .quadratics import Masks

MODULES = ("bound/terms", "bound/quadratics", "bound/walk", "bound/training", "bound/rounds", "bound/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class BoundStudy:
    """Quadratics with exactly known constants, and training on scikit-learn's digits with measured ones."""

    name: str = "bound"
    seeds: tuple[int, ...] = (100, 101, 102)
    """Of the quadratics; training, which takes longer, runs on the first."""
    ratios: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8)
    local_steps: tuple[int, ...] = (1, 2, 5, 10)
    masks: tuple[Masks, ...] = ("magnitude", "movement", "random")
    noise_std: tuple[float, ...] = (0.0, 0.3)
    """Per coordinate, quadratics."""
    training_ratios: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8)
    training_local_steps: tuple[int, ...] = (1, 5)
    training_batches: tuple[int | None, ...] = (None, 32)
    """None: full gradients."""
    rounds: int = 30
    """Of training; quadratics take 40."""
    kind_seeds: tuple[int, ...] = (310, 311, 312, 313, 314)
    """Of the runs in which every hypothesis of the theorems from measured errors is looked at."""
    kinds: tuple[UpdateKind, ...] = ("zeroed", "frozen", "sparse")
    masked_ratios: tuple[float, ...] = (0.5, 0.8)
    """Of zeroed and frozen rounds, with each of `masks`."""
    sparse_ratios: tuple[float, ...] = (0.8, 0.95)
    averaging: tuple[Averaging, ...] = ("fill", "covered")
    """Of sparse rounds."""
    kind_schedules: tuple[tuple[int, int | None], ...] = ((1, None), (5, 32))
    """Local steps and batch size."""
    kind_rounds: int = 8


CONFIG = BoundStudy()


def cases(config: BoundStudy) -> dict[str, Case]:
    """One case per (local steps, ratio) of the quadratics, and per run of training."""
    found: dict[str, Case] = {}
    for steps in config.local_steps:
        for ratio in config.ratios:
            found[f"quadratics-tau{steps}-rho{ratio:g}"] = partial(_quadratics, config, ratio, steps)
    digits = _Once()
    for steps in config.training_local_steps:
        for ratio in config.training_ratios:
            for batch in config.training_batches:
                for masks in config.masks if ratio else config.masks[:1]:
                    name = f"digits-{masks}-tau{steps}-rho{ratio:g}-batch{batch or 'all'}"
                    found[name] = partial(_training, config, digits, masks, ratio, steps, batch)
    for seed in config.kind_seeds:
        for update, kind, ratio in _kinds(config):
            for steps, batch in config.kind_schedules:
                name = f"rounds-{update}-{kind}-rho{ratio:g}-tau{steps}-batch{batch or 'all'}-seed{seed}"
                found[name] = partial(_rounds, config, digits, seed, update, kind, ratio, steps, batch)
    return found


def _kinds(config: BoundStudy) -> Iterator[tuple[UpdateKind, Masks | Averaging, float]]:
    for update in config.kinds:
        rules, ratios = (
            (config.averaging, config.sparse_ratios) if update == "sparse" else (config.masks, config.masked_ratios)
        )
        yield from ((update, rule, ratio) for rule in rules for ratio in ratios)


class _Once:
    """The data set, loaded by the first case that needs it."""

    def __init__(self) -> None:
        self._data: Any = None

    def __call__(self) -> Any:
        if self._data is None:
            import fltrain as ft

            self._data = ft.load_digits()
        return self._data


def _quadratics(config: BoundStudy, ratio: float, local_steps: int) -> list[dict[str, Any]]:
    from .quadratics import run

    return [
        run(seed, masks, ratio, local_steps, noise)
        for masks in config.masks
        for noise in config.noise_std
        for seed in config.seeds
    ]


def _training(
    config: BoundStudy, data: Callable[[], Any], masks: Masks, ratio: float, local_steps: int, batch: int | None
) -> list[dict[str, Any]]:
    from .training import run

    return [run(data(), config.seeds[0], masks, ratio, local_steps, batch, config.rounds)]


def _rounds(
    config: BoundStudy,
    data: Callable[[], Any],
    seed: int,
    update: UpdateKind,
    kind: Masks | Averaging,
    ratio: float,
    local_steps: int,
    batch: int | None,
) -> dict[str, Any]:
    from .rounds import run

    return run(data(), seed, update, kind, ratio, local_steps, batch, config.kind_rounds)
