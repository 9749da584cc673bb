"""A run's state on disk, written whole or not at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fltrain.broadcast import NEVER, Received
from fltrain.curve import ERROR_RATIOS, ChangeReport
from fltrain.history import COLUMNS
from fltrain.identity import Identity, first_difference, tensors_of
from fltrain.identity import identity as identity
from fltrain.split import PersonalState
from kktalloc._durable import write_durably

_FORMAT = b"fltrain 2 sha256 "
_SEAL_BYTES = len(_FORMAT) + 64


class DamagedError(ValueError):
    """A file that does not end with the checksum of what stands before."""


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved; a run that finds the file goes on from it.

    Parameters
    ----------
    path : str or Path
        The file. Each save replaces it in one step, so a killed run leaves the last whole one.
    every : int
        Rounds between saves; also saved after the last round.
    """

    path: str | Path
    every: int = 10

    def __post_init__(self) -> None:  # noqa: D105
        if self.every < 1:
            raise ValueError(f"every must be >= 1, got {self.every}")
        if not Path(self.path).resolve().parent.is_dir() or Path(self.path).is_dir():
            raise ValueError(f"path must be a file in an existing folder, got {self.path}")


@dataclass
class RunState:
    """Everything a run carries from one round to the next.

    Remote devices keep their personal parts; here, `personal` then holds what the engine needs to name them, and
    `reports` what each of them reported before the first round. `changes` is what each device last
    reported of its change, `received` what each holds of the global part; None where it is broadcast whole.
    """

    u: torch.Tensor
    personal: list[PersonalState]
    records: list[dict[str, Any]]
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    changes: dict[int, ChangeReport] = field(default_factory=dict)
    received: Received | None = None


def save(path: str | Path, state: RunState, identity: Identity) -> None:
    """Write `state` and what run it belongs to."""
    content = {
        "identity": identity,
        "u": state.u,
        "personal": [p.tensors() for p in state.personal],
        "records": state.records,
        "reports": state.reports,
        "changes": {k: [c.change_sq, *c.error.tolist()] for k, c in state.changes.items()},
        "received": None if (got := state.received) is None else [got.moved, got.held.tolist(), got.overlap],
    }
    write_whole(path, content)


def load(path: str | Path, identity: Identity) -> RunState | None:
    """What `save` wrote, or None if there is no file.

    Raises
    ------
    ValueError
        The file belongs to another run (names what differs) or a longer one, or is damaged, or no checkpoint.
    OSError
        It cannot be read.
    """
    if not Path(path).exists():
        return None
    none = f"{path} is no checkpoint of this version of fltrain"
    try:
        content = read_whole(path)
    except (OSError, DamagedError):
        raise
    except Exception:
        raise ValueError(none) from None
    try:
        known, records = content["identity"], content["records"]
        done = len(records)
    except Exception:
        raise ValueError(none) from None
    if done > identity["rounds"]:
        raise ValueError(f"checkpoint {path} holds {done} rounds, rounds is {identity['rounds']}")
    if odd := first_difference(known, identity):
        raise ValueError(f"checkpoint {path} is of another run: {odd}")
    try:
        return _restored(content, identity["personal tensors"], identity["global values"], identity["devices"])
    except Exception:
        raise ValueError(none) from None


def write_whole(path: str | Path, content: object) -> None:
    """Write tensors and plain values so that whoever reads `path`, whenever, finds all of it or what was there."""
    buffer = BytesIO()
    torch.save(content, buffer)
    archive = buffer.getvalue()
    # torch's files are zip archives, and these end with the length of a comment: the checksum is that comment.
    archive = archive[:-2] + _SEAL_BYTES.to_bytes(2, "little")
    write_durably(path, archive + _seal(archive))


def read_whole(path: str | Path) -> Any:
    """What `write_whole` wrote, if not a bit of it has changed.

    Raises
    ------
    DamagedError
        It has, or the file is another. Nothing of it was read as objects then.
    """
    data = Path(path).read_bytes()
    archive, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if seal != _seal(archive):
        if not data:
            raise DamagedError(f"{path} is damaged: it is empty")
        if seal.startswith(_FORMAT):
            raise DamagedError(f"{path} is damaged: its checksum is not that of its content")
        raise DamagedError(
            f"{path} is damaged, cut short or not written by this version of fltrain: no checksum at its end"
        )
    return torch.load(BytesIO(data), weights_only=True)


def _seal(archive: bytes) -> bytes:
    return _FORMAT + hashlib.sha256(archive).hexdigest().encode()


def personal_part(tensors: Sequence[torch.Tensor], wanted: list[str], n_global: int) -> PersonalState:
    """A personal part from a file, or ValueError if it is none of this model (see `identity.tensors_of`)."""
    state = PersonalState.of(tensors)
    unsent = state.unsent
    if tensors_of(state) != wanted or unsent.dtype != torch.float32 or unsent.shape not in ((0,), (n_global,)):
        raise ValueError(f"a personal part of {tensors_of(state)}, expected {wanted}")
    return state


def _restored(content: dict[str, Any], wanted: list[str], n_global: int, devices: int) -> RunState:
    """The state in a checkpoint of the right run; any exception means that it holds something else."""
    u = content["u"]
    if (u.dtype, u.shape) != (torch.float32, (n_global,)) or not bool(torch.isfinite(u).all()):
        raise ValueError("u")
    personal = [personal_part(tensors, wanted, n_global) for tensors in content["personal"]]
    records = content["records"]
    whole = all(record.keys() == COLUMNS.keys() and record["round"] == t for t, record in enumerate(records))
    if len(personal) != devices or not whole or not all(math.isfinite(record["wall_clock_s"]) for record in records):
        raise ValueError("records")
    changes = {}
    for k, (change_sq, *error) in content["changes"].items():
        curve = np.array(error, dtype=np.float64)
        if k not in range(devices) or curve.shape != ERROR_RATIOS.shape or not np.isfinite([change_sq, *error]).all():
            raise ValueError("changes")
        changes[k] = ChangeReport(change_sq, curve)
    reports = {k: {name: value + 0 for name, value in report.items()} for k, report in content["reports"].items()}
    received = None if content["received"] is None else _received(content["received"], n_global, devices, len(records))
    return RunState(u, personal, records, reports, changes, received)


def _received(saved: tuple[torch.Tensor, list[int], float], n_global: int, devices: int, rounds: int) -> Received:
    moved, held, overlap = saved
    found = Received(moved, np.array(held, dtype=np.int64), float(overlap))
    if (moved.dtype, moved.shape) != (torch.int32, (n_global,)) or found.held.shape != (devices,):
        raise ValueError("received")
    if not all(((part >= NEVER) & (part < rounds)).all() for part in (moved.numpy(), found.held)):
        raise ValueError("received")
    if not 0.0 < found.overlap < math.inf:
        raise ValueError("received")
    return found
