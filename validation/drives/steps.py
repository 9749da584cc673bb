"""What it would be worth if each phone made its own number of steps on the measured drives: plans.

    python -m validation.drives.steps DIR
    python -m validation.drives.steps DIR trained

`DIR` as of `drives`. Many times for training are tried: every phone makes as many global steps as fit, none if its head
alone fits, and the planner chooses the rest of the round. What a phone adds to a round's progress is its share of the
configured steps to a power (`POWERS`). Besides, how long as many steps would take if all phones computed all the time
and sending took none.

The second command trains with more and fewer global steps for everyone, in rounds that all prune alike and without a
clock: what steps are worth.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..measures import smooth
from .left_out import EVERY_S, SEEDS
from .study import DrivesStudy, Entry, on_drives, task
from .tuned import TUNING

if TYPE_CHECKING:
    import fltrain as ft

POWERS = (0.5, 1.0)
"""0.5 is about what training shows: see the report. 1: a step is a step."""
MOST = {"fewer": 1, "fewer or more": 2}
"""The most steps that a phone may make, over the configured ones."""
STEPS, RATIO, AFTER = (2, 5, 10), 0.6, (10, 15, 20)
"""Global steps of a round, ratio that all prune, and rounds after which accuracy is told."""
ROUNDS = 3
"""Planned, as if they began so far apart as in `left_out`."""
TRIED = 16
"""Times for training that are tried, from one step of the quickest phone to all of the slowest one."""


def worth(
    config: DrivesStudy, data_dir: Path, seed: int, power: float, rounds: int = ROUNDS, tried: int = TRIED
) -> dict[str, float]:
    """Time for the same progress over unpruned rounds': of planned rounds, by `MOST`, and with all phones ``busy``."""
    import fltrain as ft
    from fltrain.adapt import AdaptivePlanner
    from fltrain.radio import Unpruned

    joint = next(entry for entry in config.entries if entry.scheme == "joint")
    split, shares, train_config = task(config, joint, data_dir, seed)
    radio = on_drives(config.cell, data_dir, seed)
    work, steps = ft.count_workload(split, train_config, shares), train_config.pruned_steps
    speed = np.asarray(radio.phones.flop_per_s)
    planned, unpruned = AdaptivePlanner(radio.build, kinds=("sparse",), progress_power=1.0), Unpruned(radio.build)

    def made(asked: NDArray[np.int64], most: int, training_s: float) -> NDArray[np.int64]:
        """Steps that each phone makes in this time, (S,)."""
        counts = np.arange(most * steps + 1)
        fits = _training_s(work, speed, asked, steps, counts[:, None]) <= training_s * (1 + 1e-9)
        return np.maximum(fits.sum(axis=0) - 1, 0)

    def per_s(t: int, asked: NDArray[np.int64], now: ft.Workload, count: NDArray[np.int64]) -> float:
        """Progress per second of a planned round; phones that train their heads alone do not send."""
        sends = np.flatnonzero(count)
        share = count[sends] / steps
        part = now.of(asked[sends])
        part = replace(
            part,
            dense_flops=share * part.dense_flops,
            personal_flops=np.maximum(share, 1.0) * part.personal_flops,
            weight=share**power * part.weight,
        )
        choice = planned.choose(t, asked[sends], part)
        return float(part.weight.sum()) * (1.0 - choice.loss) / choice.deadline_s

    found: dict[str, list[float]] = {}
    for t in range(rounds):
        now = replace(work, elapsed_s=t * EVERY_S)
        asked = np.flatnonzero(radio.link.gain(t, now.elapsed_s) > 0)
        whole = float(now.weight[asked].sum()) / unpruned.choose(t, asked, now.of(asked)).deadline_s
        alone_s = _training_s(work, speed, asked, steps, np.array(steps))
        here = {
            "planned": per_s(t, asked, now, np.full(len(asked), steps)),
            "busy": float((now.weight[asked] / alone_s).sum()),
        }
        best = 0.0
        for name, most in MOST.items():
            takes_s = _training_s(work, speed, asked, steps, np.arange(1, most * steps + 1)[:, None])
            limits_s = np.quantile(takes_s, np.linspace(0.0, 1.0, tried), method="nearest")
            options = np.unique([made(asked, most, limit) for limit in limits_s], axis=0)
            here[name] = best = max(best, *(per_s(t, asked, now, count) for count in options))
        for name, value in here.items():
            found.setdefault(name, []).append(value / whole)
    return {name: 1.0 / float(np.mean(values)) for name, values in found.items()}


def _training_s(
    work: ft.Workload, speed: NDArray[np.float64], asked: NDArray[np.int64], steps: int, count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Seconds that each phone trains with `count` global steps, and more personal ones if these are more."""
    share = count / steps
    flops = np.maximum(share, 1.0) * work.personal_flops[asked] + share * work.dense_flops[asked]
    return np.asarray(flops / speed[asked])


def trained(
    config: DrivesStudy, data_dir: Path, seed: int, steps: int, after: tuple[int, ...] = AFTER
) -> dict[int, float]:
    """Accuracy in per cent after so many rounds of so many global steps, averaged over the last ten."""
    import fltrain as ft

    entry = Entry("joint", 2.0, "covered", ("sparse",), steps=(config.cell.personal_steps, steps))
    split, shares, train_config = task(config, entry, data_dir, seed)
    everyone = np.ones(len(shares))

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        return ft.RoundPlan(RATIO * everyone, everyone, 0.0 * everyone, everyone > 0)

    history = ft.train(split, shares, replace(train_config, rounds=max(after)), planner, progress=False)
    accuracy = smooth([record["accuracy"] for record in history.records])
    return {rounds: 100 * float(accuracy[rounds - 1]) for rounds in after}


def main() -> None:
    """Print all for each seed and power, or each number of steps."""
    if sys.argv[2:] == ["trained"]:
        for steps in STEPS:
            told = trained(TUNING, Path(sys.argv[1]), SEEDS[0], steps)
            said = ", ".join(f"{value:.1f} after {rounds}" for rounds, value in told.items())
            print(f"seed {SEEDS[0]}, {steps} global steps a round: {said} rounds")
        return
    for seed in SEEDS:
        for power in POWERS:
            found = worth(TUNING, Path(sys.argv[1]), seed, power)
            said = ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
            print(f"seed {seed}, power {power:g}, % of unpruned training's time: {said}")


if __name__ == "__main__":
    main()
