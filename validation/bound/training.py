"""Real federated training, round by round, with every constant of the first theorem measured on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import fltrain as ft
from fltrain.aggregate import CoverageMean
from fltrain.local import device_round
from fltrain.replica import Replica

from .terms import Measured, compare, measure
from .walk import (
    DEVICES,
    FIRST_GUESS,
    HEADROOM,
    LOOK_EVERY,
    PERSONAL_SHARE,
    PERSONAL_STEPS,
    SAMPLES_PER_DEVICE,
    Device,
    Smoothness,
    agree,
    as_one_sample,
    build_split,
    evaluated,
    look,
    value,
    walk_again,
)

FloatArray = NDArray[np.float64]


def run(
    data: ft.Dataset,
    seed: int,
    masks: Literal["movement", "magnitude", "random"],
    ratio: float,
    local_steps: int,
    batch: int | None,
    rounds: int,
) -> dict[str, Any]:
    """Train and compare with the bound. Batches are drawn with replacement, as A2 asks; None: full gradients."""
    shares = ft.partition(
        data, DEVICES, "shards", seed, classes_per_device=4, samples_per_device=SAMPLES_PER_DEVICE, test_fraction=0.2
    )
    split = build_split(data, seed)
    devices = [evaluated(split, share) for share in shares]
    # No device has fewer samples than the others, so a batch of the largest size is everybody's full gradient.
    size = max(len(share.train_y) for share in shares) if batch is None else batch
    weight = np.full(DEVICES, 1.0 / DEVICES)
    limit = min(0.5, float(np.sqrt(weight.min() / 10)))
    first = Smoothness()
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    look(first, devices, [u] * DEVICES, [p.v for p in personal])
    eta_v = PERSONAL_SHARE / first.v
    start = value(devices, u, personal, weight)
    # The largest step that the theorem allows depends on the curvature met on the way. It is guessed; a run that
    # meets more is started again with more assumed.
    guess = FIRST_GUESS
    while True:
        config = ft.TrainConfig(
            rounds=rounds, personal_steps=PERSONAL_STEPS, pruned_steps=local_steps, batch_size=size,
            learning_rate_global=limit / (guess * local_steps), learning_rate_personal=eta_v, importance=masks,
            seed=seed, sampling="epochs" if batch is None else "replacement",
        )  # fmt: skip
        found, seen = _train(split, shares, devices, config, ratio, guess, weight)
        if seen.u <= guess:
            break
        guess = HEADROOM * seen.u
    result = compare(
        found,
        weight,
        np.full(DEVICES, ratio),
        smoothness=(seen.u, seen.v),
        rates=(config.learning_rate_global, eta_v),
        steps=(local_steps, PERSONAL_STEPS),
        start=start,
        least=0.0,  # of cross-entropy
    )
    return {
        "masks": masks, "ratio": ratio, "local_steps": local_steps, "batch": batch, "seed": seed,
        "smoothness_by_power_iteration": seen.by_power_iteration, "rates": (config.learning_rate_global, eta_v),
        "value": [start, found[-1].value_after], **result,
    }  # fmt: skip


def _train(
    split: ft.Split,
    shares: Sequence[ft.DeviceData],
    devices: Sequence[Device],
    config: ft.TrainConfig,
    ratio: float,
    most: float,
    weight: FloatArray,
) -> tuple[list[Measured], Smoothness]:
    """`fltrain`'s rounds, measured; ends early where the curvature exceeds `most`."""
    seen, found = Smoothness(), []
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    replica = Replica(split, fast=config.fast)
    for t in range(config.rounds):
        mean, walks = CoverageMean(len(u)), []
        before = [p.v for p in personal]
        for k, share in enumerate(shares):
            upload = device_round(replica, u, personal[k], share, config, ratio, t, k)
            assert upload.values is not None
            mean.add(upload.values, upload.mask, weight[k])
            walks.append(walk_again(devices[k], u, before[k], upload.mask, share, config, t, k, seen))
            agree(walks[-1], upload, t, k)
            personal[k] = upload.personal
        after = mean.result(u)
        if t % LOOK_EVERY == 0 or t + 1 == config.rounds:
            look(seen, devices, [u] * len(devices), [p.v for p in personal])
            look(seen, devices, [w.masks * u.double() for w in walks], [p.v for p in personal])
        found.append(measure(as_one_sample(u, walks, seen, devices, personal, after, weight), weight))
        if seen.u > most:
            break
        u = after
    return found, seen
