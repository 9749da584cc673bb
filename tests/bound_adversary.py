"""Search for the worst case: an evolution that maximises measured over bound. ``python tests/bound_adversary.py``.

An instance is a handful of devices with random smooth, non-convex losses (an indefinite quadratic and a cosine), masks
that depend on the sign of the last noise drawn, and noise of random signs, of which all outcomes are run: expectations
are exact, and so are the theorem's constants. The search changes the losses and the start, and keeps what comes closer
to the bound. A ratio above 1 would refute the theorem (or its numbers, or the constants).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kktalloc import _command
from kktalloc.bound import Constants, FeedbackErrors, GradientErrors, Schedule, UploadErrors, bound

Array = NDArray[np.float64]
KINDS = ("norms", "gradient errors", "fill", "covered", "momentum")
"""Theorems: the first, the second, sparse uploads by both means, error feedback with server momentum."""


@dataclass(frozen=True)
class Shape:
    """What the search leaves alone: sizes, and masks (rounds, sign of the last noise, devices, coordinates)."""

    kind: str
    devices: int
    size: int
    steps: int
    rounds: int
    noisy: bool
    masks: Array
    momentum: float

    @classmethod
    def random(cls, rng: np.random.Generator, kind: str) -> Shape:
        devices, size, steps, rounds = (int(rng.integers(1, n)) for n in (4, 4, 4, 3))
        noisy = bool(rng.integers(2)) and devices * steps * rounds <= 8
        masks = (rng.random((rounds, 2, devices, size)) < rng.choice([0.5, 0.7, 1.0])).astype(float)
        momentum = float(rng.choice([0.0, 0.5, 0.9])) if kind == "momentum" else 0.0
        return cls(kind, devices, size, steps, rounds, noisy, masks, momentum)

    @property
    def parameters(self) -> int:
        K, d = self.devices, self.size
        return K * d * d + 4 * K * d + 2 * K + d + 2


class Losses:
    """Smooth losses with L = 1, weights, noise, start and step from a flat vector."""

    def __init__(self, shape: Shape, theta: Array) -> None:
        K, d = shape.devices, shape.size
        sizes = (K * d * d, K * d, K * d, K * d, K * d, K, K, d, 2)
        parts = np.split(theta, np.cumsum(sizes)[:-1])
        hessian = parts[0].reshape(K, d, d)
        hessian = (hessian + hessian.transpose(0, 2, 1)) / 2
        self.slope, self.wave, self.phase = (part.reshape(K, d) for part in parts[1:4])
        self.noise = parts[4].reshape(K, d) * shape.noisy
        height = parts[5]
        largest = np.abs(np.linalg.eigvalsh(hessian)).max(axis=-1) + np.abs(height) * (self.wave**2).sum(axis=-1)
        smooth = float(largest.max()) + 1e-12
        self.hessian, self.height = hessian / smooth, height / smooth
        alpha = np.exp(np.clip(parts[6], -3, 3))
        self.alpha, self.start = alpha / alpha.sum(), parts[7]
        self.share = 1 / (1 + np.exp(-parts[8]))

    def value(self, k: int, x: Array) -> Array:
        """Of each sample, (S,)."""
        quadratic = np.einsum("si,ij,sj->s", x, self.hessian[k], x) / 2
        return np.asarray(quadratic + x @ self.slope[k] + self.height[k] * np.cos(x @ self.wave[k] + self.phase[k, 0]))

    def gradient(self, k: int, x: Array) -> Array:
        """(S, d)."""
        bent = np.sin(x @ self.wave[k] + self.phase[k, 0])[:, None] * self.height[k] * self.wave[k]
        return np.asarray(x @ self.hessian[k] + self.slope[k] - bent)


def measured_over_bound(shape: Shape, theta: Array) -> float:
    """Left side over right side with the run's exact constants; 0 where the theorem does not apply."""
    losses, sparse = Losses(shape, theta), shape.kind in ("fill", "covered", "momentum")
    K, alpha = shape.devices, losses.alpha
    draws = K * shape.rounds * shape.steps if shape.noisy else 0
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=draws))) if draws else np.ones((1, 1))
    column = iter(signs.T)
    u = np.repeat(losses.start[None], len(signs), axis=0)
    least = float(alpha.min()) if shape.kind == "covered" else 1.0  # A5'': P is at most 1/Gamma
    eta = 0.98 * float(losses.share[0]) * least / shape.steps
    rate = 0.25 + 0.75 * float(losses.share[1]) if sparse else 1.0
    beta = shape.momentum
    residual, buffer = np.zeros((K, *u.shape)), np.zeros_like(u)

    def total() -> float:
        """F, with momentum at the shifted iterate."""
        to_come = rate * (np.einsum("k,ksd->sd", alpha, residual) - beta * buffer)
        return float(sum(alpha[k] * losses.value(k, u + to_come).mean() for k in range(K)))

    before, last = total(), np.ones(len(signs))
    seen: dict[str, list[Any]] = {}
    for t in range(shape.rounds):
        masks = shape.masks[t][(last < 0).astype(int)].transpose(1, 0, 2)
        gradient = np.stack([losses.gradient(k, u) for k in range(K)])
        x = np.repeat(u[None], K, axis=0) if sparse else masks * u
        start = np.stack([losses.gradient(k, x[k]) for k in range(K)])
        change = np.zeros_like(x)
        added = np.zeros_like(u)
        for _ in range(shape.steps):
            for k in range(K):
                noise = np.zeros_like(u)
                if shape.noisy:
                    last = next(column)
                    noise = last[:, None] * losses.noise[k]
                drawn = losses.gradient(k, x[k]) + noise
                change[k] += drawn
                added += alpha[k] * noise
                x[k] = x[k] - eta * (1.0 if sparse else masks[k]) * drawn
        if sparse:  # what is sent may depend on the round's own noise
            masks = shape.masks[t][(last < 0).astype(int)].transpose(1, 0, 2)
        kept = np.einsum("k,ksd->sd", alpha, masks)
        covered = kept > 0
        inverse = np.where(covered, 1 / np.where(covered, kept, 1.0), 1.0)
        whole = np.einsum("k,ksd->sd", alpha, gradient)
        spread = np.einsum("k,ksd->sd", alpha, (gradient - whole) ** 2)
        at = np.ones_like(kept) if sparse else covered
        scale = inverse if shape.kind == "covered" else np.ones_like(inverse)
        share = alpha[:, None, None] * masks * inverse
        found = {
            "gradient": (at * whole**2).sum(1).mean(),
            "delta2": (at * spread).sum(1).mean(),
            "gamma": 1 / scale.max() if sparse else (kept[covered].min() if covered.any() else 1.0),
            "pruned": (((1 - masks) * u) ** 2).sum(2).mean(1),
            "charge": (covered * (inverse - 1) * spread).sum(1).mean(),
            "noise": (share**2 * (losses.noise**2)[:, None, :]).sum((0, 2)).mean(),
            "error": (masks * inverse * (gradient - start) ** 2).sum(2).mean(1),
            "unsent": (scale * (1 - kept) * (1 - masks) * change**2).sum(2).mean(1),
            "upload noise": (scale * added**2).sum(1).mean() / shape.steps,
            "selection": ((scale - 1) * added**2).sum(1).mean() / shape.steps,
            "residual": (residual**2).sum(2).mean(1),
            "buffer": (buffer**2).sum(1).mean(),
        }
        for name, value in found.items():
            seen.setdefault(name, []).append(value)
        if shape.kind == "momentum":
            offered = eta * change - residual
            buffer = beta * buffer + np.einsum("k,ksd,ksd->sd", alpha, masks, offered)
            residual = (masks - 1) * offered
            u = u - rate * (1 - beta) * buffer
        elif sparse:
            u = u - rate * eta * scale * np.einsum("k,ksd,ksd->sd", alpha, masks, change)
        else:
            u = np.where(covered, np.einsum("k,ksd->sd", alpha, masks * x) * inverse, u)
    gained = before - total()
    return _ratio(shape, losses, seen, eta, rate, gained)


