"""Who holds which samples: seeded non-IID partitions, each device with held-out data of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fltrain.data import Dataset
from kktalloc._problem.shown import Rows, Shown, counted, table

Scheme = Literal["shards", "dirichlet", "iid", "by_user"]
_DIRICHLET_TRIES = 1000


@dataclass(frozen=True, repr=False)
class DeviceData(Shown):
    """What one device holds; it never leaves the device.

    Parameters
    ----------
    train_x, test_x : float32 tensors (n, channels, height, width), or of whole numbers, such as tokens
        Training and held-out inputs, from the same distribution and disjoint.
    train_y, test_y : int64 tensors (n,)
        Their labels. Training also takes NumPy arrays and other types of numbers (see docs/training.md).
    name : str
        Whose they are, where all samples come from one of the data set's users; otherwise empty.
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    name: str = ""

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs and labels to train on, inputs and labels held out."""
        return self.train_x, self.train_y, self.test_x, self.test_y

    def _shown(self) -> tuple[str, Rows]:
        trained, held = (np.asarray(y) for y in (self.train_y, self.test_y))
        labels, counts = np.unique(trained, return_counts=True)
        shape = tuple(self.train_x.shape[1:])
        line = f"user {self.name}: " if self.name else ""
        line += f"{counted(len(trained), 'sample')} to train on, {len(held)} held out, of {shape}"
        return line, table("label", list(map(str, labels)), {"to train on": counts})


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
    groups: NDArray[Any] | None = None,
) -> list[DeviceData]:
    """Deal a data set to devices.

    Held-out samples are drawn from each device's share at random. Where samples are not independent (overlapping
    windows of one recording, frames of one video, copies), that leaks: give `groups`, or a split of your own to `deal`.

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
        ``by_user``: a device is one of the users of `data.users` with 2 samples or more, in sorted order; if there are
        more such users than devices, some are drawn. `DeviceData.name` says who it is.
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
    groups : (N,), optional
        Label of what each sample belongs to, such as a recording session; see `deal`.

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
    return deal(data, indices, test_fraction=test_fraction, seed=seed, groups=groups)


def deal(
    data: Dataset,
    indices: Sequence[ArrayLike],
    *,
    test_indices: Sequence[ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> list[DeviceData]:
    """Give device k the samples `indices[k]`, some of them held out.

    Which ones: those that `test_indices` names, which are then held out besides; or whole `groups`; or, where samples
    are independent of each other, a random `test_fraction`.

    Parameters
    ----------
    data : Dataset
        What is dealt.
    indices : sequence of K int arrays
        Samples of each device.
    test_indices : sequence of K int arrays, optional
        Held-out samples of each device, none of them among its, or another's, `indices`. A sample may be held out on
        several devices: a test set that all share is K times the same array.
    groups : (N,), optional
        Label of what each sample belongs to, such as a recording session. No group is on both sides of a device's
        split: whole groups are held out, drawn until they make up `test_fraction` of its samples or one group is left.
    test_fraction : float
        Share of a device's samples that is held out, at least one sample, or group; not looked at with `test_indices`.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        A device is left without samples to train on or held out, a device has one group only, or a sample is dealt
        twice, stands on both sides, or does not exist.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
    if len(indices) == 0:
        raise ValueError("indices must name the samples of at least one device, got none")
    dealt = _whole(data, "indices", indices)
    everyone = np.concatenate(dealt)
    if len(np.unique(everyone)) != len(everyone):
        raise ValueError("indices deal the same sample more than once")
    if test_indices is not None:
        if groups is not None:
            raise ValueError("test_indices and groups are two ways to say what is held out: give one")
        if len(test_indices) != len(indices):
            raise ValueError(
                f"test_indices must have an entry for each of {len(indices)} devices, got {len(test_indices)}"
            )
        held_out = _whole(data, "test_indices", test_indices)
        for k, (own, test) in enumerate(zip(dealt, held_out, strict=True)):
            if not len(own) or not len(test):
                raise ValueError(
                    f"device {k} has {len(own)} samples to train on and {len(test)} held out; it needs both"
                )
            both = np.intersect1d(test, everyone)
            if both.size:
                raise ValueError(f"test_indices[{k}] holds sample {both[0]}, which a device trains on")
            if len(np.unique(test)) != len(test):
                raise ValueError(f"test_indices[{k}] names a sample twice")
        return [_share(data, own, test) for own, test in zip(dealt, held_out, strict=True)]
    labels = None if groups is None else _labels(data, groups)
    shares = []
    for k, own in enumerate(dealt):
        if len(own) < 2:
            raise ValueError(
                f"device {k} is left with {len(own)} samples of {data.name}; it needs one to train on and one held out"
            )
        rng = np.random.default_rng((seed, k))
        if labels is None:
            shuffled = rng.permutation(own)
            count = min(max(1, round(test_fraction * len(own))), len(own) - 1)
            shares.append(_share(data, shuffled[count:], shuffled[:count]))
            continue
        kinds, member = np.unique(labels[own], return_inverse=True)
        if len(kinds) < 2:
            raise ValueError(f"device {k} has samples of one group only, {kinds[0]}; it needs one to hold out")
        drawn = rng.permutation(len(kinds))
        filled = np.cumsum(np.bincount(member)[drawn])
        count = min(int(np.searchsorted(filled, test_fraction * len(own))) + 1, len(kinds) - 1)
        out = np.isin(member, drawn[:count])
        shares.append(_share(data, own[~out], own[out]))
    return shares


def _whole(data: Dataset, name: str, given: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """Index arrays that lie within the data."""
    arrays = [np.asarray(own) for own in given]
    for k, array in enumerate(arrays):
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"{name}[{k}] must be whole numbers (n,), got {array.dtype} of shape {array.shape}")
        if array.size and (array.min() < 0 or array.max() >= len(data.y)):
            raise ValueError(f"{name} must be in 0..{len(data.y) - 1}, got {array.min()}..{array.max()} for device {k}")
    return [array.astype(np.int64) for array in arrays]


def _labels(data: Dataset, groups: ArrayLike) -> NDArray[Any]:
    labels = np.asarray(groups)
    if labels.shape != data.y.shape:
        raise ValueError(f"groups must have shape {data.y.shape} to match y, got {labels.shape}")
    return labels


def _share(data: Dataset, train: NDArray[np.int64], test: NDArray[np.int64]) -> DeviceData:
    train_x, train_y, test_x, test_y = (torch.from_numpy(part[of]) for of in (train, test) for part in (data.x, data.y))
    users = set() if data.users is None else set(data.users[np.concatenate([train, test])].tolist())
    name = str(users.pop()) if len(users) == 1 else ""
    return DeviceData(train_x, train_y, test_x, test_y, name)


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
