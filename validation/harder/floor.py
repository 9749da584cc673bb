"""What no pruning shortens of a round on the measured drives, by kind of round; drives, trains nothing.

    python -m validation.harder.floor DIR

`DIR` as of `harder`. With sparse uploads all training is dense, frozen rounds prune the gradients of weights, zeroed
ones all of the pruned steps. The slowest phone decides, so its share is the least that a pruned round can take.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from .drive import Rules, go, start
from .study import CONFIG, HarderStudy, _data, _scheme, _work, drives

KEEP = 0.07
"""Keep ratio at which masks are counted; it does not touch what is local."""


def floors(config: HarderStudy, data_dir: Path, seed: int) -> dict[str, float]:
    """By kind of round: local work that no pruning saves, of the slowest phone, over the mean unpruned round."""
    import fltrain as ft
    from fltrain.config import UpdateKind

    shares = ft.partition(
        _data(config.dataset, data_dir), config.devices, "shards", seed, classes_per_device=config.classes_per_device,
        samples_per_device=config.samples_per_device, test_fraction=config.test_fraction,
    )  # fmt: skip
    rules = Rules(config.radio, config.patience, config.handover_s)
    fleet = start(drives(config, data_dir), rules, config.horizon_s, seed)

    def workload(name: str) -> ft.Workload:
        return ft.count_workload(*_work(config, _data(config.dataset, data_dir), _scheme(name), seed), shares)

    whole_s = go(rules, fleet, workload("partial"), _scheme("partial"), rounds=config.rounds).end_s[-1] / config.rounds
    seconds_per_flop = fleet.cycles_per_flop / config.radio.clock_hz
    found = {}
    for kind in get_args(UpdateKind):
        work = workload("joint").as_round(kind, KEEP)
        local_s = (work.personal_flops + work.probe_flops + work.dense_flops) * seconds_per_flop
        found[kind] = float(local_s.max() / whole_s)
    return found


def main() -> None:
    """Print the range over the study's seeds."""
    config = replace(CONFIG, personal_steps=6)
    every = [floors(config, Path(sys.argv[1]), seed) for seed in config.seeds]
    for kind in every[0]:
        shares = np.array([found[kind] for found in every])
        print(f"{kind}: {100 * shares.min():.0f} to {100 * shares.max():.0f} % of an unpruned round")


if __name__ == "__main__":
    main()
