from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fltrain as ft

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir() and os.environ.get("CI") != "true", reason="no ../shared/data")


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, prefix: str = "train") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))


IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4) * 10
LABELS = np.array([7, 0, 9], dtype=np.uint8)


def test_digits_are_the_bundled_ones() -> None:
    data = ft.load_digits()
    assert data.x.shape == (1797, 1, 8, 8)
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int64
    assert (data.x.min(), data.x.max(), data.classes) == (0.0, 1.0, 10)
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("nested", [True, False])
def test_idx_bytes_come_back_scaled(tmp_path: Path, nested: bool) -> None:
    write_idx(tmp_path / "mnist" / "raw" if nested else tmp_path, IMAGES, LABELS)
    data = ft.load_idx(tmp_path, name="mnist")
    np.testing.assert_array_equal(data.x[:, 0] * np.float32(255), IMAGES)
    assert data.y.tolist() == [7, 0, 9]
    assert (data.name, data.classes, data.x.dtype) == ("mnist", 10, np.float32)


def test_idx_subsets(tmp_path: Path) -> None:
    write_idx(tmp_path, IMAGES, LABELS)
    write_idx(tmp_path, IMAGES[:1], LABELS[:1], prefix="t10k")
    assert ft.load_idx(tmp_path, subset="test").y.tolist() == [7]
    assert ft.load_idx(tmp_path, subset="all").y.tolist() == [7, 0, 9, 7]
    with pytest.raises(ValueError, match=r"^subset must be one of train, test, all, got 'dev'$"):
        ft.load_idx(tmp_path, subset="dev")  # type: ignore[arg-type]


def test_idx_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing data file train-images-idx3-ubyte\.gz in "):
        ft.load_idx(tmp_path)


def test_idx_damage_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path, IMAGES, LABELS)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="not a complete gzip file"):
        ft.load_idx(tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(ValueError, match="announces 24 bytes of data, the file holds 23"):
        ft.load_idx(tmp_path)
    path.write_bytes(gzip.compress(b"\x00\x00\x0d\x03" + bytes(12)))
    with pytest.raises(ValueError, match="not an IDX file of 3-dimensional unsigned bytes"):
        ft.load_idx(tmp_path)
    path.write_bytes(whole)
    write_idx(tmp_path / "short", IMAGES, LABELS[:2])
    with pytest.raises(ValueError, match="train has 3 images but 2 labels"):
        ft.load_idx(tmp_path / "short")


@needs_shared
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_real_idx_files(name: str) -> None:
    data = ft.load_idx(SHARED, name=name, subset="test")  # type: ignore[arg-type]
    assert data.x.shape == (10_000, 1, 28, 28)
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    counts = np.bincount(data.y, minlength=10)
    if name == "fashion_mnist":
        assert counts.tolist() == [1000] * 10
    else:
        assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 1)), [0, 1, 0], r"y must have shape \(2,\) to match x, got \(3,\)"),
        (np.zeros((2, 1)), [0, 3], r"y\[1\] must be in 0\.\.2, got 3"),
        (np.array([[0.0], [np.nan]]), [0, 1], r"x\[1\] holds a value that is not finite"),
        (np.array([[0.0], [1e300]]), [0, 1], r"x\[1\] holds a value that is not finite"),
        (np.zeros((2, 1)), [0.9, 1.7], r"^y\[0\] must be a whole number, got 0\.9$"),
        (np.zeros((2, 1)), [0.0, np.nan], r"^y\[1\] must be a whole number, got nan$"),
        (np.zeros((2, 1)), [0.0, np.inf], r"^y\[1\] must be in 0\.\.2, got inf$"),
        (np.zeros((2, 1)), ["cat", "dog"], r"^y must hold real numbers, .* np\.unique\(y, return_inverse=True\)"),
        (np.zeros((2, 1)), [[0], [1]], r"^y must have shape \(2,\) to match x, got \(2, 1\)$"),
        (np.zeros((2, 1)), [[0, 1], [1, 0]], r"^y must have shape .* one-hot labels become numbers by y\.argmax\(1\)$"),
        (np.zeros((2, 1)), [0, None], r"^y must hold real numbers, got ndarray of object"),
        (np.zeros((2, 1), complex), [0, 1], r"^x must hold real numbers, got ndarray of complex128$"),
        (np.array([["a"], ["b"]]), [0, 1], r"^x must hold real numbers, got ndarray of <U1$"),
        (np.ma.masked_equal([[0.0], [1.0]], 1.0), [0, 1], r"^x has masked entries"),
    ],
)
def test_dataset_refuses(x: np.ndarray, y: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ft.Dataset("bad", x, np.array(y), 3)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "tensor"])
def test_tokens_stay_whole_numbers(dtype: str) -> None:
    tokens = np.arange(12).reshape(4, 3)
    given: Any = torch.from_numpy(tokens) if dtype == "tensor" else tokens.astype(dtype)
    data = ft.Dataset("text", given, np.array([0, 1, 0, 1]), 2)
    assert (data.x.dtype, data.x.tolist()) == (np.int64, tokens.tolist())
    assert ft.deal(data, [np.arange(4)])[0].train_x.dtype == torch.int64


