"""What happens inside a device round: `fltrain`'s own, walked through again in double precision.

The walk must end where `fltrain` ended, or the run is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call, vmap

import fltrain as ft
from fltrain.local import draw_batches

from .terms import Round

FloatArray = NDArray[np.float64]
DEVICES, PERSONAL_STEPS, SAMPLES_PER_DEVICE, POWER_STEPS = 5, 2, 200, 30
PERSONAL_SHARE = 0.1
"""eta_v over 1/L_v at the start. Curvature grows as the heads learn; this leaves it room."""
FIRST_GUESS, HEADROOM = 20.0, 1.5
LOOK_EVERY = 10
"""Rounds between power iterations, and between exact variances at all steps on u (at the first: every round)."""


@dataclass
class Smoothness:
    """Largest curvature seen: power iteration, and every quotient that the proof's inequalities need."""

    u: float = 0.0
    v: float = 0.0
    by_power_iteration: tuple[float, float] = (0.0, 0.0)

    def secant(self, change: torch.Tensor, distance: torch.Tensor) -> None:
        """``|grad(x) - grad(y)| <= L |x - y|`` in u."""
        if float(distance.norm()) > 1e-9:
            self.u = max(self.u, float(change.norm() / distance.norm()))


@dataclass(frozen=True)
class Device:
    """One device's loss in double precision, as a function of flat u and v."""

    model: nn.Module
    names: tuple[tuple[str, ...], tuple[str, ...]]
    shapes: tuple[list[torch.Size], list[torch.Size]]
    x: torch.Tensor
    y: torch.Tensor

    def loss(self, u: torch.Tensor, v: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Mean cross-entropy over `rows`, default all."""
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        return nn.functional.cross_entropy(functional_call(self.model, self._parts(u, v), (x,)), y)

    def gradient(self, u: torch.Tensor, v: torch.Tensor, part: int, rows: torch.Tensor | None = None) -> torch.Tensor:
        """In u (part 0) or v (part 1)."""
        at = [u.detach(), v.detach()]
        at[part] = at[part].clone().requires_grad_()
        return torch.autograd.grad(self.loss(at[0], at[1], rows), at[part])[0]

    def variance(
        self, u: torch.Tensor, v: torch.Tensor, part: int, batch: int, sampling: str = "epochs"
    ) -> torch.Tensor:
        """Exact variance of one mini-batch gradient, coordinate by coordinate; `sampling` as in `TrainConfig`."""
        n = len(self.y)
        if batch >= n and sampling == "epochs":
            return torch.zeros_like((u, v)[part])

        def one(x: torch.Tensor, y: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            pair = (at, v) if part == 0 else (u, at)
            logits = functional_call(self.model, self._parts(*pair), (x[None],))
            return nn.functional.cross_entropy(logits, y[None])

        each = vmap(torch.func.grad(one, argnums=2), in_dims=(0, 0, None))(self.x, self.y, (u, v)[part])
        spread = (each - each.mean(dim=0)).square().mean(dim=0) / batch
        return spread if sampling == "replacement" else spread * (n - batch) / (n - 1)

    def curvature(self, u: torch.Tensor, v: torch.Tensor, part: int, start: torch.Tensor) -> float:
        """|largest eigenvalue| of the Hessian block, by power iteration on Hessian-vector products."""
        at = [u.detach(), v.detach()]
        at[part] = at[part].clone().requires_grad_()
        slope = torch.autograd.grad(self.loss(at[0], at[1]), at[part], create_graph=True)[0]
        direction, size = start / start.norm(), 0.0
        for _ in range(POWER_STEPS):
            product = torch.autograd.grad(slope, at[part], direction, retain_graph=True)[0]
            size = float(product.norm())
            if size == 0.0:
                break
            direction = product / size
        return size

    def _parts(self, u: torch.Tensor, v: torch.Tensor) -> dict[str, torch.Tensor]:
        parts: dict[str, torch.Tensor] = {}
        for names, shapes, flat in zip(self.names, self.shapes, (u, v), strict=True):
            pieces = torch.split(flat, [shape.numel() for shape in shapes])
            parts |= {name: piece.view(shape) for name, shape, piece in zip(names, shapes, pieces, strict=True)}
        return parts


def build_split(data: ft.Dataset, seed: int) -> ft.Split:
    """A smooth network, as A1 asks: tanh, 32 and 16 units, the head personal."""
    inputs = int(np.prod(data.x.shape[1:]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(inputs, 32), act1=nn.Tanh(),
            fc2=nn.Linear(32, 16), act2=nn.Tanh(), head=nn.Linear(16, data.classes),
        )  # fmt: skip
    return ft.Split(nn.Sequential(layers), personal=("head",))


@dataclass
class Walk:
    """One device's round as it went."""

    masks: torch.Tensor
    gradient: torch.Tensor
    v: torch.Tensor
    x: torch.Tensor
    path: list[torch.Tensor] = field(default_factory=list)
    noise: list[torch.Tensor] = field(default_factory=list)
    noise_u_var: float = 0.0
    noise_variance: FloatArray = field(default_factory=lambda: np.zeros(1))
    """(d,) of one stochastic gradient, coordinate by coordinate: the largest over the steps looked at."""
    personal_sq: float = 0.0
    personal_noise_sq: float = 0.0
    noise_v_var: float = 0.0


def walk_again(
    device: Device,
    u32: torch.Tensor,
    v32: torch.Tensor,
    mask: torch.Tensor | None,
    share: ft.DeviceData,
    config: ft.TrainConfig,
    t: int,
    k: int,
    seen: Smoothness,
) -> Walk:
    """Take the device's steps again in double precision, on the batches that `fltrain` drew."""
    rng = np.random.default_rng((config.seed, t, k))
    n = len(share.train_y)
    own, shared = (
        torch.from_numpy(draw_batches(rng, n, config.batch_of(k), steps, config.sampling))
        for steps in (config.personal_steps, config.pruned_steps)
    )
    u, v = u32.double(), v32.double()
    personal_sq = noise_sq = variance = 0.0
    for rows in own:
        slope, drawn = device.gradient(u, v, 1), device.gradient(u, v, 1, rows)
        personal_sq += float(slope.square().sum())
        expected = float(device.variance(u, v, 1, config.batch_of(k), config.sampling).sum())
        noise_sq, variance = noise_sq + expected, max(variance, expected)
        step = -config.learning_rate_personal * drawn
        risen = float(device.loss(u, v + step) - device.loss(u, v) - slope @ step)
        seen.v = max(seen.v, 2 * risen / float(step.square().sum())) if float(step.norm()) > 1e-9 else seen.v
        v = v + step
    kept = torch.ones_like(u) if mask is None else mask.double()
    begin = kept * u if config.update == "zeroed" else u
    walk = Walk(kept, device.gradient(u, v, 0), v, begin)
    walk.personal_sq, walk.personal_noise_sq, walk.noise_v_var = personal_sq, noise_sq, variance
    for rows in shared:
        slope, drawn = device.gradient(walk.x, v, 0), device.gradient(walk.x, v, 0, rows)
        walk.path.append(slope)
        walk.noise.append(drawn - slope)
        if t % LOOK_EVERY == 0 or len(walk.path) == 1:
            each = device.variance(walk.x, v, 0, config.batch_of(k), config.sampling).numpy()
            walk.noise_variance = np.maximum(walk.noise_variance, each)
            walk.noise_u_var = max(walk.noise_u_var, float(each.sum()))
        seen.secant(slope - walk.path[0], walk.x - begin)
        walk.x = walk.x - config.learning_rate_global * kept * drawn
    seen.secant(walk.gradient - walk.path[0], u - begin)
    return walk


def agree(walk: Walk, upload: Any, t: int, k: int, sent: torch.Tensor | float = 1.0) -> None:
    """ValueError if the walk did not end where training did, as far as that was sent."""
    for mine, theirs in ((walk.x * sent, upload.values), (walk.v, upload.personal.v)):
        away = float((mine - theirs.double()).abs().max())
        if not away <= 1e-4 * (1 + float(mine.abs().max())):
            raise ValueError(f"round {t}, device {k}: fltrain ended {away:g} away from the steps walked again")


def as_one_sample(
    u: torch.Tensor,
    walks: Sequence[Walk],
    seen: Smoothness,
    devices: Sequence[Device],
    personal: Sequence[ft.PersonalState],
    after: torch.Tensor,
    weight: FloatArray,
) -> Round:
    """The round as one sample; also sees the curvature along the server's step."""

    def stack(name: str) -> FloatArray:
        return np.stack([getattr(w, name).numpy() for w in walks])[None]

    value_after = value(devices, after, personal, weight)
    step = after.double() - u.double()
    whole = sum(a * w.gradient for a, w in zip(weight, walks, strict=True))
    if float(step.norm()) > 1e-9:
        risen = value_after - value(devices, u, personal, weight) - float(whole @ step)
        seen.u = max(seen.u, 2 * risen / float(step.square().sum()))
    path, noise = (np.stack([torch.stack(getattr(w, name)).numpy() for w in walks])[None] for name in ("path", "noise"))
    return Round(
        u=u.double().numpy()[None],
        masks=stack("masks"),
        gradient=stack("gradient"),
        gradient_pruned=path[:, :, 0],
        gradient_path=path,
        noise=noise,
        noise_u_var=max(w.noise_u_var for w in walks),
        personal_gradient_sq=np.array([[w.personal_sq for w in walks]]),
        personal_noise_sq=np.array([[w.personal_noise_sq for w in walks]]),
        noise_v_var=max(w.noise_v_var for w in walks),
        value_after=value_after,
    )


@dataclass(frozen=True)
class Beginning:
    """Where a run begins: data, model, and what its steps are chosen by."""

    shares: list[ft.DeviceData]
    split: ft.Split
    devices: list[Device]
    batch_size: int
    weight: FloatArray
    """(DEVICES,) in the aggregation."""
    learning_rate_personal: float

    def config(
        self, rounds: int, local_steps: int, batch: int | None, learning_rate: float, seed: int, **choices: Any
    ) -> ft.TrainConfig:
        """A run's settings; batches are drawn with replacement, as A2 asks, or, `batch` None, gradients are full."""
        return ft.TrainConfig(
            rounds=rounds, personal_steps=PERSONAL_STEPS, pruned_steps=local_steps, batch_size=self.batch_size,
            learning_rate_global=learning_rate, learning_rate_personal=self.learning_rate_personal, seed=seed,
            sampling="epochs" if batch is None else "replacement", **choices,
        )  # fmt: skip


def begin(data: ft.Dataset, seed: int, batch: int | None) -> Beginning:
    """Deal out the data, build the model, and take the personal step from the curvature at the start."""
    shares = ft.partition(
        data, DEVICES, "shards", seed, classes_per_device=4, samples_per_device=SAMPLES_PER_DEVICE, test_fraction=0.2
    )
    split = build_split(data, seed)
    devices = [evaluated(split, share) for share in shares]
    first = Smoothness()
    u, personal = split.initial_global(), [split.initial_personal() for _ in shares]
    look(first, devices, [u] * DEVICES, [p.v for p in personal])
    # No device has fewer samples than the others, so a batch of the largest size is everybody's full gradient.
    size = max(len(share.train_y) for share in shares) if batch is None else batch
    return Beginning(shares, split, devices, size, np.full(DEVICES, 1.0 / DEVICES), PERSONAL_SHARE / first.v)


def evaluated(split: ft.Split, share: ft.DeviceData) -> Device:
    """A device's loss on its training samples."""
    model = split.assemble(split.initial_global(), split.initial_personal()).double()
    shapes = dict(model.named_parameters())
    names = split.global_names, split.personal_names
    sizes = [shapes[n].shape for n in names[0]], [shapes[n].shape for n in names[1]]
    return Device(model, names, sizes, share.train_x.double(), share.train_y)


def value(
    devices: Sequence[Device], u: torch.Tensor, personal: Sequence[ft.PersonalState], weight: FloatArray
) -> float:
    """F, the weighted mean of the devices' losses."""
    with torch.no_grad():
        each = [float(d.loss(u.double(), p.v.double())) for d, p in zip(devices, personal, strict=True)]
    return float(weight @ each)


def look(seen: Smoothness, devices: Sequence[Device], us: Sequence[torch.Tensor], vs: Sequence[torch.Tensor]) -> None:
    """Power iteration on every device, at these points."""
    generator = torch.Generator().manual_seed(0)
    for device, u, v in zip(devices, us, vs, strict=True):
        pair = u.double(), v.double()
        found = [
            device.curvature(*pair, part, torch.randn(pair[part].shape, generator=generator, dtype=torch.float64))
            for part in (0, 1)
        ]
        before = seen.by_power_iteration
        seen.by_power_iteration = max(before[0], found[0]), max(before[1], found[1])
        seen.u, seen.v = max(seen.u, found[0]), max(seen.v, found[1])
