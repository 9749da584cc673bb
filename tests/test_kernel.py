"""The formulas of the compiled kernel one by one, where whole problems would forgive a slip: a wrong curvature only
costs steps, and an answer that is not checked is hardly ever wrong.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kktalloc._problem import kernel

pytestmark = pytest.mark.skipif(
    kernel._KERNEL is None or shutil.which("cc") is None, reason="installed without a C compiler"
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


def called(function: Callable[..., None], *arrays: np.ndarray) -> None:
    function(*(a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in arrays))


def slopes(probe: ctypes.CDLL, given: np.ndarray) -> np.ndarray:
    out = np.empty((3, LANES))
    called(probe.probe_slopes, np.ascontiguousarray(given), out)
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


def test_corners_are_settled_to_rounding(probe: ctypes.CDLL) -> None:
    known = np.geomspace(1e-12, 680.0, 40 * LANES).reshape(-1, LANES)
    for y in known:
        theta, found = y / np.expm1(y), np.empty(LANES)
        called(probe.probe_corner_efficiencies, theta, found)
        # An ulp of theta is worth more and more of y where theta nears 1.
        np.testing.assert_array_less(np.abs(found / y - 1.0), 2e-15 * (1.0 + 2.0 / y))


def approached(probe: ctypes.CDLL, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """Devices whose powers of ten are `spread` times those of a cell: rows START to BRANCH of the probe."""
    given = np.stack([
        10.0 ** (spread * rng.uniform(-3.0, 3.0, LANES)), 10.0 ** (spread * rng.uniform(-4.0, -2.0, LANES)),
        rng.uniform(0.05, 0.3, LANES), rng.uniform(0.1, 2.5, LANES), rng.uniform(-0.6, 0.6, LANES),
        10.0 ** (spread * rng.uniform(-1.0, 0.5, LANES)), rng.choice([0.0, 0.0, 0.1, 1.0], LANES),
    ])  # fmt: skip
    out = np.empty((7, LANES))
    called(probe.probe_approached, given, out)
    return out


def test_the_rough_start_is_near_the_answer(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(11)
    start, rough, y, corner, kinked, rough_branch, branch = np.hstack([approached(probe, rng) for _ in range(300)])
    inside = corner < 0.0
    assert inside.sum() > 2000
    off = [np.mean(np.abs(guess[inside] / y[inside] - 1.0) > 0.05) for guess in (start, rough)]
    assert off[0] > 0.5
    assert off[1] < 0.1
    beyond = inside & (kinked > 0.0) & (branch > 0.0)
    assert beyond.sum() > 20
    assert rough_branch[beyond].mean() > 0.8


def test_the_rough_start_is_usable_beyond_single_precision(probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(12)
    _, rough, y, *_ = np.hstack([approached(probe, rng, spread=30.0) for _ in range(100)])
    assert ((rough > 0.0) & (rough <= 690.0)).all()
    assert np.isfinite(y).all()


def test_whom_single_precision_does_not_serve_keeps_the_first_start(probe: ctypes.CDLL) -> None:
    out = np.empty((7, LANES))
    worth = np.geomspace(0.05, 1.0, LANES)
    given = np.stack([np.full(LANES, v) for v in (1e30, 1.0, 0.1, 0.5, -1e11)] + [worth, np.zeros(LANES)])
    called(probe.probe_approached, given, out)
    np.testing.assert_array_equal(out[1], out[0])
