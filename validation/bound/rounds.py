"""Real rounds of each kind, with the left side of every hypothesis measured in each, and what the theorem makes of it.

Zeroed, frozen and sparse rounds are `fltrain`'s; the theorem is the one for the kind of round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fltrain as ft
from fltrain.aggregate import CoverageMean
from fltrain.config import Averaging, UpdateKind
from fltrain.curve import report_change
from fltrain.local import device_round
from fltrain.replica import Replica
from kktalloc.bound import BoundTerms, Constants, GradientErrors, Schedule, UploadErrors, bound

from .quadratics import Masks
from .terms import Round
from .walk import (
    FIRST_GUESS,
    HEADROOM,
    LOOK_EVERY,
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
    update: UpdateKind,
    kind: Masks | Averaging,
    ratio: float,
    local_steps: int,
    batch: int | None,
    rounds: int,
) -> dict[str, Any]:
    """Train, measure each round, and evaluate the theorem for this kind of round.

    `kind` is the mask rule of zeroed and frozen rounds, and how the server averages sparse ones. Batches are drawn
    with replacement, as A2 asks; `batch` None: full gradients.
    """
    torch.set_num_threads(1)
    began = begin(data, seed, batch)
    split, shares, devices, weight = began.split, began.shares, began.devices, began.weight
    # Zeroed, frozen and covered: the least coverage that masks may have is a device's own weight.
    largest = {"fill": 0.25, "covered": 0.5 * weight.min()}.get(kind, float(np.sqrt(weight.min() / 10)))
    guess = FIRST_GUESS
    choices: dict[str, Any] = {"averaging": kind} if update == "sparse" else {"importance": kind}
    while True:
        config = began.config(
            rounds, local_steps, batch, largest / (guess * local_steps), seed, update=update, **choices
        )
        measured, seen = _train(split, shares, devices, config, ratio, weight)
        if seen.u <= guess:
            break
        guess = HEADROOM * seen.u
    found = _evaluate(measured, config, (seen.u, seen.v), weight)
    return {"update": update, "kind": kind, "ratio": ratio, "local_steps": local_steps, "batch": batch, "seed": seed,
            "smoothness": [seen.u, seen.v], **found}  # fmt: skip


def _train(
    split: ft.Split,
    shares: Sequence[ft.DeviceData],
    devices: Sequence[Device],
    config: ft.TrainConfig,
    ratio: float,
    weight: FloatArray,
) -> tuple[list[dict[str, Any]], Smoothness]:
    """`fltrain`'s rounds, each walked through again in double precision, and what was measured in each."""
    seen, found = Smoothness(), []
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    replica = Replica(split, fast=config.fast)
    for t in range(config.rounds):
        mean = CoverageMean(len(u), config.averaging, config.server_rate)
        walks, sent, tails = [], [], []
        before = [p.v for p in personal]
        for k, share in enumerate(shares):
            upload = device_round(replica, u, personal[k], share, config, ratio, t, k)
            assert upload.values is not None
            mean.add(upload.values, upload.mask, weight[k])
            trained = None if config.update == "sparse" else upload.mask
            walks.append(walk_again(devices[k], u, before[k], trained, share, config, t, k, seen))
            kept = torch.ones_like(u) if upload.mask is None else upload.mask.to(u.dtype)
            sent.append(kept.double().numpy())
            agree(walks[-1], upload, t, k, kept)
            if config.update == "sparse":
                report = report_change((walks[-1].x - u.double()).float())
                lost = float(np.interp(ratio, ft.ERROR_RATIOS, report.error)) * report.change_sq
                tails.append(lost / config.learning_rate_global**2)
            personal[k] = upload.personal
        after = mean.result(u)
        if t % LOOK_EVERY == 0 or t + 1 == config.rounds:
            look(seen, devices, [u] * len(devices), [p.v for p in personal])
        happened = as_one_sample(u, walks, seen, devices, personal, after, weight)
        if config.update == "sparse":
            measured = _sparse(happened, np.stack(sent), weight, config)
            measured["tail_sum"] = float(weight @ tails)
        else:
            measured = _masked(happened, np.stack(sent), [w.noise_variance for w in walks], weight)
        found.append(
            {
                **measured,
                "noise_u_var": max(w.noise_u_var for w in walks),
                "noise_v_var": max(w.noise_v_var for w in walks),
                "personal_gradient_sq": float(weight @ [w.personal_sq for w in walks]),
                "value": [value(devices, at, personal, weight) for at in (u, after)],
            }
        )
        u = after
    return found, seen


def _masked(happened: Round, masks: FloatArray, noise: Sequence[FloatArray], weight: FloatArray) -> dict[str, Any]:
    """Left sides of A3', A4, A5' and A2', and those of A3 and A5 beside them."""
    gradient, pruned = happened.gradient[0], happened.gradient_pruned[0]
    kept = weight @ masks
    covered = kept > 0
    inverse = np.where(covered, 1.0 / np.where(covered, kept, 1.0), 1.0)
    whole = weight @ gradient
    spread = weight @ (gradient - whole) ** 2
    share = weight[:, None] * masks * inverse
    return {
        "gradient_sq": float(whole[covered] @ whole[covered]),
        "error": (masks * inverse * (gradient - pruned) ** 2).sum(axis=1),
        "heterogeneity": float(spread[covered].sum()),
        "coverage_charge": float((spread * (inverse - 1))[covered].sum()),
        "coverage": float(kept[covered].min()) if covered.any() else 1.0,
        "server_noise": float((share**2 * np.stack(noise)).sum()),
        "distance_sq": float(weight @ (((1 - masks) * happened.u[0]) ** 2).sum(axis=1)),
        "coverage_mean": float(kept[covered].mean()) if covered.any() else 1.0,
        "uncovered": float(1 - covered.mean()),
    }


