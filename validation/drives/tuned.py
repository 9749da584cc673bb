"""What `drives-tuning` tries on seeds below 100, and what is reported on others.

Unpruned training takes rate 3, the best of 2, 3 and 4 in batches of 16 on seed 60. Rates of planned rounds are those of
earlier trials (docs/log.md). Here batches in proportion to speed are set beside equal ones, with what moved broadcast
and unsent changes kept, by the root of what a round keeps. The fourth root with batches of 14 is from trials on the
same seeds, which are told there as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .study import DrivesStudy, Entry

_SPARSE: tuple[Literal["sparse"]] = ("sparse",)
_UNPRUNED = Entry("unpruned", 3.0)
_OVER_ALL = Entry("joint", 3.0, "fill", _SPARSE, error_feedback=True, by_speed=10)
_COVERED = Entry("joint", 2.0, "covered", _SPARSE, error_feedback=True, by_speed=10)

TUNING = DrivesStudy(
    name="drives-tuning",
    seeds=(60, 61),
    pruned_rounds=70,
    progress_power=0.5,
    entries=(
        _UNPRUNED,
        *(replace(_UNPRUNED, by_speed=samples) for samples in (16, 10)),
        *(replace(_OVER_ALL, by_speed=samples) for samples in (None, 16)),
        _OVER_ALL,
        _COVERED,
    ),
)
CONFIG = DrivesStudy(
    seeds=(695, 696, 697, 698, 699),
    entries=(
        _UNPRUNED,
        replace(_UNPRUNED, by_speed=16),
        *(replace(entry, by_speed=14) for entry in (_OVER_ALL, _COVERED, replace(_OVER_ALL, scheme="common"))),
    ),
)
"""Planned rounds are measured by the one kind of unpruned training that is quicker on the mean over the reported seeds.
The common ratio has the planner's settings, which were not tuned for it."""
