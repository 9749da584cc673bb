"""The same rounds with devices on other machines, through Flower's message API.

Needs ``flwr``. A user writes two functions: one that sets a device up from its Flower context, and one that
plans a round from what devices report about their channels; see ``examples/flower``. The server runs the very
loop of `fltrain.train`, with an engine that reaches devices by messages. Personal parts stay in the
devices' ``context.state``.
"""
# flwr is an extra: where it is not installed, its classes are unknown to the type checker.
# mypy: disable-error-code="no-untyped-call, unused-ignore"

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fltrain import checkpoint as disk
from fltrain._flower_device import Device as Device
from fltrain._flower_device import client_app as client_app
from fltrain._flower_wire import WORK, label, numbers, read_upload, reference
from fltrain.accounting import Workload
from fltrain.checkpoint import Checkpoint, RunState
from fltrain.config import TrainConfig
from fltrain.history import History
from fltrain.local import Job, Upload, nothing_sent
from fltrain.loop import one_thread, run_rounds
from fltrain.plan import RoundPlan, check_plan
from fltrain.split import PersonalState, Split

_log = logging.getLogger(__name__)
_POLL_S = 1.0
Reports = dict[int, dict[str, float]]
"""What devices report, by device: ``channel_gain`` in a round, their counted work before the first."""
Allocate = Callable[[int, Workload, NDArray[np.float64]], RoundPlan]
"""Plans a round from its number, its workload (whose ``selected`` are the devices drawn for the round that also
reported) and the reported channel gains (K,), NaN where none came."""


def serve(
    grid: Grid,
    split: Split,
    config: TrainConfig,
    allocate: Allocate,
    devices: int,
    *,
    checkpoint: Checkpoint | None = None,
    answer_s: float = 120.0,
    gather_s: float = 300.0,
    progress: bool = False,
) -> History:
    """Run a federation from a ServerApp's main function.

    Parameters
    ----------
    grid : Grid
        Flower's way to the nodes.
    split, config
        Model and configuration; the devices' must be the same.
    allocate : callable
        Asked each round; a device that reported no channel gain takes no part, whatever it answers.
    devices : int
        K. The first round waits until all have reported.
    checkpoint : Checkpoint, optional
        Save the run there, and go on from there if the file exists. The same result as without interruption
        needs devices with a ``state_file``; one that has lost its personal part begins a new one.
    answer_s, gather_s : float
        How long a round waits for an answer, and how long the server waits for devices to come online.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    History
        As of `fltrain.train`, without personal states: they are on the devices.

    Raises
    ------
    TimeoutError
        Not all devices reported at the start (names them), or none is online any more.
    ValueError
        A plan with a wrong entry, or a checkpoint of another run.
    """
    if devices < 1:
        raise ValueError(f"devices must be >= 1, got {devices}")
    engine = _Messages(grid, devices, split.n_global, answer_s, gather_s, checkpoint.every if checkpoint else 1)
    identity = disk.identity(split, (), config) | {"devices": devices}
    state = disk.load(checkpoint.path, identity) if checkpoint else None
    if state is None:
        state = RunState(split.initial_global(), [reference(0)] * devices, [], engine.gather())
    else:
        engine.wait_online(devices)

    def planner(round_index: int, workload: Workload) -> RoundPlan:
        gain = engine.channel_gains(round_index, workload.selected)
        asked = replace(workload, selected=workload.selected & np.isfinite(gain))
        return check_plan(allocate(round_index, asked, gain), asked, config)

    def save(state: RunState) -> None:
        done = len(state.records)
        if checkpoint and (done % checkpoint.every == 0 or done == config.rounds):
            disk.save(checkpoint.path, state, identity)

    with one_thread():
        history = run_rounds(engine, state, _workload(state.reports, config), config, planner, progress, save=save)
    return replace(history, personal=[])


