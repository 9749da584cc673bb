"""Data sets as two arrays: images scaled to [0, 1] and integer labels."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kktalloc._problem.shown import Rows, Shown, counted

_IDX_UBYTE = 0x08


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """A labelled data set held in memory.

    Parameters
    ----------
    name : str
        Shown in reports.
    x : float32 (N, channels, height, width)
        Inputs; the loaders of this module scale them to [0, 1]. Whole numbers, such as tokens (N, length), stay whole:
        int64. Any other number becomes float32.
    y : int64 (N,)
        Labels in 0 .. classes - 1.
    classes : int
        Number of classes.
    users : (N,), optional
        Who each sample comes from, numbers or names, for partitions by user. Several columns (N, columns), such as
        person and device, become one name for each row, ``person/device``.

    Raises
    ------
    ValueError
        Lengths differ, a label is no whole number or out of range, or an input is no number or not finite.
    """

    name: str
    x: NDArray[np.float32] | NDArray[np.int64]
    y: NDArray[np.int64]
    classes: int
    users: NDArray[Any] | None = None

    def _shown(self) -> tuple[str, Rows]:
        by = "" if self.users is None else f", by {counted(len(np.unique(self.users)), 'user')}"
        return f"{self.name}, {counted(len(self.y), 'sample')} of {self.x.shape[1:]}, {self.classes} classes{by}", ()

    def __post_init__(self) -> None:  # noqa: D105
        x, y = _numbers(self.x, "x"), _numbers(self.y, "y")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused below
            kept_as = np.int64 if x.dtype.kind in "iu" else np.float32
            object.__setattr__(self, "x", np.ascontiguousarray(x, dtype=kept_as))
        if y.ndim != 1 or not x.ndim or len(x) != len(y):
            remedy = "; one-hot labels become numbers by y.argmax(1)" if y.ndim == 2 and y.shape[1] > 1 else ""
            raise ValueError(f"y must have shape ({len(x) if x.ndim else 0},) to match x, got {y.shape}{remedy}")
        broken = np.flatnonzero(y != np.floor(y)) if y.dtype.kind == "f" else np.empty(0, dtype=np.int64)
        if broken.size:
            raise ValueError(f"y[{broken[0]}] must be a whole number, got {y[broken[0]]}")
        if not isinstance(self.classes, int | np.integer) or self.classes < 1:
            raise ValueError(f"classes must be an integer >= 1, got {self.classes!r}")
        if self.users is not None:
            object.__setattr__(self, "users", _one_column(np.asarray(self.users)))
            if self.users.shape != y.shape:
                raise ValueError(f"users must have shape {y.shape} to match y, got {self.users.shape}")
        outside = np.flatnonzero(~((y >= 0) & (y < self.classes)))
        if outside.size:
            i = outside[0]
            raise ValueError(f"y[{i}] must be in 0..{self.classes - 1}, got {y[i]}")
        object.__setattr__(self, "y", np.ascontiguousarray(y, dtype=np.int64))
        if not np.isfinite(self.x).all():
            i = int(np.flatnonzero(~np.isfinite(self.x).reshape(len(self.x), -1).all(axis=1))[0])
            raise ValueError(f"x[{i}] holds a value that is not finite")


def _numbers(value: object, name: str) -> NDArray[Any]:
    """An array of real numbers, from whatever holds them."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries, which hold no number; drop them or fill them in")
    if hasattr(value, "detach"):  # a torch tensor, wherever it lies
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        remedy = "; np.unique(y, return_inverse=True)[1] numbers them" if name == "y" and array.ndim == 1 else ""
        raise ValueError(f"{name} must hold real numbers, got {type(value).__name__} of {array.dtype}{remedy}")
    return array


