"""All devices of a round at once: their parameters stacked, each step one vectorised call on a torch device.

The same steps, mini-batches and masks as `device_round` on the reference path, by ``torch.func``; results differ by
rounding only. Meant for CUDA, where a step of one small model leaves the processor idle.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from fltrain.config import TrainConfig
from fltrain.local import Batches, Draws, Job, Upload, draw, sent_bits
from fltrain.partition import DeviceData
from fltrain.split import PersonalState, Split

_Parts = tuple[torch.Tensor, torch.Tensor]
"""Stacked u (D, n_global) and v (D, n_personal) of D devices."""
_U, _V = 0, 1


class Batched:
    """Runs the devices of a round side by side in one process, on the torch device ``config.batched_on``.

    Devices that take the same steps form a stack: those with the same batch size (a device with fewer samples than
    `batch_size` has its own) that are all told to prune, or all not to. Memory grows with the largest stack.

    Raises
    ------
    ValueError
        The torch device is not there, or the model is none that can be stacked: one with buffers, such as batch
        norm, with dropout, or with control flow that depends on its inputs.
    """

    def __init__(self, split: Split, shares: Sequence[DeviceData], config: TrainConfig) -> None:
        self._config, self._shares = config, shares
        try:
            self._at = torch.empty(0, device=config.batched_on).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"batched_on must name a torch device of this machine: {reason}") from None
        self._model = copy.deepcopy(split.model).to(self._at).train()
        named = dict(self._model.named_parameters())
        self._names = split.global_names, split.personal_names
        self._shapes = tuple([named[n].shape for n in names] for names in self._names)
        self._sizes = tuple([shape.numel() for shape in shapes] for shapes in self._shapes)
        # End to end, so that one indexing gathers the samples of a step, whichever devices take it.
        self._x = torch.cat([share.train_x for share in shares]).to(self._at)
        self._y = torch.cat([share.train_y for share in shares]).to(self._at)
        self._first = np.cumsum([0, *(len(share.train_y) for share in shares)])
        self._require_stackable(split)

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order."""

        def stack_of(job: Job) -> tuple[int, bool]:
            return min(self._config.batch_size, len(self._shares[job[0]].train_y)), job[1] > 0.0

        done: dict[int, Upload] = {}
        for _, stack in groupby(sorted(jobs, key=stack_of), key=stack_of):
            done |= {upload.device: upload for upload in self._stack(round_index, u, personal, list(stack))}
        yield from (done[k] for k, _ in jobs)

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> list[float]:
        """Accuracy of every device's model on its own held-out data."""
        there = u.to(self._at)
        self._model.eval()
        right = []
        with torch.no_grad(), _exact_products():
            for state, share in zip(personal, self._shares, strict=True):
                parameters = self._parameters(there, state.v.to(self._at))
                predicted = functional_call(self._model, parameters, (share.test_x.to(self._at),)).argmax(dim=1)
                right.append((predicted == share.test_y.to(self._at)).double().mean())
        self._model.train()
        return [float(share) for share in right]

    def close(self) -> None:
        """Nothing to release."""

    def _stack(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """`device_round` of every job at once; all have one batch size, and all prune or none does."""
        config = self._config
        drawn = [draw(config, len(self._shares[k].train_y), round_index, k) for k, _ in jobs]
        devices = [k for k, _ in jobs]
        personal_rows, pruned_rows, probe_rows = (
            self._rows(devices, batches)
            for batches in zip(*((d.personal, d.pruned, d.probe) for d in drawn), strict=True)
        )
        there = u.to(self._at)
        parts = there.repeat(len(jobs), 1), torch.stack([personal[k].v for k in devices]).to(self._at)
        trains_v = parts[_V].shape[1] > 0
        with _exact_products():
            if trains_v:
                self._sgd(parts, {_V: config.learning_rate_personal}, personal_rows)
            masks, error_sq = None, torch.zeros(len(jobs))
            if jobs[0][1] > 0.0:
                scores = self._scores(parts, probe_rows, drawn)
                probed = scores.isfinite().all(dim=1).cpu()
                masks = _keep_masks(scores, [rho for _, rho in jobs])
                parts[_U].mul_(masks)
                error_sq = (there - parts[_U]).double().square().sum(dim=1).cpu()
            rates = {_U: config.learning_rate_global}
            if config.algorithm == "simultaneous" and trains_v:
                rates[_V] = config.learning_rate_personal
            losses = self._sgd(parts, rates, pruned_rows, masks).cpu()
        values, v, masks = parts[_U].cpu(), parts[_V].cpu(), None if masks is None else masks.cpu()
        for i, k in enumerate(devices):
            if masks is not None and not probed[i]:
                yield Upload(k, None, None, personal[k], float("nan"), float("nan"), 0.0)
                continue
            mask = None if masks is None else masks[i]
            state = PersonalState(v[i].clone(), ())  # a copy: kept between rounds, it would keep the whole stack
            bits = sent_bits(len(u), mask)
            yield Upload(k, values[i], mask, state, float(losses[i]), float(error_sq[i]), bits)

    def _scores(self, parts: _Parts, rows: torch.Tensor, drawn: Sequence[Draws]) -> torch.Tensor:
        """Scores (D, n_global) by `config.importance`; `parts` are not changed."""
        u, v = parts
        importance = self._config.importance
        if importance == "magnitude":
            return u.abs()
        if importance == "random":
            return torch.from_numpy(np.stack([d.rng.random(u.shape[1]) for d in drawn])).to(self._at)
        if importance == "movement":
            probed = u.clone()
            self._sgd((probed, v), {_U: self._config.learning_rate_global}, rows)
            return (probed - u).abs()
        total = torch.zeros_like(u)
        for step in rows:
            total += self._slopes_and_losses(parts, (_U,), step)[0][0]
        return (u * total).abs()

    def _sgd(
        self, parts: _Parts, rates: dict[int, float], rows: torch.Tensor, masks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One step per entry of `rows` (steps, D, B) on the parts in `rates`, in place; mean losses (D,)."""
        losses = torch.zeros(len(rows), rows.shape[1], device=self._at)
        for i, step in enumerate(rows):
            slopes, losses[i] = self._slopes_and_losses(parts, tuple(rates), step)
            for (part, rate), slope in zip(rates.items(), slopes, strict=True):
                parts[part].sub_(slope * masks if part == _U and masks is not None else slope, alpha=rate)
        return losses.mean(dim=0)

    def _slopes_and_losses(
        self, parts: _Parts, trained: tuple[int, ...], rows: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Slopes in the parts that train, and losses (D,), on one mini-batch (D, B) of each device."""
        slopes, losses = vmap(grad_and_value(self._loss, trained))(*parts, self._x[rows], self._y[rows])
        return slopes, losses

    def _loss(self, u: torch.Tensor, v: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Softmax cross-entropy of one device's mini-batch."""
        return functional.cross_entropy(functional_call(self._model, self._parameters(u, v), (x,)), y)

    def _parameters(self, *parts: torch.Tensor) -> dict[str, torch.Tensor]:
        """One device's parts (n_global,), (n_personal,), cut into named parameters."""
        return {
            name: value.view(shape)
            for part, names, shapes, sizes in zip(parts, self._names, self._shapes, self._sizes, strict=True)
            if names
            for name, shape, value in zip(names, shapes, torch.split(part, sizes), strict=True)
        }

    def _rows(self, devices: Sequence[int], batches: Sequence[Batches]) -> torch.Tensor:
        """Where in the common data each device's mini-batches lie: (steps, D, B)."""
        placed = [self._first[k] + rows for k, rows in zip(devices, batches, strict=True)]
        return torch.from_numpy(np.stack(placed, axis=1)).to(self._at)

    def _require_stackable(self, split: Split) -> None:
        """Refuse a model whose devices could not train side by side as they do alone."""
        buffers = [name for name, _ in self._model.named_buffers()]
        if buffers:
            raise ValueError(f"batched_on takes no model with buffers, such as batch norm; this one has {buffers[0]}")
        state = split.initial_personal()
        parts = split.initial_global().to(self._at)[None], state.v.to(self._at)[None]
        rows = torch.arange(min(self._config.batch_size, len(self._shares[0].train_y)), device=self._at)
        try:
            self._slopes_and_losses(parts, (_U,), rows[None])
        except RuntimeError as error:  # randomness, or values that the program asks for
            reason = str(error).splitlines()[0]
            raise ValueError(f"batched_on takes no model that torch.func.vmap does not: {reason}") from None


def _keep_masks(scores: torch.Tensor, pruning_ratios: Sequence[float]) -> torch.Tensor:
    """`keep_mask` of every row of scores (D, n), where they lie: equal scores are kept lowest index first."""
    n = scores.shape[1]
    keep = torch.tensor([round((1.0 - rho) * n) for rho in pruning_ratios], device=scores.device)
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranked = torch.arange(n, device=scores.device) < keep[:, None]
    return torch.zeros_like(ranked).scatter_(1, order, ranked)


def _exact_products() -> AbstractContextManager[None]:
    """Convolutions in float32: CUDA's default of ten-bit mantissas would be more than rounding."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
