"""Channels over time: measured drives and simulated path gains as step functions.

    trace = read_trace("drive.csv", reference_signal_dbm=15.2)      # G-NetTrack Pro
    trace = read_csv("drive.csv", gain_db="path_gain_db")           # any table with a time and a gain
    trace = steps("walk", time_s, path_gain(a), cell=cell)          # arrays, of Sionna for example
    trace.gain_at(12.5), trace.outage[trace.step(12.5)]

A sample holds until the next one (sample and hold), but at most `hold_s`: what is older is a gap, and there is no
channel. A step in another cell than the one before, both in service, is a handover.

Of G-NetTrack Pro (Raca, Leahy, Sreenan, Quinlan, "Beyond throughput, the next generation: a 5G dataset with channel and
context metrics", ACM MMSys 2020, and the 4G dataset of MMSys 2018), whose files have one row about every second:

- Path gain in dB is RSRP less the transmit power of the reference signal, which is how a phone itself estimates its
  path loss for uplink power control (3GPP TS 36.213, section 5.1.1.1). Antenna gains of both ends are in it, and it is
  taken to be the same in the uplink. Every number is that of the serving cell, so a handover shows as a jump.
- Of rows with the same time stamp the last counts.
- Rows of another network than LTE and 5G, and rows whose RSRP is missing or outside what LTE can report, are outages.
- The cell is RAWCELLID, or CellID in files without that column.
- A last row with too few cells was cut short, and is left out.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._problem.arguments import one_number
from kktalloc._problem.arrays import as_float64
from kktalloc._problem.shown import Rows, Shown, counted
from kktalloc.channel import db_to_linear

__all__ = [
    "HOLD_S",
    "NETWORKS",
    "RSRP_DBM",
    "Trace",
    "path_gain",
    "read_csv",
    "read_trace",
    "steps",
    "strongest_cell",
]

FloatArray = NDArray[np.float64]

NETWORKS = ("LTE", "5G")
"""Values of `NetworkMode` whose RSRP is that of an LTE or NR cell; UMTS and HSPA report another quantity there."""
RSRP_DBM = (-140.0, -44.0)
"""Reporting range of RSRP (3GPP TS 36.133, section 9.1.4)."""
HOLD_S = 2.0
"""Rows are a second apart, with jitter to 2 s; what is older than this is a gap."""
NO_NETWORK, NO_SAMPLE, BAD_RSRP, NO_GAIN = "no LTE or 5G", "no sample", "RSRP out of range", "no gain"
_MISSING = ("", "-", "nan", "null", "none", "n/a")


@dataclass(frozen=True, repr=False)
class Trace(Shown):
    """One drive: N steps, each from its time to that of the next. After the last there is nothing."""

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

    def _shown(self) -> tuple[str, Rows]:
        return (
            f"{self.name}, {self.duration_s:g} s in {counted(len(self.time_s), 'step')}, in service"
            f" {100 * self.in_service():.1f} % of the time, mean gain {self.mean_gain_db():.1f} dB,"
            f" {counted(int(self.handover.sum()), 'handover')}",
            (),
        )

    def step(self, time_s: float) -> int:
        """The step that holds at `time_s`; ValueError outside the drive."""
        if not 0 <= time_s <= self.duration_s:
            raise ValueError(
                f"drive {self.name} lasts {self.duration_s:g} s, asked for its channel at {time_s:g} s;"
                " Trace.repeated drives it again and again"
            )
        return int(np.searchsorted(self.time_s, time_s, side="right")) - 1

    def repeated(self, until_s: float) -> Trace:
        """The same drive again and again from its start, for at least `until_s` seconds.

        The phone is put back from the drive's end to its start at once, without a handover.
        ValueError if `until_s` is not finite.
        """
        until_s = one_number("until_s", until_s)
        times = max(1, int(np.ceil(until_s / self.duration_s)))
        start_s = self.duration_s * np.arange(times)
        return Trace(
            self.name,
            np.append((start_s[:, None] + self.time_s[:-1]).ravel(), start_s[-1] + self.duration_s),
            *(np.append(np.tile(a[:-1], times), a[-1]) for a in (self.gain, self.outage, self.handover)),
        )

    def in_service(self) -> float:
        """Share of the drive's time with a channel."""
        length = np.diff(self.time_s)
        return float(length[self.gain[:-1] > 0].sum() / length.sum())

    def gain_at(self, time_s: float) -> float:
        """Linear path gain at `time_s`, 0 in an outage; ValueError outside the drive."""
        return float(self.gain[self.step(time_s)])

    def mean_gain_db(self) -> float:
        """Mean over the time in service of the path gain in dB, as link budgets average it; -inf without service."""
        length = np.diff(self.time_s) * (self.gain[:-1] > 0)
        if not length.any():
            return -np.inf
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


