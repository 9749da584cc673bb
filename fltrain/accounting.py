"""What a round costs: FLOPs counted on the real model, bits of what is really sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fltrain.config import TrainConfig
from fltrain.partition import DeviceData
from fltrain.replica import Replica
from fltrain.split import Split

VALUE_BITS = 32
"""A weight travels as one float32."""
HEADER_BITS = 128
"""Round, device, number of values and mask coding, 32 bits each."""


@dataclass(frozen=True)
class Workload:
    """What one round asks of each device; arrays (K,), per round.

    FLOPs are those of matrix products and convolutions, forward and backward, as torch's flop counter sees
    them in real mini-batch steps; element-wise work is not counted.

    Parameters
    ----------
    personal_flops : float64 (K,)
        All personal steps, at full cost.
    probe_flops : float64 (K,)
        All probe steps; 0 where the configuration needs no probe.
    pruned_flops : float64 (K,)
        All pruned steps, if nothing were pruned (keep ratio 1).
    payload_bits : float64 (K,)
        Values of the global part, at keep ratio 1; at keep ratio q it is q times this.
    overhead_bits : float64 (K,)
        Sent besides the values: header, and the mask at its worst, one bit per coordinate or, if units are
        dropped, per unit (its entropy at keep ratio 1/2). Without pruning, the header alone.
    broadcast_bits : float64 (K,)
        The dense global part that each device receives, header included.
    weight : float64 (K,)
        Aggregation weights alpha_k, sum 1.
    selected : bool (K,)
        Devices drawn for this round (see ``TrainConfig.participation``).
    """

    personal_flops: NDArray[np.float64]
    probe_flops: NDArray[np.float64]
    pruned_flops: NDArray[np.float64]
    payload_bits: NDArray[np.float64]
    overhead_bits: NDArray[np.float64]
    broadcast_bits: NDArray[np.float64]
    weight: NDArray[np.float64]
    selected: NDArray[np.bool_]


def count_workload(split: Split, config: TrainConfig, shares: Sequence[DeviceData]) -> Workload:
    """Count one round of `config` on every device's real data and batch size."""
    replica = Replica(split, structure=config.structure if config.pruning else "weights")
    replica.load(split.initial_global(), split.initial_personal())
    replica.model.train()
    joint = config.algorithm == "simultaneous"
    step_flops: dict[tuple[int, bool, bool], float] = {}

    def flops(share: DeviceData, *, train_u: bool, train_v: bool) -> float:
        size = min(config.batch_size, len(share.train_y))
        key = (size, train_u, train_v)
        if key not in step_flops:
            replica.train_only(train_u=train_u, train_v=train_v)
            step_flops[key] = _step_flops(replica, share, size)
        return step_flops[key]

    K = len(shares)
    personal, probe, pruned = np.zeros(K), np.zeros(K), np.zeros(K)
    for k, share in enumerate(shares):
        if config.personal_steps and split.n_personal:
            personal[k] = config.personal_steps * flops(share, train_u=False, train_v=True)
        if config.probes:
            probe[k] = config.probe_steps * flops(share, train_u=True, train_v=False)
        pruned[k] = config.pruned_steps * flops(share, train_u=True, train_v=joint)
    samples = np.array([len(share.train_y) for share in shares], dtype=np.float64)
    weight = np.full(K, 1.0 / K) if config.aggregation == "uniform" else samples / samples.sum()
    payload = float(VALUE_BITS * split.n_global)
    masked = replica.units.count if replica.units else split.n_global
    return Workload(
        personal_flops=personal,
        probe_flops=probe,
        pruned_flops=pruned,
        payload_bits=np.full(K, payload),
        overhead_bits=np.full(K, float(HEADER_BITS + (masked if config.pruning else 0))),
        broadcast_bits=np.full(K, payload + HEADER_BITS),
        weight=weight,
        selected=np.ones(K, dtype=np.bool_),
    )


def mask_bits(kept: Sequence[torch.Tensor]) -> float:
    """Bits that say which are kept, given one bool vector or several end to end.

    Nothing if all are; otherwise the entropy n H(kept/n), or the indices of the kept or of the dropped ones,
    whichever is least.
    """
    n = sum(part.numel() for part in kept)
    return subset_bits(n, sum(int(part.sum()) for part in kept))


def subset_bits(n: int, kept: int) -> float:
    """The same, by the numbers alone."""
    rare = min(kept, n - kept)
    indices = rare * math.ceil(math.log2(n)) if n > 1 else 0
    q = kept / n
    entropy = -n * sum(p * math.log2(p) for p in (q, 1.0 - q) if p > 0.0)
    return min(entropy, float(indices))


def _step_flops(replica: Replica, share: DeviceData, size: int) -> float:
    """FLOPs of one forward and backward pass, as the parts of `replica` that are set to train need it."""
    with FlopCounterMode(display=False) as counter:
        loss = functional.cross_entropy(replica.model(share.train_x[:size]), share.train_y[:size])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    replica.model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())