def _one_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (N,) as they are; of several columns one name for each row."""
    if labels.ndim != 2:
        return labels
    rows, of = np.unique(labels, axis=0, return_inverse=True)
    return np.array(["/".join(map(str, row)) for row in rows])[of.reshape(-1)]


def load_digits() -> Dataset:
    """Real handwritten digits that scikit-learn carries: 1,797 grey images of 8 x 8, 10 classes.

    Source: UCI, Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), test part.
    """
    from sklearn.datasets import load_digits as bundled  # slow to import, and only needed here

    x, y = bundled(return_X_y=True)
    return Dataset("digits", (x.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32), y.astype(np.int64), 10)


def load_idx(
    directory: str | Path,
    name: Literal["mnist", "fashion_mnist"] = "fashion_mnist",
    subset: Literal["train", "test", "all"] = "train",
) -> Dataset:
    """MNIST or Fashion-MNIST from their original gzip-compressed IDX files.

    Parameters
    ----------
    directory : path
        Holds the four files, itself or in ``<name>/raw``.
    name : str
        Which data set; also the folder looked for.
    subset : str
        The original train part (60,000 images), test part (10,000), or both, in this order.

    Raises
    ------
    FileNotFoundError
        Names the first missing file and the folders tried.
    ValueError
        Not an IDX file of unsigned bytes, cut short, or images and labels that do not match.
    """
    if subset not in ("train", "test", "all"):
        raise ValueError(f"subset must be one of train, test, all, got {subset!r}")
    prefixes = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}[subset]
    folder = Path(directory) / name / "raw"
    if not folder.is_dir():
        folder = Path(directory)
    images, labels = [], []
    for prefix in prefixes:
        images.append(_read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 3))
        labels.append(_read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 1))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(f"{folder}: {prefix} has {len(images[-1])} images but {len(labels[-1])} labels")
    x = np.concatenate(images)[:, None].astype(np.float32)
    x /= 255.0
    y = np.concatenate(labels).astype(np.int64)
    return Dataset(name, x, y, 10)


def load_npz(
    paths: str | Path | Sequence[str | Path],
    *,
    x: str = "x",
    y: str = "y",
    users: str | Sequence[str] | None = None,
    name: str | None = None,
    add_channel: bool = False,
) -> Dataset:
    """Arrays from one NumPy ``.npz`` file, or from several of equal layout, end to end.

    Parameters
    ----------
    paths : path or sequence of paths
        The files.
    x, y, users : str
        Their members: inputs (N, ...), whose shape is kept; labels (N,), whose sorted distinct values become 0, 1, ...;
        and, if given, who made each sample, by one member or several together (see `Dataset.users`). Inputs stored as
        bytes are divided by 255, other whole numbers stay whole, all else becomes float32.
    name : str, optional
        Default: the first file's name.
    add_channel : bool
        Make grey images (N, height, width) images of one channel, (N, 1, height, width).

    Raises
    ------
    FileNotFoundError, ValueError
        Names the file and the member that is missing or has another shape.
    """
    files = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    who = [] if users is None else [users] if isinstance(users, str) else list(users)
    members = list(dict.fromkeys([x, y, *who]))
    parts: dict[str, list[NDArray[np.generic]]] = {member: [] for member in members}
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"missing data file {path}")
        with np.load(path, allow_pickle=False) as archive:
            for member in members:
                if member not in archive:
                    raise ValueError(f"{path} has no member {member!r}; it has {', '.join(archive.files)}")
                parts[member].append(archive[member])
    for member in members:
        shapes = [part.shape[1:] for part in parts[member]]
        if odd := [i for i, shape in enumerate(shapes) if shape != shapes[0]]:
            i = odd[0]
            raise ValueError(f"{files[i]}: {member} has samples of shape {shapes[i]}, those before {shapes[0]}")
    inputs: NDArray[Any] = np.concatenate(parts[x])
    if inputs.ndim < 2 or (add_channel and inputs.ndim != 3):
        wanted = "3 dimensions for add_channel" if add_channel else "2 dimensions or more"
        raise ValueError(f"{files[0]}: {x} must have {wanted}, got shape {inputs.shape}")
    if add_channel:
        inputs = inputs[:, None]
    if inputs.dtype == np.uint8:
        inputs = inputs.astype(np.float32) / np.float32(255.0)
    labels, encoded = np.unique(np.concatenate(parts[y]), return_inverse=True)
    columns = [np.concatenate(parts[member]) for member in who]
    if len(columns) > 1:  # of whatever kinds
        columns = [np.stack([column.astype(str) for column in columns], axis=1)]
    made_by = columns[0] if columns else None
    return Dataset(name or files[0].stem, inputs, encoded, len(labels), made_by)


def load_openml(name: str, version: int | str = "active", cache: str | Path | None = None) -> Dataset:
    """A classification data set of numeric columns from openml.org, such as ``mnist_784``; needs a network.

    Columns are mapped to [0, 1] by the smallest and largest value of the whole table. A square number of
    columns becomes one square image per row; otherwise the image has height 1.

    Raises
    ------
    ValueError
        Columns that are not numbers, or missing values.
    OSError
        No network and not in the cache.
    """
    from sklearn.datasets import fetch_openml

    table = fetch_openml(name=name, version=version, data_home=cache and str(cache), as_frame=False, parser="liac-arff")
    try:
        values = np.asarray(table.data, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"openml data set {name} has columns that are not numbers") from None
    low, high = values.min(), values.max()
    side = math.isqrt(values.shape[1])
    shape = (1, side, side) if side * side == values.shape[1] else (1, 1, values.shape[1])
    labels, encoded = np.unique(table.target, return_inverse=True)
    scaled = (values - low) / np.float32(high - low if high > low else 1.0)
    return Dataset(name, scaled.reshape(-1, *shape), encoded, len(labels))


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """One IDX file: two zero bytes, a type byte, the number of dimensions, their sizes, the data."""
    if not path.is_file():
        raise FileNotFoundError(f"missing data file {path.name} in {path.parent}")
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: not a complete gzip file ({error})") from None
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, _IDX_UBYTE, dimensions]):
        raise ValueError(f"{path}: not an IDX file of {dimensions}-dimensional unsigned bytes")
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4).astype(np.int64)
    if len(raw) - header != shape.prod():
        raise ValueError(f"{path}: header announces {shape.prod()} bytes of data, the file holds {len(raw) - header}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
