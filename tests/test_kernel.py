"""The formulas of the compiled kernel one by one, where whole problems would forgive a slip: a wrong curvature only
costs steps, and an answer that is not checked is hardly ever wrong.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kktalloc import _engine

pytestmark = pytest.mark.skipif(
    _engine._KERNEL is None or shutil.which("cc") is None, reason="installed without a C compiler"
)
ROOT = Path(__file__).parents[1]
LANES = 32


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("probe") / "probe.so"
    source = [f"-I{ROOT / 'kktalloc' / 'kernel'}", str(ROOT / "tests" / "kernel_probe.c")]
    subprocess.run(
        ["cc", "-O2", "-std=gnu11", "-shared", "-fPIC", *source, "-o", str(library), "-lm"], check=True, text=True
    )
    found = ctypes.CDLL(str(library))
    for name, arguments in (("probe_moved", [ctypes.c_double]), ("probe_held", []), ("probe_beside_a_kink", [])):
        getattr(found, name).restype, getattr(found, name).argtypes = ctypes.c_double, arguments
    return found


def slopes(probe: ctypes.CDLL, given: np.ndarray) -> np.ndarray:
    out = np.empty((3, LANES))
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in (np.ascontiguousarray(given), out)]
    probe.probe_slopes(*pointers)
    return out


def test_slope_and_curvature_against_differences(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        y = np.exp(rng.uniform(np.log(0.01), np.log(20.0), LANES))
        k = y / np.expm1(y)
        given = np.stack([
            rng.uniform(0.2, 1.0, LANES), rng.uniform(0.0, 0.3, LANES), rng.uniform(0.0, 2.0, LANES), np.ones(LANES),
            rng.uniform(-0.9, 0.9, LANES) / k, rng.uniform(0.0, 3.0, LANES) / k, rng.uniform(0.0, 3.0, LANES) / k,
            rng.integers(0, 2, LANES).astype(float), y,
        ])  # fmt: skip
        (_, slope, curl), h = slopes(probe, given), 1e-5 * y
        (up, slope_up, _), (down, slope_down, _) = (
            slopes(probe, np.vstack([given[:-1], y + sign * h])) for sign in (1.0, -1.0)
        )
        np.testing.assert_allclose((up - down) / (2.0 * h), slope, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose((slope_up - slope_down) / (2.0 * h) / slope, curl, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("moved", [0.0, 1e-6, -1e-4, 0.1])
def test_the_last_sweep_finds_who_is_not_right(probe: ctypes.CDLL, moved: float) -> None:
    assert probe.probe_moved(moved) == pytest.approx(2.0, rel=1e-11)


def test_the_last_sweep_lets_a_device_leave_its_floor(probe: ctypes.CDLL) -> None:
    assert probe.probe_held() == pytest.approx(2.0, rel=1e-11)


def test_a_floor_reached_beside_a_kink_is_settled(probe: ctypes.CDLL) -> None:
    assert abs(probe.probe_beside_a_kink()) <= 1e-14


@pytest.mark.parametrize("shape", [(3, 7), (2, 300_001)])
def test_large_arrays_start_on_a_huge_page(shape: tuple[int, ...]) -> None:
    array = _engine._on_huge_pages(shape)
    array[...] = 1.0
    assert array.shape == shape
    assert array.flags.c_contiguous
    assert array.ctypes.data % (1 << 21) == 0