def test_labels_and_users_of_many_kinds() -> None:
    for y in ([0, 1, 2], (0.0, 1.0, 2.0), torch.tensor([0, 1, 2]), np.array([0, 1, 2], np.uint8)):
        data = ft.Dataset("mine", np.zeros((3, 1)), y, 3, users=["u", "v", "u"])  # type: ignore[arg-type]
        assert (data.y.dtype, data.y.tolist(), data.x.dtype) == (np.int64, [0, 1, 2], np.float32)
    assert ft.Dataset("mine", np.zeros((2, 1)), np.array([True, False]), 2).y.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"^classes must be an integer >= 1, got 2\.5$"):
        ft.Dataset("mine", np.zeros((2, 1)), np.array([0, 1]), 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^users must have shape \(2,\) to match y, got \(1,\)$"):
        ft.Dataset("mine", np.zeros((2, 1)), np.array([0, 1]), 2, users=["u"])  # type: ignore[arg-type]


def test_npz_files_come_end_to_end(tmp_path: Path) -> None:
    images = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
    np.savez(tmp_path / "a.npz", data=images, labels=[5, 7, 5, 9], who=["u", "v", "u", "u"])
    np.savez(tmp_path / "b.npz", data=images[:1] + 200, labels=[7], who=["w"])
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    data = ft.load_npz(files, x="data", y="labels", users="who")
    np.testing.assert_array_equal(data.x[:4], images / np.float32(255))
    assert (data.name, data.classes, data.x.shape) == ("a", 3, (5, 3, 2, 2))
    assert data.y.tolist() == [0, 1, 0, 2, 1]
    assert data.users is not None
    assert data.users.tolist() == ["u", "v", "u", "u", "w"]


def test_npz_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((2, 3, 3), -1.5), y=[0, 1])
    data = ft.load_npz(tmp_path / "a.npz", name="mine")
    assert data.x.shape == (2, 3, 3)
    assert ft.load_npz(tmp_path / "a.npz", add_channel=True).x.shape == (2, 1, 3, 3)
    assert (data.name, float(data.x.min())) == ("mine", -1.5)


def test_npz_keeps_shapes_tokens_and_users_of_several_columns(tmp_path: Path) -> None:
    series = np.zeros((4, 6, 128), dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=series, tokens=np.array([[1, 2], [3, 4], [5, 6], [7, 8]]), y=[0, 1, 0, 1],
             person=["ann", "ann", "bob", "bob"], phone=[2, 1, 1, 2])  # fmt: skip
    data = ft.load_npz(tmp_path / "a.npz", users=("person", "phone"))
    assert data.x.shape == (4, 6, 128)
    assert data.users is not None
    assert data.users.tolist() == ["ann/2", "ann/1", "bob/1", "bob/2"]
    assert "by 4 users" in repr(data)
    tokens = ft.load_npz(tmp_path / "a.npz", x="tokens").x
    assert (tokens.dtype, tokens.tolist()[3]) == (np.int64, [7, 8])


def test_npz_faults_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=[0, 1])
    with pytest.raises(ValueError, match=r"a\.npz has no member 'labels'; it has x, y$"):
        ft.load_npz(tmp_path / "a.npz", y="labels")
    with pytest.raises(ValueError, match=r"a\.npz: x must have 3 dimensions for add_channel, got shape \(2, 3\)$"):
        ft.load_npz(tmp_path / "a.npz", add_channel=True)
    with pytest.raises(ValueError, match=r"a\.npz: y must have 2 dimensions or more, got shape \(2,\)$"):
        ft.load_npz(tmp_path / "a.npz", x="y", y="y")
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 4)), y=[0, 1])
    with pytest.raises(ValueError, match=r"c\.npz: x has samples of shape \(4,\), those before \(3,\)$"):
        ft.load_npz([tmp_path / "a.npz", tmp_path / "c.npz"])
    with pytest.raises(FileNotFoundError, match=r"missing data file .*b\.npz$"):
        ft.load_npz(tmp_path / "b.npz")


@needs_shared
def test_real_cifar10() -> None:
    data = ft.load_npz(SHARED / "cifar10" / "test_batch_first5000.npz", x="data", y="labels")
    assert data.x.shape == (5000, 3, 32, 32)
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    assert np.bincount(data.y).tolist() == [488, 505, 512, 497, 507, 488, 491, 495, 504, 513]


@pytest.mark.parametrize(("columns", "shape"), [(9, (1, 3, 3)), (6, (1, 1, 6))])
def test_openml_tables(columns: int, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def fetch(**arguments: object) -> SimpleNamespace:
        asked.update(arguments)
        values = np.arange(4 * columns, dtype=float).reshape(4, columns) - 5.0
        return SimpleNamespace(data=values, target=np.array(["cat", "dog", "cat", "ant"]))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    data = ft.load_openml("pets", cache=tmp_path)
    assert (asked["name"], asked["data_home"]) == ("pets", str(tmp_path))
    assert data.x.shape == (4, *shape)
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    assert (data.y.tolist(), data.classes) == ([1, 2, 1, 0], 3)


def test_openml_columns_must_be_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SimpleNamespace(data=np.array([["red", 1.0]], dtype=object), target=["a"])
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **arguments: table)
    with pytest.raises(ValueError, match=r"^openml data set pets has columns that are not numbers$"):
        ft.load_openml("pets")
