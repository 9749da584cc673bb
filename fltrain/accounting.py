"""What a round costs: FLOPs counted on the real model, bits of what is really sent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fltrain.config import TrainConfig, UpdateKind
from fltrain.curve import REPORT_BITS, Changes
from fltrain.partition import DeviceData
from fltrain.replica import Replica
from fltrain.split import Split
from fltrain.units import UnitMap
from kktalloc._problem.shown import Rows, Shown, counted, span, table

if TYPE_CHECKING:
    from fltrain.broadcast import Moves

VALUE_BITS = 32
"""A weight travels as one float32."""
HEADER_BITS = 128
"""Round, device, number of values and mask coding, 32 bits each."""

_LEAST_KEEP = 1e-3  # at which masks are counted; those that keep less are counted too large


@dataclass(frozen=True, repr=False)
class Workload(Shown):
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
        What pruning saves of the pruned steps, at keep ratio 1; at keep ratio q it is q times this. Zeroed: all of
        them. Frozen: the gradients of global weights. Sparse: 0.
    payload_bits : float64 (K,)
        Values of the global part, at keep ratio 1; at keep ratio q it is q times this. With the part of the mask's
        size that is counted per kept coordinate (see `mask_law`).
    overhead_bits : float64 (K,)
        Sent besides: header, error curve where devices report one, and the rest of the mask, if any round prunes.
    broadcast_bits : float64 (K,)
        What each device receives, header included: the global part, or what of it moved (``TrainConfig.broadcast``).
    weight : float64 (K,)
        Aggregation weights alpha_k, sum 1.
    selected : bool (K,)
        Devices drawn for this round (see ``TrainConfig.participation``).
    dense_flops : float64 (K,)
        The rest of the pruned steps, which no pruning saves. Zeroed: 0. Frozen: the passes through the model. Sparse:
        all of them.
    passes_flops : float64 (K,)
        The pruned steps without the gradients of global weights, whatever the kind of round.
    probing_flops : float64 (K,)
        All probe steps of a kind of round that probes.
    mask_size : float64 (K,)
        Coordinates, or units, of which a mask tells; 0 if no round prunes.
    report_bits : float64 (K,)
        The error curve among `overhead_bits`; 0 where devices report none.
    changes : Changes, or None
        What devices last reported of their changes (see `fltrain.curve`); None: nothing yet.
    elapsed_s : float
        Simulated time at which the round begins, the lengths of all rounds before.
    spent_j : float64 (K,)
        Planned energy of all rounds before.
    global_bits : float64 (K,)
        Values of the whole global part. Not given: the broadcast without its header.
    moves : Moves, or None
        What is known of the next broadcast's size; None: it is the whole global part.
    unsent_kept : bool
        Whether devices keep what a sparse upload leaves out and send it later (``TrainConfig.error_feedback``).
    """

    personal_flops: NDArray[np.float64]
    probe_flops: NDArray[np.float64]
    pruned_flops: NDArray[np.float64]
    payload_bits: NDArray[np.float64]
    overhead_bits: NDArray[np.float64]
    broadcast_bits: NDArray[np.float64]
    weight: NDArray[np.float64]
    selected: NDArray[np.bool_]
    dense_flops: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    passes_flops: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    probing_flops: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    mask_size: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    report_bits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    changes: Changes | None = None
    elapsed_s: float = 0.0
    spent_j: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    global_bits: NDArray[np.float64] = field(default_factory=lambda: np.full(1, np.nan))
    moves: Moves | None = None
    unsent_kept: bool = False

    def __post_init__(self) -> None:
        """Fill in for all devices what was not given; a planner may read, and not write, what later rounds need."""
        K = len(self.weight)
        if np.isnan(self.global_bits).any():
            object.__setattr__(self, "global_bits", self.broadcast_bits - HEADER_BITS)
        for name in (
            "dense_flops",
            "passes_flops",
            "probing_flops",
            "mask_size",
            "report_bits",
            "spent_j",
            "global_bits",
        ):
            object.__setattr__(self, name, np.broadcast_to(getattr(self, name), (K,)))
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                view = value.view()
                view.setflags(write=False)
                object.__setattr__(self, f.name, view)

    def _shown(self) -> tuple[str, Rows]:
        local = self.personal_flops + self.probe_flops + self.dense_flops
        columns = {
            "flops": local + self.pruned_flops, "pruned_flops": self.pruned_flops, "payload_bits": self.payload_bits,
            "overhead_bits": self.overhead_bits, "weight": self.weight,
        }  # fmt: skip
        devices = len(self.weight)
        bits = f"broadcast of {span(self.broadcast_bits)} bits"
        line = f"{counted(devices, 'device')}, {bits}, begins at {self.elapsed_s:.4g} s"
        return line, table("device", [str(k) for k in range(devices)], columns)

    def unmasked(self) -> Workload:
        """The same work in a round in which nobody prunes: no probe, no mask; an error curve if this kind has one."""
        bits = HEADER_BITS + self.report_bits
        return replace(
            self.as_round("sparse"),
            payload_bits=self.global_bits,
            overhead_bits=bits,
            report_bits=self.report_bits,
        )

    def of(self, devices: NDArray[np.bool_] | NDArray[np.int64]) -> Workload:
        """The workload of some devices, in this order."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        part: dict[str, Any] = {name: value[devices] for name, value in named.items() if isinstance(value, np.ndarray)}
        known = self.changes
        return replace(self, **part, changes=known and Changes(known.change_sq[devices], known.error[devices]))

    def as_round(self, update: UpdateKind, keep_ratio: ArrayLike = 0.5) -> Workload:
        """The same work in another kind of round, its masks counted by the tangent at `keep_ratio` (see `mask_law`).

        `keep_ratio` is a number or one per device (K,).

        Only of a workload in which some rounds prune.
        """
        whole = self.dense_flops + self.pruned_flops
        dense = {"zeroed": np.zeros_like(whole), "frozen": self.passes_flops, "sparse": whole}[update]
        fixed, kept = mask_law(keep_ratio)
        report = np.full_like(whole, 0 if update == "zeroed" else REPORT_BITS)
        return replace(
            self,
            probe_flops=np.zeros_like(whole) if update == "sparse" else self.probing_flops,
            dense_flops=dense,
            pruned_flops=whole - dense,
            payload_bits=self.global_bits + kept * self.mask_size,
            overhead_bits=HEADER_BITS + report + fixed * self.mask_size,
            report_bits=report,
        )


def count_workload(
    split: Split, config: TrainConfig, shares: Sequence[DeviceData], *, keep_ratio: float = 0.5
) -> Workload:
    """Count one round of `config` on every device's real data and batch size.

    `keep_ratio` in (0, 1/2] is where the size of masks is counted exactly; elsewhere it is an upper bound. At 1/2 that
    is one bit per coordinate; uploads that keep few need a smaller one, or masks would be most of what is planned for.
    """
    config.check_devices(len(shares))
    replica = Replica(split, structure=config.structure if config.pruning else "weights")
    replica.load(split.initial_global(), split.initial_personal())
    replica.model.train()
    joint = config.algorithm == "simultaneous"
    step_flops: dict[tuple[int, bool, bool, bool], float] = {}

    def flops(k: int, *, train_u: bool, train_v: bool, passes_only: bool = False) -> float:
        share = shares[k]
        size = min(config.batch_of(k), len(share.train_y))
        key = (size, train_u, train_v, passes_only)
        if key not in step_flops:
            replica.train_only(train_u=train_u, train_v=train_v)
            with _slopes_reach_layers(replica) if passes_only else nullcontext():
                step_flops[key] = _step_flops(replica, share, size)
        return step_flops[key]

    K = len(shares)
    personal, probing, whole, passes = np.zeros(K), np.zeros(K), np.zeros(K), np.zeros(K)
    for k in range(K):
        if config.personal_steps and split.n_personal:
            personal[k] = config.personal_steps * flops(k, train_u=False, train_v=True)
        whole[k] = config.pruned_steps * flops(k, train_u=True, train_v=joint)
        if not config.pruning:
            continue
        if config.importance in ("movement", "taylor"):
            probing[k] = config.probe_steps * flops(k, train_u=True, train_v=False)
        passes[k] = config.pruned_steps * flops(k, train_u=False, train_v=joint, passes_only=True)
    samples = np.array([len(share.train_y) for share in shares], dtype=np.float64)
    return plan_work(
        split, config, samples, personal=personal, whole=whole, passes=passes, probing=probing, keep_ratio=keep_ratio
    )


def plan_work(
    split: Split,
    config: TrainConfig,
    samples: NDArray[np.float64],
    *,
    personal: NDArray[np.float64],
    whole: NDArray[np.float64],
    passes: NDArray[np.float64],
    probing: NDArray[np.float64],
    keep_ratio: float = 0.5,
) -> Workload:
    """A round's work from counted FLOPs and numbers of training samples, all (K,); bits follow from the model.

    `personal`, `whole`, `passes`, `probing`: of personal steps, pruned steps, pruned steps without gradients of global
    weights, and probe steps.
    """
    K = len(samples)
    weight = np.full(K, 1.0 / K) if config.aggregation == "uniform" else samples / samples.sum()
    payload = float(VALUE_BITS * split.n_global)
    masked = UnitMap(split).count if config.structure == "units" and config.pruning else split.n_global
    unpruned = Workload(
        personal_flops=personal,
        probe_flops=np.zeros(K),
        pruned_flops=whole,
        payload_bits=np.full(K, payload),
        overhead_bits=np.full(K, float(HEADER_BITS)),
        broadcast_bits=np.full(K, payload + HEADER_BITS),
        weight=weight,
        selected=np.ones(K, dtype=np.bool_),
        dense_flops=np.zeros(K),
        passes_flops=passes,
        probing_flops=probing,
        mask_size=np.full(K, float(masked if config.pruning else 0)),
        unsent_kept=config.error_feedback,
    )
    return unpruned.as_round(config.update, keep_ratio) if config.pruning else unpruned


def mask_law(keep_ratio: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits (a, b) per coordinate such that a mask that keeps the share q takes at most a + b q of them.

    The entropy H(q) is concave, so its tangent at `keep_ratio` lies above it: (1, 0) at 1/2, that is one bit each; the
    further below, the nearer to what indices of the kept ones would take, (0, log2 n).
    """
    keep = np.asarray(keep_ratio, dtype=np.float64)
    if not np.all((keep > 0.0) & (keep <= 0.5)):
        raise ValueError(f"keep_ratio must be in (0, 0.5], got {keep_ratio!r}")
    return -np.log2(1.0 - keep), np.log2((1.0 - keep) / keep)