def read_trace(path: str | Path, reference_signal_dbm: float) -> Trace:
    """Read a drive that G-NetTrack Pro has recorded.

    Parameters
    ----------
    path
        CSV with the columns Timestamp, NetworkMode, RSRP and RAWCELLID or CellID; others are not looked at.
    reference_signal_dbm
        Power per resource element of the cell's reference signal, dBm.

    Raises
    ------
    ValueError
        Names the file, and the row and value that cannot be read.
    """
    path = Path(path)
    reference_signal_dbm = one_number("reference_signal_dbm", reference_signal_dbm)
    time_s: list[float] = []
    gain_db, why, cells = [], [], []
    begin: datetime | None = None
    loud = ""  # the first row with more power than was sent
    for row in _rows(path, ("Timestamp", "NetworkMode", "RSRP"), ("RAWCELLID", "CellID")):
        stamp = row.stamp("Timestamp", "%Y.%m.%d_%H.%M.%S")
        begin = begin or stamp
        if time_s and (stamp - begin).total_seconds() < time_s[-1]:
            raise ValueError(f"{row.where}: {row.cells['Timestamp']} is earlier than the row before")
        time_s.append((stamp - begin).total_seconds())
        rsrp = row.number("RSRP")
        gain_db.append(rsrp - reference_signal_dbm)
        cells.append(row.cells.get("RAWCELLID", row.cells.get("CellID", "")))
        served = row.cells["NetworkMode"] in NETWORKS
        why.append(NO_NETWORK if not served else "" if RSRP_DBM[0] <= rsrp <= RSRP_DBM[1] else BAD_RSRP)
        if not (loud or why[-1]) and gain_db[-1] > 0:
            loud = f"{row.where}: RSRP = {row.cells['RSRP']} dBm, of {reference_signal_dbm:g} dBm sent"
    gain = np.where(np.array(why) == "", db_to_linear(gain_db), 0.0)
    _warn_of_gain(loud)
    return _steps(path.stem, time_s, gain, cells, why, HOLD_S, str(path))


def read_csv(
    path: str | Path, *, time: str = "time_s", gain_db: str = "gain_db", cell: str | None = None, hold_s: float = HOLD_S
) -> Trace:
    """Read a drive from any CSV with a time and a path gain.

    Parameters
    ----------
    path
        CSV with a header; a missing gain (empty, ``-``, ``nan``) is an outage.
    time
        Column of the time: seconds, or ISO 8601 time stamps.
    gain_db
        Column of the path gain, dB: minus the path loss, below 0; what is above 0 is warned of.
    cell
        Column of the serving cell; without one there are no handovers.
    hold_s
        How long a sample holds, s; ``inf`` for ever. Samples that are usually further apart are warned of.

    Raises
    ------
    ValueError
        Names the file, and the row and value that cannot be read. All times are numbers, or all are time stamps, and
        these have a time zone all or none.
    """
    path = Path(path)
    hold_s = one_number(f"{path}: hold_s", hold_s, 0.0, True, np.inf)
    times: list[float] = []
    gains, cells = [], []
    begin: datetime | float | None = None
    loud = ""  # the first row with more power than was sent
    for row in _rows(path, (time, gain_db) if cell is None else (time, gain_db, cell), ()):
        at = row.time(time)
        begin = at if begin is None else begin
        times.append(_seconds_since(begin, at, f"{row.where}: {time} = {row.cells[time]}"))
        if len(times) > 1 and times[-1] < times[-2]:
            raise ValueError(f"{row.where}: {time} = {row.cells[time]} is earlier than the row before")
        gains.append(row.gain(gain_db))
        cells.append("" if cell is None else row.cells[cell])
        if not loud and gains[-1] > 1:
            loud = f"{row.where}: {gain_db} = {row.cells[gain_db]} dB"
    _warn_of_gain(loud)
    apart = float(np.median(np.diff(np.unique(times)))) if times and times[-1] > times[0] else 0.0
    if apart > hold_s:
        warnings.warn(
            f"{path}: samples are usually {apart:g} s apart and hold for hold_s = {hold_s:g} s: after each there is a "
            "gap. A longer hold_s, or times in seconds?",
            stacklevel=2,
        )
    return _steps(path.stem, times, gains, cells, None, hold_s, str(path))


def _seconds_since(begin: datetime | float, at: datetime | float, where: str) -> float:
    """Time from `begin` to `at`, which must be of one kind."""
    if isinstance(begin, datetime) and isinstance(at, datetime):
        if (begin.utcoffset() is None) != (at.utcoffset() is None):
            raise ValueError(f"{where}: a time zone in this row or in the first, and none in the other")
        return (at - begin).total_seconds()
    if isinstance(begin, datetime) or isinstance(at, datetime):
        raise ValueError(f"{where}: seconds in this row or in the first, and a time stamp in the other")
    return at - begin


