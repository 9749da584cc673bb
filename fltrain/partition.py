"""Who holds which samples: seeded non-IID partitions, each device with held-out data of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fltrain.data import Dataset

Scheme = Literal["shards", "dirichlet", "iid", "by_user"]
_DIRICHLET_TRIES = 1000


@dataclass(frozen=True)
class DeviceData:
    """What one device holds; it never leaves the device.

    Parameters
    ----------
    train_x, test_x : float32 tensors (n, channels, height, width), or of whole numbers, such as tokens
        Training and held-out inputs, from the same distribution and disjoint.
    train_y, test_y : int64 tensors (n,)
        Their labels. Training also takes NumPy arrays and other types of numbers (see docs/training.md).
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def partition(
    data: Dataset,
    devices: int,
    scheme: Scheme = "shards",
    seed: int = 0,
    *,
    classes_per_device: int = 2,
    dirichlet_alpha: float = 0.5,
    samples_per_device: int | None = None,
    test_fraction: float = 0.2,
) -> list[DeviceData]:
    """Deal a data set to devices.

    Parameters
    ----------
    data : Dataset
        What is dealt.
    devices : int
        K, the number of devices.
    scheme : str
        ``shards``: every device holds exactly `classes_per_device` classes, each class is held by as equal
        a number of devices as possible, and its samples are cut evenly among them (McMahan et al. 2017).
        ``dirichlet``: each class is cut by proportions drawn from a symmetric Dirichlet distribution (Hsu et
        al. 2019), drawn again until every device has data. ``iid``: dealt at random, evenly.
        ``by_user``: a device is one of the users of `data.users`; if there are more users than devices,
        some are drawn.
    seed : int
        The same seed gives the same partition.
    classes_per_device : int
        Used by ``shards``.
    dirichlet_alpha : float
        Used by ``dirichlet``; small is more skewed.
    samples_per_device : int, optional
        Upper limit on a device's samples, training and held-out together, chosen at random from its share.
    test_fraction : float
        Share of each device's samples that is held out (at least one).

    Raises
    ------
    ValueError
        An unknown scheme, a value out of range, or a device left with fewer than 2 samples.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme must be one of {', '.join(get_args(Scheme))}, got {scheme!r}")
    if devices < 1:
        raise ValueError(f"devices must be >= 1, got {devices}")
    if samples_per_device is not None and samples_per_device < 2:
        raise ValueError(f"samples_per_device must be >= 2, got {samples_per_device}")
    rng = np.random.default_rng(seed)
    if scheme == "shards":
        indices = _shards(data, devices, classes_per_device, rng)
    elif scheme == "dirichlet":
        indices = _dirichlet(data, devices, dirichlet_alpha, rng)
    elif scheme == "by_user":
        indices = _by_user(data, devices, rng)
    else:
        indices = np.array_split(rng.permutation(len(data.y)), devices)
    if samples_per_device is not None:
        indices = [rng.permutation(own)[:samples_per_device] for own in indices]
    return deal(data, indices, test_fraction=test_fraction, seed=seed)


def deal(
    data: Dataset, indices: Sequence[NDArray[np.int64]], *, test_fraction: float = 0.2, seed: int = 0
) -> list[DeviceData]:
    """Give device k the samples `indices[k]`, a random `test_fraction` of them held out.

    Raises
    ------
    ValueError
        A device gets fewer than 2 samples, or a sample is dealt twice or does not exist.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
    if len(indices) == 0:
        raise ValueError("indices must name the samples of at least one device, got none")
    for k, own in enumerate(indices):
        if len(own) < 2:
            raise ValueError(
                f"device {k} is left with {len(own)} samples of {data.name}; it needs one to train on and one held out"
            )
    dealt = np.concatenate([np.asarray(own, dtype=np.int64) for own in indices])
    if dealt.min() < 0 or dealt.max() >= len(data.y):
        raise ValueError(f"indices must be in 0..{len(data.y) - 1}, got {dealt.min()}..{dealt.max()}")
    if len(np.unique(dealt)) != len(dealt):
        raise ValueError("indices deal the same sample more than once")
    shares = []
    for k, own in enumerate(indices):
        shuffled = np.random.default_rng((seed, k)).permutation(np.asarray(own, dtype=np.int64))
        held_out = min(max(1, round(test_fraction * len(own))), len(own) - 1)
        test, train = shuffled[:held_out], shuffled[held_out:]
        shares.append(
            DeviceData(
                torch.from_numpy(data.x[train]),
                torch.from_numpy(data.y[train]),
                torch.from_numpy(data.x[test]),
                torch.from_numpy(data.y[test]),
            )
        )
    return shares


def _by_user(data: Dataset, devices: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    if data.users is None:
        raise ValueError(f"scheme by_user needs users in the data set, {data.name} has none")
    users, counts = np.unique(data.users, return_counts=True)
    users = users[counts >= 2]
    if len(users) < devices:
        raise ValueError(f"devices must be <= {len(users)}, the users with 2 samples or more, got {devices}")
    drawn = np.sort(rng.permutation(users)[:devices])
    return [np.flatnonzero(data.users == user) for user in drawn]


def _shards(data: Dataset, devices: int, classes_per_device: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    if not 1 <= classes_per_device <= data.classes:
        raise ValueError(f"classes_per_device must be in 1..{data.classes}, got {classes_per_device}")
    # Each class has a quota of holders, equal up to one. Serving the largest remaining quotas first always
    # ends with every quota met and no class twice on a device.
    holders = devices * classes_per_device
    quota = np.full(data.classes, holders // data.classes)
    quota[rng.permutation(data.classes)[: holders % data.classes]] += 1
    pieces = {
        c: iter(np.array_split(rng.permutation(np.flatnonzero(data.y == c)), quota[c]))
        for c in range(data.classes)
        if quota[c]
    }
    indices = []
    for _ in range(devices):
        tie_break = rng.permutation(data.classes)
        held = tie_break[np.argsort(-quota[tie_break], kind="stable")[:classes_per_device]]
        quota[held] -= 1
        indices.append(np.concatenate([next(pieces[int(c)]) for c in held]))
    return indices


def _dirichlet(data: Dataset, devices: int, alpha: float, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    if not 0.0 < alpha < float("inf"):
        raise ValueError(f"dirichlet_alpha must be a finite number > 0, got {alpha}")
    by_class = [np.flatnonzero(data.y == c) for c in range(data.classes)]
    for _ in range(_DIRICHLET_TRIES):
        parts: list[list[NDArray[np.int64]]] = [[] for _ in range(devices)]
        for own in by_class:
            share = rng.dirichlet(np.full(devices, alpha))
            cuts = np.floor(np.cumsum(share)[:-1] * len(own)).astype(np.int64)
            for k, piece in enumerate(np.split(rng.permutation(own), cuts)):
                parts[k].append(piece)
        indices = [np.concatenate(pieces) for pieces in parts]
        if min(len(own) for own in indices) >= 2:
            return indices
    poorest = int(np.argmin([len(own) for own in indices]))
    raise ValueError(
        f"dirichlet_alpha={alpha} leaves device {poorest} of {devices} without data in {_DIRICHLET_TRIES} draws"
    )
