"""The round loop."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fltrain.accounting import Workload, count_workload
from fltrain.aggregate import CoverageMean, refusal
from fltrain.config import TrainConfig
from fltrain.history import History
from fltrain.local import device_round, evaluate
from fltrain.partition import DeviceData
from fltrain.plan import Planner, RoundPlan, check_plan
from fltrain.split import Replica, Split

_log = logging.getLogger(__name__)


def train(
    split: Split,
    shares: Sequence[DeviceData],
    config: TrainConfig,
    planner: Planner,
    progress: bool = True,
) -> History:
    """Split-and-prune federated learning: `config.rounds` rounds over the devices that hold `shares`.

    Parameters
    ----------
    split : Split
        Model and personal part; all devices start from its parameters. It is not changed.
    shares : sequence of DeviceData, length K
        One per device.
    config : TrainConfig
        Everything else that decides the result.
    planner : Planner
        Asked each round for pruning ratios, latencies and energies.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    History
        Same result for the same arguments, bit for bit, on the same machine and torch version.

    Raises
    ------
    ValueError
        A device without data, or a plan with a wrong entry.
    """
    check_shares(split, shares)
    workload = count_workload(split, config, shares)
    u = split.initial_global()
    personal = [split.initial_personal() for _ in shares]
    replica = Replica(split)
    records: list[dict[str, Any]] = []
    clock_s = 0.0
    with _one_thread():
        for t in tqdm(range(config.rounds), desc="train", unit="round", disable=not progress):
            workload_now = replace(workload, selected=select(config, t, len(shares)))
            plan = check_plan(planner(t, workload_now), workload_now, config)
            mean = CoverageMean(split.n_global)
            tally = _Tally()
            for k in np.flatnonzero(plan.participates).tolist():
                rho, alpha = float(plan.pruning_ratio[k]), float(workload.weight[k])
                upload = device_round(replica, u, personal[k], shares[k], config, rho, t, k)
                tally.bits += upload.bits
                reason = refusal(upload.values, upload.mask, split.n_global)
                if reason or upload.values is None:
                    _log.warning("round %d: device %d left out: %s", t, k, reason)
                    tally.left_out.append(k)
                    continue
                mean.add(upload.values, upload.mask, alpha)
                personal[k] = upload.personal
                tally.add(alpha, upload.loss, upload.pruning_error_sq)
            record = _record(t, clock_s, plan, workload, mean, tally, float(u.double().square().sum()))
            u = mean.result(u)
            if (t + 1) % config.evaluate_every == 0 or t + 1 == config.rounds:
                scores = [evaluate(replica, u, v, share) for v, share in zip(personal, shares, strict=True)]
                record["accuracy"] = float(np.mean(scores))
                record["accuracy_per_device"] = scores
            records.append(record)
            clock_s = record["wall_clock_s"]
    return History(records, u, personal)


def check_shares(split: Split, shares: Sequence[DeviceData]) -> None:
    """Refuse, with one line, data that training could only fail on later.

    Raises
    ------
    ValueError
        No device, a device without training or held-out data, or data the model does not take.
    """
    if not shares:
        raise ValueError("shares must hold at least one device, got none")
    for k, share in enumerate(shares):
        for part in ("train", "test"):
            x, y = getattr(share, f"{part}_x"), getattr(share, f"{part}_y")
            if len(y) == 0 or len(x) != len(y):
                raise ValueError(f"shares[{k}] has {len(x)} {part} inputs and {len(y)} labels")
    try:
        with torch.no_grad():
            logits = copy.deepcopy(split.model).eval()(shares[0].test_x[:1])
    except RuntimeError as error:
        shape = tuple(shares[0].test_x.shape[1:])
        raise ValueError(f"the model does not take inputs of shape {shape}: {error}") from None
    classes = 1 + max(int(max(share.train_y.max(), share.test_y.max())) for share in shares)
    if logits.shape[1] < classes:
        raise ValueError(f"the model has {logits.shape[1]} outputs, the labels need {classes}")


def select(config: TrainConfig, round_index: int, devices: int) -> NDArray[np.bool_]:
    """The devices drawn for a round, bool (K,): a share `config.participation` of all, at least one."""
    selected = np.zeros(devices, dtype=np.bool_)
    count = max(1, round(config.participation * devices))
    drawn = np.random.default_rng((config.seed, round_index)).permutation(devices)[:count]
    selected[drawn] = True
    return selected


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread, whose count would otherwise show in the last bits of matrix products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Tally:
    """Weighted sums over a round's accepted uploads."""

    def __init__(self) -> None:
        self.bits = self.weight = self.loss = self.pruning_error_sq = 0.0
        self.left_out: list[int] = []

    def add(self, alpha: float, loss: float, pruning_error_sq: float) -> None:
        self.weight += alpha
        self.loss += alpha * loss
        self.pruning_error_sq += alpha * pruning_error_sq


def _record(
    t: int,
    clock_s: float,
    plan: RoundPlan,
    workload: Workload,
    mean: CoverageMean,
    tally: _Tally,
    norm_sq: float,
) -> dict[str, Any]:
    """A round's record, columns as in ``history.COLUMNS``; accuracy is filled in after aggregation."""
    latency_s = float(plan.latency_s.max())
    weight_in = float(workload.weight[plan.participates].sum())
    coverage_min, uncovered = mean.coverage()
    return {
        "round": t,
        "wall_clock_s": clock_s + latency_s,
        "round_latency_s": latency_s,
        "energy_j": float(plan.energy_j.sum()),
        "accuracy": None,
        "accuracy_per_device": None,
        "train_loss": tally.loss / tally.weight if tally.weight else None,
        "mean_pruning_ratio": float(workload.weight @ plan.pruning_ratio) / weight_in if weight_in else None,
        "pruning_ratio_per_device": plan.pruning_ratio.tolist(),
        "pruning_error_sq": tally.pruning_error_sq if tally.weight else None,
        "global_norm_sq": norm_sq,
        "uploaded_bits": tally.bits,
        "coverage_min": coverage_min,
        "uncovered_share": uncovered,
        "participants": int(plan.participates.sum()),
        "left_out": tally.left_out,
    }
