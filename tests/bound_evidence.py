"""The bound against the algorithm: random problems with known constants, run and compared.

Each problem is run with the masked algorithm of the theorem (personal steps, masks, pruned local steps,
coverage-averaged aggregation), for many noise samples at once. The constants are exact for the run: L from
the Hessians, the variance of the stochastic gradients, and delta^2, D^2 and Gamma as they occurred; the
initial gap is F at the start minus F at the end, the sharpest that the theorem allows. For the full table:
``python tests/bound_evidence.py``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tqdm import tqdm

from kktalloc import _command
from kktalloc.bound import BoundTerms, Constants, Schedule, best_young, bound

Array = NDArray[np.float64]
# (rng, ratio, device, u, probe gradient) -> mask; leading dimension: samples
MaskRule = Callable[[np.random.Generator, float, int, Array, Array], Array]


class Problem(Protocol):
    """F_k(u, v_k) with known smoothness; every argument has a leading dimension of samples."""

    weight: Array
    smoothness_u: float
    smoothness_v: float

    def start(self) -> tuple[Array, Array]: ...
    def loss(self, k: int, u: Array, v: Array) -> Array: ...
    def gradients(self, k: int, u: Array, v: Array) -> tuple[Array, Array]: ...
    def noisy(self, rng: np.random.Generator, k: int, u: Array, v: Array) -> tuple[Array, Array, float, float]:
        """Stochastic gradients in u and v, and their exact variances (the mean over the samples)."""
        ...


@dataclass
class Quadratics:
    """Indefinite quadratics in (u, v_k), bounded below or not.

    Noise is a fixed vector with a random sign. The samples are all outcomes of the signs, each once: their
    mean is the expectation, exactly.
    """

    weight: Array
    hessian_u: Array  # (K, d, d)
    hessian_v: Array
    cross: Array
    linear: Array
    noise_u: Array
    noise_v: Array
    signs: Iterator[Array]
    u0: Array
    v0: Array

    @classmethod
    def random(cls, rng: np.random.Generator, devices: int, deviation: float, signs: Iterator[Array]) -> Quadratics:
        d, dv = rng.integers(2, 7), rng.integers(1, 4)
        common = rng.normal(size=(d, d))
        spread = rng.choice([0.0, 0.3, 1.0])
        raw = common + spread * rng.normal(size=(devices, d, d))
        raw_v = rng.normal(size=(devices, dv, dv))
        return cls(
            weight=rng.dirichlet(np.full(devices, 3.0)),
            hessian_u=(raw + raw.transpose(0, 2, 1)) / 2,
            hessian_v=(raw_v + raw_v.transpose(0, 2, 1)) / 2,
            cross=rng.normal(size=(devices, d, dv)),
            linear=rng.choice([0.1, 1.0]) * rng.normal(size=(devices, d)),
            noise_u=deviation * rng.normal(size=(devices, d)),
            noise_v=deviation * rng.normal(size=(devices, dv)),
            signs=signs,
            u0=rng.normal(size=d),
            v0=rng.normal(size=(devices, dv)),
        )

    @property
    def smoothness_u(self) -> float:
        return float(np.abs(np.linalg.eigvalsh(self.hessian_u)).max())

    @property
    def smoothness_v(self) -> float:
        return float(np.abs(np.linalg.eigvalsh(self.hessian_v)).max())

    def start(self) -> tuple[Array, Array]:
        return self.u0, self.v0

    def loss(self, k: int, u: Array, v: Array) -> Array:
        quadratic = np.einsum("si,ij,sj->s", u, self.hessian_u[k], u)
        quadratic += np.einsum("si,ij,sj->s", v, self.hessian_v[k], v)
        return np.asarray(quadratic / 2 + np.einsum("si,ij,sj->s", u, self.cross[k], v) + u @ self.linear[k])

    def gradients(self, k: int, u: Array, v: Array) -> tuple[Array, Array]:
        grad_u = u @ self.hessian_u[k] + v @ self.cross[k].T + self.linear[k]
        return grad_u, v @ self.hessian_v[k] + u @ self.cross[k]

    def noisy(self, rng: np.random.Generator, k: int, u: Array, v: Array) -> tuple[Array, Array, float, float]:
        grad_u, grad_v = self.gradients(k, u, v)
        sign = next(self.signs)[:, None]
        noise_u, noise_v = self.noise_u[k], self.noise_v[k]
        return grad_u + sign * noise_u, grad_v + sign * noise_v, noise_u @ noise_u, noise_v @ noise_v


@dataclass
class Digits:
    """Softmax regression on scikit-learn's digits: shared weights u, personal biases v_k, label-skewed devices."""

    images: list[Array]
    labels: list[Array]
    weight: Array
    batch: int | None
    ridge: float = 1e-3

    @classmethod
    def split(cls, rng: np.random.Generator, devices: int, batch: int | None) -> Digits:
        pixels, target = load_digits(return_X_y=True)
        pixels = pixels / 16
        keep = rng.permutation(len(target))[:600]
        order = keep[np.argsort(target[keep] + 3 * rng.random(600), kind="stable")]  # neighbours share labels
        parts = np.array_split(order, devices)
        return cls(
            [pixels[p] for p in parts], [np.eye(10)[target[p]] for p in parts],
            np.array([len(p) for p in parts]) / 600, batch,
        )  # fmt: skip

    @property
    def smoothness_u(self) -> float:
        # The Hessian of softmax cross-entropy in the logits is at most 1/2.
        return max(float(np.linalg.eigvalsh(x.T @ x / len(x))[-1]) / 2 for x in self.images) + self.ridge

    @property
    def smoothness_v(self) -> float:
        return 0.5 + self.ridge

    def start(self) -> tuple[Array, Array]:
        return 0.1 * np.random.default_rng(0).normal(size=640), np.zeros((len(self.images), 10))

    def _residual(self, k: int, u: Array, v: Array) -> tuple[Array, Array]:
        logits = np.einsum("nf,sfc->snc", self.images[k], u.reshape(-1, 64, 10)) + v[:, None, :]
        logits -= logits.max(axis=-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return np.exp(log_p) - self.labels[k], -np.einsum("snc,nc->sn", log_p, self.labels[k])

    def loss(self, k: int, u: Array, v: Array) -> Array:
        penalty = self.ridge / 2 * ((u**2).sum(1) + (v**2).sum(1))
        return np.asarray(self._residual(k, u, v)[1].mean(1) + penalty)

    def gradients(self, k: int, u: Array, v: Array) -> tuple[Array, Array]:
        residual, _ = self._residual(k, u, v)
        grad = np.einsum("nf,snc->sfc", self.images[k], residual) / residual.shape[1]
        return grad.reshape(len(u), -1) + self.ridge * u, residual.mean(1) + self.ridge * v

    def noisy(self, rng: np.random.Generator, k: int, u: Array, v: Array) -> tuple[Array, Array, float, float]:
        if self.batch is None:
            return *self.gradients(k, u, v), 0.0, 0.0
        residual, _ = self._residual(k, u, v)
        size = residual.shape[1]
        picks = rng.integers(size, size=(len(u), self.batch))
        drawn = np.take_along_axis(residual, picks[:, :, None], axis=1)
        grad_u = np.einsum("sbf,sbc->sfc", self.images[k][picks], drawn) / self.batch
        # Exact variance of a batch drawn with replacement: a sample's gradient is pixels times residual.
        square = (residual**2).sum(-1)
        mean_u = np.einsum("nf,snc->sfc", self.images[k], residual) / size
        var_u = ((self.images[k] ** 2).sum(1) * square).mean(1) - (mean_u**2).sum((1, 2))
        var_v = square.mean(1) - (residual.mean(1) ** 2).sum(1)
        return (
            grad_u.reshape(len(u), -1) + self.ridge * u,
            drawn.mean(1) + self.ridge * v,
            float(var_u.mean()) / self.batch,
            float(var_v.mean()) / self.batch,
        )


def by_magnitude(rng: np.random.Generator, ratio: float, k: int, u: Array, probe: Array) -> Array:
    return _keep_largest(np.abs(u), ratio)


def by_movement(rng: np.random.Generator, ratio: float, k: int, u: Array, probe: Array) -> Array:
    return _keep_largest(np.abs(probe), ratio)


def at_random(rng: np.random.Generator, ratio: float, k: int, u: Array, probe: Array) -> Array:
    return _keep_largest(np.broadcast_to(rng.random(u.shape[1]), u.shape), ratio)


def shared_random(rng: np.random.Generator, ratio: float, k: int, u: Array, probe: Array) -> Array:
    """The same coordinates on every device."""
    return _keep_largest(np.broadcast_to(np.random.default_rng(5).random(u.shape[1]), u.shape), ratio)


def _keep_largest(score: Array, ratio: float) -> Array:
    dropped = int(np.floor(ratio * score.shape[1]))
    ranks = np.argsort(np.argsort(score, axis=1), axis=1)
    return np.asarray(ranks >= dropped, dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """Measured left-hand side and the bound's terms for one run."""

    measured: float
    terms: BoundTerms

    @property
    def ratio(self) -> float:
        return float(self.terms.total) / self.measured


def compare(
    problem: Problem,
    rng: np.random.Generator,
    ratio: Array,
    rule: MaskRule,
    *,
    rounds: int,
    local_steps: int,
    personal_steps: int,
    step: float,
    samples: int,
) -> Comparison:
    """Run the algorithm and evaluate the bound with the run's exact constants.

    ``eta`` is ``step / (L_u tau)``, or less where the theorem asks for less.
    """
    devices = range(len(problem.weight))
    alpha = problem.weight
    u0, v0 = problem.start()
    u = np.repeat(u0[None], samples, axis=0)
    vs = [np.repeat(v0[k][None], samples, axis=0) for k in devices]
    least = min(step, np.sqrt(alpha.min() / 10))  # whatever the masks, Gamma is at least the least weight
    eta = least / (problem.smoothness_u * local_steps)
    eta_v = 0.5 / problem.smoothness_v

    def value() -> float:
        return float(sum(alpha[k] * problem.loss(k, u, vs[k]).mean() for k in devices))

    start = value()
    gradient2 = personal2 = 0.0
    var_u, var_v, delta2, radius2, gamma = [0.0], [0.0], [0.0], [0.0], [1.0]
    for _ in range(rounds):
        for k in devices:
            for _ in range(personal_steps):
                personal2 += alpha[k] * float((problem.gradients(k, u, vs[k])[1] ** 2).sum(1).mean())
                _, noisy, _, var = problem.noisy(rng, k, u, vs[k])
                var_v.append(var)
                vs[k] = vs[k] - eta_v * noisy
        grads = np.stack([problem.gradients(k, u, vs[k])[0] for k in devices])
        masks = np.stack([rule(rng, ratio[k], k, u, grads[k]) for k in devices])
        kept = np.einsum("k,ksd->sd", alpha, masks)
        covered = kept > 0
        mean = np.einsum("k,ksd->sd", alpha, grads)
        gradient2 += float((covered * mean**2).sum(1).mean())
        delta2.append(float(np.einsum("k,ksd->s", alpha, covered * (grads - mean) ** 2).mean()))
        gamma.append(float(kept[covered].min()) if covered.any() else 1.0)
        xs = masks * u
        for k in devices:
            error = float((((1 - masks[k]) * u) ** 2).sum(1).mean())
            radius2.append(error / ratio[k] if ratio[k] > 0 else 0.0)
            for _ in range(local_steps):
                noisy, _, var, _ = problem.noisy(rng, k, xs[k], vs[k])
                var_u.append(var)
                xs[k] = xs[k] - eta * masks[k] * noisy
        mean_x = np.einsum("k,ksd->sd", alpha, xs) / np.where(covered, kept, 1.0)
        u = np.where(covered, mean_x, u)
    schedule = Schedule(rounds, local_steps, personal_steps, eta, eta_v)
    # What the algorithm gained stands in for F^0 - F*; where it lost, the gap is negative: added by hand.
    gained = start - value()
    constants = Constants(
        smoothness_u=problem.smoothness_u,
        smoothness_v=problem.smoothness_v,
        gradient_noise_u_var=max(var_u),
        gradient_noise_v_var=max(var_v),
        pruning_radius=np.sqrt(max(radius2)),
        heterogeneity=max(delta2),
        coverage=min(gamma) if min(gamma) < 1 - 1e-12 else 1.0,
        initial_gap=max(gained, 0.0),
    )
    young = best_young(constants, schedule, ratio, alpha)
    terms = bound(constants, schedule, ratio, alpha, young=young)
    measured = float(terms.gradient_weight) * gradient2 + float(terms.personal_weight) * personal2
    return Comparison(measured / rounds - min(gained, 0.0) / rounds, terms)


RULES: dict[str, MaskRule] = {
    "magnitude": by_magnitude, "movement": by_movement, "random": at_random, "shared": shared_random,
}  # fmt: skip


def random_quadratic(seed: int) -> Comparison:
    """A random instance: problem, masks, schedule, noise (at most 12 random signs)."""
    rng = np.random.default_rng(seed)
    noisy = bool(rng.integers(2))
    while True:
        devices, rounds = int(rng.integers(1, 6)), int(rng.integers(1, 6))
        local_steps, personal_steps = int(rng.integers(1, 6)), int(rng.integers(0, 4))
        draws = devices * rounds * (local_steps + personal_steps)
        if not noisy or draws <= 12:
            break
    outcomes = np.array(list(itertools.product((-1.0, 1.0), repeat=draws))) if noisy else np.ones((1, draws))
    deviation = float(rng.choice([0.1, 1.0])) if noisy else 0.0
    problem = Quadratics.random(rng, devices, deviation, iter(outcomes.T))
    return compare(
        problem,
        rng,
        rng.uniform(0, 0.8, devices),
        list(RULES.values())[rng.integers(4)],
        rounds=rounds,
        local_steps=local_steps,
        personal_steps=personal_steps,
        step=float(rng.choice([0.02, 0.1, 0.2])),
        samples=len(outcomes),
    )


def digits(rule: str, batch: int | None, ratio: float, local_steps: int, rounds: int = 20) -> Comparison:
    """Softmax regression on digits, five label-skewed devices."""
    rng = np.random.default_rng(1)
    problem = Digits.split(rng, 5, batch)
    return compare(
        problem, rng, np.full(5, ratio), RULES[rule], rounds=rounds, local_steps=local_steps,
        personal_steps=2, step=0.2, samples=8 if batch else 1,
    )  # fmt: skip


def main(instances: int = 2000) -> int:
    """Print ratio statistics; exit code 1 if the bound is below a measurement."""
    ratios = np.array([random_quadratic(seed).ratio for seed in tqdm(range(instances), desc="quadratics")])
    quantiles = np.quantile(ratios, [0, 0.1, 0.5, 0.9])
    print("bound/measured        n   below 1     least     10 %   median     90 %")
    print(f"quadratics      {instances:7d} {np.sum(ratios < 1):9d}  " + " ".join(f"{q:8.3g}" for q in quantiles))
    below = int(np.sum(ratios < 1))
    for rule in RULES:
        for batch in (None, 32):
            grid: list[Any] = [(r, n) for r in (0.1, 0.5) for n in (1, 4)]
            found = [digits(rule, batch, r, n).ratio for r, n in tqdm(grid, desc=f"digits, {rule}", leave=False)]
            below += sum(x < 1 for x in found)
            kind = f"digits {rule[:4]} {'full' if batch is None else 'batch'}"
            print(f"{kind:<16}{len(found):7d} {sum(x < 1 for x in found):9d}  " + " ".join(
                f"{q:8.3g}" for q in np.quantile(found, [0, 0.1, 0.5, 0.9])))  # fmt: skip
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(_command.run("bound_evidence", lambda: main(*map(int, sys.argv[1:]))))
