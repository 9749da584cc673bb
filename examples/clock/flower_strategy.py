"""A Flower strategy that knows what its rounds cost on air: the lines marked `# clock` are new."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg

import kktalloc as ka  # clock
from kktalloc import radio  # clock

PHONES = radio.Phones(flop_per_s=2e8, joule_per_flop=1e-9, tx_power_max_w=0.2)  # clock


class TimedFedAvg(FedAvg):
    """Federated averaging whose metrics hold the round's seconds and joules.

    Devices reply with the metrics ``flops`` and ``channel_gain`` beside what `FedAvg` needs.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As `FedAvg` does it, and the clock's reading."""
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None or metrics is None:
            return arrays, metrics
        reports: list[Any] = [reply.content["metrics"] for reply in replies if reply.has_content()]  # clock
        flops, gain = np.array([[r["flops"], r["channel_gain"]] for r in reports]).T  # clock
        bits = 8 * sum(array.nbytes for array in arrays.to_numpy_ndarrays())  # clock
        work = radio.Work(flops, bits, overhead_bits=128, broadcast_bits=bits + 128)  # clock
        clock = radio.Clock(ka.Cell(1e6, 4e-21, deadline_s=1.0), PHONES, broadcast_bit_per_s=2e7)  # clock
        cost = clock.unpruned(work, gain)  # clock
        metrics["round_s"], metrics["energy_j"] = float(cost.round_s), float(cost.energy_j.sum())  # clock
        return arrays, metrics
