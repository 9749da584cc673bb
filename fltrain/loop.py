"""The round loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fltrain import checkpoint as disk
from fltrain.accounting import Workload, count_workload
from fltrain.aggregate import CoverageMean, refusal
from fltrain.broadcast import Received
from fltrain.checkpoint import Checkpoint, RunState
from fltrain.checks import check_shares
from fltrain.config import TrainConfig
from fltrain.curve import ChangeReport, Changes
from fltrain.engine import Engine, make_engine, make_replica
from fltrain.history import History
from fltrain.local import Job, uses_often
from fltrain.partition import DeviceData
from fltrain.plan import Planner, RoundPlan, check_plan
from fltrain.split import PersonalState, Split

_log = logging.getLogger(__name__)
Observer = Callable[[int, torch.Tensor, Sequence[PersonalState]], None]
Stop = Callable[[Sequence[Mapping[str, Any]]], bool]
Saver = Callable[[RunState, bool], None]
"""Saves a state if it is time to, or now."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while training. What was done until the last whole round is in `history`, and in the checkpoint if any."""

    def __init__(self, history: History) -> None:
        super().__init__(f"interrupted after {len(history.records)} rounds")
        self.history = history


def train(
    split: Split,
    shares: Sequence[DeviceData],
    config: TrainConfig,
    planner: Planner,
    progress: bool = True,
    *,
    workers: int = 1,
    checkpoint: Checkpoint | None = None,
    observer: Observer | None = None,
    stop: Stop | None = None,
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
    workers : int
        Processes that run devices side by side; 1 stays in this one. Pays from about 10 ms per device.
    checkpoint : Checkpoint, optional
        Save the run there, and go on from there if the file exists: same result as without interruption.
    observer : callable, optional
        Called after each round with its number, the global part (n_global,) and all personal states, to be
        read and not changed.
    stop : callable, optional
        Asked after each round, with the records so far (one dictionary a round, see `COLUMNS`): True ends the run. Its
        checkpoint is saved, and goes on if the run is started again.

    Returns
    -------
    History
        Same result for the same arguments, bit for bit, on the same machine and torch version, whatever
        `workers` is.

    Raises
    ------
    ValueError
        A device without data, data or a model that no round can run on (see `check_shares`), a plan with a wrong
        entry, a checkpoint of another run, or an engine that cannot be had (see `make_engine`).
    Interrupted
        Ctrl-C: a KeyboardInterrupt that holds the history of all whole rounds, which are in the checkpoint, too.
    Exception
        Whatever else ends a round, in the planner, in `observer` or `stop`: passed on as it is, with the same history
        as its attribute `history`, and the checkpoint saved.
    """
    _require_callable(planner)
    shares = check_shares(split, shares, config)
    workload = count_workload(split, config, shares)
    received = Received.nothing(split.n_global, len(shares)) if config.broadcast == "moved" else None
    state = RunState(split.initial_global(), [split.initial_personal() for _ in shares], [], received=received)
    if checkpoint is not None:
        identity = disk.identity(split, shares, config)
        state = disk.load(checkpoint.path, identity) or state
    save = None if checkpoint is None else _saver(checkpoint, identity, config.rounds)
    often = [uses_often(config, len(share.train_y), k) for k, share in enumerate(shares)]
    stats = make_replica(split, config).stats(shares[0].train_x[:1], often)
    _log.info("trainer: %s", "; ".join(f"{name} {how}" for name, how in stats.items()))
    with one_thread(), closing(make_engine(split, shares, config, workers)) as engine:
        try:
            history = run_rounds(engine, state, workload, config, planner, progress, observer, save, stop)
        except BaseException as error:
            with_history(error, stats=stats)
            raise
    return replace(history, stats=stats)


def _require_callable(planner: object) -> None:
    if not callable(planner):
        remedy = "; RadioPlanner(radio) plans for it" if hasattr(planner, "build") else ""
        raise ValueError(f"planner must be callable, got {type(planner).__name__}{remedy}")


def with_history(error: BaseException, **changes: Any) -> None:
    """Change fields of the history that an error out of `run_rounds` carries, if it carries one."""
    history = getattr(error, "history", None)
    if isinstance(history, History):
        error.history = replace(history, **changes)  # type: ignore[attr-defined]


def run_rounds(
    engine: Engine,
    state: RunState,
    workload: Workload,
    config: TrainConfig,
    planner: Planner,
    progress: bool,
    observer: Observer | None = None,
    save: Saver | None = None,
    stop: Stop | None = None,
) -> History:
    """Take `state` through its remaining rounds, wherever `engine` runs the devices.

    After each round, in this order: accuracy if it is due, `observer`, `save`, `stop`. An error in a round gets the
    attribute `history` with the whole rounds before it, and these are saved.
    """
    first = len(state.records)
    with tqdm(total=config.rounds, initial=first, desc="train", unit="round", disable=not progress) as bar:
        for t in range(first, config.rounds):
            # A round replaces these and changes none of them: they are what an interrupted one goes back to.
            before = replace(state, personal=list(state.personal), records=list(state.records))
            before.changes = dict(state.changes)
            try:
                asked = _asked(workload, config, state, t)
                plan = check_plan(planner(t, asked), asked, config)
                if not plan.participates.any() and (not state.records or state.records[-1]["participants"]):
                    _log.warning("%s", _idle(t, plan))  # once, however many such rounds follow
                record = _one_round(t, engine, state, plan, asked, config)
                if (t + 1) % config.evaluate_every == 0 or t + 1 == config.rounds:
                    scores = engine.accuracies(state.u, state.personal)
                    known = [score for score in scores if score is not None]
                    record["accuracy_per_device"] = scores
                    record["accuracy"] = float(np.mean(known)) if known else None
                    bar.set_postfix(accuracy=record["accuracy"], refresh=False)
                state.records.append(record)
                before = state
                if observer is not None:
                    observer(t, state.u, state.personal)
                if save is not None:
                    save(state, False)
                ends = stop is not None and stop(state.records)
            except KeyboardInterrupt:
                if save is not None and before.records:
                    save(before, True)
                raise Interrupted(History(before.records, before.u, before.personal)) from None
            except Exception as error:
                error.history = History(before.records, before.u, before.personal)  # type: ignore[attr-defined]
                if save is not None and before.records:
                    _save_after(error, save, before)
                raise
            bar.update()
            if ends:
                if save is not None:
                    save(state, True)
                break
    return History(state.records, state.u, state.personal)


def _idle(t: int, plan: RoundPlan) -> str:
    """What to say of a round in which nobody takes part."""
    why = np.array([]) if plan.not_asked is None else plan.not_asked
    reasons = [f"{reason} (devices {_listed(np.flatnonzero(why == reason))})" for reason in np.unique(why[why != ""])]
    return f"round {t}: nobody takes part: {'; '.join(reasons) or 'so says the planner'}; the clock goes on"


def _listed(numbers: NDArray[np.int64]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")


def _save_after(error: Exception, save: Saver, state: RunState) -> None:
    """Save what was done before `error`, which stays the one that is raised: it may be that of a full disk."""
    try:
        save(state, True)
    except OSError as second:
        _log.warning("after %s: the checkpoint was not saved: %s", type(error).__name__, second)


def _asked(workload: Workload, config: TrainConfig, state: RunState, t: int) -> Workload:
    """The workload as a planner sees it in round `t`: who was drawn, and what happened so far."""
    K, past, received = len(workload.weight), state.records, state.received
    selected = select(config, t, K)
    return replace(
        workload,
        broadcast_bits=workload.broadcast_bits if received is None else received.bits(),
        moves=None if received is None else received.moves(select(config, t + 1, K) & ~selected),
        selected=selected,
        changes=Changes.of(state.changes, K) if state.changes else None,
        elapsed_s=past[-1]["wall_clock_s"] if past else 0.0,
        spent_j=np.array([record["energy_j_per_device"] for record in past]).sum(axis=0) if past else np.zeros(K),
    )


def _saver(checkpoint: Checkpoint, identity: dict[str, Any], rounds: int) -> Saver:
    def save(state: RunState, now: bool) -> None:
        done = len(state.records)
        if now or done % checkpoint.every == 0 or done == rounds:
            disk.save(checkpoint.path, state, identity)

    return save


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread, whose count would otherwise show in the last bits of matrix products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _one_round(
    t: int, engine: Engine, state: RunState, plan: RoundPlan, workload: Workload, config: TrainConfig
) -> dict[str, Any]:
    """Move `state` on by one round; returns its record, columns as in ``history.COLUMNS``."""
    kind = config.update if plan.update is None else plan.update
    arrives = plan.participates if plan.lost is None else plan.participates & ~plan.lost
    jobs = [Job(k, float(plan.pruning_ratio[k]), kind) for k in np.flatnonzero(arrives).tolist()]
    mean = CoverageMean(len(state.u), config.averaging, config.server_rate)
    weight = loss = pruning_error_sq = bits = 0.0
    left_out = []
    changes: dict[int, ChangeReport] = {}
    # All devices start from the same u; each one's personal part changes only once its upload is accepted.
    for upload in engine.uploads(t, state.u, state.personal, jobs):
        k = upload.device
        bits += upload.bits
        reason = refusal(upload.values, upload.mask, upload.loss, len(state.u))
        if reason or upload.values is None:
            _log.warning("round %d: device %d left out: %s", t, k, reason)
            left_out.append(k)
            continue
        alpha = float(workload.weight[k])
        mean.add(upload.values, upload.mask, alpha)
        state.personal[k] = upload.personal
        if upload.report is not None:
            changes[k] = upload.report
        weight += alpha
        loss += alpha * upload.loss
        pruning_error_sq += alpha * upload.pruning_error_sq
    before, state.u = state.u, mean.result(state.u)
    if state.received is not None:
        uploaded = arrives.copy()
        uploaded[left_out] = False
        state.received = state.received.after(t, state.u != before, arrives, plan.pruning_ratio[uploaded])
    coverage_min, uncovered_share = mean.coverage()
    latency_s = float(plan.latency_s.max() if plan.round_s is None else plan.round_s)
    took_part = float(workload.weight[arrives].sum())
    state.changes |= changes
    error_curve = Changes.of(changes, len(workload.weight)).mean_error(workload.weight)
    return {
        "round": t,
        "wall_clock_s": (state.records[-1]["wall_clock_s"] if state.records else 0.0) + latency_s,
        "round_latency_s": latency_s,
        "energy_j": float(plan.energy_j.sum()),
        "energy_j_per_device": plan.energy_j.tolist(),
        "accuracy": None,
        "accuracy_per_device": None,
        "train_loss": loss / weight if weight else None,
        "mean_pruning_ratio": float(workload.weight[arrives] @ plan.pruning_ratio[arrives]) / took_part
        if jobs
        else None,
        "pruning_ratio_per_device": plan.pruning_ratio.tolist(),
        "update": kind if plan.pruning_ratio[arrives].any() else "unpruned",
        "pruning_error_sq": pruning_error_sq if weight else None,
        "change_sq_per_device": [changes[k].change_sq if k in changes else None for k in range(len(workload.weight))],
        "error_curve": None if error_curve is None else error_curve.tolist(),
        "global_norm_sq": float(before.double().square().sum()),
        "broadcast_bits": float(workload.broadcast_bits[plan.participates].max(initial=0.0)),
        "uploaded_bits": bits,
        "coverage_min": coverage_min,
        "uncovered_share": uncovered_share,
        "participants": len(jobs),
        "not_asked": None if plan.not_asked is None else plan.not_asked.tolist(),
        "lost": np.flatnonzero(plan.participates & ~arrives).tolist(),
        "left_out": left_out,
    }


def select(config: TrainConfig, round_index: int, devices: int) -> NDArray[np.bool_]:
    """The devices drawn for a round, bool (K,): a share `config.participation` of all, at least one."""
    selected = np.zeros(devices, dtype=np.bool_)
    count = max(1, round(config.participation * devices))
    drawn = np.random.default_rng((config.seed, round_index)).permutation(devices)[:count]
    selected[drawn] = True
    return selected
