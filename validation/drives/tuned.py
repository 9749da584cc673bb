"""What `drives-tuning` tries on seeds below 100, and what it chose there for the seeds that are reported.

One procedure for unpruned and planned rounds: every setting is trained on the tuning seeds, and of each family the one
with the least mean time to the target is taken. The target is the better unpruned accuracy at the end less the margin.
A setting is a server rate and how many steps a round has: where sending is cheap, rounds with fewer steps may pay.
"""

from __future__ import annotations

from typing import Literal

from .study import DrivesStudy, Entry

_SPARSE: tuple[Literal["sparse"]] = ("sparse",)
_FROZEN: tuple[Literal["frozen"]] = ("frozen",)
SHORT = (4, 3)
"""Steps of rounds that have fewer than the six personal and five global ones of the cell."""

TUNING = DrivesStudy(
    name="drives-tuning",
    seeds=(60,),
    entries=(
        *(Entry("unpruned", rate) for rate in (2.0, 3.0, 4.0)),
        *(Entry("joint", rate, "covered", _SPARSE) for rate in (1.0, 2.0, 3.0)),
        *(Entry("joint", rate, "fill", _SPARSE) for rate in (2.0, 3.0)),
        Entry("joint", 2.0, "fill", _SPARSE, deadline=0.66),
        Entry("joint", 2.0, "fill", _SPARSE, True, 0.62),
        Entry("joint", 2.0, "covered", _SPARSE, deadline=0.62),
        Entry("joint", 3.0, "covered", _SPARSE, steps=SHORT),
        Entry("joint", 2.0, "covered", _FROZEN, deadline=0.6),
    ),
    pruned_rounds=45,
    progress_power=1.0,
    broadcast="whole",
)
"""One tuning seed was run: a run takes minutes. Batches by speed, what moved and the root of what a round keeps were
tried afterwards, on seeds 60 and 61 (docs/log.md)."""
CONFIG = DrivesStudy(
    seeds=(680, 681, 682),
    entries=(
        Entry("unpruned", 3.0),
        Entry("unpruned", 3.0, by_speed=16),
        Entry("joint", 3.0, "fill", _SPARSE, error_feedback=True, by_speed=10),
        Entry("joint", 2.0, "covered", _SPARSE, error_feedback=True, by_speed=10),
    ),
)
"""The quickest there of planned rounds with means over all and with covered means, and unpruned training with both
kinds of batches: the others are measured by the one of these two that is quicker on the reported seeds."""
