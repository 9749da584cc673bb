"""A device's half of the Flower app: it reports, trains and evaluates when a message asks it to."""
# flwr is an extra: where it is not installed, its classes are unknown to the type checker.
# mypy: disable-error-code="no-untyped-call, unused-ignore"

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fltrain._flower_wire import (
    LABELS,
    MORE_WORK,
    WORK,
    ndarrays,
    numbers,
    read_personal,
    write_personal,
    write_upload,
)
from fltrain.accounting import count_workload
from fltrain.checkpoint import personal_part, read_whole, write_whole
from fltrain.checks import check_share, check_shares
from fltrain.config import TrainConfig
from fltrain.engine import make_replica
from fltrain.identity import first_difference, of_model, tensors_of
from fltrain.local import device_round, evaluate
from fltrain.loop import one_thread
from fltrain.partition import DeviceData
from fltrain.split import PersonalState, Split

_log = logging.getLogger(__name__)
_PERSONAL = "personal-"
_Kept = dict[int, PersonalState]
"""Personal parts that the server may yet ask for, by label. The initial one, label 0, is not among them."""


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
        Linear ``|h|^2`` of its channel in a round, as it measures it.
    state_file : Path, optional
        Its personal part is also kept in this file, and outlives the SuperNode and the run: a server that goes on
        from its checkpoint needs that. One file serves one run at a time.
    """

    number: int
    split: Split
    share: DeviceData
    config: TrainConfig
    channel_gain: Callable[[int], float]
    state_file: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_share(self.number, self.share))
        sizes = self.config.batch_size
        if not isinstance(sizes, int) and self.number >= len(sizes):
            raise ValueError(f"batch_size has numbers for {len(sizes)} devices, none for device {self.number}")
        if self.state_file is not None and not self.state_file.resolve().parent.is_dir():
            raise ValueError(f"state_file must lie in an existing folder, got {self.state_file}")


def client_app(set_up: Callable[[Context], Device]) -> ClientApp:
    """A ClientApp that reports, trains and evaluates as the device that `set_up` makes of its context."""
    app = ClientApp()

    def query(message: Message, context: Context) -> Message:
        device = set_up(context)
        ask = numbers(message.content, "ask", ["round", "work"])
        gain = device.channel_gain(int(ask["round"]))
        report: dict[str, float] = {"device": device.number, "channel_gain": gain}
        if ask["work"]:  # before the first round: what a round will cost it
            alone = replace(device.config, batch_size=device.config.batch_of(device.number))
            check_shares(device.split, [device.share], alone)
            work = count_workload(device.split, alone, [device.share])
            report |= {name: float(getattr(work, name)[0]) for name in (*WORK, *MORE_WORK)}
            report["samples"] = len(device.share.train_y)
        return Message(RecordDict({"report": MetricRecord({**report})}), reply_to=message)

    def train(message: Message, context: Context) -> Message:
        device = set_up(context)
        ask = numbers(message.content, "ask", ["round", "pruning_ratio", "label", "saved"])
        config = replace(device.config, update=message.content["ask"]["update"])
        t, label, saved = int(ask["round"]), int(ask["label"]), int(ask["saved"])
        kept = _kept(context, device)
        with one_thread():
            upload = device_round(
                make_replica(device.split, device.config),
                _broadcast(message, device),
                _recall(kept, label, device),
                device.share,
                config,
                ask["pruning_ratio"],
                t,
                device.number,
            )
        # Whether the server takes the upload, and whether it lives to save that, is not known here. So three are
        # kept: what this round began with, what it ended with, and what the server's checkpoint refers to.
        new = 1 + secrets.randbelow(LABELS - 1)
        _keep(context, device, {k: kept[k] for k in (saved, label) if k in kept} | {new: upload.personal})
        # The next round's channel goes with it: asking for it apart would cost a round trip.
        return Message(write_upload(upload, new, device.channel_gain(t + 1)), reply_to=message)

    def judge(message: Message, context: Context) -> Message:
        device = set_up(context)
        label = int(numbers(message.content, "ask", ["label"])["label"])
        u = _broadcast(message, device)
        personal = _recall(_kept(context, device), label, device)
        with one_thread():
            accuracy = evaluate(make_replica(device.split, device.config), u, personal, device.share)
        return Message(RecordDict({"about": MetricRecord({"accuracy": accuracy})}), reply_to=message)

    app.query()(query)
    app.train()(train)
    app.evaluate()(judge)
    return app


def _broadcast(message: Message, device: Device) -> torch.Tensor:
    """The global part that the server sent."""
    n = device.split.n_global
    u, *more = ndarrays(message.content, "u", n)
    if more or u.shape != (n,) or u.dtype != "float32":
        raise ValueError(f"the server sent {u.dtype} {u.shape}, device {device.number} has a global part of ({n},)")
    return torch.from_numpy(u)


def _recall(kept: _Kept, label: int, device: Device) -> PersonalState:
    """The personal part that the server means."""
    if label and label not in kept:  # this SuperNode is new, and there was no state file
        _log.warning("device %d has lost its personal part and begins a new one", device.number)
    return kept.get(label, device.split.initial_personal())


def _kept(context: Context, device: Device) -> _Kept:
    """From ``context.state``; in a new run or SuperNode that is empty, and the state file has them."""
    names = [name for name in context.state if name.startswith(_PERSONAL)]
    if names:
        return {int(name.removeprefix(_PERSONAL)): read_personal(context.state, name) for name in names}
    if device.state_file is None or not device.state_file.exists():
        return {}
    try:
        content = read_whole(device.state_file)
        known, kept = content["model"], content["kept"]
        odd = first_difference(known, of_model(device.split))
        if odd is None:
            wanted, n = tensors_of(device.split.initial_personal()), device.split.n_global
            return {int(label): personal_part(tensors, wanted, n) for label, tensors in kept.items()}
    except OSError:
        raise
    except Exception:
        raise ValueError(
            f"state_file {device.state_file} is damaged, or not of this version of fltrain; without it, device "
            f"{device.number} would begin a new personal part"
        ) from None
    _log.warning("state_file %s is of another model and will be replaced: %s", device.state_file, odd)
    return {}


def _keep(context: Context, device: Device, kept: _Kept) -> None:
    for name in [name for name in context.state if name.startswith(_PERSONAL)]:
        del context.state[name]
    for label, state in kept.items():
        context.state[f"{_PERSONAL}{label}"] = write_personal(state)
    if device.state_file is not None:
        tensors = {label: state.tensors() for label, state in kept.items()}
        write_whole(device.state_file, {"model": of_model(device.split), "kept": tensors})
