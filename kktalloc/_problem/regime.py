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

    @property
    def explanation(self) -> str:
        """One sentence on what the device would need to keep more."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Regime.FLOOR: "It prunes the most it may: its bandwidth is better used elsewhere.",
    Regime.ENERGY: "Its energy budget limits its power; it uses the whole window, its clock is at its upper end.",
    Regime.KINK: "Energy budget and peak power bind at once: it sends at peak power for as long as the energy lasts.",
    Regime.PEAK: "It sends at peak power for the whole time that computing at the fastest clock leaves.",
    Regime.SATURATED: "It prunes nothing: more of anything is of no use to it.",
    Regime.TOTAL_POWER: "The cell's total power is better used elsewhere.",
    Regime.BANDWIDTH_MAX: "It can use no more bandwidth itself.",
    Regime.CLOCK: "Its energy budget is shared between clock and radio so that a joule does as much in either.",
    Regime.CLOCK_MIN: "Its energy budget limits its power, and its clock can go no slower; it uses the whole window.",
    Regime.EARLY_FINISH: "Its energy budget limits it, and to send for longer would cost its electronics more than the "
    "radio saves: it is done before the deadline, at its slowest clock.",
}