def steps(
    name: str,
    time_s: ArrayLike,
    gain: ArrayLike,
    *,
    cell: Sequence[object] | NDArray[np.generic] | None = None,
    outage: Sequence[str] | None = None,
    hold_s: float = np.inf,
) -> Trace:
    """A `Trace` of samples in arrays.

    Parameters
    ----------
    name
        Of the drive.
    time_s
        (N,) of each sample, s, not decreasing, finite; of equal times the last sample counts.
    gain
        (N,) linear path gain, 0 (or NaN) where there is no channel.
    cell
        (N,) serving cell, anything that compares; None: one cell all the time.
    outage
        (N,) why there is no channel, empty where there is one; None: `NO_GAIN` where the gain is 0.
    hold_s
        How long a sample holds, s: after that there is a gap until the next.

    Raises
    ------
    ValueError
        Names the drive, the sample and the value that are wrong. A gain above 1 is only warned of.
    """
    times, gains = as_float64(f"{name}: time_s", time_s), as_float64(f"{name}: gain", gain)
    above = np.flatnonzero(np.ravel(gains) > 1)
    _warn_of_gain(f"{name}: gain[{above[0]}] = {np.ravel(gains)[above[0]]:g}" if above.size else "")
    hold_s = one_number(f"{name}: hold_s", hold_s, 0.0, True, np.inf)
    return _steps(name, times, gains, cell, outage, hold_s, name)


def _warn_of_gain(where: str) -> None:
    """Warn of a sample with more power than was sent; `where` is empty if there is none."""
    if where:
        warnings.warn(
            f"{where}: a linear gain of more than 1, so that more power would arrive than was sent; a path loss in dB "
            "is a path gain with a minus before it",
            stacklevel=3,
        )


def _steps(
    name: str,
    time_s: ArrayLike,
    gain: ArrayLike,
    cell: Sequence[object] | NDArray[np.generic] | None,
    outage: Sequence[str] | None,
    hold_s: float,
    said: str,
) -> Trace:
    """As `steps`; messages begin with `said`."""
    times, gains = (
        np.asarray(time_s, dtype=np.float64),
        np.nan_to_num(np.asarray(gain, dtype=np.float64), nan=0.0, posinf=np.inf),
    )
    if times.ndim != 1 or times.shape != gains.shape:
        raise ValueError(
            f"{said}: time_s {times.shape} and gain {gains.shape} must be one-dimensional and equally long"
        )
    if (odd := np.flatnonzero(~np.isfinite(times))).size:
        raise ValueError(f"{said}: time_s[{odd[0]}] = {times[odd[0]]:g}: must be finite")
    if (odd := np.flatnonzero(np.diff(times) < 0)).size:
        raise ValueError(f"{said}: time_s[{odd[0] + 1}] = {times[odd[0] + 1]:g} is earlier than the sample before")
    if (odd := np.flatnonzero(~((gains >= 0) & np.isfinite(gains)))).size:
        raise ValueError(f"{said}: gain[{odd[0]}] = {gains[odd[0]]:g}: must be >= 0 and finite")
    if len(times) == 0 or times[0] == times[-1]:
        raise ValueError(f"{said} has {len(np.unique(times))} time stamps; a drive needs 2 or more")
    cells = [None] * len(times) if cell is None else list(cell)
    why = ["" if g > 0 else NO_GAIN for g in gains] if outage is None else list(outage)
    if not len(cells) == len(why) == len(times):
        raise ValueError(f"{said}: {len(cells)} cells and {len(why)} outages for {len(times)} samples")
    last = np.append(np.diff(times) > 0, True)  # of equal times
    made: list[tuple[float, float, str, bool]] = []
    before: object = None
    inside = False  # whether the step before is in service
    for i, following in zip(np.flatnonzero(last), np.append(times[last][1:], times[-1]), strict=True):
        at, served = float(times[i]), not why[i]
        made.append((at, float(gains[i]) if served else 0.0, why[i], served and inside and cells[i] != before))
        inside, before = served, cells[i]
        if following - at > hold_s:
            made.append((at + hold_s, 0.0, NO_SAMPLE, False))
            inside = False
    columns = list(zip(*made, strict=True))
    return Trace(name, np.array(columns[0]), np.array(columns[1]), np.array(columns[2]), np.array(columns[3]))