def mask_keep(pruning_ratio: ArrayLike) -> NDArray[np.float64]:
    """The keep ratio at which `mask_law` counts the masks of devices that prune so much: theirs, within its range."""
    return np.clip(1.0 - np.asarray(pruning_ratio, dtype=np.float64), _LEAST_KEEP, 0.5)


def mask_bits(kept: Sequence[torch.Tensor]) -> float:
    """Bits that say which are kept, given one bool vector or several end to end.

    Nothing if all are; otherwise the entropy n H(kept/n), or the indices of the kept or of the dropped ones,
    whichever is least.
    """
    n = sum(part.numel() for part in kept)
    return subset_bits(n, sum(int(part.sum()) for part in kept))


def subset_bits(n: int, kept: float) -> float:
    """The same, by the numbers alone; `kept` of a whole number, or of what is expected."""
    rare = min(kept, n - kept)
    indices = rare * math.ceil(math.log2(n)) if n > 1 else 0
    q = kept / n
    entropy = -n * sum(p * math.log2(p) for p in (q, 1.0 - q) if p > 0.0)
    return min(entropy, float(indices))


@contextmanager
def _slopes_reach_layers(replica: Replica) -> Iterator[None]:
    """Inside, slopes are computed down to the outputs of all modules that own global parameters.

    That is what training these needs besides the gradients of the parameters themselves.
    """
    shared = {id(p) for p in replica.global_parameters}
    one = torch.ones((), requires_grad=True)

    def reached(output: Any) -> Any:
        """The same values, further from the data by a product; recurrent layers give tuples of tuples."""
        if isinstance(output, torch.Tensor):
            return output * one if output.is_floating_point() else output
        if isinstance(output, tuple | list):
            parts = [reached(part) for part in output]
            return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
        if type(output) is dict:
            return {key: reached(part) for key, part in output.items()}
        return output

    def pass_on(module: nn.Module, inputs: object, output: Any) -> Any:
        return reached(output)

    owners = [m for m in replica.model.modules() if any(id(p) in shared for p in m.parameters(recurse=False))]
    handles = [owner.register_forward_hook(pass_on) for owner in owners]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _step_flops(replica: Replica, share: DeviceData, size: int) -> float:
    """FLOPs of one forward and backward pass, as the parts of `replica` that are set to train need it."""
    with FlopCounterMode(display=False) as counter:
        loss = functional.cross_entropy(replica.model(share.train_x[:size].clone()), share.train_y[:size])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    replica.model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())
