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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fltrain.accounting import Workload, count_workload
from fltrain.checkpoint import RunState
from fltrain.config import TrainConfig
from fltrain.engine import Job, make_replica
from fltrain.history import History
from fltrain.local import Upload, device_round, evaluate
from fltrain.loop import check_shares, one_thread, run_rounds
from fltrain.partition import DeviceData
from fltrain.plan import RoundPlan
from fltrain.split import PersonalState, Split

_log = logging.getLogger(__name__)
_WORK = ("personal_flops", "probe_flops", "pruned_flops", "payload_bits", "overhead_bits", "broadcast_bits")
_NOTHING = PersonalState(torch.empty(0), ())
Reports = dict[int, dict[str, float]]
"""What devices report in a round, by device: ``channel_gain``, and their counted work."""
Allocate = Callable[[int, Workload, NDArray[np.float64]], RoundPlan]
"""Plans a round from its number, its workload and the reported channel gains (K,), NaN where none came."""


@dataclass(frozen=True)
class Device:
    """What a device is to the federation.

    Parameters
    ----------
    number : int
        0 .. K - 1, for example the ``partition-id`` of its node configuration.
    split, share, config
        Model, own data and configuration; the model and configuration must be the server's.
    channel_gain : callable
        Linear |h|^2 of its channel in a round, as it measures it.
    """

    number: int
    split: Split
    share: DeviceData
    config: TrainConfig
    channel_gain: Callable[[int], float]


def client_app(set_up: Callable[[Context], Device]) -> ClientApp:
    """A ClientApp that reports, trains and evaluates as the device that `set_up` makes of its context."""
    app = ClientApp()

    def query(message: Message, context: Context) -> Message:
        device = set_up(context)
        t = int(_numbers(message.content, "ask")["round"])
        report: dict[str, float] = {"device": device.number, "channel_gain": device.channel_gain(t)}
        if t < 0:  # before the first round: what a round will cost it
            check_shares(device.split, [device.share])
            work = count_workload(device.split, device.config, [device.share])
            report |= {name: float(getattr(work, name)[0]) for name in _WORK}
            report["samples"] = len(device.share.train_y)
        return Message(RecordDict({"report": _metrics(report)}), reply_to=message)

    def train(message: Message, context: Context) -> Message:
        device = set_up(context)
        ask = _numbers(message.content, "ask")
        u = torch.from_numpy(_ndarrays(message.content, "u")[0])
        personal = _kept(context) or device.split.initial_personal()
        with one_thread():
            upload = device_round(
                make_replica(device.split, device.config),
                u,
                personal,
                device.share,
                device.config,
                ask["pruning_ratio"],
                int(ask["round"]),
                device.number,
            )
        # The next round's channel goes with it: asking for it apart would cost a round trip.
        next_gain = device.channel_gain(int(ask["round"]) + 1)
        content = RecordDict({"about": _metrics(_about(upload) | {"next_channel_gain": next_gain})})
        if upload.values is not None and torch.isfinite(upload.values).all():
            context.state["personal"] = ArrayRecord(numpy_ndarrays=_arrays(upload.personal))
            content["sent"] = ArrayRecord(numpy_ndarrays=_sent(upload))
        return Message(content, reply_to=message)

    def judge(message: Message, context: Context) -> Message:
        device = set_up(context)
        u = torch.from_numpy(_ndarrays(message.content, "u")[0])
        personal = _kept(context) or device.split.initial_personal()
        with one_thread():
            accuracy = evaluate(make_replica(device.split, device.config), u, personal, device.share)
        return Message(
            RecordDict({"about": _metrics({"device": device.number, "accuracy": accuracy})}),
            reply_to=message,
        )

    app.query()(query)
    app.train()(train)
    app.evaluate()(judge)
    return app


