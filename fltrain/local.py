"""One round on one device: personal steps, then what the kind of round makes of the global ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fltrain._random import seeded
from fltrain.accounting import HEADER_BITS, VALUE_BITS, mask_bits
from fltrain.chain import Update
from fltrain.config import Sampling, TrainConfig, UpdateKind
from fltrain.curve import REPORT_BITS, ChangeReport, report_change, report_frozen
from fltrain.masks import keep_mask
from fltrain.partition import DeviceData
from fltrain.replica import Replica
from fltrain.sgd import Stage
from fltrain.split import PersonalState

Batches = NDArray[np.int64]
_OFTEN = 1.75
"""Features are computed once where personal steps use each sample so often: that took 1.1 times as long at 1.5
on a small perceptron, and 0.7 times at 2; convolutions gain sooner."""


class Job(NamedTuple):
    """What a device is asked to do in a round."""

    device: int
    pruning_ratio: float
    update: UpdateKind


class Draws(NamedTuple):
    """What chance decides in one round on one device."""

    personal: Batches
    pruned: Batches
    probe: Batches
    dropout_seed: int
    rng: np.random.Generator
    """Goes on with random scores."""


@dataclass(frozen=True)
class Upload:
    """What a device ends a round with.

    Parameters
    ----------
    device : int
        Whose it is.
    values : float32 tensor (n_global,), or None
        Sent: the broadcast global part plus the device's change, zero where dropped. None: nothing arrived.
    mask : bool tensor (n_global,), or None
        Sent: True where kept. None: nothing was pruned.
    personal : PersonalState
        Stays on the device.
    loss : float
        Mean training loss over the pruned steps.
    pruning_error_sq : float
        What the mask took away: ||u - m u||^2 of the broadcast u where dropped weights are zeroed, ||d - m d||^2 of the
        change d for a sparse upload, 0 where dropped weights are frozen.
    bits : float
        Size of what was sent.
    report : ChangeReport, or None
        Sent where ``TrainConfig.reports``.
    """

    device: int
    values: torch.Tensor | None
    mask: torch.Tensor | None
    personal: PersonalState
    loss: float
    pruning_error_sq: float
    bits: float
    report: ChangeReport | None = None


def nothing_sent(device: int, personal: PersonalState) -> Upload:
    """The upload of a device from which nothing sensible came; its personal part stays as it was."""
    return Upload(device, None, None, personal, float("nan"), float("nan"), 0.0)


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
    """Personal steps, then global steps pruned as ``config.update`` says.

    Zeroed and frozen: probe, mask, pruned steps. Sparse: dense steps, then the mask of the largest changes.
    Deterministic in (config.seed, round_index, device).

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
    drawn = draw(config, len(share.train_y), round_index, device)
    replica.load(u, personal)
    replica.model.train()
    with seeded(drawn.dropout_seed):
        if replica.personal_parameters and len(drawn.personal):
            _personal_steps(replica, share, drawn.personal, config.learning_rate_personal)

        one_round = _sparse_round if config.update == "sparse" else _masked_round
        return one_round(replica, u, personal, share, config, pruning_ratio, drawn, device)


def _masked_round(
    replica: Replica,
    u: torch.Tensor,
    personal: PersonalState,
    share: DeviceData,
    config: TrainConfig,
    pruning_ratio: float,
    drawn: Draws,
    device: int,
) -> Upload:
    """Zeroed and frozen: a probe says what is kept, and only that trains."""
    mask = kept_units = report = None
    zeroed_sq = 0.0
    if pruning_ratio > 0.0:
        scores = _importance(replica, u, share, config, drawn.probe, drawn.rng)
        if not np.isfinite(scores.numpy()).all():  # the probe diverged; there is nothing sensible to send
            return nothing_sent(device, personal)
        if replica.units is None:
            mask = keep_mask(scores, pruning_ratio)
        else:
            kept_units = replica.units.choose(scores, pruning_ratio)
            mask = replica.units.mask(kept_units)
        if config.reports:  # the scores are the probe's changes
            report = report_change(scores)
        if config.update == "zeroed":
            replica.u.mul_(mask)
            zeroed_sq = float((u - replica.u).double().square().sum())

    # Units that are frozen take part in every product, so only zeroed ones make the network smaller.
    smaller = kept_units if config.update == "zeroed" else None
    loss = _pruned_steps(replica, share, drawn.pruned, mask, smaller, config)

    values = replica.u.clone()
    if mask is None and config.reports:
        report = report_change(values - u)
    if mask is not None and config.update == "frozen":
        if report is not None:
            report = report_frozen(report, values - u, mask, config.pruned_steps / max(config.probe_steps, 1))
        values = _kept(values, mask)  # what was dropped has not moved, so is finite
    coded = replica.units.droppable(kept_units) if replica.units and kept_units else None
    bits = sent_bits(u.numel(), mask, coded, report)
    state = replace(replica.personal_state(), unsent=personal.unsent)
    return Upload(device, values, mask, state, loss, zeroed_sq, bits, report)


