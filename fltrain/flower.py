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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

try:
    import flwr as _flwr  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "flwr":
        raise
    message = "fltrain.flower needs flwr, which an extra brings: pip install 'kktalloc[flower]'"
    raise ModuleNotFoundError(message, name="flwr") from None

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fltrain import checkpoint as disk
from fltrain._flower_device import Device as Device
from fltrain._flower_device import client_app as client_app
from fltrain._flower_limits import Limits as Limits
from fltrain._flower_limits import believe_reports, judge_upload, longest_allowed
from fltrain._flower_wire import MORE_WORK, WORK, label, numbers, read_upload, reference
from fltrain.accounting import Workload
from fltrain.checkpoint import Checkpoint, RunState
from fltrain.config import TrainConfig
from fltrain.history import History
from fltrain.identity import tensors_of
from fltrain.local import Job, Upload, nothing_sent
from fltrain.loop import one_thread, run_rounds, with_history
from fltrain.plan import RoundPlan, check_plan
from fltrain.split import PersonalState, Split
from kktalloc.radio import NO_SERVICE

_log = logging.getLogger(__name__)
_POLL_S = 1.0
_BARRED = "claims work that no device has"
__all__ = [
    "Allocate",
    "Device",
    "Limits",
    "client_app",
    "serve",
]

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
    limits: Limits | None = None,
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
    limits : Limits, optional
        Bounds on what the server believes of a device; the default ones if not given.
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
        A plan with a wrong entry, a checkpoint of another run, or a broadcast of what moved: messages carry the whole.
    """
    if devices < 1:
        raise ValueError(f"devices must be >= 1, got {devices}")
    if config.broadcast != "whole":
        raise ValueError(f"broadcast must be whole with Flower, whose messages carry all, got {config.broadcast!r}")
    config.check_devices(devices)
    limits = limits or Limits()
    every = checkpoint.every if checkpoint else 1
    engine = _Messages(grid, devices, config, limits, answer_s=answer_s, gather_s=gather_s, every=every)
    identity = disk.identity(split, (), config)
    identity |= {"devices": devices, "personal tensors": tensors_of(reference(0))}
    state = disk.load(checkpoint.path, identity) if checkpoint else None
    if state is None:
        state = RunState(split.initial_global(), [reference(0)] * devices, [], engine.gather())
    else:
        engine.remember(state.reports)
        engine.wait_online(devices)
    work, barred = believe_reports(state.reports, split, config, limits)

    def planner(round_index: int, workload: Workload) -> RoundPlan:
        gain = engine.channel_gains(round_index, workload.selected & ~barred)
        asked = replace(workload, selected=workload.selected & np.isfinite(gain))
        plan = check_plan(allocate(round_index, asked, gain), asked, config)
        if plan.not_asked is None:
            return plan
        silent = workload.selected & ~asked.selected  # the planner was not told of them
        why = np.where(barred, _BARRED, NO_SERVICE)
        return replace(plan, not_asked=np.where(silent, why, plan.not_asked))

    def save(state: RunState, now: bool) -> None:
        """Only on time, whatever `now` says: devices keep the states of these rounds, and of no others."""
        done = len(state.records)
        if checkpoint and (done % checkpoint.every == 0 or done == config.rounds):
            disk.save(checkpoint.path, state, identity)

    with one_thread():
        try:
            history = run_rounds(engine, state, work, config, planner, progress, save=save)
        except BaseException as error:
            with_history(error, personal=[])
            raise
    return replace(history, personal=[])


class _Messages:
    """An engine whose devices are Flower nodes."""

    def __init__(
        self,
        grid: Grid,
        devices: int,
        config: TrainConfig,
        limits: Limits,
        *,
        answer_s: float,
        gather_s: float,
        every: int,
    ) -> None:
        self._grid, self._devices, self._config, self._limits = grid, devices, config, limits
        self._answer_s, self._gather_s, self._every = answer_s, gather_s, every
        self._node: dict[int, int] = {}
        self._next_gain: dict[int, float] = {}
        self._saved: list[int] = []

    def remember(self, reports: Reports) -> None:
        """Which node is which device, from what they reported at the start of the run."""
        self._node = {k: int(report["node"]) for k, report in reports.items() if "node" in report}

    def gather(self) -> Reports:
        """First reports of all devices."""
        until = time.monotonic() + self._gather_s
        reports: Reports = {}
        while True:
            done = {self._node[k] for k in reports}
            nodes = [node for node in self._grid.get_node_ids() if node not in done]
            reports |= self._report(0, nodes, work=True)
            missing = sorted(set(range(self._devices)) - set(reports))
            if not missing:
                self._next_gain = {k: report.pop("channel_gain") for k, report in reports.items()}
                return {k: report | {"node": self._node[k]} for k, report in reports.items()}
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
        gains |= {k: r["channel_gain"] for k, r in self._report(t, others, work=False).items()}
        usable = np.full(self._devices, math.nan)
        for k, gain in gains.items():
            if 0.0 < gain < math.inf and gain <= self._limits.channel_gain:
                usable[k] = gain
            else:
                _log.warning("round %d: device %d takes no part: it reported the channel gain %s", t, k, gain)
        return np.where(selected, usable, math.nan)

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; without values if nothing sensible came.

        All are read before the first is handed out, for they are judged beside each other.
        """
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
        uploads, lengths = [], []
        for k, _, update in jobs:
            upload, length = nothing_sent(k, reference(0)), math.nan
            content = answers.pop(self._node[k], None)
            if content is not None:
                try:
                    sent = read_upload(content, k, len(u))
                    gain = numbers(content, "about", ["next_channel_gain"])["next_channel_gain"]
                    upload, length = judge_upload(sent, u, update, self._config, self._limits)
                    self._next_gain[k] = gain
                except Exception as error:  # whatever it sent, it must not end the run of all others
                    _log.warning("round %d: device %d %s", round_index, k, _said(error))
            uploads.append(upload)
            lengths.append(length)
        most = longest_allowed(lengths, self._limits)
        for upload, length in zip(uploads, lengths, strict=True):
            if length > most:
                said = "round %d: device %d sent a change of length %.3g, the limit beside the others is %.3g"
                _log.warning(said, round_index, upload.device, length, most)
                yield nothing_sent(upload.device, reference(0))
            else:
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
        except Exception as error:
            _log.warning("device %d %s", k, _said(error))
            return None
        return accuracy

    def _report(self, t: int, nodes: Sequence[int], *, work: bool) -> Reports:
        """What these nodes report: their channel in round t and, if asked for, their work. Remembers who they are."""
        reports: Reports = {}
        wanted = ["device", "channel_gain", *((*WORK, "samples") if work else ())]
        ask = RecordDict({"ask": ConfigRecord({"round": t, "work": work})})
        for node, content in self._ask([(node, ask) for node in nodes], MessageType.QUERY):
            try:
                report = numbers(content, "report", wanted)
                if work:
                    there = [name for name in MORE_WORK if name in content["report"]]
                    report |= numbers(content, "report", there)
                    counts = [report[name] for name in (*WORK, *there)]
                    whole = report["samples"] >= 1 and report["samples"].is_integer()
                    if not (whole and all(0.0 <= count < math.inf for count in counts)):
                        raise ValueError(f"reported impossible work: {report}")
                k = self._claimed(report.pop("device"), node)
            except Exception as error:
                _log.warning("node %d %s", node, _said(error))
                continue
            reports[k] = report
        return reports

    def _claimed(self, number: float, node: int) -> int:
        """The device that a node says it is. The first to claim a number keeps it, and its own, while it is there."""
        own = {other: k for k, other in self._node.items()}.get(node, number)
        k = int(number) if number in range(self._devices) else -1
        holder = self._node.get(k, node)
        held = holder != node and (not self._limits.rejoin or holder in self._grid.get_node_ids())
        if k < 0 or own != number or held:
            raise ValueError(f"says it is device {number:g}, which is out of range or taken")
        if holder != node:
            _log.warning("node %d takes the place of node %d, which is offline, as device %d", node, holder, k)
        self._node[k] = node
        return k

    def _ask(self, asks: Sequence[tuple[int, RecordDict]], kind: str) -> list[tuple[int, RecordDict]]:
        """Send to nodes and wait; the answers that came without an error, with their nodes."""
        messages = [Message(content, dst_node_id=node, message_type=kind) for node, content in asks]
        answers: dict[int, RecordDict] = {}
        asked = {node for node, _ in asks}
        for reply in self._grid.send_and_receive(messages, timeout=self._answer_s) if messages else []:
            node = reply.metadata.src_node_id
            if reply.has_error():
                _log.warning("node %d failed to answer %s: %s", node, kind, reply.error.reason)
            elif node not in asked or node in answers:
                _log.warning("node %d sent an answer to %s that nobody asked for", node, kind)
            else:
                answers[node] = reply.content
        return list(answers.items())


def _said(error: Exception) -> str:
    """One line of what is wrong; an error of another kind than ours is named."""
    text = (str(error).splitlines() or [""])[0][:500]
    return text if type(error) is ValueError else f"sent what cannot be read: {type(error).__name__}: {text}"