def serve(
    grid: Grid,
    split: Split,
    config: TrainConfig,
    allocate: Allocate,
    devices: int,
    *,
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
    answer_s, gather_s : float
        How long a round waits for an answer, and how long the start waits for all devices.

    Returns
    -------
    History
        As of `fltrain.train`; its personal states are empty, they are on the devices.

    Raises
    ------
    TimeoutError
        Not all devices reported at the start; names them.
    """
    engine = _Messages(grid, devices, split.n_global, answer_s)
    workload = _workload(engine.gather(gather_s), config)

    def planner(round_index: int, workload: Workload) -> RoundPlan:
        reports = engine.report(round_index)
        gains = np.array([reports.get(k, {}).get("channel_gain", np.nan) for k in range(devices)])
        plan = allocate(round_index, workload, gains)
        values = {f.name: getattr(plan, f.name) for f in fields(plan)}
        return RoundPlan(**values | {"participates": np.asarray(plan.participates) & np.isfinite(gains)})

    state = RunState(split.initial_global(), [_NOTHING] * devices, [])
    with one_thread():
        return run_rounds(engine, state, workload, config, planner, progress)


class _Messages:
    """An engine whose devices are Flower nodes."""

    def __init__(self, grid: Grid, devices: int, n: int, answer_s: float) -> None:
        self._grid, self._devices, self._n, self._answer_s = grid, devices, n, answer_s
        self._node: dict[int, int] = {}
        self._ahead: Reports = {}

    def gather(self, seconds: float) -> Reports:
        """First reports of all devices."""
        until = time.monotonic() + seconds
        while True:
            reports = self.report(-1)
            if len(reports) == self._devices:
                return reports
            if time.monotonic() > until:
                missing = sorted(set(range(self._devices)) - set(reports))
                raise TimeoutError(f"devices {missing} did not report within {seconds:.0f} s")
            time.sleep(1.0)

    def report(self, t: int) -> Reports:
        """Reports for round t: those that came with the last uploads, and of whom else is there and answers.

        Also learns which node is which device.
        """
        ask = RecordDict({"ask": ConfigRecord({"round": t})})
        reports, self._ahead = self._ahead, {}
        known = {self._node[k] for k in reports}
        others = [(node, ask) for node in self._grid.get_node_ids() if node not in known]
        answers = self._ask(others, MessageType.QUERY)
        for node, content in answers:
            report = _numbers(content, "report")
            number = int(report["device"])
            if not 0 <= number < self._devices or number in reports:
                _log.warning("node %d says it is device %d, which is out of range or taken", node, number)
                continue
            reports[number] = report
            self._node[number] = node
        return reports

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; without values if no answer came."""
        broadcast = ArrayRecord(numpy_ndarrays=[u.numpy()])
        asks = [
            (
                self._node[k],
                RecordDict({"u": broadcast, "ask": ConfigRecord({"round": round_index, "pruning_ratio": rho})}),
            )
            for k, rho in jobs
        ]
        answers = dict(self._ask(asks, MessageType.TRAIN))
        for k, _ in jobs:
            content = answers.get(self._node[k])
            if content is not None:
                self._ahead[k] = {"channel_gain": _numbers(content, "about")["next_channel_gain"]}
            yield _received(k, content, self._n)

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> list[float | None]:
        """Accuracy of every device's model on its own held-out data; None if it did not answer."""
        content = RecordDict({"u": ArrayRecord(numpy_ndarrays=[u.numpy()])})
        reached = set(self._grid.get_node_ids()) & set(self._node.values())
        answers = dict(self._ask([(node, content) for node in reached], MessageType.EVALUATE))
        scores: list[float | None] = []
        for k in range(self._devices):
            answer = answers.get(self._node.get(k, -1))
            scores.append(None if answer is None else _numbers(answer, "about")["accuracy"])
        return scores

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
    arrays = {name: np.array([reports[k][name] for k in range(K)]) for name in _WORK}
    samples = np.array([reports[k]["samples"] for k in range(K)])
    weight = np.full(K, 1.0 / K) if config.aggregation == "uniform" else samples / samples.sum()
    return Workload(**arrays, weight=weight, selected=np.ones(K, dtype=np.bool_))


def _about(upload: Upload) -> dict[str, float]:
    return {
        "device": upload.device,
        "loss": upload.loss,
        "pruning_error_sq": upload.pruning_error_sq,
        "bits": upload.bits,
    }


def _sent(upload: Upload) -> list[NDArray[Any]]:
    """Only what was kept travels: the values, and one bit per coordinate that says where they belong."""
    assert upload.values is not None
    if upload.mask is None:
        return [upload.values.numpy()]
    return [upload.values[upload.mask].numpy(), np.packbits(upload.mask.numpy())]


def _received(device: int, content: RecordDict | None, n: int) -> Upload:
    """What a device's answer amounts to; values of a wrong number are left as they are, to be refused."""
    if content is None or "sent" not in content:
        return Upload(device, None, None, _NOTHING, float("nan"), float("nan"), 0.0)
    arrays = _ndarrays(content, "sent")
    values, mask = torch.from_numpy(arrays[0]), None
    if len(arrays) > 1:
        mask = torch.from_numpy(np.unpackbits(arrays[1], count=n).astype(np.bool_))
        if int(mask.sum()) == len(values):
            dense = torch.zeros(n)
            dense[mask] = values
            values = dense
    about = _numbers(content, "about")
    return Upload(
        device,
        values,
        mask,
        _NOTHING,
        about["loss"],
        about["pruning_error_sq"],
        about["bits"],
    )


def _arrays(personal: PersonalState) -> list[NDArray[Any]]:
    return [personal.v.numpy(), *(b.numpy() for b in personal.buffers)]


def _kept(context: Context) -> PersonalState | None:
    if "personal" not in context.state:
        return None
    v, *buffers = (torch.from_numpy(a) for a in _ndarrays(context.state, "personal"))
    return PersonalState(v, tuple(buffers))


def _metrics(values: dict[str, float]) -> MetricRecord:
    return MetricRecord({**values})


def _numbers(content: Any, name: str) -> dict[str, float]:
    return {key: float(value) for key, value in content[name].items()}


def _ndarrays(content: Any, name: str) -> list[NDArray[Any]]:
    return [np.array(a) for a in content[name].to_numpy_ndarrays()]
