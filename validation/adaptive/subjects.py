"""Natural clients: each device is one of ten subjects, whose smartwatch tells which shoulder exercise is being done.

The package seglearn (BSD licence) carries the recordings: seven exercises of about 20 repetitions each with either
arm, acceleration and rotation along three axes at 50 Hz (Burns, Leung, Hardisty, Whyne, Henry, McLachlin, "Shoulder
physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch", Physiological Measurement
39(7), 2018, arXiv:1802.01489). Of every recording a stretch of time is held out.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import fltrain as ft

PACKAGE, FILE = "seglearn", "data/watch_dataset.npy"
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
"""Of the file as seglearn 1.2.5 has it."""
WINDOW, STEP, GAP = 100, 50, 100
"""Samples of a window, from the start of one to that of the next, and at least from the end of a window that is trained
on to the start of a held-out one, or the other way round: 2, 1 and 2 s."""


@dataclass(frozen=True)
class Windows:
    """All windows of all recordings."""

    data: ft.Dataset
    """Inputs (N, 6, 1, WINDOW) as they were measured; labels are exercises, users are subjects."""
    recording: NDArray[np.int64]
    """(N,), which one each window was cut from."""
    start: NDArray[np.int64]
    """(N,), its first sample within that."""


def read() -> dict[str, Any]:
    """What the package's file holds: ``X``, a list of recordings (samples, 6), and ``y`` and ``subject`` of each.

    Raises
    ------
    ModuleNotFoundError
        The package is not installed.
    ValueError
        Its file is another than that of version 1.2.5.
    """
    found = find_spec(PACKAGE)  # runs none of the package's code
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed, which carries the subjects' recordings", name=PACKAGE)
    path = Path(found.submodule_search_locations[0]) / FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{path} is not the file of {PACKAGE} 1.2.5, whose numbers are reported")
    # A pickle may run anything; these very bytes were looked at, and build arrays only.
    held: dict[str, Any] = np.load(io.BytesIO(content), allow_pickle=True).item()
    return held


@lru_cache(maxsize=1)
def windows() -> Windows:
    """Every recording cut into windows that overlap by half."""
    import fltrain as ft

    held = read()
    starts = [np.arange(0, len(signal) - WINDOW + 1, STEP) for signal in held["X"]]
    recording = np.repeat(np.arange(len(starts)), [len(of) for of in starts])
    cut = [np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STEP] for signal in held["X"]]
    data = ft.Dataset(
        "subjects",
        np.concatenate(cut)[:, :, None, :],
        held["y"][recording],
        len(held["y_labels"]),
        held["subject"][recording],
    )
    return Windows(data, recording, np.concatenate(starts))


def split(cut: Windows, test_fraction: float, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows (N,) are trained on, and which are held out.

    Of every recording `test_fraction` of the windows, those of one stretch placed at random, are held out; what comes
    closer to it than `GAP` is neither.
    """
    rng = np.random.default_rng(seed)
    trained, held_out = np.zeros((2, len(cut.start)), dtype=bool)
    for r in range(cut.recording[-1] + 1):
        own = np.flatnonzero(cut.recording == r)
        count = round(test_fraction * len(own))
        stretch = own[rng.integers(len(own) - count + 1) :][:count]
        begin, end = cut.start[stretch[0]], cut.start[stretch[-1]] + WINDOW
        held_out[stretch] = True
        trained[own] = (cut.start[own] + WINDOW + GAP <= begin) | (cut.start[own] >= end + GAP)
    return trained, held_out


def shares(test_fraction: float, seed: int) -> list[ft.DeviceData]:
    """Every subject's windows, in the order of their numbers, each with held-out ones of every recording of theirs.

    Each axis is scaled by its mean and standard deviation over the windows that are trained on, of all subjects.
    """
    import fltrain as ft

    cut = windows()
    trained, held_out = split(cut, test_fraction, seed)
    data, users = cut.data, np.asarray(cut.data.users)
    axes = data.x[trained].astype(np.float64)
    mean, deviation = (of(axes, axis=(0, 2, 3), keepdims=True) for of in (np.mean, np.std))
    subjects = np.unique(users)
    return ft.deal(
        replace(data, x=(data.x - mean) / deviation),
        [np.flatnonzero(trained & (users == subject)) for subject in subjects],
        test_indices=[np.flatnonzero(held_out & (users == subject)) for subject in subjects],
    )