def _sparse(happened: Round, sent: FloatArray, weight: FloatArray, config: ft.TrainConfig) -> dict[str, Any]:
    """Left sides of A3'', A4 on all coordinates, A5'' and A2''."""
    gradient = happened.gradient[0]
    change = (happened.gradient_path[0] + happened.noise[0]).sum(axis=1)
    reached = weight @ sent
    covered = reached > 0
    scale = np.where(covered, 1.0 / np.where(covered, reached, 1.0), 1.0) if config.averaging == "covered" else 1.0
    whole = weight @ gradient
    drawn = (weight[:, None, None] * happened.noise[0]).sum(axis=(0, 1))
    steps = happened.noise.shape[2]
    unsent = (1 - sent) * change**2
    return {
        "gradient_sq": float(whole @ whole),
        "error": (scale * (1 - reached) * unsent).sum(axis=1),
        "unsent_sq": float((scale * (weight @ ((1 - sent) * change)) ** 2).sum()),
        "kept_back": unsent.sum(axis=1),
        "heterogeneity": float((weight @ (gradient - whole) ** 2).sum()),
        "coverage": float(1.0 / np.max(scale)),
        "coverage_mean": float(reached[covered].mean()) if covered.any() else 1.0,
        "uncovered": float(1 - covered.mean()),
        "upload_noise": float((scale * drawn**2).sum() / steps),
        "selection_noise": float(((scale - 1) * drawn**2).sum() / steps),
    }


def _evaluate(
    measured: list[dict[str, Any]],
    config: ft.TrainConfig,
    smoothness: tuple[float, float],
    weight: FloatArray,
) -> dict[str, Any]:
    """The guarantee after each round beside what was measured, and each hypothesis's left side, mean over rounds."""
    count = np.arange(1, len(measured) + 1, dtype=float)

    def so_far(name: str) -> FloatArray:
        values = np.array([m[name] for m in measured])
        return np.asarray(np.cumsum(values, axis=0) / count.reshape(-1, *(1,) * (values.ndim - 1)))

    gamma = min(m["coverage"] for m in measured)
    errors: GradientErrors | UploadErrors
    if config.update != "sparse":
        errors = GradientErrors(so_far("error"), so_far("coverage_charge"), so_far("server_noise"))
    else:
        errors = UploadErrors(so_far("error"), so_far("upload_noise"), so_far("selection_noise"), config.server_rate)

    def guarantee(gap: float) -> BoundTerms:
        constants = Constants(
            *smoothness, max(m["noise_u_var"] for m in measured), max(m["noise_v_var"] for m in measured), 0.0,
            so_far("heterogeneity"), 1.0 if gamma > 1 - 1e-9 else gamma, gap,
        )  # fmt: skip
        schedule = Schedule(
            count, config.pruned_steps, config.personal_steps, config.learning_rate_global,
            config.learning_rate_personal,
        )  # fmt: skip
        return bound(constants, schedule, weight=weight, young="best", errors=errors)

    terms, without = guarantee(measured[0]["value"][0]), guarantee(0.0)  # cross-entropy is at least 0
    gradient, personal = so_far("gradient_sq"), so_far("personal_gradient_sq")
    left = terms.gradient_weight * gradient + terms.personal_weight * personal
    names = [name for name, value in measured[0].items() if name != "value"]
    return {
        "bound": terms.total.tolist(),
        "measured": left.tolist(),
        "violations": int(np.sum(left > terms.total * (1 + 1e-12))),
        "without_gap_over_gradient": float(without.gradient_bound[-1] / gradient[-1]),
        "with_gap_over_gradient": float(terms.gradient_bound[-1] / gradient[-1]),
        "pruning_over_gradient": float((without.pruning / without.gradient_weight)[-1] / gradient[-1]),
        "hypotheses": {name: so_far(name)[-1].tolist() for name in names},
        "beside": {
            name: _beside(*pair) for name, pair in _pairs(measured, config.update, smoothness[0], weight).items()
        },
        "coverage": gamma,
    }


def _pairs(
    measured: list[dict[str, Any]], update: str, smooth: float, weight: FloatArray
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Each hypothesis's left side, round by round, and what it may be at most by the hypotheses of the first theorem.

    For sparse rounds: by the tail sums that devices report.
    """
    each = {name: np.array([m[name] for m in measured]) for name in measured[0]}
    gamma, squares = float(each["coverage"].min()), float(weight @ weight)
    variance = np.full(len(measured), each["noise_u_var"].max())
    worst = (1 - gamma) / gamma
    error = each["error"] @ weight
    if update == "sparse":
        return {
            "unsent": (each["unsent_sq"], error),
            "upload_error": (error, max(worst, 1.0) * each["tail_sum"]),
            "upload_noise": (each["upload_noise"], squares * variance / gamma),
        }
    moved = each["distance_sq"] * (update == "zeroed")
    return {
        "gradient_error": (error, smooth**2 * moved / gamma),
        "coverage_charge": (each["coverage_charge"], worst * each["heterogeneity"]),
        "server_noise": (each["server_noise"], squares * variance / gamma**2),
    }


def _beside(left: FloatArray, right: FloatArray) -> dict[str, Any]:
    """Means over all rounds, and after how many rounds the mean so far was above what it may be."""
    above = np.cumsum(left) > np.cumsum(right) * (1 + 1e-9)
    return {"measured": float(left.mean()), "bound": float(right.mean()), "violations": int(above.sum())}