class _Messages:
    """An engine whose devices are Flower nodes."""

    def __init__(self, grid: Grid, devices: int, n: int, answer_s: float, gather_s: float, every: int) -> None:
        self._grid, self._devices, self._n = grid, devices, n
        self._answer_s, self._gather_s, self._every = answer_s, gather_s, every
        self._node: dict[int, int] = {}
        self._next_gain: dict[int, float] = {}
        self._saved: list[int] = []

    def gather(self) -> Reports:
        """First reports of all devices."""
        until = time.monotonic() + self._gather_s
        reports: Reports = {}
        while True:
            done = {self._node[k] for k in reports}
            nodes = [node for node in self._grid.get_node_ids() if node not in done]
            reports |= self._report(0, nodes, (*WORK, "samples"), taken=reports)
            missing = sorted(set(range(self._devices)) - set(reports))
            if not missing:
                self._next_gain = {k: report.pop("channel_gain") for k, report in reports.items()}
                return reports
            if time.monotonic() > until:
                raise TimeoutError(f"devices {missing} did not report within {self._gather_s:.0f} s")
            time.sleep(_POLL_S)

    def wait_online(self, count: int) -> list[int]:
        """Nodes that are online, once there are `count` or, after `gather_s`, at least one."""
        until = time.monotonic() + self._gather_s
        while len(nodes := list(self._grid.get_node_ids())) < count and time.monotonic() < until:
            time.sleep(_POLL_S)
        if not nodes:
            raise TimeoutError(f"no device has been online for {self._gather_s:.0f} s")
        return nodes

    def channel_gains(self, t: int, selected: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Gains (K,) for round t of the selected devices that are there; NaN for all others.

        Those that came with the last uploads, and of whom else is there and answers. Also learns which node is
        which device.
        """
        online = self.wait_online(1)
        gains, self._next_gain = {k: g for k, g in self._next_gain.items() if self._node[k] in online}, {}
        device = {node: k for k, node in self._node.items()}
        others = [node for node in online if node not in device or (selected[(k := device[node])] and k not in gains)]
        gains |= {k: r["channel_gain"] for k, r in self._report(t, others, (), taken=gains).items()}
        usable = np.full(self._devices, math.nan)
        for k, gain in gains.items():
            if 0.0 < gain < math.inf:
                usable[k] = gain
            else:
                _log.warning("round %d: device %d takes no part: it reported the channel gain %s", t, k, gain)
        return np.where(selected, usable, math.nan)

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; without values if nothing sensible came."""
        labels = [label(state) for state in personal]
        if not self._saved or round_index % self._every == 0:
            self._saved = labels  # the checkpoint, if there is one, has just been read or written
        broadcast = ArrayRecord(numpy_ndarrays=[u.numpy()])
        asks = []
        for k, rho, update in jobs:
            ask: dict[str, float | str] = {"round": round_index, "pruning_ratio": rho, "update": update}
            ask |= {"label": labels[k], "saved": self._saved[k]}
            asks.append((self._node[k], RecordDict({"u": broadcast, "ask": ConfigRecord({**ask})})))
        answers = dict(self._ask(asks, MessageType.TRAIN))
        for k, _, _ in jobs:
            nothing = nothing_sent(k, reference(0))
            content = answers.get(self._node[k])
            if content is None:
                yield nothing
                continue
            try:
                upload = read_upload(content, k, self._n)
                self._next_gain[k] = numbers(content, "about", ["next_channel_gain"])["next_channel_gain"]
            except ValueError as error:
                _log.warning("round %d: device %d %s", round_index, k, error)
                upload = nothing
            yield upload

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> list[float | None]:
        """Accuracy of every device's model on its own held-out data; None if it did not answer."""
        online = set(self._grid.get_node_ids())
        broadcast = ArrayRecord(numpy_ndarrays=[u.numpy()])
        asks = [
            (node, RecordDict({"u": broadcast, "ask": ConfigRecord({"label": label(personal[k])})}))
            for k, node in self._node.items()
            if node in online
        ]
        answers = dict(self._ask(asks, MessageType.EVALUATE))
        return [self._score(k, answers.get(self._node.get(k, -1))) for k in range(self._devices)]

    def _score(self, k: int, content: RecordDict | None) -> float | None:
        if content is None:
            return None
        try:
            accuracy = numbers(content, "about", ["accuracy"])["accuracy"]
            if not 0.0 <= accuracy <= 1.0:
                raise ValueError(f"reported the accuracy {accuracy}")
        except ValueError as error:
            _log.warning("device %d %s", k, error)
            return None
        return accuracy

    def _report(self, t: int, nodes: Sequence[int], work: Sequence[str], taken: Container[int]) -> Reports:
        """What these nodes report: their channel in round t and, if asked for, their work. Remembers who they are."""
        reports: Reports = {}
        ask = RecordDict({"ask": ConfigRecord({"round": t, "work": bool(work)})})
        for node, content in self._ask([(node, ask) for node in nodes], MessageType.QUERY):
            try:
                report = numbers(content, "report", ["device", "channel_gain", *work])
                number = report.pop("device")
                if number not in range(self._devices) or number in taken or number in reports:
                    raise ValueError(f"says it is device {number:g}, which is out of range or taken")
                if work and not (report["samples"] >= 1 and all(0.0 <= report[name] < math.inf for name in work)):
                    raise ValueError(f"reported impossible work: {report}")
            except ValueError as error:
                _log.warning("node %d %s", node, error)
                continue
            reports[int(number)] = report
            self._node[int(number)] = node
        return reports

    def _ask(self, asks: Sequence[tuple[int, RecordDict]], kind: str) -> list[tuple[int, RecordDict]]:
        """Send to nodes and wait; the answers that came without an error, with their nodes."""
        messages = [Message(content, dst_node_id=node, message_type=kind) for node, content in asks]
        answers = []
        for reply in self._grid.send_and_receive(messages, timeout=self._answer_s) if messages else []:
            node = reply.metadata.src_node_id
            if reply.has_error():
                _log.warning("node %d failed to answer %s: %s", node, kind, reply.error.reason)
            else:
                answers.append((node, reply.content))
        return answers


def _workload(reports: Reports, config: TrainConfig) -> Workload:
    K = len(reports)
    arrays = {name: np.array([reports[k][name] for k in range(K)]) for name in WORK}
    samples = np.array([reports[k]["samples"] for k in range(K)])
    weight = np.full(K, 1.0 / K) if config.aggregation == "uniform" else samples / samples.sum()
    selected = np.ones(K, dtype=np.bool_)
    return Workload(weight=weight, selected=selected, changes=None, **arrays)
