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
    PERSONAL_STEPS,
    Device,
    Smoothness,
    agree,
    as_one_sample,
    begin,
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
    began = begin(data, seed, batch)
    split, shares, devices, weight = began.split, began.shares, began.devices, began.weight
    limit = min(0.5, float(np.sqrt(weight.min() / 10)))
    eta_v = began.learning_rate_personal
    start = value(devices, split.initial_global(), [split.initial_personal() for _ in shares], weight)
    # The largest step that the theorem allows depends on the curvature met on the way. It is guessed; a run that
    # meets more is started again with more assumed.
    guess = FIRST_GUESS
    while True:
        config = began.config(rounds, local_steps, batch, limit / (guess * local_steps), seed, importance=masks)
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
