"""What is run: real rounds, zeroed and sparse, with the left side of every hypothesis measured in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..cases import Case

FloatArray = NDArray[np.float64]
MODULES = ("bound/terms", "bound/training", "hypotheses/study")
"""Modules that make the numbers."""


@dataclass(frozen=True)
class HypothesesStudy:
    """The network of the bound study on digits; the step is a share of the largest that the theorems allow."""

    name: str = "hypotheses"
    seeds: tuple[int, ...] = (300,)
    masks: tuple[str, ...] = ("magnitude", "movement", "random")
    """Of zeroed rounds."""
    averaging: tuple[str, ...] = ("fill", "covered")
    """Of sparse rounds."""
    zeroed_ratios: tuple[float, ...] = (0.5, 0.8)
    sparse_ratios: tuple[float, ...] = (0.8, 0.95)
    schedules: tuple[tuple[int, int | None], ...] = ((1, None), (5, 32))
    """Local steps and batch size; None: full gradients. Batches are drawn with replacement, as A2 asks."""
    rounds: int = 8


CONFIG = HypothesesStudy()


def cases(config: HypothesesStudy) -> dict[str, Case]:
    """One case per run."""
    found: dict[str, Case] = {}
    kinds = [("zeroed", kind, ratio) for kind in config.masks for ratio in config.zeroed_ratios]
    kinds += [("sparse", kind, ratio) for kind in config.averaging for ratio in config.sparse_ratios]
    for seed in config.seeds:
        for update, kind, ratio in kinds:
            for steps, batch in config.schedules:
                name = f"{update}-{kind}-rho{ratio:g}-tau{steps}-batch{batch or 'all'}-seed{seed}"
                found[name] = partial(run, seed, update, kind, ratio, steps, batch, config.rounds)  # type: ignore[arg-type]
    return found


def run(
    seed: int,
    update: Literal["zeroed", "sparse"],
    kind: Literal["magnitude", "movement", "random", "fill", "covered"],
    ratio: float,
    local_steps: int,
    batch: int | None,
    rounds: int,
) -> dict[str, Any]:
    """Train with `fltrain`'s rounds, measure each, and evaluate the theorem for this kind of round."""
    import fltrain as ft

    from ..bound import training as real

    torch.set_num_threads(1)
    data = ft.load_digits()
    shares = ft.partition(
        data, real.DEVICES, "shards", seed,
        classes_per_device=4, samples_per_device=real.SAMPLES_PER_DEVICE, test_fraction=0.2,
    )  # fmt: skip
    split = real.build_split(data, seed)
    devices = [real._device(split, share) for share in shares]
    first = real._Smoothness()
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    real._look(first, devices, [u] * len(devices), [p.v for p in personal])
    weight = np.full(real.DEVICES, 1.0 / real.DEVICES)
    size = max(len(share.train_y) for share in shares) if batch is None else batch
    # Zeroed and covered: the least coverage that masks may have is a device's own weight.
    share = {"fill": 0.25, "covered": 0.5 * weight.min()}.get(kind, float(np.sqrt(weight.min() / 10)))
    guess = real._FIRST_GUESS
    choices: dict[str, Any] = {"importance": kind} if update == "zeroed" else {"averaging": kind}
    while True:
        config = ft.TrainConfig(
            rounds=rounds, personal_steps=real.PERSONAL_STEPS, pruned_steps=local_steps, batch_size=size,
            learning_rate_global=share / (guess * local_steps), seed=seed,
            learning_rate_personal=real._PERSONAL_SHARE / first.v, update=update,
            sampling="epochs" if batch is None else "replacement", **choices,
        )  # fmt: skip
        measured, seen = _train(split, shares, devices, config, ratio, weight)
        if seen.u <= guess:
            break
        guess = real._HEADROOM * seen.u
    found = _evaluate(measured, config, (seen.u, seen.v), ratio, weight)
    return {"update": update, "kind": kind, "ratio": ratio, "local_steps": local_steps, "batch": batch, "seed": seed,
            "smoothness": [seen.u, seen.v], **found}  # fmt: skip


def _train(
    split: Any, shares: Sequence[Any], devices: Sequence[Any], config: Any, ratio: float, weight: FloatArray
) -> tuple[list[dict[str, Any]], Any]:
    """`fltrain`'s rounds, each walked through again in double precision, and what was measured in each."""
    from fltrain.aggregate import CoverageMean
    from fltrain.local import device_round
    from fltrain.replica import Replica

    from ..bound import training as real

    seen, found = real._Smoothness(), []
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    replica = Replica(split, fast=config.fast)
    for t in range(config.rounds):
        mean, walks, sent = CoverageMean(len(u), config.averaging, config.server_rate), [], []
        before = [p.v for p in personal]
        for k, share in enumerate(shares):
            upload = device_round(replica, u, personal[k], share, config, ratio, t, k)
            assert upload.values is not None
            mean.add(upload.values, upload.mask, weight[k])
            trained = upload.mask if config.update == "zeroed" else None
            walks.append(real._walk(devices[k], u, before[k], trained, share, config, t, k, seen))
            kept = torch.ones_like(u) if upload.mask is None else upload.mask.to(u.dtype)
            sent.append(kept.double().numpy())
            real._agree(walks[-1], upload, t, k, kept)
            personal[k] = upload.personal
        after = mean.result(u)
        if t % real._LOOK_EVERY == 0 or t + 1 == config.rounds:
            real._look(seen, devices, [u] * len(devices), [p.v for p in personal])
        value = [real._value(devices, at, personal, weight) for at in (u, after)]
        happened = real._round(u, walks, seen, devices, personal, after, weight)
        measure = _zeroed if config.update == "zeroed" else _sparse
        found.append(
            {
                **measure(happened, np.stack(sent), [w.noise_variance for w in walks], weight, config),
                "noise_u_var": max(w.noise_u_var for w in walks),
                "noise_v_var": max(w.noise_v_var for w in walks),
                "personal_gradient_sq": float(weight @ [w.personal_sq for w in walks]),
                "value": value,
            }
        )
        u = after
    return found, seen


def _zeroed(
    happened: Any, masks: FloatArray, noise: Sequence[FloatArray], weight: FloatArray, config: Any
) -> dict[str, Any]:
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
    }


def _sparse(
    happened: Any, sent: FloatArray, noise: Sequence[FloatArray], weight: FloatArray, config: Any
) -> dict[str, Any]:
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
        "upload_noise": float((scale * drawn**2).sum() / steps),
        "selection_noise": float(((scale - 1) * drawn**2).sum() / steps),
    }


def _evaluate(
    measured: list[dict[str, Any]],
    config: Any,
    smoothness: tuple[float, float],
    ratio: float,
    weight: FloatArray,
) -> dict[str, Any]:
    """The guarantee after each round beside what was measured, and each hypothesis's left side, mean over rounds."""
    from kktalloc.bound import BoundTerms, Constants, GradientErrors, Schedule, UploadErrors, bound

    count = np.arange(1, len(measured) + 1, dtype=float)

    def so_far(name: str) -> FloatArray:
        values = np.array([m[name] for m in measured])
        return np.asarray(np.cumsum(values, axis=0) / count.reshape(-1, *(1,) * (values.ndim - 1)))

    gamma = min(m["coverage"] for m in measured)
    errors: GradientErrors | UploadErrors
    if config.update == "zeroed":
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
        "coverage": gamma,
    }
