"""One round on one device (theory section 1, steps 1 to 3), in plain autograd: the reference path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fltrain.accounting import upload_bits
from fltrain.config import TrainConfig
from fltrain.masks import keep_mask
from fltrain.partition import DeviceData
from fltrain.split import PersonalState, Replica


@dataclass(frozen=True)
class Upload:
    """What a device ends a round with.

    Parameters
    ----------
    device : int
        Whose it is.
    values : float32 tensor (n_global,), or None
        Sent: the trained global part, zero where dropped. None: nothing arrived.
    mask : bool tensor (n_global,), or None
        Sent: True where kept. None: nothing was pruned.
    personal : PersonalState
        Stays on the device.
    loss : float
        Mean training loss over the pruned steps.
    pruning_error_sq : float
        ||u - m u||^2 of this round's mask on the broadcast u.
    bits : float
        Size of what was sent.
    """

    device: int
    values: torch.Tensor | None
    mask: torch.Tensor | None
    personal: PersonalState
    loss: float
    pruning_error_sq: float
    bits: float


def device_round(
    replica: Replica,
    u: torch.Tensor,
    personal: PersonalState,
    share: DeviceData,
    config: TrainConfig,
    pruning_ratio: float,
    round_index: int,
    device: int,
) -> Upload:
    """Personal steps, probe, mask, pruned steps; deterministic in (config.seed, round_index, device).

    Parameters
    ----------
    replica : Replica
        Working memory; what it held before does not matter.
    u : float32 tensor (n_global,)
        The broadcast global part; not changed.
    personal : PersonalState
        The device's own part; not changed.
    pruning_ratio : float
        rho_k in [0, 1]; at 0 no probe is run and no mask is sent.
    """
    rng = np.random.default_rng((config.seed, round_index, device))
    n = len(share.train_y)
    # Drawn in one fixed order, so that whether a device probes changes no other batch.
    personal_batches = draw_batches(rng, n, config.batch_size, config.personal_steps)
    pruned_batches = draw_batches(rng, n, config.batch_size, config.pruned_steps)
    probe_batches = draw_batches(rng, n, config.batch_size, config.probe_steps)
    replica.load(u, personal)
    replica.model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))  # dropout, if the model has any

        replica.train_only(train_u=False, train_v=True)
        for batch in personal_batches if replica.v.numel() else ():
            _gradient(replica, share, batch)
            replica.v.add_(replica.v_grad, alpha=-config.learning_rate_personal)

        mask = None
        if pruning_ratio > 0.0:
            scores = _importance(replica, u, share, config, probe_batches, rng)
            if not torch.isfinite(scores).all():  # the probe diverged; there is nothing sensible to send
                state = replica.personal_state()
                return Upload(device, None, None, state, float("nan"), float("nan"), 0.0)
            mask = keep_mask(scores, pruning_ratio)
            replica.u.mul_(mask)
        pruning_error_sq = float((u - replica.u).double().square().sum())

        joint = config.algorithm == "simultaneous" and replica.v.numel() > 0
        replica.train_only(train_u=True, train_v=joint)
        losses = []
        kept = None if mask is None else mask.to(torch.float32)
        for batch in pruned_batches:
            losses.append(_gradient(replica, share, batch))
            if kept is not None:
                replica.u_grad.mul_(kept)
            replica.u.add_(replica.u_grad, alpha=-config.learning_rate_global)
            if joint:
                replica.v.add_(replica.v_grad, alpha=-config.learning_rate_personal)

    values = replica.u.clone()
    sent = values.numel() if mask is None else int(mask.sum())
    return Upload(
        device,
        values,
        mask,
        replica.personal_state(),
        float(torch.stack(losses).mean()),
        pruning_error_sq,
        upload_bits(values.numel(), sent),
    )


def evaluate(replica: Replica, u: torch.Tensor, personal: PersonalState, share: DeviceData) -> float:
    """Accuracy of one device's model on its own held-out data."""
    replica.load(u, personal)
    replica.model.eval()
    with torch.no_grad():
        predicted = replica.model(share.test_x).argmax(dim=1)
    return float((predicted == share.test_y).double().mean())


def draw_batches(rng: np.random.Generator, n: int, batch_size: int, steps: int) -> NDArray[np.int64]:
    """Sample numbers (steps, min(batch_size, n)): shuffled epochs cut into whole batches, rest dropped."""
    size = min(batch_size, n)
    per_epoch = n // size
    epochs = -(-steps // per_epoch)
    drawn = [rng.permutation(n)[: per_epoch * size].reshape(per_epoch, size) for _ in range(epochs)]
    return np.concatenate(drawn)[:steps] if drawn else np.empty((0, size), dtype=np.int64)


def _gradient(replica: Replica, share: DeviceData, batch: NDArray[np.int64]) -> torch.Tensor:
    """Fill the replica's gradients from one mini-batch; returns the loss."""
    rows = torch.from_numpy(batch)
    replica.u_grad.zero_()
    replica.v_grad.zero_()
    loss = functional.cross_entropy(replica.model(share.train_x[rows]), share.train_y[rows])
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _importance(
    replica: Replica,
    u: torch.Tensor,
    share: DeviceData,
    config: TrainConfig,
    batches: NDArray[np.int64],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Scores (n_global,) by `config.importance`; the replica's u and buffers are left as they were."""
    if config.importance == "magnitude":
        return u.abs()
    if config.importance == "random":
        return torch.from_numpy(rng.random(u.numel()))
    buffers = [b.clone() for b in replica.model.buffers()]
    replica.train_only(train_u=True, train_v=False)
    slope = torch.zeros_like(u)
    for batch in batches:
        _gradient(replica, share, batch)
        if config.importance == "movement":
            replica.u.add_(replica.u_grad, alpha=-config.learning_rate_global)
        else:
            slope += replica.u_grad
    scores = (replica.u - u).abs() if config.importance == "movement" else (u * slope).abs()
    replica.u.copy_(u)
    for mine, before in zip(replica.model.buffers(), buffers, strict=True):
        mine.copy_(before)
    return scores