def path_gain(coefficients: ArrayLike, *, paths_axis: int = -2, antenna_axes: tuple[int, ...] = (1, 3)) -> FloatArray:
    """Linear path gain of the complex coefficients of a ray tracer's paths.

    The power of all paths, added up as over a wide band, where their phases cancel out; the mean over antenna pairs,
    as `Devices.channel_gain` expects it before the array gain.

    Parameters
    ----------
    coefficients
        Complex amplitudes. The axes' defaults are those of Sionna RT's ``paths.cir()``: (receivers, receiving antennas,
        transmitters, transmitting antennas, paths, times).
    paths_axis
        The axis of the paths.
    antenna_axes
        The axes of the antennas, ``()`` for none.

    Returns
    -------
    array
        Without the axes of paths and antennas; for Sionna (receivers, transmitters, times).
    """
    amplitudes = np.asarray(coefficients)
    if amplitudes.dtype.kind not in "iufc":
        raise ValueError(f"coefficients: expected complex numbers, got {coefficients!r:.60}")
    power = np.abs(amplitudes) ** 2
    axes = {axis % power.ndim for axis in antenna_axes}
    antennas = int(np.prod([power.shape[axis] for axis in axes])) if axes else 1
    return np.asarray(power.sum(axis=tuple(sorted(axes | {paths_axis % power.ndim}))) / antennas, dtype=np.float64)


def strongest_cell(gain: ArrayLike, hysteresis_db: float = 3.0) -> tuple[FloatArray, NDArray[np.int64]]:
    """Gain of the serving cell over time, and which it is.

    A phone begins in the strongest cell and leaves it for one that is better by the hysteresis (event A3 of 3GPP TS
    38.331, section 5.5.4.4, without a time to trigger).

    Parameters
    ----------
    gain
        (cells, N) linear path gain of every cell.
    hysteresis_db
        By how much another must be better, dB.

    Returns
    -------
    gain, cell
        Each (N,), for `steps`.
    """
    gains = as_float64("gain", gain)
    if gains.ndim != 2 or not gains.size or not (gains >= 0).all():
        raise ValueError(f"gain: expected (cells, samples) of numbers >= 0, got shape {gains.shape}")
    margin = float(db_to_linear(one_number("hysteresis_db", hysteresis_db)))
    cell = np.empty(gains.shape[1], dtype=np.int64)
    serving = int(gains[:, 0].argmax())
    for i, now in enumerate(gains.T):
        if now.max() > margin * now[serving]:
            serving = int(now.argmax())
        cell[i] = serving
    return gains[cell, np.arange(len(cell))], cell


@dataclass(frozen=True)
class _Row:
    """One row of a file, and where it is."""

    where: str
    cells: dict[str, str]

    def number(self, name: str) -> float:
        """A number; NaN where there is none."""
        text = self.cells[name]
        try:
            return np.nan if text.lower() in _MISSING else float(text)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error} ({name})") from None

    def gain(self, name: str) -> float:
        """A linear gain from dB, 0 where there is none."""
        gain_db = self.number(name)
        if np.isnan(gain_db):
            return 0.0
        with np.errstate(over="ignore"):
            gain = float(db_to_linear(gain_db))
        if not np.isfinite(gain):
            raise ValueError(f"{self.where}: {name} = {self.cells[name]} dB: must be finite as a linear gain")
        return gain

    def time(self, name: str) -> datetime | float:
        """Seconds, or an ISO 8601 time stamp."""
        text = self.cells[name]
        if "-" in text[1:] and ":" in text:
            return self.stamp(name, None)
        if not np.isfinite(at := self.number(name)):
            raise ValueError(f"{self.where}: {name} = {text}: must be a finite number of seconds, or a time stamp")
        return at

    def stamp(self, name: str, pattern: str | None) -> datetime:
        """A time stamp by its pattern; ISO 8601 without one."""
        text = self.cells[name]
        try:
            return datetime.fromisoformat(text) if pattern is None else datetime.strptime(text, pattern)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None


def _rows(path: Path, needed: tuple[str, ...], one_of: tuple[str, ...]) -> Iterator[_Row]:
    """The rows of a CSV that hold all that is needed; a last row that was cut short is left out."""
    # Names of operators may be in any encoding; what is needed is ASCII.
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.reader(stream)
        try:
            head = [name.strip() for name in next(reader, [])]
            if missing := [name for name in needed if name not in head]:
                raise ValueError(f"{path} has no column {missing[0]}; it has {', '.join(head):.200}")
            if one_of and not set(one_of) & set(head):
                raise ValueError(f"{path} has no column {' or '.join(one_of)}; it has {', '.join(head):.200}")
            short: str | None = None
            for cells in reader:
                where = f"{path}, row {reader.line_num}"
                if not cells:
                    continue
                if short:
                    raise ValueError(short)
                if len(cells) < len(head):  # an error unless it is the last
                    short = f"{where}: {len(cells)} cells where the header has {len(head)}"
                    continue
                yield _Row(where, {name: cell.strip() for name, cell in zip(head, cells, strict=False)})
        except csv.Error as error:
            raise ValueError(f"{path}, row {reader.line_num}: {error}") from None