def _ratio(shape: Shape, losses: Losses, seen: dict[str, list[Any]], eta: float, rate: float, gained: float) -> float:
    mean = {name: np.mean(values, axis=0) for name, values in seen.items()}
    gamma = float(min(seen["gamma"]))
    pruned = np.max(seen["pruned"], initial=1e-300)
    variance = float((losses.noise**2).sum(1).max())
    constants = Constants(
        1.0, 1.0, variance, 0.0, float(np.sqrt(pruned)), mean["delta2"], 1.0 if gamma > 1 - 1e-12 else gamma,
        max(gained, 0.0),
    )  # fmt: skip
    errors: FeedbackErrors | GradientErrors | UploadErrors | None = None
    ratio = None
    if shape.kind == "norms":
        ratio = mean["pruned"] / pruned
    elif shape.kind == "gradient errors":
        errors = GradientErrors(mean["error"], mean["charge"], mean["noise"])
    elif shape.kind == "momentum":
        slow = rate * (1 - shape.momentum)
        errors = FeedbackErrors(mean["residual"], mean["upload noise"], 0.0, slow, shape.momentum, mean["buffer"])
    else:
        errors = UploadErrors(mean["unsent"], mean["upload noise"], mean["selection"], rate)
    schedule = Schedule(shape.rounds, shape.steps, 0, eta, 0.1)
    try:
        terms = bound(constants, schedule, ratio, losses.alpha, young="best", errors=errors)
    except ValueError:  # beyond the theorem's step sizes
        return 0.0
    left = float(terms.gradient_weight) * mean["gradient"] - min(gained, 0.0) / shape.rounds
    return float(left / max(float(terms.total), 1e-300))


def search(
    seed: int, kind: str, evaluations: int, ratio: Callable[[Shape, Array], float] = measured_over_bound
) -> float:
    """The largest ratio that a (1+1) evolution with adapted steps finds."""
    rng = np.random.default_rng(seed)
    shape = Shape.random(rng, kind)
    theta = rng.normal(size=shape.parameters)
    best, width = ratio(shape, theta), 0.7
    for _ in range(evaluations):
        chosen = rng.random(theta.size) < max(0.15, 2 / theta.size)
        other = np.clip(theta + width * chosen * rng.normal(size=theta.size), -6, 6)
        found = ratio(shape, other)
        if found >= best:
            theta, best, width = other, found, min(1.3 * width, 3.0)
        else:
            width = max(0.96 * width, 1e-3)
    return best


def main(instances: int = 15, evaluations: int = 400) -> int:
    """Print the largest ratios of each theorem; exit code 1 if one is above 1."""
    above = 0
    for kind in KINDS:
        found = np.array([search(seed, kind, evaluations) for seed in tqdm(range(instances), desc=kind, leave=False)])
        above += int(np.sum(found > 1 + 1e-9))
        numbers = f"largest {found.max():.6f}, median {np.median(found):.4f}"
        print(f"{kind:<16} {instances} searches of {evaluations}: {numbers}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(_command.run("bound_adversary", lambda: main(*map(int, sys.argv[1:]))))
