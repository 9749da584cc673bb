"""A Flower strategy with a radio clock: what it averages is as before, what it adds is the clock's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

import kktalloc as ka
from kktalloc import radio

PATH = Path(__file__).parents[1] / "examples" / "clock" / "flower_strategy.py"


def _replies(gain: list[float]) -> list[Message]:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # the runtime would have said who we are
    replies = []
    for k, g in enumerate(gain):
        ask = Message(RecordDict(), dst_node_id=k + 1, message_type="train")
        content = {
            "arrays": ArrayRecord(numpy_ndarrays=[np.full((10, 30), k, np.float32), np.zeros(7, np.float32)]),
            "metrics": MetricRecord({"num-examples": 10 + k, "flops": 3e7, "channel_gain": g}),
        }
        replies.append(Message(RecordDict(content), reply_to=ask))
    return replies


def test_a_strategy_reads_the_clock() -> None:
    spec = importlib.util.spec_from_file_location("flower_strategy", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gain = [3e-12, 1e-11, 5e-11]
    arrays, metrics = module.TimedFedAvg().aggregate_train(1, _replies(gain))
    plain, _ = FedAvg().aggregate_train(1, _replies(gain))
    for mine, theirs in zip(arrays.to_numpy_ndarrays(), plain.to_numpy_ndarrays(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    bits = 32 * (10 * 30 + 7)
    work = radio.Work(np.full(3, 3e7), bits, overhead_bits=128, broadcast_bits=bits + 128)
    cost = radio.Clock(ka.Cell(1e6, 4e-21, 1.0), module.PHONES, 2e7).unpruned(work, np.array(gain))
    assert metrics["round_s"] == pytest.approx(float(cost.round_s), rel=1e-12)
    assert metrics["energy_j"] == pytest.approx(float(cost.energy_j.sum()), rel=1e-12)
