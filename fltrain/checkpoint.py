"""A run's state on disk, written whole or not at all."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fltrain.config import TrainConfig
from fltrain.curve import ChangeReport
from fltrain.partition import DeviceData
from fltrain.split import PersonalState, Split
from kktalloc._durable import write_durably


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
    reported of its change.
    """

    u: torch.Tensor
    personal: list[PersonalState]
    records: list[dict[str, Any]]
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    changes: dict[int, ChangeReport] = field(default_factory=dict)


def write_whole(path: str | Path, content: object) -> None:
    """Write tensors and plain values so that whoever reads `path`, whenever, finds all of it or what was there."""
    buffer = BytesIO()
    torch.save(content, buffer)
    write_durably(path, buffer.getvalue())


def save(path: str | Path, state: RunState, identity: dict[str, Any]) -> None:
    """Write `state` and what run it belongs to."""
    content = {
        "identity": identity,
        "u": state.u,
        "personal": [p.tensors() for p in state.personal],
        "records": state.records,
        "reports": state.reports,
        "changes": {k: [c.change_sq, *c.error.tolist()] for k, c in state.changes.items()},
    }
    write_whole(path, content)


def load(path: str | Path, identity: dict[str, Any]) -> RunState | None:
    """What `save` wrote, or None if there is no file.

    Raises
    ------
    ValueError
        The file belongs to another run (names what differs) or a longer one, or is no checkpoint.
    """
    if not Path(path).exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
        known, u, records, reports = (content[name] for name in ("identity", "u", "records", "reports"))
        changes = {k: ChangeReport(first, np.array(rest)) for k, (first, *rest) in content["changes"].items()}
        personal = [PersonalState.of(tensors) for tensors in content["personal"]]
    except (EOFError, KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError):
        raise ValueError(f"{path} is no checkpoint of this version of fltrain") from None
    if len(records) > identity["rounds"]:
        raise ValueError(f"checkpoint {path} holds {len(records)} rounds, rounds is {identity['rounds']}")
    for name, value in identity.items():
        if name != "rounds" and known.get(name) != value:
            raise ValueError(f"checkpoint {path} is of another run: {name} was {known.get(name)!r}, is {value!r}")
    return RunState(u, personal, records, reports, changes)


def identity(split: Split, shares: Sequence[DeviceData], config: TrainConfig) -> dict[str, Any]:
    """What must be equal for a run to go on from a checkpoint: all but ``rounds``, which may grow."""
    data = 0
    for share in shares:
        for tensor in vars(share).values():
            data = _crc(tensor, data)
    return config.to_dict() | {
        "global parameters": list(split.global_names),
        "personal parameters": list(split.personal_names),
        "initial global part": _crc(split.initial_global()),
        "devices": len(shares),
        "data": data,
    }


def _crc(tensor: torch.Tensor, start: int = 0) -> int:
    return zlib.crc32(tensor.contiguous().numpy().data, start)
