"""Quadratics with exactly known constants, run with the masked algorithm on many noise samples at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .terms import Measured, Round, compare, measure

FloatArray = NDArray[np.float64]
Masks = Literal["magnitude", "movement", "random"]

DEVICES, SHARED, PERSONAL, ROUNDS, SAMPLES, PERSONAL_STEPS = 5, 20, 4, 40, 32, 2
_MOST = 0.45
"""Share of the largest step that the theorem allows."""


@dataclass(frozen=True)
class Quadratics:
    """``F_k(u, v_k) = (z - c_k)' H_k (z - c_k) / 2`` with ``z = (u, v_k)``: convex, its least value is known."""

    weight: FloatArray
    hessian: FloatArray
    """(K, n, n), n = SHARED + PERSONAL."""
    centre: FloatArray
    """(K, n)."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Quadratics:
        """Eigenvalues log-uniform in [0.05, 1] in a random basis; centres of size 1, differing by half as much."""
        n = SHARED + PERSONAL
        basis = np.linalg.qr(rng.normal(size=(DEVICES, n, n)))[0]
        eigenvalues = np.exp(rng.uniform(np.log(0.05), 0.0, (DEVICES, n)))
        hessian = np.einsum("kij,kj,klj->kil", basis, eigenvalues, basis)
        centre = rng.normal(size=n) + 0.5 * rng.normal(size=(DEVICES, n))
        return cls(rng.dirichlet(np.full(DEVICES, 5.0)), hessian, centre)

    @property
    def smoothness(self) -> tuple[float, float]:
        """L_u and L_v, exact."""
        blocks = self.hessian[:, :SHARED, :SHARED], self.hessian[:, SHARED:, SHARED:]
        shared, personal = (float(np.linalg.eigvalsh(block).max()) for block in blocks)
        return shared, personal

    def least(self) -> float:
        """The least value of F over u and all v_k: one linear system."""
        size = SHARED + DEVICES * PERSONAL
        matrix, right, constant = np.zeros((size, size)), np.zeros(size), 0.0
        for k in range(DEVICES):
            own = np.r_[0:SHARED, SHARED + k * PERSONAL : SHARED + (k + 1) * PERSONAL]
            matrix[np.ix_(own, own)] += self.weight[k] * self.hessian[k]
            pull = self.weight[k] * self.hessian[k] @ self.centre[k]
            right[own] += pull
            constant += self.centre[k] @ pull / 2
        return float(constant - right @ np.linalg.solve(matrix, right) / 2)

    def value(self, u: FloatArray, v: FloatArray) -> float:
        """F at u (S, d) and v (S, K, dv), mean over samples."""
        away = self._away(u[:, None, :].repeat(DEVICES, axis=1), v)
        each = np.einsum("ski,kij,skj->sk", away, self.hessian, away) / 2
        return float((each @ self.weight).mean())

    def gradients(self, x: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """True gradients in u and v at x (S, K, d) and v (S, K, dv)."""
        slope = np.einsum("kij,skj->ski", self.hessian, self._away(x, v))
        return slope[..., :SHARED], slope[..., SHARED:]

    def _away(self, x: FloatArray, v: FloatArray) -> FloatArray:
        return np.asarray(np.concatenate([x, v], axis=-1) - self.centre)


def run(seed: int, masks: Masks, ratio: float, local_steps: int, noise_std: float) -> dict[str, Any]:
    """One random instance from start to end, compared with the bound. `noise_std` is per coordinate."""
    rng = np.random.default_rng(seed)
    problem = Quadratics.random(rng)
    L_u, L_v = problem.smoothness
    weight = problem.weight
    eta = _MOST * min(0.5, np.sqrt(weight.min() / 10)) / (L_u * local_steps)
    eta_v = 0.5 / L_v
    samples = SAMPLES if noise_std else 1
    u, v = np.zeros((samples, SHARED)) + rng.normal(size=SHARED), np.zeros((samples, DEVICES, PERSONAL))
    start = problem.value(u, v)
    rounds: list[Measured] = []
    for _ in range(ROUNDS):
        happened, u, v = _round(problem, rng, u, v, masks, ratio, local_steps, noise_std, (eta, eta_v))
        rounds.append(measure(happened, weight))
    result = compare(
        rounds,
        weight,
        np.full(DEVICES, ratio),
        smoothness=(L_u, L_v),
        rates=(eta, eta_v),
        steps=(local_steps, PERSONAL_STEPS),
        start=start,
        least=problem.least(),
    )
    return {"masks": masks, "noise_std": noise_std, "seed": seed, "ratio": ratio, "local_steps": local_steps, **result}


def _round(
    problem: Quadratics,
    rng: np.random.Generator,
    u: FloatArray,
    v: FloatArray,
    masks: Masks,
    ratio: float,
    local_steps: int,
    noise_std: float,
    rates: tuple[float, float],
) -> tuple[Round, FloatArray, FloatArray]:
    """Theory section 1 in a dozen lines: personal steps, masks, masked steps, coverage-weighted mean."""
    eta, eta_v = rates
    everywhere = np.repeat(u[:, None, :], DEVICES, axis=1)
    personal_sq = personal_noise_sq = np.zeros(v.shape[:2])
    for _ in range(PERSONAL_STEPS):
        slope = problem.gradients(everywhere, v)[1]
        noise = _noise(rng, noise_std, slope.shape)
        personal_sq = personal_sq + (slope**2).sum(axis=-1)
        personal_noise_sq = personal_noise_sq + (noise**2).sum(axis=-1)
        v = v - eta_v * (slope + noise)
    gradient = problem.gradients(everywhere, v)[0]
    probe = gradient + _noise(rng, noise_std, gradient.shape)
    score = {"magnitude": np.abs(everywhere), "movement": np.abs(probe), "random": rng.random(everywhere.shape)}[masks]
    kept = (score.argsort(axis=-1).argsort(axis=-1) >= int(ratio * SHARED)).astype(float)
    x = kept * everywhere
    path, noises = [], []
    for _ in range(local_steps):
        slope = problem.gradients(x, v)[0]
        noise = _noise(rng, noise_std, slope.shape)
        path.append(slope)
        noises.append(noise)
        x = x - eta * kept * (slope + noise)
    share = np.einsum("k,skd->sd", problem.weight, kept)
    mean = np.einsum("k,skd->sd", problem.weight, kept * x) / np.where(share > 0, share, 1.0)
    after = np.where(share > 0, mean, u)
    happened = Round(
        u=u,
        masks=kept,
        gradient=gradient,
        gradient_pruned=path[0],
        gradient_path=np.stack(path, axis=2),
        noise=np.stack(noises, axis=2),
        noise_u_var=noise_std**2 * SHARED,
        personal_gradient_sq=personal_sq,
        personal_noise_sq=personal_noise_sq,
        noise_v_var=noise_std**2 * PERSONAL,
        value_after=problem.value(after, v),
    )
    return happened, after, v


def _noise(rng: np.random.Generator, std: float, shape: tuple[int, ...]) -> FloatArray:
    """Uniform on a sphere, so that its size is its variance, exactly."""
    direction = rng.normal(size=shape)
    norm = np.sqrt((direction**2).sum(axis=-1, keepdims=True))
    return np.asarray(std * np.sqrt(shape[-1]) * direction / norm)
