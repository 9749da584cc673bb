"""Data sets as two arrays: images scaled to [0, 1] and integer labels."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_IDX_UBYTE = 0x08


@dataclass(frozen=True)
class Dataset:
    """A labelled data set held in memory.

    Parameters
    ----------
    name : str
        Shown in reports.
    x : float32 (N, channels, height, width)
        Inputs; the loaders of this module scale them to [0, 1].
    y : int64 (N,)
        Labels in 0 .. classes - 1.
    classes : int
        Number of classes.

    Raises
    ------
    ValueError
        Lengths differ, a label is out of range, or an input is not finite.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:  # noqa: D105
        object.__setattr__(self, "x", np.ascontiguousarray(self.x, dtype=np.float32))
        object.__setattr__(self, "y", np.ascontiguousarray(self.y, dtype=np.int64))
        if self.y.ndim != 1 or len(self.x) != len(self.y):
            raise ValueError(f"y must have shape ({len(self.x)},) to match x, got {self.y.shape}")
        outside = np.flatnonzero((self.y < 0) | (self.y >= self.classes))
        if outside.size:
            i = outside[0]
            raise ValueError(f"y[{i}] must be in 0..{self.classes - 1}, got {self.y[i]}")
        if not np.isfinite(self.x).all():
            i = int(np.flatnonzero(~np.isfinite(self.x).reshape(len(self.x), -1).all(axis=1))[0])
            raise ValueError(f"x[{i}] holds a value that is not finite")


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
