"""Channels as rounds see them: arrays, a fading model, or drives at the time on the clock.

A link answers two questions. When a round begins: what is each phone's gain? And when an upload is on the air: when
has it arrived? An array and a model hold through the round, so that what was planned happens. A drive goes on: the
channel changes, cells hand over, service ends, and an upload may come late or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._problem.arguments import FINITE, expect, expect_whole, in_range, one_number
from kktalloc._problem.arrays import as_float64
from kktalloc.channel import rayleigh_mrc
from kktalloc.traces import Trace

__all__ = ["Downlink", "Drives", "Fading", "Gains", "Link", "Received", "Sent", "receive"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sent:
    """Uploads on the air; arrays (S,) over the phones that send.

    Parameters
    ----------
    phone : int (S,)
        Number of each phone.
    begin_s
        When it begins to send, on the clock of the run.
    planned_s
        How long that takes if the channel holds.
    bits
        What it sends.
    bandwidth_hz
        Its slice.
    snr_hz_per_gain
        Radiated power over noise density, W per W/Hz: times the gain, over the bandwidth, it is the SNR.
    """

    phone: NDArray[np.int64]
    begin_s: FloatArray
    planned_s: FloatArray
    bits: FloatArray
    bandwidth_hz: FloatArray
    snr_hz_per_gain: FloatArray


class Link(Protocol):
    """The channels of K phones."""

    def gain(self, round_index: int, time_s: float) -> FloatArray:
        """Linear gains (K,) when round `round_index` begins at `time_s`, receive antennas included; 0: no service."""
        ...

    def arrival_s(self, sent: Sent) -> FloatArray:
        """When each upload (S,) has arrived, on the clock of the run; inf: never."""
        ...


@dataclass(frozen=True)
class Received:
    """What became of uploads; arrays (S,) over the phones that sent.

    Parameters
    ----------
    until_s
        When each had arrived or, if it was late, when the server stopped waiting; since the round began.
    late
        Whether the server went on without it.
    on_air_s
        How long the phone sent, which it pays for, late or not.
    """

    until_s: FloatArray
    late: NDArray[np.bool_]
    on_air_s: FloatArray


def receive(link: Link, sent: Sent, now_s: float, limit_s: float) -> Received:
    """Wait for uploads in a round that began at `now_s`, at most `limit_s`.

    Parameters
    ----------
    link
        Over which they come.
    sent
        The uploads.
    now_s
        When the round began, on the clock of the run.
    limit_s
        How long the server waits, since the round began.
    """
    expect("sent", sent, Sent)
    if not hasattr(link, "arrival_s"):
        raise TypeError(f"link: expected a Link, got {type(link).__name__}")
    now_s, limit_s = one_number("now_s", now_s), one_number("limit_s", limit_s, high=np.inf)
    done_s = link.arrival_s(sent) - now_s
    until_s = np.minimum(done_s, limit_s)
    return Received(until_s, done_s > limit_s, np.maximum(0.0, until_s - (sent.begin_s - now_s)))


@dataclass(frozen=True)
class Gains:
    """Given gains, which hold through a round.

    Parameters
    ----------
    channel_gain
        Linear, ``(K,)`` the same in every round, or ``(R, K)`` one row a round. NaN and 0 stand for no service.
    """

    channel_gain: ArrayLike

    def __post_init__(self) -> None:
        """Look at the gains."""
        _look_at_gains("channel_gain", self.channel_gain, (1, 2))

    def gain(self, round_index: int, time_s: float) -> FloatArray:
        """The row of this round; ValueError if there is none."""
        rows = np.atleast_2d(np.asarray(self.channel_gain, dtype=np.float64))
        if len(rows) > 1 and round_index >= len(rows):
            raise ValueError(f"channel_gain has {len(rows)} rows, asked for round {round_index}")
        return np.nan_to_num(rows[round_index if len(rows) > 1 else 0], nan=0.0, posinf=np.inf)

    def arrival_s(self, sent: Sent) -> FloatArray:
        """As planned."""
        return sent.begin_s + sent.planned_s


@dataclass(frozen=True)
class Fading:
    """Rayleigh fading, drawn anew each round and received by maximum-ratio combining.

    A pure function of the round's number, so that a resumed run sees the same channels.

    Parameters
    ----------
    path_gain
        ``(K,)`` linear: path loss and shadowing.
    antennas
        Of the receiver.
    seed
        Of the fading.
    """

    path_gain: ArrayLike
    antennas: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Look at every field."""
        _look_at_gains("path_gain", self.path_gain, (1,))
        expect_whole("antennas", self.antennas, 1)
        expect_whole("seed", self.seed, 0)

    def gain(self, round_index: int, time_s: float) -> FloatArray:
        """Path gain times the fading of this round."""
        path = np.asarray(self.path_gain, dtype=np.float64)
        rng = np.random.default_rng((self.seed, round_index))
        return path * rayleigh_mrc(rng, path.shape, self.antennas)

    def arrival_s(self, sent: Sent) -> FloatArray:
        """As planned."""
        return sent.begin_s + sent.planned_s


