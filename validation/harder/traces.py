"""Measured drives as step functions of time: path gain, serving cell, and why there is none.

A file has one row about every second, as G-NetTrack Pro writes them (Raca, Leahy, Sreenan, Quinlan, "Beyond
throughput, the next generation: a 5G dataset with channel and context metrics", ACM MMSys 2020). What is done to it:

- Path gain in dB is RSRP less the transmit power of the reference signal, which is how a phone itself estimates its
  path loss for uplink power control (3GPP TS 36.213, section 5.1.1.1). Antenna gains of both ends are in it, and it is
  taken to be the same in the uplink. Every number is that of the serving cell, so a handover shows as a jump.
- Of rows with the same time stamp the last counts; a row holds until the next one, but at most `HOLD_S`.
- Rows of another network than LTE and 5G, and rows whose RSRP is missing or outside what LTE can report, are outages.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kktalloc.channel import db_to_linear

FloatArray = NDArray[np.float64]

NETWORKS = ("LTE", "5G")
"""Values of `NetworkMode` whose RSRP is that of an LTE or NR cell; UMTS and HSPA report another quantity there."""
RSRP_DBM = (-140.0, -44.0)
"""Reporting range of RSRP (3GPP TS 36.133, section 9.1.4)."""
HOLD_S = 2.0
"""Rows are a second apart, with jitter to 2 s; what is older than this is a gap."""
NO_NETWORK, NO_SAMPLE, BAD_RSRP = "no LTE or 5G", "no sample", "RSRP out of range"
_COLUMNS = ("Timestamp", "NetworkMode", "RSRP", "RAWCELLID")


@dataclass(frozen=True)
class Trace:
    """One drive; N steps, each from its time to that of the next. After the last there is nothing."""

    name: str
    time_s: FloatArray
    """(N,) since the first row, strictly increasing."""
    gain: FloatArray
    """(N,) linear path gain, 0 in an outage."""
    outage: NDArray[np.str_]
    """(N,) why there is no channel; empty where there is one."""
    handover: NDArray[np.bool_]
    """(N,) whether this step is in another cell than the one before, both being in service."""

    @property
    def duration_s(self) -> float:
        """Time of the last step, at which the drive ends."""
        return float(self.time_s[-1])

    def step(self, time_s: float) -> int:
        """The step that holds at `time_s`; ValueError outside the drive."""
        if not 0 <= time_s <= self.duration_s:
            raise ValueError(f"drive {self.name} lasts {self.duration_s:g} s, asked for its channel at {time_s:g} s")
        return int(np.searchsorted(self.time_s, time_s, side="right")) - 1

    def in_service(self) -> float:
        """Share of the drive's time with a channel."""
        length = np.diff(self.time_s)
        return float(length[self.gain[:-1] > 0].sum() / length.sum())

    def mean_gain_db(self) -> float:
        """Mean over the time in service of the path gain in dB, as link budgets average it."""
        length = np.diff(self.time_s) * (self.gain[:-1] > 0)
        return float(np.average(10 * np.log10(np.where(length > 0, self.gain[:-1], 1.0)), weights=length))

    def sent_at(
        self, begin_s: float, bits: float, bandwidth_hz: float, snr_hz_per_gain: float, handover_s: float
    ) -> float:
        """When `bits` that are sent from `begin_s` on have arrived, at the rate that each step allows; inf if never.

        Parameters
        ----------
        bandwidth_hz
            The phone's slice B; nothing is sent where it is 0 and there are bits.
        snr_hz_per_gain
            Transmit power, array gain included, over noise density: the rate is ``B log2(1 + this * gain / B)``.
        handover_s
            Silence at the start of a step that begins with a handover.
        """
        if begin_s > self.duration_s:
            return np.inf
        first = self.step(begin_s)
        start, end = np.maximum(self.time_s[first:-1], begin_s), self.time_s[first + 1 :]
        length = end - start
        # A handover before `begin_s` is over, or its remainder is too short to matter.
        length[1:] = np.maximum(0.0, length[1:] - handover_s * self.handover[first + 1 : -1])
        if bandwidth_hz <= 0:
            return np.inf if bits > 0 else begin_s
        rate = bandwidth_hz * np.log2(1 + snr_hz_per_gain * self.gain[first:-1] / bandwidth_hz)
        sent = np.cumsum(rate * length)
        last = int(np.searchsorted(sent, bits))
        if last == len(sent):
            return np.inf
        return float(end[last] - (sent[last] - bits) / rate[last]) if rate[last] > 0 else begin_s


def read_trace(path: Path, reference_signal_dbm: float) -> Trace:
    """One file as a `Trace`; ValueError names file, row and value that cannot be read.

    `reference_signal_dbm` is the power per resource element of the cell's reference signal.
    """
    rows: dict[float, tuple[float, str, str]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} has no column {missing[0]}")
        begin = None
        for number, row in enumerate(reader, start=2):
            try:
                stamp = datetime.strptime(row["Timestamp"], "%Y.%m.%d_%H.%M.%S")
                rsrp = np.nan if row["RSRP"] == "-" else float(row["RSRP"])
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: {error}") from None
            begin = begin or stamp
            time_s = (stamp - begin).total_seconds()
            if rows and time_s < next(reversed(rows)):
                raise ValueError(f"{path}, row {number}: {row['Timestamp']} is earlier than the row before")
            why = (
                NO_NETWORK if row["NetworkMode"] not in NETWORKS
                else "" if RSRP_DBM[0] <= rsrp <= RSRP_DBM[1] else BAD_RSRP
            )  # fmt: skip
            rows[time_s] = (rsrp, why, row["RAWCELLID"])
    if len(rows) < 2:
        raise ValueError(f"{path} has {len(rows)} time stamps; a drive needs 2 or more")
    return _steps(path.stem, rows, reference_signal_dbm)


def _steps(name: str, rows: dict[float, tuple[float, str, str]], reference_signal_dbm: float) -> Trace:
    """Rows by time, and a step without channel wherever the next row comes too late."""
    times = np.array(list(rows))
    time_s, gain, outage, handover = [], [], [], []
    before = None
    for at, following, (rsrp, why, cell) in zip(times, np.append(times[1:], times[-1]), rows.values(), strict=True):
        served = not why
        time_s.append(at)
        gain.append(float(db_to_linear(rsrp - reference_signal_dbm)) if served else 0.0)
        outage.append(why)
        handover.append(served and before is not None and cell != before)
        before = cell if served else None
        if following - at > HOLD_S:
            time_s.append(at + HOLD_S)
            gain.append(0.0)
            outage.append(NO_SAMPLE)
            handover.append(False)
    return Trace(name, np.array(time_s), np.array(gain), np.array(outage), np.array(handover))


def longest_drives(folder: Path, count: int, reference_signal_dbm: float) -> tuple[Trace, ...]:
    """The `count` longest drives in `folder`, longest first, of equal ones by name: one rule, no choice.

    Raises
    ------
    ValueError
        There are fewer, or one cannot be read.
    """
    traces = [read_trace(path, reference_signal_dbm) for path in sorted(folder.glob("*.csv"))]
    if len(traces) < count:
        raise ValueError(f"{folder} has {len(traces)} drives (*.csv), the study needs {count}")
    return tuple(sorted(traces, key=lambda trace: (-trace.duration_s, trace.name))[:count])
