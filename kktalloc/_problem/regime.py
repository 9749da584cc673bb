"""What stops a device."""

from __future__ import annotations

from enum import IntEnum


class Regime(IntEnum):
    """What stops a device from keeping more of the model."""

    FLOOR = 0  # it prunes the most it may; its bandwidth is better used elsewhere
    ENERGY = 1  # its power is limited by the energy budget
    KINK = 2  # energy and peak power bind at once
    PEAK = 3  # it sends at peak power
    SATURATED = 4  # it prunes nothing
    TOTAL_POWER = 5  # the cell's total power is better used elsewhere
    BANDWIDTH_MAX = 6  # it can use no more bandwidth itself
    CLOCK = 7  # energy limits it, shared between clock and upload: one joule does as much in either
    CLOCK_MIN = 8  # energy limits it, its clock is at its lower end and the whole window is used
    EARLY_FINISH = 9  # energy limits it, and to send for longer would cost its electronics more than it brings