def _sparse_round(
    replica: Replica,
    u: torch.Tensor,
    personal: PersonalState,
    share: DeviceData,
    config: TrainConfig,
    pruning_ratio: float,
    drawn: Draws,
    device: int,
) -> Upload:
    """Everything trains; the largest changes are sent, together with what earlier rounds left unsent."""
    loss = _pruned_steps(replica, share, drawn.pruned, None, None, config)
    values, state, unsent_sq = replica.u.clone(), replica.personal_state(), 0.0
    change = values - u
    if personal.unsent.numel():
        change += personal.unsent
        values = u + change
    if not np.isfinite(change.numpy()).all():
        return nothing_sent(device, personal)
    mask, kept = None, change
    if pruning_ratio > 0.0:
        mask = keep_mask(change.abs(), pruning_ratio)
        kept, values = _kept(change, mask), _kept(values, mask)
        unsent_sq = float((change - kept).double().square().sum())
    if config.error_feedback:
        state = replace(state, unsent=change - kept)
    report = report_change(change) if config.reports else None
    bits = sent_bits(u.numel(), mask, report=report)
    return Upload(device, values, mask, state, loss, unsent_sq, bits, report)


def _kept(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The values where `mask`, else zero, if all that it drops is finite: a product takes a fifth of a masked fill."""
    return torch.from_numpy(np.multiply(values.numpy(), mask.numpy()))


def evaluate(replica: Replica, u: torch.Tensor, personal: PersonalState, share: DeviceData) -> float:
    """Accuracy of one device's model on its own held-out data."""
    replica.load(u, personal)
    replica.model.eval()
    predicted = replica.whole.outputs(share.test_x).argmax(dim=1)
    return float((predicted == share.test_y).double().mean())


def sent_bits(
    n: int,
    mask: torch.Tensor | None,
    coded: Sequence[torch.Tensor] | None = None,
    report: ChangeReport | None = None,
) -> float:
    """Bits of an upload of `n` values, or of those kept by `mask`, which itself is sent as the masks `coded`."""
    about = HEADER_BITS + (0 if report is None else REPORT_BITS)
    if mask is None:
        return about + float(VALUE_BITS * n)
    return about + float(VALUE_BITS * int(mask.sum())) + mask_bits([mask] if coded is None else coded)


def draw(config: TrainConfig, n: int, round_index: int, device: int) -> Draws:
    """The draws of a device with `n` training samples; in one fixed order, so that none depends on whether it probes.

    Deterministic in (config.seed, round_index, device).
    """
    rng = np.random.default_rng((config.seed, round_index, device))
    steps = config.personal_steps, config.pruned_steps, config.probe_steps
    personal, pruned, probe = (draw_batches(rng, n, config.batch_of(device), count, config.sampling) for count in steps)
    return Draws(personal, pruned, probe, int(rng.integers(2**63)), rng)


def draw_batches(
    rng: np.random.Generator, n: int, batch_size: int, steps: int, sampling: Sampling = "epochs"
) -> Batches:
    """Sample numbers (steps, min(batch_size, n)).

    ``epochs``: shuffled epochs cut into whole batches, rest dropped. ``replacement``: each one drawn from all.
    """
    size = min(batch_size, n)
    if sampling == "replacement":
        return rng.integers(n, size=(steps, size))
    per_epoch = n // size
    epochs = -(-steps // per_epoch)
    drawn = [rng.permutation(n)[: per_epoch * size].reshape(per_epoch, size) for _ in range(epochs)]
    return np.concatenate(drawn)[:steps] if drawn else np.empty((0, size), dtype=np.int64)


def uses_often(config: TrainConfig, n: int, device: int) -> bool:
    """Whether a device with `n` training samples computes features once in the personal steps of the first round.

    It does if the model has features that stay as they are.
    """
    batches = draw(config, n, 0, device).personal
    return _often(batches, _used(batches))


def _used(batches: Batches) -> NDArray[np.intp]:
    """Numbers of the samples that batches use, in order."""
    return np.flatnonzero(np.bincount(batches.ravel()))


def _often(batches: Batches, used: NDArray[np.intp]) -> bool:
    """Whether batches use their samples so often that features are computed once."""
    return batches.size >= _OFTEN * len(used) > 0


def _personal_steps(replica: Replica, share: DeviceData, batches: Batches, rate: float) -> None:
    """SGD on v with u frozen."""
    replica.train_only(train_u=False, train_v=True)
    updates = [Update(p, rate) for p in replica.personal_parameters]
    # The stage below v does not change: each sample that is used need go through it once.
    used = _used(batches)
    if replica.lower is None or replica.upper is None or not _often(batches, used):
        replica.whole.sgd(updates, share.train_x, share.train_y, batches)
        return
    x, y = share.train_x, share.train_y
    if len(used) < len(y):
        x, y, batches = x[used], y[used], np.searchsorted(used, batches)
    replica.upper.sgd(updates, replica.lower.outputs(x), y, batches)


def _importance(
    replica: Replica,
    u: torch.Tensor,
    share: DeviceData,
    config: TrainConfig,
    batches: Batches,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Scores (n_global,) by `config.importance`; the replica's u and buffers are left as they were."""
    if config.importance == "magnitude":
        return u.abs()
    if config.importance == "random":
        return torch.from_numpy(rng.random(u.numel()))
    buffers = replica.buffers()
    replica.train_only(train_u=True, train_v=False)
    if config.importance == "movement":
        updates = [Update(p, config.learning_rate_global) for p in replica.global_parameters]
        replica.whole.sgd(updates, share.train_x, share.train_y, batches)
        scores = (replica.u - u).abs()
    else:
        total = torch.zeros_like(u)
        for rows in torch.from_numpy(batches):
            x, y = share.train_x[rows], share.train_y[rows]
            _, slopes = replica.whole.loss_and_slopes(replica.global_parameters, x, y)
            total += torch.cat([slope.reshape(-1) for slope in slopes])
        scores = (u * total).abs()
    replica.u.copy_(u)
    replica.load_buffers(buffers)
    return scores


def _pruned_steps(
    replica: Replica,
    share: DeviceData,
    batches: Batches,
    mask: torch.Tensor | None,
    kept_units: list[torch.Tensor] | None,
    config: TrainConfig,
) -> float:
    """SGD on the kept coordinates of u, and on v too if simultaneous; returns the mean loss."""
    joint = config.algorithm == "simultaneous"
    replica.train_only(train_u=True, train_v=joint)
    of_u = replica.global_parameters
    masks: list[torch.Tensor | None] = [None] * len(of_u)
    if mask is not None:
        flat = torch.split(mask.to(torch.float32), [p.numel() for p in of_u])
        masks = [part.view(p.shape) for part, p in zip(flat, of_u, strict=True)]
    updates = [Update(p, config.learning_rate_global, m) for p, m in zip(of_u, masks, strict=True)]
    if joint:
        updates += [Update(p, config.learning_rate_personal) for p in replica.personal_parameters]
    if replica.units is None or kept_units is None:
        return replica.whole.sgd(updates, share.train_x, share.train_y, batches)
    if replica.fast:
        small = replica.units.compact(replica.model, kept_units)
        stage = Stage(small.model, fast=True)
        loss = stage.sgd(small.updates(updates), share.train_x, share.train_y, batches)
        small.write_back()
        return loss
    before = replica.buffers()
    loss = replica.whole.sgd(updates, share.train_x, share.train_y, batches)
    replica.units.restore_statistics(replica.model, kept_units, before)
    return loss