@dataclass(frozen=True)
class Drives:
    """Each phone on a drive of its own (`kktalloc.traces`).

    Parameters
    ----------
    traces : sequence of K traces
        A trace may stand for several phones.
    offset_s
        Where on its drive each phone is when the run begins, a number or ``(K,)``.
    antennas
        Of the receiver; each adds the drive's path gain once.
    handover_s
        Silence after a handover.
    """

    traces: Sequence[Trace]
    offset_s: ArrayLike = 0.0
    antennas: int = 1
    handover_s: float = 0.0

    def __post_init__(self) -> None:
        """Look at every field."""
        if not isinstance(self.traces, Sequence):
            raise TypeError(f"traces: expected one for each phone, in a list, got {type(self.traces).__name__}")
        for k, trace in enumerate(self.traces):
            expect(f"traces[{k}]", trace, Trace)
        offset = as_float64("offset_s", self.offset_s)
        if offset.shape not in ((), (len(self.traces),)):
            raise ValueError(f"offset_s: shape {offset.shape} for {len(self.traces)} traces; a number holds for all")
        in_range("offset_s", offset, 0.0, False, FINITE)
        expect_whole("antennas", self.antennas, 1)
        one_number("handover_s", self.handover_s, 0.0)

    def gain(self, round_index: int, time_s: float) -> FloatArray:
        """What the drives say at this time; ValueError once one of them is over."""
        return self.antennas * np.array(
            [trace.gain_at(at) for trace, at in zip(self.traces, self._offsets() + time_s, strict=True)]
        )

    def outage(self, time_s: float) -> NDArray[np.str_]:
        """Why each phone has no channel, (K,); empty where it has one."""
        return np.array(
            [str(t.outage[t.step(at)]) for t, at in zip(self.traces, self._offsets() + time_s, strict=True)]
        )

    def handovers(self, begin_s: float, end_s: float) -> NDArray[np.int64]:
        """How often each phone came into another cell after `begin_s`, up to `end_s`, (K,)."""
        counts = [
            t.handover[t.step(at + begin_s) + 1 : t.step(at + end_s) + 1].sum()
            for t, at in zip(self.traces, self._offsets(), strict=True)
        ]
        return np.array(counts, dtype=np.int64)

    def arrival_s(self, sent: Sent) -> FloatArray:
        """At the rates that the drives allow step by step, silent in outages and handovers."""
        offset = self._offsets()[sent.phone]
        columns = zip(
            sent.phone, offset + sent.begin_s, sent.bits, sent.bandwidth_hz, self.antennas * sent.snr_hz_per_gain,
            strict=True,
        )  # fmt: skip
        arrived = [
            self.traces[k].sent_at(float(begin), float(bits), float(b), float(snr), self.handover_s)
            for k, begin, bits, b, snr in columns
        ]
        return np.array(arrived, dtype=np.float64) - offset

    def _offsets(self) -> FloatArray:
        return np.broadcast_to(np.asarray(self.offset_s, dtype=np.float64), (len(self.traces),))


@dataclass(frozen=True)
class Downlink:
    """The broadcast of the model: one transmission for all, at the rate of the worst listener.

    By reciprocity its channel is the uplink's; an orthogonal space-time code gives it the mean of the antennas' gains,
    not their sum.

    Parameters
    ----------
    tx_power_w
        Of the server.
    bandwidth_hz
        Of the broadcast.
    noise_psd_w_per_hz
        At the phones.
    antennas
        Of the server.
    """

    tx_power_w: float
    bandwidth_hz: float
    noise_psd_w_per_hz: float
    antennas: int = 1

    def __post_init__(self) -> None:
        """Look at every field."""
        for name in ("tx_power_w", "bandwidth_hz", "noise_psd_w_per_hz"):
            one_number(name, getattr(self, name), 0.0, True)
        expect_whole("antennas", self.antennas, 1)

    def bit_per_s(self, gain: ArrayLike) -> FloatArray:
        """Shannon rate to the worst of the phones with these uplink gains ``(..., K)``, shape ``(...)``."""
        noise_w = self.noise_psd_w_per_hz * self.bandwidth_hz
        snr = self.tx_power_w * as_float64("gain", gain) / self.antennas / noise_w
        return np.asarray(self.bandwidth_hz * np.log2(1.0 + snr).min(axis=-1))


def _look_at_gains(name: str, gain: ArrayLike, dimensions: tuple[int, ...]) -> None:
    """A ValueError that names the first gain that is none; NaN stands for no service."""
    gains = as_float64(name, gain)
    if gains.ndim not in dimensions:
        shapes = " or ".join(("(K,)", "(R, K)")[d - 1] for d in dimensions)
        raise ValueError(f"{name}: shape {gains.shape}, must be {shapes}")
    in_range(name, np.where(np.isnan(gains), 0.0, gains), 0.0, False, FINITE)
